//! Runs, filters and merges against a sorted map.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use metropod_journal::media::Io;
use metropod_journal::media::sim::SimMedia;
use proptest::prelude::*;

use super::*;
use crate::digest::Digest;
use crate::location::{Location, SegmentId};

const ARRAY: [u8; 16] = [7; 16];

fn now<F: Future>(flow: F) -> F::Output {
    match pin!(flow).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("inline media answer at once"),
    }
}

/// Digests in clusters: some share their first eight bytes, so that fences cannot tell them apart.
fn name(n: u16) -> Digest {
    let mut bytes = *blake3::hash(&(n / 300).to_le_bytes()).as_bytes();
    if n.is_multiple_of(3) {
        bytes = *blake3::hash(&n.to_le_bytes()).as_bytes();
    }
    bytes[24..26].copy_from_slice(&n.to_be_bytes());
    Digest(bytes)
}

struct Index {
    io: Io,
    cache: Mutex<PageCache>,
    runs: Vec<Arc<Run>>,
    next: u64,
}

impl Index {
    fn spill(&mut self, table: &BTreeMap<Digest, Location>) {
        let id = self.take_id();
        let mut writer = now(RunWriter::create(&self.io, ARRAY, id, 0, table.len() as u64)).unwrap();
        for (digest, location) in table {
            writer.push(Entry { digest: *digest, location: *location });
        }
        self.runs.insert(0, Arc::new(now(writer.finish()).unwrap()));
        loop {
            let tiers: Vec<u32> = self.runs.iter().map(|run| run.record.tier).collect();
            let Some(plan) = plan_merge(&tiers) else { break };
            let id = self.take_id();
            let merged =
                now(merge(&self.io, ARRAY, &self.runs[..plan.count], id, plan.tier, |_| true)).unwrap();
            self.runs.splice(..plan.count, [Arc::new(merged)]);
        }
    }

    fn reopen(&mut self) {
        let open = |run: &Arc<Run>| Arc::new(now(Run::open(&self.io, &ARRAY, run.record)).ok().unwrap());
        self.runs = self.runs.iter().map(open).collect();
    }

    fn find(&self, digest: &Digest) -> Option<Location> {
        let asked = self.runs.iter().filter(|run| run.may_contain(digest));
        asked.map(|run| now(run.find(&self.io, &self.cache, digest)).unwrap()).find_map(|found| found)
    }

    fn take_id(&mut self) -> RunId {
        self.next += 1;
        RunId(self.next)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_index_knows_what_a_sorted_map_knows(
        tables in proptest::collection::vec(proptest::collection::vec(0u16..6000, 1..400), 1..40),
        cached in 0usize..4,
    ) {
        let io = Io::inline(Arc::new(SimMedia::new()));
        let cache = Mutex::new(PageCache::new(cached));
        let mut index = Index { io, cache, runs: Vec::new(), next: 0 };
        let mut oracle = BTreeMap::new();
        for (round, numbers) in tables.iter().enumerate() {
            let location = |n: u16| Location::new(SegmentId(round as u64), u32::from(n) * 16, 100);
            let table: BTreeMap<Digest, Location> = numbers.iter().map(|n| (name(*n), location(*n))).collect();
            index.spill(&table);
            oracle.extend(table);
        }
        for reopened in [false, true] {
            if reopened {
                index.reopen();
            }
            for n in 0..6000 {
                prop_assert_eq!(index.find(&name(n)), oracle.get(&name(n)).copied(), "number {}", n);
            }
        }
        let last = index.runs.last().map_or(0, |run| run.record.entries);
        prop_assert!(index.runs.len() < 4 || last <= oracle.len() as u64);
    }
}

#[test]
fn any_flipped_bit_of_a_page_is_damage_never_absence() {
    let media = SimMedia::new();
    let io = Io::inline(Arc::new(media.clone()));
    let cache = Mutex::new(PageCache::new(0));
    let mut index = Index { io, cache, runs: Vec::new(), next: 0 };
    let table = (0..150).map(|n| (name(n * 3), Location::new(SegmentId(1), u32::from(n) * 16, 64))).collect();
    index.spill(&table);
    let path = run_path(index.runs[0].record.id);
    let (first, location) = table.iter().next().unwrap();
    for bit in (0..4096 * 8).step_by(11) {
        media.rot(&path, bit / 8, (bit % 8) as u8).unwrap();
        let found = now(index.runs[0].find(&index.io, &index.cache, first));
        assert_eq!(found, Err(RunFault::Damaged), "bit {bit}");
        media.rot(&path, bit / 8, (bit % 8) as u8).unwrap();
    }
    assert_eq!(index.find(first), Some(*location));
}
