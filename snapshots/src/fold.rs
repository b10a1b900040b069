//! Folding: an image's layers applied to its tree.
//!
//! Takes an image, gives the root of the tree that reads the same. The walk visits only what the layers touch, in
//! address order, and makes nodes bottom up.
//!
//! - F1: a node is handed on only after all nodes below it that are new (a store never has a node without its
//!   subtree, but for what it had lost before).
//! - F2: the result depends on content and size alone, never on how the layers came about (tree.rs, T1).
//! - F3: memory is bounded by one group (a level 1 subtree: 128 leaves and their extents) and one node per level.
//! - F4: one turn of the walk handles one group: hashing a large fold never keeps its owner's thread.
//! - F5: an interrupted fold leaves nodes nobody names, and nothing else.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use metropod_dedupe::{Digest, Domain, digest};

use crate::gather::breathe;
use crate::image::Image;
use crate::layer::{Cover, Layer};
use crate::nodes::{MapError, Nodes};
use crate::overlay;
use crate::slot::Extent;
use crate::store::NodeStore;
use crate::tree::{FANOUT, Lifted, Node, NodeDraft, Root, blocks_per_child, blocks_under, height_of};

/// The image that reads the same and has no layers. Its nodes are staged in the store, not yet durable.
///
/// Costs reads and hashing in proportion to the leaves that the layers touch; nothing if there are none.
pub async fn fold<S: NodeStore>(image: &Image, nodes: &Nodes<S>) -> Result<Image, MapError<S::Error>> {
    let root = applied(image, nodes, true).await?;
    Ok(Image::new(image.size_bytes(), root, Vec::new())
        .expect("the size is the image's, the height follows from it"))
}

/// The digest of a volume's content and size: equal if and only if two images read the same and have the same size.
///
/// Computed through the layers without storing anything.
pub async fn volume_digest<S: NodeStore>(
    image: &Image,
    nodes: &Nodes<S>,
) -> Result<Digest, MapError<S::Error>> {
    let root = applied(image, nodes, false).await?;
    let mut named = [0; 8 + 1 + 32];
    named[..8].copy_from_slice(&image.size_bytes().to_le_bytes());
    named[8] = height_of(image.size_blocks());
    named[9..].copy_from_slice(&root.map_or(Digest::ZERO, |root| root.digest).0);
    Ok(digest(Domain::Volume, &named))
}

/// The root of the tree that reads as `image` does, at the height that belongs to the image's size.
async fn applied<S: NodeStore>(
    image: &Image,
    nodes: &Nodes<S>,
    keep: bool,
) -> Result<Option<Root>, MapError<S::Error>> {
    let height = height_of(image.size_blocks());
    let mut lifted = Lifted::default();
    let mut top = lifted.lift(image.root(), height);
    if keep {
        lifted.iter().for_each(|(level, name, node)| nodes.stage(level, name, node.clone()));
    }
    // A tree that is too high belongs to a volume that shrank: what is cut off lies beyond the end (image.rs, I2).
    for level in (height..image.root().map_or(0, |root| root.height)).rev() {
        if top != Digest::ZERO {
            top = nodes.get(level, top).await?.child(0);
        }
    }
    let digest = Folder { nodes, layers: image.layers(), lifted, keep }.subtree(height - 1, 0, top).await?;
    Ok((digest != Digest::ZERO).then_some(Root { digest, height }))
}

struct Folder<'a, S> {
    nodes: &'a Nodes<S>,
    layers: &'a [Arc<Layer>],
    lifted: Lifted,
    /// Whether new nodes go to the store, or are only named.
    keep: bool,
}

impl<S: NodeStore> Folder<'_, S> {
    /// The name of the subtree from block `base` on with the layers applied, given its name without them.
    fn subtree(&self, level: u8, base: u64, old: Digest) -> SubtreeFuture<'_, S::Error> {
        Box::pin(async move {
            match overlay::cover(self.layers, &(base..base + blocks_under(level))) {
                Cover::Nothing => return Ok(old),
                Cover::Zero => return Ok(Digest::ZERO),
                Cover::Mixed if level == 0 => {
                    let leaf = Leaf::touched(self.layers, base, old);
                    let content = if leaf.wants_old() { Some(self.nodes.get(0, old).await?) } else { None };
                    return Ok(self.leaf(leaf, content));
                }
                Cover::Mixed => {}
            }
            let mut draft = match (old, self.lifted.get(level, old)) {
                (Digest::ZERO, _) => NodeDraft::empty(),
                (_, Some(node)) => NodeDraft::from(node),
                (old, None) => NodeDraft::from(&self.nodes.get(level, old).await?),
            };
            if level == 1 {
                self.leaves(base, &mut draft).await?;
                breathe().await;
                if self.keep {
                    self.nodes.store().relieve().await.map_err(|source| MapError::Stage { source })?;
                }
            } else {
                for (index, blocks) in touched_children(self.layers, level, base) {
                    let child = self.subtree(level - 1, blocks.start, draft.child(index)).await?;
                    draft.set_child(index, child);
                }
            }
            Ok(self.seal(level, draft, old))
        })
    }

    /// The leaves of one level 1 node: those that are needed are read side by side.
    async fn leaves(&self, base: u64, parent: &mut NodeDraft) -> Result<(), MapError<S::Error>> {
        let mut touched = Vec::new();
        for (index, blocks) in touched_children(self.layers, 1, base) {
            match overlay::cover(self.layers, &blocks) {
                Cover::Zero => parent.set_child(index, Digest::ZERO),
                _ => touched.push((index, Leaf::touched(self.layers, blocks.start, parent.child(index)))),
            }
        }
        let wanted: Vec<Digest> =
            touched.iter().filter(|(_, leaf)| leaf.wants_old()).map(|(_, leaf)| leaf.old).collect();
        let mut contents = self.nodes.get_all(0, &wanted).await?.into_iter();
        for (index, leaf) in touched {
            let content = if leaf.wants_old() { contents.next() } else { None };
            parent.set_child(index, self.leaf(leaf, content));
        }
        Ok(())
    }

    fn leaf(&self, leaf: Leaf, old: Option<Node>) -> Digest {
        let mut draft = old.as_ref().map_or_else(NodeDraft::empty, NodeDraft::from);
        for extent in leaf.changes {
            for block in extent.blocks {
                draft.set_child((block - leaf.base) as usize, extent.slot.digest());
            }
        }
        self.seal(0, draft, leaf.old)
    }

    fn seal(&self, level: u8, draft: NodeDraft, old: Digest) -> Digest {
        let Some((name, node)) = draft.seal(level) else { return Digest::ZERO };
        if self.keep && name != old {
            self.nodes.stage(level, name, node);
        }
        name
    }
}

type SubtreeFuture<'a, E> = Pin<Box<dyn Future<Output = Result<Digest, MapError<E>>> + Send + 'a>>;

/// A leaf that layers touch.
struct Leaf {
    base: u64,
    old: Digest,
    changes: Vec<Extent>,
}

impl Leaf {
    fn touched(layers: &[Arc<Layer>], base: u64, old: Digest) -> Leaf {
        Leaf { base, old, changes: overlay::extents(layers, base..base + FANOUT as u64).collect() }
    }

    /// Whether anything of the old leaf shows through.
    fn wants_old(&self) -> bool {
        self.old != Digest::ZERO && self.changes.iter().map(Extent::len).sum::<u64>() < FANOUT as u64
    }
}

/// The children of a node that layers touch, with their blocks, in order: jumps from change to change.
pub(crate) fn touched_children(
    layers: &[Arc<Layer>],
    level: u8,
    base: u64,
) -> impl Iterator<Item = (usize, Range<u64>)> {
    let width = blocks_per_child(level);
    let end = base + blocks_under(level);
    let mut position = base;
    std::iter::from_fn(move || {
        let touched = overlay::first_touched(layers, &(position..end))?;
        let index = (touched - base) / width;
        let start = base + index * width;
        position = start + width;
        Some((index as usize, start..position))
    })
}
