//! The array that takes the write: one host thread writes a frame at depth 1 and waits until it is durable.
//!
//! In: a [`Variant`]; out: one latency per write, in nanoseconds, and the CPU time both processes spent.
//! - L1: a mirrored write ends when the own append returned and the peer's ack arrived, in either order.
//! - L2: frames of a run are read back and checked on both sides, or the run fails.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::appender::Appender;
use crate::disk::{Frame, Tape};
use crate::follower::{Mode, STALL};
use crate::report::process_cpu_ns;
use crate::wire::{Bell, Header, Inbox, Kind, Spin, send, wait_until};

/// Who does what at the array that takes the write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// fio's loop: `O_DIRECT | O_DSYNC`, no frame check, nothing else.
    Base,
    /// The same with `O_SYNC`.
    BaseOsync,
    /// The same without any sync: the write's share, not durable.
    BaseNosync,
    /// Two threads append to two files at once and spin for each other: the disk's share of a mirrored write.
    Pair,
    /// Sends and waits for the echo, no disk: the network's share of a mirrored write.
    Net,
    /// One array: the waiting thread appends.
    AloneWait,
    /// One array: a journal thread appends.
    AloneThread,
    /// The waiting thread sends, appends and then reads the ack itself; nobody reads meanwhile.
    Wait,
    /// The same, while a reactor thread sits in `poll` on the same socket.
    Steal,
    /// The same, but the socket is taken out of the reactor's epoll set while the waiting thread reads it.
    Drive,
    /// The waiting thread sends and appends; a reactor thread reads the ack and wakes it.
    Reactor,
    /// The waiting thread sends and polls; a journal thread appends and wakes it.
    Thread,
}

/// One way of doing a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Variant {
    pub role: Role,
    pub follower: Option<Mode>,
    pub spin: Spin,
    /// Pause between writes; everything that parks has parked by then.
    pub think_us: u64,
}

/// What one round of one variant gave.
pub struct Run {
    pub latencies_ns: Vec<u64>,
    pub cpu_ns: u64,
}

/// The files and the way to the peer.
pub struct Bench {
    pub tape: Arc<Tape>,
    pub base: Tape,
    pub base_osync: Tape,
    pub base_nosync: Tape,
    pub twin: Tape,
    pub peer_port: u16,
    pub next_sequence: u64,
}

impl Bench {
    pub fn run(&mut self, variant: Variant, writes: u64) -> io::Result<Run> {
        let first = self.next_sequence;
        self.next_sequence += writes;
        let cpu_before = process_cpu_ns();
        let spin = variant.spin;
        let timed = Timed { first, writes, think: Duration::from_micros(variant.think_us) };
        let mut peer = variant.follower.map(|mode| self.connect(mode, spin, 0)).transpose()?;
        let latencies_ns = match (variant.role, &mut peer) {
            (Role::Base, _) => timed.each(|frame, sequence| self.base.append(frame, sequence))?,
            (Role::BaseOsync, _) => timed.each(|frame, sequence| self.base_osync.append(frame, sequence))?,
            (Role::BaseNosync, _) => {
                timed.each(|frame, sequence| self.base_nosync.append(frame, sequence))?
            }
            (Role::Pair, _) => self.pair(&timed)?,
            (Role::AloneWait, _) => timed.each(|frame, sequence| {
                frame.seal(sequence);
                self.tape.append(frame, sequence)
            })?,
            (Role::AloneThread, _) => self.alone_thread(&timed, spin)?,
            (Role::Net | Role::Wait, Some((stream, inbox))) => {
                let mut scratch = Frame::new();
                timed.each(|frame, sequence| {
                    frame.seal(sequence);
                    send(stream, Header::new(Kind::Append, sequence), Some(frame))?;
                    if variant.role == Role::Wait {
                        self.tape.append(frame, sequence)?;
                    }
                    expect_ack(inbox.next(&mut scratch, spin)?, sequence)
                })?
            }
            (Role::Thread, Some((stream, inbox))) => self.journal_thread(&timed, spin, stream, inbox)?,
            (Role::Steal | Role::Reactor, Some((stream, inbox))) => {
                self.with_reactor(&timed, spin, stream, inbox, variant.role == Role::Steal)?
            }
            (Role::Drive, Some((stream, inbox))) => self.driven(&timed, spin, stream, inbox)?,
            (_, None) => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let mut cpu_ns = process_cpu_ns() - cpu_before;
        if let Some((stream, mut inbox)) = peer {
            send(&stream, Header::new(Kind::Bye, 0), None)?;
            let report = inbox.next(&mut Frame::new(), Spin::NONE)?;
            let expected = if variant.role == Role::Net { 0 } else { writes };
            if report.kind != Kind::Report || report.b != expected {
                return Err(io::ErrorKind::InvalidData.into());
            }
            cpu_ns += report.a;
        }
        if !matches!(variant.role, Role::Base | Role::BaseOsync | Role::BaseNosync | Role::Net) {
            self.tape.verify(first, writes)?;
        }
        Ok(Run { latencies_ns, cpu_ns })
    }

    /// The longest time a heartbeat waited for its answer while the peer's disk took [`STALL`] for one append.
    pub fn slowest_heartbeat(&mut self, mode: Mode, spin: Spin) -> io::Result<Duration> {
        let stalled = self.next_sequence + 20;
        let (stream, mut inbox) = self.connect(mode, spin, stalled)?;
        let mut frame = Frame::new();
        let mut scratch = Frame::new();
        for sequence in self.next_sequence..=stalled {
            frame.seal(sequence);
            send(&stream, Header::new(Kind::Append, sequence), Some(&frame))?;
            if sequence != stalled {
                expect_ack(inbox.next(&mut scratch, spin)?, sequence)?;
            }
        }
        self.next_sequence = stalled + 1;
        let mut slowest = Duration::ZERO;
        let stalled_from = Instant::now();
        while stalled_from.elapsed() < STALL {
            let sent = Instant::now();
            send(&stream, Header::new(Kind::Heartbeat, 0), None)?;
            while inbox.next(&mut scratch, spin)?.kind != Kind::HeartbeatReply {}
            slowest = slowest.max(sent.elapsed());
            thread::sleep(Duration::from_millis(10));
        }
        thread::sleep(Duration::from_millis(50));
        send(&stream, Header::new(Kind::Bye, 0), None)?;
        while inbox.next(&mut scratch, spin)?.kind != Kind::Report {}
        Ok(slowest)
    }

    /// Tells the peer process to end.
    pub fn stop_peer(&self) -> io::Result<()> {
        let stream = TcpStream::connect(("127.0.0.1", self.peer_port))?;
        send(&stream, Header { kind: Kind::Setup, sequence: 0, a: u64::MAX, b: 0 }, None)
    }

    fn connect(&self, mode: Mode, spin: Spin, stall_at: u64) -> io::Result<(Arc<TcpStream>, Inbox)> {
        let stream = Arc::new(TcpStream::connect(("127.0.0.1", self.peer_port))?);
        let inbox = Inbox::new(Arc::clone(&stream))?;
        let stall_at = if stall_at == 0 { u64::MAX } else { stall_at };
        let setup = Header { kind: Kind::Setup, sequence: stall_at, a: mode as u64, b: spin.to_word() };
        send(&stream, setup, None)?;
        Ok((stream, inbox))
    }

    fn pair(&self, timed: &Timed) -> io::Result<Vec<u64>> {
        let (go, done) = (AtomicU64::new(0), AtomicU64::new(0));
        let last = timed.first + timed.writes - 1;
        thread::scope(|scope| {
            let second = scope.spawn(|| -> io::Result<()> {
                let mut frame = Frame::new();
                for sequence in timed.first..=last {
                    frame.seal(sequence);
                    while go.load(Ordering::Acquire) != sequence {
                        std::hint::spin_loop();
                    }
                    self.twin.append(&frame, sequence)?;
                    done.store(sequence, Ordering::Release);
                }
                Ok(())
            });
            let latencies = timed.each(|frame, sequence| {
                frame.seal(sequence);
                go.store(sequence, Ordering::Release);
                self.tape.append(frame, sequence)?;
                while done.load(Ordering::Acquire) != sequence {
                    std::hint::spin_loop();
                }
                Ok(())
            });
            second.join().expect("the second thread does not panic")?;
            latencies
        })
    }

    fn alone_thread(&self, timed: &Timed, spin: Spin) -> io::Result<Vec<u64>> {
        let bell = Arc::new(Bell::new()?);
        let ring = Arc::clone(&bell);
        let journal = Appender::start(Arc::clone(&self.tape), spin, move |_| ring.ring());
        timed.each(|frame, sequence| {
            frame.seal(sequence);
            journal.submit(frame, sequence);
            wait_until(Some(&bell), None, spin, || Ok(journal.has_completed(sequence)))
        })
    }

    fn journal_thread(
        &self,
        timed: &Timed,
        spin: Spin,
        stream: &TcpStream,
        inbox: &mut Inbox,
    ) -> io::Result<Vec<u64>> {
        let bell = Arc::new(Bell::new()?);
        let ring = Arc::clone(&bell);
        let journal = Appender::start(Arc::clone(&self.tape), spin, move |_| ring.ring());
        let mut scratch = Frame::new();
        timed.each(|frame, sequence| {
            frame.seal(sequence);
            send(stream, Header::new(Kind::Append, sequence), Some(frame))?;
            journal.submit(frame, sequence);
            let mut acked = false;
            wait_until(Some(&bell), Some(stream), spin, || {
                if !acked && let Some(header) = inbox.try_next(&mut scratch)? {
                    expect_ack(header, sequence)?;
                    acked = true;
                }
                Ok(acked && journal.has_completed(sequence))
            })
        })
    }
}

pub struct Timed {
    pub first: u64,
    pub writes: u64,
    think: Duration,
}

impl Timed {
    /// Runs `write` once per sequence number and times it.
    pub fn each(&self, mut write: impl FnMut(&mut Frame, u64) -> io::Result<()>) -> io::Result<Vec<u64>> {
        let mut frame = Frame::new();
        let mut latencies_ns = Vec::with_capacity(self.writes as usize);
        for sequence in self.first..self.first + self.writes {
            if !self.think.is_zero() {
                thread::sleep(self.think);
            }
            let begin = Instant::now();
            write(&mut frame, sequence)?;
            latencies_ns.push(begin.elapsed().as_nanos() as u64);
        }
        Ok(latencies_ns)
    }
}

pub fn expect_ack(header: Header, sequence: u64) -> io::Result<()> {
    let expected = header.kind == Kind::Ack && header.sequence == sequence;
    if expected { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}
