//! A host that writes without pause, and tells the oracle what was acknowledged.
//!
//! - L1: no two of its requests under way touch the same sector.
//! - L2: it survives everything: it opens the volume again until it is stopped.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::content::{self, Dice, SECTOR_BYTES};
use crate::nbd::{Command, NbdClient, NbdError};
use crate::oracle::Oracle;

/// Pause before the volume is opened again.
const OPEN_AGAIN: Duration = Duration::from_millis(20);
/// One write in so many is of zeroes, where that is wanted.
const ZEROES_ONE_IN: u64 = 12;

/// A volume at an array.
#[derive(Debug, Clone)]
pub struct Target {
    /// The array's NBD address.
    pub address: SocketAddr,
    /// Export name.
    pub volume: String,
}

/// What a host does.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Where it writes.
    pub target: Target,
    /// Its part of the volume; nobody else may write there.
    pub sectors: Range<u64>,
    /// Requests under way.
    pub depth: usize,
    /// Longest write, in sectors.
    pub sectors_max: u64,
    /// Whether it also writes zeroes, and trims.
    pub zeroes: bool,
    /// Different hosts, different writes.
    pub seed: u64,
}

/// A write that was acknowledged.
#[derive(Debug, Clone, Copy)]
pub struct Completion {
    /// When.
    pub at: Instant,
    /// How long its host waited.
    pub took: Duration,
}

/// A running host.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    acknowledged: AtomicU64,
    completions: Mutex<Vec<Completion>>,
    errors: Mutex<Vec<(Instant, String)>>,
}

impl Load {
    /// Starts it.
    pub fn start(oracle: &Arc<Oracle>, options: LoadOptions) -> Load {
        let shared = Arc::new(Shared::default());
        let dice = Dice::new(options.seed);
        let mut writer = Writer {
            shared: shared.clone(),
            oracle: oracle.clone(),
            options,
            dice,
            under_way: BTreeMap::new(),
        };
        Load { shared, writer: Some(thread::spawn(move || writer.work())) }
    }

    /// Writes acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Errors met between two instants.
    pub fn errors(&self, from: Instant, until: Instant) -> Vec<String> {
        let errors = lock(&self.shared.errors);
        let within = errors.iter().filter(|(at, _)| (from..=until).contains(at));
        within.map(|(_, text)| text.clone()).collect()
    }

    /// Writes acknowledged between two instants.
    pub fn completed(&self, from: Instant, until: Instant) -> usize {
        lock(&self.shared.completions).iter().filter(|done| (from..=until).contains(&done.at)).count()
    }

    /// The longest time between two instants without any acknowledgement. A gap that began before `from` counts whole.
    pub fn pause(&self, from: Instant, until: Instant) -> Duration {
        let completions = lock(&self.shared.completions);
        let before = completions.partition_point(|done| done.at < from);
        let mut last = before.checked_sub(1).map_or(from, |index| completions[index].at);
        let mut longest = Duration::ZERO;
        for done in completions[before..].iter().filter(|done| done.at <= until) {
            longest = longest.max(done.at - last);
            last = done.at;
        }
        longest.max(until.saturating_duration_since(last))
    }

    /// Waits until `count` more writes are acknowledged.
    pub fn wait_for(&self, count: u64, within: Duration) {
        let goal = self.acknowledged() + count;
        crate::wait_until("a host's writes are acknowledged", within, || {
            let now = self.acknowledged();
            if now >= goal { Ok(()) } else { Err(format!("{now} of {goal}; {:?}", self.last_error())) }
        });
    }

    /// Lets it finish what is under way, and ends it. Gives the number of acknowledged writes.
    pub fn stop(mut self) -> u64 {
        self.end();
        self.acknowledged()
    }

    fn last_error(&self) -> Option<String> {
        lock(&self.shared.errors).last().map(|(_, text)| text.clone())
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(writer) = self.writer.take() {
            let ended = writer.join();
            assert!(ended.is_ok() || thread::panicking(), "a host met a bug of the harness");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if thread::panicking() {
            // It ends by itself, and the process soon.
            self.shared.stop.store(true, Ordering::Relaxed);
        } else {
            self.end();
        }
    }
}

struct Pending {
    sectors: Range<u64>,
    id: u64,
    sent: Instant,
}

struct Writer {
    shared: Arc<Shared>,
    oracle: Arc<Oracle>,
    options: LoadOptions,
    dice: Dice,
    under_way: BTreeMap<u64, Pending>,
}

impl Writer {
    fn work(&mut self) {
        while !self.is_stopped() {
            let target = &self.options.target;
            match NbdClient::open(target.address, &target.volume) {
                Ok(mut client) => {
                    if let Err(error) = self.drive(&mut client) {
                        lock(&self.shared.errors).push((Instant::now(), error.to_string()));
                    }
                    // What was under way stays in doubt.
                    self.under_way.clear();
                }
                Err(_) => thread::sleep(OPEN_AGAIN),
            }
        }
    }

    /// Writes until it is stopped or something fails.
    fn drive(&mut self, client: &mut NbdClient) -> Result<(), NbdError> {
        loop {
            while !self.is_stopped() && client.under_way() < self.options.depth {
                if !self.send(client)? {
                    break;
                }
            }
            if client.under_way() == 0 {
                return Ok(());
            }
            let (cookie, answer) = client.receive()?;
            let Some(pending) = self.under_way.remove(&cookie) else { return Err(NbdError::Protocol) };
            answer?;
            let at = Instant::now();
            self.oracle.acknowledged(pending.sectors, pending.id);
            self.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
            lock(&self.shared.completions).push(Completion { at, took: at - pending.sent });
        }
    }

    /// Sends one write, unless the range chosen overlaps with one under way.
    fn send(&mut self, client: &mut NbdClient) -> Result<bool, NbdError> {
        let part = &self.options.sectors;
        let count = match self.dice.below(3) {
            // Whole blocks, as file systems write, or any sectors.
            0 => 1 + self.dice.below(self.options.sectors_max),
            _ => 8.min(self.options.sectors_max),
        };
        let mut first = part.start + self.dice.below(part.end - part.start - count + 1);
        if count == 8 {
            first = (first / 8 * 8).max(part.start);
        }
        let sectors = first..first + count;
        let overlaps =
            |other: &Pending| other.sectors.start < sectors.end && sectors.start < other.sectors.end;
        if self.under_way.values().any(overlaps) {
            return Ok(false);
        }
        let zeroes = self.options.zeroes && self.dice.below(ZEROES_ONE_IN) == 0;
        let id = if zeroes { 0 } else { self.oracle.next_id() };
        self.oracle.begun(sectors.clone(), id);
        let (offset, bytes) = (first * SECTOR_BYTES as u64, count as usize * SECTOR_BYTES);
        let sent = Instant::now();
        let cookie = if zeroes {
            client.send(Command::WriteZeroes, offset, bytes as u32, &[])?
        } else {
            let mut data = vec![0; bytes];
            content::compose(first, id, &mut data);
            client.send(Command::Write, offset, bytes as u32, &data)?
        };
        self.under_way.insert(cookie, Pending { sectors, id, sent });
        Ok(true)
    }

    fn is_stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
