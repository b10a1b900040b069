//! The reference image and its outage delta, by seed.
//!
//! An image is a content number per block: 20 % zero, 30 % copies of other blocks, 50 % unique. The delta rewrites 5 % of
//! the blocks at random, moves 1/32 of the image from elsewhere in it and trims 1/32 (64 MiB each of 2 GiB).

use std::collections::HashSet;

use crate::chance::{Chance, mix};
use crate::contents::{self, BLOCK_BYTES};

/// Blocks of the full-size reference image: 2 GiB.
pub const REFERENCE_BLOCKS: u64 = (2 << 30) / BLOCK_BYTES as u64;
/// Percent of zero blocks.
const ZERO_PERCENT: u64 = 20;
/// Percent of blocks that are copies.
const COPY_PERCENT: u64 = 30;
/// Percent of blocks that the delta rewrites.
const REWRITTEN_PERCENT: u64 = 5;
/// The delta moves and trims one part in this many.
const PARTS: u64 = 32;

/// A volume's content, as content numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    contents: Vec<u64>,
    seed: u64,
    fresh: u64,
}

/// What a host did during an outage, in order.
#[derive(Debug, Clone)]
pub struct Delta {
    /// Runs of blocks: first block and contents. Zero contents of a whole run mean a trim.
    pub runs: Vec<(u64, Vec<u64>)>,
}

/// What a delta comes to.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// Blocks that differ.
    pub blocks: u64,
    /// Contents that the image did not have.
    pub new_contents: u64,
    /// Their size when compressed, in bytes.
    pub new_compressed_bytes: u64,
}

impl Change {
    /// The least one can ship: the new contents and 40 bytes per changed block.
    pub fn ideal_wire_bytes(&self) -> u64 {
        self.new_compressed_bytes + 40 * self.blocks
    }
}

impl Image {
    /// The reference image with this many blocks.
    pub fn reference(blocks: u64, seed: u64) -> Image {
        let mut image = Image { contents: Vec::with_capacity(blocks as usize), seed, fresh: 0 };
        let mut chance = Chance::new(mix(seed ^ 0x1a6e));
        let mut unique = Vec::new();
        for _ in 0..blocks {
            let dice = chance.below(100);
            let content = if dice < ZERO_PERCENT {
                0
            } else if dice < ZERO_PERCENT + COPY_PERCENT && !unique.is_empty() {
                unique[chance.below(unique.len() as u64) as usize]
            } else {
                let content = image.fresh();
                unique.push(content);
                content
            };
            image.contents.push(content);
        }
        image
    }

    /// Content numbers by block.
    pub fn contents(&self) -> &[u64] {
        &self.contents
    }

    /// Number of blocks.
    pub fn blocks(&self) -> u64 {
        self.contents.len() as u64
    }

    /// Applies the outage delta of this round and tells what it did.
    pub fn change(&mut self, round: u64) -> (Delta, Change) {
        let before = self.contents.clone();
        let blocks = self.blocks();
        let mut chance = Chance::new(mix(self.seed ^ mix(round + 1)));
        let mut runs = Vec::new();
        let mut rewritten = HashSet::new();
        while (rewritten.len() as u64) < blocks * REWRITTEN_PERCENT / 100 {
            let block = chance.below(blocks);
            if rewritten.insert(block) {
                let content = self.fresh();
                runs.push((block, vec![content]));
                self.contents[block as usize] = content;
            }
        }
        let part = blocks / PARTS;
        let mut places: Vec<u64> = (0..PARTS).collect();
        let mut place = || places.swap_remove(chance.below(places.len() as u64) as usize) * part;
        let (from, to, trimmed) = (place(), place(), place());
        let moved: Vec<u64> = self.contents[from as usize..(from + part) as usize].to_vec();
        self.contents[to as usize..(to + part) as usize].copy_from_slice(&moved);
        runs.push((to, moved));
        self.contents[trimmed as usize..(trimmed + part) as usize].fill(0);
        runs.push((trimmed, vec![0; part as usize]));
        let change = self.compare(&before);
        (Delta { runs }, change)
    }

    fn compare(&self, before: &[u64]) -> Change {
        let known: HashSet<u64> = before.iter().copied().collect();
        let mut new = HashSet::new();
        let mut change = Change { blocks: 0, new_contents: 0, new_compressed_bytes: 0 };
        for (now, before) in self.contents.iter().zip(before) {
            if now != before {
                change.blocks += 1;
                if !known.contains(now) && new.insert(*now) {
                    change.new_contents += 1;
                    change.new_compressed_bytes += contents::compressed_bytes(*now);
                }
            }
        }
        change
    }

    fn fresh(&mut self) -> u64 {
        self.fresh += 1;
        mix(mix(self.seed) ^ self.fresh).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_image_and_its_delta_have_the_reference_shares() {
        let mut image = Image::reference(32_768, 1);
        let zero = image.contents().iter().filter(|content| **content == 0).count();
        let distinct: HashSet<&u64> = image.contents().iter().collect();
        assert!((6_200..6_900).contains(&zero), "{zero}");
        assert!((15_900..16_900).contains(&distinct.len()), "{}", distinct.len());
        let (_, change) = image.change(0);
        // 55,271 of 524,288 at full size.
        assert!((3_200..3_700).contains(&change.blocks), "{change:?}");
        assert!((1_400..1_640).contains(&change.new_contents), "{change:?}");
    }

    #[test]
    fn a_delta_leads_from_one_image_to_the_next() {
        let mut image = Image::reference(4096, 5);
        let mut replayed = image.contents().to_vec();
        let (delta, _) = image.change(3);
        for (first, contents) in delta.runs {
            replayed[first as usize..first as usize + contents.len()].copy_from_slice(&contents);
        }
        assert_eq!(replayed, image.contents());
    }
}
