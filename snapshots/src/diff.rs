//! What one frozen point has and another has not.
//!
//! Walks both trees and both stacks of layers together, in address order, and gives what differs in batches, so that a
//! difference of any size is found in bounded memory. Where the two stand on the same tree only the layers that are
//! not common are looked at, and the tree is read only where the older one changed something the newer one did not.
//!
//! - D1: every block inside `to` whose slot differs is given, with what it holds in `to`. Blocks of `from` beyond
//!   the end of `to` are not: the receiver takes on the size first, and that drops them.
//! - D2: blocks may be given that are equal: rewritten with the same content in a layer that is not common, or inside a
//!   range zeroed as a whole. Applying the difference is idempotent, so that is only waste.
//! - D3: extents are in order and disjoint; zero ranges that touch are one.
//! - D4: memory: one group of 128 leaves (16,384 blocks) beyond what a batch asks for.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use metropod_dedupe::Digest;

use crate::gather::breathe;
use crate::image::{Image, common_layers};
use crate::layer::{Cover, Layer};
use crate::nodes::{MapError, Nodes};
use crate::overlay;
use crate::slot::{Extent, Slot};
use crate::store::NodeStore;
use crate::tree::{FANOUT, Lifted, Node, blocks_per_child, blocks_under, height_of};

/// The whole difference at once; see [`DiffCursor`] for one that may be large. `from = None`: everything mapped.
pub async fn diff<S: NodeStore>(
    from: Option<&Image>,
    to: &Image,
    nodes: &Nodes<S>,
) -> Result<Vec<Extent>, MapError<S::Error>> {
    let mut cursor = DiffCursor::new(from, to, nodes);
    let mut all = Vec::new();
    loop {
        let batch = cursor.next_batch(usize::MAX).await?;
        if batch.is_empty() {
            return Ok(all);
        }
        all.extend(batch);
    }
}

/// How many blocks of `image` hold data. Not cheap: reads every leaf.
pub async fn mapped_blocks<S: NodeStore>(image: &Image, nodes: &Nodes<S>) -> Result<u64, MapError<S::Error>> {
    let mut cursor = DiffCursor::new(None, image, nodes);
    let mut mapped = 0;
    loop {
        let batch = cursor.next_batch(GROUP_EXTENTS).await?;
        if batch.is_empty() {
            return Ok(mapped);
        }
        mapped += batch.iter().filter(|extent| extent.slot != Slot::Zero).count() as u64;
    }
}

/// A difference being walked. It owns what it walks over; the volume may go on changing.
#[derive(Debug)]
pub struct DiffCursor<S> {
    nodes: Nodes<S>,
    from: Stack,
    to: Stack,
    /// Blocks of `to`; nothing beyond is given.
    size_blocks: u64,
    /// What is still to be walked, the next on top.
    pending: Vec<Frame>,
    /// Found and not yet given; the last may still grow.
    found: VecDeque<Extent>,
    /// Nodes made to bring both trees to one height; they are in no store.
    lifted: Lifted,
}

/// Layers of one side.
#[derive(Debug)]
struct Stack {
    layers: Vec<Arc<Layer>>,
    /// How many of them, from the oldest on, are common and stand on a common tree.
    common: usize,
}

impl Stack {
    fn own(&self) -> &[Arc<Layer>] {
        &self.layers[self.common..]
    }
}

#[derive(Debug, Clone)]
enum Frame {
    /// The trees are the same and so is what is below the layers of `to`'s own: those layers are the difference.
    Layers(Range<u64>),
    /// Two subtrees at the same place, under all the layers.
    Trees { level: u8, base: u64, from: From, to: Digest },
}

/// The older side of a pair of subtrees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    /// A subtree with the layers above it.
    Tree(Digest),
    /// Nothing but zeroes, layers included.
    Zeroes,
}

impl<S: NodeStore> DiffCursor<S> {
    /// The difference from `from` (`None`: a volume of zeroes) to `to`.
    pub fn new(from: Option<&Image>, to: &Image, nodes: &Nodes<S>) -> DiffCursor<S> {
        let from_root = from.and_then(Image::root);
        let from_layers = from.map_or(Vec::new(), |from| from.layers().to_vec());
        let common = if from_root == to.root() { common_layers(&from_layers, to.layers()) } else { 0 };
        let height = [from_root, to.root()].iter().flatten().map(|root| root.height).max();
        let height = height.unwrap_or(1).max(height_of(to.size_blocks()));
        let mut lifted = Lifted::default();
        let from_top = match from {
            Some(_) => From::Tree(lifted.lift(from_root, height)),
            None => From::Zeroes,
        };
        let to_top = lifted.lift(to.root(), height);
        DiffCursor {
            nodes: nodes.clone(),
            from: Stack { layers: from_layers, common },
            to: Stack { layers: to.layers().to_vec(), common },
            size_blocks: to.size_blocks(),
            pending: vec![Frame::Trees { level: height - 1, base: 0, from: from_top, to: to_top }],
            found: VecDeque::new(),
            lifted,
        }
    }

    /// The next extents, at most `extents_max` (at least one); none when the difference is exhausted.
    /// After an error the same batch can be asked for again.
    pub async fn next_batch(&mut self, extents_max: usize) -> Result<Vec<Extent>, MapError<S::Error>> {
        // One more than asked for, so that the last one given can no longer grow: zeroes that touch are joined.
        while self.found.len() <= extents_max.max(1) {
            let Some(frame) = self.pending.last().cloned() else { break };
            match frame {
                Frame::Layers(blocks) => self.step_layers(blocks),
                Frame::Trees { level, base, from, to } => self.step_trees(level, base, from, to).await?,
            }
        }
        let ready = self.found.len().min(extents_max.max(1));
        Ok(self.found.drain(..ready).collect())
    }

    /// Takes the next group's worth of extents of `to`'s own layers.
    fn step_layers(&mut self, blocks: Range<u64>) {
        self.pending.pop();
        let mut extents = overlay::extents(self.to.own(), blocks.clone());
        let group: Vec<Extent> = extents.by_ref().take(GROUP_EXTENTS).collect();
        if group.len() == GROUP_EXTENTS
            && let Some(last) = group.last()
        {
            self.pending.push(Frame::Layers(last.blocks.end..blocks.end));
        }
        for extent in group {
            self.give(extent);
        }
    }

    /// Settles a pair of subtrees or replaces it by its children. The frame is popped only after what can fail.
    async fn step_trees(
        &mut self,
        level: u8,
        base: u64,
        from: From,
        to: Digest,
    ) -> Result<(), MapError<S::Error>> {
        let blocks = base..base + blocks_under(level);
        let from = match self.settle(&blocks, from, to) {
            Verdict::Settled(extents) => {
                self.pending.pop();
                extents.into_iter().for_each(|extent| self.give(extent));
                return Ok(());
            }
            Verdict::LayersOnly => {
                self.pending.pop();
                self.pending.push(Frame::Layers(blocks));
                return Ok(());
            }
            Verdict::Descend(from) => from,
        };
        if level == 0 {
            let group = self.read_leaves(&[(from, to)]).await?;
            self.pending.pop();
            self.give_leaf(base, from, to, &group);
            return Ok(());
        }
        let children = self.children(level, base, from, to).await?;
        if level == 1 {
            // A whole group at once: its leaves are read side by side.
            let verdicts: Vec<(u64, Digest, Verdict)> = children
                .into_iter()
                .map(|(base, from, to)| (base, to, self.settle(&(base..base + FANOUT as u64), from, to)))
                .collect();
            let wanted: Vec<(From, Digest)> = verdicts
                .iter()
                .filter_map(|(_, to, verdict)| match verdict {
                    Verdict::Descend(from) => Some((*from, *to)),
                    _ => None,
                })
                .collect();
            let group = self.read_leaves(&wanted).await?;
            breathe().await;
            self.pending.pop();
            for (base, to, verdict) in verdicts {
                match verdict {
                    Verdict::Settled(extents) => extents.into_iter().for_each(|extent| self.give(extent)),
                    Verdict::LayersOnly => self.give_layers(base..base + FANOUT as u64),
                    Verdict::Descend(from) => self.give_leaf(base, from, to, &group),
                }
            }
        } else {
            self.pending.pop();
            for (base, from, to) in children.into_iter().rev() {
                self.pending.push(Frame::Trees { level: level - 1, base, from, to });
            }
        }
        Ok(())
    }

    /// What can be said about a pair of subtrees without reading them.
    fn settle(&self, blocks: &Range<u64>, from: From, to: Digest) -> Verdict {
        if blocks.start >= self.size_blocks {
            return Verdict::Settled(None);
        }
        let own_from_untouched = overlay::cover(self.from.own(), blocks) == Cover::Nothing;
        if from == From::Tree(to) && own_from_untouched {
            return match overlay::cover(self.to.own(), blocks) {
                Cover::Nothing => Verdict::Settled(None),
                _ => Verdict::LayersOnly,
            };
        }
        let from = match from {
            From::Tree(from) if is_zero(&self.from.layers, blocks, from) => From::Zeroes,
            from => from,
        };
        if is_zero(&self.to.layers, blocks, to) {
            return Verdict::Settled((from != From::Zeroes).then(|| Extent::zero(blocks.clone())));
        }
        Verdict::Descend(from)
    }

    /// The pairs of children that may differ.
    async fn children(
        &self,
        level: u8,
        base: u64,
        from: From,
        to: Digest,
    ) -> Result<Vec<(u64, From, Digest)>, MapError<S::Error>> {
        let from_node = match from {
            From::Tree(from) => self.node(level, from).await?,
            From::Zeroes => None,
        };
        let to_node = self.node(level, to).await?;
        let width = blocks_per_child(level);
        let child = |node: &Option<Node>, index| node.as_ref().map_or(Digest::ZERO, |node| node.child(index));
        Ok((0..FANOUT)
            .map(|index| {
                let from = match from {
                    From::Tree(_) => From::Tree(child(&from_node, index)),
                    From::Zeroes => From::Zeroes,
                };
                (base + index as u64 * width, from, child(&to_node, index))
            })
            .filter(|(base, from, to)| {
                !matches!(self.settle(&(*base..base + width), *from, *to), Verdict::Settled(None))
            })
            .collect())
    }

    async fn node(&self, level: u8, digest: Digest) -> Result<Option<Node>, MapError<S::Error>> {
        if digest == Digest::ZERO {
            return Ok(None);
        }
        if let Some(node) = self.lifted.get(level, digest) {
            return Ok(Some(node.clone()));
        }
        self.nodes.get(level, digest).await.map(Some)
    }

    /// All leaves that pairs name, read side by side. (Lifted nodes are no leaves.)
    async fn read_leaves(
        &self,
        pairs: &[(From, Digest)],
    ) -> Result<BTreeMap<Digest, Node>, MapError<S::Error>> {
        let mut wanted = Vec::new();
        for (from, to) in pairs {
            let from = match from {
                From::Tree(from) => *from,
                From::Zeroes => Digest::ZERO,
            };
            wanted.extend([from, *to].into_iter().filter(|digest| *digest != Digest::ZERO));
        }
        wanted.sort_unstable();
        wanted.dedup();
        let contents = self.nodes.get_all(0, &wanted).await?;
        Ok(wanted.into_iter().zip(contents).collect())
    }

    /// Compares the 128 blocks of a pair of leaves.
    fn give_leaf(&mut self, base: u64, from: From, to: Digest, leaves: &BTreeMap<Digest, Node>) {
        let from_slots = match from {
            From::Tree(from) => leaf_slots(&self.from.layers, base, leaves.get(&from)),
            From::Zeroes => [Slot::Zero; FANOUT],
        };
        let to_slots = leaf_slots(&self.to.layers, base, leaves.get(&to));
        for (index, (from, to)) in from_slots.into_iter().zip(to_slots).enumerate() {
            if from != to {
                let block = base + index as u64;
                self.give(Extent { blocks: block..block + 1, slot: to });
            }
        }
    }

    fn give_layers(&mut self, blocks: Range<u64>) {
        let extents: Vec<Extent> = overlay::extents(self.to.own(), blocks).collect();
        extents.into_iter().for_each(|extent| self.give(extent));
    }

    /// Adds to what was found: clipped to the size, zeroes joined (D3).
    fn give(&mut self, extent: Extent) {
        let Some(extent) = extent.clipped(&(0..self.size_blocks)) else { return };
        if extent.slot == Slot::Zero
            && let Some(last) = self.found.back_mut()
            && last.slot == Slot::Zero
            && last.blocks.end == extent.blocks.start
        {
            last.blocks.end = extent.blocks.end;
            return;
        }
        self.found.push_back(extent);
    }
}

/// Extents taken from layers in one step.
const GROUP_EXTENTS: usize = FANOUT * FANOUT;

/// What is known of a pair of subtrees without reading them.
enum Verdict {
    /// This is the difference; `None`: there is none.
    Settled(Option<Extent>),
    /// Whatever the newer side's own layers say here.
    LayersOnly,
    /// Look below; the older side may have turned out to be zeroes.
    Descend(From),
}

/// Whether `blocks` are all zero for certain: below the layers lies `tree`.
fn is_zero(layers: &[Arc<Layer>], blocks: &Range<u64>, tree: Digest) -> bool {
    match overlay::cover(layers, blocks) {
        Cover::Zero => true,
        Cover::Nothing => tree == Digest::ZERO,
        Cover::Mixed => false,
    }
}

fn leaf_slots(layers: &[Arc<Layer>], base: u64, leaf: Option<&Node>) -> [Slot; FANOUT] {
    let mut known = [None; FANOUT];
    overlay::fill(layers, base, &mut known);
    std::array::from_fn(|index| {
        known[index].unwrap_or_else(|| leaf.map_or(Slot::Zero, |leaf| Slot::from_digest(leaf.child(index))))
    })
}
