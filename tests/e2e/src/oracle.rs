//! What a volume must hold: per sector the newest acknowledged write, and writes that nobody knows the end of.
//!
//! - O1: writes of one sector do not overlap in time: each sector has one writer, which waits for its answer or loses
//!   its connection.
//! - O2: an acknowledged write ends the doubt about earlier ones: they never show again.
//! - O3: content that was once read stays until a newer write replaces it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::content::{self, SECTOR_BYTES};
use crate::nbd::NbdClient;

/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;
/// Mismatches that are told at most.
const MISMATCHES_TOLD_MAX: usize = 10;

/// The memory of a volume's hosts.
#[derive(Debug)]
pub struct Oracle {
    state: Mutex<State>,
    ids: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// Content id that was acknowledged last, per sector.
    acknowledged: Vec<u64>,
    /// Newest id that any read saw, per sector; kept only by [`Oracle::observe`].
    observed: Vec<u64>,
    /// Ids that may or may not be there, per sector.
    doubtful: BTreeMap<u64, Vec<u64>>,
}

/// A sector that does not hold what it must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Which.
    pub sector: u64,
    /// Content id found; `None`: not any write's content.
    pub found: Option<u64>,
    /// Content id acknowledged last.
    pub acknowledged: u64,
    /// Others that may be there.
    pub doubtful: Vec<u64>,
}

impl Oracle {
    /// An empty volume.
    pub fn new(size_bytes: u64) -> Oracle {
        let sectors = usize::try_from(size_bytes).expect("test volumes are small") / SECTOR_BYTES;
        let (acknowledged, observed) = (vec![0; sectors], vec![0; sectors]);
        let state = State { acknowledged, observed, doubtful: BTreeMap::new() };
        Oracle { state: Mutex::new(state), ids: AtomicU64::new(0) }
    }

    /// A number for a write.
    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A write of `id` (0: zeroes) is about to be sent.
    pub(crate) fn begun(&self, sectors: Range<u64>, id: u64) {
        let mut state = self.lock();
        for sector in sectors {
            state.doubtful.entry(sector).or_default().push(id);
        }
    }

    /// It was acknowledged.
    pub(crate) fn acknowledged(&self, sectors: Range<u64>, id: u64) {
        let mut state = self.lock();
        for sector in sectors {
            state.acknowledged[sector as usize] = id;
            state.doubtful.remove(&sector);
        }
    }

    /// Oldest ids that a read may show which begins now, per sector. For volumes that are never zeroed.
    pub fn floor(&self, sectors: Range<u64>) -> Vec<u64> {
        let state = self.lock();
        let floor = |sector| u64::max(state.acknowledged[sector as usize], state.observed[sector as usize]);
        sectors.map(floor).collect()
    }

    /// Judges a read that began at `floor`, against writes that are under way all the while.
    pub fn observe(&self, first: u64, floor: &[u64], data: &[u8]) -> Result<(), Vec<Mismatch>> {
        let mut state = self.lock();
        let mut mismatches = Vec::new();
        for ((sector, oldest), bytes) in (first..).zip(floor).zip(data.chunks(SECTOR_BYTES)) {
            let newest = self.ids.load(Ordering::Relaxed);
            match content::id_of(sector, bytes) {
                Some(id) if (*oldest..=newest).contains(&id) => {
                    let observed = &mut state.observed[sector as usize];
                    *observed = id.max(*observed);
                }
                found => mismatches.push(state.mismatch(sector, found)),
            }
        }
        told(mismatches)
    }

    /// Judges a read while nobody writes; what is found ends all doubt.
    pub fn settle(&self, first: u64, data: &[u8]) -> Result<(), Vec<Mismatch>> {
        let mut state = self.lock();
        let mut mismatches = Vec::new();
        for (sector, bytes) in (first..).zip(data.chunks(SECTOR_BYTES)) {
            match content::id_of(sector, bytes) {
                Some(id) if state.may_hold(sector, id) => {
                    state.acknowledged[sector as usize] = id;
                    state.doubtful.remove(&sector);
                }
                found => mismatches.push(state.mismatch(sector, found)),
            }
        }
        told(mismatches)
    }

    /// Reads the whole volume while nobody writes; panics with what is wrong. What is found ends all doubt.
    pub fn verify(&self, client: &mut NbdClient, where_: &str) {
        let size_bytes = (self.lock().acknowledged.len() * SECTOR_BYTES) as u64;
        assert_eq!(client.size_bytes(), size_bytes, "{where_}: the volume's size");
        let mut chunk = vec![0; READ_BYTES];
        for offset in (0..size_bytes).step_by(READ_BYTES) {
            let length = usize::try_from(size_bytes - offset).map_or(READ_BYTES, |left| left.min(READ_BYTES));
            client
                .read(offset, &mut chunk[..length])
                .unwrap_or_else(|error| panic!("{where_}: cannot read at {offset}: {error}"));
            if let Err(mismatches) = self.settle(offset / SECTOR_BYTES as u64, &chunk[..length]) {
                panic!("{where_}: sectors without what was acknowledged, the first of them: {mismatches:?}");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn may_hold(&self, sector: u64, id: u64) -> bool {
        let known = self.acknowledged[sector as usize] == id
            || self.doubtful.get(&sector).is_some_and(|ids| ids.contains(&id));
        // O3; zeroes have no number and are not looked for among what was observed.
        known && (id == 0 || id >= self.observed[sector as usize])
    }

    fn mismatch(&self, sector: u64, found: Option<u64>) -> Mismatch {
        let doubtful = self.doubtful.get(&sector).cloned().unwrap_or_default();
        Mismatch { sector, found, acknowledged: self.acknowledged[sector as usize], doubtful }
    }
}

fn told(mut mismatches: Vec<Mismatch>) -> Result<(), Vec<Mismatch>> {
    mismatches.truncate(MISMATCHES_TOLD_MAX);
    if mismatches.is_empty() { Ok(()) } else { Err(mismatches) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sector(number: u64, id: u64) -> Vec<u8> {
        let mut bytes = vec![0; SECTOR_BYTES];
        content::compose(number, id, &mut bytes);
        bytes
    }

    #[test]
    fn a_write_without_answer_may_be_there_or_not_until_it_is_looked_for() {
        let oracle = Oracle::new(1 << 20);
        let (old, new) = (oracle.next_id(), oracle.next_id());
        oracle.begun(5..6, old);
        oracle.acknowledged(5..6, old);
        oracle.begun(5..6, new);
        assert!(oracle.settle(5, &sector(5, 0)).is_err(), "an acknowledged write is lost");
        assert!(oracle.settle(5, &sector(5, new)).is_ok());
        assert!(oracle.settle(5, &sector(5, old)).is_err(), "it was there and is gone");
    }

    #[test]
    fn an_acknowledgement_ends_the_doubt_about_earlier_writes() {
        let oracle = Oracle::new(1 << 20);
        let (lost, new) = (oracle.next_id(), oracle.next_id());
        oracle.begun(5..6, lost);
        oracle.begun(5..6, new);
        oracle.acknowledged(5..6, new);
        assert!(oracle.settle(5, &sector(5, lost)).is_err());
    }

    #[test]
    fn a_read_shows_nothing_older_than_what_was_there_when_it_began() {
        let oracle = Oracle::new(1 << 20);
        let (old, new) = (oracle.next_id(), oracle.next_id());
        oracle.begun(0..1, old);
        oracle.acknowledged(0..1, old);
        let floor = oracle.floor(0..1);
        oracle.begun(0..1, new);
        assert!(oracle.observe(0, &floor, &sector(0, old)).is_ok());
        assert!(oracle.observe(0, &floor, &sector(0, new)).is_ok());
        let floor = oracle.floor(0..1);
        assert!(oracle.observe(0, &floor, &sector(0, old)).is_err(), "a newer one was read already");
    }
}
