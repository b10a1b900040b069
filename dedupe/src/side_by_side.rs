//! BLAKE3 of many blocks at once: each lane of the vector unit works on another block.
//!
//! `blake3::keyed_hash` of 4 KiB has only four leaves to work on, a quarter of a 16-lane unit. Blocks of one length are trees
//! of one shape, so their leaves, parents and roots can be hashed a layer at a time, through the crate's hidden multi-input
//! door (`platform`), which every build of that crate uses itself.
//!
//! A call of the multi-input door costs nearly the same however many of its lanes are used, and one that fits no vector width
//! falls back to hashing leaf by leaf. So a call always has 16 or 8 inputs, the last ones repeated where blocks are missing,
//! and so few blocks that this does not pay are hashed alone.
//!
//! - S1: the result equals `blake3::keyed_hash` of each block; tested for every count around the group's size.

use blake3::IncrementCounter;
use blake3::platform::{Platform, words_from_le_bytes_32};

use crate::reduce::BLOCK_BYTES;

/// A block's tree: four leaves, two parents, one root.
const LEAVES: usize = 4;
const LEAF_BYTES: usize = 1024;

/// Blocks from which 16 lanes cost less than 8 and the rest alone (measured: docs/decisions/0006).
const WORTH_16: usize = 11;
/// Blocks from which 8 lanes cost less than hashing alone.
const WORTH_8: usize = 5;

const _: () = assert!(LEAVES * LEAF_BYTES == BLOCK_BYTES);
const NAME_BYTES: usize = 32;
const PAIR_BYTES: usize = 2 * NAME_BYTES;

// Flags of the BLAKE3 paper, section 2.2.
const CHUNK_START: u8 = 1;
const CHUNK_END: u8 = 1 << 1;
const PARENT: u8 = 1 << 2;
const ROOT: u8 = 1 << 3;
const KEYED_HASH: u8 = 1 << 4;

pub(crate) type Block = [u8; BLOCK_BYTES];
pub(crate) type Name = [u8; NAME_BYTES];

/// The keyed hash of each block.
pub(crate) fn keyed_hashes(key: &[u8; 32], blocks: &[&Block]) -> Vec<Name> {
    let platform = Platform::detect();
    let words = words_from_le_bytes_32(key);
    let mut names = Vec::with_capacity(blocks.len());
    let mut rest = blocks;
    while !rest.is_empty() {
        let lanes = lanes_for(rest.len(), platform.simd_degree());
        let (group, later) = rest.split_at(rest.len().min(lanes));
        rest = later;
        match lanes {
            16 => names.extend_from_slice(&hash_group::<16>(platform, &words, group)[..group.len()]),
            8 => names.extend_from_slice(&hash_group::<8>(platform, &words, group)[..group.len()]),
            _ => names.extend(group.iter().map(|block| *blake3::keyed_hash(key, &block[..]).as_bytes())),
        }
    }
    names
}

/// How many of `blocks` blocks to hash in the next call.
fn lanes_for(blocks: usize, degree: usize) -> usize {
    match blocks {
        WORTH_16.. if degree >= 16 => 16,
        WORTH_8.. if degree >= 8 => 8,
        _ => 1,
    }
}

/// The keyed hashes of at least one and at most `N` blocks, and then of the first one again.
fn hash_group<const N: usize>(platform: Platform, key: &[u32; 8], blocks: &[&Block]) -> [Name; N] {
    let block_at = |lane: usize| blocks.get(lane).unwrap_or(&blocks[0]);
    let mut leaves = [[[0; NAME_BYTES]; N]; LEAVES];
    for (index, leaves) in leaves.iter_mut().enumerate() {
        let inputs: [&[u8; LEAF_BYTES]; N] = std::array::from_fn(|lane| &block_at(lane).as_chunks().0[index]);
        let (counter, out) = (index as u64, leaves.as_flattened_mut());
        let (no, flags) = (IncrementCounter::No, KEYED_HASH);
        platform.hash_many(&inputs, key, counter, no, flags, CHUNK_START, CHUNK_END, out);
    }
    let [first, second, third, fourth] = leaves;
    let left = hash_pairs(platform, key, PARENT, &first, &second);
    let right = hash_pairs(platform, key, PARENT, &third, &fourth);
    hash_pairs(platform, key, PARENT | ROOT, &left, &right)
}

/// The parents of `N` pairs.
fn hash_pairs<const N: usize>(
    platform: Platform,
    key: &[u32; 8],
    flags: u8,
    left: &[Name; N],
    right: &[Name; N],
) -> [Name; N] {
    let mut pairs = [[0; PAIR_BYTES]; N];
    for (pair, (left, right)) in pairs.iter_mut().zip(left.iter().zip(right)) {
        pair[..NAME_BYTES].copy_from_slice(left);
        pair[NAME_BYTES..].copy_from_slice(right);
    }
    let mut names = [[0; NAME_BYTES]; N];
    let (no, flags, out) = (IncrementCounter::No, KEYED_HASH | flags, names.as_flattened_mut());
    platform.hash_many(&pairs.each_ref(), key, 0, no, flags, 0, 0, out);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u8) -> Block {
        let mut block = [0; BLOCK_BYTES];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut block);
        block
    }

    #[test]
    fn every_block_of_every_count_has_the_name_it_has_alone() {
        let key = blake3::derive_key("a key of the test", b"");
        let blocks: Vec<Block> = (0..40).map(noise).collect();
        for count in 0..blocks.len() {
            let blocks: Vec<&Block> = blocks[..count].iter().collect();
            let expected: Vec<Name> =
                blocks.iter().map(|block| *blake3::keyed_hash(&key, &block[..]).as_bytes()).collect();
            assert_eq!(keyed_hashes(&key, &blocks), expected, "{count} blocks");
            // Groups that this machine's vectors would not be given.
            if (1..=8).contains(&count) {
                let words = words_from_le_bytes_32(&key);
                for platform in [Platform::detect(), Platform::portable()] {
                    assert_eq!(hash_group::<8>(platform, &words, &blocks)[..count], expected);
                    assert_eq!(hash_group::<16>(platform, &words, &blocks)[..count], expected);
                }
            }
        }
    }
}
