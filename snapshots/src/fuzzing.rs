//! Doors for fuzzing: everything here that reads bytes from media or a peer, with what must hold of any bytes.
//!
//! Built for fuzz/ and for the replay of its kept inputs in this crate's tests; in no other build. What a target is:
//! fuzzing.rs of the journal.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use metropod_dedupe::Digest;

use crate::tree::{FANOUT, HEIGHT_MAX, NODE_BYTES, Root};
use crate::{Extent, Image, Layer, LayerId, NodeStore, Nodes, Slot, diff, fold, overlay, read_slots};

/// Name, heap that it may take in bytes, and what runs an input.
pub type Target = (&'static str, usize, fn(&[u8]));

/// Every target of this crate.
pub const TARGETS: &[Target] = &[("snapshots.run", 1 << 20, run), ("snapshots.tree", 32 << 20, tree)];

fn run(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else { return };
    let mut bytes = rest.to_vec();
    if how & 1 == 1 {
        repair(&mut bytes);
    }
    let Ok(layer) = Layer::decode(&bytes) else { return };
    assert_eq!(layer.encode(), bytes);
    let extents: Vec<Extent> = layer.extents().collect();
    assert!(extents.windows(2).all(|pair| pair[0].blocks.end <= pair[1].blocks.start), "L1");
    let merged = overlay::merge(&[Arc::new(layer)], LayerId(2));
    assert!(merged.extents().eq(extents), "merged with nothing it says the same");
}

fn repair(bytes: &mut [u8]) {
    if let Some(at) = bytes.len().checked_sub(4) {
        let check = crc32c::crc32c(&bytes[..at]);
        bytes[at..].copy_from_slice(&check.to_le_bytes());
    }
}

/// Blocks of the volumes in `tree`; deeper trees are only read in part.
const SIZE_BLOCKS: u64 = 512;

/// Most turns that a flow leaves to others.
const POLLS_MAX: usize = 1 << 20;

/// Nodes as no fold made them, under a layer, read, folded and compared.
///
/// Input: height, first block, two tops, then nodes: (name, child, name of the child, level).
fn tree(input: &[u8]) {
    let Some(([height, first, one, two], nodes)) = input.split_first_chunk::<4>() else { return };
    let nodes = Nodes::with_capacity(Made(nodes.into()), 8);
    let height = 1 + height % HEIGHT_MAX;
    let deep = height > 2;
    let size_bytes = if deep { crate::SIZE_BYTES_MAX } else { SIZE_BLOCKS * crate::BLOCK_BYTES };
    let root = |name: u8| Some(Root { digest: made_name(name), height }).filter(|_| name != 0);
    let mut table = crate::Table::new();
    table.set(u64::from(*first), Slot::Data(made_name(9)));
    table.zero(u64::from(*first) + 3..u64::from(*first) + 200);
    let layer = Arc::new(Layer::freeze(LayerId(1), table));
    let image = |name, layers| Image::new(size_bytes, root(name), layers).expect("the height is one");
    let (one, two) = (image(*one, vec![layer]), image(*two, Vec::new()));
    let start = u64::from(*first) << 32 & (one.size_blocks() - 1);
    let _ = now(read_slots(&one, &nodes, start..start + 300));
    if deep {
        return;
    }
    let before = now(read_slots(&one, &nodes, 0..SIZE_BLOCKS));
    let _ = now(diff(Some(&two), &one, &nodes));
    if let Ok(folded) = now(fold(&one, &nodes)) {
        let after = now(read_slots(&folded, &nodes, 0..SIZE_BLOCKS));
        if let (Ok(before), Ok(after)) = (before, after) {
            assert_eq!(before, after, "a fold reads the same");
        }
    }
}

fn made_name(name: u8) -> Digest {
    let mut digest = Digest::ZERO;
    digest.0[0] = name;
    digest
}

/// Nodes by the first byte of their names; folded ones are kept beside them.
#[derive(Clone)]
struct Made(Arc<[u8]>);

#[derive(Debug, thiserror::Error)]
#[error("no such node")]
struct NoNode;

impl NodeStore for Made {
    type Error = NoNode;

    fn stage_node(&self, _: u8, _: Digest, _: Bytes) {}

    async fn node(&self, level: u8, digest: Digest) -> Result<Bytes, NoNode> {
        let mut content = vec![0; NODE_BYTES];
        if made_name(digest.0[0]) != digest {
            return Err(NoNode);
        }
        for [name, child, child_name, at] in self.0.as_chunks::<4>().0 {
            if *name == digest.0[0] && at & 7 == level {
                let place = usize::from(*child) % FANOUT * 32;
                // Another of the name may have cut it short.
                content.resize(content.len().max(place + 33), 0);
                content[place] = *child_name;
                content.truncate(if at & 0x80 == 0 { NODE_BYTES } else { usize::from(*child) });
                content.resize(content.len().max(place + 33), 0);
            }
        }
        Ok(content.into())
    }

    async fn relieve(&self) -> Result<(), NoNode> {
        Ok(())
    }
}

fn now<F: Future>(flow: F) -> F::Output {
    let mut flow = pin!(flow);
    for _ in 0..POLLS_MAX {
        if let Poll::Ready(output) = flow.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
    }
    panic!("the nodes are there at once, others have had their turns")
}

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    #[test]
    fn kept_inputs_of_the_fuzzer_are_taken_or_refused() {
        super::replay::all(super::TARGETS);
    }
}
