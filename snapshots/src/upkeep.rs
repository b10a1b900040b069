//! What is to be done about layers: which to merge, which to fold, so that stacks stay short and memory bounded.
//!
//! Takes all images of an array, gives one piece of work. Whoever does it gives the result to every image
//! ([`Image::reworked`]) and asks again until there is none.
//!
//! ```text
//!   tree ─ L1 ─ L2 ─┬─ L3 ─ L4 ─ L5      a volume
//!              end │                     a snapshot: its stack is L1, L2
//!                  └─ L6                 a clone of it
//! ```
//! - U1: what counts are the entries of different layers, whoever holds them: volumes, snapshots, fork points.
//! - U2: beyond [`Limits::entries_max`] entries are folded: of the fullest group of images the oldest layers, up to the first
//!   place where an image ends or images part. All images of the group then stand on the new tree, so these layers
//!   leave memory whole; none is folded and kept.
//! - U3: stacks deeper than [`Limits::layers_max`] are merged: at most [`MERGE_WIDTH`] neighbours at a time, those that
//!   cost least for the layers gained, the oldest of equals. Entries of layers that an image inside the run goes on to need count twice:
//!   they will be there twice. Images of one history are merged at the same places and share the results.
//! - U4: nothing is merged across the end of a fenced image: a difference from it stays one of whole layers.
//! - U5: a merged layer has at most a quarter of the entries allowed, so that merging takes little memory besides. A stack that is
//!   too deep and has no two neighbours to merge holds more than is allowed, and is folded.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use metropod_dedupe::Digest;

use crate::image::{Image, common_layers};
use crate::layer::{Layer, LayerId};

/// Layers of a stack above which some are merged: every lookup may have to ask each of them.
pub const LAYERS_WANTED_MAX: usize = 8;

/// Entries of layers above which some are folded, unless it is set otherwise: 0.64 GB packed.
pub const ENTRIES_MAX: usize = 16 << 20;

/// Most layers merged at a time.
const MERGE_WIDTH: usize = 8;

/// Share of the entries allowed that a merged layer may have (U5).
const MERGED_SHARE: usize = 4;

/// What stacks may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries of all layers of an array; a packed entry takes 40 bytes.
    pub entries_max: usize,
    /// Layers of one image.
    pub layers_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { entries_max: ENTRIES_MAX, layers_max: LAYERS_WANTED_MAX }
    }
}

/// An image that holds layers.
#[derive(Debug, Clone)]
pub struct Stack {
    /// The image.
    pub image: Image,
    /// Whether differences will be taken from it (U4).
    pub fenced: bool,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Survey {
    /// Entries of different layers, those that cannot be folded left out.
    pub entries: usize,
    /// What to do first.
    pub work: Option<Work>,
}

/// Something to do.
#[derive(Debug, Clone)]
pub enum Work {
    /// Merge these neighbours, oldest first.
    Merge(Vec<Arc<Layer>>),
    /// Fold this image, whose layers are the oldest of others.
    Fold(Image),
}

/// Looks at all images. Groups whose oldest layer is in `unfoldable` are not folded.
pub fn survey(stacks: &[Stack], limits: Limits, unfoldable: &BTreeSet<LayerId>) -> Survey {
    let groups = Group::all(stacks);
    let foldable = || groups.iter().filter(|(key, _)| !unfoldable.contains(&key.1));
    let mut counted = BTreeSet::new();
    let layers = foldable().flat_map(|(_, group)| group.layers.values());
    let entries = layers.filter(|layer| counted.insert(layer.id())).map(|layer| layer.len()).sum();
    if entries > limits.entries_max {
        // The first of equals: the survey of one state is always the same.
        let fullest = foldable().rev().max_by_key(|(_, group)| group.entries());
        if let Some((_, group)) = fullest {
            return Survey { entries, work: Some(Work::Fold(group.oldest())) };
        }
    }
    Survey { entries, work: merge_of(stacks, limits).map(Work::Merge) }
}

/// Where the tree begins and with which layer: what images of one history have in common.
type Key = (Option<(Digest, u8)>, LayerId);

/// Images with the same tree and the same oldest layer.
struct Group<'a> {
    first: &'a Image,
    /// Length of the stack that all of them begin with.
    common: usize,
    size_bytes: u64,
    layers: BTreeMap<LayerId, &'a Arc<Layer>>,
}

impl Group<'_> {
    fn all(stacks: &[Stack]) -> BTreeMap<Key, Group<'_>> {
        let mut groups: BTreeMap<Key, Group<'_>> = BTreeMap::new();
        for image in stacks.iter().map(|stack| &stack.image) {
            let Some(oldest) = image.layers().first() else { continue };
            let key = (image.root().map(|root| (root.digest, root.height)), oldest.id());
            let group = groups.entry(key).or_insert_with(|| Group {
                first: image,
                common: image.layers().len(),
                size_bytes: 0,
                layers: BTreeMap::new(),
            });
            group.common = group.common.min(common_layers(group.first.layers(), image.layers()));
            group.size_bytes = group.size_bytes.max(image.size_bytes());
            group.layers.extend(image.layers().iter().map(|layer| (layer.id(), layer)));
        }
        groups
    }

    fn entries(&self) -> usize {
        self.layers.values().map(|layer| layer.len()).sum()
    }

    /// The layers that all begin with, as an image. It is as large as the largest: what lies beyond the end of a smaller one is
    /// zeroed in its own layers (image.rs, I2).
    fn oldest(&self) -> Image {
        let layers = self.first.layers()[..self.common].to_vec();
        Image::new(self.size_bytes, self.first.root(), layers).expect("size and tree are those of images")
    }
}

/// Neighbours to merge in the deepest stack that has some.
fn merge_of(stacks: &[Stack], limits: Limits) -> Option<Vec<Arc<Layer>>> {
    let layers_max = limits.layers_max.max(1);
    let mut deep: Vec<&Image> =
        stacks.iter().map(|stack| &stack.image).filter(|image| image.layers().len() > layers_max).collect();
    if deep.is_empty() {
        return None;
    }
    deep.sort_by_key(|image| std::cmp::Reverse(image.layers().len()));
    let ends_of = |fenced: bool| -> BTreeSet<LayerId> {
        let stacks = stacks.iter().filter(|stack| stack.fenced || !fenced);
        stacks.filter_map(|stack| stack.image.layers().last()).map(|layer| layer.id()).collect()
    };
    let (ends, fences) = (ends_of(false), ends_of(true));
    let entries_max = (limits.entries_max / MERGED_SHARE).max(1);
    deep.into_iter().find_map(|image| {
        let range = cheapest_run(image.layers(), &ends, &fences, entries_max)?;
        Some(image.layers()[range].to_vec())
    })
}

/// The run whose merging costs least per square of the layers gained (U3). The square is measured: with the layers
/// themselves few small ones are merged again and again (docs/decisions/0015).
fn cheapest_run(
    layers: &[Arc<Layer>],
    ends: &BTreeSet<LayerId>,
    fences: &BTreeSet<LayerId>,
    entries_max: usize,
) -> Option<Range<usize>> {
    let mut best: Option<(usize, usize, Range<usize>)> = None;
    for first in 0..layers.len() {
        let (mut entries, mut kept) = (0, 0);
        for (last, layer) in layers.iter().enumerate().skip(first).take(MERGE_WIDTH) {
            entries += layer.len();
            if entries > entries_max {
                break;
            }
            let (cost, gain) = (entries + kept, last - first);
            let cheaper =
                |(other, gained, _): &(usize, usize, _)| cost * gained * gained < other * gain * gain;
            if gain > 0 && best.as_ref().is_none_or(cheaper) {
                best = Some((cost, gain, first..last + 1));
            }
            if fences.contains(&layer.id()) {
                break;
            }
            if ends.contains(&layer.id()) {
                kept = entries;
            }
        }
    }
    best.map(|(_, _, range)| range)
}
