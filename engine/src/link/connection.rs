//! The two halves of an open connection: [`Link`] queues and writes frames, [`Reader`] reads them.
//!
//! Queueing is cheap and may happen under the caller's lock; [`Link::flush`] is called after that lock is released. Whoever gets the write
//! lock writes everything queued with one call; the others return at once, because the holder looks at the queue again after letting go.
//! - L1: frames leave in the order in which they were queued, each once, whole.
//! - L2: no caller of `queue` or `flush` waits for the network. What the socket does not take is written by the reading thread when it does.
//! - L3: more than the bound of unsent bytes closes the connection.
//! - L4: closing happens once, with one reason, and the owner's hook hears of it exactly once.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use metropod_protocol::settings::{CONNECTION_WINDOW_BYTES, ENTRY_COST_BYTES};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};

use crate::wire::{Decoder, Frame, FrameError, HEADER_BYTES, Header, PAYLOAD_BYTES_MAX};

/// Unsent bytes of a connection unless said otherwise; room for the window that all pods of a connection share, and as much for
/// what is in no window: HELLOs, heartbeats, reports.
pub const UNSENT_BYTES_MAX: usize = 64 << 20;
/// Frames written with one call.
const BATCH_FRAMES: usize = 64;
/// Header, head and body.
const FRAME_PARTS: usize = 3;
/// What a queued frame costs besides its payload, so that many small ones are bounded too.
const FRAME_COST: usize = 96;

// The system takes at most 1024 parts in one call.
const _: () = assert!(BATCH_FRAMES * FRAME_PARTS <= 1024);
const _: () = assert!(
    UNSENT_BYTES_MAX >= 2 * CONNECTION_WINDOW_BYTES && CONNECTION_WINDOW_BYTES >= 2 * PAYLOAD_BYTES_MAX
);
const _: () = assert!(FRAME_COST + HEADER_BYTES <= ENTRY_COST_BYTES);

/// Names a connection within this process; never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionNumber(pub u64);

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// By this side's user.
    #[error("closed here")]
    Closed,
    /// The peer closed it.
    #[error("closed by the peer")]
    ByPeer,
    /// The network failed.
    #[error("connection failed: {0}")]
    Failed(io::ErrorKind),
    /// The peer sent something else than frames.
    #[error("the peer sent something else than frames: {0}")]
    Garbage(FrameError),
    /// Too much was queued and not taken by the peer.
    #[error("the peer did not take what was sent; too much was waiting")]
    Overflow,
    /// Another connection to the same peer is kept.
    #[error("replaced by another connection to the same peer")]
    Replaced,
    /// The peer was disconnected for good.
    #[error("the peer was disconnected")]
    Forgotten,
    /// This side stops.
    #[error("stopping")]
    Stopping,
}

/// The connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection is closed: {reason}")]
pub struct Closed {
    /// Why.
    pub reason: CloseReason,
}

/// Hears of a connection's end. Called once, by whoever closed it: it must not block.
pub(crate) type CloseHook = Box<dyn Fn(ConnectionNumber, CloseReason) + Send + Sync>;

struct Outgoing {
    kind: u8,
    flags: u16,
    /// Made under the write lock, not under the caller's.
    header: Option<[u8; HEADER_BYTES]>,
    /// Bytes of the header that are sent.
    header_sent: usize,
    /// What is left of the payload.
    head: Bytes,
    body: Bytes,
}

struct Inner {
    number: ConnectionNumber,
    socket: TcpStream,
    wake: OwnedFd,
    unsent_max: usize,
    unsent: AtomicUsize,
    waiting: Mutex<VecDeque<Outgoing>>,
    writer: Mutex<VecDeque<Outgoing>>,
    stalled: AtomicBool,
    closed: OnceLock<CloseReason>,
    hook: CloseHook,
}

/// The writing half; clones are the same connection.
#[derive(Clone)]
pub struct Link {
    inner: Arc<Inner>,
}

/// The reading half, for one thread. Dropping it closes the connection.
pub struct Reader {
    link: Link,
    decoder: Decoder,
}

/// Makes the halves of a connected stream.
pub(crate) fn open(
    socket: TcpStream,
    number: ConnectionNumber,
    unsent_max: usize,
    decoder: Decoder,
    hook: CloseHook,
) -> io::Result<(Link, Reader)> {
    socket.set_nodelay(true)?;
    let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let link = Link {
        inner: Arc::new(Inner {
            number,
            socket,
            wake,
            unsent_max,
            unsent: AtomicUsize::new(0),
            waiting: Mutex::default(),
            writer: Mutex::default(),
            stalled: AtomicBool::new(false),
            closed: OnceLock::new(),
            hook,
        }),
    };
    Ok((link.clone(), Reader { link, decoder }))
}

/// No state here is left half changed by a panic elsewhere, so a poisoned lock is taken as it is.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// Its number.
    pub fn number(&self) -> ConnectionNumber {
        self.inner.number
    }

    /// Queues a frame whose payload is `head` and then `body`. Nothing is written before [`Link::flush`].
    pub fn queue(&self, kind: u8, flags: u16, head: Bytes, body: Bytes) -> Result<(), Closed> {
        let length = head.len() + body.len();
        assert!(length <= PAYLOAD_BYTES_MAX, "a frame's payload is bounded by its sender");
        self.check()?;
        let cost = length + FRAME_COST;
        if self.inner.unsent.fetch_add(cost, Ordering::Relaxed) + cost > self.inner.unsent_max {
            self.close_for(CloseReason::Overflow);
            return self.check();
        }
        let frame = Outgoing { kind, flags, header: None, header_sent: 0, head, body };
        lock(&self.inner.waiting).push_back(frame);
        Ok(())
    }

    /// Writes what is queued, unless another thread is at it or the socket takes no more; never waits.
    pub fn flush(&self) {
        loop {
            // Pairs with itself: a reader that took `stalled` back and was turned away from the lock is seen by the holder below.
            fence(Ordering::SeqCst);
            if self.inner.stalled.load(Ordering::Acquire) || self.inner.closed.get().is_some() {
                return;
            }
            let mut batch = match self.inner.writer.try_lock() {
                Ok(batch) => batch,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            self.write(&mut batch);
            let left = !batch.is_empty();
            drop(batch);
            // What was queued while we held the lock, its owner being turned away, is ours to write.
            if !left && lock(&self.inner.waiting).is_empty() {
                return;
            }
        }
    }

    /// Queues and writes.
    pub fn send(&self, kind: u8, flags: u16, head: Bytes, body: Bytes) -> Result<(), Closed> {
        self.queue(kind, flags, head, body)?;
        self.flush();
        self.check()
    }

    /// Closes the connection; what is not sent is dropped.
    pub fn close(&self) {
        self.close_for(CloseReason::Closed);
    }

    /// Why it is closed, if it is.
    pub fn closed(&self) -> Option<CloseReason> {
        self.inner.closed.get().copied()
    }

    /// Bytes queued and not yet taken by the socket, with what they cost.
    pub fn unsent_bytes(&self) -> usize {
        self.inner.unsent.load(Ordering::Relaxed)
    }

    pub(crate) fn close_for(&self, reason: CloseReason) {
        if self.inner.closed.set(reason).is_err() {
            return;
        }
        // Fails only when the peer was faster.
        let _ = self.inner.socket.shutdown(Shutdown::Both);
        self.wake();
        (self.inner.hook)(self.inner.number, reason);
    }

    fn check(&self) -> Result<(), Closed> {
        match self.closed() {
            None => Ok(()),
            Some(reason) => Err(Closed { reason }),
        }
    }

    fn wake(&self) {
        // Fails only when the counter is full, and then the reader is awake.
        let _ = rustix::io::write(&self.inner.wake, &1u64.to_ne_bytes());
    }

    /// Under the write lock: writes until nothing is left, or the socket takes no more.
    fn write(&self, batch: &mut VecDeque<Outgoing>) {
        loop {
            if batch.len() < BATCH_FRAMES {
                let mut waiting = lock(&self.inner.waiting);
                let count = waiting.len().min(BATCH_FRAMES - batch.len());
                batch.extend(waiting.drain(..count));
            }
            for frame in batch.iter_mut().filter(|frame| frame.header.is_none()) {
                frame.header = Some(Header::encode(frame.kind, frame.flags, &[&frame.head, &frame.body]));
            }
            if batch.is_empty() {
                return;
            }
            match self.write_once(batch) {
                Ok(count) => self.taken(batch, count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.inner.stalled.store(true, Ordering::Release);
                    self.wake();
                    return;
                }
                Err(error) => {
                    self.close_for(CloseReason::Failed(io::Error::from(error).kind()));
                    return;
                }
            }
        }
    }

    fn write_once(&self, batch: &VecDeque<Outgoing>) -> Result<usize, Errno> {
        let mut slices = [IoSlice::new(&[]); BATCH_FRAMES * FRAME_PARTS];
        let mut count = 0;
        for frame in batch {
            let header = frame.header.as_ref().map_or(&[][..], |header| &header[frame.header_sent..]);
            for part in [header, &frame.head, &frame.body] {
                if !part.is_empty() {
                    slices[count] = IoSlice::new(part);
                    count += 1;
                }
            }
        }
        rustix::net::sendmsg(
            &self.inner.socket,
            &slices[..count],
            &mut SendAncillaryBuffer::default(),
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        )
    }

    /// Drops the first `count` bytes of the batch.
    fn taken(&self, batch: &mut VecDeque<Outgoing>, mut count: usize) {
        let mut returned = 0;
        while let Some(frame) = batch.front_mut() {
            let header = count.min(HEADER_BYTES - frame.header_sent);
            frame.header_sent += header;
            count -= header;
            for part in [&mut frame.head, &mut frame.body] {
                let taken = count.min(part.len());
                part.advance(taken);
                count -= taken;
                returned += taken;
            }
            if frame.header_sent < HEADER_BYTES || !frame.head.is_empty() || !frame.body.is_empty() {
                break;
            }
            returned += FRAME_COST;
            batch.pop_front();
        }
        assert!(count == 0, "the socket takes no more than it was given");
        self.inner.unsent.fetch_sub(returned, Ordering::Relaxed);
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({})", self.inner.number.0)
    }
}

impl Reader {
    /// The writing half.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Waits for the next frame: for `spin` without sleeping, then asleep. An error is final, the connection is closed.
    pub fn read_frame(&mut self, spin: Duration) -> Result<Frame, Closed> {
        loop {
            if let Some(frame) = self.read(spin, None)? {
                return Ok(frame);
            }
        }
    }

    /// As [`Reader::read_frame`], but `None` at `deadline`.
    pub fn read_frame_until(&mut self, spin: Duration, deadline: Instant) -> Result<Option<Frame>, Closed> {
        self.read(spin, Some(deadline))
    }

    /// The next frame if it is there; never waits. Also goes on writing what the socket had not taken. Frames may be at hand that a poll of
    /// the descriptor does not show: poll only after `None`.
    pub fn try_frame(&mut self) -> Result<Option<Frame>, Closed> {
        loop {
            if let Some(frame) = self.cut()? {
                return Ok(Some(frame));
            }
            self.resume();
            if !self.receive()? {
                return Ok(None);
            }
        }
    }

    /// For a thread that polls many connections: besides input it should wait for room to write. [`Reader::try_frame`] then writes.
    pub fn wants_write(&self) -> bool {
        self.link.inner.stalled.load(Ordering::Acquire)
    }

    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.decoder.set_limit(limit);
    }

    fn read(&mut self, spin: Duration, deadline: Option<Instant>) -> Result<Option<Frame>, Closed> {
        let mut spin_until = None;
        loop {
            if let Some(frame) = self.cut()? {
                return Ok(Some(frame));
            }
            self.resume();
            if self.receive()? {
                continue;
            }
            if !spin.is_zero() {
                let now = Instant::now();
                if now < *spin_until.get_or_insert(now + spin) {
                    // A spinner that does not yield keeps the thread it waits for off the core (decision 0001).
                    rustix::thread::sched_yield();
                    continue;
                }
            }
            let now = deadline.map(|_| Instant::now());
            if deadline.is_some_and(|deadline| now.is_some_and(|now| now >= deadline)) {
                return Ok(None);
            }
            self.wait(deadline)?;
        }
    }

    fn cut(&mut self) -> Result<Option<Frame>, Closed> {
        self.decoder.next_frame().map_err(|error| self.fail(CloseReason::Garbage(error)))
    }

    /// Takes what has arrived; `false`: nothing.
    fn receive(&mut self) -> Result<bool, Closed> {
        self.link.check()?;
        match rustix::net::recv(&self.link.inner.socket, self.decoder.space(), RecvFlags::DONTWAIT) {
            Ok((0, _)) => Err(self.fail(CloseReason::ByPeer)),
            Ok((count, _)) => {
                self.decoder.filled(count);
                Ok(true)
            }
            Err(Errno::AGAIN) => Ok(false),
            Err(Errno::INTR) => Ok(true),
            Err(error) => Err(self.fail(CloseReason::Failed(io::Error::from(error).kind()))),
        }
    }

    /// Tries again to write what the socket had not taken.
    fn resume(&self) {
        if self.link.inner.stalled.swap(false, Ordering::AcqRel) {
            self.link.flush();
        }
    }

    fn wait(&mut self, deadline: Option<Instant>) -> Result<(), Closed> {
        let inner = &self.link.inner;
        let mut wanted = PollFlags::IN;
        if inner.stalled.load(Ordering::Acquire) {
            wanted |= PollFlags::OUT;
        }
        let mut descriptors = [PollFd::new(&inner.socket, wanted), PollFd::new(&inner.wake, PollFlags::IN)];
        let timeout = deadline.map(|deadline| timespec(deadline.saturating_duration_since(Instant::now())));
        match poll(&mut descriptors, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(self.fail(CloseReason::Failed(io::Error::from(error).kind()))),
        }
        if descriptors[1].revents().contains(PollFlags::IN) {
            // Empties the counter; a later wake fills it again.
            let _ = rustix::io::read(&inner.wake, &mut [0; 8]);
        }
        self.link.check()
    }

    fn fail(&self, reason: CloseReason) -> Closed {
        self.link.close_for(reason);
        Closed { reason: self.link.closed().unwrap_or(reason) }
    }
}

impl AsFd for Reader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.inner.socket.as_fd()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.link.close();
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader({})", self.link.inner.number.0)
    }
}

/// A wait as the system wants it.
pub(crate) fn timespec(wait: Duration) -> Timespec {
    Timespec { tv_sec: wait.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: wait.subsec_nanos().into() }
}
