//! The head of a file of delta runs, `layers/N.run`: whose layers these are.
//!
//! A layer's id is unique within its array only, and its run names no array; without this head, another array's layers
//! under the same number would be taken for this one's.
//!
//! Bytes: docs/format.md, "Manifest".

use metropod_protocol::ArrayId;

/// Bytes before the first delta run.
pub const HEAD_BYTES: u64 = 40;

const MAGIC: [u8; 8] = *b"MPODLAYR";
const VERSION: u16 = 1;
const CHECK_AT: usize = HEAD_BYTES as usize - 4;

/// What is wrong with a file of delta runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadFault {
    /// Cut, damaged, or no such file at all.
    #[error("it is no file of map layers, or damaged; restore it from a copy")]
    Damaged,
    /// Written by another version.
    #[error("format version {0} is not known here, only {VERSION} is; use the release that wrote it")]
    Version(u16),
    /// Another array's.
    #[error("it belongs to another array; put this array's own file back")]
    OtherArray,
    /// This array's, but another checkpoint's.
    #[error("it is another checkpoint's file; put the right one back")]
    OtherNumber,
}

/// The head of run file `number` of `array`.
pub fn encode(array: ArrayId, number: u64) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD_BYTES as usize);
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&[0; 2]);
    head.extend_from_slice(&array.0);
    head.extend_from_slice(&number.to_le_bytes());
    let check = crc32c::crc32c(&head);
    head.extend_from_slice(&check.to_le_bytes());
    assert_eq!(head.len() as u64, HEAD_BYTES, "the layout has its length");
    head
}

/// Checks that `file` is run file `number` of `array`.
pub fn check(file: &[u8], array: ArrayId, number: u64) -> Result<(), HeadFault> {
    let head = file.first_chunk::<{ HEAD_BYTES as usize }>().ok_or(HeadFault::Damaged)?;
    if head[..8] != MAGIC || crc32c::crc32c(&head[..CHECK_AT]).to_le_bytes() != head[CHECK_AT..] {
        return Err(HeadFault::Damaged);
    }
    let version = u16::from_le_bytes([head[8], head[9]]);
    if version != VERSION {
        return Err(HeadFault::Version(version));
    }
    if head[12..28] != array.0 {
        return Err(HeadFault::OtherArray);
    }
    if head[28..36] != number.to_le_bytes() {
        return Err(HeadFault::OtherNumber);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ArrayId = ArrayId([0xa1; 16]);

    /// docs/format.md, "Manifest": a change here is a change of format.
    #[test]
    fn the_bytes_of_a_head_are_frozen_and_any_flipped_bit_is_refused() {
        let head = encode(A, 7);
        let hex: String = head[..CHECK_AT].iter().map(|byte| format!("{byte:02x}")).collect();
        let frozen = "4d504f444c41595201000000a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a10700000000000000";
        assert_eq!(hex, frozen);
        assert_eq!(check(&head, A, 7), Ok(()));
        for bit in 0..head.len() * 8 {
            let mut damaged = head.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(check(&damaged, A, 7), Err(HeadFault::Damaged), "bit {bit}");
        }
        for cut in 0..head.len() {
            assert_eq!(check(&head[..cut], A, 7), Err(HeadFault::Damaged), "cut at {cut}");
        }
    }

    #[test]
    fn another_arrays_or_checkpoints_file_is_told_apart() {
        let head = encode(A, 7);
        assert_eq!(check(&head, ArrayId([0xb2; 16]), 7), Err(HeadFault::OtherArray));
        assert_eq!(check(&head, A, 8), Err(HeadFault::OtherNumber));
    }
}
