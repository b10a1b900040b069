//! Frames: what one append writes.
//!
//! A frame is a header and whole records, padded with zeroes to 4096 bytes.
//!
//! - F1: `header_crc` covers the header, `payload_crc` in it all the rest, `chain` is the header check of the frame
//!   before: one intact header vouches for everything up to it.
//! - F2: `durable_frame` and `durable_lsn` are what was known durable at submission. A hole at or below the greatest
//!   `durable_frame` that any later header states is damage; above it, a torn tail.
//! - F3: `life` grows with each open of the journal and never falls along the chain: what an earlier life left
//!   beyond its cut tail cannot follow a frame of a later life.
//!
//! Bytes: docs/format-journal.md, "Frame".

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::config::{FRAME_BYTES_MAX, NUMBER_MAX};
use crate::media::DIRECT_ALIGN_BYTES;
use crate::record::Record;
use crate::segment::SegmentHeader;

/// Bytes before the first record of a frame.
pub(crate) const FRAME_HEADER_BYTES: usize = 96;
/// Frames begin and end at multiples of this.
pub(crate) const FRAME_ALIGN_BYTES: usize = DIRECT_ALIGN_BYTES;
/// Format version of frames.
pub(crate) const FRAME_VERSION: u16 = 1;

const MAGIC: [u8; 4] = *b"MPjf";

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Records = 0,
    /// Empty; says that everything before it is durable.
    Closing = 1,
    /// Empty; the first frame of a life.
    Opening = 2,
}

/// A frame's header without checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) kind: Kind,
    pub(crate) segment: u64,
    pub(crate) salt: u64,
    /// Number of the frame in the journal, from 1, gap free.
    pub(crate) frame: u64,
    /// Number of the first record in it, or of the next record when it is empty.
    pub(crate) first_lsn: u64,
    pub(crate) durable_lsn: u64,
    pub(crate) durable_frame: u64,
    pub(crate) life: u64,
    pub(crate) record_count: u32,
    pub(crate) payload_bytes: u32,
    /// Header check of the frame before, 0 before the first.
    pub(crate) chain: u32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    magic: [u8; 4],
    version: U16,
    kind: U16,
    segment: U64,
    salt: U64,
    frame: U64,
    first_lsn: U64,
    durable_lsn: U64,
    durable_frame: U64,
    life: U64,
    record_count: U32,
    payload_bytes: U32,
    chain: U32,
    payload_crc: U32,
    reserved: [u8; 12],
    header_crc: U32,
}

const _: () = assert!(size_of::<Raw>() == FRAME_HEADER_BYTES);

/// A header that passed its check.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checked {
    pub(crate) header: FrameHeader,
    /// Its check: the `chain` of the next frame.
    pub(crate) header_crc: u32,
    payload_crc: u32,
}

/// What stands where a frame may begin.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found {
    /// No frame of this segment.
    Nothing,
    /// A frame of a format this program does not know.
    UnknownVersion(u16),
    /// Its header is intact but states what no frame can.
    Malformed,
    Frame(Checked),
}

/// Length of a frame with `payload_bytes` of records.
pub(crate) fn frame_bytes(payload_bytes: usize) -> usize {
    (FRAME_HEADER_BYTES + payload_bytes).next_multiple_of(FRAME_ALIGN_BYTES)
}

impl FrameHeader {
    pub(crate) fn total_bytes(&self) -> usize {
        frame_bytes(self.payload_bytes as usize)
    }

    /// Fills `out`, which is exactly as long as the frame, and gives back the header's check.
    pub(crate) fn encode(&self, records: &[Record], out: &mut [u8]) -> u32 {
        assert!(out.len() == self.total_bytes(), "the buffer has the frame's length");
        assert!(records.len() == self.record_count as usize, "the header counts its records");
        let (head, payload) = out.split_at_mut(FRAME_HEADER_BYTES);
        let padding = records.iter().fold(&mut *payload, |rest, record| record.encode(rest));
        padding.fill(0);
        let mut raw = Raw {
            magic: MAGIC,
            version: U16::new(FRAME_VERSION),
            kind: U16::new(self.kind as u16),
            segment: U64::new(self.segment),
            salt: U64::new(self.salt),
            frame: U64::new(self.frame),
            first_lsn: U64::new(self.first_lsn),
            durable_lsn: U64::new(self.durable_lsn),
            durable_frame: U64::new(self.durable_frame),
            life: U64::new(self.life),
            record_count: U32::new(self.record_count),
            payload_bytes: U32::new(self.payload_bytes),
            chain: U32::new(self.chain),
            payload_crc: U32::new(crc32c::crc32c(payload)),
            reserved: [0; 12],
            header_crc: U32::new(0),
        };
        let crc = header_crc(&raw);
        raw.header_crc = U32::new(crc);
        head.copy_from_slice(raw.as_bytes());
        crc
    }

    /// Looks for a frame of `segment` at the front of `bytes`.
    pub(crate) fn find(bytes: &[u8], segment: &SegmentHeader) -> Found {
        let Ok((raw, _)) = Raw::ref_from_prefix(bytes) else { return Found::Nothing };
        let ours = raw.magic == MAGIC
            && raw.segment.get() == segment.number
            && raw.salt.get() == segment.salt
            && raw.header_crc.get() == header_crc(raw);
        if !ours {
            return Found::Nothing;
        }
        if raw.version.get() != FRAME_VERSION {
            return Found::UnknownVersion(raw.version.get());
        }
        let kind = match raw.kind.get() {
            0 => Kind::Records,
            1 => Kind::Closing,
            2 => Kind::Opening,
            _ => return Found::Malformed,
        };
        let header = FrameHeader {
            kind,
            segment: raw.segment.get(),
            salt: raw.salt.get(),
            frame: raw.frame.get(),
            first_lsn: raw.first_lsn.get(),
            durable_lsn: raw.durable_lsn.get(),
            durable_frame: raw.durable_frame.get(),
            life: raw.life.get(),
            record_count: raw.record_count.get(),
            payload_bytes: raw.payload_bytes.get(),
            chain: raw.chain.get(),
        };
        let sane = raw.payload_bytes.get() as usize <= FRAME_BYTES_MAX - FRAME_HEADER_BYTES
            && header.first_lsn > 0
            && header.frame > header.durable_frame
            && header.first_lsn.max(header.frame).max(header.life) < NUMBER_MAX
            && (kind == Kind::Records) == (header.record_count > 0);
        if !sane {
            return Found::Malformed;
        }
        let (header_crc, payload_crc) = (raw.header_crc.get(), raw.payload_crc.get());
        Found::Frame(Checked { header, header_crc, payload_crc })
    }
}

impl Checked {
    /// The records' bytes, if `frame` (the whole frame) is intact.
    pub(crate) fn payload<'a>(&self, frame: &'a [u8]) -> Option<&'a [u8]> {
        let all = frame.get(FRAME_HEADER_BYTES..self.header.total_bytes())?;
        (crc32c::crc32c(all) == self.payload_crc).then(|| &all[..self.header.payload_bytes as usize])
    }
}

fn header_crc(raw: &Raw) -> u32 {
    crc32c::crc32c(&raw.as_bytes()[..FRAME_HEADER_BYTES - size_of::<U32>()])
}
