//! Which names are reached by whom: what tells how much of the store belongs to each volume and snapshot.
//!
//! Comes in: images, each with its owner. Goes out, in [`Names`]: every name of data that a reader of one of them can meet,
//! with all owners whose readers do, and the names of all nodes. What a layer hides from an image is not that image's
//! ([`Covers`]).
//!
//! ```text
//! layers ─► trees as far as layers lie over them, from the root ─► the rest, level by level, from the highest
//! ```
//! - A1: a node that lies bare is read once, however many images share it: all that stands above it is gone through first, so
//!   that its owners are all known. Under layers a node is read once per tree and place.
//! - A2: names of one part of all digests are kept at a time, at most so many; with more parts the walk is done more often
//!   and takes less memory. Beside them there is an entry for each node of the level being read and the next.
//! - A3: a node that cannot be read ends the walk: what is below it is not known.

use std::collections::BTreeMap;
use std::sync::Arc;

use metropod_dedupe::Digest;
use rustc_hash::FxHashMap;

use crate::covers::Covers;
use crate::gather::{READS_IN_FLIGHT, breathe, gather};
use crate::image::Image;
use crate::layer::{Layer, LayerId};
use crate::nodes::{MapError, read_past_cache};
use crate::owners::{Owners, SetId};
use crate::slot::Slot;
use crate::store::NodeStore;
use crate::tree::{FANOUT, HEIGHT_MAX, Node, Root, blocks_per_child, blocks_under};

/// Nodes read before their children are gone on with.
const NODES_AT_ONCE: usize = 64;

/// Extents of a layer looked at in one turn.
const TURN_EXTENTS: usize = 16 * 1024;

/// Names of one part of all digests, and who reaches them.
#[derive(Debug)]
pub struct Names {
    bits: u32,
    part: u64,
    names_max: usize,
    data: Vec<(Digest, SetId)>,
    nodes: Vec<Digest>,
    overfull: bool,
}

impl Names {
    /// Those whose first `bits` bits are `part`. At most `names_max` are kept, each counted once per mention until that
    /// many are mentioned.
    pub fn new(bits: u32, part: u64, names_max: usize) -> Names {
        Names { bits, part, names_max, data: Vec::new(), nodes: Vec::new(), overfull: false }
    }

    /// All of them, each once, in order of name: of data, and of nodes. `None` if there were too many.
    #[allow(clippy::type_complexity, reason = "two lists")]
    pub fn finish(mut self, owners: &mut Owners) -> Option<(Vec<(Digest, SetId)>, Vec<Digest>)> {
        self.compact(owners);
        (!self.overfull).then_some((self.data, self.nodes))
    }

    /// Whether there are too many, so that nothing more is taken in.
    pub fn is_overfull(&self) -> bool {
        self.overfull
    }

    fn is_in_part(&self, digest: &Digest) -> bool {
        self.bits == 0 || digest.prefix() >> (u64::BITS - self.bits) == self.part
    }

    fn add_data(&mut self, digest: Digest, set: SetId, owners: &mut Owners) {
        if !self.overfull && self.is_in_part(&digest) {
            self.data.push((digest, set));
            self.keep_bounded(owners);
        }
    }

    fn add_node(&mut self, digest: Digest, owners: &mut Owners) {
        if !self.overfull && self.is_in_part(&digest) {
            self.nodes.push(digest);
            self.keep_bounded(owners);
        }
    }

    fn keep_bounded(&mut self, owners: &mut Owners) {
        if self.data.len() + self.nodes.len() >= self.names_max {
            self.compact(owners);
            // Sorted again and again for little, it would take for ever.
            self.overfull = self.data.len() + self.nodes.len() > self.names_max / 4 * 3;
        }
    }

    fn compact(&mut self, owners: &mut Owners) {
        self.data.sort_unstable_by_key(|(digest, _)| *digest);
        self.data.dedup_by(|next, kept| {
            let is_same = next.0 == kept.0;
            if is_same {
                kept.1 = owners.union(kept.1, next.1);
            }
            is_same
        });
        self.nodes.sort_unstable();
        self.nodes.dedup();
    }
}

/// Finds who reaches what. Nodes are read past the cache, which is for those that are wanted again. Ends early when `names`
/// is overfull.
pub async fn attribute<S: NodeStore>(
    images: &[(SetId, Image)],
    store: &S,
    owners: &mut Owners,
    names: &mut Names,
) -> Result<(), MapError<S::Error>> {
    let mut walk = Walk { store, owners, names, bare: Default::default() };
    for (layer, seen) in layers_of(images, walk.owners) {
        walk.layer(&layer, &seen).await;
    }
    for (root, seen) in trees_of(images, walk.owners) {
        walk.covered(root, &seen).await?;
    }
    for level in (0..HEIGHT_MAX).rev() {
        walk.level(level).await?;
    }
    Ok(())
}

/// The stacks that lie over one thing, each with those who look at it through that stack.
struct Seen {
    bare: Option<SetId>,
    covered: Vec<(Covers, SetId)>,
}

/// A thing below stacks, which are told apart by their layers.
struct Stacks(BTreeMap<Vec<LayerId>, (Vec<Arc<Layer>>, SetId)>);

impl Stacks {
    fn add(&mut self, over: &[Arc<Layer>], set: SetId, owners: &mut Owners) {
        let ids = over.iter().map(|layer| layer.id()).collect();
        let found = self.0.entry(ids).or_insert_with(|| (over.to_vec(), SetId::NONE));
        found.1 = owners.union(found.1, set);
    }

    fn seen(self) -> Seen {
        let mut seen = Seen { bare: None, covered: Vec::new() };
        for (stack, set) in self.0.into_values() {
            match stack.is_empty() {
                true => seen.bare = Some(set),
                false => seen.covered.push((Covers::of(vec![stack]), set)),
            }
        }
        seen
    }
}

fn layers_of(images: &[(SetId, Image)], owners: &mut Owners) -> Vec<(Arc<Layer>, Seen)> {
    let mut over: BTreeMap<LayerId, (Arc<Layer>, Stacks)> = BTreeMap::new();
    for (set, image) in images {
        for (at, layer) in image.layers().iter().enumerate() {
            let found = over.entry(layer.id()).or_insert_with(|| (layer.clone(), Stacks(BTreeMap::new())));
            found.1.add(&image.layers()[at + 1..], *set, owners);
        }
    }
    over.into_values().map(|(layer, stacks)| (layer, stacks.seen())).collect()
}

fn trees_of(images: &[(SetId, Image)], owners: &mut Owners) -> Vec<(Root, Seen)> {
    let mut over: BTreeMap<(u8, Digest), Stacks> = BTreeMap::new();
    for (set, image) in images {
        if let Some(root) = image.root() {
            let stacks = over.entry((root.height, root.digest)).or_insert_with(|| Stacks(BTreeMap::new()));
            stacks.add(image.layers(), *set, owners);
        }
    }
    over.into_iter().map(|((height, digest), stacks)| (Root { digest, height }, stacks.seen())).collect()
}

/// A node under layers, where it is met.
struct Place {
    first: u64,
    digest: Digest,
    /// Which of the stacks may lie over it.
    under: Vec<usize>,
}

struct Walk<'a, S> {
    store: &'a S,
    owners: &'a mut Owners,
    names: &'a mut Names,
    /// By level: nodes with nothing over them, and who reaches them.
    bare: [FxHashMap<Digest, SetId>; HEIGHT_MAX as usize],
}

impl<S: NodeStore> Walk<'_, S> {
    async fn layer(&mut self, layer: &Layer, seen: &Seen) {
        let mut first = u64::MAX;
        let mut hidden = vec![0; seen.covered.len()];
        for (at, extent) in layer.extents().enumerate() {
            if at % TURN_EXTENTS == TURN_EXTENTS - 1 {
                breathe().await;
            }
            let Slot::Data(digest) = extent.slot else { continue };
            let block = extent.blocks.start;
            let leaf = block - block % FANOUT as u64;
            if leaf != first {
                first = leaf;
                hidden.iter_mut().zip(&seen.covered).for_each(|(bits, over)| *bits = over.0.hidden(leaf));
            }
            let at = (block - leaf) as usize;
            let through = seen.covered.iter().zip(&hidden).filter(|(_, hidden)| *hidden >> at & 1 == 0);
            let sets = through.map(|((_, set), _)| *set).chain(seen.bare);
            if let Some(set) = self.union(sets) {
                self.names.add_data(digest, set, self.owners);
            }
        }
    }

    /// What of a tree lies under layers; the rest is left for the levels.
    async fn covered(&mut self, root: Root, seen: &Seen) -> Result<(), MapError<S::Error>> {
        if let Some(set) = seen.bare {
            self.add_bare(root.height - 1, root.digest, set);
        }
        let top = Place { first: 0, digest: root.digest, under: (0..seen.covered.len()).collect() };
        let mut waiting = vec![(root.height - 1, vec![top])];
        while let Some((level, mut places)) = waiting.pop() {
            let batch = places.split_off(places.len().saturating_sub(NODES_AT_ONCE));
            if !places.is_empty() {
                waiting.push((level, places));
            }
            let children = self.under(level, batch, seen).await?;
            if !children.is_empty() {
                waiting.push((level - 1, children));
            }
            breathe().await;
        }
        Ok(())
    }

    async fn under(
        &mut self,
        level: u8,
        mut places: Vec<Place>,
        seen: &Seen,
    ) -> Result<Vec<Place>, MapError<S::Error>> {
        let span = blocks_under(level);
        for place in &mut places {
            let window = place.first..place.first + span;
            let (under, over) = place.under.iter().partition(|at| seen.covered[**at].0.may_hide(&window));
            let over: Vec<usize> = over;
            place.under = under;
            if let Some(set) = self.union(over.iter().map(|at| seen.covered[*at].1)) {
                self.add_bare(level, place.digest, set);
            }
        }
        places.retain(|place| !place.under.is_empty());
        let nodes = self.read(level, places.iter().map(|place| place.digest).collect()).await?;
        let mut children = Vec::new();
        for (place, node) in places.iter().zip(nodes) {
            let hidden: Vec<u128> = match level {
                0 => place.under.iter().map(|at| seen.covered[*at].0.hidden(place.first)).collect(),
                _ => Vec::new(),
            };
            for (index, digest) in node.children() {
                if level > 0 {
                    let first = place.first + index as u64 * blocks_per_child(level);
                    children.push(Place { first, digest, under: place.under.clone() });
                    continue;
                }
                let through = place.under.iter().zip(&hidden).filter(|(_, hidden)| *hidden >> index & 1 == 0);
                if let Some(set) = self.union(through.map(|(at, _)| seen.covered[*at].1)) {
                    self.names.add_data(digest, set, self.owners);
                }
            }
        }
        Ok(children)
    }

    /// A1: when this is called nothing more is added to the level.
    async fn level(&mut self, level: u8) -> Result<(), MapError<S::Error>> {
        let mut nodes: Vec<(Digest, SetId)> =
            std::mem::take(&mut self.bare[usize::from(level)]).into_iter().collect();
        // In order of name, as the index is: neighbours share a page.
        nodes.sort_unstable_by_key(|(digest, _)| *digest);
        for batch in nodes.chunks(NODES_AT_ONCE) {
            if self.names.is_overfull() {
                return Ok(());
            }
            let read = self.read(level, batch.iter().map(|(digest, _)| *digest).collect()).await?;
            for ((_, set), node) in batch.iter().zip(read) {
                for (_, digest) in node.children() {
                    match level {
                        0 => self.names.add_data(digest, *set, self.owners),
                        _ => self.add_bare(level - 1, digest, *set),
                    }
                }
            }
            breathe().await;
        }
        Ok(())
    }

    /// The nodes of these names, which are taken down.
    async fn read(&mut self, level: u8, digests: Vec<Digest>) -> Result<Vec<Node>, MapError<S::Error>> {
        let reads: Vec<_> =
            digests.iter().map(|digest| read_past_cache(self.store, level, *digest)).collect();
        let nodes = gather(reads, READS_IN_FLIGHT).await;
        digests.into_iter().for_each(|digest| self.names.add_node(digest, self.owners));
        nodes.into_iter().collect()
    }

    fn add_bare(&mut self, level: u8, digest: Digest, set: SetId) {
        let found = self.bare[usize::from(level)].entry(digest).or_insert(set);
        *found = self.owners.union(*found, set);
    }

    fn union(&mut self, sets: impl Iterator<Item = SetId>) -> Option<SetId> {
        sets.reduce(|one, other| self.owners.union(one, other))
    }
}
