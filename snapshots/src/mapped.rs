//! How many blocks of images hold data, counted for many images that share their trees.
//!
//! - P1: what lies under a node above the leaves, with no layer over it, is counted once.

use metropod_dedupe::Digest;
use rustc_hash::FxHashMap;

use crate::covers::Covers;
use crate::gather::{READS_IN_FLIGHT, breathe, gather};
use crate::image::Image;
use crate::nodes::{MapError, read_past_cache};
use crate::overlay;
use crate::slot::Slot;
use crate::store::NodeStore;
use crate::tree::{FANOUT, Node, blocks_per_child, blocks_under};

/// Extents counted in one turn.
const TURN_EXTENTS: usize = 16 * 1024;

/// Nodes read before their children are gone on with.
const NODES_AT_ONCE: usize = 64;

/// Counts of what was met.
#[derive(Debug)]
pub struct Mapped<S> {
    store: S,
    /// Blocks with data under a node.
    counted: FxHashMap<Digest, u64>,
}

/// A node where it is met.
#[derive(Debug, Clone, Copy)]
struct Place {
    level: u8,
    first: u64,
    digest: Digest,
}

impl<S: NodeStore> Mapped<S> {
    /// For images whose trees lie in `store`; nodes are read past the cache.
    pub fn new(store: S) -> Mapped<S> {
        Mapped { store, counted: FxHashMap::default() }
    }

    /// Blocks of `image` that hold data.
    pub async fn blocks(&mut self, image: &Image) -> Result<u64, MapError<S::Error>> {
        let mut blocks = 0;
        for (at, extent) in overlay::extents(image.layers(), 0..u64::MAX).enumerate() {
            blocks += u64::from(extent.slot != Slot::Zero);
            if at % TURN_EXTENTS == TURN_EXTENTS - 1 {
                breathe().await;
            }
        }
        let Some(root) = image.root() else { return Ok(blocks) };
        let covers = Covers::of(vec![image.layers().to_vec()]);
        let mut waiting = vec![Place { level: root.height - 1, first: 0, digest: root.digest }];
        while !waiting.is_empty() {
            let batch = waiting.split_off(waiting.len().saturating_sub(NODES_AT_ONCE));
            let (mut under, mut bare) = (Vec::new(), Vec::new());
            for place in batch {
                let window = place.first..place.first + blocks_under(place.level);
                if covers.may_hide(&window) { under.push(place) } else { bare.push(place) }
            }
            for (place, node) in under.iter().zip(self.read(&under).await?) {
                blocks += open(*place, &node, &covers, &mut waiting);
            }
            blocks += self.bare(&bare).await?;
            breathe().await;
        }
        Ok(blocks)
    }

    /// Blocks with data under nodes that nothing lies over. Nodes above leaves are gone through one by one.
    async fn bare(&mut self, places: &[Place]) -> Result<u64, MapError<S::Error>> {
        let mut blocks = 0;
        for place in places {
            // Nodes on the way down from the place; what their children are found to hold is added to all of them.
            let mut pending = vec![(*place, None)];
            let mut totals: Vec<(Digest, u64)> = Vec::new();
            while let Some((place, closes)) = pending.pop() {
                if closes.is_some() {
                    let (digest, total) = totals.pop().expect("every node that was opened is closed once");
                    self.counted.insert(digest, total);
                    add(&mut totals, &mut blocks, total);
                    continue;
                }
                if let Some(known) = self.counted.get(&place.digest) {
                    add(&mut totals, &mut blocks, *known);
                    continue;
                }
                let node = self.read(&[place]).await?.pop().expect("one for each");
                let children: Vec<Place> = children_of(place, &node).collect();
                match place.level {
                    0 => add(&mut totals, &mut blocks, children.len() as u64),
                    1 => {
                        let mut total = 0;
                        for batch in children.chunks(NODES_AT_ONCE) {
                            let leaves = self.read(batch).await?;
                            total += leaves.iter().map(|leaf| leaf.children().count() as u64).sum::<u64>();
                        }
                        self.counted.insert(place.digest, total);
                        add(&mut totals, &mut blocks, total);
                        breathe().await;
                    }
                    _ => {
                        totals.push((place.digest, 0));
                        pending.push((place, Some(())));
                        pending.extend(children.into_iter().map(|child| (child, None)));
                    }
                }
            }
        }
        Ok(blocks)
    }

    async fn read(&self, places: &[Place]) -> Result<Vec<Node>, MapError<S::Error>> {
        let read = |place: &Place| read_past_cache(&self.store, place.level, place.digest);
        let reads: Vec<_> = places.iter().map(read).collect();
        gather(reads, READS_IN_FLIGHT).await.into_iter().collect()
    }
}

/// To the innermost node that is open, or to the result.
fn add(totals: &mut [(Digest, u64)], blocks: &mut u64, more: u64) {
    *totals.last_mut().map_or(blocks, |(_, total)| total) += more;
}

/// What a node under layers holds in sight; its children wait.
fn open(place: Place, node: &Node, covers: &Covers, waiting: &mut Vec<Place>) -> u64 {
    if place.level > 0 {
        waiting.extend(children_of(place, node));
        return 0;
    }
    let hidden = covers.hidden(place.first);
    (0..FANOUT).filter(|index| hidden >> index & 1 == 0 && !node.child(*index).is_zero()).count() as u64
}

fn children_of(place: Place, node: &Node) -> impl Iterator<Item = Place> + '_ {
    let span = blocks_per_child(place.level);
    node.children().map(move |(index, digest)| Place {
        level: place.level.saturating_sub(1),
        first: place.first + index as u64 * span,
        digest,
    })
}
