//! The target's side of a round's content: changes laid over forks of its own maps, point by point.
//!
//! - L1: points come in the order of `Begin`; what is said later about a block replaces what was said before.
//! - L2: what the target has beyond the common point is replaced by the first point of the volume, in which all of
//!   that is named (T3); from there on every point is exact.
//! - L3: memory: beyond [`FOLD_ENTRIES`] entries a volume's changes go into its tree.
//! - L4: whatever was asked for or arrived is named by [`Building::images`] from before the store is asked until the round is
//!   over, so that a collection may begin at any time except during a fold.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metropod_dedupe::Store;
use metropod_snapshots::{Extent, Image, MapError, NodeStore, Nodes, Slot, VolumeMap, fold};

use super::begin::{Base, Begin, Point, Target};
use super::error::{TransferError, Violation};
use crate::checkpoint::images_of;
use crate::layer_ids::LayerIds;
use crate::namespace::{Namespace, PodImage};

/// Entries of one volume beyond which they are folded into its tree, so that a baseline of any size fits memory.
pub(super) const FOLD_ENTRIES: usize = 1 << 20;

/// What has come of a round so far, shared by the flow that builds it and whoever must know what it names (L4).
#[derive(Debug, Clone, Default)]
pub struct Building {
    /// What the round may start from: the flow has it from before its first step, the volumes go on.
    held: Vec<Image>,
    builder: Arc<Mutex<Option<Builder>>>,
}

impl Building {
    /// A round that may start from `held` (L4).
    pub fn from_held(held: &PodImage) -> Building {
        Building { held: images_of(held).cloned().collect(), builder: Arc::default() }
    }

    pub(super) fn begin(&self, builder: Builder) {
        *self.lock() = Some(builder);
    }

    /// Everything that the round names so far; `None` while new nodes exist that nothing names yet.
    pub fn images(&self) -> Option<Vec<Image>> {
        match &mut *self.lock() {
            Some(builder) => builder.images(),
            None => Some(self.held.clone()),
        }
    }

    /// See [`Builder::lay`].
    pub(super) fn lay(&self, point: u32, entries: &[Extent], last: bool) -> Result<(), TransferError> {
        self.with(|builder| builder.lay(point, entries, last))
    }

    /// Whether [`Building::fold`] is due.
    pub(super) fn wants_fold(&self) -> bool {
        self.with(|builder| builder.wants_fold())
    }

    /// Puts the changes laid so far into the volume's tree. All content that they name must be in the store.
    pub(super) async fn fold(
        &self,
        nodes: &Nodes<Store>,
    ) -> Result<(), MapError<<Store as NodeStore>::Error>> {
        let Some(image) = self.with(Builder::begin_fold) else { return Ok(()) };
        let folded = fold(&image, nodes).await?;
        self.with(|builder| builder.end_fold(folded));
        Ok(())
    }

    /// The whole image, when every point is complete.
    pub(super) fn finish(&self) -> Result<PodImage, Violation> {
        self.with(|builder| builder.finish())
    }

    /// Whether every point is complete.
    pub(super) fn is_complete(&self) -> bool {
        self.with(|builder| builder.is_complete())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Builder) -> T) -> T {
        act(self.lock().as_mut().expect("the round has begun to build"))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Builder>> {
        self.builder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Builder {
    points: Vec<Point>,
    namespace: Namespace,
    have: Option<PodImage>,
    layer_ids: LayerIds,
    fold_entries: usize,
    at: usize,
    current: Option<Current>,
    built: PodImage,
    folding: bool,
}

/// The volume whose points are being built.
#[derive(Debug)]
struct Current {
    map: VolumeMap,
    /// Entries laid since the last fold.
    entries: usize,
}

impl Builder {
    /// Prepares to build `begin`'s points; `have` is what the target holds, if the round starts from it.
    pub(super) fn new(
        begin: &Begin,
        have: Option<PodImage>,
        layer_ids: LayerIds,
        fold_entries: usize,
    ) -> Result<Builder, TransferError> {
        let namespace = begin.namespace().map_err(Violation::Begin)?;
        let mut built =
            PodImage { namespace: namespace.clone(), volumes: BTreeMap::new(), snapshots: BTreeMap::new() };
        for point in &begin.points {
            if matches!(point.base, Base::Common) {
                let volume = Target::Volume(point.target.volume());
                have.as_ref()
                    .and_then(|have| volume.image(have))
                    .ok_or(TransferError::MissingBase { target: Some(volume) })?;
            }
        }
        for (id, snapshot) in &namespace.snapshots {
            let target = Target::Snapshot(*id);
            if begin.points.iter().any(|point| point.target == target) {
                continue;
            }
            let image = have.as_ref().and_then(|have| target.image(have));
            let image = image
                .filter(|image| image.size_bytes() == snapshot.size_bytes)
                .ok_or(TransferError::MissingBase { target: Some(target) })?;
            built.snapshots.insert(*id, image.clone());
        }
        let points = begin.points.clone();
        Ok(Builder {
            points,
            namespace,
            have,
            layer_ids,
            fold_entries,
            at: 0,
            current: None,
            built,
            folding: false,
        })
    }

    /// Lays changes of `point`; `last` completes it.
    pub(super) fn lay(&mut self, point: u32, entries: &[Extent], last: bool) -> Result<(), TransferError> {
        if point as usize != self.at || self.at >= self.points.len() {
            return Err(Violation::Order.into());
        }
        let mut current = match self.current.take() {
            Some(current) => current,
            None => self.start(self.points[self.at])?,
        };
        for entry in entries {
            if entry.blocks.end > current.map.size_blocks() {
                return Err(Violation::Order.into());
            }
            match entry.slot {
                Slot::Zero => current.map.zero(entry.blocks.clone()),
                Slot::Data(_) => current.map.set(entry.blocks.start, entry.slot),
            }
        }
        current.entries += entries.len();
        if last {
            return self.complete(current);
        }
        self.current = Some(current);
        Ok(())
    }

    fn wants_fold(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.entries >= self.fold_entries)
    }

    /// What is to be folded.
    fn begin_fold(&mut self) -> Option<Image> {
        let current = self.current.as_mut()?;
        self.folding = true;
        Some(current.map.freeze(self.layer_ids.take()))
    }

    /// The same as a tree; nothing was laid meanwhile.
    fn end_fold(&mut self, folded: Image) {
        self.folding = false;
        if let Some(current) = &mut self.current {
            current.map = VolumeMap::from_image(folded);
            current.entries = 0;
        }
    }

    fn images(&mut self) -> Option<Vec<Image>> {
        if self.folding {
            return None;
        }
        let mut images: Vec<Image> = images_of(&self.built).cloned().collect();
        images.extend(self.have.iter().flat_map(images_of).cloned());
        if let Some(current) = &mut self.current {
            images.push(current.map.freeze(self.layer_ids.take()));
        }
        Some(images)
    }

    fn finish(&self) -> Result<PodImage, Violation> {
        if self.at == self.points.len() { Ok(self.built.clone()) } else { Err(Violation::Order) }
    }

    fn is_complete(&self) -> bool {
        self.at == self.points.len()
    }

    /// The map that the first changes of a volume are laid over.
    fn start(&self, point: Point) -> Result<Current, TransferError> {
        let size_bytes = self.size_of(point.target);
        let too_large = |_| TransferError::Violation(Violation::Order);
        let map = match point.base {
            Base::Common => {
                let volume = Target::Volume(point.target.volume());
                let own = self.have.as_ref().and_then(|have| volume.image(have)).cloned();
                let mut map =
                    VolumeMap::from_image(own.ok_or(TransferError::MissingBase { target: Some(volume) })?);
                map.resize(size_bytes).map_err(too_large)?;
                map
            }
            Base::Nothing => VolumeMap::new(size_bytes).map_err(too_large)?,
            Base::Previous => return Err(Violation::Order.into()),
        };
        Ok(Current { map, entries: 0 })
    }

    fn complete(&mut self, mut current: Current) -> Result<(), TransferError> {
        let target = self.points[self.at].target;
        let image = current.map.freeze(self.layer_ids.take());
        self.at += 1;
        match target {
            Target::Volume(volume) => {
                self.built.volumes.insert(volume, image);
            }
            Target::Snapshot(snapshot) => {
                self.built.snapshots.insert(snapshot, image);
            }
        }
        if let Some(next) = self.points.get(self.at)
            && next.base == Base::Previous
        {
            let size_bytes = self.size_of(next.target);
            current.map.resize(size_bytes).map_err(|_| TransferError::Violation(Violation::Order))?;
            self.current = Some(current);
        }
        Ok(())
    }

    fn size_of(&self, target: Target) -> u64 {
        target
            .size_bytes(&self.namespace)
            .expect("Begin names only what its namespace holds (checked at decode)")
    }
}
