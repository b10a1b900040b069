//! Reading a range of a volume: table, layers, then the tree, each node once.

use std::ops::Range;

use crate::lookup::{Lookup, Source};
use crate::nodes::{MapError, Nodes};
use crate::slot::Slot;
use crate::store::NodeStore;
use crate::tree::{FANOUT, blocks_per_child, blocks_under};
use metropod_dedupe::Digest;

/// What `source` holds in `blocks`, one slot per block. Blocks beyond the size are zero.
///
/// For a live map, take [`Source::lookup`] and [`resolve`] instead where the map must not stay borrowed.
pub async fn read_slots<S: NodeStore>(
    source: &(impl Source + Sync),
    nodes: &Nodes<S>,
    blocks: Range<u64>,
) -> Result<Vec<Slot>, MapError<S::Error>> {
    resolve(source.lookup(blocks), nodes).await
}

/// Answers the holes of a lookup from the tree: level by level, the nodes of a level side by side.
pub async fn resolve<S: NodeStore>(
    lookup: Lookup,
    nodes: &Nodes<S>,
) -> Result<Vec<Slot>, MapError<S::Error>> {
    let mut lookup = match lookup.into_slots() {
        Ok(slots) => return Ok(slots),
        Err(lookup) => lookup,
    };
    if let Some(root) = lookup.root() {
        let mut frontier = vec![(0, root.digest)];
        for level in (0..root.height).rev() {
            frontier = descend(&mut lookup, nodes, level, &frontier).await?;
        }
    }
    Ok(lookup.slots().iter().map(|slot| slot.unwrap_or(Slot::Zero)).collect())
}

/// As [`resolve`], if every node that it needs is in the cache.
pub fn resolve_now<S: NodeStore>(lookup: &Lookup, nodes: &Nodes<S>) -> Option<Vec<Slot>> {
    let answer = |(block, slot): (u64, &Option<Slot>)| match (slot, lookup.root()) {
        (Some(slot), _) => Some(*slot),
        (None, None) => Some(Slot::Zero),
        (None, Some(root)) => {
            let mut name = root.digest;
            for level in (0..root.height).rev() {
                if name == Digest::ZERO {
                    break;
                }
                let index = block % blocks_under(level) / blocks_per_child(level);
                name = nodes.get_cached(level, name)?.child(index as usize);
            }
            Some(Slot::from_digest(name))
        }
    };
    lookup.blocks().zip(lookup.slots()).map(answer).collect()
}

/// From (first block, name) of nodes of `level` to those of their children that have holes above them; at level 0
/// the children are the answers. A hole of the tree has no child: what stays unknown at the end is zero.
async fn descend<S: NodeStore>(
    lookup: &mut Lookup,
    nodes: &Nodes<S>,
    level: u8,
    frontier: &[(u64, Digest)],
) -> Result<Vec<(u64, Digest)>, MapError<S::Error>> {
    let names: Vec<Digest> = frontier.iter().map(|(_, name)| *name).collect();
    let contents = nodes.get_all(level, &names).await?;
    let asked = lookup.blocks();
    let width = blocks_per_child(level);
    let mut below = Vec::new();
    for ((base, _), node) in frontier.iter().zip(contents) {
        let overlap = asked.start.max(*base)..asked.end.min(base + blocks_under(level));
        let first = ((overlap.start - base) / width) as usize;
        let last = ((overlap.end - base).div_ceil(width) as usize).min(FANOUT);
        for index in first..last {
            let child = node.child(index);
            let start = base + index as u64 * width;
            if child == Digest::ZERO {
                continue;
            }
            if level == 0 {
                lookup.answer(start, Slot::Data(child));
            } else if lookup.has_hole_in(&(start..start + width)) {
                below.push((start, child));
            }
        }
    }
    Ok(below)
}
