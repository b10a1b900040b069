//! A frozen point of a volume: what a snapshot, a clone's origin, a fork point or a checkpoint is.
//!
//! - I1: an image never changes; cloning one copies a few words.
//! - I2: blocks at or beyond the size read as zero through layers and tree, so a volume can grow without looking.
//!   Whoever shrinks a volume zeroes what is beyond ([`VolumeMap::resize`]).
//!
//! [`VolumeMap::resize`]: crate::VolumeMap::resize

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::layer::{Layer, LayerId};
use crate::lookup::{Lookup, Source};
use crate::overlay;
use crate::slot::{GeometryError, blocks_of};
use crate::tree::{HEIGHT_MAX, Root};

/// A frozen point: a tree and the layers above it, oldest first.
#[derive(Debug, Clone)]
pub struct Image {
    size_bytes: u64,
    root: Option<Root>,
    layers: Arc<[Arc<Layer>]>,
}

/// Two images of one array are equal if they are built of the same things; different ones may still read the same.
impl PartialEq for Image {
    fn eq(&self, other: &Image) -> bool {
        self.size_bytes == other.size_bytes
            && self.root == other.root
            && self.layers.len() == other.layers.len()
            && common_layers(&self.layers, &other.layers) == self.layers.len()
    }
}

impl Eq for Image {}

/// The other image is not what this one was built on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the replaced image is not the base of this one")]
pub struct NotTheBase;

impl Image {
    /// All zeroes.
    pub fn empty(size_bytes: u64) -> Result<Image, GeometryError> {
        Image::new(size_bytes, None, Vec::new())
    }

    /// From its parts, `layers` oldest first: how a manifest restores it.
    pub fn new(size_bytes: u64, root: Option<Root>, layers: Vec<Arc<Layer>>) -> Result<Image, GeometryError> {
        blocks_of(size_bytes)?;
        if let Some(Root { height, .. }) = root
            && !(1..=HEIGHT_MAX).contains(&height)
        {
            return Err(GeometryError::Height { height });
        }
        Ok(Image { size_bytes, root, layers: layers.into() })
    }

    /// Size of the volume at this point, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Number of blocks that cover the size.
    pub fn size_blocks(&self) -> u64 {
        blocks_of(self.size_bytes).expect("the size was checked when the image was made")
    }

    /// The tree below the layers.
    pub fn root(&self) -> Option<Root> {
        self.root
    }

    /// The layers above the tree, oldest first.
    pub fn layers(&self) -> &[Arc<Layer>] {
        &self.layers
    }

    /// Entries in all layers.
    pub fn layer_entries(&self) -> usize {
        self.layers.iter().map(|layer| layer.len()).sum()
    }

    /// This image with the layers at `range` (positions, oldest first) merged into one named `id`: it reads the same.
    ///
    /// # Panics
    /// If `range` reaches beyond the layers.
    pub fn with_merged(&self, range: Range<usize>, id: LayerId) -> Image {
        let merged = Arc::new(overlay::merge(&self.layers[range.clone()], id));
        self.with_layers_at(range, merged)
    }

    /// This image with one layer in the place of those at `range`.
    fn with_layers_at(&self, range: Range<usize>, layer: Arc<Layer>) -> Image {
        let (below, above) = (&self.layers[..range.start], &self.layers[range.end..]);
        let layers = below.iter().cloned().chain([layer]).chain(above.iter().cloned()).collect();
        Image { layers, ..self.clone() }
    }

    /// Puts `with` in the place of `base`, on which this image was built: what a fold or a merge of `base` gave.
    /// Layers frozen since stay above it. `with` must read as `base` does.
    pub fn rebased(&self, base: &Image, with: &Image) -> Result<Image, NotTheBase> {
        if self.root != base.root || common_layers(&self.layers, &base.layers) != base.layers.len() {
            return Err(NotTheBase);
        }
        let layers = with.layers.iter().chain(&self.layers[base.layers.len()..]).cloned().collect();
        Ok(Image { size_bytes: self.size_bytes, root: with.root, layers })
    }

    /// This image with what `rework` puts in the place of parts of it, which reads the same; `None` if it has no such
    /// parts. Costs the number of its layers.
    pub fn reworked(&self, rework: &Rework) -> Option<Image> {
        match rework {
            Rework::Merged { run, into } => {
                let first = self.layers.iter().position(|layer| Some(&layer.id()) == run.first())?;
                let range = first..first.checked_add(run.len())?;
                let found = self.layers.get(range.clone())?;
                let same = found.iter().map(|layer| layer.id()).eq(run.iter().copied());
                same.then(|| self.with_layers_at(range, into.clone()))
            }
            Rework::Folded { from, into } => self.rebased(from, into).ok(),
            Rework::Packed(packed) => {
                let is_packed = |layer: &Arc<Layer>| packed.get(&layer.id()).filter(|_| !layer.is_packed());
                self.layers.iter().any(|layer| is_packed(layer).is_some()).then(|| {
                    let layers = self.layers.iter().map(|layer| is_packed(layer).unwrap_or(layer).clone());
                    Image { layers: layers.collect(), ..self.clone() }
                })
            }
        }
    }

    /// This image with one more layer on top.
    pub(crate) fn with_layer(&self, size_bytes: u64, layer: Option<Arc<Layer>>) -> Image {
        let layers = match layer {
            Some(layer) => self.layers.iter().cloned().chain([layer]).collect(),
            None => self.layers.clone(),
        };
        Image { size_bytes, root: self.root, layers }
    }
}

/// What was made of layers that images share. An image that has them reads the same with it ([`Image::reworked`]); it
/// may be given to any number of images, at any time, in any order.
#[derive(Debug, Clone)]
pub enum Rework {
    /// A run of neighbouring layers, oldest first, is one layer.
    Merged {
        /// Their names.
        run: Vec<LayerId>,
        /// What they say together.
        into: Arc<Layer>,
    },
    /// The oldest layers of a stack are in the tree below it.
    Folded {
        /// The tree and these layers.
        from: Image,
        /// The tree that says the same.
        into: Image,
    },
    /// Layers take less memory.
    Packed(BTreeMap<LayerId, Arc<Layer>>),
}

impl Source for Image {
    fn lookup(&self, blocks: Range<u64>) -> Lookup {
        let mut lookup = Lookup::begin(blocks, self.size_blocks());
        lookup.fill_from_layers(&self.layers);
        lookup.finish(self.root);
        lookup
    }
}

/// How many layers, from the oldest on, two stacks have in common.
pub(crate) fn common_layers(left: &[Arc<Layer>], right: &[Arc<Layer>]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| left.id() == right.id()).count()
}
