//! Everything that frozen points refer to, for a collector to mark.
//!
//! Comes in: images. Goes out, through a [`Marker`]: the names of all nodes of their trees, and of all data that a reader of
//! one of them can meet. What a layer hides from every image is not named ([`Covers`]).
//!
//! - H1: a layer is gone through once, however many images share it. So is a node, except under layers: what they hide of
//!   it may be in sight elsewhere.
//! - H2: a node is marked before it is read, and its parent before it.
//! - H3: memory is bounded: [`NODES_AT_ONCE`] nodes' children per level, whatever the size of the trees.
//! - H4: a node that cannot be read ends the walk with an error. What is below it is not known, so nothing may be
//!   concluded about what was not marked.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use metropod_dedupe::Digest;

use crate::covers::Covers;
use crate::gather::{READS_IN_FLIGHT, breathe, gather};
use crate::image::Image;
use crate::layer::{Layer, LayerId};
use crate::nodes::{MapError, read_past_cache};
use crate::slot::Slot;
use crate::store::NodeStore;
use crate::tree::{FANOUT, Root, blocks_per_child, blocks_under};

/// Nodes read before their children are gone on with.
const NODES_AT_ONCE: usize = 64;

/// Names of data marked at once.
const MARKS_AT_ONCE: usize = NODES_AT_ONCE * FANOUT;

/// Takes down what is referred to. Implemented by [`metropod_dedupe::Pass`].
pub trait Marker: Send + Sync {
    /// Why something could not be marked.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Data, or nodes, that something refers to.
    fn mark(&self, digests: &[Digest]) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Nodes that something refers to, with all that is below them: of each, whether this is said for the first time.
    fn visit_nodes(&self, digests: &[Digest]) -> impl Future<Output = Result<Vec<bool>, Self::Error>> + Send;
}

/// What a walk met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reached {
    /// Nodes read; some of them more than once.
    pub nodes: u64,
    /// Names of data marked; some of them more than once.
    pub data: u64,
}

/// Why a walk ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReachError<S: std::error::Error + 'static, M: std::error::Error + 'static> {
    /// A node could not be had (H4).
    #[error(transparent)]
    Map(MapError<S>),
    /// Something could not be marked.
    #[error("what a volume refers to could not be marked")]
    Mark {
        /// What the marker said.
        #[source]
        source: M,
    },
}

/// Marks everything that `images` reach. Nodes are read past the cache, which is for those that are wanted again.
pub async fn mark_reachable<S: NodeStore, M: Marker>(
    images: &[Image],
    store: &S,
    marker: &M,
) -> Result<Reached, ReachError<S::Error, M::Error>> {
    let mut walk = Walk { store, marker, data: Vec::new(), reached: Reached::default() };
    for (layer, covers) in layers_of(images) {
        walk.layer(&layer, &covers).await?;
    }
    for (root, covers) in trees_of(images) {
        walk.tree(root, &covers).await?;
    }
    walk.mark_data().await?;
    Ok(walk.reached)
}

/// Layers, oldest first.
type Stack = Vec<Arc<Layer>>;

/// Every layer, with what lies over it in the images that have it.
fn layers_of(images: &[Image]) -> Vec<(Arc<Layer>, Covers)> {
    let mut over: BTreeMap<LayerId, (Arc<Layer>, Vec<Stack>)> = BTreeMap::new();
    for image in images {
        for (at, layer) in image.layers().iter().enumerate() {
            let found = over.entry(layer.id()).or_insert_with(|| (layer.clone(), Vec::new()));
            found.1.push(image.layers()[at + 1..].to_vec());
        }
    }
    over.into_values().map(|(layer, stacks)| (layer, Covers::of(stacks))).collect()
}

/// Every tree, with what lies over it in the images that have it.
fn trees_of(images: &[Image]) -> Vec<(Root, Covers)> {
    let mut over: BTreeMap<(u8, Digest), Vec<Stack>> = BTreeMap::new();
    for image in images {
        if let Some(root) = image.root() {
            over.entry((root.height, root.digest)).or_default().push(image.layers().to_vec());
        }
    }
    let tree = |((height, digest), stacks)| (Root { digest, height }, Covers::of(stacks));
    over.into_iter().map(tree).collect()
}

/// A node where it is met.
#[derive(Debug, Clone, Copy)]
struct Place {
    first: u64,
    digest: Digest,
}

struct Walk<'a, S, M> {
    store: &'a S,
    marker: &'a M,
    /// Names of data not yet handed on.
    data: Vec<Digest>,
    reached: Reached,
}

type Walked<T, S, M> = Result<T, ReachError<<S as NodeStore>::Error, <M as Marker>::Error>>;

impl<S: NodeStore, M: Marker> Walk<'_, S, M> {
    async fn layer(&mut self, layer: &Layer, covers: &Covers) -> Walked<(), S, M> {
        let is_bare = covers.is_bare();
        let (mut first, mut hidden) = (u64::MAX, 0);
        for extent in layer.extents() {
            let Slot::Data(digest) = extent.slot else { continue };
            let block = extent.blocks.start;
            let leaf = block - block % FANOUT as u64;
            if !is_bare && leaf != first {
                (first, hidden) = (leaf, covers.hidden(leaf));
            }
            if hidden >> (block - leaf) & 1 == 0 {
                self.data.push(digest);
            }
            if self.data.len() >= MARKS_AT_ONCE {
                self.mark_data().await?;
            }
        }
        Ok(())
    }

    /// Depth first in batches: of each level at most the children of one batch wait.
    async fn tree(&mut self, root: Root, covers: &Covers) -> Walked<(), S, M> {
        let top = Place { first: 0, digest: root.digest };
        let mut waiting: Vec<(u8, Vec<Place>)> = vec![(root.height - 1, vec![top])];
        while let Some((level, mut nodes)) = waiting.pop() {
            let batch = nodes.split_off(nodes.len().saturating_sub(NODES_AT_ONCE));
            if !nodes.is_empty() {
                waiting.push((level, nodes));
            }
            let children = self.children(level, batch, covers).await?;
            if !children.is_empty() {
                waiting.push((level - 1, children));
            }
            if self.data.len() >= MARKS_AT_ONCE {
                self.mark_data().await?;
            }
            breathe().await;
        }
        Ok(())
    }

    /// The nodes under those that were not gone through before; takes down the data under them.
    async fn children(&mut self, level: u8, nodes: Vec<Place>, covers: &Covers) -> Walked<Vec<Place>, S, M> {
        let span = blocks_under(level);
        let is_bare = covers.is_bare();
        let is_under = |place: &Place| !is_bare && covers.may_hide(&(place.first..place.first + span));
        let (under, bare): (Vec<Place>, Vec<Place>) = nodes.into_iter().partition(is_under);
        let mut met = self.visit(bare).await?;
        let bare = met.len();
        let names: Vec<Digest> = under.iter().map(|place| place.digest).collect();
        self.marker.mark(&names).await.map_err(|source| ReachError::Mark { source })?;
        met.extend(under);
        let reads: Vec<_> =
            met.iter().map(|place| read_past_cache(self.store, level, place.digest)).collect();
        let mut children = Vec::new();
        for (at, node) in gather(reads, READS_IN_FLIGHT).await.into_iter().enumerate() {
            let node = node.map_err(ReachError::Map)?;
            let first = met[at].first;
            let hidden = if level == 0 && at >= bare { covers.hidden(first) } else { 0 };
            for index in 0..FANOUT {
                let digest = node.child(index);
                if digest.is_zero() {
                    continue;
                }
                match level {
                    0 if hidden >> index & 1 == 1 => {}
                    0 => self.data.push(digest),
                    _ => {
                        children.push(Place { first: first + index as u64 * blocks_per_child(level), digest })
                    }
                }
            }
        }
        self.reached.nodes += met.len() as u64;
        Ok(children)
    }

    /// Those that are met for the first time.
    async fn visit(&self, mut places: Vec<Place>) -> Walked<Vec<Place>, S, M> {
        // In order of name, as the index is: neighbours share a page.
        places.sort_unstable_by_key(|place| place.digest);
        let names: Vec<Digest> = places.iter().map(|place| place.digest).collect();
        let first = self.marker.visit_nodes(&names).await.map_err(|source| ReachError::Mark { source })?;
        Ok(places.into_iter().zip(first).filter(|(_, first)| *first).map(|(place, _)| place).collect())
    }

    async fn mark_data(&mut self) -> Walked<(), S, M> {
        let mut data = std::mem::take(&mut self.data);
        data.sort_unstable();
        data.dedup();
        for batch in data.chunks(MARKS_AT_ONCE) {
            self.marker.mark(batch).await.map_err(|source| ReachError::Mark { source })?;
            breathe().await;
        }
        self.reached.data += data.len() as u64;
        Ok(())
    }
}
