//! The canonical tree: its shape and its nodes.
//!
//! A node's content is [`FANOUT`] child digests of 32 bytes, 4096 bytes in all; it is named by the digest of that content
//! in the domain of its level. Leaves (level 0) name blocks, a node of level `n` names nodes of level `n - 1`.
//!
//! - T1: canonical: the zero digest is a hole, a node of 128 holes does not exist, and the height is the least that
//!   covers the size. So the same content of the same size has the same root, whatever its history.
//! - T2: nothing that is not content is hashed: no addresses, no locations, no times.

use std::collections::BTreeMap;

use bytes::Bytes;
use metropod_dedupe::{Digest, Domain, digest_blocks, is_zero};

/// Children of a node.
pub const FANOUT: usize = 128;

/// Bytes of a node's content.
pub const NODE_BYTES: usize = FANOUT * DIGEST_BYTES;

/// The greatest height: six levels cover more than 40 bits of blocks.
pub const HEIGHT_MAX: u8 = 6;

const DIGEST_BYTES: usize = 32;
const FANOUT_BITS: u32 = FANOUT.trailing_zeros();

const _: () = assert!(FANOUT.is_power_of_two() && NODE_BYTES == 4096);
const _: () = assert!(FANOUT_BITS * HEIGHT_MAX as u32 >= 40);

/// The tree below a frozen point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Root {
    /// Name of the top node, which has level `height - 1`; never zero: an empty tree is no root.
    pub digest: Digest,
    /// Number of levels, `1..=HEIGHT_MAX`.
    pub height: u8,
}

/// The least number of levels that cover a volume.
pub fn height_of(size_blocks: u64) -> u8 {
    (1..HEIGHT_MAX).find(|height| size_blocks <= blocks_under(height - 1)).unwrap_or(HEIGHT_MAX)
}

/// Blocks below one node of a level.
pub(crate) fn blocks_under(level: u8) -> u64 {
    1 << (FANOUT_BITS * (u32::from(level) + 1))
}

/// Blocks below one child of a node of a level.
pub(crate) fn blocks_per_child(level: u8) -> u64 {
    1 << (FANOUT_BITS * u32::from(level))
}

/// The content of one node. Clones share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node(Bytes);

impl Node {
    /// Content as it came from a store; `None` if it does not have the length of a node.
    pub(crate) fn from_content(content: Bytes) -> Option<Node> {
        (content.len() == NODE_BYTES).then_some(Node(content))
    }

    pub(crate) fn child(&self, index: usize) -> Digest {
        let start = index * DIGEST_BYTES;
        Digest(self.0[start..start + DIGEST_BYTES].try_into().expect("32 bytes inside the content"))
    }

    pub(crate) fn content(&self) -> &Bytes {
        &self.0
    }

    /// Those that are no holes, with their places.
    pub(crate) fn children(&self) -> impl Iterator<Item = (usize, Digest)> + '_ {
        (0..FANOUT).map(|index| (index, self.child(index))).filter(|(_, child)| !child.is_zero())
    }
}

/// A node being changed.
#[derive(Debug)]
pub(crate) struct NodeDraft(Vec<u8>);

impl NodeDraft {
    /// All holes.
    pub(crate) fn empty() -> NodeDraft {
        NodeDraft(vec![0; NODE_BYTES])
    }

    pub(crate) fn child(&self, index: usize) -> Digest {
        let start = index * DIGEST_BYTES;
        Digest(self.0[start..start + DIGEST_BYTES].try_into().expect("32 bytes inside the content"))
    }

    pub(crate) fn set_child(&mut self, index: usize, child: Digest) {
        let start = index * DIGEST_BYTES;
        self.0[start..start + DIGEST_BYTES].copy_from_slice(&child.0);
    }

    /// Names the content: `None` where no such node exists because all is holes (T1).
    pub(crate) fn seal(self, level: u8) -> Option<(Digest, Node)> {
        NodeDraft::seal_all(vec![self], level).pop().flatten()
    }

    /// Names the contents of many nodes of one level, in order; they are hashed side by side.
    pub(crate) fn seal_all(drafts: Vec<NodeDraft>, level: u8) -> Vec<Option<(Digest, Node)>> {
        let blank: Vec<bool> = drafts.iter().map(|draft| is_zero(&draft.0)).collect();
        let contents =
            drafts.iter().zip(&blank).filter(|(_, blank)| !**blank).map(|(draft, _)| draft.content());
        let mut names = digest_blocks(Domain::Node { level }, &contents.collect::<Vec<_>>()).into_iter();
        let sealed = |(draft, blank): (NodeDraft, bool)| match blank {
            true => None,
            false => Some((names.next().expect("each content was hashed"), Node(Bytes::from(draft.0)))),
        };
        drafts.into_iter().zip(blank).map(sealed).collect()
    }

    fn content(&self) -> &[u8; NODE_BYTES] {
        self.0.first_chunk().expect("a draft has the length of a node")
    }
}

/// The nodes that bring a tree to a greater height: each has the one below as its first and only child. They are made
/// up when a volume has grown since its tree was folded, and are in no store until a fold keeps them.
#[derive(Debug, Default)]
pub(crate) struct Lifted(BTreeMap<(u8, Digest), Node>);

impl Lifted {
    /// The name of the top of the same tree at `height` levels; of the tree as it is if that is higher already.
    pub(crate) fn lift(&mut self, root: Option<Root>, height: u8) -> Digest {
        let Some(root) = root else { return Digest::ZERO };
        let mut top = root.digest;
        for level in root.height..height {
            let mut draft = NodeDraft::empty();
            draft.set_child(0, top);
            let Some((name, node)) = draft.seal(level) else { return Digest::ZERO };
            self.0.insert((level, name), node);
            top = name;
        }
        top
    }

    pub(crate) fn get(&self, level: u8, digest: Digest) -> Option<&Node> {
        self.0.get(&(level, digest))
    }

    /// Level, name and content of each, lowest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u8, Digest, &Node)> {
        self.0.iter().map(|((level, name), node)| (*level, *name, node))
    }
}

impl From<&Node> for NodeDraft {
    fn from(node: &Node) -> NodeDraft {
        NodeDraft(node.0.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_height_is_the_least_that_covers_the_size() {
        let kib = |count: u64| count / 4;
        assert_eq!(height_of(0), 1);
        assert_eq!(height_of(kib(512)), 1);
        assert_eq!(height_of(kib(512) + 1), 2);
        assert_eq!(height_of(kib(64 << 10)), 2);
        assert_eq!(height_of(kib(8 << 20)), 3);
        assert_eq!(height_of(kib(1 << 30)), 4);
        assert_eq!(height_of(kib(1 << 30) + 1), 5);
        assert_eq!(height_of(crate::BLOCKS_MAX), 6);
    }

    #[test]
    fn a_node_of_holes_does_not_exist_and_levels_name_the_same_bytes_differently() {
        assert!(NodeDraft::empty().seal(0).is_none());
        let named = |level| {
            let mut draft = NodeDraft::empty();
            draft.set_child(5, Digest([7; 32]));
            draft.seal(level).expect("not empty")
        };
        assert_eq!(named(0).1, named(1).1);
        assert_ne!(named(0).0, named(1).0);
    }
}
