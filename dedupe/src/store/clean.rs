//! Cleaning: what lives in segments that are mostly dead moves to others, and the segments are freed.
//!
//! - V1: a record is copied as it is stored, after its own check. Its digest is not computed; whoever reads it does that.
//! - V2: survivors go to segments of their own: they have shown that they last, fresh data has not.
//! - V3: a moved record counts where it came from until its copy is hardened. So a failed write costs nothing, and the
//!   segment it came from is freed when, and only when, nothing lives in it any more.

use std::collections::BTreeSet;

use super::read::{LOOKUPS_AT_ONCE, RecordFault};
use super::records::list_records;
use super::{Inner, Store, WriteError};
use crate::digest::{Digest, Domain};
use crate::location::{Location, SegmentId};
use crate::reduce::Payload;
use crate::segment::SEGMENT_HEADER_BYTES;
use crate::state::SegmentRecord;
use crate::turn::join_all;

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
    /// Moves the live records of the emptiest segments, until `moved_bytes_max` are moved (a segment is finished) or
    /// none is left below [`StoreConfig::clean_live_percent_max`](super::StoreConfig::clean_live_percent_max).
    pub async fn clean(&self, moved_bytes_max: u64) -> Result<Cleaned, WriteError> {
        let mut cleaned = Cleaned::default();
        let mut tried = BTreeSet::new();
        while cleaned.moved_bytes < moved_bytes_max {
            let percent = self.shared.config.clean_live_percent_max;
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
        let percent = self.shared.config.clean_live_percent_max;
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
        let (mut survivors, mut unreadable) = (Vec::with_capacity(live.len()), 0);
        for batch in live.chunks(LOOKUPS_AT_ONCE) {
            let read = join_all(batch.iter().map(|location| self.read_any_record(*location))).await;
            for (location, read) in batch.iter().zip(read) {
                match read {
                    Ok((header, payload)) => {
                        let (digest, domain) = (header.digest, header.domain);
                        survivors.push(Survivor { location: *location, digest, domain, payload });
                    }
                    Err(RecordFault::Media(error)) => return Err(WriteError::Segment(error)),
                    Err(RecordFault::Stale | RecordFault::Rotten) => unreadable += 1,
                }
            }
        }
        Ok((survivors, unreadable))
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
    /// The segment with the least share of live bytes, if that is worth cleaning.
    fn next_victim(&self, live_percent_max: u32, tried: &BTreeSet<SegmentId>) -> Option<SegmentRecord> {
        let is_worth = |segment: &&SegmentRecord| {
            segment.live_bytes * 100 <= u64::from(segment.length) * u64::from(live_percent_max)
                && !self.open.contains(&segment.id)
                && !self.unloaded.contains(&segment.id)
                && !tried.contains(&segment.id)
        };
        let share = |segment: &&SegmentRecord| (segment.live_bytes << 24) / u64::from(segment.length);
        self.segments.values().filter(is_worth).min_by_key(share).copied()
    }
}
