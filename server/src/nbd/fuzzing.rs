//! What a client may send, for the targets of server/src/fuzzing.rs.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::handshake::shake_hands;
use super::options::{ContextRequest, ExportRequest, name_from};
use super::receive::Receiver;
use super::request::{Command, Rules, check, payload_bytes};
use super::wire::{COMPACT_REQUEST_BYTES, EXTENDED_REQUEST_BYTES, Form, PAYLOAD_BYTES_MAX, Request};
use super::{ExportInfo, Exports, Extent, IoError, OpenRefused, Piece, Volume};

const SIZE_BYTES: u64 = 1 << 30;

/// The data of one option.
pub(crate) fn options(input: &[u8]) {
    if let Ok(request) = ExportRequest::parse(input) {
        assert!(request.name.len() < input.len());
    }
    if let Ok(request) = ContextRequest::parse(input) {
        assert!(request.queries.len() <= input.len() / 4);
        let _ = (request.selects_allocation(), request.lists_allocation());
    }
    let _ = name_from(input);
}

/// What was negotiated, then headers of requests.
pub(crate) fn requests(input: &[u8]) {
    let Some((rules, headers)) = input.split_first() else { return };
    let form = [Form::Simple, Form::Structured, Form::Extended][usize::from(rules % 3)];
    let rules =
        Rules { size_bytes: SIZE_BYTES, read_only: rules & 0x80 != 0, form, allocation: rules & 0x40 != 0 };
    let compact = headers.as_chunks::<COMPACT_REQUEST_BYTES>().0.iter().map(Request::from_compact);
    let extended = headers.as_chunks::<EXTENDED_REQUEST_BYTES>().0.iter().map(Request::from_extended);
    let read: Vec<Request> = match form {
        Form::Extended => extended.flatten().collect(),
        _ => compact.flatten().collect(),
    };
    for request in read {
        let payload = payload_bytes(&request, form);
        let Ok(command) = check(&request, &rules) else { continue };
        assert!(command.held_bytes() <= PAYLOAD_BYTES_MAX);
        let range = match command {
            Command::Read { offset, length, .. } => (offset, u64::from(length)),
            Command::Write { offset, length, .. } => {
                assert_eq!(payload, u64::from(length));
                (offset, u64::from(length))
            }
            Command::Trim { offset, length, .. }
            | Command::WriteZeroes { offset, length, .. }
            | Command::BlockStatus { offset, length, .. } => (offset, length),
            Command::Cache | Command::Flush => (0, 0),
        };
        let (offset, length) = range;
        assert!(offset.is_multiple_of(512) && length.is_multiple_of(512) && offset + length <= SIZE_BYTES);
    }
}

/// All that a client says until it may send requests.
pub(crate) fn handshake(input: &[u8]) {
    let mut receiver = Receiver::new(input);
    let mut answers = Vec::new();
    if let Ok(Some(session)) = now(shake_hands(&OneExport, &mut receiver, &mut answers)) {
        assert_eq!((session.name.as_str(), session.rules.size_bytes), ("p::v", SIZE_BYTES));
        assert_eq!(session.volume.size_bytes(), SIZE_BYTES);
    }
}

fn now<F: Future>(flow: F) -> F::Output {
    match pin!(flow).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("memory answers at once"),
    }
}

struct OneExport;

struct OneVolume;

impl Exports for OneExport {
    type Volume = OneVolume;

    fn list(&self) -> Vec<ExportInfo> {
        vec![ExportInfo { name: "p::v".into(), description: "a volume".into() }]
    }

    fn open(&self, name: &str) -> Result<Arc<OneVolume>, OpenRefused> {
        if name == "p::v" { Ok(Arc::new(OneVolume)) } else { Err(OpenRefused::Unknown) }
    }
}

impl Volume for OneVolume {
    fn size_bytes(&self) -> u64 {
        SIZE_BYTES
    }

    fn description(&self) -> String {
        "a volume".into()
    }

    async fn read(&self, _: u64, _: u32) -> Result<Vec<Piece>, IoError> {
        Err(IoError::Io)
    }

    async fn write(&self, _: u64, _: Bytes, _: bool) -> Result<(), IoError> {
        Err(IoError::Io)
    }

    async fn trim(&self, _: u64, _: u64, _: bool) -> Result<(), IoError> {
        Err(IoError::Io)
    }

    async fn write_zeroes(&self, _: u64, _: u64, _: bool, _: bool) -> Result<(), IoError> {
        Err(IoError::Io)
    }

    async fn flush(&self) -> Result<(), IoError> {
        Err(IoError::Io)
    }

    async fn block_status(&self, _: u64, _: u64) -> Result<Vec<Extent>, IoError> {
        Err(IoError::Io)
    }
}
