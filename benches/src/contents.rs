//! Block contents by number: number 0 is the zero block, every other number an own block, at LZ4 ratio 1.94 but for those
//! that [`tiny`] gives, which are their number and zeroes.
//!
//! A block is 64 groups of 64 bytes, each a run of random bytes and then a run that repeats in every group: compressible in
//! small pieces, as real data is, so that compression costs what it costs.

use crate::chance::Chance;

/// A block, in bytes.
pub const BLOCK_BYTES: usize = 4096;
/// Bytes after which the pattern repeats.
const GROUP_BYTES: usize = 64;
/// Random bytes of a group; with LZ4's tokens this gives the ratio.
const RANDOM_BYTES: usize = 28;

/// Numbers that end like this have tiny contents.
const TINY: u64 = 0xffff;

/// The number of a content that takes as little space as one of its own can.
pub fn tiny(number: u64) -> u64 {
    number << 16 | TINY
}

/// Fills a block with the content of this number.
pub fn fill(content: u64, block: &mut [u8]) {
    assert!(block.len() == BLOCK_BYTES, "contents are whole blocks");
    fill_part(content, block);
}

/// Fills the beginning of a block, in whole groups.
pub fn fill_part(content: u64, part: &mut [u8]) {
    assert!(part.len().is_multiple_of(GROUP_BYTES), "parts are whole groups");
    if content == 0 {
        part.fill(0);
        return;
    }
    if content & TINY == TINY {
        part.fill(0);
        part[..8].copy_from_slice(&content.to_le_bytes());
        return;
    }
    let mut chance = Chance::new(content);
    let mut random = [0; 32];
    for group in part.chunks_exact_mut(GROUP_BYTES) {
        for word in random.chunks_exact_mut(8) {
            word.copy_from_slice(&chance.bits().to_le_bytes());
        }
        let (own, common) = group.split_at_mut(RANDOM_BYTES);
        own.copy_from_slice(&random[..RANDOM_BYTES]);
        for (at, byte) in common.iter_mut().enumerate() {
            *byte = (at as u8).wrapping_mul(37) ^ 0x5a;
        }
    }
}

/// A new block with the content of this number.
pub fn block(content: u64) -> Vec<u8> {
    let mut block = vec![0; BLOCK_BYTES];
    fill(content, &mut block);
    block
}

/// Its size when compressed with LZ4, in bytes; a zero block has none.
pub fn compressed_bytes(content: u64) -> u64 {
    if content == 0 { 0 } else { lz4_flex::block::compress(&block(content)).len() as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_compress_at_the_reference_ratio() {
        let total: u64 = (1..=64).map(compressed_bytes).sum();
        let ratio = 64.0 * BLOCK_BYTES as f64 / total as f64;
        assert!((1.91..1.97).contains(&ratio), "{ratio}");
    }

    #[test]
    fn tiny_contents_differ_and_take_little() {
        assert_ne!(block(tiny(1)), block(tiny(2)));
        assert!(compressed_bytes(tiny(3)) < 64, "{}", compressed_bytes(tiny(3)));
    }

    #[test]
    fn the_same_number_gives_the_same_block_and_others_differ() {
        assert_eq!(block(7), block(7));
        assert_ne!(block(7), block(8));
        assert_eq!(block(0), vec![0; BLOCK_BYTES]);
    }
}
