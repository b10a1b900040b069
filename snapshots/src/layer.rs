//! One frozen table: immutable, ordered, shared between the live map, snapshots and clones.
//!
//! A layer is born by moving the mutable table into it, so freezing costs nothing; [`Layer::compact`], [`merge`] and
//! decoding give the packed form of 40 bytes a changed block and 16 bytes a zero range.
//!
//! - L1: extents are disjoint and in order, data digests are not zero, all ends are within 40 bits.
//! - L2: a layer never changes; two layers of one array with the same id have the same content.
//!
//! [`merge`]: crate::merge()

use std::ops::Range;

use metropod_dedupe::Digest;

use crate::slot::{Extent, Slot};
use crate::table::{Table, TableRange};

/// Name of a layer, unique within its array for ever; given by the caller, who writes it into manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerId(pub u64);

/// An immutable, ordered set of changes.
#[derive(Debug)]
pub struct Layer {
    id: LayerId,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Frozen(Table),
    Packed(Packed),
}

/// Extents as parallel arrays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) blocks: Vec<u64>,
    /// `digests[i]` is what `blocks[i]` holds.
    pub(crate) digests: Vec<Digest>,
    pub(crate) zeroes: Vec<Range<u64>>,
}

/// How a set of changes covers a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cover {
    /// Nothing is said about any block.
    Nothing,
    /// Every block is zero.
    Zero,
    /// Anything else.
    Mixed,
}

impl Layer {
    /// Freezes a table: O(1).
    pub fn freeze(id: LayerId, table: Table) -> Layer {
        Layer { id, body: Body::Frozen(table) }
    }

    pub(crate) fn packed(id: LayerId, packed: Packed) -> Layer {
        Layer { id, body: Body::Packed(packed) }
    }

    /// The same layer in its packed form.
    pub fn compact(&self) -> Layer {
        Layer::packed(self.id, self.extents().collect())
    }

    /// Whether it is in its packed form.
    pub fn is_packed(&self) -> bool {
        matches!(self.body, Body::Packed(_))
    }

    pub(crate) fn as_packed(&self) -> Option<&Packed> {
        match &self.body {
            Body::Frozen(_) => None,
            Body::Packed(packed) => Some(packed),
        }
    }

    /// Its name.
    pub fn id(&self) -> LayerId {
        self.id
    }

    /// Number of entries: changed blocks plus zero ranges.
    pub fn len(&self) -> usize {
        match &self.body {
            Body::Frozen(table) => table.len(),
            Body::Packed(packed) => packed.len(),
        }
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Estimated bytes in memory.
    pub fn memory_bytes(&self) -> usize {
        match &self.body {
            Body::Frozen(table) => table.memory_bytes(),
            Body::Packed(packed) => packed.blocks.len() * (8 + 32) + packed.zeroes.len() * 16,
        }
    }

    /// What the layer says about one block.
    pub fn get(&self, block: u64) -> Option<Slot> {
        match &self.body {
            Body::Frozen(table) => table.get(block),
            Body::Packed(packed) => packed.get(block),
        }
    }

    /// The extents that overlap `window`, clipped to it, in order.
    pub fn range(&self, window: Range<u64>) -> LayerRange<'_> {
        LayerRange(match &self.body {
            Body::Frozen(table) => RangeOf::Frozen(table.range(window)),
            Body::Packed(packed) => RangeOf::Packed(packed.range(window)),
        })
    }

    /// All extents, in order.
    pub fn extents(&self) -> LayerRange<'_> {
        self.range(0..u64::MAX)
    }

    /// How it covers `window`. Zero ranges that touch without being one entry may count as mixed.
    pub(crate) fn cover(&self, window: &Range<u64>) -> Cover {
        match self.range(window.clone()).next() {
            None => Cover::Nothing,
            Some(first) if first.slot == Slot::Zero && first.blocks == *window => Cover::Zero,
            Some(_) => Cover::Mixed,
        }
    }
}

impl Packed {
    pub(crate) fn len(&self) -> usize {
        self.blocks.len() + self.zeroes.len()
    }

    /// Gives back memory that growing took too much.
    pub(crate) fn shrink(&mut self) {
        self.blocks.shrink_to_fit();
        self.digests.shrink_to_fit();
        self.zeroes.shrink_to_fit();
    }

    pub(crate) fn push(&mut self, extent: Extent) {
        match extent.slot {
            Slot::Data(digest) => {
                self.blocks.push(extent.blocks.start);
                self.digests.push(digest);
            }
            Slot::Zero => match self.zeroes.last_mut() {
                Some(last) if last.end == extent.blocks.start => last.end = extent.blocks.end,
                _ => self.zeroes.push(extent.blocks),
            },
        }
    }

    fn get(&self, block: u64) -> Option<Slot> {
        if let Ok(index) = self.blocks.binary_search(&block) {
            return Some(Slot::Data(self.digests[index]));
        }
        let next = self.zeroes.partition_point(|zero| zero.end <= block);
        (self.zeroes.get(next)?.start <= block).then_some(Slot::Zero)
    }

    fn range(&self, window: Range<u64>) -> PackedRange<'_> {
        if window.is_empty() {
            return PackedRange { blocks: &[], digests: &[], zeroes: &[], window };
        }
        let data = self.blocks.partition_point(|block| *block < window.start)
            ..self.blocks.partition_point(|block| *block < window.end);
        let zeroes = self.zeroes.partition_point(|zero| zero.end <= window.start)
            ..self.zeroes.partition_point(|zero| zero.start < window.end);
        PackedRange {
            blocks: &self.blocks[data.clone()],
            digests: &self.digests[data],
            zeroes: &self.zeroes[zeroes],
            window,
        }
    }
}

impl FromIterator<Extent> for Packed {
    /// From disjoint extents in order.
    fn from_iter<T: IntoIterator<Item = Extent>>(extents: T) -> Packed {
        let mut packed = Packed::default();
        for extent in extents {
            packed.push(extent);
        }
        packed.shrink();
        packed
    }
}

/// Extents of a [`Layer`] inside a window.
#[derive(Debug, Clone)]
pub struct LayerRange<'a>(RangeOf<'a>);

#[derive(Debug, Clone)]
enum RangeOf<'a> {
    Frozen(TableRange<'a>),
    Packed(PackedRange<'a>),
}

#[derive(Debug, Clone)]
struct PackedRange<'a> {
    blocks: &'a [u64],
    digests: &'a [Digest],
    zeroes: &'a [Range<u64>],
    window: Range<u64>,
}

impl Iterator for LayerRange<'_> {
    type Item = Extent;

    fn next(&mut self) -> Option<Extent> {
        match &mut self.0 {
            RangeOf::Frozen(range) => range.next(),
            RangeOf::Packed(range) => range.next(),
        }
    }
}

impl Iterator for PackedRange<'_> {
    type Item = Extent;

    fn next(&mut self) -> Option<Extent> {
        let zero_first = match (self.blocks.first(), self.zeroes.first()) {
            (Some(block), Some(zero)) => zero.start < *block,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if zero_first {
            let (zero, rest) = self.zeroes.split_first()?;
            self.zeroes = rest;
            return Extent::zero(zero.clone()).clipped(&self.window);
        }
        let (block, blocks) = self.blocks.split_first()?;
        let (digest, digests) = self.digests.split_first()?;
        self.blocks = blocks;
        self.digests = digests;
        Some(Extent::data(*block, *digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packed_form_says_what_the_table_said() {
        let mut table = Table::new();
        table.zero(10..500);
        for block in (0..600).step_by(7) {
            table.set(block, Slot::Data(Digest([block as u8 | 1; 32])));
        }
        let layer = Layer::freeze(LayerId(1), table);
        let packed = layer.compact();
        assert!(layer.extents().eq(packed.extents()));
        for block in 0..620 {
            assert_eq!(layer.get(block), packed.get(block));
            let window = block..block + 9;
            assert!(layer.range(window.clone()).eq(packed.range(window.clone())));
            assert_eq!(layer.cover(&window), packed.cover(&window));
        }
    }
}
