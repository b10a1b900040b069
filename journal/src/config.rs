//! Settings and bounds of a journal.

use crate::frame::FRAME_HEADER_BYTES;
use crate::media::DIRECT_ALIGN_BYTES;
use crate::record::{Lsn, RECORD_HEADER_BYTES};
use crate::segment::SEGMENT_HEADER_BYTES;

/// Length of a segment file, in bytes.
pub const SEGMENT_BYTES_DEFAULT: u64 = 32 << 20;
/// Bytes of media a journal may take.
pub const BUDGET_BYTES_DEFAULT: u64 = 1 << 30;
/// Largest frame with header and padding, in bytes (format).
pub const FRAME_BYTES_MAX: usize = 4 << 20;
/// Largest body and attachment of one record together, in bytes: an entry of 1 MiB and its descriptors, twice over.
pub const RECORD_BYTES_MAX: usize = 2 << 20;
/// Most appends under way at a time.
pub const FRAMES_IN_FLIGHT_MAX: usize = 4;
/// Records, frames, segments and lives are numbered below this: what says otherwise was written by something broken.
/// So no number that follows one read from the media wraps.
pub(crate) const NUMBER_MAX: u64 = 1 << 62;
/// A journal goes on only below this, so that what it writes from then on stays below [`NUMBER_MAX`] and opens again.
pub(crate) const RESUME_NUMBER_MAX: u64 = NUMBER_MAX / 2;
/// Fewest segments a journal can work with: one written, one ready, one being trimmed.
pub const SEGMENTS_MIN: u64 = 3;

const _: () = assert!(FRAME_HEADER_BYTES + RECORD_HEADER_BYTES + RECORD_BYTES_MAX <= FRAME_BYTES_MAX);
const _: () = assert!(SEGMENT_HEADER_BYTES + FRAME_BYTES_MAX as u64 <= SEGMENT_BYTES_DEFAULT);
const _: () = assert!(FRAME_BYTES_MAX.is_multiple_of(DIRECT_ALIGN_BYTES));
const _: () = assert!(BUDGET_BYTES_DEFAULT >= SEGMENTS_MIN * SEGMENT_BYTES_DEFAULT);

/// How to open a journal.
#[derive(Debug, Clone)]
pub struct JournalConfig {
    /// The array the journal belongs to; another array's files are refused.
    pub array: [u8; 16],
    /// A number that hosts cannot guess, fresh at each open. It goes into new segments' headers and their frames, so
    /// that no host can write data that recovery would take for a frame.
    pub salt: u64,
    /// Length of a segment of a new journal, in bytes; an existing journal keeps its own. Smaller than the default
    /// only in tests.
    pub segment_bytes: u64,
    /// Bytes of media the journal may take; rounded down to whole segments.
    pub budget_bytes: u64,
    /// Most appends under way at a time, 1..=[`FRAMES_IN_FLIGHT_MAX`].
    pub frames_in_flight: usize,
    /// The first record that is still needed (from the manifest): older ones are neither read nor visited, and a
    /// journal that begins after it or ends before it is refused. `Lsn(1)`: all.
    pub needed_from: Lsn,
}

impl JournalConfig {
    /// The defaults.
    pub fn new(array: [u8; 16], salt: u64) -> JournalConfig {
        JournalConfig {
            array,
            salt,
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            budget_bytes: BUDGET_BYTES_DEFAULT,
            frames_in_flight: 1,
            needed_from: Lsn(1),
        }
    }
}
