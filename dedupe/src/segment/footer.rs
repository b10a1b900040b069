//! The end of a sealed segment: what it holds, without reading it.
//!
//! Bytes: docs/format-store.md, "Footer and trailer".

use super::{
    FOOTER_ENTRY_BYTES, RECORD_SPAN_BYTES_MIN, RecordEntry, SEGMENT_HEADER_BYTES, TRAILER_BYTES, seed,
    u32_at, u64_at,
};
use crate::digest::{DIGEST_BYTES, Digest};
use crate::location::{Location, SegmentId};

const TRAILER_MAGIC: [u8; 8] = *b"MPSEGEND";
/// Where the raw length stands in an entry's second word: in the place of the segment, which the trailer gives.
const RAW_LENGTH_SHIFT: u32 = 28;

/// Length of a footer with its trailer, in bytes.
pub(crate) fn footer_bytes(entries: usize) -> u32 {
    entries as u32 * FOOTER_ENTRY_BYTES + TRAILER_BYTES
}

/// Appends the footer and trailer of a segment whose records end at `footer_offset`.
pub(crate) fn encode_footer(
    segment: SegmentId,
    footer_offset: u32,
    entries: impl Iterator<Item = RecordEntry>,
    buffer: &mut Vec<u8>,
) {
    let start = buffer.len();
    let mut count = 0u32;
    for entry in entries {
        assert!(entry.location.segment() == segment, "a footer lists its own records");
        let place = entry.location.place_bits() | u64::from(entry.raw_len) << RAW_LENGTH_SHIFT;
        buffer.extend_from_slice(&entry.digest.0);
        buffer.extend_from_slice(&place.to_le_bytes());
        count += 1;
    }
    let footer_check = crc32c::crc32c_append(seed(segment), &buffer[start..]);
    let trailer = buffer.len();
    buffer.extend_from_slice(&TRAILER_MAGIC);
    buffer.extend_from_slice(&segment.0.to_le_bytes());
    buffer.extend_from_slice(&footer_offset.to_le_bytes());
    buffer.extend_from_slice(&count.to_le_bytes());
    buffer.extend_from_slice(&footer_check.to_le_bytes());
    let check = crc32c::crc32c(&buffer[trailer..]);
    buffer.extend_from_slice(&check.to_le_bytes());
}

/// A trailer that passed its check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub footer_offset: u32,
    pub entries: u32,
    footer_check: u32,
}

/// Reads the trailer of a segment sealed at `length`; `None` if it is not there or does not fit.
pub(crate) fn decode_trailer(segment: SegmentId, length: u32, bytes: &[u8]) -> Option<Trailer> {
    let bytes = bytes.get(..TRAILER_BYTES as usize)?;
    let intact = bytes[..8] == TRAILER_MAGIC
        && u64_at(bytes, 8) == segment.0
        && crc32c::crc32c(&bytes[..28]) == u32_at(bytes, 28);
    let trailer = Trailer {
        footer_offset: u32_at(bytes, 16),
        entries: u32_at(bytes, 20),
        footer_check: u32_at(bytes, 24),
    };
    let end = u64::from(trailer.footer_offset)
        + u64::from(trailer.entries) * u64::from(FOOTER_ENTRY_BYTES)
        + u64::from(TRAILER_BYTES);
    (intact && end == u64::from(length)).then_some(trailer)
}

/// Reads the entries of a footer; `None` if its check fails, or if they are not records one after the other between header
/// and footer: whoever gets them relies on their order.
pub(crate) fn decode_footer(segment: SegmentId, trailer: &Trailer, bytes: &[u8]) -> Option<Vec<RecordEntry>> {
    let bytes = bytes.get(..trailer.entries as usize * FOOTER_ENTRY_BYTES as usize)?;
    if crc32c::crc32c_append(seed(segment), bytes) != trailer.footer_check {
        return None;
    }
    let entries = bytes.chunks_exact(FOOTER_ENTRY_BYTES as usize).map(|entry| {
        let mut digest = Digest::ZERO;
        digest.0.copy_from_slice(&entry[..DIGEST_BYTES]);
        let place = u64_at(entry, DIGEST_BYTES);
        let location = Location::in_segment(segment, place);
        RecordEntry { digest, location, raw_len: (place >> RAW_LENGTH_SHIFT) as u32 }
    });
    let entries: Vec<RecordEntry> = entries.collect();
    let mut end = SEGMENT_HEADER_BYTES;
    for entry in &entries {
        if entry.location.offset() < end {
            return None;
        }
        end = entry.location.offset().checked_add(RECORD_SPAN_BYTES_MIN)?;
    }
    (end <= trailer.footer_offset || entries.is_empty()).then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: SegmentId = SegmentId(7);

    fn read(offsets: &[u32]) -> Option<Vec<u32>> {
        let footer_offset = 4096;
        let entries = offsets.iter().map(|offset| RecordEntry {
            digest: Digest([*offset as u8; DIGEST_BYTES]),
            location: Location::new(SEGMENT, *offset, 100),
            raw_len: 50,
        });
        let mut bytes = Vec::new();
        encode_footer(SEGMENT, footer_offset, entries, &mut bytes);
        let at = bytes.len() - TRAILER_BYTES as usize;
        let trailer = decode_trailer(SEGMENT, footer_offset + bytes.len() as u32, &bytes[at..]);
        let entries = decode_footer(SEGMENT, &trailer.expect("it was encoded"), &bytes)?;
        Some(entries.iter().map(|entry| entry.location.offset()).collect())
    }

    #[test]
    fn a_footer_lists_records_one_after_the_other_or_is_none() {
        for right in [&[][..], &[64], &[64, 192, 4096 - 64]] {
            assert_eq!(read(right).as_deref(), Some(right));
        }
        for wrong in [&[0][..], &[192, 64], &[64, 64], &[64, 64 + 16], &[4096 - 16], &[64, 8192]] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }
}
