//! Blocked Bloom filter, as `dedupe/src/index/filter.rs` has it: one cache line per question, built as keys come.

use super::{Filter, Key};

const PROBES: u64 = 7;
const BLOCK_WORDS: usize = 8;
const BLOCK_BITS: u64 = 512;

/// A filter of 512-bit blocks.
#[derive(Debug)]
pub struct Bloom {
    blocks: Vec<[u64; BLOCK_WORDS]>,
}

impl Bloom {
    /// An empty filter for so many keys.
    pub fn with_capacity(keys: u64, bits_per_key: u64) -> Bloom {
        let blocks = (keys * bits_per_key).div_ceil(BLOCK_BITS).max(1);
        Bloom { blocks: vec![[0; BLOCK_WORDS]; blocks as usize] }
    }

    /// A filter of these keys.
    pub fn build(keys: &[Key], bits_per_key: u64) -> Bloom {
        let mut bloom = Bloom::with_capacity(keys.len() as u64, bits_per_key);
        keys.iter().for_each(|key| bloom.insert(key));
        bloom
    }

    /// Adds a key.
    pub fn insert(&mut self, key: &Key) {
        let (block, probes) = self.probes(key);
        for bit in probes {
            self.blocks[block][(bit / 64) as usize] |= 1 << (bit % 64);
        }
    }

    fn probes(&self, key: &Key) -> (usize, impl Iterator<Item = u64> + use<>) {
        let spread = key[1].wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let block = ((u128::from(spread) * self.blocks.len() as u128) >> 64) as usize;
        let (start, step) = (key[2], key[3] | 1);
        (block, (0..PROBES).map(move |probe| start.wrapping_add(step.wrapping_mul(probe)) % BLOCK_BITS))
    }
}

impl Filter for Bloom {
    fn may_contain(&self, key: &Key) -> bool {
        let (block, mut probes) = self.probes(key);
        let block = &self.blocks[block];
        probes.all(|bit| block[(bit / 64) as usize] >> (bit % 64) & 1 == 1)
    }

    fn memory_bytes(&self) -> u64 {
        (self.blocks.capacity() * BLOCK_WORDS * 8) as u64
    }
}
