//! A frozen point of a volume: what a snapshot, a clone's origin, a fork point or a checkpoint is.
//!
//! - I1: an image never changes; cloning one copies a few words per layer.
//! - I2: blocks at or beyond the size read as zero through layers and tree, so a volume can grow without looking.
//!   Whoever shrinks a volume zeroes what is beyond ([`VolumeMap::resize`]).
//!
//! [`VolumeMap::resize`]: crate::VolumeMap::resize

use std::ops::Range;
use std::sync::Arc;

use crate::layer::{Layer, LayerId};
use crate::lookup::{Lookup, Source};
use crate::overlay;
use crate::slot::{GeometryError, blocks_of};
use crate::tree::{HEIGHT_MAX, Root};

/// Frozen layers above which the owner should merge or fold: every lookup may have to ask each of them.
pub const LAYERS_WANTED_MAX: usize = 8;

/// A frozen point: a tree and the layers above it, oldest first.
#[derive(Debug, Clone)]
pub struct Image {
    size_bytes: u64,
    root: Option<Root>,
    layers: Vec<Arc<Layer>>,
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
        Ok(Image { size_bytes, root, layers })
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
        let mut layers = self.layers.clone();
        let merged = Arc::new(overlay::merge(&self.layers[range.clone()], id));
        layers.splice(range, [merged]);
        Image { layers, ..self.clone() }
    }

    /// Puts `with` in the place of `base`, on which this image was built: what a fold or a merge of `base` gave.
    /// Layers frozen since stay above it. `with` must read as `base` does.
    pub fn rebased(&self, base: &Image, with: &Image) -> Result<Image, NotTheBase> {
        if self.root != base.root || common_layers(&self.layers, &base.layers) != base.layers.len() {
            return Err(NotTheBase);
        }
        let mut layers = with.layers.clone();
        layers.extend_from_slice(&self.layers[base.layers.len()..]);
        Ok(Image { size_bytes: self.size_bytes, root: with.root, layers })
    }

    /// This image with one more layer on top.
    pub(crate) fn with_layer(&self, size_bytes: u64, layer: Option<Arc<Layer>>) -> Image {
        let mut image = self.clone();
        image.size_bytes = size_bytes;
        image.layers.extend(layer);
        image
    }
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
