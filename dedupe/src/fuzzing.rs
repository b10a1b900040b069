//! Doors for fuzzing: everything here that reads bytes from media or a peer, with what must hold of any bytes.
//!
//! Built for fuzz/ and for the replay of its kept inputs in this crate's tests; in no other build. What a target is:
//! fuzzing.rs of the journal.

mod damage;
mod store;

use bytes::Bytes;

use crate::dead::DeadRecords;
use crate::digest::{Domain, digest};
use crate::index::RunId;
use crate::location::{Location, SegmentId};
use crate::reduce::{Compression, Form, Payload, RAW_BYTES_MAX, expand, pack, verify};
use crate::segment::{
    RecordHeader, SEGMENT_HEADER_BYTES, check_segment_header, decode_footer, decode_payload, decode_trailer,
    encode_footer, encode_record, footer_bytes, scan as scan_records,
};
use crate::state::{DeadList, State};

/// Name, heap that it may take in bytes, and what runs an input.
pub type Target = (&'static str, usize, fn(&[u8]));

/// Every target of this crate.
pub const TARGETS: &[Target] = &[
    ("dedupe.payload", 1 << 20, payload),
    ("dedupe.pack", 1 << 20, packed),
    ("dedupe.record", 1 << 20, record),
    ("dedupe.scan", 1 << 20, scan),
    ("dedupe.segment_header", 1 << 20, segment_header),
    ("dedupe.footer", 1 << 20, footer),
    ("dedupe.state", 1 << 20, state),
    ("dedupe.dead", 1 << 20, dead),
    ("dedupe.location", 1 << 20, location),
    ("dedupe.store", 64 << 20, store::store),
];

const ARRAY: [u8; 16] = *b"an array of 16 B";
const SEGMENT: SegmentId = SegmentId(1);

/// Form, claimed length, bytes.
fn payload(input: &[u8]) {
    let Some(([form, a, b, c], bytes)) = input.split_first_chunk::<4>() else { return };
    let Some(form) = Form::from_u8(*form) else { return };
    let payload =
        Payload { form, raw_len: u32::from_le_bytes([*a, *b, *c, 0]), bytes: Bytes::copy_from_slice(bytes) };
    let Ok(content) = expand(&payload) else { return };
    assert_eq!(content.len(), payload.raw_len as usize);
    let name = digest(Domain::Data, &content);
    assert_eq!(verify(Domain::Data, &name, &payload).as_ref(), Ok(&content));
    assert!(verify(Domain::Volume, &name, &payload).is_err(), "a name holds in its domain only");
    let again = pack(&content, Compression::WhenItPays);
    assert_eq!(expand(&again), Ok(content));
}

fn packed(input: &[u8]) {
    let content = &input[..input.len().min(RAW_BYTES_MAX)];
    if content.is_empty() {
        return;
    }
    let payload = pack(content, Compression::WhenItPays);
    assert!(payload.is_plausible());
    assert_eq!(expand(&payload).as_deref(), Ok(content));
}

fn record(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else { return };
    let mut bytes = rest.to_vec();
    if how & 1 == 1 {
        damage::repair_record(SEGMENT, &mut bytes);
    }
    let Some(header) = RecordHeader::decode(SEGMENT, &bytes) else { return };
    let bytes = Bytes::from(bytes);
    let Some(payload) = decode_payload(SEGMENT, &header, &bytes) else { return };
    let mut again = Vec::new();
    encode_record(SEGMENT, header.domain, &header.digest, &payload, &mut again);
    let length = header.record_len() as usize;
    assert_eq!(again[..length], bytes[..length]);
}

fn scan(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else { return };
    let mut bytes = rest.to_vec();
    if how & 1 == 1 {
        damage::repair_records(SEGMENT, &mut bytes);
    }
    let bytes = Bytes::from(bytes);
    let scanned = scan_records(SEGMENT, SEGMENT_HEADER_BYTES, &bytes);
    let mut end = 0;
    for entry in &scanned.entries {
        let at = entry.location.offset() - SEGMENT_HEADER_BYTES;
        assert!(at >= end, "records do not overlap");
        let header = RecordHeader::decode(SEGMENT, &bytes[at as usize..]).expect("it was read here");
        end = at + header.record_len();
        assert!(end as usize <= bytes.len() && entry.digest == header.digest);
        assert!(entry.location.length_max() >= header.record_len());
    }
}

fn segment_header(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else { return };
    let Some(mut header) = rest.first_chunk::<{ SEGMENT_HEADER_BYTES as usize }>().copied() else { return };
    if how & 1 == 1 {
        damage::repair_header(&mut header);
    }
    let _ = check_segment_header(&header, &ARRAY, SEGMENT);
}

fn footer(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else { return };
    let mut bytes = rest.to_vec();
    if how & 1 == 1 {
        damage::repair_footer(SEGMENT, &mut bytes);
    }
    let Some(at) = bytes.len().checked_sub(footer_bytes(0) as usize) else { return };
    let Some(trailer) = decode_trailer(SEGMENT, bytes.len() as u32, &bytes[at..]) else { return };
    let stored = &bytes[trailer.footer_offset as usize..];
    let Some(entries) = decode_footer(SEGMENT, &trailer, stored) else { return };
    assert_eq!(entries.len(), trailer.entries as usize);
    let mut again = Vec::new();
    encode_footer(SEGMENT, trailer.footer_offset, entries.iter().copied(), &mut again);
    // A few bits of an entry may say anything.
    let trailer =
        decode_trailer(SEGMENT, bytes.len() as u32, &again[again.len() - footer_bytes(0) as usize..]);
    assert_eq!(decode_footer(SEGMENT, &trailer.expect("it was encoded"), &again), Some(entries));
}

fn state(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else { return };
    let mut bytes = rest.to_vec();
    if how & 1 == 1 {
        damage::repair_end(&mut bytes);
    }
    if let Ok(state) = State::decode(&bytes) {
        assert_eq!(State::decode(&state.encode()), Ok(state));
    }
}

fn dead(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else { return };
    let mut bytes = rest.to_vec();
    if how & 1 == 1 {
        damage::repair_end(&mut bytes);
    }
    let list = DeadList { id: RunId(5), file_bytes: bytes.len() as u64 };
    let Some(dead) = DeadRecords::decode(&ARRAY, &list, &bytes) else { return };
    let again = dead.encode(&ARRAY, list.id);
    let list = DeadList { file_bytes: again.len() as u64, ..list };
    assert_eq!(DeadRecords::decode(&ARRAY, &list, &again), Some(dead));
}

fn location(input: &[u8]) {
    for bits in input.as_chunks::<8>().0 {
        let location = Location::from_bits(u64::from_le_bytes(*bits));
        assert!(location.offset() < crate::SEGMENT_BYTES_MAX && !format!("{location:?}").is_empty());
        let again = Location::in_segment(location.segment(), location.place_bits());
        assert_eq!((again.offset(), again.length_max()), (location.offset(), location.length_max()));
    }
}

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    #[test]
    fn kept_inputs_of_the_fuzzer_are_taken_or_refused() {
        super::replay::all(super::TARGETS);
    }
}
