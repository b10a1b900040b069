//! Binary fuse filter with 8-bit fingerprints (Graf and Lemire, 2022): three bytes that xor to the key's fingerprint.
//!
//! All keys are needed at once to build it: a slot is given its value when it is the last one free for a key, so the keys are
//! peeled off first, alone ones before those they leave alone.

use super::{Filter, Key};

const SEEDS_MAX: u64 = 64;
const SEGMENT_MAX: u32 = 1 << 18;

/// No seed worked; with distinct keys this does not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unbuildable;

/// A filter that is never changed.
#[derive(Debug)]
pub struct Fuse {
    seed: u64,
    segment: u32,
    /// Slots in which a key's first byte may lie.
    spread: u32,
    fingerprints: Vec<u8>,
}

/// A slot while keys are peeled: how many keys use it, and their hashes' xor.
struct Slots {
    counts: Vec<u8>,
    hashes: Vec<u64>,
}

impl Fuse {
    /// A filter of these keys, which must be distinct.
    pub fn build(keys: &[Key]) -> Result<Fuse, Unbuildable> {
        let mut fuse = Fuse::sized(keys.len());
        for seed in 0..SEEDS_MAX {
            fuse.seed = crate::chance::mix(seed);
            if let Some(order) = fuse.peel(keys) {
                fuse.assign(&order);
                return Ok(fuse);
            }
        }
        Err(Unbuildable)
    }

    fn sized(keys: usize) -> Fuse {
        let size = (keys.max(2)) as f64;
        let exponent = (size.ln() / 3.33_f64.ln() + 2.25).floor() as u32;
        let segment = (1_u32 << exponent).min(SEGMENT_MAX);
        let factor = (0.875 + 0.25 * 1e6_f64.ln() / size.ln()).max(1.125);
        let segments = ((size * factor).round() as u32).div_ceil(segment).saturating_sub(2).max(1);
        Fuse {
            seed: 0,
            segment,
            spread: segments * segment,
            fingerprints: vec![0; ((segments + 2) * segment) as usize],
        }
    }

    fn hash(&self, key: &Key) -> u64 {
        // The word alone is uniform; with a seed it must be mixed again.
        crate::chance::mix(key[1] ^ self.seed)
    }

    fn slots(&self, hash: u64) -> [usize; 3] {
        let first = ((u128::from(hash) * u128::from(self.spread)) >> 64) as u32;
        let mask = self.segment - 1;
        let second = (first + self.segment) ^ ((hash >> 18) as u32 & mask);
        let third = (first + 2 * self.segment) ^ (hash as u32 & mask);
        [first as usize, second as usize, third as usize]
    }

    /// The keys' hashes in an order in which each has a slot that no later one uses, with that slot; `None`: a knot.
    fn peel(&self, keys: &[Key]) -> Option<Vec<(u64, u8)>> {
        let length = self.fingerprints.len();
        let mut slots = Slots { counts: vec![0; length], hashes: vec![0; length] };
        for key in keys {
            let hash = self.hash(key);
            for (which, slot) in self.slots(hash).into_iter().enumerate() {
                // Two low bits gather which of its three slots this is for the key that is left alone.
                slots.counts[slot] = slots.counts[slot].checked_add(4)? ^ which as u8;
                slots.hashes[slot] ^= hash;
            }
        }
        let mut alone: Vec<u32> =
            (0..length as u32).filter(|slot| slots.counts[*slot as usize] >> 2 == 1).collect();
        let mut order = Vec::with_capacity(keys.len());
        while let Some(slot) = alone.pop() {
            let slot = slot as usize;
            if slots.counts[slot] >> 2 != 1 {
                continue;
            }
            let hash = slots.hashes[slot];
            order.push((hash, slots.counts[slot] & 3));
            for (which, slot) in self.slots(hash).into_iter().enumerate() {
                slots.counts[slot] = (slots.counts[slot] - 4) ^ which as u8;
                slots.hashes[slot] ^= hash;
                if slots.counts[slot] >> 2 == 1 {
                    alone.push(slot as u32);
                }
            }
        }
        (order.len() == keys.len()).then_some(order)
    }

    fn assign(&mut self, order: &[(u64, u8)]) {
        for (hash, own) in order.iter().rev() {
            let slots = self.slots(*hash);
            let own = slots[usize::from(*own)];
            let others = slots.iter().filter(|slot| **slot != own);
            let others = others.fold(0, |xor, slot| xor ^ self.fingerprints[*slot]);
            self.fingerprints[own] = fingerprint(*hash) ^ others;
        }
    }
}

impl Filter for Fuse {
    fn may_contain(&self, key: &Key) -> bool {
        let hash = self.hash(key);
        let [first, second, third] = self.slots(hash);
        let stored = self.fingerprints[first] ^ self.fingerprints[second] ^ self.fingerprints[third];
        stored == fingerprint(hash)
    }

    fn memory_bytes(&self) -> u64 {
        self.fingerprints.capacity() as u64
    }
}

fn fingerprint(hash: u64) -> u8 {
    (hash ^ (hash >> 32)) as u8
}
