//! Keeping the layers of all volumes and snapshots few and within memory: one flow merges or folds some, then every image
//! takes over what was made.
//!
//! ```text
//! wanted ─► one step: images collected ─► flow: survey, merge or fold ─► steps: images reworked, some at a time ─► wanted?
//! ```
//! - L1: one flow at a time, so that what it made fits the images: only freezes happen meanwhile, and they go on top.
//! - L2: images read the same before, while and after they are reworked; those made meanwhile of older ones are met by
//!   the next round. A fork point, and what is on its way to become one, is reworked with the volumes.
//! - L3: a step handles at most [`REWORKED_AT_ONCE`] images, and drops no layer: dropping a large one takes long, so a flow does.
//! - L4: a group whose tree cannot be read is left alone until the next start; the others are still folded.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use metropod_dedupe::Store;
use metropod_protocol::{PodId, Time};
use metropod_snapshots::{
    Image, Layer, LayerId, Limits, Nodes, Rework, Stack, VolumeMap, Work, fold, merge_in_turns, survey,
};

use super::Array;
use super::retry::Kind;
use crate::catchup::CatchUp;
use crate::layer_ids::LayerIds;
use crate::names::{SnapshotId, VolumeId};
use crate::pod::Pod;
use crate::task::{Finished, FlowError, NotUpkept, Upkept};

/// Images reworked in one step.
const REWORKED_AT_ONCE: usize = 256;

/// Groups remembered as not to be folded (L4).
const UNFOLDABLE_MAX: usize = 64;

/// Entries, as a multiple of those allowed, above which host writes wait for folds.
const ENTRIES_SHARE_MAX: usize = 2;

/// State of the upkeep.
#[derive(Default)]
pub(super) struct Upkeep {
    wanted: bool,
    running: bool,
    reworking: Option<Reworking>,
    unfoldable: BTreeSet<LayerId>,
    /// Entries of all layers when they were last looked at.
    entries: usize,
}

/// Images that take over what was made.
struct Reworking {
    reworks: Vec<Rework>,
    /// Where to go on.
    pod: Option<PodId>,
    place: Place,
    /// Whether the flow that made it waits for its end.
    of_flow: bool,
}

/// A place among the images of a pod, in the order in which they are reworked: what is made of an image while that goes on
/// is made of one that was reworked, or comes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Place {
    part: usize,
    volume: Option<VolumeId>,
    snapshot: Option<SnapshotId>,
}

/// Parts of a pod that hold images: volumes, snapshots; those two of the fork point; those two of the round being sent.
const PARTS: usize = 6;

impl Upkeep {
    pub(super) fn is_idle(&self) -> bool {
        !self.running && self.reworking.is_none()
    }

    /// Layers were added.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }
}

impl Array {
    /// Starts a flow if there may be work.
    pub(super) fn keep_layers(&mut self) {
        let due = self.upkeep.wanted && self.upkeep.is_idle();
        // A pass begins when no root is being made beside the images (collect.rs, L2).
        if !due || self.collection.is_due() || !self.background.retries.may_start(Kind::Fold) {
            return;
        }
        self.upkeep.wanted = false;
        self.upkeep.running = true;
        let stacks = self.pods.values().flat_map(Pod::stacks).collect();
        let (limits, unfoldable) = (self.config.overlay, self.upkeep.unfoldable.clone());
        let (nodes, layer_ids) = (self.nodes.clone(), self.layer_ids.clone());
        self.run("upkeep", async move {
            Finished::Upkept(upkeep(stacks, limits, unfoldable, nodes, layer_ids).await.map(Box::new))
        });
    }

    pub(super) fn upkept(&mut self, now: Time, result: Result<Box<Upkept>, NotUpkept>) {
        self.upkeep.running = false;
        self.collection.review();
        self.note(now, Kind::Fold, result.as_ref().err().map(|failed| failed.error));
        match result {
            Ok(upkept) => {
                self.upkeep.entries = upkept.entries;
                if let Some(rework) = upkept.rework {
                    self.rework(vec![rework], true);
                }
            }
            Err(failed) => {
                self.upkeep.wanted = true;
                if let (FlowError::Damaged, Some(oldest)) = (failed.error, failed.oldest)
                    && self.upkeep.unfoldable.len() < UNFOLDABLE_MAX
                {
                    self.upkeep.unfoldable.insert(oldest);
                }
            }
        }
    }

    /// Layers that a checkpoint has packed take the place of their tables.
    pub(super) fn adopt_packed(&mut self, packed: BTreeMap<LayerId, Arc<Layer>>) {
        if !packed.is_empty() {
            self.rework(vec![Rework::Packed(packed)], false);
        }
    }

    fn rework(&mut self, mut reworks: Vec<Rework>, mut of_flow: bool) {
        if let Some(other) = self.upkeep.reworking.take() {
            // From the beginning again: what was met already has no more of the other's layers.
            of_flow |= other.of_flow;
            reworks.splice(0..0, other.reworks);
        }
        self.upkeep.reworking = Some(Reworking { reworks, pod: None, place: Place::default(), of_flow });
        self.rework_some();
    }

    /// Reworks the next images; asks for another step if some are left.
    pub(super) fn rework_some(&mut self) {
        let Some(mut reworking) = self.upkeep.reworking.take() else { return };
        let mut left = REWORKED_AT_ONCE;
        let mut replaced = Vec::new();
        while left > 0 {
            let next = match reworking.pod {
                None => self.pods.iter_mut().next(),
                Some(pod) if reworking.place.part < PARTS => self.pods.range_mut(pod..).next(),
                Some(pod) => self.pods.range_mut((Excluded(pod), Unbounded)).next(),
            };
            let Some((pod, found)) = next else { break };
            if reworking.pod != Some(*pod) {
                (reworking.pod, reworking.place) = (Some(*pod), Place::default());
            }
            found.rework(&reworking.reworks, &mut reworking.place, &mut left, &mut replaced);
        }
        if left > 0 {
            // All were met. The old layers go with the last images that have them, in a flow (L3).
            let Reworking { reworks, of_flow, .. } = reworking;
            self.upkeep.wanted |= of_flow;
            self.collection.review();
            self.run("drop layers", async move {
                drop((replaced, reworks));
                Finished::Turn
            });
            return;
        }
        self.upkeep.reworking = Some(reworking);
        self.run("rework", async move {
            drop(replaced);
            Finished::Turn
        });
    }

    /// Drops what applying has let go of (L3).
    pub(super) fn drop_let_go(&mut self, pod: PodId) {
        let Some(found) = self.pods.get_mut(&pod) else { return };
        if found.let_go.is_empty() {
            return;
        }
        let let_go = std::mem::take(&mut found.let_go);
        self.run("drop layers", async move {
            drop(let_go);
            Finished::Turn
        });
    }

    /// Whether layers leave room for more.
    pub(super) fn has_layer_room(&self) -> bool {
        self.upkeep.entries <= self.config.overlay.entries_max.saturating_mul(ENTRIES_SHARE_MAX)
    }

    /// Entries of all layers when they were last looked at.
    pub fn layer_entries(&self) -> usize {
        self.upkeep.entries
    }
}

/// One piece of work.
async fn upkeep(
    stacks: Vec<Stack>,
    limits: Limits,
    unfoldable: BTreeSet<LayerId>,
    nodes: Nodes<Store>,
    layer_ids: LayerIds,
) -> Result<Upkept, NotUpkept> {
    let found = survey(&stacks, limits, &unfoldable);
    let rework = match found.work {
        None => None,
        Some(Work::Merge(run)) => {
            let into = Arc::new(merge_in_turns(&run, layer_ids.take()).await);
            Some(Rework::Merged { run: run.iter().map(|layer| layer.id()).collect(), into })
        }
        Some(Work::Fold(from)) => {
            let oldest = from.layers().first().map(|layer| layer.id());
            let into =
                fold(&from, &nodes).await.map_err(|error| NotUpkept { oldest, error: error.into() })?;
            Some(Rework::Folded { from, into })
        }
    };
    Ok(Upkept { entries: found.entries, rework })
}

impl Pod {
    /// Every image with layers. What a resync starts from, or will, is fenced.
    fn stacks(&self) -> impl Iterator<Item = Stack> {
        let of = |fenced: bool| {
            move |image: &Image| (!image.layers().is_empty()).then(|| Stack { image: image.clone(), fenced })
        };
        let own = self.maps.values().map(VolumeMap::image).chain(self.images.values());
        let fork = self.fork.as_ref().map(|fork| &fork.image);
        let sent = match &self.catch_up {
            CatchUp::Sending(sending) => Some(&sending.image),
            _ => None,
        };
        let fenced = fork.into_iter().chain(sent);
        let volumes = fenced.clone().flat_map(|image| image.volumes.values()).filter_map(of(true));
        let snapshots = fenced.flat_map(|image| image.snapshots.values()).filter_map(of(false));
        own.filter_map(of(false)).chain(volumes).chain(snapshots)
    }

    /// Reworks images from `place` on, at most `left`; what they were before goes to `replaced`.
    fn rework(&mut self, reworks: &[Rework], place: &mut Place, left: &mut usize, replaced: &mut Vec<Image>) {
        while place.part < PARTS && *left > 0 {
            let fork = self.fork.as_mut().map(|fork| &mut fork.image);
            let sent = match &mut self.catch_up {
                CatchUp::Sending(sending) => Some(&mut sending.image),
                _ => None,
            };
            let image = |image: &mut Image| {
                for rework in reworks {
                    if let Some(new) = image.reworked(rework) {
                        replaced.push(std::mem::replace(image, new));
                    }
                }
            };
            let ended = match place.part {
                0 => each(&mut self.maps, &mut place.volume, left, |map| {
                    replaced.extend(reworks.iter().filter_map(|rework| map.rework(rework)));
                }),
                1 => each(&mut self.images, &mut place.snapshot, left, image),
                2 => fork.is_none_or(|fork| each(&mut fork.volumes, &mut place.volume, left, image)),
                3 => fork.is_none_or(|fork| each(&mut fork.snapshots, &mut place.snapshot, left, image)),
                4 => sent.is_none_or(|sent| each(&mut sent.volumes, &mut place.volume, left, image)),
                _ => sent.is_none_or(|sent| each(&mut sent.snapshots, &mut place.snapshot, left, image)),
            };
            if ended {
                *place = Place { part: place.part + 1, ..Place::default() };
            }
        }
    }
}

/// Hands on the values after `after`, at most `left`; says whether there are no more.
fn each<K: Ord + Copy, V>(
    map: &mut BTreeMap<K, V>,
    after: &mut Option<K>,
    left: &mut usize,
    mut take: impl FnMut(&mut V),
) -> bool {
    let begin = after.map_or(Unbounded, Excluded);
    for (key, value) in map.range_mut((begin, Unbounded)) {
        if *left == 0 {
            return false;
        }
        *left -= 1;
        *after = Some(*key);
        take(value);
    }
    true
}
