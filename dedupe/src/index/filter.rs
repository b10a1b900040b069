//! Blocked Bloom filter: "is this digest surely not in the run?" for one cache line and no I/O.
//!
//! Twelve bits per key in blocks of 512 bits, seven probes: about 0.5 % wrongly positive. Digests are uniform, so
//! their words serve as hashes; a salt keeps digests that were searched for in one array from crowding another's.

use crate::digest::Digest;

/// Bits per key (a choice, not format: the number of blocks is stored).
const BITS_PER_KEY: u64 = 12;
const PROBES: u64 = 7;
const BLOCK_WORDS: usize = 8;
const BLOCK_BITS: u64 = 512;
/// Length of a block, in bytes (format).
pub(crate) const BLOCK_BYTES: usize = 64;

/// Filter of one run.
pub(crate) struct Filter {
    salt: u64,
    blocks: Vec<[u64; BLOCK_WORDS]>,
}

impl Filter {
    /// An empty filter for up to `keys` digests.
    pub(crate) fn with_capacity(keys: u64, salt: u64) -> Filter {
        let blocks = (keys * BITS_PER_KEY).div_ceil(BLOCK_BITS).max(1);
        Filter { salt, blocks: vec![[0; BLOCK_WORDS]; blocks as usize] }
    }

    pub(crate) fn insert(&mut self, digest: &Digest) {
        let (block, probes) = self.probes(digest);
        for bit in probes {
            self.blocks[block][(bit / 64) as usize] |= 1 << (bit % 64);
        }
    }

    /// Whether the digest may have been inserted.
    pub(crate) fn may_contain(&self, digest: &Digest) -> bool {
        let (block, mut probes) = self.probes(digest);
        let block = &self.blocks[block];
        probes.all(|bit| block[(bit / 64) as usize] >> (bit % 64) & 1 == 1)
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        (self.blocks.capacity() * BLOCK_BYTES) as u64
    }

    pub(crate) fn block_count(&self) -> u32 {
        self.blocks.len() as u32
    }

    /// Appends the blocks from `range` as they are stored.
    pub(crate) fn encode(&self, range: std::ops::Range<usize>, buffer: &mut Vec<u8>) {
        self.blocks[range].iter().flatten().for_each(|word| buffer.extend_from_slice(&word.to_le_bytes()));
    }

    /// A filter read back; the length is a multiple of [`BLOCK_BYTES`] and not zero.
    pub(crate) fn decode(salt: u64, bytes: &[u8]) -> Filter {
        let (blocks, rest) = bytes.as_chunks::<BLOCK_BYTES>();
        assert!(rest.is_empty() && !blocks.is_empty(), "the caller sizes the filter by its number of blocks");
        let block = |bytes: &[u8; BLOCK_BYTES]| {
            let mut block = [0; BLOCK_WORDS];
            let (words, _) = bytes.as_chunks::<8>();
            block.iter_mut().zip(words).for_each(|(word, bytes)| *word = u64::from_le_bytes(*bytes));
            block
        };
        Filter { salt, blocks: blocks.iter().map(block).collect() }
    }

    fn probes(&self, digest: &Digest) -> (usize, impl Iterator<Item = u64> + use<>) {
        let spread = (digest.word(1) ^ self.salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let block = ((u128::from(spread) * self.blocks.len() as u128) >> 64) as usize;
        let start = digest.word(2) ^ self.salt.rotate_left(32);
        let step = digest.word(3) | 1;
        (block, (0..PROBES).map(move |probe| start.wrapping_add(step.wrapping_mul(probe)) % BLOCK_BITS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Domain, digest};

    #[test]
    fn no_inserted_digest_is_denied_and_few_others_are_let_through() {
        let name = |n: u32| digest(Domain::Data, &n.to_le_bytes());
        let mut filter = Filter::with_capacity(20_000, 99);
        (0..20_000).for_each(|n| filter.insert(&name(n)));
        let mut stored = Vec::new();
        filter.encode(0..filter.block_count() as usize, &mut stored);
        let filter = Filter::decode(99, &stored);
        assert!((0..20_000).all(|n| filter.may_contain(&name(n))));
        let wrong = (20_000..60_000).filter(|n| filter.may_contain(&name(*n))).count();
        assert!(wrong < 400, "{wrong} of 40,000 wrongly positive");
    }
}
