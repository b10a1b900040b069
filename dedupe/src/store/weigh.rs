//! What chunks take: the length of their records, by name, and what the files take besides.
//!
//! - Q1: a chunk counts as its record does in [`StoreStats::stored_bytes`](super::StoreStats::stored_bytes), also while it is
//!   staged and the record is still to be written. So what it takes does not change when it is hardened or moved.
//! - Q2: names are looked for as a pass does it: in memory, then along the runs in order; the few that were moved meanwhile one
//!   by one. Nothing is marked.
//! - Q3: a [`Census`] is of one instant.

use std::sync::Arc;

use super::read::LOOKUPS_AT_ONCE;
use super::{Inner, PassError, Store};
use crate::digest::Digest;
use crate::index::{PAGE_BYTES, Run, RunFault, check_page, entry_at};
use crate::location::{Location, counted_bytes};
use crate::segment::record_bytes;

/// Names looked at under one lock.
const NAMES_AT_ONCE: usize = 256;

/// Pages read with one call.
const PAGES_AT_ONCE: u32 = 64;

/// What chunks take.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Weighed {
    /// Length of each one's record, in bytes, in the order of the names; zero: it is not here.
    pub bytes: Vec<u32>,
    /// Those that were staged only, for [`Store::census`].
    pub staged: Vec<Digest>,
    /// How many are not here.
    pub missing: u64,
}

/// What everything takes, in bytes. `stored + cleanable + overhead + freed = used`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    /// Records that are not known to be garbage.
    pub stored_bytes: u64,
    /// Of the staged chunks asked for, those that are still not stored.
    pub staged_bytes: u64,
    /// What cleaning the segments gives back that hold dead records, were all of them cleaned.
    pub cleanable_bytes: u64,
    /// Headers, footers, padding, and room that segments being written to have left; less what records count too much, for
    /// their lengths are known in steps.
    pub overhead_bytes: i64,
    /// Segments whose files go with the next checkpoint.
    pub freed_bytes: u64,
    /// All segment files.
    pub used_bytes: u64,
    /// Files of the index.
    pub index_bytes: u64,
}

impl Store {
    /// What chunks take. `names` are in order.
    pub async fn weigh(&self, names: &[Digest]) -> Result<Weighed, PassError> {
        assert!(names.is_sorted(), "names are looked for along the runs");
        let mut found = Found { bytes: vec![0; names.len()], staged: Vec::new(), open: Vec::new() };
        for (batch, first) in names.chunks(NAMES_AT_ONCE).zip((0..).step_by(NAMES_AT_ONCE)) {
            let inner = self.lock();
            (first..).zip(batch).for_each(|(at, name)| found.look(&inner, at, name));
        }
        let runs = self.lock().runs.clone();
        for run in runs.iter() {
            self.weigh_in(run, names, &mut found).await?;
        }
        // Staged and not in a run; or moved since the look above, and then in the recent table now.
        let left: Vec<usize> = found.open.iter().copied().filter(|at| found.bytes[*at] == 0).collect();
        for at in left {
            if let Some(location) = self.lookup(&names[at]).await.map_err(PassError::from)? {
                found.bytes[at] = location.length_max();
            }
        }
        let mut weighed = Weighed { bytes: found.bytes, ..Weighed::default() };
        for (at, bytes) in found.staged {
            if weighed.bytes[at] == 0 {
                weighed.bytes[at] = bytes;
                weighed.staged.push(names[at]);
            }
        }
        weighed.missing = weighed.bytes.iter().filter(|bytes| **bytes == 0).count() as u64;
        Ok(weighed)
    }

    /// What everything takes now; of staged chunks, those that were found staged before.
    pub async fn census(&self, staged: &[Digest]) -> Result<Census, PassError> {
        let mut waiting = Vec::with_capacity(staged.len());
        for batch in staged.chunks(LOOKUPS_AT_ONCE) {
            // One that was staged again is stored.
            let found = self.lookup_batch(batch).await;
            for (digest, found) in batch.iter().zip(found) {
                if found.map_err(PassError::from)?.is_none() {
                    waiting.push(*digest);
                }
            }
        }
        Ok(self.lock().census(&waiting, self.shared.config.segment_bytes))
    }

    /// Takes what one run has of the names that no newer one has.
    async fn weigh_in(&self, run: &Arc<Run>, names: &[Digest], found: &mut Found) -> Result<(), PassError> {
        let prefixes: Vec<u64> = found.open.iter().map(|at| names[*at].prefix()).collect();
        let (mut next, mut page) = (0, 0);
        while let Some(pages) = run.pages_with(page, &prefixes, PAGES_AT_ONCE) {
            page = pages.end;
            let bytes = run.read_pages(&self.shared.io, pages.start, pages.end - pages.start).await;
            let bytes = bytes.map_err(|fault| self.index_fault(fault))?;
            let mut met: Vec<(usize, Location)> = Vec::new();
            for (number, bytes) in pages.zip(bytes.chunks_exact(PAGE_BYTES)) {
                let count = check_page(run.record.id, number, bytes);
                let count = count.ok_or_else(|| self.index_fault(RunFault::Damaged))?;
                for entry in (0..count).map(|index| entry_at(bytes, index)) {
                    while found.open.get(next).is_some_and(|at| names[*at] < entry.digest) {
                        next += 1;
                    }
                    let at = found.open.get(next).copied().filter(|at| names[*at] == entry.digest);
                    met.extend(at.filter(|at| found.bytes[*at] == 0).map(|at| (at, entry.location)));
                }
            }
            for batch in met.chunks(NAMES_AT_ONCE) {
                let inner = self.lock();
                for (at, location) in batch {
                    found.bytes[*at] = inner.only_visible(*location).map_or(0, Location::length_max);
                }
            }
        }
        found.open.retain(|at| found.bytes[*at] == 0);
        Ok(())
    }
}

/// What is known of the names while they are looked for.
struct Found {
    bytes: Vec<u32>,
    /// What they will take, of those that were staged.
    staged: Vec<(usize, u32)>,
    /// Those that may be in a run, in order.
    open: Vec<usize>,
}

impl Found {
    fn look(&mut self, inner: &Inner, at: usize, name: &Digest) {
        if let Some(location) = inner.in_recent(name) {
            self.bytes[at] = location.length_max();
            return;
        }
        if let Some(staged) = inner.staged.get(name) {
            self.staged.push((at, counted_bytes(record_bytes(&staged.payload))));
        }
        self.open.push(at);
    }
}

impl Inner {
    /// Its record, if the table has it and it is not dead: one that died may be staged again.
    fn in_recent(&self, name: &Digest) -> Option<Location> {
        self.recent.get(name).and_then(|location| self.only_visible(*location))
    }

    fn census(&self, staged: &[Digest], segment_bytes: u32) -> Census {
        let mut census = Census {
            used_bytes: self.used_bytes,
            freed_bytes: self.freed_bytes(segment_bytes),
            index_bytes: self.dead_list.as_ref().map_or(0, |list| list.file_bytes),
            ..Census::default()
        };
        for segment in self.segments.values() {
            census.stored_bytes += segment.live_bytes;
            if segment.live_records < segment.records && !self.open.contains(&segment.id) {
                census.cleanable_bytes += u64::from(segment.length).saturating_sub(segment.live_bytes);
            }
        }
        // One that is not staged any more was hardened since it was looked up.
        let waits = staged.iter().filter(|name| self.in_recent(name).is_none());
        let waits = waits.filter_map(|name| self.staged.get(name));
        census.staged_bytes =
            waits.map(|staged| u64::from(counted_bytes(record_bytes(&staged.payload)))).sum();
        census.index_bytes += self.runs.iter().map(|run| run.record.file_bytes).sum::<u64>();
        let known = census.stored_bytes + census.cleanable_bytes + census.freed_bytes;
        census.overhead_bytes = census.used_bytes as i64 - known as i64;
        census
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
    use crate::reduce::{Compression, pack};
    use crate::store::{Store, StoreConfig};

    fn now<F: Future>(flow: F) -> F::Output {
        match pin!(flow).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("inline media answer at once"),
        }
    }

    /// Chunks of all lengths.
    fn stage(store: &Store, n: u64) -> Digest {
        let mut content = vec![0; 4096 + 8];
        let mut filler = blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof();
        filler.fill(&mut content[..(n as usize * 37) % 4096 + 8]);
        let name = digest(Domain::Data, &content);
        store.stage(Domain::Data, name, pack(&content, Compression::WhenItPays));
        name
    }

    fn open(config: StoreConfig) -> Store {
        now(Store::open(Io::inline(Arc::new(SimMedia::new())), config, None)).unwrap()
    }

    #[test]
    fn the_weights_of_all_names_are_what_is_stored_wherever_they_lie_and_stay_when_they_move() {
        let store = open(StoreConfig {
            recent_entries_max: 300,
            segment_bytes: 256 << 10,
            ..StoreConfig::new([1; 16])
        });
        let mut names: Vec<Digest> = Vec::new();
        for n in 0..2000 {
            names.push(stage(&store, n));
            if n % 250 == 249 && n < 1800 {
                now(store.flush()).unwrap();
            }
        }
        names.sort_unstable();
        let stats = store.stats();
        assert!(stats.runs > 0 && stats.recent_entries > 0 && stats.staged > 0);
        let before = now(store.weigh(&names)).unwrap();
        assert_eq!((before.missing, before.staged.len() as u64), (0, stats.staged));
        let census = now(store.census(&before.staged)).unwrap();
        let sum = |bytes: &[u32]| bytes.iter().map(|bytes| u64::from(*bytes)).sum::<u64>();
        assert_eq!(sum(&before.bytes), census.stored_bytes + census.staged_bytes);
        assert_eq!(census.stored_bytes, stats.stored_bytes);

        // Every other one dies, the others are moved; what was staged is stored.
        let kept: Vec<Digest> = names.iter().copied().step_by(2).collect();
        now(store.flush()).unwrap();
        let pass = store.begin_pass().unwrap();
        now(pass.mark(&kept)).unwrap();
        now(pass.finish()).unwrap();
        let dead = now(store.census(&[])).unwrap();
        assert!(dead.cleanable_bytes > 0);
        now(store.clean(90, u64::MAX)).unwrap();
        let after = now(store.weigh(&kept)).unwrap();
        assert!(after.bytes.iter().eq(before.bytes.iter().step_by(2)));
        // Most of those that died are still named by runs.
        let gone: Vec<Digest> = names.iter().copied().skip(1).step_by(2).collect();
        assert_eq!(now(store.weigh(&gone)).unwrap().missing, gone.len() as u64);
        let census = now(store.census(&before.staged)).unwrap();
        assert_eq!((sum(&after.bytes), census.staged_bytes), (census.stored_bytes, 0));
        assert!(census.freed_bytes > 0 && census.cleanable_bytes < dead.cleanable_bytes);
        let files = census.stored_bytes + census.cleanable_bytes + census.freed_bytes;
        assert_eq!(files as i64 + census.overhead_bytes, census.used_bytes as i64);
    }

    #[test]
    fn what_is_staged_a_second_time_is_no_more_than_what_is_stored() {
        let store = open(StoreConfig::new([1; 16]));
        let name = stage(&store, 5);
        now(store.flush()).unwrap();
        stage(&store, 5);
        assert_eq!(store.stats().staged, 1);
        let weighed = now(store.weigh(&[name])).unwrap();
        assert_eq!(weighed.staged, []);
        let stale = Bytes::from_static(b"never stored");
        assert_eq!(now(store.weigh(&[digest(Domain::Data, &stale)])).unwrap().missing, 1);
        let census = now(store.census(&[name])).unwrap();
        assert_eq!((census.stored_bytes, census.staged_bytes), (u64::from(weighed.bytes[0]), 0));

        // It dies, is named by the table still, and comes back.
        now(store.flush()).unwrap();
        now(store.begin_pass().unwrap().finish()).unwrap();
        assert_eq!(now(store.weigh(&[name])).unwrap().missing, 1);
        stage(&store, 5);
        let again = now(store.weigh(&[name])).unwrap();
        assert_eq!((&again.bytes, &again.staged), (&weighed.bytes, &vec![name]));
        let census = now(store.census(&again.staged)).unwrap();
        assert_eq!((census.stored_bytes, census.staged_bytes), (0, u64::from(weighed.bytes[0])));
    }
}
