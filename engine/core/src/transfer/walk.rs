//! Everything that a point says, in batches: first the blocks that the target may have changed beyond the common
//! point, as they are in this image, then the difference to what the point is relative to.
//!
//! - W1: laying the batches in order over any state that differs from the base only in the touched blocks gives the
//!   image. A block may be said twice, both times the same.

use std::collections::VecDeque;
use std::ops::Range;

use metropod_dedupe::Store;
use metropod_snapshots::{DiffCursor, Extent, Image, MapError, NodeStore, Nodes, Slot, read_slots};

/// Blocks looked up at a time.
const LOOKUP_BLOCKS: u64 = 1024;

/// One point to walk.
#[derive(Debug, Clone)]
pub(super) struct Leg {
    /// What its changes are relative to; `None`: zeroes.
    pub base: Option<Image>,
    /// The point's content.
    pub image: Image,
    /// Ranges that are said in any case, disjoint and in order.
    pub touched: Vec<Range<u64>>,
}

/// See the module's text.
pub(super) struct Walk<'a> {
    image: &'a Image,
    nodes: &'a Nodes<Store>,
    touched: VecDeque<Range<u64>>,
    found: VecDeque<Extent>,
    cursor: DiffCursor<Store>,
}

impl Walk<'_> {
    pub(super) fn new<'a>(leg: &'a Leg, nodes: &'a Nodes<Store>) -> Walk<'a> {
        let size_blocks = leg.image.size_blocks();
        let clipped = leg.touched.iter().map(|range| range.start..range.end.min(size_blocks));
        Walk {
            image: &leg.image,
            nodes,
            touched: clipped.filter(|range| !range.is_empty()).collect(),
            found: VecDeque::new(),
            cursor: DiffCursor::new(leg.base.as_ref(), &leg.image, nodes),
        }
    }

    /// The next extents, disjoint and in rising order, at most `extents_max`; none at the end.
    pub(super) async fn next_batch(
        &mut self,
        extents_max: usize,
    ) -> Result<Vec<Extent>, MapError<<Store as NodeStore>::Error>> {
        while self.found.len() <= extents_max
            && let Some(range) = self.touched.front_mut()
        {
            let blocks = range.start..range.end.min(range.start + LOOKUP_BLOCKS);
            range.start = blocks.end;
            if range.is_empty() {
                self.touched.pop_front();
            }
            for (block, slot) in blocks.clone().zip(read_slots(self.image, self.nodes, blocks).await?) {
                self.find(block, slot);
            }
        }
        if self.found.is_empty() {
            return self.cursor.next_batch(extents_max).await;
        }
        Ok(self.found.drain(..self.found.len().min(extents_max)).collect())
    }

    fn find(&mut self, block: u64, slot: Slot) {
        match self.found.back_mut() {
            Some(last) if slot == Slot::Zero && last.slot == Slot::Zero && last.blocks.end == block => {
                last.blocks.end = block + 1;
            }
            _ => self.found.push_back(Extent { blocks: block..block + 1, slot }),
        }
    }
}
