//! The mutable table on top of a volume map: what changed since the last freeze.
//!
//! Takes sets and zero ranges, gives ordered extents. A trim of any length is one entry.
//!
//! - T1: entries are disjoint; a later change carves what it covers out of earlier ones.
//! - T2: zero ranges that touch are one entry: sequential trims do not pile up.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::ops::Range;

use metropod_dedupe::Digest;

use crate::slot::{Extent, Slot};

/// Bytes one entry is counted as in memory: key, value and its share of tree nodes two thirds full.
const ENTRY_BYTES: usize = 72;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Data(Digest),
    Zero { end: u64 },
}

impl Entry {
    fn extent(self, start: u64) -> Extent {
        match self {
            Entry::Data(digest) => Extent::data(start, digest),
            Entry::Zero { end } => Extent::zero(start..end),
        }
    }
}

/// An ordered, mutable set of changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    entries: BTreeMap<u64, Entry>,
}

impl Table {
    /// A table without changes.
    pub fn new() -> Table {
        Table::default()
    }

    /// Sets one block.
    pub fn set(&mut self, block: u64, slot: Slot) {
        let digest = match slot {
            Slot::Zero | Slot::Data(Digest::ZERO) => return self.zero(block..block + 1),
            Slot::Data(digest) => digest,
        };
        if let Some(Entry::Data(present)) = self.entries.get_mut(&block) {
            *present = digest;
            return;
        }
        self.carve(&(block..block + 1));
        self.entries.insert(block, Entry::Data(digest));
    }

    /// Zeroes a range. Costs the entries it replaces, whatever its length.
    pub fn zero(&mut self, blocks: Range<u64>) {
        if blocks.is_empty() {
            return;
        }
        self.carve(&blocks);
        let mut whole = blocks;
        if let Some(Entry::Zero { end }) = self.entries.get(&whole.end).copied() {
            self.entries.remove(&whole.end);
            whole.end = end;
        }
        if let Some((_, Entry::Zero { end })) = self.entries.range_mut(..whole.start).next_back()
            && *end == whole.start
        {
            *end = whole.end;
            return;
        }
        self.entries.insert(whole.start, Entry::Zero { end: whole.end });
    }

    /// What the table says about one block.
    pub fn get(&self, block: u64) -> Option<Slot> {
        match self.entries.range(..=block).next_back()? {
            (start, Entry::Data(digest)) => (*start == block).then_some(Slot::Data(*digest)),
            (_, Entry::Zero { end }) => (block < *end).then_some(Slot::Zero),
        }
    }

    /// The extents that overlap `window`, clipped to it, in order.
    pub fn range(&self, window: Range<u64>) -> TableRange<'_> {
        if window.is_empty() {
            return TableRange { first: None, rest: self.entries.range(0..0), window };
        }
        let first = match self.entries.range(..window.start).next_back() {
            Some((start, entry)) => entry.extent(*start).clipped(&window),
            None => None,
        };
        TableRange { first, rest: self.entries.range(window.clone()), window }
    }

    /// Number of entries: changed blocks plus zero ranges.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Estimated bytes in memory.
    pub fn memory_bytes(&self) -> usize {
        self.entries.len() * ENTRY_BYTES
    }

    /// Removes whatever is said about `blocks` (T1).
    fn carve(&mut self, blocks: &Range<u64>) {
        let mut tail = None;
        if let Some((_, Entry::Zero { end })) = self.entries.range_mut(..blocks.start).next_back()
            && *end > blocks.start
        {
            if *end > blocks.end {
                tail = Some(*end);
            }
            *end = blocks.start;
        }
        for (_, entry) in self.entries.extract_if(blocks.clone(), |_, _| true) {
            if let Entry::Zero { end } = entry
                && end > blocks.end
            {
                tail = Some(end);
            }
        }
        if let Some(end) = tail {
            self.entries.insert(blocks.end, Entry::Zero { end });
        }
    }
}

/// Extents of a [`Table`] inside a window.
#[derive(Debug, Clone)]
pub struct TableRange<'a> {
    first: Option<Extent>,
    rest: btree_map::Range<'a, u64, Entry>,
    window: Range<u64>,
}

impl Iterator for TableRange<'_> {
    type Item = Extent;

    fn next(&mut self) -> Option<Extent> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let (start, entry) = self.rest.next()?;
        entry.extent(*start).clipped(&self.window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(seed: u8) -> Digest {
        Digest([seed; 32])
    }

    fn extents(table: &Table) -> Vec<Extent> {
        table.range(0..u64::MAX).collect()
    }

    #[test]
    fn a_write_splits_the_zero_range_it_falls_into() {
        let mut table = Table::new();
        table.zero(0..100);
        table.set(40, Slot::Data(digest(1)));
        assert_eq!(
            extents(&table),
            [Extent::zero(0..40), Extent::data(40, digest(1)), Extent::zero(41..100)]
        );
        assert_eq!(table.get(40), Some(Slot::Data(digest(1))));
        assert_eq!(table.get(41), Some(Slot::Zero));
        assert_eq!(table.get(100), None);
    }

    #[test]
    fn adjacent_zero_ranges_become_one_entry() {
        let mut table = Table::new();
        for block in 0..1000 {
            table.zero(block..block + 1);
        }
        table.zero(2000..3000);
        table.zero(1000..2000);
        assert_eq!(extents(&table), [Extent::zero(0..3000)]);
    }

    #[test]
    fn a_zero_range_replaces_what_it_covers_and_keeps_what_it_does_not() {
        let mut table = Table::new();
        for block in 0..10 {
            table.set(block, Slot::Data(digest(block as u8 + 1)));
        }
        table.zero(3..8);
        table.set(2, Slot::Zero);
        assert_eq!(table.len(), 5);
        assert_eq!(table.get(2), Some(Slot::Zero));
        assert_eq!(table.get(8), Some(Slot::Data(digest(9))));
        assert_eq!(table.range(5..9).collect::<Vec<_>>(), [Extent::zero(5..8), Extent::data(8, digest(9))]);
    }
}
