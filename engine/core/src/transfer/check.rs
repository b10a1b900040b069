//! The running digest over everything a round says, computed at both ends.
//!
//! It covers the round's `Begin` and every (point, blocks, digest) in order, not how they were cut into messages.

use metropod_snapshots::{Extent, Slot};

/// Context of the key (format).
const CONTEXT: &str = "metropod transfer round check v1";

/// See the module's text.
pub(super) struct Check {
    hasher: blake3::Hasher,
}

impl Check {
    /// A check bound to the encoded `Begin`.
    pub(super) fn new(begin: &[u8]) -> Check {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(&(begin.len() as u64).to_le_bytes());
        hasher.update(begin);
        Check { hasher }
    }

    /// Adds entries of a point, in order.
    pub(super) fn add(&mut self, point: u32, entries: &[Extent]) {
        let mut row = [0; 52];
        for entry in entries {
            row[..4].copy_from_slice(&point.to_le_bytes());
            row[4..12].copy_from_slice(&entry.blocks.start.to_le_bytes());
            row[12..20].copy_from_slice(&entry.blocks.end.to_le_bytes());
            row[20..].copy_from_slice(&digest_of(entry.slot));
            self.hasher.update(&row);
        }
    }

    /// The value so far.
    pub(super) fn value(&self) -> [u8; 32] {
        *self.hasher.finalize().as_bytes()
    }
}

fn digest_of(slot: Slot) -> [u8; 32] {
    match slot {
        Slot::Zero => [0; 32],
        Slot::Data(digest) => digest.0,
    }
}
