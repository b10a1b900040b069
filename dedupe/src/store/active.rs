//! One segment that this process began: its buffer, its records, and how far it can be relied on.

use std::ops::Range;

use bytes::Bytes;
use metropod_journal::media::{Create, Durability, Io, MediaError};

use super::Inner;
use crate::digest::{Digest, Domain};
use crate::files::OpenFile;
use crate::location::{Location, SegmentId};
use crate::reduce::Payload;
use crate::segment::{
    DURABLE_ALIGN_BYTES, RECORD_ALIGN_BYTES, RecordEntry, SEGMENT_HEADER_BYTES, Stream, encode_footer,
    encode_record, encode_segment_header, footer_bytes, record_bytes, segment_path,
};
use crate::state::SegmentRecord;

/// Records that become findable under one lock: about half a millisecond.
const HARDENED_AT_ONCE: usize = 512;

/// Which call on a segment has not been seen to succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    None,
    Write,
    Sync,
}

/// Where the content of a record came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was staged, and still is.
    Staged {
        /// The record whose place this one takes.
        replaced: Option<Location>,
    },
    /// It was copied from here, where it still is.
    Moved { from: Location },
}

pub(super) struct Placed {
    pub digest: Digest,
    pub location: Location,
    pub raw_len: u32,
    pub origin: Origin,
}

/// A segment that this process began.
pub(super) struct Active {
    pub id: SegmentId,
    pub stream: Stream,
    pub file: OpenFile,
    /// What follows `written`.
    pub buffer: Vec<u8>,
    /// Bytes that were written successfully.
    pub written: u32,
    /// All its records, in order of offset.
    pub placed: Vec<Placed>,
    /// How many of `placed` are on stable storage.
    pub hardened: usize,
    /// Its name is on stable storage.
    pub named: bool,
    pub sealed: bool,
    pub doubt: Doubt,
}

impl Active {
    pub(super) async fn begin(
        io: &Io,
        array: &[u8; 16],
        id: SegmentId,
        stream: Stream,
    ) -> Result<Active, MediaError> {
        Ok(Active {
            id,
            stream,
            file: OpenFile::open(io, &segment_path(id), Create::New).await?,
            buffer: encode_segment_header(array, id, stream),
            written: 0,
            placed: Vec::new(),
            hardened: 0,
            named: false,
            sealed: false,
            doubt: Doubt::None,
        })
    }

    pub(super) fn end(&self) -> u32 {
        self.written + self.buffer.len() as u32
    }

    pub(super) fn has_room(&self, payload: &Payload, segment_bytes: u32) -> bool {
        let record = record_bytes(payload).next_multiple_of(RECORD_ALIGN_BYTES);
        self.end() + record + footer_bytes(self.placed.len() + 1) <= segment_bytes
    }

    pub(super) fn append(
        &mut self,
        domain: Domain,
        digest: Digest,
        payload: &Payload,
        origin: Origin,
    ) -> Location {
        let location = Location::new(self.id, self.end(), record_bytes(payload));
        encode_record(self.id, domain, &digest, payload, &mut self.buffer);
        self.placed.push(Placed { digest, location, raw_len: payload.raw_len, origin });
        location
    }

    pub(super) fn seal(&mut self) {
        let (id, end) = (self.id, self.end());
        let entry = |placed: &Placed| {
            let (digest, location, raw_len) = (placed.digest, placed.location, placed.raw_len);
            RecordEntry { digest, location, raw_len }
        };
        let entries = self.placed.iter().map(entry);
        encode_footer(id, end, entries, &mut self.buffer);
        self.sealed = true;
    }

    /// Makes the next record begin on a page of its own; `false` if the segment is too full for that.
    pub(super) fn pad(&mut self, segment_bytes: u32) -> bool {
        let end = self.end().next_multiple_of(DURABLE_ALIGN_BYTES);
        if end + footer_bytes(self.placed.len()) > segment_bytes {
            return false;
        }
        self.buffer.resize((end - self.written) as usize, 0);
        true
    }

    pub(super) async fn write_out(&mut self, io: &Io) -> Result<(), MediaError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let bytes = Bytes::from(std::mem::take(&mut self.buffer));
        let length = bytes.len() as u32;
        self.doubt = Doubt::Write;
        let offset = u64::from(self.written);
        io.write(self.file.id(), offset, vec![bytes], Durability::Cached).await?;
        self.doubt = Doubt::None;
        self.written += length;
        Ok(())
    }

    pub(super) fn is_unsynced(&self) -> bool {
        self.hardened < self.placed.len() || self.sealed
    }
}

impl Inner {
    /// What `active` holds is on stable storage: some more of it becomes findable there, and memory is given back. Gives
    /// which of its records are new there; none when all are. Few at a time: others want the lock, and between two calls the
    /// segment is as if no more had been written.
    pub(super) fn harden_some(&mut self, active: &mut Active) -> Range<usize> {
        let begin = active.hardened;
        let end = active.placed.len().min(begin + HARDENED_AT_ONCE);
        let fresh = SegmentRecord {
            id: active.id,
            stream: active.stream,
            sealed: false,
            length: 0,
            indexed: SEGMENT_HEADER_BYTES,
            records: 0,
            live_records: 0,
            live_bytes: 0,
            live_raw_bytes: 0,
        };
        let segment = self.segments.entry(active.id).or_insert(fresh);
        match active.placed.get(end) {
            Some(next) => segment.length = next.location.offset(),
            None => (segment.length, segment.sealed) = (active.written, active.sealed),
        }
        for placed in &active.placed[begin..end] {
            segment.records += 1;
            segment.live_records += 1;
            segment.live_bytes += u64::from(placed.location.length_max());
            self.live_bytes += u64::from(placed.location.length_max());
            segment.live_raw_bytes += u64::from(placed.raw_len);
        }
        for placed in &active.placed[begin..end] {
            self.harden_record(placed);
        }
        active.hardened = end;
        begin..end
    }

    fn harden_record(&mut self, placed: &Placed) {
        let superseded = match placed.origin {
            Origin::Staged { replaced } => {
                if let Some(staged) = self.staged.remove(&placed.digest) {
                    self.placed_bytes -= staged.memory_bytes();
                }
                self.fresh_bytes += u64::from(placed.location.length_max());
                // A copy that was moved since the lookup is superseded with the one that was found.
                [replaced, self.recent.get(&placed.digest).copied()]
            }
            Origin::Moved { from } if self.is_visible(from) => [Some(from), None],
            // It was superseded on its way.
            Origin::Moved { .. } => return self.bury(placed.location, placed.raw_len),
        };
        self.recent.insert(placed.digest, placed.location);
        for old in superseded.into_iter().flatten() {
            self.bury(old, placed.raw_len);
        }
    }
}
