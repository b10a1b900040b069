//! Nodes of volume trees in memory, counted: a base that is mapped through and through without taking memory, and what
//! folds put over it.
//!
//! Every node of one level of the base has the same content, so four nodes stand for a volume of any size. What a fold
//! stages is kept as the children that differ from the base.
//!
//! - C1: a node comes back byte for byte as it was staged.
//! - C2: bytes are counted as the store would write them: a record's header, the present children, 16 byte steps.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use metropod_dedupe::{Digest, Domain, digest};
use metropod_snapshots::{FANOUT, HEIGHT_MAX, NODE_BYTES, NodeStore, Root, height_of};

use crate::chance::Chance;

/// Bytes of a record's header (docs/format-store.md).
const RECORD_HEADER_BYTES: u64 = 48;
const RECORD_ALIGN_BYTES: u64 = 16;
const LEVELS: usize = HEIGHT_MAX as usize;

/// Children by their place in the node.
type Children = Box<[(u8, Digest)]>;

/// No such node.
#[derive(Debug, thiserror::Error)]
#[error("not in the store")]
pub struct Missing;

/// What was asked of the store, by level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Nodes read.
    pub reads: [u64; LEVELS],
    /// Nodes staged.
    pub nodes: [u64; LEVELS],
    /// Bytes they take on the disk.
    pub bytes: [u64; LEVELS],
}

#[derive(Default)]
struct Inner {
    /// Content of every node of a level of the base; empty where nothing is mapped.
    base: Vec<Vec<u8>>,
    /// The children that differ from the base.
    nodes: HashMap<(u8, Digest), Children>,
    counts: Counts,
}

/// The store; clones share it.
#[derive(Clone, Default)]
pub struct CountedNodes(Arc<Mutex<Inner>>);

impl CountedNodes {
    /// A store, and in it the tree of a volume of `blocks` blocks: each of them mapped, or none.
    pub fn new(blocks: u64, mapped: bool) -> (CountedNodes, Option<Root>) {
        let store = CountedNodes::default();
        if !mapped {
            return (store, None);
        }
        let height = height_of(blocks);
        let mut chance = Chance::new(blocks);
        let mut content: Vec<u8> = (0..NODE_BYTES / 8).flat_map(|_| chance.bits().to_le_bytes()).collect();
        let mut name = Digest::ZERO;
        for level in 0..height {
            if level > 0 {
                let below = 1u64 << (7 * u32::from(level));
                let children = blocks.div_ceil(below).min(FANOUT as u64) as usize;
                content = [name.0; FANOUT][..children].concat();
                content.resize(NODE_BYTES, 0);
            }
            name = digest(Domain::Node { level }, &content);
            let mut inner = store.lock();
            inner.nodes.insert((level, name), Box::default());
            inner.base.push(content.clone());
        }
        (store, Some(Root { digest: name, height }))
    }

    /// What was asked since the last call.
    pub fn take_counts(&self) -> Counts {
        std::mem::take(&mut self.lock().counts)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn base(&self, level: u8) -> &[u8] {
        self.base.get(usize::from(level)).map_or(&[0; NODE_BYTES], |base| base.as_slice())
    }
}

impl NodeStore for CountedNodes {
    type Error = Missing;

    fn stage_node(&self, level: u8, name: Digest, content: Bytes) {
        let mut inner = self.lock();
        let children = content.as_chunks::<32>().0.iter().zip(inner.base(level).as_chunks::<32>().0);
        let differing = children.enumerate().filter(|(_, (child, base))| child != base);
        let differing = differing.map(|(index, (child, _))| (index as u8, Digest(*child))).collect();
        let present = content.as_chunks::<32>().0.iter().filter(|child| **child != [0; 32]).count() as u64;
        let bytes = RECORD_HEADER_BYTES + 32 * present;
        inner.counts.nodes[usize::from(level)] += 1;
        inner.counts.bytes[usize::from(level)] += bytes.next_multiple_of(RECORD_ALIGN_BYTES);
        inner.nodes.insert((level, name), differing);
    }

    async fn node(&self, level: u8, name: Digest) -> Result<Bytes, Missing> {
        let mut inner = self.lock();
        inner.counts.reads[usize::from(level)] += 1;
        let differing = inner.nodes.get(&(level, name)).ok_or(Missing)?;
        let mut content = inner.base(level).to_vec();
        for (index, child) in differing {
            content[usize::from(*index) * 32..][..32].copy_from_slice(&child.0);
        }
        Ok(Bytes::from(content))
    }

    async fn relieve(&self) -> Result<(), Missing> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::park::block_on;

    #[test]
    fn nodes_come_back_as_they_were_staged_over_a_full_base_and_over_none() {
        for mapped in [true, false] {
            let (store, root) = CountedNodes::new(1 << 28, mapped);
            assert_eq!(root.map(|root| root.height), mapped.then_some(4));
            let mut content = match root {
                Some(root) => block_on(store.node(3, root.digest)).unwrap().to_vec(),
                None => vec![0; NODE_BYTES],
            };
            content[64..96].fill(9);
            let name = digest(Domain::Node { level: 3 }, &content);
            store.stage_node(3, name, Bytes::from(content.clone()));
            assert_eq!(block_on(store.node(3, name)).unwrap(), content);
            let counts = store.take_counts();
            assert_eq!(counts.nodes[3], 1);
            assert_eq!(counts.bytes[3], if mapped { 48 + 4096 } else { 80 });
        }
    }
}
