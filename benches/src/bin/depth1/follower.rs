//! The peer process: takes frames, makes them durable, acknowledges; answers heartbeats.
//!
//! Who appends, and who holds the reactor role (reads the socket) meanwhile, is the [`Mode`].
//! - F1: an ack is sent only after the append of that frame returned.
//! - F2: at the end every appended frame is read back and checked; the report says how many.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use crate::appender::Appender;
use crate::disk::{Disk, Durability, Frame, Tape};
use crate::report::process_cpu_ns;
use crate::wire::{Bell, Header, Inbox, Kind, Spin, poll_readable, send, wait_until};

/// The standby looks this often while appends are made, and takes the role when one lasts this long.
const STANDBY_PERIOD: Duration = Duration::from_millis(5);
/// Without an append for this long the standby sleeps until the next one.
const STANDBY_QUIET: Duration = Duration::from_millis(100);
/// How long a made-up slow append takes, in the heartbeat check.
pub const STALL: Duration = Duration::from_millis(200);

/// How the follower divides the work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// No append at all: the network's share.
    Echo,
    /// The thread that read the frame appends and answers; nobody reads meanwhile.
    Inline,
    /// Journal thread appends, the reader answers.
    Hop,
    /// Journal thread appends and answers.
    HopReply,
    /// The reader gives the role to a parked second thread before each append.
    Handover,
    /// The reader gives the role up without waking anybody; a standby takes it only when the append is slow.
    Standby,
}

impl Mode {
    pub const ALL: [Mode; 6] =
        [Mode::Echo, Mode::Inline, Mode::Hop, Mode::HopReply, Mode::Handover, Mode::Standby];
    pub fn name(self) -> &'static str {
        ["echo", "inline", "hop", "hop-reply", "handover", "standby"][self as usize]
    }
}

/// Serves connections, one after the other, until the parent closes the last one with an empty setup.
pub fn main(path: &Path, disk: Disk) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    let tape = Arc::new(Tape::open(path, Durability::PerCall, disk)?);
    loop {
        let stream = Arc::new(listener.accept()?.0);
        let mut inbox = Inbox::new(Arc::clone(&stream))?;
        let setup = inbox.next(&mut Frame::new(), Spin::NONE)?;
        let Some(mode) = Mode::ALL.get(setup.a as usize).copied() else { return Ok(()) };
        let spin = Spin::from_word(setup.b);
        let served = Served {
            stream,
            tape: Arc::clone(&tape),
            stall_at: setup.sequence,
            first: AtomicU64::new(u64::MAX),
            count: AtomicU64::new(0),
            cpu_ns_before: process_cpu_ns(),
            finished: AtomicBool::new(false),
        };
        match mode {
            Mode::Echo | Mode::Inline => served.inline(inbox, spin, mode == Mode::Echo)?,
            Mode::Hop | Mode::HopReply => served.hop(inbox, spin, mode == Mode::HopReply)?,
            Mode::Handover => served.handover(inbox, spin)?,
            Mode::Standby => served.standby(inbox, spin)?,
        }
    }
}

struct Served {
    stream: Arc<TcpStream>,
    tape: Arc<Tape>,
    stall_at: u64,
    first: AtomicU64,
    count: AtomicU64,
    cpu_ns_before: u64,
    finished: AtomicBool,
}

impl Served {
    fn inline(&self, mut inbox: Inbox, spin: Spin, echo: bool) -> io::Result<()> {
        let mut frame = Frame::new();
        loop {
            let header = inbox.next(&mut frame, spin)?;
            match header.kind {
                Kind::Append if echo => self.ack(header.sequence)?,
                Kind::Append => self.append_and_ack(&frame, header.sequence)?,
                _ => self.answer(header)?,
            }
            if self.is_finished() {
                return Ok(());
            }
        }
    }

    fn hop(&self, mut inbox: Inbox, spin: Spin, journal_replies: bool) -> io::Result<()> {
        let bell = Arc::new(Bell::new()?);
        let (ring, stream, stall_at) = (Arc::clone(&bell), Arc::clone(&self.stream), self.stall_at);
        let journal = Appender::start(Arc::clone(&self.tape), spin, move |sequence| {
            if sequence == stall_at {
                thread::sleep(STALL);
            }
            if journal_replies { send(&stream, Header::new(Kind::Ack, sequence), None) } else { ring.ring() }
        });
        let mut frame = Frame::new();
        let mut in_flight = None;
        while !self.is_finished() {
            let mut arrived = None;
            wait_until(Some(&bell), Some(&self.stream), spin, || {
                arrived = inbox.try_next(&mut frame)?;
                Ok(arrived.is_some() || in_flight.is_some_and(|sequence| journal.has_completed(sequence)))
            })?;
            if let Some(sequence) = in_flight.take_if(|sequence| journal.has_completed(*sequence)) {
                self.ack(sequence)?;
            }
            match arrived {
                Some(header) if header.kind == Kind::Append => {
                    self.check(&frame, header.sequence)?;
                    journal.submit(&mut frame, header.sequence);
                    in_flight = (!journal_replies).then_some(header.sequence);
                }
                Some(header) => self.answer(header)?,
                None => {}
            }
        }
        Ok(())
    }

    fn handover(&self, inbox: Inbox, spin: Spin) -> io::Result<()> {
        let role = Mutex::new(inbox);
        let work = || -> io::Result<()> {
            let mut frame = Frame::new();
            loop {
                let mut inbox = lock(&role);
                if self.is_finished() {
                    return Ok(());
                }
                let header = inbox.next(&mut frame, spin)?;
                if header.kind == Kind::Append {
                    drop(inbox); // wakes the other thread, which waits in lock
                    self.append_and_ack(&frame, header.sequence)?;
                } else {
                    self.answer(header)?;
                }
            }
        };
        thread::scope(|scope| {
            let second = scope.spawn(work);
            work().and(second.join().expect("the second thread does not panic"))
        })
    }

    fn standby(&self, inbox: Inbox, spin: Spin) -> io::Result<()> {
        let role = Mutex::new(inbox);
        let start = Instant::now();
        let now_ns = || start.elapsed().as_nanos() as u64 + 1;
        let appending_since_ns = AtomicU64::new(0);
        let last_append_ns = AtomicU64::new(0);
        let asleep = AtomicBool::new(false);
        let watch = || -> io::Result<()> {
            let mut frame = Frame::new();
            while !self.is_finished() {
                let quiet =
                    now_ns() - last_append_ns.load(Ordering::SeqCst) > STANDBY_QUIET.as_nanos() as u64;
                asleep.store(quiet, Ordering::SeqCst);
                if quiet && appending_since_ns.load(Ordering::SeqCst) == 0 && !self.is_finished() {
                    thread::park();
                } else {
                    thread::park_timeout(STANDBY_PERIOD);
                }
                asleep.store(false, Ordering::SeqCst);
                let since = appending_since_ns.load(Ordering::SeqCst);
                if since == 0 || now_ns() - since < STANDBY_PERIOD.as_nanos() as u64 {
                    continue;
                }
                let mut inbox = Some(lock(&role));
                while appending_since_ns.load(Ordering::SeqCst) == since
                    && let Some(held) = &mut inbox
                {
                    match held.try_next(&mut frame)? {
                        Some(header) if header.kind != Kind::Append => self.answer(header)?,
                        // The slow append has just been acknowledged: whoever reads the next frame does it.
                        Some(header) => {
                            inbox = None;
                            self.append_and_ack(&frame, header.sequence)?;
                        }
                        None => poll_readable(&self.stream, Duration::from_millis(1))?,
                    }
                }
            }
            Ok(())
        };
        thread::scope(|scope| {
            let second = scope.spawn(watch);
            let mut frame = Frame::new();
            while !self.is_finished() {
                let mut inbox = lock(&role);
                let header = inbox.next(&mut frame, spin)?;
                if header.kind == Kind::Append {
                    let now = now_ns();
                    last_append_ns.store(now, Ordering::SeqCst);
                    appending_since_ns.store(now, Ordering::SeqCst);
                    drop(inbox); // nobody waits here unless the standby took over: no system call
                    if asleep.swap(false, Ordering::SeqCst) {
                        second.thread().unpark();
                    }
                    self.append_and_ack(&frame, header.sequence)?;
                    appending_since_ns.store(0, Ordering::SeqCst);
                } else {
                    self.answer(header)?;
                }
            }
            second.thread().unpark();
            second.join().expect("the second thread does not panic")
        })
    }

    fn append_and_ack(&self, frame: &Frame, sequence: u64) -> io::Result<()> {
        self.check(frame, sequence)?;
        self.tape.append(frame, sequence)?;
        if sequence == self.stall_at {
            thread::sleep(STALL);
        }
        self.ack(sequence)
    }

    fn ack(&self, sequence: u64) -> io::Result<()> {
        send(&self.stream, Header::new(Kind::Ack, sequence), None)
    }

    fn check(&self, frame: &Frame, sequence: u64) -> io::Result<()> {
        if frame.checked_sequence() != Some(sequence) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.first.fetch_min(sequence, Ordering::SeqCst);
        self.count.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn answer(&self, header: Header) -> io::Result<()> {
        match header.kind {
            Kind::Heartbeat => send(&self.stream, Header::new(Kind::HeartbeatReply, header.sequence), None),
            Kind::Bye => {
                let cpu_ns = process_cpu_ns() - self.cpu_ns_before;
                let count = self.count.load(Ordering::SeqCst);
                self.tape.verify(self.first.load(Ordering::SeqCst), count)?;
                self.finished.store(true, Ordering::SeqCst);
                send(&self.stream, Header { kind: Kind::Report, sequence: 0, a: cpu_ns, b: count }, None)
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn is_finished(&self) -> bool {
        self.finished.load(Ordering::SeqCst)
    }
}

fn lock(role: &Mutex<Inbox>) -> MutexGuard<'_, Inbox> {
    role.lock().expect("no thread panics while it holds the role")
}
