//! What the target has asked for and not yet received.
//!
//! - A1: content is asked for once: within a batch its first block asks, and what an earlier batch asked for is not
//!   asked for again.
//! - A2: content is answered in the order of its batch; content that was not asked for is refused.
//! - A3: at most [`WINDOW_BATCHES`] batches and [`WINDOW_ENTRIES`] entries are open.

use std::collections::{BTreeMap, VecDeque};

use metropod_dedupe::Digest;
use metropod_snapshots::{Extent, Slot};
use rustc_hash::FxHashSet;

use super::error::{TransferError, Violation};
use super::message::Body;
use super::{ASKS_MAX, BLOCK_BYTES, WINDOW_BATCHES, WINDOW_ENTRIES};

/// See the module's text.
#[derive(Default)]
pub(super) struct Asks {
    open: BTreeMap<u64, Batch>,
    open_entries: usize,
    asked: FxHashSet<Digest>,
    last_seq: u64,
}

struct Batch {
    entries: usize,
    names: Vec<Digest>,
    /// Positions in `names` whose content is on its way.
    wanted: VecDeque<usize>,
    /// Positions whose content came damaged.
    damaged: Vec<usize>,
    asks: u8,
    tally: Tally,
}

/// What a batch cost, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    /// Content that it names.
    pub named: u64,
    /// Content that was shipped for it.
    pub shipped: u64,
    /// The same, as stored.
    pub stored: u64,
}

/// How a batch stands.
pub(super) enum Standing {
    /// Content is on its way.
    Waiting,
    /// Content came damaged and is asked for again.
    Again(Body),
    /// Everything is there.
    Done(Tally),
}

/// Names of the data entries, in order.
pub(super) fn names_of(entries: &[Extent]) -> Vec<Digest> {
    let names = entries.iter().filter_map(|entry| match entry.slot {
        Slot::Zero => None,
        Slot::Data(digest) => Some(digest),
    });
    names.collect()
}

/// Bytes of content that `blocks` blocks hold.
pub(super) fn content_bytes(blocks: u64) -> u64 {
    blocks.saturating_mul(BLOCK_BYTES as u64)
}

impl Asks {
    /// Checks that a batch is the next one and fits the window.
    pub(super) fn admit(&mut self, seq: u64, entries: usize) -> Result<(), Violation> {
        if seq != self.last_seq + 1 {
            return Err(Violation::Order);
        }
        if self.open.len() >= WINDOW_BATCHES || self.open_entries + entries > WINDOW_ENTRIES {
            return Err(Violation::Window);
        }
        self.last_seq = seq;
        Ok(())
    }

    /// Positions in `names` of content that nobody has asked for yet, each once.
    pub(super) fn candidates(&self, names: &[Digest]) -> Vec<usize> {
        let mut seen = FxHashSet::default();
        let fresh = |name: &Digest| !self.asked.contains(name);
        names
            .iter()
            .enumerate()
            .filter(|(_, name)| fresh(name) && seen.insert(**name))
            .map(|(at, _)| at)
            .collect()
    }

    /// Opens an admitted batch of which the content at `lacking` is not in the store.
    pub(super) fn open(
        &mut self,
        seq: u64,
        entries: usize,
        names: Vec<Digest>,
        lacking: Vec<usize>,
    ) -> Standing {
        let tally = Tally {
            named: content_bytes(names.len() as u64),
            shipped: content_bytes(lacking.len() as u64),
            stored: 0,
        };
        if lacking.is_empty() {
            return Standing::Done(tally);
        }
        self.asked.extend(lacking.iter().map(|at| names[*at]));
        let need = need(seq, names.len(), &lacking);
        let batch = Batch { entries, names, wanted: lacking.into(), damaged: Vec::new(), asks: 1, tally };
        self.open_entries += entries;
        self.open.insert(seq, batch);
        Standing::Again(need)
    }

    /// Position and name of the content that comes next for a batch.
    pub(super) fn next_wanted(&mut self, seq: u64) -> Result<(usize, Digest), Violation> {
        let batch = self.open.get_mut(&seq).ok_or(Violation::Unasked)?;
        let at = batch.wanted.pop_front().ok_or(Violation::Unasked)?;
        Ok((at, batch.names[at]))
    }

    /// The content at `at` was verified and is in the store.
    pub(super) fn arrived(&mut self, seq: u64, at: usize, stored: usize) {
        if let Some(batch) = self.open.get_mut(&seq) {
            self.asked.remove(&batch.names[at]);
            batch.tally.stored += stored as u64;
        }
    }

    /// The content at `at` is not what it is named after.
    pub(super) fn damaged(&mut self, seq: u64, at: usize) {
        if let Some(batch) = self.open.get_mut(&seq) {
            batch.damaged.push(at);
        }
    }

    /// Looks at a batch after content came for it.
    pub(super) fn settle(&mut self, seq: u64) -> Result<Standing, TransferError> {
        let Some(batch) = self.open.get_mut(&seq) else { return Err(Violation::Unasked.into()) };
        if !batch.wanted.is_empty() {
            return Ok(Standing::Waiting);
        }
        if let Some(at) = batch.damaged.first() {
            if batch.asks >= ASKS_MAX {
                return Err(TransferError::Corrupt { digest: batch.names[*at] });
            }
            batch.asks += 1;
            let again = std::mem::take(&mut batch.damaged);
            let body = need(seq, batch.names.len(), &again);
            batch.wanted = again.into();
            return Ok(Standing::Again(body));
        }
        let tally = batch.tally;
        self.open_entries -= batch.entries;
        self.open.remove(&seq);
        Ok(Standing::Done(tally))
    }

    /// Whether everything asked for has come.
    pub(super) fn is_settled(&self) -> bool {
        self.open.is_empty()
    }
}

fn need(seq: u64, names: usize, lacking: &[usize]) -> Body {
    let mut bits = vec![false; names];
    lacking.iter().for_each(|at| bits[*at] = true);
    Body::Need { seq, lacking: bits }
}
