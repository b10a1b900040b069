//! Chunk segments: files of records, each sealed with a footer.
//!
//! A segment is a header, records at 16-byte alignment, and, once sealed, a footer (digest and location of every
//! record) found from a trailer at the sealed length. It is immutable below the length that the state records.
//!
//! - G1: every check is seeded with the segment's number, so bytes that lie in the wrong segment are no records.
//! - G2: nothing read here is trusted further than its check; a record's content is proven by its digest alone.
//!
//! Bytes: docs/format-store.md, "Segment".

mod footer;
mod header;
mod record;
mod scan;

pub(crate) use footer::{decode_footer, decode_trailer, encode_footer, footer_bytes};
pub(crate) use header::{HeaderFault, check_segment_header, encode_segment_header};
pub(crate) use record::{RecordHeader, decode_payload, encode_record, record_bytes};
pub(crate) use scan::scan;

use crate::digest::{Digest, Domain};
use crate::location::{Location, SEGMENTS_MAX, SegmentId};
use crate::reduce::RAW_BYTES_MAX;

/// Alignment of records, in bytes (format).
pub(crate) const RECORD_ALIGN_BYTES: u32 = 16;
/// Length of a record's header, in bytes (format).
pub(crate) const RECORD_HEADER_BYTES: u32 = 48;
/// Greatest length of a record, in bytes.
pub(crate) const RECORD_BYTES_MAX: u32 = RECORD_HEADER_BYTES + RAW_BYTES_MAX as u32;
/// Least distance between the starts of two records, in bytes: a header and one byte, aligned.
pub(crate) const RECORD_SPAN_BYTES_MIN: u32 = 64;
/// Length of a segment's header, in bytes (format).
pub(crate) const SEGMENT_HEADER_BYTES: u32 = 64;
/// Length of the trailer that ends a sealed segment, in bytes (format).
pub(crate) const TRAILER_BYTES: u32 = 32;
/// Length of a footer entry, in bytes (format).
pub(crate) const FOOTER_ENTRY_BYTES: u32 = 40;
/// Greatest length of a segment, in bytes: what a location can address.
pub const SEGMENT_BYTES_MAX: u32 = 16 << 20;
/// Least length of a segment, in bytes: room for one longest record, its footer and a page of padding.
pub const SEGMENT_BYTES_MIN: u32 = 128 << 10;
/// After a sync, appending goes on at the next multiple of this: a page that holds durable records is never
/// written again, so no failing or torn write can reach them.
pub(crate) const DURABLE_ALIGN_BYTES: u32 = 4096;

const _: () = assert!(
    SEGMENT_HEADER_BYTES + RECORD_BYTES_MAX + DURABLE_ALIGN_BYTES + FOOTER_ENTRY_BYTES + TRAILER_BYTES
        <= SEGMENT_BYTES_MIN
);
const _: () = assert!(SEGMENT_HEADER_BYTES.is_multiple_of(RECORD_ALIGN_BYTES));
const _: () =
    assert!((RECORD_HEADER_BYTES + 1).next_multiple_of(RECORD_ALIGN_BYTES) >= RECORD_SPAN_BYTES_MIN);

/// Contents that are never mixed in one segment, because they die at different times (format).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stream {
    /// Data blocks.
    Data = 0,
    /// Tree nodes and what is above them.
    Node = 1,
    /// What a transfer brings.
    Transfer = 2,
    /// Data blocks that outlived their segment.
    Survivor = 3,
    /// Tree nodes that outlived their segment.
    NodeSurvivor = 4,
}

/// What the end of a segment, or a scan, says of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordEntry {
    pub digest: Digest,
    pub location: Location,
    /// Length of its content, in bytes.
    pub raw_len: u32,
}

impl Stream {
    /// The stream a stored number means.
    pub(crate) fn from_u8(number: u8) -> Option<Stream> {
        match number {
            0 => Some(Stream::Data),
            1 => Some(Stream::Node),
            2 => Some(Stream::Transfer),
            3 => Some(Stream::Survivor),
            4 => Some(Stream::NodeSurvivor),
            _ => None,
        }
    }

    /// All of them.
    pub(crate) const ALL: [Stream; 5] =
        [Stream::Data, Stream::Node, Stream::Transfer, Stream::Survivor, Stream::NodeSurvivor];

    /// Where fresh content of `domain` goes.
    pub(crate) fn of(domain: Domain) -> Stream {
        match domain {
            Domain::Data => Stream::Data,
            Domain::Node { .. } | Domain::Volume | Domain::Pod => Stream::Node,
        }
    }

    /// Where content of `domain` goes that is moved out of a segment.
    pub(crate) fn of_survivors(domain: Domain) -> Stream {
        match domain {
            Domain::Data => Stream::Survivor,
            Domain::Node { .. } | Domain::Volume | Domain::Pod => Stream::NodeSurvivor,
        }
    }
}

/// Path of a segment, below the array's directory.
pub fn segment_path(segment: SegmentId) -> String {
    format!("{SEGMENT_DIR}/{:016x}.seg", segment.0)
}

/// Directory of the segments.
pub(crate) const SEGMENT_DIR: &str = "segments";

/// The number in a segment's file name, if it is one that this program could have given.
pub(crate) fn segment_of_name(name: &str) -> Option<SegmentId> {
    let digits = name.strip_suffix(".seg").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok().filter(|id| *id < SEGMENTS_MAX).map(SegmentId)
}

/// The segment that lies at `path`, if one does.
pub(crate) fn segment_of_path(path: &str) -> Option<SegmentId> {
    segment_of_name(path.strip_prefix(SEGMENT_DIR)?.strip_prefix('/')?)
}

/// Start of every check in `segment`.
pub(crate) fn seed(segment: SegmentId) -> u32 {
    crc32c::crc32c(&segment.0.to_le_bytes())
}

/// The little-endian number at `at`; callers have checked the length.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

/// The little-endian number at `at`; callers have checked the length.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}
