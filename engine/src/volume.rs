//! A volume of a pod, as a block device.

use std::sync::Arc;

use bytes::Bytes;
use metropod_core::names::VolumeId;
use metropod_core::operation::{BLOCK_BYTES, Operation, Piece, Share, WRITE_BYTES_MAX, shares};
use metropod_core::task::FlowError;
use metropod_core::{Alarm, Extent, Fetch, HostError, Input, Source};
use metropod_dedupe::{Compression, Reduced, reduce_blocks};
use metropod_protocol::{PodId, RequestId, Serving};

use tokio::sync::oneshot;

use crate::driver::{Answer, Driver, Reply, Started, Wait, block_on, now};

/// Offsets and lengths are multiples of this, in bytes.
pub const SECTOR_BYTES: u64 = 512;

/// Longest request, in bytes; longer ones are the caller's to split.
pub const REQUEST_BYTES_MAX: u64 = 32 << 20;

/// Why an operation on a volume failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IoError {
    /// Offset or length is not a multiple of [`SECTOR_BYTES`].
    #[error("offset and length must be multiples of 512 bytes")]
    Misaligned,
    /// Longer than [`REQUEST_BYTES_MAX`].
    #[error("a request is at most 32 MiB long; split it")]
    TooLong,
    /// The pod or array refused.
    #[error(transparent)]
    Refused(#[from] HostError),
    /// The array was closed here. A write that was under way may be there or not when it is opened again.
    #[error("the array is closed")]
    Closed,
    /// Stored content is missing or damaged here.
    #[error("the content cannot be read at this array")]
    Unreadable,
}

/// One volume at one array. Clones are handles on the same volume.
///
/// Reads and writes are linearizable per block across both arrays of a stretched pod; a write is durable on every
/// in-sync array when it returns. While the pod is paused operations wait. Dropping the future of a write that was
/// not ordered yet withdraws it. Handles outlive the array: once it is closed everything is [`IoError::Closed`].
#[derive(Clone)]
pub struct Volume {
    driver: Arc<Driver>,
    pod: PodId,
    source: Source,
    /// When the handle was made.
    size_bytes: u64,
}

impl Volume {
    pub(crate) fn new(driver: Arc<Driver>, pod: PodId, id: VolumeId, size_bytes: u64) -> Volume {
        Volume { driver, pod, source: Source::Volume(id), size_bytes }
    }

    /// Size in bytes, as it is now; what it was when the handle was made if the volume is gone.
    pub fn size_bytes(&self) -> u64 {
        let (pod, Source::Volume(id)) = (self.pod, self.source) else { return self.size_bytes };
        let found = self.driver.look(|array| {
            let namespace = array.pod(pod)?.namespace();
            namespace.volumes.get(&id).map(|volume| volume.size_bytes)
        });
        found.unwrap_or(self.size_bytes)
    }

    /// Reads `length` bytes at `offset`, both in bytes.
    pub async fn read(&self, offset: u64, length: u64) -> Result<Bytes, IoError> {
        let fetch = self.fetch(offset, length, true).await?;
        // What is in memory is not worth a change of threads.
        if let Some(bytes) = fetch.read_now() {
            return Ok(bytes);
        }
        self.on_worker(move || block_on(fetch.read())).await.map_err(|error| self.unreadable(error))
    }

    /// Where data and zeroes are in `length` bytes at `offset`.
    pub async fn extents(&self, offset: u64, length: u64) -> Result<Vec<Extent>, IoError> {
        let fetch = self.fetch(offset, length, false).await?;
        self.on_worker(move || block_on(fetch.extents())).await.map_err(|error| self.unreadable(error))
    }

    /// Writes `data` at `offset`; durable on every in-sync array when it returns.
    pub async fn write(&self, offset: u64, data: Bytes) -> Result<(), IoError> {
        check(offset, data.len() as u64)?;
        self.finish_all(self.writes(offset, &data)).await
    }

    /// Makes `length` bytes at `offset` read as zeroes; durable when it returns. Also what trim does.
    pub async fn write_zeroes(&self, offset: u64, length: u64) -> Result<(), IoError> {
        check_alignment(offset, length)?;
        let operations = vec![self.zero(offset, length)?];
        self.finish_all(operations).await
    }

    /// Everything that returned before is durable already: this only tells whether the volume is reachable.
    pub async fn flush(&self) -> Result<(), IoError> {
        self.flush_blocking()
    }

    /// [`Volume::read`] for a thread that may block; cheaper, it does not change threads.
    pub fn read_blocking(&self, offset: u64, length: u64) -> Result<Bytes, IoError> {
        check(offset, length)?;
        let started = self.start_read(offset, length, true);
        match self.drive(started) {
            Answer::Fetch(fetch) => block_on(fetch.read()).map_err(|error| self.unreadable(error)),
            Answer::Host(Err(error)) => Err(error.into()),
            Answer::Closed => Err(IoError::Closed),
            Answer::Host(Ok(())) | Answer::Managed(_) => Err(IoError::Unreadable),
        }
    }

    /// [`Volume::write`] for a thread that may block; at low load it does the journal append itself.
    pub fn write_blocking(&self, offset: u64, data: &Bytes) -> Result<(), IoError> {
        check(offset, data.len() as u64)?;
        self.finish_all_blocking(self.writes(offset, data))
    }

    /// [`Volume::write_zeroes`] for a thread that may block.
    pub fn write_zeroes_blocking(&self, offset: u64, length: u64) -> Result<(), IoError> {
        check_alignment(offset, length)?;
        let operations = vec![self.zero(offset, length)?];
        self.finish_all_blocking(operations)
    }

    /// [`Volume::flush`] for a thread that may block.
    pub fn flush_blocking(&self) -> Result<(), IoError> {
        if self.driver.is_stopping() {
            return Err(IoError::Closed);
        }
        let (pod, source) = (self.pod, self.source);
        self.driver.look(|array| match array.pod(pod) {
            None => Err(HostError::NoSuchVolume.into()),
            Some(found) if !found.is_there(source) => Err(HostError::NoSuchVolume.into()),
            Some(found) if !found.is_in_use(source) => Err(HostError::Destroyed.into()),
            Some(found) => match found.machine().serving(now()) {
                Serving::Off => Err(HostError::Offline.into()),
                Serving::Suspended => Err(HostError::Suspended.into()),
                Serving::Yes | Serving::Held => Ok(()),
            },
        })
    }

    /// Cuts a write into entries, each hashed and reduced on this thread.
    fn writes(&self, offset: u64, data: &Bytes) -> Vec<Operation> {
        let Source::Volume(volume) = self.source else { return Vec::new() };
        let end = offset + data.len() as u64;
        let mut operations = Vec::with_capacity(1);
        let mut at = offset;
        while at < end {
            // Entries end on block boundaries, so that a split makes no partial blocks.
            let stop = end.min((at + WRITE_BYTES_MAX) / BLOCK_BYTES * BLOCK_BYTES);
            let part = data.slice((at - offset) as usize..(stop - offset) as usize);
            operations.push(Operation::Write {
                volume,
                offset: at,
                length: stop - at,
                pieces: pieces(at, &part),
            });
            at = stop;
        }
        operations
    }

    fn zero(&self, offset: u64, length: u64) -> Result<Operation, IoError> {
        let Source::Volume(volume) = self.source else { return Err(HostError::NoSuchVolume.into()) };
        Ok(Operation::Zero { volume, offset, length })
    }

    fn start_read(&self, offset: u64, length: u64, metered: bool) -> Started {
        let (pod, source) = (self.pod, self.source);
        self.driver.start_request(|request| Input::Read { request, pod, source, offset, length, metered })
    }

    fn start(&self, operation: Operation) -> Started {
        let pod = self.pod;
        self.driver.start_request(|request| Input::Host { request, pod, operation })
    }

    async fn fetch(&self, offset: u64, length: u64, metered: bool) -> Result<Box<Fetch>, IoError> {
        check(offset, length)?;
        let started = self.start_read(offset, length, metered);
        match self.guard(started).wait().await {
            Answer::Fetch(fetch) => Ok(fetch),
            Answer::Host(Err(error)) => Err(error.into()),
            Answer::Closed => Err(IoError::Closed),
            Answer::Host(Ok(())) | Answer::Managed(_) => Err(IoError::Unreadable),
        }
    }

    async fn finish_all(&self, operations: Vec<Operation>) -> Result<(), IoError> {
        let guards: Vec<Guard> =
            operations.into_iter().map(|operation| self.guard(self.start(operation))).collect();
        for guard in guards {
            finished(guard.wait().await)?;
        }
        Ok(())
    }

    fn finish_all_blocking(&self, operations: Vec<Operation>) -> Result<(), IoError> {
        let mut append = None;
        let mut replies = Vec::with_capacity(operations.len());
        for operation in operations {
            let started = self.start(operation);
            // One append is in flight, so at most one of these starts brings one out.
            append = append.or(started.append);
            replies.push(started.reply);
        }
        if let (Some(append), Some(last)) = (append, replies.last()) {
            self.driver.append_until(append, last);
        }
        for reply in replies {
            finished(reply.wait())?;
        }
        Ok(())
    }

    /// A read that failed is somebody's to look at, not only the reader's.
    fn unreadable(&self, error: FlowError) -> IoError {
        match error {
            FlowError::Chunk(digest) => self.driver.alarm(Alarm::DamagedChunk(digest)),
            // The worker is gone with the array.
            FlowError::Damaged if self.driver.is_stopping() => return IoError::Closed,
            _ => self.driver.alarm(Alarm::FlowFailed { flow: "read" }),
        }
        IoError::Unreadable
    }

    fn drive(&self, started: Started) -> Answer {
        if let Some(append) = started.append {
            self.driver.append_until(append, &started.reply);
        }
        started.reply.wait()
    }

    fn guard(&self, started: Started) -> Guard {
        if let Some(append) = started.append {
            self.driver.hand_over(append);
        }
        Guard { driver: self.driver.clone(), pod: self.pod, request: started.request, reply: started.reply }
    }

    async fn on_worker<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, FlowError> + Send + 'static,
    ) -> Result<T, FlowError> {
        let (send, receive) = oneshot::channel();
        self.driver.run(move || {
            // Whoever asked may be gone; then nobody wants the result.
            let _unwanted = send.send(work());
        });
        receive.await.unwrap_or(Err(FlowError::Damaged))
    }
}

impl std::fmt::Debug for Volume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Volume({:?}, {:?}, {} bytes)", self.pod, self.source, self.size_bytes)
    }
}

/// A request under way on behalf of a future; dropping it withdraws the request.
struct Guard {
    driver: Arc<Driver>,
    pod: PodId,
    request: RequestId,
    reply: Arc<Reply>,
}

impl Guard {
    async fn wait(self) -> Answer {
        Wait(&self.reply).await
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.reply.is_given() {
            self.driver.withdraw(self.pod, self.request);
        }
    }
}

fn finished(answer: Answer) -> Result<(), IoError> {
    match answer {
        Answer::Host(result) => result.map_err(IoError::from),
        Answer::Closed => Err(IoError::Closed),
        Answer::Fetch(_) | Answer::Managed(_) => Err(IoError::Unreadable),
    }
}

/// One piece per touched block. Whole blocks are reduced together: only the first and the last can be partial.
fn pieces(offset: u64, data: &Bytes) -> Vec<Piece> {
    let shares: Vec<Share> = shares(offset, data.len() as u64).map(|(_, share)| share).collect();
    let mut pieces = Vec::with_capacity(shares.len());
    let mut at = 0;
    for run in shares.chunk_by(|one, next| one.is_whole() && next.is_whole()) {
        let length = run.iter().map(|share| share.length as usize).sum::<usize>();
        let part = data.slice(at..at + length);
        at += length;
        if !run.iter().all(Share::is_whole) {
            pieces.push(Piece::Partial(part));
            continue;
        }
        pieces.extend(reduce_blocks(&part, Compression::WhenItPays).into_iter().map(
            |reduced| match reduced {
                Reduced::Zero => Piece::Zero,
                Reduced::Chunk { digest, payload } => Piece::Data { digest, payload },
            },
        ));
    }
    pieces
}

fn check(offset: u64, length: u64) -> Result<(), IoError> {
    check_alignment(offset, length)?;
    if length > REQUEST_BYTES_MAX { Err(IoError::TooLong) } else { Ok(()) }
}

fn check_alignment(offset: u64, length: u64) -> Result<(), IoError> {
    if offset.is_multiple_of(SECTOR_BYTES) && length.is_multiple_of(SECTOR_BYTES) {
        Ok(())
    } else {
        Err(IoError::Misaligned)
    }
}

#[cfg(test)]
mod tests {
    use metropod_dedupe::reduce;

    use super::*;

    #[test]
    fn each_touched_block_gets_the_piece_it_would_get_alone() {
        let block = BLOCK_BYTES as usize;
        let mut data: Vec<u8> = (0..30 * block).map(|at| (at / block * 37 + at % 251) as u8).collect();
        data[9 * block..11 * block].fill(0);
        let data = Bytes::from(data);
        for (offset, length) in [(0, 1), (0, 30), (1, 8), (8, 7), (9, 160), (7, 9), (15, 2)] {
            let (offset, length) = (offset * SECTOR_BYTES, length * SECTOR_BYTES);
            let part = data.slice(..length as usize);
            let mut at = 0;
            let alone: Vec<Piece> = shares(offset, length)
                .map(|(_, share)| {
                    let one = part.slice(at..at + share.length as usize);
                    at += one.len();
                    match reduce(&one, Compression::WhenItPays) {
                        _ if !share.is_whole() => Piece::Partial(one),
                        Reduced::Zero => Piece::Zero,
                        Reduced::Chunk { digest, payload } => Piece::Data { digest, payload },
                    }
                })
                .collect();
            assert_eq!(pieces(offset, &part), alone, "{length} bytes from {offset}");
        }
    }
}
