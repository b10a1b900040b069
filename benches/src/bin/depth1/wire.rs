//! Messages over one TCP connection, and waiting: spin for a bounded time, then park in `poll`.
//!
//! A message is a 64-byte header; an append is followed by its 4 KiB frame. Both travel in one write.
//! - W1: a sleeper announces itself before its last look, so that a ring between look and sleep is never lost.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::disk::{FRAME_BYTES, Frame};

const HEADER_BYTES: usize = 64;
const INBOX_BYTES: usize = 4 * (HEADER_BYTES + FRAME_BYTES);

/// What a message says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Setup = 1,
    Append = 2,
    Ack = 3,
    Heartbeat = 4,
    HeartbeatReply = 5,
    Bye = 6,
    Report = 7,
}

/// The fixed part of a message; `a` and `b` belong to the kind.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub kind: Kind,
    pub sequence: u64,
    pub a: u64,
    pub b: u64,
}

impl Header {
    pub fn new(kind: Kind, sequence: u64) -> Header {
        Header { kind, sequence, a: 0, b: 0 }
    }

    fn decode(bytes: &[u8]) -> io::Result<Header> {
        let word = |at: usize| -> u64 {
            u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a slice of eight bytes"))
        };
        let kind = match word(0) {
            1 => Kind::Setup,
            2 => Kind::Append,
            3 => Kind::Ack,
            4 => Kind::Heartbeat,
            5 => Kind::HeartbeatReply,
            6 => Kind::Bye,
            7 => Kind::Report,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        Ok(Header { kind, sequence: word(8), a: word(16), b: word(24) })
    }
}

/// How long to look before parking, and whether each look gives the core to whoever waits for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spin {
    pub us: u32,
    pub yields: bool,
}

impl Spin {
    pub const NONE: Spin = Spin { us: 0, yields: false };

    pub fn limit(self) -> Duration {
        Duration::from_micros(u64::from(self.us))
    }

    pub fn pause(self) {
        if self.yields { std::thread::yield_now() } else { std::hint::spin_loop() }
    }

    pub fn to_word(self) -> u64 {
        u64::from(self.us) | u64::from(self.yields) << 32
    }

    pub fn from_word(word: u64) -> Spin {
        Spin { us: word as u32, yields: word >> 32 != 0 }
    }
}

/// Sends one message with one system call; the socket does not block, so a full buffer is waited for in `poll`.
pub fn send(stream: &TcpStream, header: Header, frame: Option<&Frame>) -> io::Result<()> {
    let mut bytes = [0u8; HEADER_BYTES + FRAME_BYTES];
    for (at, word) in [header.kind as u64, header.sequence, header.a, header.b].into_iter().enumerate() {
        bytes[at * 8..at * 8 + 8].copy_from_slice(&word.to_le_bytes());
    }
    let mut rest = match frame {
        Some(frame) => {
            bytes[HEADER_BYTES..].copy_from_slice(frame.bytes());
            &bytes[..]
        }
        None => &bytes[..HEADER_BYTES],
    };
    while !rest.is_empty() {
        match (&*stream).write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(stream, PollFlags::OUT)], None)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The receiving half of a connection.
pub struct Inbox {
    stream: Arc<TcpStream>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    pub fn new(stream: Arc<TcpStream>) -> io::Result<Inbox> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Inbox { stream, buffer: vec![0; INBOX_BYTES], start: 0, end: 0 })
    }

    /// The next message if it has arrived; the frame of an append is put into `frame`.
    pub fn try_next(&mut self, frame: &mut Frame) -> io::Result<Option<Header>> {
        if let Some(header) = self.parse(frame)? {
            return Ok(Some(header));
        }
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        match (&*self.stream).read(&mut self.buffer[self.end..]) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.end += count;
                self.parse(frame)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The next message: spins, then parks.
    pub fn next(&mut self, frame: &mut Frame, spin: Spin) -> io::Result<Header> {
        let mut found = None;
        let stream = Arc::clone(&self.stream);
        wait_until(None, Some(&stream), spin, || {
            found = self.try_next(frame)?;
            Ok(found.is_some())
        })?;
        Ok(found.expect("the wait ends only with a message"))
    }

    fn parse(&mut self, frame: &mut Frame) -> io::Result<Option<Header>> {
        let have = &self.buffer[self.start..self.end];
        if have.len() < HEADER_BYTES {
            return Ok(None);
        }
        let header = Header::decode(have)?;
        let mut length = HEADER_BYTES;
        if header.kind == Kind::Append {
            length += FRAME_BYTES;
            if have.len() < length {
                return Ok(None);
            }
            frame.bytes_mut().copy_from_slice(&have[HEADER_BYTES..length]);
        }
        self.start += length;
        Ok(Some(header))
    }
}

/// Wakes one sleeper, with a system call only if it sleeps.
pub struct Bell {
    sleeping: AtomicBool,
    event: OwnedFd,
}

impl Bell {
    pub fn new() -> io::Result<Bell> {
        Ok(Bell { sleeping: AtomicBool::new(false), event: eventfd(0, EventfdFlags::NONBLOCK)? })
    }

    pub fn ring(&self) -> io::Result<()> {
        if self.sleeping.swap(false, Ordering::SeqCst) {
            rustix::io::write(&self.event, &1u64.to_ne_bytes())?;
        }
        Ok(())
    }
}

/// Returns when `ready` says so; looks again whenever the bell rings or the stream is readable.
pub fn wait_until(
    bell: Option<&Bell>,
    stream: Option<&TcpStream>,
    spin: Spin,
    mut ready: impl FnMut() -> io::Result<bool>,
) -> io::Result<()> {
    if ready()? {
        return Ok(());
    }
    if spin.us > 0 {
        let deadline = Instant::now() + spin.limit();
        while Instant::now() < deadline {
            if ready()? {
                return Ok(());
            }
            spin.pause();
        }
    }
    loop {
        if let Some(bell) = bell {
            bell.sleeping.store(true, Ordering::SeqCst);
        }
        let done = ready()?;
        if !done {
            park(bell, stream)?;
        }
        if let Some(bell) = bell {
            bell.sleeping.store(false, Ordering::SeqCst);
        }
        if done || ready()? {
            return Ok(());
        }
    }
}

/// Waits for the stream for at most `limit`.
pub fn poll_readable(stream: &TcpStream, limit: Duration) -> io::Result<()> {
    let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
    poll(&mut [PollFd::new(stream, PollFlags::IN)], Some(&limit))?;
    Ok(())
}

fn park(bell: Option<&Bell>, stream: Option<&TcpStream>) -> io::Result<()> {
    let mut waits = Vec::with_capacity(2);
    waits.extend(bell.map(|bell| PollFd::new(&bell.event, PollFlags::IN)));
    waits.extend(stream.map(|stream| PollFd::new(stream, PollFlags::IN)));
    poll(&mut waits, None)?;
    if let Some(bell) = bell
        && waits[0].revents().contains(PollFlags::IN)
    {
        rustix::io::read(&bell.event, &mut [0u8; 8])?;
    }
    Ok(())
}
