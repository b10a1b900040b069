//! A segment's header: whose file it is, and which.
//!
//! - H1: rot in a header costs nothing, because records carry checks of their own; but a file that is another array's,
//!   another program's or another segment's is told apart from rot, so that it is refused and never removed.
//!
//! Bytes: docs/format-store.md, "Segment".

use super::{SEGMENT_HEADER_BYTES, Stream, u32_at, u64_at};
use crate::location::SegmentId;

const MAGIC: [u8; 8] = *b"MPSEGHDR";
const VERSION: u32 = 2;
const CHECK_AT: usize = SEGMENT_HEADER_BYTES as usize - 4;

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// The check fails, or nothing was written: rot, or a crash.
    Damaged,
    /// Another program's file, or another segment's.
    Misplaced,
    /// Another array's.
    OtherArray,
    /// Another format version's.
    Version(u32),
}

/// The header of a new segment.
pub(crate) fn encode_segment_header(array: &[u8; 16], segment: SegmentId, stream: Stream) -> Vec<u8> {
    let mut header = Vec::with_capacity(SEGMENT_HEADER_BYTES as usize);
    header.extend_from_slice(&MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&u32::from(stream as u8).to_le_bytes());
    header.extend_from_slice(array);
    header.extend_from_slice(&segment.0.to_le_bytes());
    header.resize(CHECK_AT, 0);
    let check = crc32c::crc32c(&header);
    header.extend_from_slice(&check.to_le_bytes());
    header
}

/// Checks that these are the first bytes of `array`'s `segment`.
pub(crate) fn check_segment_header(
    bytes: &[u8],
    array: &[u8; 16],
    segment: SegmentId,
) -> Result<(), HeaderFault> {
    assert_eq!(bytes.len(), SEGMENT_HEADER_BYTES as usize, "callers read a whole header");
    if crc32c::crc32c(&bytes[..CHECK_AT]) != u32_at(bytes, CHECK_AT) {
        // Rot seldom takes two fields that lie apart; a page that a crash took back is zero.
        let foreign = bytes[..8] != MAGIC && bytes[16..32] != *array && bytes.iter().any(|byte| *byte != 0);
        return Err(if foreign { HeaderFault::Misplaced } else { HeaderFault::Damaged });
    }
    if bytes[..8] != MAGIC {
        return Err(HeaderFault::Misplaced);
    }
    if u32_at(bytes, 8) != VERSION {
        return Err(HeaderFault::Version(u32_at(bytes, 8)));
    }
    if bytes[16..32] != *array {
        return Err(HeaderFault::OtherArray);
    }
    if u64_at(bytes, 32) != segment.0 {
        return Err(HeaderFault::Misplaced);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARRAY: [u8; 16] = [7; 16];

    #[test]
    fn a_header_says_whose_segment_it_is_and_rot_is_told_apart() {
        let segment = SegmentId(3);
        let header = encode_segment_header(&ARRAY, segment, Stream::Node);
        assert_eq!(check_segment_header(&header, &ARRAY, segment), Ok(()));
        assert_eq!(check_segment_header(&header, &[8; 16], segment), Err(HeaderFault::OtherArray));
        assert_eq!(check_segment_header(&header, &ARRAY, SegmentId(4)), Err(HeaderFault::Misplaced));
        for bit in 0..header.len() * 8 {
            let mut rotten = header.clone();
            rotten[bit / 8] ^= 1 << (bit % 8);
            let found = check_segment_header(&rotten, &ARRAY, segment);
            assert_eq!(found, Err(HeaderFault::Damaged), "bit {bit}");
        }
        assert_eq!(check_segment_header(&[0; 64], &ARRAY, segment), Err(HeaderFault::Damaged));
        assert_eq!(check_segment_header(&[b'x'; 64], &ARRAY, segment), Err(HeaderFault::Misplaced));
        let mut newer = header[..CHECK_AT].to_vec();
        newer[8] = 9;
        let check = crc32c::crc32c(&newer);
        newer.extend_from_slice(&check.to_le_bytes());
        assert_eq!(check_segment_header(&newer, &ARRAY, segment), Err(HeaderFault::Version(9)));
    }
}
