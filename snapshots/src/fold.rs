//! Folding: an image's layers applied to its tree.
//!
//! Takes an image, gives the root of the tree that reads the same. The walk visits only what the layers touch, in
//! address order, and makes nodes bottom up.
//!
//! - F1: a node is handed on only after all nodes below it that are new (a store never has a node without its
//!   subtree, but for what it had lost before).
//! - F2: the result depends on content and size alone, never on how the layers came about (tree.rs, T1).
//! - F3: memory is bounded by a batch ([`LEAVES_AT_ONCE`] leaves and those of one more level 1 node, with their extents),
//!   [`GROUPS_AT_ONCE`] level 1 nodes, and one node per level above.
//! - F4: one turn of the walk handles one batch: hashing a large fold never keeps its owner's thread.
//! - F5: an interrupted fold leaves nodes nobody names, and nothing else.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use metropod_dedupe::{Digest, Domain, digest};

use crate::gather::{READS_IN_FLIGHT, breathe};
use crate::image::Image;
use crate::layer::{Cover, Layer};
use crate::nodes::{MapError, Nodes};
use crate::overlay;
use crate::slot::{Extent, Slot};
use crate::store::NodeStore;
use crate::tree::{FANOUT, Lifted, NodeDraft, Root, blocks_per_child, blocks_under, height_of};

/// Leaves from which a batch is read, hashed and staged: as many as a full level 1 node has.
const LEAVES_AT_ONCE: usize = FANOUT;

/// Level 1 nodes read side by side: where changes are sparse, so are the leaves of each.
const GROUPS_AT_ONCE: usize = READS_IN_FLIGHT;

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
            match (overlay::cover(self.layers, &(base..base + blocks_under(level))), level) {
                (Cover::Nothing, _) => return Ok(old),
                (Cover::Zero, _) => return Ok(Digest::ZERO),
                (Cover::Mixed, 0) => {
                    let changes = overlay::extents(self.layers, base..base + blocks_under(0)).collect();
                    return self.leaves(vec![Leaf { base, old, changes }]).await.map(only);
                }
                (Cover::Mixed, 1) => return self.groups(&[(base, old)]).await.map(only),
                (Cover::Mixed, _) => {}
            }
            let mut draft = self.draft(level, old).await?;
            let touched = touched_children(self.layers, level, base);
            if level == 2 {
                let mut groups = Vec::new();
                for (index, blocks) in touched {
                    match overlay::cover(self.layers, &blocks) {
                        Cover::Zero => draft.set_child(index, Digest::ZERO),
                        _ => groups.push((index, blocks.start)),
                    }
                }
                for some in groups.chunks(GROUPS_AT_ONCE) {
                    let old: Vec<(u64, Digest)> =
                        some.iter().map(|(index, base)| (*base, draft.child(*index))).collect();
                    let new = self.groups(&old).await?;
                    some.iter().zip(new).for_each(|((index, _), name)| draft.set_child(*index, name));
                }
            } else {
                for (index, blocks) in touched {
                    let child = self.subtree(level - 1, blocks.start, draft.child(index)).await?;
                    draft.set_child(index, child);
                }
            }
            Ok(only(self.seal(level, vec![(draft, old)])))
        })
    }

    /// Level 1 nodes, given by first block and name, with the layers applied. Nodes and leaves are read side by side.
    async fn groups(&self, groups: &[(u64, Digest)]) -> Result<Vec<Digest>, MapError<S::Error>> {
        let names: Vec<Digest> =
            groups.iter().map(|(_, old)| *old).filter(|old| self.is_stored(1, *old)).collect();
        let mut stored = self.nodes.get_all(1, &names).await?.into_iter();
        let mut batch = Batch::default();
        let mut sealed = Vec::with_capacity(groups.len());
        for (base, old) in groups {
            let draft = match self.is_stored(1, *old) {
                true => NodeDraft::from(&stored.next().expect("each of these names was read")),
                false => self.lifted.get(1, *old).map_or_else(NodeDraft::empty, NodeDraft::from),
            };
            batch.add(self.layers, *base, *old, draft);
            if batch.leaves.len() >= LEAVES_AT_ONCE {
                sealed.extend(self.flush(std::mem::take(&mut batch)).await?);
            }
        }
        sealed.extend(self.flush(batch).await?);
        Ok(sealed)
    }

    async fn flush(&self, batch: Batch) -> Result<Vec<Digest>, MapError<S::Error>> {
        let Batch { mut groups, places, leaves } = batch;
        let names = self.leaves(leaves).await?;
        for ((group, index), name) in places.into_iter().zip(names) {
            groups[group].0.set_child(index, name);
        }
        let sealed = self.seal(1, groups);
        breathe().await;
        if self.keep {
            self.nodes.store().relieve().await.map_err(|source| MapError::Stage { source })?;
        }
        Ok(sealed)
    }

    /// The names of leaves with their changes; what shows through is read side by side.
    async fn leaves(&self, leaves: Vec<Leaf>) -> Result<Vec<Digest>, MapError<S::Error>> {
        let wanted: Vec<Digest> =
            leaves.iter().filter(|leaf| leaf.wants_old()).map(|leaf| leaf.old).collect();
        let mut contents = self.nodes.get_all(0, &wanted).await?.into_iter();
        let apply = |leaf: Leaf| {
            let old = if leaf.wants_old() { contents.next() } else { None };
            let mut draft = old.as_ref().map_or_else(NodeDraft::empty, NodeDraft::from);
            for extent in leaf.changes {
                for block in extent.blocks {
                    draft.set_child((block - leaf.base) as usize, extent.slot.digest());
                }
            }
            (draft, leaf.old)
        };
        let drafts = leaves.into_iter().map(apply).collect();
        Ok(self.seal(0, drafts))
    }

    /// Names nodes of one level, side by side, and stages those that are not what they were before.
    fn seal(&self, level: u8, drafts: Vec<(NodeDraft, Digest)>) -> Vec<Digest> {
        let (drafts, old): (Vec<NodeDraft>, Vec<Digest>) = drafts.into_iter().unzip();
        let mut names = Vec::with_capacity(drafts.len());
        for (sealed, old) in NodeDraft::seal_all(drafts, level).into_iter().zip(old) {
            let Some((name, node)) = sealed else {
                names.push(Digest::ZERO);
                continue;
            };
            if self.keep && name != old {
                self.nodes.stage(level, name, node);
            }
            names.push(name);
        }
        names
    }

    /// Whether a node has to be asked of the store.
    fn is_stored(&self, level: u8, name: Digest) -> bool {
        name != Digest::ZERO && self.lifted.get(level, name).is_none()
    }

    async fn draft(&self, level: u8, name: Digest) -> Result<NodeDraft, MapError<S::Error>> {
        Ok(match self.is_stored(level, name) {
            true => NodeDraft::from(&self.nodes.get(level, name).await?),
            false => self.lifted.get(level, name).map_or_else(NodeDraft::empty, NodeDraft::from),
        })
    }
}

type SubtreeFuture<'a, E> = Pin<Box<dyn Future<Output = Result<Digest, MapError<E>>> + Send + 'a>>;

fn only(names: Vec<Digest>) -> Digest {
    assert_eq!(names.len(), 1, "one node was asked for");
    names[0]
}

/// A leaf that layers touch.
struct Leaf {
    base: u64,
    old: Digest,
    changes: Vec<Extent>,
}

impl Leaf {
    /// Whether anything of the old leaf shows through.
    fn wants_old(&self) -> bool {
        self.old != Digest::ZERO && self.changes.iter().map(Extent::len).sum::<u64>() < FANOUT as u64
    }
}

/// Level 1 nodes being changed, and those of their leaves that change and do not vanish.
#[derive(Default)]
struct Batch {
    /// With the names they had before.
    groups: Vec<(NodeDraft, Digest)>,
    /// Whose child each leaf is: position in `groups`, index in the node.
    places: Vec<(usize, usize)>,
    leaves: Vec<Leaf>,
}

impl Batch {
    /// Adds the level 1 node from block `base` on: one walk over its changes.
    fn add(&mut self, layers: &[Arc<Layer>], base: u64, old: Digest, mut draft: NodeDraft) {
        let group = self.groups.len();
        for extent in overlay::extents(layers, base..base + blocks_under(1)) {
            let mut rest = extent.blocks.clone();
            while !rest.is_empty() {
                let index = ((rest.start - base) / FANOUT as u64) as usize;
                let leaf_base = base + (index * FANOUT) as u64;
                let blocks = rest.start..rest.end.min(leaf_base + FANOUT as u64);
                rest.start = blocks.end;
                if extent.slot == Slot::Zero && blocks.end - blocks.start == FANOUT as u64 {
                    draft.set_child(index, Digest::ZERO);
                    continue;
                }
                if self.places.last() != Some(&(group, index)) {
                    self.places.push((group, index));
                    self.leaves.push(Leaf { base: leaf_base, old: draft.child(index), changes: Vec::new() });
                }
                let leaf = self.leaves.last_mut().expect("a place has its leaf");
                leaf.changes.push(Extent { blocks, slot: extent.slot });
            }
        }
        self.groups.push((draft, old));
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
