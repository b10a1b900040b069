//! Where a stored chunk lies.
//!
//! A location is a hint in 64 bits (format): segment 36 bits, offset in units of 16 bytes 20 bits, class of the record's
//! length 7 bits, one reserved flag. Digests are truth; whatever a location points at is checked before it is used,
//! so any number may be taken for a location.

use crate::segment::{RECORD_ALIGN_BYTES, RECORD_BYTES_MAX, RECORD_SPAN_BYTES_MIN};

const OFFSET_SHIFT: u32 = 8;
const SEGMENT_SHIFT: u32 = 28;
const CLASS_SHIFT: u32 = 1;
const OFFSET_MASK: u64 = (1 << 20) - 1;
const CLASS_MASK: u64 = (1 << 7) - 1;

/// Step of the fine classes, which cover a data block's record to within a cache line.
const FINE_STEP_BYTES: u32 = 64;
const FINE_CLASSES: u32 = 72;
/// Step of the coarse classes, which reach the longest record.
const COARSE_STEP_BYTES: u32 = 1152;

/// Greatest segment number + 1.
pub(crate) const SEGMENTS_MAX: u64 = 1 << 36;

const _: () = assert!(
    FINE_CLASSES * FINE_STEP_BYTES + (CLASS_MASK as u32 - FINE_CLASSES) * COARSE_STEP_BYTES
        >= RECORD_BYTES_MAX
);

/// Number of a chunk segment, never used twice for stored content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u64);

/// Where a chunk is thought to lie; a hint, to be kept beside a digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location(u64);

impl Location {
    /// The location of a record of `length` bytes (header included) at `offset`.
    pub(crate) fn new(segment: SegmentId, offset: u32, length: u32) -> Location {
        assert!(segment.0 < SEGMENTS_MAX, "segment numbers fit 36 bits");
        assert!(offset.is_multiple_of(RECORD_ALIGN_BYTES), "records are aligned");
        assert!((1..=RECORD_BYTES_MAX).contains(&length), "records are bounded");
        let unit = u64::from(offset / RECORD_ALIGN_BYTES);
        assert!(unit <= OFFSET_MASK, "segments are at most 16 MiB long");
        Location(segment.0 << SEGMENT_SHIFT | unit << OFFSET_SHIFT | u64::from(class(length)) << CLASS_SHIFT)
    }

    /// A location kept earlier by [`Location::to_bits`]; any number is allowed.
    pub fn from_bits(bits: u64) -> Location {
        Location(bits)
    }

    /// As a number, to be kept.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The segment.
    pub fn segment(self) -> SegmentId {
        SegmentId(self.0 >> SEGMENT_SHIFT)
    }

    /// Offset of the record in its segment, in bytes.
    pub fn offset(self) -> u32 {
        ((self.0 >> OFFSET_SHIFT & OFFSET_MASK) as u32) * RECORD_ALIGN_BYTES
    }

    /// Number that tells the records of one segment apart: no two begin within the least span of a record.
    pub(crate) fn slot(self) -> u32 {
        self.offset() / RECORD_SPAN_BYTES_MIN
    }

    /// Everything but the segment, for where that is known.
    pub(crate) fn place_bits(self) -> u64 {
        self.0 & ((1 << SEGMENT_SHIFT) - 1)
    }

    /// The location in `segment` of which [`Location::place_bits`] were kept.
    pub(crate) fn in_segment(segment: SegmentId, place_bits: u64) -> Location {
        assert!(segment.0 < SEGMENTS_MAX, "segment numbers fit 36 bits");
        Location(segment.0 << SEGMENT_SHIFT | place_bits & ((1 << SEGMENT_SHIFT) - 1))
    }

    /// Upper bound of the record's length, in bytes; what to read, and what the record counts as.
    pub fn length_max(self) -> u32 {
        class_bytes((self.0 >> CLASS_SHIFT & CLASS_MASK) as u32)
    }
}

/// What a record of `length` bytes (header included) counts as, in bytes: see [`Location::length_max`].
pub(crate) fn counted_bytes(length: u32) -> u32 {
    class_bytes(class(length))
}

/// What records of `length` bytes together count as at most, if none is longer than the fine classes reach.
pub(crate) fn counted_bytes_max(length: u32, records: u32) -> u64 {
    u64::from(length) + u64::from(records) * u64::from(FINE_STEP_BYTES - 1)
}

fn class_bytes(class: u32) -> u32 {
    match class.checked_sub(FINE_CLASSES) {
        None => class * FINE_STEP_BYTES,
        Some(coarse) => FINE_CLASSES * FINE_STEP_BYTES + coarse * COARSE_STEP_BYTES,
    }
}

impl std::fmt::Debug for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Location({:#x}+{:#x}, ≤ {})", self.segment().0, self.offset(), self.length_max())
    }
}

fn class(length: u32) -> u32 {
    let fine = FINE_CLASSES * FINE_STEP_BYTES;
    match length.checked_sub(fine) {
        None | Some(0) => length.div_ceil(FINE_STEP_BYTES),
        Some(beyond) => FINE_CLASSES + beyond.div_ceil(COARSE_STEP_BYTES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_covered_and_a_data_record_within_one_fine_step() {
        for length in 1..=RECORD_BYTES_MAX {
            let location = Location::new(SegmentId(SEGMENTS_MAX - 1), (1 << 24) - 16, length);
            assert_eq!(location.segment(), SegmentId(SEGMENTS_MAX - 1));
            assert_eq!(location.offset(), (1 << 24) - 16);
            assert!(location.length_max() >= length && location.length_max() == counted_bytes(length));
            assert!(length > 4608 || location.length_max() - length < FINE_STEP_BYTES);
        }
    }
}
