//! The asynchronous handle on [`Media`] that storage flows use.
//!
//! A flow awaits a leaf future; whoever runs the [`IoQueue`] answers it: a pool of threads in production, the
//! simulator in virtual time, [`InlineQueue`] at once.
//!
//! - I1: every submitted request is answered exactly once; a dropped [`Completion`] answers `Abandoned`, so that
//!   no flow waits for ever.
//! - I2: requests may complete in any order; a flow that needs order awaits one before it submits the next.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::{AlignedBuf, Cause, DIRECT_ALIGN_BYTES, Doing, Durability, FileId, Media, MediaError, Open};

/// Largest single write while a file is prewritten, in bytes.
const PREWRITE_STEP_BYTES: u64 = 1 << 20;

/// One call on [`Media`], as a value.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum IoRequest {
    List {
        dir: String,
    },
    Open {
        path: String,
        how: Open,
    },
    Length {
        file: FileId,
    },
    Read {
        file: FileId,
        offset: u64,
        length: usize,
    },
    /// Ranges that will be read soon: file, offset, length. Side by side they cost what the slowest costs.
    WillNeed {
        ranges: Vec<(FileId, u64, u64)>,
    },
    Write {
        file: FileId,
        offset: u64,
        parts: Vec<Bytes>,
        durability: Durability,
    },
    /// Writes zeroes over `0..length` and syncs, so that later durable writes need no allocation.
    Prewrite {
        file: FileId,
        length: u64,
    },
    Sync {
        file: FileId,
    },
    SyncDir {
        dir: String,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        path: String,
    },
    Close {
        file: FileId,
    },
}

/// What a successful [`IoRequest`] gives back.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum IoReply {
    Done,
    Names(Vec<String>),
    File(FileId),
    Length(u64),
    Data(Bytes),
}

impl IoRequest {
    /// Performs the call, blocking: the one place where a request becomes a call.
    pub fn run(self, media: &dyn Media) -> Result<IoReply, MediaError> {
        Ok(match self {
            IoRequest::List { dir } => IoReply::Names(media.list(&dir)?),
            IoRequest::Open { path, how } => IoReply::File(media.open(&path, how)?),
            IoRequest::Length { file } => IoReply::Length(media.len(file)?),
            IoRequest::Read { file, offset, length } => IoReply::Data(read(media, file, offset, length)?),
            IoRequest::WillNeed { ranges } => {
                ranges.into_iter().for_each(|(file, offset, length)| media.will_need(file, offset, length));
                IoReply::Done
            }
            IoRequest::Write { file, offset, parts, durability } => {
                let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_ref()).collect();
                media.write(file, offset, &parts, durability)?;
                IoReply::Done
            }
            IoRequest::Prewrite { file, length } => {
                prewrite(media, file, length)?;
                IoReply::Done
            }
            IoRequest::Sync { file } => {
                media.sync(file)?;
                IoReply::Done
            }
            IoRequest::SyncDir { dir } => {
                media.sync_dir(&dir)?;
                IoReply::Done
            }
            IoRequest::Rename { from, to } => {
                media.rename(&from, &to)?;
                IoReply::Done
            }
            IoRequest::Remove { path } => {
                media.remove(&path)?;
                IoReply::Done
            }
            IoRequest::Close { file } => {
                media.close(file);
                IoReply::Done
            }
        })
    }

    /// The call this request stands for.
    pub fn doing(&self) -> Doing {
        match self {
            IoRequest::List { .. } => Doing::List,
            IoRequest::Open { .. } => Doing::Open,
            IoRequest::Length { .. } => Doing::Length,
            IoRequest::Read { .. } | IoRequest::WillNeed { .. } => Doing::Read,
            IoRequest::Write { .. } | IoRequest::Prewrite { .. } => Doing::Write,
            IoRequest::Sync { .. } | IoRequest::SyncDir { .. } => Doing::Sync,
            IoRequest::Rename { .. } => Doing::Rename,
            IoRequest::Remove { .. } => Doing::Remove,
            IoRequest::Close { .. } => Doing::Close,
        }
    }
}

/// Whoever answers requests.
pub trait IoQueue: Send + Sync + 'static {
    /// Takes a request; the answer goes to `completion`, now or later, on any thread.
    fn submit(&self, request: IoRequest, completion: Completion);

    /// See [`Media::read_now`]; `None`: submit a read.
    fn read_now(&self, _file: FileId, _offset: u64, _length: usize) -> Option<Bytes> {
        None
    }
}

/// Answers every request at once, on the caller's thread: for tools, tests and simulated media.
#[derive(Clone)]
pub struct InlineQueue(pub Arc<dyn Media>);

impl IoQueue for InlineQueue {
    fn submit(&self, request: IoRequest, completion: Completion) {
        completion.complete(request.run(self.0.as_ref()));
    }

    fn read_now(&self, file: FileId, offset: u64, length: usize) -> Option<Bytes> {
        let mut buffer = vec![0; length];
        self.0.read_now(file, offset, &mut buffer).then(|| Bytes::from(buffer))
    }
}

/// Asynchronous handle on the media of one array; clones are cheap.
#[derive(Clone)]
pub struct Io {
    queue: Arc<dyn IoQueue>,
}

impl Io {
    /// A handle whose requests go to `queue`.
    pub fn new(queue: Arc<dyn IoQueue>) -> Io {
        Io { queue }
    }

    /// A handle that answers at once.
    pub fn inline(media: Arc<dyn Media>) -> Io {
        Io::new(Arc::new(InlineQueue(media)))
    }

    /// Submits a request; it runs whether or not the future is awaited.
    pub fn submit(&self, request: IoRequest) -> IoFuture {
        let shared = Arc::new(Mutex::new(Shared { answer: None, waker: None }));
        let completion = Completion { shared: shared.clone(), doing: request.doing(), answered: false };
        self.queue.submit(request, completion);
        IoFuture { shared }
    }

    /// See [`Media::list`].
    pub async fn list(&self, dir: &str) -> Result<Vec<String>, MediaError> {
        match self.submit(IoRequest::List { dir: dir.into() }).await? {
            IoReply::Names(names) => Ok(names),
            _ => Err(mismatch(Doing::List)),
        }
    }

    /// See [`Media::open`].
    pub async fn open(&self, path: &str, how: Open) -> Result<FileId, MediaError> {
        match self.submit(IoRequest::Open { path: path.into(), how }).await? {
            IoReply::File(file) => Ok(file),
            _ => Err(mismatch(Doing::Open)),
        }
    }

    /// See [`Media::len`].
    pub async fn length(&self, file: FileId) -> Result<u64, MediaError> {
        match self.submit(IoRequest::Length { file }).await? {
            IoReply::Length(length) => Ok(length),
            _ => Err(mismatch(Doing::Length)),
        }
    }

    /// See [`Media::read`].
    pub async fn read(&self, file: FileId, offset: u64, length: usize) -> Result<Bytes, MediaError> {
        match self.submit(IoRequest::Read { file, offset, length }).await? {
            IoReply::Data(data) => Ok(data),
            _ => Err(mismatch(Doing::Read)),
        }
    }

    /// See [`Media::read_now`]; `None`: use [`Io::read`].
    pub fn read_now(&self, file: FileId, offset: u64, length: usize) -> Option<Bytes> {
        self.queue.read_now(file, offset, length)
    }

    /// See [`Media::will_need`]; not waited for.
    pub fn will_need(&self, ranges: Vec<(FileId, u64, u64)>) {
        drop(self.submit(IoRequest::WillNeed { ranges }));
    }

    /// See [`Media::write`].
    pub async fn write(
        &self,
        file: FileId,
        offset: u64,
        parts: Vec<Bytes>,
        durability: Durability,
    ) -> Result<(), MediaError> {
        self.submit(IoRequest::Write { file, offset, parts, durability }).await.map(drop)
    }

    /// Writes zeroes over `0..length` and syncs.
    pub async fn prewrite(&self, file: FileId, length: u64) -> Result<(), MediaError> {
        self.submit(IoRequest::Prewrite { file, length }).await.map(drop)
    }

    /// See [`Media::sync`].
    pub async fn sync(&self, file: FileId) -> Result<(), MediaError> {
        self.submit(IoRequest::Sync { file }).await.map(drop)
    }

    /// See [`Media::sync_dir`].
    pub async fn sync_dir(&self, dir: &str) -> Result<(), MediaError> {
        self.submit(IoRequest::SyncDir { dir: dir.into() }).await.map(drop)
    }

    /// See [`Media::rename`].
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), MediaError> {
        self.submit(IoRequest::Rename { from: from.into(), to: to.into() }).await.map(drop)
    }

    /// See [`Media::remove`].
    pub async fn remove(&self, path: &str) -> Result<(), MediaError> {
        self.submit(IoRequest::Remove { path: path.into() }).await.map(drop)
    }

    /// See [`Media::close`].
    pub async fn close(&self, file: FileId) {
        // A handle that cannot be closed is gone either way; there is nothing to undo.
        let _closed = self.submit(IoRequest::Close { file }).await;
    }
}

struct Shared {
    answer: Option<Result<IoReply, MediaError>>,
    waker: Option<Waker>,
}

/// The duty to answer one request.
pub struct Completion {
    shared: Arc<Mutex<Shared>>,
    doing: Doing,
    answered: bool,
}

impl Completion {
    /// Answers the request and wakes its flow.
    pub fn complete(mut self, answer: Result<IoReply, MediaError>) {
        self.answer(answer);
    }

    fn answer(&mut self, answer: Result<IoReply, MediaError>) {
        self.answered = true;
        let waker = {
            let mut shared = lock(&self.shared);
            shared.answer = Some(answer);
            shared.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if !self.answered {
            self.answer(Err(MediaError { doing: self.doing, cause: Cause::Abandoned }));
        }
    }
}

/// The answer to a submitted request.
pub struct IoFuture {
    shared: Arc<Mutex<Shared>>,
}

impl Future for IoFuture {
    type Output = Result<IoReply, MediaError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut shared = lock(&self.shared);
        match shared.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                shared.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Reads into memory that a direct file can fill without a copy, where it might be one.
fn read(media: &dyn Media, file: FileId, offset: u64, length: usize) -> Result<Bytes, MediaError> {
    if offset.is_multiple_of(DIRECT_ALIGN_BYTES as u64) && length.is_multiple_of(DIRECT_ALIGN_BYTES) {
        let mut buffer = AlignedBuf::zeroed(length);
        media.read(file, offset, buffer.as_mut_slice())?;
        return Ok(Bytes::from_owner(buffer));
    }
    let mut buffer = vec![0; length];
    media.read(file, offset, &mut buffer)?;
    Ok(Bytes::from(buffer))
}

fn prewrite(media: &dyn Media, file: FileId, length: u64) -> Result<(), MediaError> {
    let zeroes = AlignedZeroes::new();
    let mut offset = 0;
    while offset < length {
        let step = (length - offset).min(PREWRITE_STEP_BYTES);
        let part = zeroes.part(step as usize);
        media.write(file, offset, &[part], Durability::Cached)?;
        offset += step;
    }
    media.sync(file)
}

struct AlignedZeroes {
    buffer: super::AlignedBuf,
}

impl AlignedZeroes {
    fn new() -> AlignedZeroes {
        AlignedZeroes { buffer: super::AlignedBuf::zeroed(PREWRITE_STEP_BYTES as usize) }
    }

    fn part(&self, length: usize) -> &[u8] {
        &self.buffer.as_slice()[..length]
    }
}

fn mismatch(doing: Doing) -> MediaError {
    MediaError { doing, cause: Cause::Abandoned }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
