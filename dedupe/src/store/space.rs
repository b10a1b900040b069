//! How much the segment files take, and how much they may.
//!
//! - W1: no segment is begun beyond the capacity. The reserve is left by whoever takes data in ([`Store::room`]), so that what
//!   was taken in can always be written, nodes can be folded and survivors moved: without that nothing could be freed.
//! - W2: a freed segment counts until its file is removed: only then is its space the device's again.
//! - W3: whoever takes data in asks for each request, so the sums are kept and not made anew; a flush proves them.

use metropod_journal::media::{Cause, Doing, MediaError};

use super::{Inner, Store, StoreConfig};
use crate::segment::{Stream, segment_of_path};

/// Share of the capacity that is the reserve, one in so many.
const RESERVE_SHARE: u64 = 50;

/// Segments of each stream that the reserve has room for.
const RESERVE_SEGMENTS: u64 = 2;

/// The reserve never takes more than one in so many of the capacity.
const RESERVE_SHARE_MAX: u64 = 4;

/// Whether the store can take more in. Cheap to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes of staged payloads that are not written yet.
    pub staged_bytes: u64,
    /// What the segment files leave of capacity without reserve, in bytes; `u64::MAX` without a capacity.
    pub free_bytes: u64,
}

/// What segment files take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Their length, in bytes; segments that are written to count whole.
    pub used_bytes: u64,
    /// What they may take, in bytes; `u64::MAX`: as much as the device has.
    pub capacity_bytes: u64,
    /// The part of it that new data leaves, in bytes.
    pub reserve_bytes: u64,
    /// The part of what is used that a later state gives back, in bytes.
    pub freed_bytes: u64,
    /// Length of records that are not known to be garbage, in bytes.
    pub live_bytes: u64,
    /// See [`StoreStats::fresh_bytes`](super::StoreStats::fresh_bytes).
    pub fresh_bytes: u64,
}

impl Space {
    /// What new data may still take, in bytes.
    pub fn free_bytes(&self) -> u64 {
        self.capacity_bytes.saturating_sub(self.reserve_bytes).saturating_sub(self.used_bytes)
    }

    /// Whether there is a bound at all.
    pub fn is_bounded(&self) -> bool {
        self.capacity_bytes != u64::MAX
    }
}

impl StoreConfig {
    /// What new data leaves of the capacity, in bytes.
    fn reserve_bytes(&self) -> u64 {
        let segments = RESERVE_SEGMENTS * Stream::ALL.len() as u64 * u64::from(self.segment_bytes);
        segments.max(self.capacity_bytes / RESERVE_SHARE).min(self.capacity_bytes / RESERVE_SHARE_MAX)
    }
}

impl Store {
    /// What the segment files take now. Cheap to ask.
    pub fn space(&self) -> Space {
        let inner = self.lock();
        let config = &self.shared.config;
        Space {
            used_bytes: inner.used_bytes,
            capacity_bytes: config.capacity_bytes,
            reserve_bytes: config.reserve_bytes(),
            freed_bytes: inner.freed_bytes(config.segment_bytes),
            live_bytes: inner.live_bytes,
            fresh_bytes: inner.fresh_bytes,
        }
    }

    /// Bytes of records stored since the last finished pass began: what may have made garbage since.
    pub fn fresh_bytes(&self) -> u64 {
        self.lock().fresh_bytes
    }

    /// Whether segments may take only so much.
    pub fn is_bounded(&self) -> bool {
        self.shared.config.capacity_bytes != u64::MAX
    }

    /// What can be taken in.
    pub fn room(&self) -> Room {
        let inner = self.lock();
        let config = &self.shared.config;
        let free_bytes = match self.is_bounded() {
            true => (config.capacity_bytes - config.reserve_bytes()).saturating_sub(inner.used_bytes),
            false => u64::MAX,
        };
        Room { staged_bytes: inner.queued_bytes, free_bytes }
    }

    /// Whether a segment may be begun (W1).
    pub(super) fn check_room(&self, inner: &Inner) -> Result<(), MediaError> {
        let config = &self.shared.config;
        let after = inner.used_bytes.saturating_add(u64::from(config.segment_bytes));
        if self.is_bounded() && after > config.capacity_bytes {
            return Err(MediaError { doing: Doing::Write, cause: Cause::NoSpace });
        }
        Ok(())
    }
}

impl Inner {
    /// Counts again what the files take: after segments were begun, closed or removed.
    pub(super) fn count_used(&mut self, segment_bytes: u32) {
        let closed = self.segments.values().filter(|segment| !self.open.contains(&segment.id));
        let closed: u64 = closed.map(|segment| u64::from(segment.length)).sum();
        let open = self.open.len() as u64 * u64::from(segment_bytes);
        self.used_bytes = closed + open + self.freed_bytes(segment_bytes);
    }

    /// W3.
    pub(super) fn prove_sums(&self) {
        let live_bytes: u64 = self.segments.values().map(|segment| segment.live_bytes).sum();
        assert_eq!(
            self.live_bytes, live_bytes,
            "what lives is counted where it is written and where it dies"
        );
        let freed = self.obsolete.iter().filter(|(_, path)| segment_of_path(path).is_some()).count() as u64;
        assert_eq!(self.freed_segments, freed, "a segment is freed once and removed once");
    }

    pub(super) fn freed_bytes(&self, segment_bytes: u32) -> u64 {
        self.freed_segments * u64::from(segment_bytes)
    }
}
