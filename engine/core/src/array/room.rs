//! Room in the one journal that all pods share: what a checkpoint would let go of, and copying forward what pins it.
//!
//! ```text
//! a quarter full ── a checkpoint would free a segment ──► checkpoint
//!           └─ it would not: some pod's old records pin it ──► those entries are pushed again ── durable ──► checkpoint
//! ```
//! - R1: a record is let go of only when a durable manifest contains it, or when a copy of it is durable further on.
//! - R2: a paused pod or a peer that lags pins the journal up to a bound; other pods go on. Entries that a joiner still
//!   needs are kept while less than [`JOINER_SHARE`] of the room is used; then it gets another round instead.
//! - R3: replay takes an entry once, whether it finds the first record of it or a copy.
//! - R4: hosts' writes never take the last of the budget: it is for a peer's window of entries, which come unasked, and for
//!   state records, without which a pod could neither leave its peer nor go on alone.

use std::collections::VecDeque;

use metropod_journal::{Lsn, Record};
use metropod_protocol::settings::CONNECTION_WINDOW_BYTES;
use metropod_protocol::{Entry, Index, PodId, Ticket};

use super::Array;
use super::pacing::Gauge;
use crate::door::Channel;
use crate::journal_record::{JournalRecord, stream_of};
use crate::pod::Pod;

/// Share of the room at which a checkpoint starts: it is to end before writes are delayed, at half of it.
const CHECKPOINT_SHARE: (u64, u64) = (1, 4);

/// Share of the room above which nothing is kept for a joiner (R2).
const JOINER_SHARE: (u64, u64) = (2, 5);

/// Journal kept for state records (R4), in bytes.
const STATE_BYTES: u64 = 4 << 20;

/// Journal kept for what one peer may send unasked (R4), in bytes: its window, one entry, and what its hosts wait for here.
const PEER_BYTES: u64 = 2 * CONNECTION_WINDOW_BYTES as u64 + (2 << 20);

/// Least share of the budget that stays for hosts' writes.
const ROOM_SHARE: (u64, u64) = (3, 4);

/// Journal that one record stands for, in bytes: with fewer on average recovery would take longer than reading it does.
const RECORD_BYTES: u64 = 1 << 10;

/// What an entry takes in the journal besides its descriptor and attachment, at most.
const ENTRY_BYTES: u64 = 256;

/// Share of the budget that the entries of one pod that are copied forward may take.
const COPY_SHARE: (u64, u64) = (1, 8);

/// The same for a damaged pod, which moves no further by itself: all that can have been under way.
const COPY_SHARE_DAMAGED: (u64, u64) = (1, 2);

const _: () = {
    assert!(CHECKPOINT_SHARE.0 * JOINER_SHARE.1 < JOINER_SHARE.0 * CHECKPOINT_SHARE.1);
    assert!(2 * JOINER_SHARE.0 < JOINER_SHARE.1, "nothing is delayed for a joiner");
};

impl Array {
    /// Whether so much of the journal is used that it should be trimmed.
    pub(super) fn is_journal_pressed(&self) -> bool {
        self.uses_share(CHECKPOINT_SHARE)
    }

    /// Bytes and records of the journal, and how much there may be before hosts' writes wait (R4).
    pub(super) fn journal_gauges(&self) -> [Gauge; 2] {
        let budget = self.journal.budget_bytes();
        let used = self.journal.used_bytes() + self.journal.queued_bytes();
        let records = self.journal.next_lsn().0 - self.journal.oldest().0;
        let bytes = Gauge { used, room: self.journal_room() };
        [bytes, Gauge { used: records, room: budget / RECORD_BYTES }]
    }

    /// Journal that hosts' writes may take, in bytes.
    fn journal_room(&self) -> u64 {
        let budget = self.journal.budget_bytes();
        let peers = self.links.iter().filter(|(_, channel)| *channel == Channel::Sync).count() as u64;
        let kept = STATE_BYTES.min(budget / 32) + peers.saturating_mul(PEER_BYTES);
        let (share, whole) = ROOM_SHARE;
        budget.saturating_sub(kept).max(budget / whole * share)
    }

    /// Whether a manifest's base leaves a joiner what it needs (R2).
    pub(super) fn keeps_for_joiners(&self) -> bool {
        !self.uses_share(JOINER_SHARE)
    }

    fn uses_share(&self, (share, whole): (u64, u64)) -> bool {
        self.journal_gauges().iter().any(|gauge| gauge.used >= gauge.room / whole * share)
    }

    /// Whether a checkpoint of now would free a segment. If one pod's old entries prevent it, they are copied forward.
    pub(super) fn would_checkpoint_free(&mut self) -> bool {
        let keeps = self.keeps_for_joiners();
        // What is not durable yet a manifest cannot rely on (A3).
        let mut trim = Lsn(self.journal.durable().0 + 1);
        let mut pins = Vec::new();
        for pod in self.pods.values() {
            let base = pod.machine.base_for(pod.applied, keeps);
            if let Some(needed) = pod.first_needed(base) {
                trim = trim.min(needed);
                if !self.journal.would_free(needed) {
                    pins.push((pod.id, base));
                }
            }
        }
        if self.journal.would_free(trim) {
            return true;
        }
        for (pod, base) in pins {
            self.copy_forward(pod, base);
        }
        false
    }

    /// Pushes the entries after `base` again, unless that is under way or they are too many.
    fn copy_forward(&mut self, pod: PodId, base: Index) {
        let budget = self.journal.budget_bytes();
        let left = budget.saturating_sub(self.journal_gauges()[0].used + STATE_BYTES.min(budget / 32));
        let oldest = self.journal.oldest();
        let Some(found) = self.pods.get_mut(&pod) else { return };
        if !found.copies.is_empty()
            || found.moves_from(base)
            || found.too_much_to_copy == Some((base, oldest))
        {
            return;
        }
        let (share, whole) = if found.damaged { COPY_SHARE_DAMAGED } else { COPY_SHARE };
        if found.bytes_after(base) > (budget / whole * share).min(left) {
            found.too_much_to_copy = Some((base, oldest));
            return;
        }
        for (index, record) in found.records_after(base) {
            let lsn = self.journal.push(record);
            found.copies.push_back((index, lsn));
        }
    }
}

impl Pod {
    /// Whether what is needed after `base` gets less without a copy: a peer catches up with it, or it is being applied.
    fn moves_from(&self, base: Index) -> bool {
        self.applied > base || (self.applied < self.committed && !self.damaged)
    }

    fn held_after(&self, base: Index) -> impl Iterator<Item = &Entry> {
        let mut index = base;
        std::iter::from_fn(move || {
            index = index.next();
            self.machine.entry(index)
        })
    }

    /// Journal that the held entries after `base` take, about, in bytes.
    fn bytes_after(&self, base: Index) -> u64 {
        self.held_after(base).map(|entry| ENTRY_BYTES + entry.payload_bytes() as u64).sum()
    }

    /// The held entries after `base` as journal records.
    fn records_after(&self, base: Index) -> Vec<(Index, Record)> {
        let record = |entry: &Entry| {
            // Only a machine's own append is awaited by its ticket; a copy is not.
            let record = JournalRecord::Entry { ticket: Ticket(0), entry: entry.clone() };
            let (body, attachment) = (record.encode_body(), record.attachment());
            (entry.index, Record { stream: stream_of(self.id), index: entry.index.0, body, attachment })
        };
        self.held_after(base).map(record).collect()
    }

    /// Everything up to `through` is durable: copies that are take the place of what they are copies of (R1).
    pub(super) fn adopt_copies(&mut self, through: Lsn) {
        if self.copies.back().is_none_or(|(_, last)| *last > through) {
            return;
        }
        let copies = std::mem::take(&mut self.copies);
        let (first, last) = (copies[0].0, copies[copies.len() - 1].0);
        let before = self.entry_lsns.partition_point(|(index, _)| *index < first);
        let after = self.entry_lsns.partition_point(|(index, _)| *index <= last);
        let newer = self.entry_lsns.split_off(after);
        self.entry_lsns.truncate(before);
        self.entry_lsns.extend(copies);
        self.entry_lsns.extend(newer);
    }

    /// Entries after `keep` are gone, copies too.
    pub(crate) fn cut_lsns(&mut self, keep: Index) {
        for lsns in [&mut self.entry_lsns, &mut self.copies] {
            let kept = lsns.partition_point(|(index, _)| *index <= keep);
            lsns.truncate(kept);
        }
    }
}

/// First records of entries, in order of index: none lies behind that of a later entry, so that the first needed one is the
/// least. After a crash some entries may be found as copies and later ones not.
pub(super) fn in_order(found: impl DoubleEndedIterator<Item = (Index, Lsn)>) -> VecDeque<(Index, Lsn)> {
    let mut ordered = VecDeque::new();
    let mut least = Lsn(u64::MAX);
    for (index, lsn) in found.rev() {
        least = least.min(lsn);
        ordered.push_front((index, least));
    }
    ordered
}
