//! What the tests share: a store in memory, chance, a waiting loop, and the oracle.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test file uses a part of it, and a test may fail anywhere"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::ops::Range;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use metropod_dedupe::{Digest, Domain, digest};
use metropod_snapshots::{BLOCK_BYTES, Extent, Image, NodeStore, Slot};

/// Polls until ready. Nothing here waits for anything but itself.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

/// Splitmix64.
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.below(among.len() as u64) as usize]
    }
}

/// The digest of the data block number `seed`.
pub fn chunk(seed: u64) -> Digest {
    digest(Domain::Data, &seed.to_le_bytes())
}

#[derive(Debug, thiserror::Error)]
#[error("not in the store")]
pub struct Missing;

#[derive(Debug, Default)]
struct Inner {
    nodes: BTreeMap<(u8, Digest), Bytes>,
    reads: u64,
    in_flight: u64,
    in_flight_max: u64,
    lost: BTreeSet<Digest>,
    read: BTreeSet<Digest>,
}

/// Nodes in memory. Every read is pending once, so that side by side is really side by side; staging checks names and that
/// children come first.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Inner>>);

impl MemoryStore {
    pub fn reads(&self) -> u64 {
        self.0.lock().unwrap().reads
    }

    /// Names of the nodes read since the last call.
    pub fn take_read(&self) -> BTreeSet<Digest> {
        std::mem::take(&mut self.0.lock().unwrap().read)
    }

    pub fn in_flight_max(&self) -> u64 {
        self.0.lock().unwrap().in_flight_max
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap().nodes.len()
    }

    pub fn names(&self) -> Vec<Digest> {
        self.0.lock().unwrap().nodes.keys().map(|(_, name)| *name).collect()
    }

    pub fn lose(&self, name: Digest) {
        self.0.lock().unwrap().lost.insert(name);
    }

    pub fn find(&self) {
        self.0.lock().unwrap().lost.clear();
    }

    /// Puts content under a name whatever it is.
    pub fn forge(&self, level: u8, name: Digest, content: Bytes) {
        self.0.lock().unwrap().nodes.insert((level, name), content);
    }
}

impl NodeStore for MemoryStore {
    type Error = Missing;

    fn stage_node(&self, level: u8, name: Digest, content: Bytes) {
        assert_eq!(digest(Domain::Node { level }, &content), name);
        let mut inner = self.0.lock().unwrap();
        if level > 0 {
            for child in content.chunks_exact(32).filter(|child| child.iter().any(|byte| *byte != 0)) {
                let child = (level - 1, Digest(child.try_into().unwrap()));
                assert!(inner.nodes.contains_key(&child), "a node was staged before its child");
            }
        }
        inner.nodes.insert((level, name), content);
    }

    async fn node(&self, level: u8, name: Digest) -> Result<Bytes, Missing> {
        {
            let mut inner = self.0.lock().unwrap();
            inner.reads += 1;
            inner.read.insert(name);
            inner.in_flight += 1;
            inner.in_flight_max = inner.in_flight_max.max(inner.in_flight);
        }
        let mut pending = true;
        std::future::poll_fn(|_| if std::mem::take(&mut pending) { Poll::Pending } else { Poll::Ready(()) })
            .await;
        let mut inner = self.0.lock().unwrap();
        inner.in_flight -= 1;
        if inner.lost.contains(&name) {
            return Err(Missing);
        }
        inner.nodes.get(&(level, name)).cloned().ok_or(Missing)
    }

    async fn relieve(&self) -> Result<(), Missing> {
        Ok(())
    }
}

/// What a volume holds, kept in the simplest way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oracle {
    pub size_bytes: u64,
    pub blocks: BTreeMap<u64, Digest>,
}

impl Oracle {
    pub fn new(size_bytes: u64) -> Oracle {
        Oracle { size_bytes, blocks: BTreeMap::new() }
    }

    pub fn size_blocks(&self) -> u64 {
        self.size_bytes.div_ceil(BLOCK_BYTES)
    }

    pub fn set(&mut self, block: u64, slot: Slot) {
        match slot {
            Slot::Data(digest) if block < self.size_blocks() => self.blocks.insert(block, digest),
            _ => self.blocks.remove(&block),
        };
    }

    pub fn zero(&mut self, blocks: Range<u64>) {
        self.blocks.retain(|block, _| !blocks.contains(block));
    }

    pub fn resize(&mut self, size_bytes: u64) {
        self.size_bytes = size_bytes;
        let end = self.size_blocks();
        self.blocks.retain(|block, _| *block < end);
    }

    pub fn slot(&self, block: u64) -> Slot {
        self.blocks.get(&block).map_or(Slot::Zero, |digest| Slot::Data(*digest))
    }

    pub fn slots(&self, blocks: Range<u64>) -> Vec<Slot> {
        blocks.map(|block| self.slot(block)).collect()
    }

    /// The volume digest, built by the letter of docs/format-map.md and without the code under test.
    pub fn digest(&self) -> Digest {
        let mut height = 0;
        let mut below = self.blocks.clone();
        while height == 0 || 1u64 << (7 * height) < self.size_blocks() {
            let mut nodes: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
            for (address, child) in below {
                let node = nodes.entry(address / 128).or_insert_with(|| vec![0; 4096]);
                node[(address % 128) as usize * 32..][..32].copy_from_slice(&child.0);
            }
            let domain = Domain::Node { level: height };
            below = nodes.into_iter().map(|(address, node)| (address, digest(domain, &node))).collect();
            height += 1;
        }
        let top = below.get(&0).copied().unwrap_or(Digest::ZERO);
        digest(Domain::Volume, &[&self.size_bytes.to_le_bytes()[..], &[height], &top.0].concat())
    }

    /// Blocks that differ, inside `to`.
    pub fn differing(from: &Oracle, to: &Oracle) -> BTreeSet<u64> {
        let touched = from.blocks.keys().chain(to.blocks.keys()).copied();
        touched.filter(|block| *block < to.size_blocks() && from.slot(*block) != to.slot(*block)).collect()
    }
}

/// Asserts D1 and D3 of a difference; gives how many blocks of data it names.
pub fn check_diff(extents: &[Extent], from: &Oracle, to: &Oracle) -> usize {
    let mut differing = Oracle::differing(from, to);
    let mut end = 0;
    let mut last_zero = false;
    for extent in extents {
        assert!(!extent.is_empty() && extent.blocks.end <= to.size_blocks());
        assert!(extent.blocks.start >= end, "in order");
        let touching_zeroes = last_zero && extent.slot == Slot::Zero && extent.blocks.start == end;
        assert!(!touching_zeroes, "zeroes that touch are one");
        end = extent.blocks.end;
        last_zero = extent.slot == Slot::Zero;
        match extent.slot {
            Slot::Data(_) => {
                assert_eq!(extent.len(), 1);
                assert_eq!(to.slot(extent.blocks.start), extent.slot);
            }
            Slot::Zero => {
                assert_eq!(to.blocks.range(extent.blocks.clone()).next(), None, "zeroed, but not zero")
            }
        }
        differing.retain(|block| !extent.blocks.contains(block));
    }
    assert!(differing.is_empty(), "not in the difference: {differing:?}");
    extents.iter().filter(|extent| extent.slot != Slot::Zero).count()
}

/// A frozen point and what it should hold.
#[derive(Debug, Clone)]
pub struct Point {
    pub image: Image,
    pub oracle: Oracle,
}
