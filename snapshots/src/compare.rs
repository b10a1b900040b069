//! Where two frozen points differ, exactly.
//!
//! A difference ([`DiffCursor`]) may name blocks that are equal (its D2), and tells only one side's content. Walked in
//! both directions at once it does neither: a block differs if and only if both walks name it and disagree.
//!
//! - C1: what lies beyond the end of the shorter one counts as zeroes.
//! - C2: ranges are in order and disjoint; ranges of the same kind that touch are one.
//! - C3: memory: that of two walks and a batch of each.

use std::collections::VecDeque;
use std::ops::Range;

use crate::diff::DiffCursor;
use crate::image::Image;
use crate::nodes::{MapError, Nodes};
use crate::slot::{Extent, Slot};
use crate::store::NodeStore;

/// Extents asked for at a time.
const BATCH_EXTENTS: usize = 4096;

/// Blocks that differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Differing {
    /// The blocks.
    pub blocks: Range<u64>,
    /// Whether they are zero in the first.
    pub zero_in_first: bool,
    /// Whether they are zero in the second.
    pub zero_in_second: bool,
}

/// A comparison being walked. It owns what it walks over.
#[derive(Debug)]
pub struct Comparison<S> {
    /// What the second holds, wherever it may differ.
    second: Walk<S>,
    /// What the first holds, wherever it may differ.
    first: Walk<S>,
    /// Blocks that both have.
    common_blocks: u64,
    /// The last range found; it may still grow.
    growing: Option<Differing>,
}

#[derive(Debug)]
struct Walk<S> {
    cursor: DiffCursor<S>,
    ready: VecDeque<Extent>,
}

impl<S: NodeStore> Walk<S> {
    fn new(from: &Image, to: &Image, nodes: &Nodes<S>) -> Walk<S> {
        Walk { cursor: DiffCursor::new(Some(from), to, nodes), ready: VecDeque::new() }
    }

    /// What comes next, without taking it.
    async fn peek(&mut self) -> Result<Option<Extent>, MapError<S::Error>> {
        if self.ready.is_empty() {
            self.ready.extend(self.cursor.next_batch(BATCH_EXTENTS).await?);
        }
        Ok(self.ready.front().cloned())
    }

    /// Takes what comes next up to `block`.
    fn take_to(&mut self, block: u64) {
        if let Some(front) = self.ready.front_mut() {
            front.blocks.start = front.blocks.start.max(block);
            if front.is_empty() {
                self.ready.pop_front();
            }
        }
    }
}

impl<S: NodeStore> Comparison<S> {
    /// Compares two frozen points of one array.
    pub fn new(first: &Image, second: &Image, nodes: &Nodes<S>) -> Comparison<S> {
        Comparison {
            second: Walk::new(first, second, nodes),
            first: Walk::new(second, first, nodes),
            common_blocks: first.size_blocks().min(second.size_blocks()),
            growing: None,
        }
    }

    /// The next range that differs; `None` at the end. After an error it can be asked for again.
    pub async fn next(&mut self) -> Result<Option<Differing>, MapError<S::Error>> {
        loop {
            let (first, second) = (self.first.peek().await?, self.second.peek().await?);
            let found = match (first, second) {
                (None, None) => return Ok(self.growing.take()),
                (Some(first), None) => self.only_in_first(first),
                (None, Some(second)) => self.only_in_second(second),
                (Some(first), Some(second)) if first.blocks.end <= second.blocks.start => {
                    self.only_in_first(first)
                }
                (Some(first), Some(second)) if second.blocks.end <= first.blocks.start => {
                    self.only_in_second(second)
                }
                (Some(first), Some(second)) => self.in_both(&first, &second),
            };
            if let Some(whole) = found.and_then(|found| self.grow(found)) {
                return Ok(Some(whole));
            }
        }
    }

    fn only_in_first(&mut self, extent: Extent) -> Option<Differing> {
        self.first.take_to(extent.blocks.end);
        self.beyond_common(&extent).map(|blocks| Differing {
            blocks,
            zero_in_first: false,
            zero_in_second: true,
        })
    }

    fn only_in_second(&mut self, extent: Extent) -> Option<Differing> {
        self.second.take_to(extent.blocks.end);
        self.beyond_common(&extent).map(|blocks| Differing {
            blocks,
            zero_in_first: true,
            zero_in_second: false,
        })
    }

    /// Named by one walk alone: equal, unless the other side ends before.
    fn beyond_common(&self, extent: &Extent) -> Option<Range<u64>> {
        let beyond = extent.slot != Slot::Zero && extent.blocks.start >= self.common_blocks;
        beyond.then(|| extent.blocks.clone())
    }

    /// Named by both; what precedes the overlap is named by one alone, inside both sizes: equal.
    fn in_both(&mut self, first: &Extent, second: &Extent) -> Option<Differing> {
        let blocks = first.blocks.start.max(second.blocks.start)..first.blocks.end.min(second.blocks.end);
        self.first.take_to(blocks.end);
        self.second.take_to(blocks.end);
        (first.slot != second.slot).then(|| Differing {
            blocks,
            zero_in_first: first.slot == Slot::Zero,
            zero_in_second: second.slot == Slot::Zero,
        })
    }

    /// Adds to the range that grows; gives it out when it cannot grow any more (C2).
    fn grow(&mut self, found: Differing) -> Option<Differing> {
        if let Some(growing) = &mut self.growing
            && growing.blocks.end == found.blocks.start
            && (growing.zero_in_first, growing.zero_in_second) == (found.zero_in_first, found.zero_in_second)
        {
            growing.blocks.end = found.blocks.end;
            return None;
        }
        self.growing.replace(found)
    }
}
