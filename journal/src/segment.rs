//! Segment files: names, and the header in their first block.
//!
//! - S1: the header's content lies in one 512-byte sector, so that rewriting it leaves the old or the new header.
//! - S2: a number is given once; a recycled file gets a new number, and frames carry the number of their segment,
//!   so that frames of a file's earlier life are never taken for its own.
//!
//! Bytes: docs/format-journal.md, "Segment".

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::config::NUMBER_MAX;
use crate::error::OpenError;
use crate::media::{AlignedBuf, DIRECT_ALIGN_BYTES, FileId, SECTOR_BYTES};

/// Bytes before the first frame of a segment.
pub(crate) const SEGMENT_HEADER_BYTES: u64 = DIRECT_ALIGN_BYTES as u64;

const MAGIC: [u8; 8] = *b"MPODJSEG";
const VERSION: u16 = 1;
const SUFFIX: &str = ".seg";
const UNFINISHED_SUFFIX: &str = ".new";

/// Names one segment file; the number is the order of creation, not of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentFile(pub u32);

impl std::fmt::Display for SegmentFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:06}{SUFFIX}", self.0)
    }
}

impl SegmentFile {
    /// The file that a directory entry names, if it is one of ours.
    pub(crate) fn parse(name: &str) -> Option<SegmentFile> {
        let file = SegmentFile(name.strip_suffix(SUFFIX)?.parse().ok()?);
        (file.to_string() == name).then_some(file)
    }

    /// Whether a directory entry is a file whose creation was cut short.
    pub(crate) fn is_unfinished(name: &str) -> bool {
        name.strip_suffix(UNFINISHED_SUFFIX).is_some_and(|rest| SegmentFile::parse(rest).is_some())
    }

    pub(crate) fn path(self, dir: &str) -> String {
        join(dir, &self.to_string())
    }

    pub(crate) fn unfinished_path(self, dir: &str) -> String {
        format!("{}{UNFINISHED_SUFFIX}", self.path(dir))
    }
}

/// Path of `name` in `dir`.
pub(crate) fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

/// A segment file that is open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    pub(crate) file: SegmentFile,
    pub(crate) handle: FileId,
}

/// What a segment's first block says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) array: [u8; 16],
    /// Place of the segment in the journal, from 1.
    pub(crate) number: u64,
    pub(crate) salt: u64,
    pub(crate) length: u64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    magic: [u8; 8],
    version: U16,
    reserved: [u8; 6],
    array: [u8; 16],
    number: U64,
    salt: U64,
    length: U64,
    reserved_too: U32,
    crc: U32,
}

const RAW_BYTES: usize = size_of::<Raw>();
const CRC_BYTES: usize = size_of::<U32>();
const _: () = assert!(RAW_BYTES == 64 && RAW_BYTES <= SECTOR_BYTES);

impl SegmentHeader {
    /// The whole first block.
    pub(crate) fn encode(&self) -> AlignedBuf {
        let mut raw = Raw {
            magic: MAGIC,
            version: U16::new(VERSION),
            reserved: [0; 6],
            array: self.array,
            number: U64::new(self.number),
            salt: U64::new(self.salt),
            length: U64::new(self.length),
            reserved_too: U32::new(0),
            crc: U32::new(0),
        };
        raw.crc = U32::new(crc32c::crc32c(&raw.as_bytes()[..RAW_BYTES - CRC_BYTES]));
        let mut block = AlignedBuf::zeroed(SEGMENT_HEADER_BYTES as usize);
        block.as_mut_slice()[..RAW_BYTES].copy_from_slice(raw.as_bytes());
        block
    }

    /// Reads the first block of `file`, which must belong to `array`.
    pub(crate) fn decode(
        block: &[u8],
        file: SegmentFile,
        array: [u8; 16],
    ) -> Result<SegmentHeader, OpenError> {
        let Ok((raw, _)) = Raw::ref_from_prefix(block) else { return Err(OpenError::NotASegment { file }) };
        if raw.magic != MAGIC {
            return Err(OpenError::NotASegment { file });
        }
        // Every version keeps magic, version and check in their places, so that rot is not taken for a new format.
        if raw.crc.get() != crc32c::crc32c(&raw.as_bytes()[..RAW_BYTES - CRC_BYTES]) {
            return Err(OpenError::DamagedHeader { file });
        }
        if raw.version.get() != VERSION {
            return Err(OpenError::UnknownVersion { file, version: raw.version.get(), known: VERSION });
        }
        if raw.array != array {
            return Err(OpenError::ForeignArray { file, found: raw.array, expected: array });
        }
        if raw.number.get() >= NUMBER_MAX {
            return Err(OpenError::Malformed { file, offset: 0 });
        }
        Ok(SegmentHeader {
            array: raw.array,
            number: raw.number.get(),
            salt: raw.salt.get(),
            length: raw.length.get(),
        })
    }
}
