//! Records that die and segments that are freed.
//!
//! All of it happens during a turn, so whoever has the turn sees locations that stay valid.

use bytes::Bytes;
use metropod_journal::media::{Cause, Create, Durability, MediaError};

use super::{Inner, Store, WriteError};
use crate::files::{OpenFile, remove_detached};
use crate::index::{RUN_DIR, RunId, dead_path};
use crate::location::{Location, SegmentId};
use crate::segment::segment_path;
use crate::state::{DeadList, SegmentRecord};

/// Largest single write of a list of dead records, in bytes.
const WRITE_STEP_BYTES: usize = 1 << 20;

/// What a segment's counts are short of to agree with the list of the dead as it was last written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Unlisted {
    records: u32,
    bytes: u64,
    raw_bytes: u64,
}

impl Inner {
    /// A segment as a state tells of it: counted as the list counts that the same state names.
    pub(super) fn as_listed(&self, segment: &SegmentRecord) -> SegmentRecord {
        let unlisted = self.unlisted.get(&segment.id).copied().unwrap_or_default();
        SegmentRecord {
            live_records: segment.live_records + unlisted.records,
            live_bytes: segment.live_bytes + unlisted.bytes,
            live_raw_bytes: segment.live_raw_bytes + unlisted.raw_bytes,
            ..*segment
        }
    }

    /// Whether a record may be given out: its segment stands and it is not dead.
    pub(super) fn is_visible(&self, location: Location) -> bool {
        self.segments.contains_key(&location.segment()) && !self.dead.contains(location)
    }

    pub(super) fn only_visible(&self, location: Location) -> Option<Location> {
        Some(location).filter(|location| self.is_visible(*location))
    }

    /// A record is superseded by another of its name.
    pub(super) fn bury(&mut self, location: Location, raw_len: u32) {
        if !self.is_visible(location) {
            return;
        }
        if let Some(marks) = &mut self.marks {
            marks.clear(location);
        }
        self.buried += 1;
        self.dead.insert(location);
        self.deduct(location.segment(), 1, u64::from(location.length_max()), u64::from(raw_len));
        self.free_if_empty(location.segment());
    }

    /// Records of a segment have died.
    pub(super) fn deduct(&mut self, segment: SegmentId, records: u32, bytes: u64, raw_bytes: u64) {
        if let Some(segment) = self.segments.get_mut(&segment) {
            assert!(records <= segment.live_records, "a record dies once");
            let bytes = bytes.min(segment.live_bytes);
            segment.live_records -= records;
            segment.live_bytes -= bytes;
            self.live_bytes -= bytes;
            let raw_bytes = raw_bytes.min(segment.live_raw_bytes);
            segment.live_raw_bytes -= raw_bytes;
            let unlisted = self.unlisted.entry(segment.id).or_default();
            unlisted.records += records;
            unlisted.bytes += bytes;
            unlisted.raw_bytes += raw_bytes;
        }
    }

    /// Frees what emptied while it was still written to.
    pub(super) fn free_all_empty(&mut self) {
        let empty = self.segments.values().filter(|segment| segment.live_records == 0);
        let empty: Vec<SegmentId> = empty.map(|segment| segment.id).collect();
        empty.into_iter().for_each(|segment| self.free_if_empty(segment));
    }

    /// Frees a segment in which nothing lives, unless it is still written to. Its file goes once a state without it is
    /// durable (C5).
    pub(super) fn free_if_empty(&mut self, segment: SegmentId) {
        let is_empty = self.segments.get(&segment).is_some_and(|segment| segment.live_records == 0);
        if !is_empty || self.open.contains(&segment) {
            return;
        }
        let freed = self.segments.remove(&segment);
        // What the lengths of its records, which its locations round up, have left.
        self.live_bytes -= freed.map_or(0, |segment| segment.live_bytes);
        self.unloaded.remove(&segment);
        self.dead.forget(segment);
        self.unlisted.remove(&segment);
        // The next state is the first that does not name it.
        self.obsolete.push((self.generation + 1, segment_path(segment)));
        self.freed_segments += 1;
    }
}

impl Store {
    /// Writes down which records are dead, if that has changed. For the flow that has the turn.
    ///
    /// A full device does not stop a flush, without which nothing could ever be freed: the state then names the list of
    /// before, and counts as that one does ([`Unlisted`]). What died since is found again after a restart, until the next pass.
    pub(super) async fn write_dead_list(&self) -> Result<(), WriteError> {
        let (id, bytes) = {
            let mut inner = self.lock();
            if inner.unlisted.is_empty() {
                return Ok(());
            }
            let id = inner.take_run_id();
            (id, inner.dead.encode(&self.shared.config.array, id))
        };
        let file_bytes = bytes.len() as u64;
        if let Err(error) = self.write_dead_file(id, Bytes::from(bytes)).await {
            remove_detached(&self.shared.io, dead_path(id));
            return if error.cause == Cause::NoSpace { Ok(()) } else { Err(WriteError::Index(error)) };
        }
        let mut inner = self.lock();
        inner.unlisted.clear();
        let from = inner.generation + 1;
        let replaced = inner.dead_list.replace(DeadList { id, file_bytes });
        inner.obsolete.extend(replaced.map(|list| (from, dead_path(list.id))));
        Ok(())
    }

    async fn write_dead_file(&self, id: RunId, mut bytes: Bytes) -> Result<(), MediaError> {
        let io = &self.shared.io;
        let file = OpenFile::open(io, &dead_path(id), Create::New).await?;
        let mut offset = 0;
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(WRITE_STEP_BYTES));
            let length = piece.len() as u64;
            io.write(file.id(), offset, vec![piece], Durability::Cached).await?;
            offset += length;
        }
        io.sync(file.id()).await?;
        io.sync_dir(RUN_DIR).await
    }
}
