//! Cleaning: what lives in segments that are mostly dead moves to others, and the segments are freed.
//!
//! - V1: a record is copied as it is stored, after its own check. Its digest is not computed; whoever reads it does that.
//! - V2: survivors go to segments of their own: they have shown that they last, fresh data has not.
//! - V3: a moved record counts where it came from until its copy is hardened. So a failed write costs nothing, and the
//!   segment it came from is freed when, and only when, nothing lives in it any more.
//! - V4: what is gained is what is freed for what is read and written, (1 - u) / (1 + u) of a segment of which u lives, times
//!   its age: what lives in an old segment has shown that it stays, in a young one much of it dies soon without being moved.

use std::collections::BTreeSet;

use bytes::Bytes;
use metropod_journal::media::{Cause, MediaError};

use super::records::list_records;
use super::{Inner, Store, WriteError};
use crate::digest::{Digest, Domain};
use crate::location::{Location, SegmentId};
use crate::reduce::Payload;
use crate::segment::{RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES, decode_payload};
use crate::state::SegmentRecord;

/// Records of a victim that begin within so many bytes are read with one call.
const STRETCH_BYTES_MAX: u32 = 1 << 20;

/// Parts in which gains are compared.
const GAIN_SCALE: u128 = 1 << 16;

/// What a call of [`Store::clean`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cleaned {
    /// Segments emptied; their files go when the next state is durable.
    pub segments: u64,
    /// Length of the records moved, in bytes.
    pub moved_bytes: u64,
    /// Records that could not be read, and so keep their segments.
    pub unreadable: u64,
    /// Whether more segments are worth cleaning.
    pub more: bool,
}

/// A live record of a segment being cleaned: at most a segment's worth of them is in memory.
struct Survivor {
    location: Location,
    digest: Digest,
    domain: Domain,
    payload: Payload,
}

impl Store {
    /// Moves the live records of the segments that gain most by it, until `moved_bytes_max` are moved (a segment is finished) or
    /// none is left of which at most `percent` is live.
    ///
    /// # Panics
    /// If `percent` is not below 100: moving what is all live gains nothing.
    pub async fn clean(&self, percent: u32, moved_bytes_max: u64) -> Result<Cleaned, WriteError> {
        assert!(percent < 100, "moving what is all live gains nothing");
        let mut cleaned = Cleaned::default();
        let mut tried = BTreeSet::new();
        while cleaned.moved_bytes < moved_bytes_max {
            let Some(victim) = self.lock().next_victim(percent, &tried) else { break };
            tried.insert(victim.id);
            let (survivors, unreadable) = self.read_survivors(&victim).await?;
            cleaned.unreadable += unreadable;
            cleaned.moved_bytes += self.move_survivors(&survivors).await?;
        }
        if !tried.is_empty() {
            let mut writer = self.shared.writer.take().await;
            self.settle_doubts(&mut writer);
            self.harden(&mut writer).await?;
            self.maintain().await?;
        }
        let inner = self.lock();
        cleaned.segments = tried.iter().filter(|victim| !inner.segments.contains_key(victim)).count() as u64;
        cleaned.more = inner.next_victim(percent, &tried).is_some();
        Ok(cleaned)
    }

    async fn read_survivors(&self, victim: &SegmentRecord) -> Result<(Vec<Survivor>, u64), WriteError> {
        let listed = list_records(&self.shared.io, victim, SEGMENT_HEADER_BYTES).await;
        let listed = listed.map_err(WriteError::Segment)?;
        let live: Vec<Location> = {
            let inner = self.lock();
            let locations = listed.entries.iter().map(|entry| entry.location);
            locations.filter(|location| inner.is_visible(*location)).collect()
        };
        let mut survivors = Vec::with_capacity(live.len());
        let mut rest = live.as_slice();
        while let Some(first) = rest.first() {
            let stretch = rest.partition_point(|one| one.offset() - first.offset() <= STRETCH_BYTES_MAX);
            let (now, later) = rest.split_at(stretch);
            self.read_stretch(victim, now, &mut survivors).await.map_err(WriteError::Segment)?;
            rest = later;
        }
        let unreadable = (live.len() - survivors.len()) as u64;
        Ok((survivors, unreadable))
    }

    /// Reads neighbouring records with one call; those that are not what they should be are left out.
    async fn read_stretch(
        &self,
        victim: &SegmentRecord,
        records: &[Location],
        survivors: &mut Vec<Survivor>,
    ) -> Result<(), MediaError> {
        let [first, ..] = records else { return Ok(()) };
        let last = records[records.len() - 1];
        let end = last.offset().saturating_add(last.length_max()).min(victim.length);
        let file = match self.segment_file(*first).await {
            Err(error) if error.cause == Cause::NotFound => return Ok(()),
            other => other?,
        };
        let length = end.saturating_sub(first.offset()) as usize;
        let bytes = match self.shared.io.read(file.id(), u64::from(first.offset()), length).await {
            Err(error) if error.cause == Cause::PastEnd => Bytes::new(),
            other => other?,
        };
        for location in records {
            let at = (location.offset() - first.offset()) as usize;
            if at + RECORD_HEADER_BYTES as usize > bytes.len() {
                continue;
            }
            let record = bytes.slice(at..);
            let header = RecordHeader::decode(victim.id, &record);
            let found =
                header.and_then(|header| Some((header, decode_payload(victim.id, &header, &record)?)));
            if let Some((header, payload)) = found {
                let (digest, domain) = (header.digest, header.domain);
                survivors.push(Survivor { location: *location, digest, domain, payload });
            }
        }
        Ok(())
    }

    async fn move_survivors(&self, survivors: &[Survivor]) -> Result<u64, WriteError> {
        let mut writer = self.shared.writer.take().await;
        self.settle_doubts(&mut writer);
        let mut moved_bytes = 0;
        for survivor in survivors {
            let Survivor { location, digest, domain, payload } = survivor;
            // It may have been superseded while it was read.
            if self.lock().is_visible(*location) {
                moved_bytes += u64::from(location.length_max());
                self.place_moved(&mut writer, *location, *domain, *digest, payload).await?;
            }
        }
        Ok(moved_bytes)
    }
}

impl Inner {
    /// The segment that gains most, if one is worth cleaning (V4).
    fn next_victim(&self, live_percent_max: u32, tried: &BTreeSet<SegmentId>) -> Option<SegmentRecord> {
        let is_worth = |segment: &&SegmentRecord| {
            segment.live_bytes * 100 <= u64::from(segment.length) * u64::from(live_percent_max)
                && !self.open.contains(&segment.id)
                && !self.unloaded.contains(&segment.id)
                && !tried.contains(&segment.id)
        };
        let gain = |segment: &&SegmentRecord| {
            let length = u64::from(segment.length);
            let live = segment.live_bytes.min(length);
            let age = self.next_segment.saturating_sub(segment.id.0);
            u128::from(length - live) * u128::from(age) * GAIN_SCALE / u128::from(length + live)
        };
        self.segments.values().filter(is_worth).max_by_key(gain).copied()
    }
}
