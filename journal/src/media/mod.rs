//! The contract with the place where an array keeps its files.
//!
//! [`Media`] is the blocking contract: a flat set of files under one directory, named by relative paths with
//! `/`. [`RealMedia`](real::RealMedia) is a directory of a file system, [`SimMedia`](sim::SimMedia) a model that
//! loses, tears and reorders what was not synced. Storage flows use the asynchronous handle [`Io`].
//!
//! - M1: a write or creation survives a loss of power only after `Durability::Durable`, `sync` of the file, or
//!   (for names) `sync_dir` of its directory has returned `Ok`.
//! - M2: before that, any subset of its 512-byte sectors may survive, in any order.
//! - M3: after a failed sync nothing may be assumed of the file's unsynced writes: the user of the file stops.

mod aligned;
mod io;
pub mod real;
pub mod sim;

pub use aligned::AlignedBuf;
pub use io::{Completion, InlineQueue, Io, IoFuture, IoQueue, IoReply, IoRequest};

/// Unit in which a torn write keeps or loses data, in bytes.
pub const SECTOR_BYTES: usize = 512;

/// Alignment of offset, length and memory for files opened with [`Open::direct`], in bytes.
pub const DIRECT_ALIGN_BYTES: usize = 4096;

/// Names an open file of one [`Media`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u64);

/// What to do about a file that is or is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Create {
    /// The file must exist.
    Never,
    /// Created empty when missing.
    IfMissing,
    /// The file must not exist.
    New,
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Open {
    /// Creation rule.
    pub create: Create,
    /// Bypass the page cache; offsets, lengths and memory are then multiples of [`DIRECT_ALIGN_BYTES`].
    pub direct: bool,
}

/// When a write may be reported as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Once the media has accepted it.
    Cached,
    /// Once it is on stable storage.
    Durable,
}

/// Which call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Doing {
    Open,
    Read,
    Write,
    Sync,
    List,
    Rename,
    Remove,
    Length,
    Close,
}

/// Why a call failed, as far as callers act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// No such file.
    NotFound,
    /// `Create::New` met an existing file.
    Exists,
    /// The device is full.
    NoSpace,
    /// A read reached past the end of the file.
    PastEnd,
    /// Offset, length or memory not aligned for a direct file.
    Misaligned,
    /// The handle is not open.
    NotOpen,
    /// The path is not a plain relative path inside the array's directory.
    BadPath,
    /// The request was dropped without an answer (the driver is stopping).
    Abandoned,
    /// Anything else, with the operating system's error number.
    Device(i32),
}

/// A failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{doing:?} failed on the array's media: {cause}")]
pub struct MediaError {
    /// Which call.
    pub doing: Doing,
    /// Why.
    pub cause: Cause,
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cause::NotFound => f.write_str("no such file"),
            Cause::Exists => f.write_str("the file exists already"),
            Cause::NoSpace => f.write_str("no space left on the device; make room on its file system"),
            Cause::PastEnd => f.write_str("read past the end of the file"),
            Cause::Misaligned => f.write_str("not aligned for direct access"),
            Cause::NotOpen => f.write_str("the file is not open"),
            Cause::BadPath => f.write_str("not a relative path inside the array's directory"),
            Cause::Abandoned => f.write_str("the request was abandoned"),
            Cause::Device(errno) => write!(f, "{}", std::io::Error::from_raw_os_error(*errno)),
        }
    }
}

/// Refuses paths that could leave the array's directory.
fn check_path(path: &str, doing: Doing) -> Result<(), MediaError> {
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    if path.split('/').all(plain) { Ok(()) } else { Err(MediaError { doing, cause: Cause::BadPath }) }
}

/// Files of one array; every call blocks until it is done.
pub trait Media: Send + Sync + 'static {
    /// Names of the files directly in `dir` (`""` is the root), sorted; a missing directory is empty.
    fn list(&self, dir: &str) -> Result<Vec<String>, MediaError>;
    /// Opens `path`, creating its parent directory when it creates the file.
    fn open(&self, path: &str, how: Open) -> Result<FileId, MediaError>;
    /// Length of the file, in bytes.
    fn len(&self, file: FileId) -> Result<u64, MediaError>;
    /// Fills `buffer` from `offset`, or fails.
    fn read(&self, file: FileId, offset: u64, buffer: &mut [u8]) -> Result<(), MediaError>;
    /// [`Media::read`] if that need not wait for the device; `false`: it was not done, and `buffer` may hold anything.
    fn read_now(&self, _file: FileId, _offset: u64, _buffer: &mut [u8]) -> bool {
        false
    }
    /// Says that this range will be read soon; the media may begin at once, and nobody waits.
    fn will_need(&self, _file: FileId, _offset: u64, _length: u64) {}
    /// Writes the parts one after another from `offset`; extends the file when needed.
    fn write(
        &self,
        file: FileId,
        offset: u64,
        parts: &[&[u8]],
        durability: Durability,
    ) -> Result<(), MediaError>;
    /// Puts all earlier writes of the file on stable storage.
    fn sync(&self, file: FileId) -> Result<(), MediaError>;
    /// Puts the names in `dir` on stable storage.
    fn sync_dir(&self, dir: &str) -> Result<(), MediaError>;
    /// Renames a file, replacing the target; open handles follow the file.
    fn rename(&self, from: &str, to: &str) -> Result<(), MediaError>;
    /// Removes a file; open handles stay readable until closed.
    fn remove(&self, path: &str) -> Result<(), MediaError>;
    /// Closes a handle.
    fn close(&self, file: FileId);
}
