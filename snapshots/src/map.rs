//! The live map of a volume: a mutable table over a frozen image.
//!
//! Everything here happens in memory and costs nothing in proportion to the volume.
//!
//! - M1: what the log orders after a shrink and beyond the new end is dropped, on every array alike.
//! - M2: shrinking zeroes what is beyond the new end in the table, so a volume that grows again reads zeroes there.

use std::ops::Range;
use std::sync::Arc;

use crate::image::{Image, NotTheBase, Rework};
use crate::layer::{Layer, LayerId};
use crate::lookup::{Lookup, Source};
use crate::slot::{Extent, GeometryError, Slot, blocks_of};
use crate::table::Table;

/// A volume being written.
#[derive(Debug, Clone)]
pub struct VolumeMap {
    size_bytes: u64,
    base: Image,
    top: Table,
}

impl VolumeMap {
    /// A volume of zeroes.
    pub fn new(size_bytes: u64) -> Result<VolumeMap, GeometryError> {
        Image::empty(size_bytes).map(VolumeMap::from_image)
    }

    /// A volume that goes on from a frozen point: a clone, a restored volume, a recovered one.
    pub fn from_image(image: Image) -> VolumeMap {
        VolumeMap { size_bytes: image.size_bytes(), base: image, top: Table::new() }
    }

    /// Sets one block; dropped if it lies beyond the end (M1).
    pub fn set(&mut self, block: u64, slot: Slot) {
        if block < self.size_blocks() {
            self.top.set(block, slot);
        }
    }

    /// Zeroes a range; what lies beyond the end is dropped (M1). One entry, whatever the length.
    pub fn zero(&mut self, blocks: Range<u64>) {
        self.top.zero(blocks.start..blocks.end.min(self.size_blocks()));
    }

    /// Takes over one extent of a difference or of a layer.
    pub fn apply(&mut self, extent: &Extent) {
        match extent.slot {
            Slot::Zero => self.zero(extent.blocks.clone()),
            Slot::Data(_) => extent.blocks.clone().for_each(|block| self.set(block, extent.slot)),
        }
    }

    /// Changes the size. Growing adds zeroes; shrinking drops whole blocks beyond the new end (M2). If the new end
    /// falls inside a block, zeroing the rest of that block is up to the caller, who has its bytes.
    pub fn resize(&mut self, size_bytes: u64) -> Result<(), GeometryError> {
        let before = self.size_blocks();
        let after = blocks_of(size_bytes)?;
        self.top.zero(after..before);
        self.size_bytes = size_bytes;
        Ok(())
    }

    /// Freezes the volume as it is now: O(1). The changes since the last freeze become a layer named `id`; if there
    /// are none the base is given again and `id` is not used (ask [`Image::layers`]).
    pub fn freeze(&mut self, id: LayerId) -> Image {
        let layer =
            (!self.top.is_empty()).then(|| Arc::new(Layer::freeze(id, std::mem::take(&mut self.top))));
        self.base = self.base.with_layer(self.size_bytes, layer);
        self.base.clone()
    }

    /// Puts `with` in the place of `base` underneath: what a fold or a merge of an earlier image gave.
    /// Changes and layers since stay above it. Nothing changes on error.
    pub fn rebase(&mut self, base: &Image, with: &Image) -> Result<(), NotTheBase> {
        self.base = self.base.rebased(base, with)?;
        Ok(())
    }

    /// Takes over what was made of layers under the table, see [`Image::reworked`], and gives what was there before:
    /// dropping its layers may take long.
    pub fn rework(&mut self, rework: &Rework) -> Option<Image> {
        let base = self.base.reworked(rework)?;
        Some(std::mem::replace(&mut self.base, base))
    }

    /// What lies under the table: the last frozen point.
    pub fn image(&self) -> &Image {
        &self.base
    }

    /// Changes since the last freeze.
    pub fn top(&self) -> &Table {
        &self.top
    }

    /// Whether anything changed since the last freeze, the size included.
    pub fn is_dirty(&self) -> bool {
        !self.top.is_empty() || self.size_bytes != self.base.size_bytes()
    }

    /// Size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Number of blocks that cover the size.
    pub fn size_blocks(&self) -> u64 {
        blocks_of(self.size_bytes).expect("the size was checked when it was set")
    }
}

impl Source for VolumeMap {
    fn lookup(&self, blocks: Range<u64>) -> Lookup {
        let mut lookup = Lookup::begin(blocks.clone(), self.size_blocks());
        lookup.fill_from(self.top.range(blocks));
        lookup.fill_from_layers(self.base.layers());
        lookup.finish(self.base.root());
        lookup
    }
}

#[cfg(test)]
mod tests {
    use metropod_dedupe::Digest;

    use super::*;
    use crate::slot::BLOCK_BYTES;

    const TEBIBYTE: u64 = 1 << 40;

    #[test]
    fn a_trim_of_a_whole_large_volume_is_one_entry() {
        let mut map = VolumeMap::new(4 * TEBIBYTE).unwrap();
        map.set(12345, Slot::Data(Digest([1; 32])));
        map.zero(0..u64::MAX);
        assert_eq!(map.top().len(), 1);
        assert_eq!(map.freeze(LayerId(1)).layer_entries(), 1);
    }

    #[test]
    fn freezing_without_changes_uses_no_layer() {
        let mut map = VolumeMap::new(TEBIBYTE).unwrap();
        map.set(1, Slot::Zero);
        let first = map.freeze(LayerId(1));
        assert_eq!(map.freeze(LayerId(2)), first);
        map.resize(2 * TEBIBYTE).unwrap();
        let grown = map.freeze(LayerId(3));
        assert_eq!(grown.layers().len(), 1);
        assert_ne!(grown, first);
    }

    #[test]
    fn a_volume_that_shrank_and_grew_reads_zeroes_where_it_was_cut() {
        let data = Slot::Data(Digest([1; 32]));
        let mut map = VolumeMap::new(10 * BLOCK_BYTES).unwrap();
        map.set(2, data);
        map.set(8, data);
        map.freeze(LayerId(1));
        map.resize(5 * BLOCK_BYTES).unwrap();
        map.set(7, data);
        map.resize(10 * BLOCK_BYTES).unwrap();
        let slots = map.lookup(0..12).into_slots().expect("there is no tree");
        assert_eq!(slots.iter().filter(|slot| **slot != Slot::Zero).count(), 1);
        assert_eq!(slots[2], data);
    }

    #[test]
    fn an_image_is_not_rebased_on_one_it_was_not_built_on() {
        let mut map = VolumeMap::new(TEBIBYTE).unwrap();
        map.set(1, Slot::Zero);
        let other = VolumeMap::new(TEBIBYTE).unwrap();
        let image = map.freeze(LayerId(1));
        let mut fresh = VolumeMap::from_image(other.image().clone());
        assert_eq!(fresh.rebase(&image, &image), Err(NotTheBase));
    }
}
