//! A journal on a real disk under a fixed number of outstanding records, appended by blocking threads.
//!
//! [`Site::run`]: whoever completes an append queues the successors of all its records at once, as an event loop with
//! many callers does. [`Site::run_callers`]: each record has a thread of its own that appends if it may, with all that is
//! queued, and else sleeps until its record is durable (decision 0001).
//!
//! - G1: a record counts as done when the journal says it is durable, in order.
//! - G2: `check` opens the journal again and compares every record that it still needs.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use bytes::Bytes;
use metropod_journal::media::real::RealMedia;
use metropod_journal::media::{Durability, Io, Media, MediaError};
use metropod_journal::{Append, JournalConfig, Lsn, Record, StreamId, Writer, open};

use crate::chance::Chance;
use crate::clock::process_cpu_ns;
use crate::park::block_on;

const ARRAY: [u8; 16] = [0xe7; 16];
const SALT: u64 = 0xe7;
const JOURNAL_DIR: &str = "journal";
const BUDGET_BYTES: u64 = 256 << 20;
const DESCRIPTOR_BYTES: usize = 64;
/// A block of 4 KiB at the reference ratio.
const ATTACHMENT_BYTES: usize = 2112;
/// Records kept behind the newest durable one, to be checked.
const KEPT: u64 = 4096;

/// A journal and its directory.
pub struct Site {
    /// Appends under way at a time; as many threads.
    pub frames: usize,
    directory: PathBuf,
    media: Arc<RealMedia>,
    writer: Option<Writer>,
}

/// What one run gave.
#[derive(Debug)]
pub struct Run {
    /// From `push` to durable, of each record.
    pub latencies_ns: Vec<u64>,
    /// Frames they went in.
    pub frames: u64,
    /// Wall time.
    pub elapsed: Duration,
    /// Of the whole process.
    pub cpu_ns: u64,
}

struct State {
    writer: Writer,
    /// What is not durable yet, oldest first; whom to wake, if somebody sleeps for it.
    outstanding: VecDeque<Outstanding>,
    latencies_ns: Vec<u64>,
    frames: u64,
    until: Instant,
    failed: Option<io::Error>,
}

struct Outstanding {
    lsn: Lsn,
    began: Instant,
    caller: Option<Thread>,
}

struct Shared<'a> {
    state: Mutex<State>,
    changed: Condvar,
    media: &'a RealMedia,
    io: Io,
}

impl Site {
    /// An empty journal in a new directory.
    pub fn create(directory: &Path, frames: usize) -> io::Result<Site> {
        let media = Arc::new(RealMedia::create(directory).map_err(io::Error::other)?);
        let mut site = Site { frames, directory: directory.to_owned(), media, writer: None };
        site.writer = Some(site.open(Lsn(1), &mut |_, _| {})?);
        Ok(site)
    }

    fn open(&self, needed_from: Lsn, visit: &mut (dyn FnMut(Lsn, Record) + Send)) -> io::Result<Writer> {
        let config = JournalConfig {
            budget_bytes: BUDGET_BYTES,
            frames_in_flight: self.frames,
            needed_from,
            ..JournalConfig::new(ARRAY, SALT)
        };
        let io = Io::inline(self.media.clone());
        block_on(open(&io, JOURNAL_DIR, config, visit)).map_err(io::Error::other)
    }

    /// Keeps `depth` records outstanding for so long, then waits for the last ones.
    pub fn run(&mut self, depth: usize, time: Duration) -> io::Result<Run> {
        self.run_threads(
            time,
            self.frames,
            |shared| shared.work(),
            |state| {
                for _ in 0..depth {
                    state.push(None);
                }
            },
        )
    }

    /// So many threads, each with one record outstanding, for so long.
    pub fn run_callers(&mut self, callers: usize, time: Duration) -> io::Result<Run> {
        self.run_threads(time, callers, |shared| shared.call(), |_| {})
    }

    fn run_threads(
        &mut self,
        time: Duration,
        threads: usize,
        thread: impl Fn(&Shared<'_>) + Sync,
        begin: impl FnOnce(&mut State),
    ) -> io::Result<Run> {
        let writer = self.writer.take().ok_or_else(|| io::Error::other("an earlier run failed"))?;
        let (began, cpu) = (Instant::now(), process_cpu_ns());
        let mut state = State {
            writer,
            outstanding: VecDeque::new(),
            latencies_ns: Vec::new(),
            frames: 0,
            until: began + time,
            failed: None,
        };
        begin(&mut state);
        let shared = Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            media: &self.media,
            io: Io::inline(self.media.clone()),
        };
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| thread(&shared));
            }
        });
        let state = shared.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(failed) = state.failed {
            return Err(failed);
        }
        self.writer = Some(state.writer);
        let (elapsed, cpu_ns) = (began.elapsed(), process_cpu_ns() - cpu);
        Ok(Run { latencies_ns: state.latencies_ns, frames: state.frames, elapsed, cpu_ns })
    }

    /// Opens the journal again and compares its records; gives their number.
    pub fn check(mut self) -> io::Result<u64> {
        let writer = self.writer.take().ok_or_else(|| io::Error::other("an earlier run failed"))?;
        let (oldest, durable) = (writer.oldest(), writer.durable());
        drop(writer);
        drop(self.media);
        self.media = Arc::new(RealMedia::open(&self.directory).map_err(io::Error::other)?);
        let (mut next, mut wrong) = (oldest.0, 0);
        self.open(oldest, &mut |lsn, found| {
            wrong += u64::from(lsn.0 != next || found != record(lsn.0));
            next += 1;
        })?;
        if wrong > 0 || next != durable.0 + 1 {
            return Err(io::Error::other(format!("{wrong} records are wrong, {next} follows {}", durable.0)));
        }
        Ok(next - oldest.0)
    }
}

impl Shared<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One appending thread.
    fn work(&self) {
        let mut state = self.lock();
        while state.failed.is_none() && !state.outstanding.is_empty() {
            match self.advance(state) {
                Ok(later) => state = later,
                Err(now) => state = self.changed.wait(now).unwrap_or_else(PoisonError::into_inner),
            }
            self.changed.notify_all();
        }
        self.changed.notify_all();
    }

    /// One caller, record after record.
    fn call(&self) {
        let mut state = self.lock();
        while state.failed.is_none() && Instant::now() < state.until {
            let lsn = state.push(Some(thread::current()));
            while state.failed.is_none() && state.writer.durable() < lsn {
                match self.advance(state) {
                    Ok(later) => state = later,
                    Err(now) => {
                        drop(now);
                        thread::park();
                        state = self.lock();
                    }
                }
            }
        }
    }

    /// Makes a segment ready or appends what is queued; `Err`: there is nothing to do now.
    fn advance<'s>(
        &'s self,
        mut state: MutexGuard<'s, State>,
    ) -> Result<MutexGuard<'s, State>, MutexGuard<'s, State>> {
        if state.writer.wants_segment() {
            let recipe = state.writer.segment_recipe();
            drop(state);
            let prepared = block_on(recipe.prepare(&self.io));
            state = self.lock();
            match prepared {
                Ok(spare) => state.writer.add_spare(spare),
                Err(error) => state.failed = Some(io::Error::other(error)),
            }
            state.wake_all();
        } else if let Some(append) = state.writer.next_append() {
            drop(state);
            let written = self.write(&append);
            state = self.lock();
            state.completed(append.id, written);
        } else {
            return Err(state);
        }
        Ok(state)
    }

    fn write(&self, append: &Append) -> Result<(), MediaError> {
        self.media.write(append.file, append.offset, &[&append.data], Durability::Durable)
    }
}

impl State {
    fn push(&mut self, caller: Option<Thread>) -> Lsn {
        let began = Instant::now();
        let lsn = self.writer.push(record(self.writer.next_lsn().0));
        self.outstanding.push_back(Outstanding { lsn, began, caller });
        lsn
    }

    fn completed(&mut self, id: u64, written: Result<(), MediaError>) {
        let durable = match self.writer.completed(id, written) {
            Ok(durable) => durable,
            Err(error) => {
                self.failed = Some(io::Error::other(error));
                return self.wake_all();
            }
        };
        self.frames += 1;
        let now = Instant::now();
        while let Some(done) = self.outstanding.pop_front_if(|outstanding| outstanding.lsn <= durable) {
            self.latencies_ns.push((now - done.began).as_nanos() as u64);
            match done.caller {
                Some(caller) => caller.unpark(),
                None if now < self.until => {
                    self.push(None);
                }
                None => {}
            }
        }
        // What is still queued needs somebody to append it: its last caller, whose record is in no append.
        if self.writer.queued_records() > 0
            && let Some(caller) = self.outstanding.back().and_then(|last| last.caller.as_ref())
        {
            caller.unpark();
        }
        self.writer.trim(Lsn(durable.0.saturating_sub(KEPT).max(1)));
    }

    fn wake_all(&self) {
        self.outstanding
            .iter()
            .filter_map(|outstanding| outstanding.caller.as_ref())
            .for_each(Thread::unpark);
    }
}

/// The record of a number.
fn record(number: u64) -> Record {
    let mut chance = Chance::new(number);
    let bytes = |length: usize, chance: &mut Chance| {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            bytes.extend_from_slice(&chance.bits().to_le_bytes());
        }
        Bytes::from(bytes)
    };
    let body = bytes(DESCRIPTOR_BYTES, &mut chance);
    Record { stream: StreamId(ARRAY), index: number, body, attachment: bytes(ATTACHMENT_BYTES, &mut chance) }
}
