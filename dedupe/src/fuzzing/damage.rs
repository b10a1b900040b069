//! Putting checks right in bytes that were changed, so that what lies behind them is reached.

use crate::index::{PAGE_BYTES, RUN_TRAILER_BYTES};
use crate::location::SegmentId;
use crate::segment::{
    FOOTER_ENTRY_BYTES, RECORD_ALIGN_BYTES, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, TRAILER_BYTES, seed,
    u32_at,
};

fn put(bytes: &mut [u8], at: usize, check: u32) {
    bytes[at..at + 4].copy_from_slice(&check.to_le_bytes());
}

/// The last four bytes are the check of all before.
pub(super) fn repair_end(bytes: &mut [u8]) {
    if let Some(at) = bytes.len().checked_sub(4) {
        put(bytes, at, crc32c::crc32c(&bytes[..at]));
    }
}

pub(super) fn repair_header(header: &mut [u8; SEGMENT_HEADER_BYTES as usize]) {
    repair_end(header);
}

/// The record at the front; gives back where the next may begin.
pub(super) fn repair_record(segment: SegmentId, bytes: &mut [u8]) -> usize {
    let header = RECORD_HEADER_BYTES as usize;
    if bytes.len() < header {
        return bytes.len();
    }
    let end = header.saturating_add(u32_at(bytes, 32) as usize);
    if end == header || end > bytes.len() {
        return RECORD_ALIGN_BYTES as usize;
    }
    put(bytes, 40, crc32c::crc32c_append(seed(segment), &bytes[header..end]));
    put(bytes, 44, crc32c::crc32c_append(seed(segment), &bytes[..44]));
    end.next_multiple_of(RECORD_ALIGN_BYTES as usize)
}

pub(super) fn repair_records(segment: SegmentId, bytes: &mut [u8]) {
    let mut at = 0;
    while at < bytes.len() {
        at += repair_record(segment, &mut bytes[at..]);
    }
}

/// Footer and trailer at the end of `bytes`, if the trailer says where the footer may be.
pub(super) fn repair_footer(segment: SegmentId, bytes: &mut [u8]) {
    let Some(trailer) = bytes.len().checked_sub(TRAILER_BYTES as usize) else { return };
    let (offset, entries) = (u32_at(bytes, trailer + 16) as usize, u32_at(bytes, trailer + 20) as usize);
    let end = offset.saturating_add(entries.saturating_mul(FOOTER_ENTRY_BYTES as usize));
    if let Some(footer) = bytes.get(offset..end) {
        let check = crc32c::crc32c_append(seed(segment), footer);
        put(bytes, trailer + 24, check);
    }
    let check = crc32c::crc32c(&bytes[trailer..trailer + 28]);
    put(bytes, trailer + 28, check);
}

/// A whole segment, sealed or not.
pub(super) fn repair_segment(segment: SegmentId, bytes: &mut [u8]) {
    let Some((header, records)) = bytes.split_first_chunk_mut() else { return };
    repair_header(header);
    repair_records(segment, records);
    if bytes.len() > TRAILER_BYTES as usize && bytes[bytes.len() - TRAILER_BYTES as usize..][..2] == *b"MP" {
        repair_footer(segment, bytes);
    }
}

/// Pages, fences with filter, and trailer of a run.
pub(super) fn repair_run(bytes: &mut [u8]) {
    let Some(trailer) = bytes.len().checked_sub(RUN_TRAILER_BYTES) else { return };
    let pages = (u32_at(bytes, trailer + 56) as usize).saturating_mul(PAGE_BYTES).min(trailer);
    for page in bytes[..pages].as_chunks_mut::<PAGE_BYTES>().0 {
        repair_end(page);
    }
    let check = crc32c::crc32c(&bytes[pages..trailer]);
    put(bytes, trailer + 64, check);
    repair_end(&mut bytes[trailer..]);
}
