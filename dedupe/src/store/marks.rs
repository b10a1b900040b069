//! What a pass under way knows: one live bit per record that may die, one bit more for nodes that were walked.
//!
//! Bits stand for stretches of [`RECORD_SPAN_BYTES_MIN`](crate::segment::RECORD_SPAN_BYTES_MIN) bytes, in which one
//! record at most begins: a location is its own index, and marking reads nothing. A full segment of 16 MiB costs 32 KiB,
//! a five-hundredth of what it holds, while the pass lasts.

use std::collections::BTreeMap;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::digest::Digest;
use crate::location::{Location, SegmentId};
use crate::segment::RECORD_SPAN_BYTES_MIN;

/// What a segment held when the pass began; anything else was born later (C2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit {
    pub length: u32,
    pub records: u32,
}

/// See the module's text.
pub(super) struct Marks {
    pub pass: u64,
    pub limits: BTreeMap<SegmentId, Limit>,
    /// [`StoreStats::fresh_bytes`](super::StoreStats::fresh_bytes) when the pass began.
    pub fresh_bytes: u64,
    live: Bits,
    visited: Bits,
    /// Nodes that have no bit because they were not hardened when the pass began: at most what was staged then.
    visited_young: FxHashSet<Digest>,
    /// Marks set since the dead are being listed.
    late: Option<Vec<Location>>,
}

impl Marks {
    pub(super) fn new(pass: u64, fresh_bytes: u64, limits: BTreeMap<SegmentId, Limit>) -> Marks {
        Marks {
            pass,
            limits,
            fresh_bytes,
            live: Bits::default(),
            visited: Bits::default(),
            visited_young: FxHashSet::default(),
            late: None,
        }
    }

    /// The record lives.
    pub(super) fn set(&mut self, location: Location) {
        self.set_all(location.segment(), std::iter::once(&location));
    }

    /// These records of one segment live.
    pub(super) fn set_all<'a>(&mut self, segment: SegmentId, locations: impl Iterator<Item = &'a Location>) {
        let Some(limit) = self.limits.get(&segment) else { return };
        let bits = self.live.of(segment, limit.length);
        for location in locations.filter(|location| location.offset() < limit.length) {
            if bits.set(*location)
                && let Some(late) = &mut self.late
            {
                late.push(*location);
            }
        }
    }

    /// The record is superseded and counts no more.
    pub(super) fn clear(&mut self, location: Location) {
        self.live.clear(location);
    }

    pub(super) fn is_set(&self, location: Location) -> bool {
        self.live.get(location)
    }

    /// Marks a node as walked; `false` if it was before.
    pub(super) fn visit(&mut self, digest: &Digest, found: Option<Location>) -> bool {
        match found.filter(|found| self.may_die(*found)) {
            Some(found) => self.visited.of(found.segment(), self.length_of(found.segment())).set(found),
            None => self.visited_young.insert(*digest),
        }
    }

    /// Live records of one segment among those that may die.
    pub(super) fn live_records(&self, segment: SegmentId) -> u32 {
        self.live.count(segment)
    }

    /// Begins to note what is marked late.
    pub(super) fn watch(&mut self) {
        self.late = Some(Vec::new());
    }

    pub(super) fn take_late(&mut self) -> Vec<Location> {
        self.late.take().expect("marks are watched before the dead are listed")
    }

    fn length_of(&self, segment: SegmentId) -> u32 {
        self.limits.get(&segment).map_or(0, |limit| limit.length)
    }

    fn may_die(&self, location: Location) -> bool {
        self.limits.get(&location.segment()).is_some_and(|limit| location.offset() < limit.length)
    }
}

#[derive(Default)]
struct Bits {
    segments: FxHashMap<SegmentId, SegmentBits>,
}

struct SegmentBits {
    words: Box<[u64]>,
    count: u32,
}

impl Bits {
    /// Those of a segment of this length.
    fn of(&mut self, segment: SegmentId, length: u32) -> &mut SegmentBits {
        self.segments.entry(segment).or_insert_with(|| {
            let slots = length.div_ceil(RECORD_SPAN_BYTES_MIN);
            SegmentBits { words: vec![0; slots.div_ceil(64) as usize].into_boxed_slice(), count: 0 }
        })
    }

    fn clear(&mut self, location: Location) {
        let (word, mask) = place(location);
        if let Some(bits) = self.segments.get_mut(&location.segment())
            && let Some(found) = bits.words.get_mut(word)
            && *found & mask != 0
        {
            *found &= !mask;
            bits.count -= 1;
        }
    }

    fn get(&self, location: Location) -> bool {
        let (word, mask) = place(location);
        let bits = self.segments.get(&location.segment());
        bits.and_then(|bits| bits.words.get(word)).is_some_and(|word| word & mask != 0)
    }

    fn count(&self, segment: SegmentId) -> u32 {
        self.segments.get(&segment).map_or(0, |bits| bits.count)
    }
}

impl SegmentBits {
    /// `false` if it was set before.
    fn set(&mut self, location: Location) -> bool {
        let (word, mask) = place(location);
        let was_clear = self.words[word] & mask == 0;
        self.words[word] |= mask;
        self.count += u32::from(was_clear);
        was_clear
    }
}

fn place(location: Location) -> (usize, u64) {
    let slot = location.slot();
    ((slot / 64) as usize, 1 << (slot % 64))
}
