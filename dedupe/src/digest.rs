//! Names of content: keyed BLAKE3 in separate domains.
//!
//! A digest is taken over the raw content, never over a stored form, so it does not depend on compression.
//!
//! - N1: the same bytes have different digests in different domains. A host may write a block that equals the bytes
//!   of a tree node; it must never be taken for that node.
//! - N2: the keys are public and fixed, so that arrays installed independently name content alike. Changing a
//!   context string is a change of format.
//! - N3: [`Digest::ZERO`] is no digest of anything; it stands for a zero block or a hole.

use std::fmt;
use std::sync::OnceLock;

use crate::reduce::BLOCK_BYTES;
use crate::side_by_side::keyed_hashes;

/// Context of the key for data blocks (format).
const CONTEXT_DATA: &str = "metropod 2026-08 chunk digest: data block";
/// Context of the key for tree nodes; the key of a level is derived from this one and the level (format).
const CONTEXT_NODE: &str = "metropod 2026-08 chunk digest: tree node";
/// Context of the key for volume digests (format).
const CONTEXT_VOLUME: &str = "metropod 2026-08 chunk digest: volume";
/// Context of the key for pod digests (format).
const CONTEXT_POD: &str = "metropod 2026-08 chunk digest: pod";

/// Node levels that have a key of their own; a tree over 2⁴⁰ blocks has six.
pub const NODE_LEVELS: usize = 16;

/// Length of a digest, in bytes (format).
pub const DIGEST_BYTES: usize = 32;

/// The name of a piece of content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest(pub [u8; DIGEST_BYTES]);

impl Digest {
    /// A zero block or a hole: implicit content, never stored.
    pub const ZERO: Digest = Digest([0; DIGEST_BYTES]);

    /// Whether this stands for a zero block or a hole.
    pub fn is_zero(&self) -> bool {
        *self == Digest::ZERO
    }

    /// The first eight bytes as a number that sorts like the digest.
    pub fn prefix(&self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(first)
    }

    /// Word `index` (of four) of the digest, for hashing.
    pub(crate) fn word(&self, index: usize) -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&self.0[index * 8..index * 8 + 8]);
        u64::from_le_bytes(word)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(6).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("…")
    }
}

/// What kind of content a digest names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Domain {
    /// A block of a volume.
    Data,
    /// A tree node; leaves are level 0. Less than [`NODE_LEVELS`].
    Node {
        /// Height above the leaves.
        level: u8,
    },
    /// A volume as a whole.
    Volume,
    /// A pod as a whole.
    Pod,
}

struct Keys {
    data: [u8; 32],
    nodes: [[u8; 32]; NODE_LEVELS],
    volume: [u8; 32],
    pod: [u8; 32],
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let mut nodes = [[0; 32]; NODE_LEVELS];
        for (level, key) in nodes.iter_mut().enumerate() {
            *key = blake3::derive_key(CONTEXT_NODE, &[level as u8]);
        }
        Keys {
            data: blake3::derive_key(CONTEXT_DATA, &[]),
            nodes,
            volume: blake3::derive_key(CONTEXT_VOLUME, &[]),
            pod: blake3::derive_key(CONTEXT_POD, &[]),
        }
    })
}

/// The digest of `content` in `domain`; never [`Digest::ZERO`] in practice.
///
/// A node level of [`NODE_LEVELS`] or more is a bug of the caller.
pub fn digest(domain: Domain, content: &[u8]) -> Digest {
    Digest(*blake3::keyed_hash(key_of(domain), content).as_bytes())
}

/// The digest of each block in `domain`, as [`digest`] gives it; faster for five blocks or more.
pub fn digest_blocks(domain: Domain, blocks: &[&[u8; BLOCK_BYTES]]) -> Vec<Digest> {
    keyed_hashes(key_of(domain), blocks).into_iter().map(Digest).collect()
}

fn key_of(domain: Domain) -> &'static [u8; 32] {
    let keys = keys();
    match domain {
        Domain::Data => &keys.data,
        Domain::Node { level } => {
            assert!(usize::from(level) < NODE_LEVELS, "a tree has less than {NODE_LEVELS} levels");
            &keys.nodes[usize::from(level)]
        }
        Domain::Volume => &keys.volume,
        Domain::Pod => &keys.pod,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected values are the format: a change here orphans every stored chunk.
    #[test]
    fn digests_of_each_domain_are_frozen() {
        let block = [0x5a; 4096];
        let golden = [
            (Domain::Data, "34950b8e579c61913431909a39fd397955777e01b2b8efd097f0d687137cb11b"),
            (Domain::Node { level: 0 }, "afeca60df25a37d3f69389e8850c568c7286fd3f30bb93d509997561dd763d37"),
            (Domain::Node { level: 5 }, "876861aaea996995a154615a0af99c81640f1f391d4d3fdbccf9d42a90c320a3"),
            (Domain::Volume, "769a7d257049ea5d19e61b8c67b0b74b72ecff52a02f689ae4af80e4ad118bda"),
            (Domain::Pod, "318f2adc82b028bf6370d6536e8ccaa472dfe112653796e7f402c1ffca4de82b"),
        ];
        for (domain, expected) in golden {
            assert_eq!(digest(domain, &block).to_string(), expected, "{domain:?}");
            for name in digest_blocks(domain, &[&block; 40]) {
                assert_eq!(name.to_string(), expected, "{domain:?}, side by side");
            }
        }
    }

    #[test]
    fn the_same_bytes_have_different_names_in_different_domains() {
        let mut seen = std::collections::BTreeSet::new();
        let levels = (0..NODE_LEVELS as u8).map(|level| Domain::Node { level });
        for domain in [Domain::Data, Domain::Volume, Domain::Pod].into_iter().chain(levels) {
            assert!(seen.insert(digest(domain, b"the same bytes")), "{domain:?} shares a name");
        }
    }

    #[test]
    fn the_prefix_sorts_like_the_digest() {
        let mut digests: Vec<Digest> = (0..100u32).map(|n| digest(Domain::Data, &n.to_le_bytes())).collect();
        digests.sort();
        assert!(digests.windows(2).all(|pair| pair[0].prefix() <= pair[1].prefix()));
    }
}
