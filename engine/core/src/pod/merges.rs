//! Old content of blocks that entries cover only in part: read and merged side by side, ahead of the entries' turns.
//!
//! ```text
//! committed ── among the next [`AHEAD`], and no entry before it touches these blocks ──► running ─► ready ─► its turn: placed
//!     └── its turn ──────────────────────────────────────────────────────────────────────┘ └── failed: at its turn again
//!                                                          failed at its turn: rests, then again; given up in the end
//! ```
//! - M1: what is merged is what the blocks hold just before the entry's turn. When the read begins no unapplied entry before
//!   it touches them, and a committed log changes only behind it.
//! - M2: a result that nobody waits for any more, because other content was adopted meanwhile, is dropped.
//! - M3: at most [`AHEAD`] entries are read ahead, of each at most two blocks.
//! - M4: what fails at its turn is tried for [`GIVE_UP_AFTER`] if another array could have what is lost here (right after a
//!   start it is not connected yet), while the journal has room for what waits behind it. Meanwhile the array is unfit.

use std::collections::BTreeMap;
use std::ops::Range;

use metropod_dedupe::Reduced;
use metropod_protocol::{Index, Span, Time};

use super::apply::{ApplyContext, MergeRequest};
use super::{Pod, Unapplied};
use crate::names::VolumeId;
use crate::operation::BLOCK_BYTES;

/// Entries looked at ahead of the one to be applied next.
const AHEAD: usize = 32;

/// Between two tries of a merge whose entry has its turn.
const REST: Span = Span::millis(200);

/// How long it is tried: arrays that can reach each other connect in a tenth of that, and all that is not applied meanwhile pins
/// the journal.
const GIVE_UP_AFTER: Span = Span::millis(2_000);

/// Blocks with their new content.
pub(crate) type Whole = Vec<(u64, Reduced)>;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Merges {
    number: u64,
    /// Entries up to here have been looked at ahead.
    looked: Index,
    of: BTreeMap<Index, Merge>,
    /// The entry that has its turn cannot be merged now (M4).
    failing: Option<Failing>,
}

#[derive(Debug)]
struct Failing {
    since: Time,
    /// It rests until then; `None`: it is being tried again.
    until: Option<Time>,
}

/// What follows from a merge that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MergeFailed {
    /// Nothing: nobody waits for it, or its turn will come.
    Nothing,
    /// It is tried again after a rest.
    Rests,
    /// Its entry cannot be applied.
    GivenUp,
}

#[derive(Debug)]
enum Merge {
    Running {
        number: u64,
        /// It was begun before the entry's turn.
        ahead: bool,
    },
    Ready(Whole),
}

impl Merges {
    pub(crate) fn is_running(&self, index: Index) -> bool {
        matches!(self.of.get(&index), Some(Merge::Running { .. }))
    }

    /// What an entry whose turn it is was waiting for.
    pub(super) fn take(&mut self, index: Index) -> Option<Whole> {
        match self.of.remove(&index)? {
            Merge::Ready(whole) => Some(whole),
            running @ Merge::Running { .. } => {
                self.of.insert(index, running);
                None
            }
        }
    }

    /// An entry was applied.
    pub(super) fn passed(&mut self, index: Index) {
        self.of.remove(&index);
        self.failing = None;
    }

    /// Whether the entry that has its turn could not be merged so far.
    pub(crate) fn is_failing(&self) -> bool {
        self.failing.is_some()
    }

    /// Whether the entry that has its turn rests.
    pub(super) fn rests(&self) -> bool {
        self.rests_until().is_some()
    }

    /// When it is tried again.
    pub(crate) fn rests_until(&self) -> Option<Time> {
        self.failing.as_ref().and_then(|failing| failing.until)
    }

    /// Ends a rest whose time has passed; says whether it did.
    pub(crate) fn rested(&mut self, now: Time) -> bool {
        let Some(failing) = self.failing.as_mut().filter(|failing| failing.until.is_some_and(|at| at <= now))
        else {
            return false;
        };
        failing.until = None;
        true
    }

    /// Other content was adopted (M2).
    pub(super) fn forget_all(&mut self, applied: Index) {
        self.of.clear();
        self.failing = None;
        self.looked = applied;
    }

    fn begin(&mut self, index: Index, ahead: bool) -> u64 {
        self.number += 1;
        self.of.insert(index, Merge::Running { number: self.number, ahead });
        self.number
    }

    /// The entry that a merge under way is for, and whether it was begun ahead.
    fn find(&self, wanted: u64) -> Option<(Index, bool)> {
        self.of.iter().find_map(|(index, merge)| match merge {
            Merge::Running { number, ahead } if *number == wanted => Some((*index, *ahead)),
            _ => None,
        })
    }
}

impl Pod {
    /// Begins what can be begun now; the entry to be applied next is always among it, unless it is under way.
    pub(super) fn merge_ahead(&mut self, context: &ApplyContext<'_>) -> Vec<MergeRequest> {
        let next = self.applied.next();
        let mut begun = Vec::new();
        if !self.merges.of.contains_key(&next) {
            begun.extend(self.begin_merge(context, next));
        }
        let looked = self.merges.looked.max(next);
        let window = self.unapplied.iter().take(AHEAD).take_while(|entry| entry.index <= self.committed);
        let fresh: Vec<Index> = window.map(|entry| entry.index).filter(|index| *index > looked).collect();
        for index in fresh {
            self.merges.looked = index;
            if self.is_undisturbed(index) {
                begun.extend(self.begin_merge(context, index));
            }
        }
        begun
    }

    /// Whether the entry covers blocks in part that no unapplied entry before it touches (M1).
    fn is_undisturbed(&self, index: Index) -> bool {
        let at = self.unapplied.partition_point(|entry| entry.index < index);
        let touches = self.unapplied.get(at).and_then(|entry| entry.touches);
        let Some((volume, offset, length)) = touches else { return false };
        let Some(partial) = blocks_in_part(offset, length) else { return false };
        let before = self.unapplied.iter().take(at);
        !before
            .filter_map(blocks_of)
            .any(|(other, blocks)| other == volume && partial.iter().any(|block| blocks.contains(block)))
    }

    fn begin_merge(&mut self, context: &ApplyContext<'_>, index: Index) -> Option<MergeRequest> {
        let operation = self.operation_of(self.machine.entry(index)?).ok()??;
        let (volume, offset, length) = operation.touches()?;
        if !self.fits(volume, offset, length) {
            return None;
        }
        let blocks = self.merge_blocks(context.nodes, volume, &operation, offset, length);
        if blocks.is_empty() {
            return None;
        }
        let number = self.merges.begin(index, index > self.applied.next());
        Some(MergeRequest { number, blocks })
    }

    /// A merge ended well.
    pub(crate) fn merge_done(&mut self, number: u64, whole: Whole) {
        if let Some((index, _)) = self.merges.find(number) {
            self.merges.of.insert(index, Merge::Ready(whole));
        }
    }

    /// A merge failed. What was read ahead is read again at the entry's turn, which may never come: its volume may be gone by
    /// then.
    pub(crate) fn merge_failed(&mut self, now: Time, number: u64, may_rest: bool) -> MergeFailed {
        let Some((index, ahead)) = self.merges.find(number) else { return MergeFailed::Nothing };
        self.merges.of.remove(&index);
        if ahead {
            return MergeFailed::Nothing;
        }
        let since = self.merges.failing.as_ref().map_or(now, |failing| failing.since);
        if !may_rest || self.peer().is_none() || now >= since + GIVE_UP_AFTER {
            return MergeFailed::GivenUp;
        }
        self.merges.failing = Some(Failing { since, until: Some(now + REST) });
        MergeFailed::Rests
    }
}

/// The blocks that a byte range covers in part.
pub(super) fn blocks_in_part(offset: u64, length: u64) -> Option<Vec<u64>> {
    let end = offset.checked_add(length)?;
    let first = (!offset.is_multiple_of(BLOCK_BYTES)).then_some(offset / BLOCK_BYTES);
    let last = (!end.is_multiple_of(BLOCK_BYTES)).then_some(end / BLOCK_BYTES);
    let blocks: Vec<u64> = first.into_iter().chain(last).collect();
    (length > 0 && !blocks.is_empty()).then_some(blocks)
}

/// The blocks that an entry touches.
fn blocks_of(entry: &Unapplied) -> Option<(VolumeId, Range<u64>)> {
    let (volume, offset, length) = entry.touches?;
    Some((volume, offset / BLOCK_BYTES..offset.saturating_add(length).div_ceil(BLOCK_BYTES)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_in_part_are_the_ends_of_a_range_that_are_not_aligned() {
        assert_eq!(blocks_in_part(0, 4096), None);
        assert_eq!(blocks_in_part(4096, 0), None);
        assert_eq!(blocks_in_part(512, 512), Some(vec![0, 0]));
        assert_eq!(blocks_in_part(4096, 512), Some(vec![1]));
        assert_eq!(blocks_in_part(4608, 8192), Some(vec![1, 3]));
        assert_eq!(blocks_in_part(4608, 3584), Some(vec![1]));
        assert_eq!(blocks_in_part(u64::MAX, 2), None);
    }

    #[test]
    fn an_entry_touches_every_block_of_its_range() {
        let entry =
            |offset, length| Unapplied { index: Index(1), touches: Some((VolumeId(2), offset, length)) };
        assert_eq!(blocks_of(&entry(4608, 3584)), Some((VolumeId(2), 1..2)));
        assert_eq!(blocks_of(&entry(4608, 3585)), Some((VolumeId(2), 1..3)));
        assert_eq!(blocks_of(&entry(0, u64::MAX)), Some((VolumeId(2), 0..1 << 52)));
    }
}
