//! Everything that frozen points refer to, for a collector to mark.
//!
//! Comes in: images. Goes out, through a [`Marker`]: the names of all nodes and all data that they reach, through layers
//! as well as trees, also what a layer above hides.
//!
//! - H1: a layer and a node are gone through once, however many images share them: the marker knows what it has seen.
//! - H2: a node is marked before it is read, and its parent before it.
//! - H3: memory is bounded: [`NODES_AT_ONCE`] nodes' children per level, whatever the size of the trees.
//! - H4: a node that cannot be read ends the walk with an error. What is below it is not known, so nothing may be
//!   concluded about what was not marked.

use std::collections::BTreeSet;
use std::future::Future;

use metropod_dedupe::Digest;

use crate::gather::{READS_IN_FLIGHT, breathe, gather};
use crate::image::Image;
use crate::layer::LayerId;
use crate::nodes::MapError;
use crate::slot::Slot;
use crate::store::NodeStore;
use crate::tree::{FANOUT, Node};

/// Nodes read before their children are gone on with.
const NODES_AT_ONCE: usize = 64;

/// Names of data marked at once.
const MARKS_AT_ONCE: usize = NODES_AT_ONCE * FANOUT;

/// Takes down what is referred to. Implemented by [`metropod_dedupe::Pass`].
pub trait Marker: Send + Sync {
    /// Why something could not be marked.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Data that something refers to.
    fn mark_data(&self, digests: &[Digest]) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Nodes that something refers to: of each, whether it is met for the first time.
    fn visit_nodes(&self, digests: &[Digest]) -> impl Future<Output = Result<Vec<bool>, Self::Error>> + Send;
}

/// What a walk met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reached {
    /// Nodes read.
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
    let mut layers = BTreeSet::new();
    for image in images {
        walk.layers(image, &mut layers).await?;
    }
    for root in images.iter().filter_map(Image::root).collect::<Vec<_>>() {
        walk.tree(root.height - 1, root.digest).await?;
    }
    walk.mark_data().await?;
    Ok(walk.reached)
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
    async fn layers(&mut self, image: &Image, seen: &mut BTreeSet<LayerId>) -> Walked<(), S, M> {
        for layer in image.layers().iter().filter(|layer| seen.insert(layer.id())) {
            for extent in layer.extents() {
                if let Slot::Data(digest) = extent.slot {
                    self.data.push(digest);
                }
                if self.data.len() >= MARKS_AT_ONCE {
                    self.mark_data().await?;
                }
            }
        }
        Ok(())
    }

    /// Depth first in batches: of each level at most the children of one batch wait.
    async fn tree(&mut self, level: u8, top: Digest) -> Walked<(), S, M> {
        let mut waiting: Vec<(u8, Vec<Digest>)> = vec![(level, vec![top])];
        while let Some((level, mut nodes)) = waiting.pop() {
            let batch = nodes.split_off(nodes.len().saturating_sub(NODES_AT_ONCE));
            if !nodes.is_empty() {
                waiting.push((level, nodes));
            }
            let children = self.children(level, &batch).await?;
            match level {
                0 => self.data.extend(children),
                _ if children.is_empty() => {}
                _ => waiting.push((level - 1, children)),
            }
            if self.data.len() >= MARKS_AT_ONCE {
                self.mark_data().await?;
            }
            breathe().await;
        }
        Ok(())
    }

    /// The children of those nodes that were not met before.
    async fn children(&mut self, level: u8, nodes: &[Digest]) -> Walked<Vec<Digest>, S, M> {
        let first = self.marker.visit_nodes(nodes).await.map_err(|source| ReachError::Mark { source })?;
        let met: Vec<Digest> =
            nodes.iter().zip(first).filter(|(_, first)| *first).map(|(node, _)| *node).collect();
        let reads: Vec<_> = met.iter().map(|node| self.read(level, *node)).collect();
        let mut children = Vec::new();
        for node in gather(reads, READS_IN_FLIGHT).await {
            let node = node.map_err(ReachError::Map)?;
            let all = (0..FANOUT).map(|index| node.child(index));
            children.extend(all.filter(|child| !child.is_zero()));
        }
        self.reached.nodes += met.len() as u64;
        children.sort_unstable();
        children.dedup();
        Ok(children)
    }

    async fn read(&self, level: u8, digest: Digest) -> Result<Node, MapError<S::Error>> {
        let content = self.store.node(level, digest).await;
        let content = content.map_err(|source| MapError::Node { level, digest, source })?;
        let bytes = content.len();
        Node::from_content(content).ok_or(MapError::Malformed { level, digest, bytes })
    }

    async fn mark_data(&mut self) -> Walked<(), S, M> {
        let mut data = std::mem::take(&mut self.data);
        // In order of name, as the index is: neighbours share a page.
        data.sort_unstable();
        data.dedup();
        for batch in data.chunks(MARKS_AT_ONCE) {
            self.marker.mark_data(batch).await.map_err(|source| ReachError::Mark { source })?;
            breathe().await;
        }
        self.reached.data += data.len() as u64;
        Ok(())
    }
}
