//! What lies under layers, and whether anybody can see it.
//!
//! Something below several stacks of layers is out of everybody's sight where each of the stacks says something about the
//! block. What nobody sees nobody reads, and a fold or merge leaves it out; so a collector need not keep it.
//!
//! - V1: in doubt a block is in sight.
//! - V2: a stack that goes on where another ends hides no less than that one, so only the shorter one is asked.

use std::ops::Range;
use std::sync::Arc;

use crate::layer::{Layer, LayerId};
use crate::overlay;
use crate::tree::FANOUT;

/// The stacks over one thing, each with the oldest layer first.
#[derive(Debug, Default)]
pub(crate) struct Covers {
    stacks: Vec<Vec<Arc<Layer>>>,
}

impl Covers {
    /// Of the stacks, those that hide least (V2).
    pub(crate) fn of(mut stacks: Vec<Vec<Arc<Layer>>>) -> Covers {
        let ids = |stack: &[Arc<Layer>]| -> Vec<LayerId> { stack.iter().map(|layer| layer.id()).collect() };
        // A stack comes directly before those that go on from it.
        stacks.sort_by_cached_key(|stack| ids(stack));
        stacks.dedup_by(|next, kept| {
            next.len() >= kept.len()
                && kept.iter().zip(next.iter()).all(|(one, other)| one.id() == other.id())
        });
        Covers { stacks }
    }

    /// Whether everything is in sight.
    pub(crate) fn is_bare(&self) -> bool {
        self.stacks.iter().any(Vec::is_empty)
    }

    /// Whether a block of `window` may be out of sight.
    pub(crate) fn may_hide(&self, window: &Range<u64>) -> bool {
        self.stacks.iter().all(|stack| overlay::first_touched(stack, window).is_some())
    }

    /// Which of the [`FANOUT`] blocks from `first` on are out of sight, as bits.
    pub(crate) fn hidden(&self, first: u64) -> u128 {
        let window = first..first + FANOUT as u64;
        let mut hidden = u128::MAX;
        for stack in &self.stacks {
            let mut covered = 0;
            for extent in stack.iter().flat_map(|layer| layer.range(window.clone())) {
                covered |= bits((extent.blocks.start - first) as u32, (extent.blocks.end - first) as u32);
            }
            hidden &= covered;
            if hidden == 0 {
                break;
            }
        }
        hidden
    }
}

/// Bits from `start` to before `end`, which are at most [`FANOUT`].
fn bits(start: u32, end: u32) -> u128 {
    let below = |bit: u32| 1_u128.checked_shl(bit).map_or(u128::MAX, |one| one - 1);
    below(end) & !below(start)
}

const _: () = assert!(FANOUT as u32 == u128::BITS);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;

    fn layer(id: u64, change: impl FnOnce(&mut Table)) -> Arc<Layer> {
        let mut table = Table::new();
        change(&mut table);
        Arc::new(Layer::freeze(LayerId(id), table))
    }

    #[test]
    fn a_block_is_out_of_sight_where_every_stack_covers_it() {
        let (one, two) = (layer(1, |table| table.zero(0..10)), layer(2, |table| table.zero(5..200)));
        let over = |stacks: &[&[&Arc<Layer>]]| {
            let stack = |layers: &&[&Arc<Layer>]| layers.iter().map(|layer| Arc::clone(layer)).collect();
            Covers::of(stacks.iter().map(stack).collect())
        };
        assert_eq!(over(&[&[&one]]).hidden(0), (1 << 10) - 1);
        assert_eq!(over(&[&[&one, &two]]).hidden(0), u128::MAX);
        assert_eq!(over(&[&[&one], &[&two]]).hidden(0), 0b11111 << 5);
        // The longer one hides more and does not count; the bare one hides nothing.
        assert_eq!(over(&[&[&one, &two], &[&one]]).hidden(0), (1 << 10) - 1);
        assert!(over(&[&[&one, &two], &[]]).is_bare() && !over(&[&[&one]]).is_bare());
        assert_eq!(over(&[&[&two]]).hidden(128), (1 << 72) - 1);
        assert!(over(&[&[&two]]).may_hide(&(128..256)) && !over(&[&[&one]]).may_hide(&(128..256)));
    }
}
