//! What memory knows about a range of blocks, and what the tree must be asked.
//!
//! A lookup is taken from a map or an image in one synchronous step and borrows nothing from it, so the owner can
//! change the map while the rest is read from the store: the answer is still that of the moment of the lookup.

use std::ops::Range;
use std::sync::Arc;

use crate::layer::Layer;
use crate::overlay;
use crate::slot::{Extent, Slot};
use crate::tree::{Root, blocks_under};

/// Anything that can say what it holds: the live map or a frozen point.
pub trait Source {
    /// What memory knows about `blocks`. Blocks beyond the size are zero. Memory: 40 bytes a
    /// block asked for, so callers ask for what one host request covers.
    fn lookup(&self, blocks: Range<u64>) -> Lookup;
}

/// The slots known in memory and the holes left to the tree.
#[derive(Debug, Clone)]
pub struct Lookup {
    start: u64,
    slots: Vec<Option<Slot>>,
    root: Option<Root>,
}

impl Lookup {
    pub(crate) fn begin(blocks: Range<u64>, size_blocks: u64) -> Lookup {
        let length = blocks.end.saturating_sub(blocks.start) as usize;
        let inside = size_blocks.saturating_sub(blocks.start).min(length as u64) as usize;
        let mut slots = vec![None; length];
        slots[inside..].fill(Some(Slot::Zero));
        Lookup { start: blocks.start, slots, root: None }
    }

    pub(crate) fn fill_from(&mut self, extents: impl Iterator<Item = Extent>) {
        overlay::fill_from(extents, self.start, &mut self.slots);
    }

    pub(crate) fn fill_from_layers(&mut self, layers: &[Arc<Layer>]) {
        overlay::fill(layers, self.start, &mut self.slots);
    }

    /// What no table and no layer knows is in the tree, as far as there is one.
    pub(crate) fn finish(&mut self, root: Option<Root>) {
        let covered = root.map_or(0, |root| blocks_under(root.height - 1));
        let under = covered.saturating_sub(self.start).min(self.slots.len() as u64) as usize;
        for slot in &mut self.slots[under..] {
            slot.get_or_insert(Slot::Zero);
        }
        self.root = root;
    }

    /// The blocks asked for.
    pub fn blocks(&self) -> Range<u64> {
        self.start..self.start + self.slots.len() as u64
    }

    /// One slot per block asked for; `None` where the tree must be asked.
    pub fn slots(&self) -> &[Option<Slot>] {
        &self.slots
    }

    /// Whether no store needs to be asked.
    pub fn is_complete(&self) -> bool {
        self.slots.iter().all(Option::is_some)
    }

    /// The slots, if all are known; else the lookup back, to resolve it.
    pub fn into_slots(self) -> Result<Vec<Slot>, Lookup> {
        if self.is_complete() { Ok(self.slots.into_iter().flatten().collect()) } else { Err(self) }
    }

    pub(crate) fn root(&self) -> Option<Root> {
        self.root
    }

    /// Whether any block of `blocks` is still unknown.
    pub(crate) fn has_hole_in(&self, blocks: &Range<u64>) -> bool {
        let from = blocks.start.saturating_sub(self.start).min(self.slots.len() as u64) as usize;
        let to = blocks.end.saturating_sub(self.start).min(self.slots.len() as u64) as usize;
        self.slots[from..to].iter().any(Option::is_none)
    }

    /// Says what the tree said about one block, if that was asked.
    pub(crate) fn answer(&mut self, block: u64, slot: Slot) {
        if let Some(index) = block.checked_sub(self.start)
            && let Some(unknown) = self.slots.get_mut(index as usize)
        {
            unknown.get_or_insert(slot);
        }
    }
}
