//! Remembering places after an opening, so that the first read of a chunk does not have to ask the index.
//!
//! Reads footers of segments: nodes first, because every read of a volume goes through them, then data, the newest first.
//!
//! - L1: reads only, one segment at a time; whatever cannot be read is left out.
//! - L2: it ends when three quarters of the table are filled, whatever the store holds.

use super::records::list_records;
use super::{Store, lock};
use crate::segment::{SEGMENT_HEADER_BYTES, Stream};
use crate::state::SegmentRecord;

/// Chunks noted before readers get their turn.
const NOTED_AT_ONCE: usize = 256;

impl Store {
    /// Fills the memory of places from what the segments say, as long as `go_on` says so; gives the number of chunks
    /// noted. To be run once, beside everything else.
    pub async fn recall(&self, go_on: impl Fn() -> bool) -> u64 {
        let room = (self.shared.config.hints_max / 4 * 3) as u64;
        let mut noted = 0;
        for segment in self.segments_by_use() {
            if !go_on() || noted + u64::from(segment.live_records) > room {
                break;
            }
            noted += self.recall_segment(&segment).await;
        }
        noted
    }

    /// Those that have a footer. The others are few, and what they hold is in the recent table.
    fn segments_by_use(&self) -> Vec<SegmentRecord> {
        let inner = self.lock();
        let mut segments: Vec<SegmentRecord> =
            inner.segments.values().filter(|segment| segment.sealed).copied().collect();
        let is_data =
            |segment: &SegmentRecord| !matches!(segment.stream, Stream::Node | Stream::NodeSurvivor);
        segments.sort_by_key(|segment| (is_data(segment), std::cmp::Reverse(segment.id)));
        segments
    }

    async fn recall_segment(&self, segment: &SegmentRecord) -> u64 {
        let Ok(listed) = list_records(&self.shared.io, segment, SEGMENT_HEADER_BYTES).await else { return 0 };
        let mut noted = 0;
        for entries in listed.entries.chunks(NOTED_AT_ONCE) {
            let inner = self.lock();
            let mut hints = lock(&self.shared.hints);
            for entry in entries.iter().filter(|entry| inner.is_visible(entry.location)) {
                hints.insert(&entry.digest, entry.location);
                noted += 1;
            }
        }
        noted
    }
}
