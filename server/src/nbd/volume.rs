//! What the front end needs from an array: exports by name, and the operations of one volume.
//!
//! - V1: offsets and lengths given to a volume are multiples of 512 bytes and within the size seen at the
//!   handshake; lengths are not zero.
//! - V2: a volume may answer in any order, or never: a paused volume is one whose futures do not complete. Dropping
//!   a future withdraws the request if it has not been ordered yet.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

/// One line of the export list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportInfo {
    /// The name a client opens.
    pub name: String,
    /// A few words for people; may be empty.
    pub description: String,
}

/// Why an export cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenRefused {
    /// No export has that name.
    #[error("no such export")]
    Unknown,
    /// The export exists but is not served here now: offline, resyncing or suspended.
    #[error("the export is not served here now")]
    ShutDown,
}

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IoError {
    /// The volume is no longer served here: the host is told so and its connection is closed.
    #[error("the volume is no longer served here")]
    Shutdown,
    /// There is no room for the write.
    #[error("no space left")]
    NoSpace,
    /// The request makes no sense for this volume.
    #[error("invalid request")]
    Invalid,
    /// The volume is read-only.
    #[error("the volume is read-only")]
    ReadOnly,
    /// The request failed.
    #[error("input/output error")]
    Io,
}

/// A part of what was read; the parts of an answer follow one another without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Data(Bytes),
    /// So many zero bytes.
    Zero(u32),
}

impl Piece {
    /// How many bytes of the volume this piece stands for.
    pub fn length_bytes(&self) -> u64 {
        match self {
            Piece::Data(bytes) => bytes.len() as u64,
            Piece::Zero(length) => u64::from(*length),
        }
    }
}

/// How a range is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Stored, content unknown.
    Data,
    /// Stored, reads as zeroes.
    Zero,
    /// Not stored, reads as zeroes.
    Hole,
}

/// A range of one state; extents follow one another from the offset asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Length in bytes, not zero.
    pub length: u64,
    /// How it is stored.
    pub state: State,
}

/// The volumes an array offers.
pub trait Exports: Send + Sync + 'static {
    /// What opening an export gives.
    type Volume: Volume;

    /// The exports to show to a client that asks.
    fn list(&self) -> Vec<ExportInfo>;

    /// Looks an export up. Answers at once and has no side effect: clients ask several times in one handshake. The
    /// name is UTF-8 without NUL; empty means the default export.
    fn open(&self, name: &str) -> Result<Arc<Self::Volume>, OpenRefused>;
}

/// The operations of one volume. Each answers when its effect is what the flags ask for; `fua` means durable.
pub trait Volume: Send + Sync + 'static {
    /// Size, a multiple of 512. What it is at the handshake holds for the connection.
    fn size_bytes(&self) -> u64;

    /// A few words for people.
    fn description(&self) -> String {
        String::new()
    }

    /// Whether writes are refused.
    fn read_only(&self) -> bool {
        false
    }

    /// Whether zeroing this range would be quicker than writing it.
    fn zeroes_fast(&self, _offset: u64, _length: u64, _no_hole: bool) -> bool {
        true
    }

    /// Reads at most [`PAYLOAD_BYTES_MAX`](super::PAYLOAD_BYTES_MAX) bytes; the pieces add up to `length`.
    fn read(&self, offset: u64, length: u32) -> impl Future<Output = Result<Vec<Piece>, IoError>> + Send;

    /// Writes `data`, at most [`PAYLOAD_BYTES_MAX`](super::PAYLOAD_BYTES_MAX) bytes.
    fn write(&self, offset: u64, data: Bytes, fua: bool) -> impl Future<Output = Result<(), IoError>> + Send;

    /// The range is no longer needed.
    fn trim(&self, offset: u64, length: u64, fua: bool) -> impl Future<Output = Result<(), IoError>> + Send;

    /// The range reads as zeroes afterwards; with `no_hole`, later writes there must not fail for want of space.
    fn write_zeroes(
        &self,
        offset: u64,
        length: u64,
        no_hole: bool,
        fua: bool,
    ) -> impl Future<Output = Result<(), IoError>> + Send;

    /// Every write answered before, on any connection, is durable afterwards.
    fn flush(&self) -> impl Future<Output = Result<(), IoError>> + Send;

    /// How the range is stored. May stop short of `length` after at least one extent; no more than
    /// [`EXTENTS_MAX`](super::EXTENTS_MAX) are used.
    fn block_status(
        &self,
        offset: u64,
        length: u64,
    ) -> impl Future<Output = Result<Vec<Extent>, IoError>> + Send;
}
