//! Following many names to their records at once: gathered, sorted, then compared with the runs in order.
//!
//! A reference costs a sixteenth of a microsecond this way and microseconds when each is looked up (decision 0010), and it
//! does not matter how many records have moved since.
//!
//! - N1: a name is kept as its first eight bytes. Two chunks that share them keep each other alive: rare, and harmless.
//! - N2: at most [`NAMES_MAX`] names wait; then they are followed before more are taken.
//!   Two records of one name do not: of entries in several runs the newest is right, so the others are looked up.
//! - N3: a name is looked for in the recent table when it is given. What is not there is in a run then, and stays in one.

use std::sync::Arc;

use super::read::LookupFault;
use super::{PassError, Store};
use crate::digest::Digest;
use crate::index::{PAGE_BYTES, Run, RunFault, check_page, entry_at};
use crate::location::Location;

/// Names that wait, at eight bytes each.
const NAMES_MAX: usize = 4 << 20;

/// Names looked at under one lock.
const NAMES_AT_ONCE: usize = 256;

/// Locations gathered before they are marked.
const FOUND_MAX: usize = 64 << 10;

/// Locations marked under one lock.
const LOCATIONS_AT_ONCE: usize = 1024;

/// Pages read with one call.
const PAGES_AT_ONCE: u32 = 64;

/// Names that wait to be followed.
#[derive(Default)]
pub(super) struct Wanted {
    names: Vec<u64>,
    /// Names of which no record was found.
    pub(super) missing: u64,
}

impl Store {
    /// Takes names in; marks the records of those that are in the recent table at once (N3).
    pub(super) fn want(&self, digests: &[Digest], wanted: &mut Wanted) {
        for batch in digests.chunks(NAMES_AT_ONCE) {
            let mut inner = self.lock();
            for digest in batch {
                if let Some(location) = inner.recent.get(digest).copied() {
                    let is_there = inner.set_live_if_visible(location) || inner.staged.contains_key(digest);
                    wanted.missing += u64::from(!is_there);
                } else if !inner.staged.contains_key(digest) {
                    // What is staged is written, or found to be stored, later than the pass began.
                    wanted.names.push(digest.prefix());
                }
            }
        }
    }

    /// Marks the records of all names that wait.
    pub(super) async fn follow(&self, wanted: &mut Wanted) -> Result<(), PassError> {
        let mut names = std::mem::take(&mut wanted.names);
        names.sort_unstable();
        names.dedup();
        let runs = self.lock().runs.clone();
        let mut met = vec![0_u64; names.len().div_ceil(64)];
        for run in runs.iter() {
            let mut met_here = met.clone();
            let doubtful = self.follow_in(run, &names, &met, &mut met_here).await?;
            met = met_here;
            for (digest, location) in doubtful {
                let right = self.lookup(&digest).await.map_err(PassError::from)?;
                if right == Some(location) {
                    self.lock().set_live_if_visible(location);
                }
            }
        }
        let met: u64 = met.iter().map(|word| u64::from(word.count_ones())).sum();
        wanted.missing += names.len() as u64 - met;
        Ok(())
    }

    /// Marks what one run has of the names; gives the entries of those that a newer run has met already.
    async fn follow_in(
        &self,
        run: &Arc<Run>,
        names: &[u64],
        met_before: &[u64],
        met: &mut [u64],
    ) -> Result<Vec<(Digest, Location)>, PassError> {
        let mut doubtful = Vec::new();
        let mut found: Vec<Location> = Vec::new();
        let mut at = 0;
        let mut page = 0;
        while let Some(pages) = run.pages_with(page, names, PAGES_AT_ONCE) {
            page = pages.end;
            let bytes = run.read_pages(&self.shared.io, pages.start, pages.end - pages.start).await;
            let bytes = bytes.map_err(|fault| self.index_fault(fault))?;
            for (number, bytes) in pages.zip(bytes.chunks_exact(PAGE_BYTES)) {
                let count = check_page(run.record.id, number, bytes);
                let count = count.ok_or_else(|| self.index_fault(RunFault::Damaged))?;
                for index in 0..count {
                    let entry = entry_at(bytes, index);
                    let name = entry.digest.prefix();
                    while names.get(at).is_some_and(|next| *next < name) {
                        at += 1;
                    }
                    if names.get(at) != Some(&name) {
                        continue;
                    }
                    met[at / 64] |= 1 << (at % 64);
                    match met_before[at / 64] >> (at % 64) & 1 {
                        0 => found.push(entry.location),
                        _ => doubtful.push((entry.digest, entry.location)),
                    }
                }
            }
            if found.len() >= FOUND_MAX {
                self.set_live_sorted(&mut found);
            }
        }
        self.set_live_sorted(&mut found);
        Ok(doubtful)
    }

    /// Marks records in the order in which they lie, so that what is known of a segment is looked up once for many.
    fn set_live_sorted(&self, found: &mut Vec<Location>) {
        found.sort_unstable();
        for batch in found.chunks(LOCATIONS_AT_ONCE) {
            // One that was superseded since has a successor, which was born since.
            self.lock().set_live_where_visible(batch);
        }
        found.clear();
    }

    pub(super) fn index_fault(&self, fault: RunFault) -> PassError {
        match fault {
            RunFault::Damaged => {
                self.lock().rebuild_index = true;
                PassError::IndexDamaged
            }
            RunFault::Media(error) => PassError::Index(error),
        }
    }
}

impl From<LookupFault> for PassError {
    fn from(fault: LookupFault) -> PassError {
        match fault {
            LookupFault::Damaged => PassError::IndexDamaged,
            LookupFault::Media(error) => PassError::Index(error),
        }
    }
}

impl Wanted {
    /// Takes over what another call has left.
    pub(super) fn add(&mut self, mut other: Wanted) {
        // Appended is the shorter one: nearly always this one is empty, and the other has millions.
        if self.names.len() < other.names.len() {
            std::mem::swap(&mut self.names, &mut other.names);
        }
        self.names.append(&mut other.names);
        self.missing += other.missing;
    }

    /// Whether what waits is to be followed before more is taken (N2).
    pub(super) fn is_full(&self) -> bool {
        self.names.len() >= NAMES_MAX
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    use bytes::Bytes;
    use metropod_journal::media::{Io, sim::SimMedia};

    use crate::digest::{Digest, Domain, digest};
    use crate::reduce::Payload;
    use crate::store::{Store, StoreConfig};

    fn now<F: Future>(flow: F) -> F::Output {
        match pin!(flow).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("inline media answer at once"),
        }
    }

    /// Chunk `n`; groups of 300 share the first eight bytes of their names, more than fit a page.
    fn name(n: u64) -> Digest {
        let mut name = digest(Domain::Data, &n.to_le_bytes());
        let group = digest(Domain::Data, &(n / 300).to_be_bytes());
        name.0[..8].copy_from_slice(&group.0[..8]);
        name
    }

    #[test]
    fn names_that_share_their_first_bytes_are_found_across_pages_and_others_die() {
        let config = StoreConfig { recent_entries_max: 500, ..StoreConfig::new([1; 16]) };
        let store = now(Store::open(Io::inline(Arc::new(SimMedia::new())), config, None)).unwrap();
        for n in 0..3000 {
            store.stage(Domain::Data, name(n), Payload::raw(Bytes::copy_from_slice(&n.to_le_bytes())));
            if n % 500 == 499 {
                now(store.flush()).unwrap();
            }
        }
        assert_eq!(store.stats().recent_entries, 0, "all of them are in runs");
        let pass = store.begin_pass().unwrap();
        let (kept, lost) = ([name(10), name(950), name(2999)], digest(Domain::Data, b"never stored"));
        now(pass.mark(&kept)).unwrap();
        now(pass.mark(&[lost])).unwrap();
        let collected = now(pass.finish()).unwrap();
        assert_eq!((collected.dead_chunks, collected.missing_chunks), (3000 - 3 * 300, 1));
        let alive: Vec<bool> = now(store.have(&(0..3000).map(name).collect::<Vec<_>>())).unwrap();
        for (n, alive) in alive.into_iter().enumerate() {
            assert_eq!(alive, matches!(n / 300, 0 | 3 | 9), "{n}");
        }
    }
}
