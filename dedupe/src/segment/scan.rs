//! Reading a segment that has no footer, or a damaged one.
//!
//! Walks the records from header to header. Where a header is damaged, it looks for the next one at every aligned
//! offset. Because such an offset may lie inside a payload, and a host may have written bytes there that look like
//! a record, what is found after damage counts only if its content has the digest it claims.

use bytes::Bytes;

use super::{RECORD_ALIGN_BYTES, RecordEntry, RecordHeader, decode_payload};
use crate::location::{Location, SegmentId};
use crate::reduce::verify;

/// What a scan found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scanned {
    pub entries: Vec<RecordEntry>,
    /// Stretches that are neither records nor padding.
    pub damaged: u64,
}

/// Scans `bytes`, which begin at `base` (a record or padding) in `segment` and end where its durable part ends.
pub(crate) fn scan(segment: SegmentId, base: u32, bytes: &Bytes) -> Scanned {
    let mut scanned = Scanned::default();
    let mut at = 0usize;
    let mut in_damage = false;
    while at < bytes.len() {
        let header = RecordHeader::decode(segment, &bytes[at..]).filter(|header| {
            let fits = at + header.record_len() as usize <= bytes.len();
            fits && (!in_damage || is_proven(segment, header, &bytes.slice(at..)))
        });
        let step = match header {
            Some(header) => {
                in_damage = false;
                let location = Location::new(segment, base + at as u32, header.record_len());
                let (digest, raw_len) = (header.digest, header.raw_len);
                scanned.entries.push(RecordEntry { digest, location, raw_len });
                header.record_len().next_multiple_of(RECORD_ALIGN_BYTES)
            }
            None => {
                let end = bytes.len().min(at + RECORD_ALIGN_BYTES as usize);
                if !in_damage && bytes[at..end].iter().any(|byte| *byte != 0) {
                    in_damage = true;
                    scanned.damaged += 1;
                }
                RECORD_ALIGN_BYTES
            }
        };
        at += step as usize;
    }
    scanned
}

fn is_proven(segment: SegmentId, header: &RecordHeader, bytes: &Bytes) -> bool {
    decode_payload(segment, header, bytes)
        .is_some_and(|payload| verify(header.domain, &header.digest, &payload).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Digest, Domain, digest};
    use crate::reduce::{Compression, Payload, pack};
    use crate::segment::encode_record;

    fn record(segment: u64, content: &[u8], buffer: &mut Vec<u8>) -> Digest {
        let name = digest(Domain::Data, content);
        encode_record(SegmentId(segment), Domain::Data, &name, &pack(content, Compression::Never), buffer);
        name
    }

    #[test]
    fn padding_is_no_damage_and_records_beyond_it_are_found() {
        let mut buffer = Vec::new();
        let first = record(3, b"first", &mut buffer);
        buffer.resize(4096, 0);
        let second = record(3, b"second", &mut buffer);
        let scanned = scan(SegmentId(3), 64, &Bytes::from(buffer));
        assert_eq!(scanned.damaged, 0);
        let names: Vec<Digest> = scanned.entries.iter().map(|entry| entry.digest).collect();
        assert_eq!(names, [first, second]);
        assert_eq!(scanned.entries[1].location.offset(), 64 + 4096);
    }

    #[test]
    fn a_damaged_header_costs_its_own_record_only() {
        let mut buffer = Vec::new();
        record(3, &[1; 500], &mut buffer);
        let second = record(3, &[2; 500], &mut buffer);
        buffer[3] ^= 0x40;
        let scanned = scan(SegmentId(3), 64, &Bytes::from(buffer));
        assert_eq!(scanned.damaged, 1);
        assert_eq!(scanned.entries.iter().map(|entry| entry.digest).collect::<Vec<_>>(), [second]);
    }

    #[test]
    fn a_record_forged_inside_a_payload_is_not_believed_after_damage() {
        let victim = digest(Domain::Node { level: 0 }, b"what the host wants the array to claim");
        let mut forged = Vec::new();
        let anything = Payload::raw(Bytes::from_static(b"something else"));
        encode_record(SegmentId(3), Domain::Node { level: 0 }, &victim, &anything, &mut forged);
        let mut buffer = Vec::new();
        record(3, &forged, &mut buffer);
        assert_eq!(scan(SegmentId(3), 0, &Bytes::from(buffer.clone())).entries.len(), 1, "stepped over");
        buffer[0] ^= 1;
        assert_eq!(scan(SegmentId(3), 0, &Bytes::from(buffer)), Scanned { entries: vec![], damaged: 1 });
    }
}
