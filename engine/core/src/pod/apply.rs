//! Committed entries become visible: chunks into the store, slots into the maps, changes into the namespace.

use std::ops::Range;

use bytes::Bytes;
use metropod_dedupe::{Domain, Reduced, Store, verify_blocks};
use metropod_protocol::{Body, Entry, Index, RequestId};
use metropod_snapshots::{Nodes, Slot};

use super::merges::blocks_in_part;
use super::{Pod, Waiting};
use crate::fetch::Fetch;
use crate::names::VolumeId;
use crate::operation::{BLOCK_BYTES, Operation, Piece, shares};
use crate::pod::Answer;

/// Pieces checked together: as many as one call hashes side by side.
const VERIFY_PIECES: usize = 16;

/// What applying needs from the array.
pub struct ApplyContext<'a> {
    /// Where chunks go.
    pub store: &'a Store,
    /// Reads the old content of blocks that are written in part.
    pub nodes: &'a Nodes<Store>,
}

/// Blocks of the next entry that must be read and merged before it can be applied.
pub struct MergeRequest {
    /// Names the request.
    pub number: u64,
    /// Each block with where its old content is and the bytes to lay over it.
    pub blocks: Vec<MergeBlock>,
}

/// One block to merge.
pub struct MergeBlock {
    /// Block number.
    pub block: u64,
    /// Reads the old content of the block.
    pub old: Fetch,
    /// First byte to replace.
    pub start: usize,
    /// New bytes.
    pub bytes: Bytes,
}

/// What happened while applying.
pub enum Applied {
    /// Nothing more is committed, or a merge is running, or a freeze is due.
    Idle,
    /// An entry was applied; a request of this array is answered.
    Entry(Option<(RequestId, Answer)>),
    /// The next entry waits for a merge; these are to be begun.
    Merge(Vec<MergeRequest>),
    /// The entry's content does not match its digests (P4).
    Damaged,
}

impl Pod {
    /// Applies the next committed entry, if that is possible now.
    pub(crate) fn apply_next(&mut self, context: &ApplyContext<'_>) -> Applied {
        if self.damaged || self.applied >= self.committed {
            return Applied::Idle;
        }
        if self.freeze_wanted.is_some_and(|(_, at)| at == self.applied) {
            return Applied::Idle;
        }
        let next = self.applied.next();
        if self.merges.is_running(next) {
            return Applied::Merge(self.merge_ahead(context));
        }
        if self.merges.rests() {
            return Applied::Idle;
        }
        let entry = self.machine.entry(next).expect("committed entries after `applied` are held").clone();
        let operation = if self.is_sound(next) { self.operation_of(&entry) } else { Err(()) };
        match operation {
            Err(()) => {
                self.damaged = true;
                Applied::Damaged
            }
            Ok(None) => Applied::Entry(self.advance(&entry, None)),
            Ok(Some(operation)) => self.apply_operation(context, &entry, operation),
        }
    }

    pub(super) fn operation_of(&self, entry: &Entry) -> Result<Option<Operation>, ()> {
        let Body::Operation { descriptor, attachment } = &entry.body else { return Ok(None) };
        let operation = Operation::decode(descriptor.clone(), attachment.clone()).map_err(|_| ())?;
        Ok(Some(operation))
    }

    /// Whether the content of an entry about to be applied is what its digests say. What the other array took in is
    /// checked once; entries that are committed behind it are checked with it, so that blocks are hashed side by side.
    fn is_sound(&mut self, next: Index) -> bool {
        if next > self.verified {
            let (through, unsound) = self.verify_from(next);
            (self.verified, self.unsound) = (through, unsound);
        }
        self.unsound != Some(next)
    }

    /// Checks entries from `next` on until [`VERIFY_PIECES`] pieces are; gives the last one checked and the first unsound one.
    fn verify_from(&self, next: Index) -> (Index, Option<Index>) {
        let mut pieces: Vec<(Index, metropod_dedupe::Digest, metropod_dedupe::Payload)> = Vec::new();
        let (mut through, mut index) = (next, next);
        while index <= self.committed
            && pieces.len() < VERIFY_PIECES
            && let Some(entry) = self.machine.entry(index)
        {
            if entry.origin != self.me
                && let Body::Operation { descriptor, attachment } = &entry.body
                && let Ok(Operation::Write { pieces: found, .. }) =
                    Operation::decode(descriptor.clone(), attachment.clone())
            {
                pieces.extend(found.into_iter().filter_map(|piece| match piece {
                    Piece::Data { digest, payload } => Some((index, digest, payload)),
                    _ => None,
                }));
            }
            through = index;
            index = index.next();
        }
        let sound = verify_blocks(pieces.iter().map(|(_, digest, payload)| (digest, payload)));
        let unsound = pieces.iter().zip(sound).find(|(_, sound)| !sound).map(|((index, _, _), _)| *index);
        (through.min(unsound.unwrap_or(through)), unsound)
    }

    fn apply_operation(
        &mut self,
        context: &ApplyContext<'_>,
        entry: &Entry,
        operation: Operation,
    ) -> Applied {
        if let Operation::Manage(manage) = operation {
            let answer = self.apply_manage(entry.index, manage);
            let mine = entry.origin == self.me && entry.origin_incarnation == self.machine.incarnation();
            return Applied::Entry(self.advance(entry, mine.then_some(answer)));
        }
        let Some((volume, offset, length)) = operation.touches() else {
            return Applied::Entry(self.advance(entry, None));
        };
        // A write that was ordered behind an eradication or truncation finds nothing to change, on either array alike.
        if !self.fits(volume, offset, length) {
            return Applied::Entry(self.advance(entry, None));
        }
        let mut merged = Vec::new();
        if blocks_in_part(offset, length).is_some() {
            match self.merges.take(entry.index) {
                Some(whole) => merged = whole,
                None => return Applied::Merge(self.merge_ahead(context)),
            }
        }
        self.place_whole(context.store, volume, &operation, offset, length);
        for (block, reduced) in merged {
            self.place(context.store, volume, block, reduced);
        }
        Applied::Entry(self.advance(entry, None))
    }

    /// Whether the range lies in the volume as it is now.
    pub(super) fn fits(&self, volume: VolumeId, offset: u64, length: u64) -> bool {
        let found = self.namespace.volumes.get(&volume);
        found.is_some_and(|found| offset.checked_add(length).is_some_and(|end| end <= found.size_bytes))
    }

    pub(super) fn merge_blocks(
        &self,
        nodes: &Nodes<Store>,
        volume: VolumeId,
        operation: &Operation,
        offset: u64,
        length: u64,
    ) -> Vec<MergeBlock> {
        let mut blocks = Vec::new();
        for (at, (block, share)) in shares_to_merge(operation, offset, length) {
            let bytes = match operation {
                Operation::Write { pieces, .. } => match &pieces[at] {
                    Piece::Partial(bytes) => bytes.clone(),
                    Piece::Zero | Piece::Data { .. } => Bytes::from(vec![0; share.length as usize]),
                },
                _ => Bytes::from(vec![0; share.length as usize]),
            };
            let old = Fetch::of_map(&self.maps[&volume], nodes, block * BLOCK_BYTES, BLOCK_BYTES);
            blocks.push(MergeBlock { block, old, start: share.start as usize, bytes });
        }
        blocks
    }

    /// Places every block that the operation covers whole.
    fn place_whole(
        &mut self,
        store: &Store,
        volume: VolumeId,
        operation: &Operation,
        offset: u64,
        length: u64,
    ) {
        match operation {
            Operation::Write { pieces, .. } => {
                for ((block, share), piece) in shares(offset, length).zip(pieces) {
                    if !share.is_whole() {
                        continue;
                    }
                    match piece {
                        Piece::Zero => self.place(store, volume, block, Reduced::Zero),
                        Piece::Data { digest, payload } => {
                            let (digest, payload) = (*digest, payload.clone());
                            self.place(store, volume, block, Reduced::Chunk { digest, payload });
                        }
                        Piece::Partial(_) => {}
                    }
                }
            }
            Operation::Zero { .. } => {
                let whole = whole_blocks(offset, length);
                if let (Some(map), false) = (self.maps.get_mut(&volume), whole.is_empty()) {
                    map.zero(whole);
                }
            }
            Operation::Manage(_) => {}
        }
    }

    fn place(&mut self, store: &Store, volume: VolumeId, block: u64, reduced: Reduced) {
        let slot = match reduced {
            Reduced::Zero => Slot::Zero,
            Reduced::Chunk { digest, payload } => {
                store.stage(Domain::Data, digest, payload);
                Slot::Data(digest)
            }
        };
        if let Some(map) = self.maps.get_mut(&volume) {
            map.set(block, slot);
        }
    }

    fn advance(&mut self, entry: &Entry, answer: Option<Answer>) -> Option<(RequestId, Answer)> {
        assert!(
            entry.index == self.applied.next() && entry.index <= self.committed,
            "P1: in order, committed only"
        );
        self.applied = entry.index;
        self.merges.passed(entry.index);
        while self.unapplied.front().is_some_and(|front| front.index <= entry.index) {
            self.unapplied.pop_front();
        }
        let request = RequestId(entry.origin_request);
        if answer.is_some() && self.waiting.get(&request) == Some(&Waiting::Chore) {
            self.waiting.remove(&request);
            self.chore_ends(request);
        }
        match answer {
            Some(answer) if self.waiting.get(&request) == Some(&Waiting::Manage) => {
                self.waiting.remove(&request);
                Some((request, answer))
            }
            _ => None,
        }
    }

    /// Index that applying waits at to take a freeze, if it got there.
    pub(crate) fn freeze_due(&self) -> Option<(metropod_protocol::ConfigId, Index)> {
        self.freeze_wanted.filter(|(_, at)| *at == self.applied)
    }
}

/// Blocks covered wholly by a byte range.
fn whole_blocks(offset: u64, length: u64) -> Range<u64> {
    let first = offset.div_ceil(BLOCK_BYTES);
    let end = (offset + length) / BLOCK_BYTES;
    first..end.max(first)
}

/// The shares that cover their block only in part, with their position among all shares. A zero range has at most two.
fn shares_to_merge(
    operation: &Operation,
    offset: u64,
    length: u64,
) -> Vec<(usize, (u64, crate::operation::Share))> {
    match operation {
        Operation::Zero { .. } => {
            let head = shares(offset, length.min(BLOCK_BYTES - offset % BLOCK_BYTES)).next();
            let tail_start = ((offset + length) / BLOCK_BYTES * BLOCK_BYTES).max(offset);
            let tail = shares(tail_start, offset + length - tail_start).next();
            let mut found: Vec<_> =
                head.into_iter().chain(tail).filter(|(_, share)| !share.is_whole()).collect();
            found.dedup();
            found.into_iter().map(|share| (0, share)).collect()
        }
        _ => shares(offset, length).enumerate().filter(|(_, (_, share))| !share.is_whole()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_merged_is_what_a_range_covers_in_part() {
        let step = BLOCK_BYTES / 8;
        for (offset, length) in
            (0..24).flat_map(|first| (1..24).map(move |count| (first * step, count * step)))
        {
            let mut expected = blocks_in_part(offset, length).unwrap_or_default();
            expected.dedup();
            let pieces = shares(offset, length).map(|_| Piece::Zero).collect();
            for operation in [
                Operation::Zero { volume: VolumeId(1), offset, length },
                Operation::Write { volume: VolumeId(1), offset, length, pieces },
            ] {
                let merged = shares_to_merge(&operation, offset, length);
                let blocks: Vec<u64> = merged.into_iter().map(|(_, (block, _))| block).collect();
                assert_eq!(blocks, expected, "{offset}+{length}");
            }
        }
    }
}
