//! The handshake: greeting and options, until the client has an export or leaves.
//!
//! - H1: every option gets its final reply before the next one is read; an unknown one is answered, its data
//!   skipped.
//! - H2: data that is longer than any option needs is skipped up to a bound and refused; beyond it the client is
//!   dropped.
//! - H3: metadata contexts hold for the export they were selected on, and for no other.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::options::{ContextRequest, ExportRequest, Malformed, Replies, name_from, transmission_flags};
use super::receive::Receiver;
use super::request::Rules;
use super::volume::{Exports, OpenRefused, Volume};
use super::wire::{ALLOCATION_CONTEXT, u32_at, u64_at};
use super::wire::{Form, OPTION_MAGIC, SERVER_MAGIC, allocation, handshake_flag, info, option, option_reply};

/// Longest data of an option that is looked at.
const OPTION_BYTES_MAX: u32 = 64 << 10;
/// Longest data of an option that is skipped for the client's sake.
const OPTION_SKIP_BYTES_MAX: u32 = 1 << 20;
/// Zeroes after the answer to EXPORT_NAME, for clients that did not ask to leave them out.
const PADDING_BYTES: usize = 124;

const _: () = assert!(OPTION_BYTES_MAX < OPTION_SKIP_BYTES_MAX);

/// Why a handshake was broken off.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("unknown client flags {flags:#x}")]
    UnknownFlags { flags: u32 },
    #[error("{magic:#018x} where an option should begin")]
    NotAnOption { magic: u64 },
    #[error("option {option} with {length} bytes of data")]
    AbsurdLength { option: u32, length: u32 },
    #[error("EXPORT_NAME with a name that is none")]
    BadExportName,
    #[error("EXPORT_NAME after extended headers")]
    ExportNameAfterExtendedHeaders,
    #[error("EXPORT_NAME of an export that cannot be opened")]
    Refused(#[from] OpenRefused),
}

/// What a client may do after its handshake.
pub(super) struct Session<V> {
    pub name: String,
    pub volume: Arc<V>,
    pub rules: Rules,
}

/// Leads a client through the handshake; `None` when it left of its own accord.
pub(super) async fn shake_hands<E, R, W>(
    exports: &E,
    receiver: &mut Receiver<R>,
    writer: &mut W,
) -> Result<Option<Session<E::Volume>>, HandshakeError>
where
    E: Exports,
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let offered = handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES;
    let mut greeting = [0; 18];
    greeting[..8].copy_from_slice(&SERVER_MAGIC.to_be_bytes());
    greeting[8..16].copy_from_slice(&OPTION_MAGIC.to_be_bytes());
    greeting[16..].copy_from_slice(&offered.to_be_bytes());
    writer.write_all(&greeting).await?;

    let Some(flags) = receiver.header::<4>().await? else { return Ok(None) };
    let flags = u32::from_be_bytes(flags);
    if flags & !u32::from(offered) != 0 {
        return Err(HandshakeError::UnknownFlags { flags });
    }
    let no_zeroes = flags & u32::from(handshake_flag::NO_ZEROES) != 0;
    let mut haggling = Haggling { exports, no_zeroes, form: Form::Simple, allocation_on: None };
    loop {
        let Some(header) = receiver.header::<16>().await? else { return Ok(None) };
        let (magic, option, length) = (u64_at(&header, 0), u32_at(&header, 8), u32_at(&header, 12));
        if magic != OPTION_MAGIC {
            return Err(HandshakeError::NotAnOption { magic });
        }
        if length > OPTION_SKIP_BYTES_MAX {
            return Err(HandshakeError::AbsurdLength { option, length });
        }
        let step = if length > OPTION_BYTES_MAX {
            receiver.discard(u64::from(length)).await?;
            let message = "more data than any option needs";
            Step::Stay(Replies::to(option).error(option_reply::ERR_TOO_BIG, message))
        } else {
            let data = receiver.payload(length as usize).await?;
            haggling.step(option, &data)?
        };
        match step {
            Step::Stay(replies) => writer.write_all(&replies).await?,
            Step::Leave(replies) => {
                writer.write_all(&replies).await?;
                return Ok(None);
            }
            Step::Begin(replies, session) => {
                writer.write_all(&replies).await?;
                return Ok(Some(session));
            }
        }
    }
}

/// What an option led to, and the bytes that say so.
enum Step<V> {
    Stay(Vec<u8>),
    Leave(Vec<u8>),
    Begin(Vec<u8>, Session<V>),
}

/// What has been negotiated so far.
struct Haggling<'a, E> {
    exports: &'a E,
    no_zeroes: bool,
    form: Form,
    /// The export on which `base:allocation` was selected last.
    allocation_on: Option<String>,
}

impl<E: Exports> Haggling<'_, E> {
    fn step(&mut self, option: u32, data: &Bytes) -> Result<Step<E::Volume>, HandshakeError> {
        let replies = Replies::to(option);
        let bare = data.is_empty();
        Ok(match option {
            option::EXPORT_NAME => self.export_name(data)?,
            option::ABORT => Step::Leave(replies.ack()),
            option::LIST if bare => Step::Stay(self.list(replies)),
            option::INFO | option::GO => self.info_or_go(option, data),
            option::STRUCTURED_REPLY if bare && self.form == Form::Extended => {
                let message = "extended headers are in force";
                Step::Stay(replies.error(option_reply::ERR_EXT_HEADER_REQD, message))
            }
            option::STRUCTURED_REPLY if bare => {
                self.form = Form::Structured;
                Step::Stay(replies.ack())
            }
            option::EXTENDED_HEADERS if bare => {
                self.form = Form::Extended;
                Step::Stay(replies.ack())
            }
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => Step::Stay(self.contexts(option, data)),
            option::LIST | option::STRUCTURED_REPLY | option::EXTENDED_HEADERS => {
                Step::Stay(replies.error(option_reply::ERR_INVALID, "this option takes no data"))
            }
            _ => Step::Stay(replies.error(option_reply::ERR_UNSUP, "option not supported")),
        })
    }

    /// The old way in: no error can be told, so the client is dropped instead.
    fn export_name(&mut self, data: &[u8]) -> Result<Step<E::Volume>, HandshakeError> {
        if self.form == Form::Extended {
            return Err(HandshakeError::ExportNameAfterExtendedHeaders);
        }
        let name = name_from(data).map_err(|Malformed| HandshakeError::BadExportName)?;
        let session = self.session(name)?;
        let flags = transmission_flags(self.form, session.rules.read_only);
        let mut answer = session.rules.size_bytes.to_be_bytes().to_vec();
        answer.extend_from_slice(&flags.to_be_bytes());
        if !self.no_zeroes {
            answer.resize(answer.len() + PADDING_BYTES, 0);
        }
        Ok(Step::Begin(answer, session))
    }

    fn info_or_go(&mut self, option: u32, data: &[u8]) -> Step<E::Volume> {
        let mut replies = Replies::to(option);
        let request = match ExportRequest::parse(data) {
            Ok(request) => request,
            Err(Malformed) => return Step::Stay(malformed(replies)),
        };
        let session = match self.session(request.name) {
            Ok(session) => session,
            Err(refused) => return Step::Stay(refuse(replies, refused)),
        };
        let flags = transmission_flags(self.form, session.rules.read_only);
        replies = replies.export(session.rules.size_bytes, flags).block_sizes();
        if request.wants_name {
            replies = replies.text(info::NAME, request.name);
        }
        let description = session.volume.description();
        if request.wants_description && !description.is_empty() {
            replies = replies.text(info::DESCRIPTION, &description);
        }
        if option == option::GO { Step::Begin(replies.ack(), session) } else { Step::Stay(replies.ack()) }
    }

    fn list(&self, replies: Replies) -> Vec<u8> {
        let exports = self.exports.list();
        exports
            .iter()
            .fold(replies, |replies, export| replies.server(&export.name, &export.description))
            .ack()
    }

    fn contexts(&mut self, option: u32, data: &[u8]) -> Vec<u8> {
        let replies = Replies::to(option);
        let setting = option == option::SET_META_CONTEXT;
        if setting {
            self.allocation_on = None;
        }
        if self.form == Form::Simple {
            return replies.error(option_reply::ERR_INVALID, "structured replies come first");
        }
        let request = match ContextRequest::parse(data) {
            Ok(request) => request,
            Err(Malformed) => return malformed(replies),
        };
        if let Err(refused) = self.exports.open(request.name) {
            return refuse(replies, refused);
        }
        if setting && request.selects_allocation() {
            self.allocation_on = Some(request.name.to_owned());
            replies.context(ALLOCATION_CONTEXT, allocation::NAME).ack()
        } else if !setting && request.lists_allocation() {
            replies.context(0, allocation::NAME).ack()
        } else {
            replies.ack()
        }
    }

    fn session(&self, name: &str) -> Result<Session<E::Volume>, OpenRefused> {
        let volume = self.exports.open(name)?;
        let rules = Rules {
            size_bytes: volume.size_bytes(),
            read_only: volume.read_only(),
            form: self.form,
            allocation: self.allocation_on.as_deref() == Some(name),
        };
        Ok(Session { name: name.to_owned(), volume, rules })
    }
}

fn malformed(replies: Replies) -> Vec<u8> {
    replies.error(option_reply::ERR_INVALID, "the option's data is malformed")
}

fn refuse(replies: Replies, refused: OpenRefused) -> Vec<u8> {
    match refused {
        OpenRefused::Unknown => replies.error(option_reply::ERR_UNKNOWN, "no such export"),
        OpenRefused::ShutDown => {
            replies.error(option_reply::ERR_SHUTDOWN, "the export is not served here now")
        }
    }
}
