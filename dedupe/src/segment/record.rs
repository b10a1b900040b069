//! One stored chunk: a header of 48 bytes and the payload's bytes.
//!
//! Bytes: docs/format-store.md, "Record".

use bytes::Bytes;

use super::{RECORD_ALIGN_BYTES, RECORD_BYTES_MAX, RECORD_HEADER_BYTES, seed, u32_at};
use crate::digest::{DIGEST_BYTES, Digest, Domain, NODE_LEVELS};
use crate::location::SegmentId;
use crate::reduce::{Form, Payload};

const STORED_AT: usize = DIGEST_BYTES;
const SHAPE_AT: usize = 36;
const BODY_CHECK_AT: usize = 40;
const HEADER_CHECK_AT: usize = 44;

const RAW_LENGTH_MASK: u32 = (1 << 20) - 1;
const FORM_SHIFT: u32 = 20;
const DOMAIN_SHIFT: u32 = 24;

const TAG_DATA: u8 = 0;
const TAG_VOLUME: u8 = 1;
const TAG_POD: u8 = 2;
const TAG_NODE: u8 = 16;
const _: () = assert!(TAG_NODE as usize + NODE_LEVELS <= 256);

/// What the header of a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub digest: Digest,
    pub domain: Domain,
    pub form: Form,
    pub raw_len: u32,
    pub stored_len: u32,
    body_check: u32,
}

impl RecordHeader {
    /// Reads the header at the start of `bytes`; `None` if its check fails or its fields contradict each other.
    pub(crate) fn decode(segment: SegmentId, bytes: &[u8]) -> Option<RecordHeader> {
        let header = bytes.get(..RECORD_HEADER_BYTES as usize)?;
        let stored_len = u32_at(header, STORED_AT);
        // The cheap test first: a scan tries every 16 bytes.
        if stored_len == 0 || stored_len > RECORD_BYTES_MAX - RECORD_HEADER_BYTES {
            return None;
        }
        if crc32c::crc32c_append(seed(segment), &header[..HEADER_CHECK_AT]) != u32_at(header, HEADER_CHECK_AT)
        {
            return None;
        }
        let shape = u32_at(header, SHAPE_AT);
        let mut digest = Digest::ZERO;
        digest.0.copy_from_slice(&header[..DIGEST_BYTES]);
        Some(RecordHeader {
            digest,
            domain: domain_of((shape >> DOMAIN_SHIFT) as u8)?,
            form: Form::from_u8((shape >> FORM_SHIFT & 0xf) as u8)?,
            raw_len: shape & RAW_LENGTH_MASK,
            stored_len,
            body_check: u32_at(header, BODY_CHECK_AT),
        })
    }

    /// Length of the record without padding, in bytes.
    pub(crate) fn record_len(&self) -> u32 {
        RECORD_HEADER_BYTES + self.stored_len
    }
}

/// Length of the record of `payload` without padding, in bytes.
pub(crate) fn record_bytes(payload: &Payload) -> u32 {
    RECORD_HEADER_BYTES + payload.bytes.len() as u32
}

/// Appends the record and its padding to `buffer`.
pub(crate) fn encode_record(
    segment: SegmentId,
    domain: Domain,
    digest: &Digest,
    payload: &Payload,
    buffer: &mut Vec<u8>,
) {
    let start = buffer.len();
    let shape =
        u32::from(tag_of(domain)) << DOMAIN_SHIFT | (payload.form as u32) << FORM_SHIFT | payload.raw_len;
    buffer.extend_from_slice(&digest.0);
    buffer.extend_from_slice(&(payload.bytes.len() as u32).to_le_bytes());
    buffer.extend_from_slice(&shape.to_le_bytes());
    buffer.extend_from_slice(&crc32c::crc32c_append(seed(segment), &payload.bytes).to_le_bytes());
    let check = crc32c::crc32c_append(seed(segment), &buffer[start..]);
    buffer.extend_from_slice(&check.to_le_bytes());
    buffer.extend_from_slice(&payload.bytes);
    let padded = (buffer.len() - start).next_multiple_of(RECORD_ALIGN_BYTES as usize);
    buffer.resize(start + padded, 0);
}

/// The payload of the record at the start of `bytes`, its check passed; `None` if it is rotten or cut.
pub(crate) fn decode_payload(segment: SegmentId, header: &RecordHeader, bytes: &Bytes) -> Option<Payload> {
    let start = RECORD_HEADER_BYTES as usize;
    let end = header.record_len() as usize;
    if bytes.len() < end {
        return None;
    }
    let payload = Payload { form: header.form, raw_len: header.raw_len, bytes: bytes.slice(start..end) };
    let intact = crc32c::crc32c_append(seed(segment), &payload.bytes) == header.body_check;
    (intact && payload.is_plausible()).then_some(payload)
}

fn tag_of(domain: Domain) -> u8 {
    match domain {
        Domain::Data => TAG_DATA,
        Domain::Volume => TAG_VOLUME,
        Domain::Pod => TAG_POD,
        Domain::Node { level } => {
            assert!(usize::from(level) < NODE_LEVELS, "a tree has less than {NODE_LEVELS} levels");
            TAG_NODE + level
        }
    }
}

fn domain_of(tag: u8) -> Option<Domain> {
    match tag {
        TAG_DATA => Some(Domain::Data),
        TAG_VOLUME => Some(Domain::Volume),
        TAG_POD => Some(Domain::Pod),
        _ => {
            let level = tag.checked_sub(TAG_NODE)?;
            (usize::from(level) < NODE_LEVELS).then_some(Domain::Node { level })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::digest;
    use crate::reduce::{Compression, pack};

    fn sample() -> (Digest, Payload, Vec<u8>) {
        let content = [5; 4096];
        let (name, payload) = (digest(Domain::Data, &content), pack(&content, Compression::WhenItPays));
        let mut buffer = Vec::new();
        encode_record(SegmentId(7), Domain::Data, &name, &payload, &mut buffer);
        (name, payload, buffer)
    }

    #[test]
    fn a_record_reads_back_and_only_in_its_own_segment() {
        let (name, payload, buffer) = sample();
        let header = RecordHeader::decode(SegmentId(7), &buffer).unwrap();
        assert_eq!((header.digest, header.domain), (name, Domain::Data));
        assert_eq!(header.record_len(), record_bytes(&payload));
        assert_eq!(decode_payload(SegmentId(7), &header, &Bytes::from(buffer.clone())), Some(payload));
        assert_eq!(RecordHeader::decode(SegmentId(8), &buffer), None);
    }

    #[test]
    fn any_flipped_bit_is_found_by_the_checks() {
        let (_, payload, buffer) = sample();
        for bit in 0..record_bytes(&payload) as usize * 8 {
            let mut rotten = buffer.clone();
            rotten[bit / 8] ^= 1 << (bit % 8);
            let read = RecordHeader::decode(SegmentId(7), &rotten)
                .and_then(|header| decode_payload(SegmentId(7), &header, &Bytes::from(rotten)));
            assert_eq!(read, None, "bit {bit}");
        }
    }

    #[test]
    fn the_first_record_of_a_segment_is_frozen() {
        let mut buffer = Vec::new();
        let payload = Payload::raw(Bytes::from_static(b"golden"));
        let domain = Domain::Node { level: 3 };
        encode_record(SegmentId(1), domain, &digest(domain, b"golden"), &payload, &mut buffer);
        let hex: String = buffer.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "826ae00e46635279a39e94b36d818ef08a2212cc7cbaf04b74465ca4518e747b0600000006000013163f2d37c9a6ed85676f6c64656e00000000000000000000"
        );
    }
}
