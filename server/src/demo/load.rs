//! Hosts at both sites: writers that never pause by themselves and remember what was acknowledged.
//!
//! - L1: every block belongs to one writer (oracle O1); writers at both sites share every volume, stripe by stripe.
//! - L2: a writer whose connection fails opens a new one, wherever its site's array is by then.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::client::nbd::{NbdClient, NbdError, TRANSFER_BYTES_MAX};

use super::content::{Content, Dice};
use super::oracle::{BLOCK_BYTES, ContentHash, Oracle};
use super::sites::Site;

/// Writers per site and volume.
const WRITERS: usize = 2;
/// Neighbouring blocks that belong to one writer; the longest write.
const STRIPE_BLOCKS: usize = 16;
/// How long a host waits for an answer: longer than a pod is held.
const HOST_PATIENCE: Duration = Duration::from_secs(40);
/// Pause before a connection is tried again.
const RECONNECT: Duration = Duration::from_millis(20);
/// One in so many operations reads back.
const READ_ONE_IN: u64 = 8;

/// One volume and what it must hold.
#[derive(Debug)]
pub(super) struct LoadVolume {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) oracle: Oracle,
}

/// What writers share.
#[derive(Debug)]
pub(super) struct Hosts {
    pub(super) volumes: Vec<LoadVolume>,
    content: Arc<Content>,
    addresses: [Mutex<Option<SocketAddr>>; 2],
    tapes: [Mutex<Tape>; 2],
    stamps: AtomicU64,
    acknowledged: AtomicU64,
    lost: AtomicU64,
}

/// What happened at one site.
#[derive(Debug, Default)]
struct Tape {
    completions: Vec<Completion>,
    errors: Vec<(Instant, String)>,
}

#[derive(Debug, Clone, Copy)]
struct Completion {
    at: Instant,
    took: Duration,
}

/// How long hosts at a site were kept waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pause {
    /// Longest time without any completion.
    pub(super) gap: Duration,
    /// Longest single write.
    pub(super) slowest: Duration,
}

/// Writers at work.
#[derive(Debug)]
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<()>>,
}

impl Hosts {
    pub(super) fn new(volumes: Vec<LoadVolume>, content: Arc<Content>) -> Arc<Hosts> {
        Arc::new(Hosts {
            volumes,
            content,
            addresses: [Mutex::new(None), Mutex::new(None)],
            tapes: [Mutex::default(), Mutex::default()],
            stamps: AtomicU64::new(1),
            acknowledged: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        })
    }

    /// Where a site's array takes NBD clients, if it runs.
    pub(super) fn set_address(&self, site: Site, address: Option<SocketAddr>) {
        *self.addresses[site as usize].lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    fn address(&self, site: Site) -> Option<SocketAddr> {
        *self.addresses[site as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a volume at a site.
    pub(super) fn open(&self, site: Site, volume: usize) -> Result<NbdClient, NbdError> {
        let address = self.address(site).ok_or(NbdError::Shutdown)?;
        NbdClient::open(address, &self.volumes[volume].name, HOST_PATIENCE)
    }

    /// Writes acknowledged so far.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Blocks that were read back wrong so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Copies real data into the first `bytes` of every volume through `site`, all volumes at once.
    pub(super) fn fill(&self, site: Site, bytes: u64) -> Result<(), NbdError> {
        std::thread::scope(|scope| {
            let fillers: Vec<_> = (0..self.volumes.len())
                .map(|volume| scope.spawn(move || self.fill_volume(site, volume, bytes)))
                .collect();
            fillers.into_iter().try_for_each(|filler| filler.join().expect("fillers do not panic"))
        })
    }

    fn fill_volume(&self, site: Site, volume: usize, bytes: u64) -> Result<(), NbdError> {
        let mut client = self.open(site, volume)?;
        let mut chunk = vec![0; TRANSFER_BYTES_MAX];
        for offset in (0..bytes).step_by(TRANSFER_BYTES_MAX) {
            self.content.copy(volume as u64 * bytes + offset, &mut chunk);
            self.write(&mut client, volume, (offset / BLOCK_BYTES as u64) as usize, &chunk)?;
        }
        client.flush()?;
        client.close()
    }

    /// Writes `data` from block `first` on, and keeps the oracle informed.
    fn write(
        &self,
        client: &mut NbdClient,
        volume: usize,
        first: usize,
        data: &[u8],
    ) -> Result<(), NbdError> {
        let oracle = &self.volumes[volume].oracle;
        let contents = ContentHash::of_blocks(data);
        oracle.begun(first, &contents);
        client.write((first * BLOCK_BYTES) as u64, data)?;
        oracle.acknowledged(first, &contents);
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Starts writers at both sites on all volumes.
    pub(super) fn start(self: &Arc<Hosts>) -> std::io::Result<Load> {
        let mut load = Load { stop: Arc::default(), writers: Vec::new() };
        let sharers = Site::BOTH.len() * WRITERS;
        for volume in 0..self.volumes.len() {
            for share in 0..sharers {
                let site = Site::BOTH[share % Site::BOTH.len()];
                let (hosts, stop) = (self.clone(), load.stop.clone());
                let seed = self.stamps.fetch_add(1, Ordering::Relaxed);
                let writer = move || {
                    Writer { hosts, stop, site, volume, share, sharers, dice: Dice::new(seed) }.work();
                };
                load.writers.push(std::thread::Builder::new().name("demo-host".into()).spawn(writer)?);
            }
        }
        Ok(load)
    }

    /// How long hosts at `site` were kept waiting between two instants; `None` if nothing completed in between.
    pub(super) fn pause(&self, site: Site, from: Instant, until: Instant) -> Option<Pause> {
        let mut completions = self.tape(site).completions.clone();
        completions.sort_by_key(|completion| completion.at);
        let before = completions.partition_point(|completion| completion.at < from);
        let begin = before.checked_sub(1).map_or(from, |last| completions[last].at);
        let within: Vec<_> =
            completions[before..].iter().filter(|completion| completion.at <= until).collect();
        let slowest = within.iter().map(|completion| completion.took).max()?;
        let marks = std::iter::once(begin).chain(within.iter().map(|completion| completion.at));
        let ends = within.iter().map(|completion| completion.at).chain([until]);
        let gap = marks.zip(ends).map(|(one, next)| next - one).max()?;
        Some(Pause { gap, slowest })
    }

    /// Number of writes that completed at `site` between two instants.
    pub(super) fn completed(&self, site: Site, from: Instant, until: Instant) -> usize {
        let tape = self.tape(site);
        tape.completions.iter().filter(|completion| (from..=until).contains(&completion.at)).count()
    }

    /// Errors that hosts at `site` met between two instants.
    pub(super) fn errors(&self, site: Site, from: Instant, until: Instant) -> Vec<String> {
        let tape = self.tape(site);
        tape.errors
            .iter()
            .filter(|(at, _)| (from..=until).contains(at))
            .map(|(_, text)| text.clone())
            .collect()
    }

    fn tape(&self, site: Site) -> MutexGuard<'_, Tape> {
        self.tapes[site as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Load {
    /// Lets every writer finish its operation.
    pub(super) fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for writer in self.writers.drain(..) {
            writer.join().expect("writers do not panic");
        }
    }
}

impl Drop for Load {
    /// Writers that are not waited for end by themselves.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Writer {
    hosts: Arc<Hosts>,
    stop: Arc<AtomicBool>,
    site: Site,
    volume: usize,
    /// Every `sharers`-th stripe, beginning with this one.
    share: usize,
    sharers: usize,
    dice: Dice,
}

impl Writer {
    fn work(mut self) {
        let mut open = None;
        while !self.stop.load(Ordering::Relaxed) {
            let Some(client) = open.as_mut() else {
                match self.hosts.open(self.site, self.volume) {
                    Ok(client) => open = Some(client),
                    // The array does not run, or does not serve now: L2.
                    Err(_) => std::thread::sleep(RECONNECT),
                }
                continue;
            };
            if let Err(error) = self.operate(client) {
                self.hosts.tape(self.site).errors.push((Instant::now(), error.to_string()));
                open = None;
            }
        }
    }

    fn operate(&mut self, client: &mut NbdClient) -> Result<(), NbdError> {
        let volume = &self.hosts.volumes[self.volume];
        let stripes = volume.bytes / (STRIPE_BLOCKS * BLOCK_BYTES) as u64 / self.sharers as u64;
        let stripe = self.dice.below(stripes) as usize * self.sharers + self.share;
        let count = match self.dice.below(4) {
            0 => 1 + self.dice.below(STRIPE_BLOCKS as u64) as usize,
            _ => 1,
        };
        let first = stripe * STRIPE_BLOCKS + self.dice.below((STRIPE_BLOCKS - count) as u64 + 1) as usize;
        let mut data = vec![0; count * BLOCK_BYTES];
        if self.dice.below(READ_ONE_IN) == 0 {
            client.read((first * BLOCK_BYTES) as u64, &mut data)?;
            let lost = volume.oracle.count_lost(first, &ContentHash::of_blocks(&data));
            self.hosts.lost.fetch_add(lost, Ordering::Relaxed);
            return Ok(());
        }
        for block in data.chunks_mut(BLOCK_BYTES) {
            let stamp = self.hosts.stamps.fetch_add(1, Ordering::Relaxed);
            self.hosts.content.compose(&mut self.dice, stamp, block);
        }
        let begin = Instant::now();
        self.hosts.write(client, self.volume, first, &data)?;
        let at = Instant::now();
        self.hosts.tape(self.site).completions.push(Completion { at, took: at - begin });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts_with(completions: &[u64], begin: Instant) -> Arc<Hosts> {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image");
        std::fs::write(&image, [1; BLOCK_BYTES]).unwrap();
        let hosts = Hosts::new(Vec::new(), Arc::new(Content::gather(Some(&image), 1 << 20).unwrap()));
        for milliseconds in completions {
            let at = begin + Duration::from_millis(*milliseconds);
            hosts.tape(Site::B).completions.push(Completion { at, took: Duration::from_millis(1) });
        }
        hosts
    }

    #[test]
    fn a_pause_begins_at_the_last_completion_before_the_fault() {
        let begin = Instant::now();
        let hosts = hosts_with(&[10, 90, 400, 410], begin);
        let at = |milliseconds| begin + Duration::from_millis(milliseconds);
        assert_eq!(hosts.pause(Site::B, at(100), at(450)).unwrap().gap, Duration::from_millis(310));
        assert_eq!(hosts.pause(Site::B, at(100), at(2000)).unwrap().gap, Duration::from_millis(1590));
        assert_eq!(hosts.pause(Site::B, at(500), at(900)), None);
        assert_eq!(hosts.pause(Site::A, at(0), at(900)), None);
        assert_eq!(hosts.completed(Site::B, at(90), at(400)), 2);
    }
}
