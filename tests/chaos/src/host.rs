//! Hosts: threads that read and write the volume at one array, one request at a time each, and tell the judge.
//!
//! - O1: a host survives everything: it opens the volume again until it is stopped.
//! - O2: a host that was asked to pause is not in the middle of a request when it says that it does.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use metropod_e2e::{Command, Dice, NbdClient, NbdError, SECTOR_BYTES, Target};
use metropod_sim::payload::sector_bytes;

use crate::Side;
use crate::judge::{Judge, Kind, Outcome};

/// Sectors that all hosts fight for: two blocks of the store and a bit of a third.
const HOT_SECTORS: u64 = 20;
/// Sectors in use.
pub const SECTORS: u64 = 512;
/// Longest write and read.
const SECTORS_MAX: u64 = 24;
/// Pause before the volume is opened again.
const OPEN_AGAIN: Duration = Duration::from_millis(50);
/// Longest pause between two requests.
const THINK_MS: u64 = 16;
/// A patient host waits longer than an array may hold its request; another does not.
const PATIENCES: [Duration; 3] =
    [Duration::from_secs(45), Duration::from_millis(2500), Duration::from_millis(900)];
/// Longest wait for hosts to come to rest.
const REST_TIME_MAX: Duration = Duration::from_secs(60);

/// All hosts of a run.
#[derive(Debug)]
pub struct Hosts {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    judge: Mutex<Judge>,
    pause: AtomicBool,
    stop: AtomicBool,
    paused: AtomicUsize,
}

struct Host {
    number: usize,
    side: Side,
    target: Target,
    patience: Duration,
    dice: Dice,
    shared: Arc<Shared>,
}

impl Hosts {
    /// Starts `count` hosts at each array.
    pub fn start(targets: [Target; 2], count: usize, seed: u64) -> Hosts {
        let shared = Arc::new(Shared {
            judge: Mutex::new(Judge::new(SECTORS)),
            pause: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            paused: AtomicUsize::new(0),
        });
        let mut threads = Vec::new();
        for (side, target) in Side::BOTH.into_iter().zip(targets) {
            for _ in 0..count {
                let number = threads.len();
                let host = Host {
                    number,
                    side,
                    target: target.clone(),
                    patience: PATIENCES[number % PATIENCES.len()],
                    dice: Dice::new(seed.wrapping_mul(1000).wrapping_add(number as u64)),
                    shared: Arc::clone(&shared),
                };
                threads.push(thread::spawn(move || host.live()));
            }
        }
        Hosts { shared, threads }
    }

    /// The judge.
    pub fn judge(&self) -> MutexGuard<'_, Judge> {
        self.shared.judge()
    }

    /// Lets all finish what they do, and then wait. `Err`: some did not get an answer.
    pub fn pause(&self) -> Result<(), String> {
        self.shared.pause.store(true, Ordering::SeqCst);
        let begin = Instant::now();
        while self.shared.paused.load(Ordering::SeqCst) < self.threads.len() {
            if begin.elapsed() > REST_TIME_MAX {
                return Err(format!(
                    "hosts got no answer for {} s though both arrays are online",
                    REST_TIME_MAX.as_secs()
                ));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Lets them go on.
    pub fn resume(&self) {
        self.shared.pause.store(false, Ordering::SeqCst);
    }

    /// Ends them; what the judge knows.
    pub fn stop(self) -> Judge {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("hosts do not panic");
        }
        let shared = Arc::into_inner(self.shared).expect("no host is left");
        shared.judge.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads all sectors in use at a side, as a host of that side, and tells the judge. `Err`: they cannot be read.
pub fn read_all(hosts: &Hosts, side: Side, target: &Target) -> Result<Vec<u8>, String> {
    let failed = |error: NbdError| format!("cannot read at {} though it is online: {error}", side.name());
    let mut client = NbdClient::open(target.address, &target.volume).map_err(failed)?;
    let (ticket, _) = hosts.judge().sent(usize::MAX, side, Kind::Read, 0..SECTORS);
    match client.ask(Command::Read, 0, (SECTORS as usize * SECTOR_BYTES) as u32, &[]) {
        Ok(content) => {
            hosts.judge().done(ticket, &content);
            Ok(content)
        }
        Err(error) => {
            hosts.judge().not_done(ticket, Outcome::Failed);
            Err(failed(error))
        }
    }
}

impl Shared {
    fn judge(&self) -> MutexGuard<'_, Judge> {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rest(&self) {
        if !self.pause.load(Ordering::SeqCst) {
            return;
        }
        self.paused.fetch_add(1, Ordering::SeqCst);
        while self.pause.load(Ordering::SeqCst) && !self.stop.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
        self.paused.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Host {
    fn live(mut self) {
        while !self.shared.stop.load(Ordering::SeqCst) {
            self.shared.rest();
            let opened = NbdClient::open(self.target.address, &self.target.volume);
            if let Ok(mut client) = opened
                && client.set_patience(self.patience).is_ok()
            {
                self.use_up(&mut client);
            }
            thread::sleep(OPEN_AGAIN);
        }
    }

    /// Asks until the connection is of no use any more.
    fn use_up(&mut self, client: &mut NbdClient) {
        loop {
            self.shared.rest();
            if self.shared.stop.load(Ordering::SeqCst) || !self.ask(client) {
                return;
            }
            thread::sleep(Duration::from_millis(self.dice.below(THINK_MS)));
        }
    }

    /// One request; whether there can be another.
    fn ask(&mut self, client: &mut NbdClient) -> bool {
        let (kind, command) = match self.dice.below(20) {
            0 => (Kind::Zero, Command::WriteZeroes),
            1..=10 => (Kind::Write, Command::Write),
            _ => (Kind::Read, Command::Read),
        };
        let within = if self.dice.below(2) == 0 { HOT_SECTORS } else { SECTORS };
        let first = self.dice.below(within);
        let longest = if self.dice.below(4) == 0 { SECTORS_MAX } else { 1 };
        let end = (first + 1 + self.dice.below(longest)).min(SECTORS);
        let (ticket, number) = self.shared.judge().sent(self.number, self.side, kind, first..end);
        let content: Vec<u8> = match kind {
            Kind::Write => (first..end).flat_map(|sector| sector_bytes(sector, number)).collect(),
            _ => Vec::new(),
        };
        let bytes = (end - first) as u32 * SECTOR_BYTES as u32;
        let answer = client.ask(command, first * SECTOR_BYTES as u64, bytes, &content);
        let mut judge = self.shared.judge();
        match answer {
            Ok(content) => {
                judge.done(ticket, &content);
                true
            }
            Err(error) => {
                let outcome = outcome(&error);
                judge.not_done(ticket, outcome);
                false
            }
        }
    }
}

fn outcome(error: &NbdError) -> Outcome {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    match error {
        NbdError::Connection(error) if matches!(error.kind(), TimedOut | WouldBlock) => Outcome::Abandoned,
        NbdError::Connection(_) | NbdError::Protocol => Outcome::Lost,
        NbdError::Shutdown | NbdError::Failed(_) | NbdError::Refused(_) => Outcome::Failed,
    }
}
