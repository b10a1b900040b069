//! The target's side of a round's content: changes laid over forks of its own maps, point by point.
//!
//! - L1: points come in the order of `Begin`; what is said later about a block replaces what was said before.
//! - L2: what the target has beyond the common point is replaced by the first point of the volume, in which all of
//!   that is named (T3); from there on every point is exact.
//! - L3: memory: beyond [`FOLD_ENTRIES`] entries a volume's changes go into its tree.

use std::collections::BTreeMap;

use metropod_dedupe::Store;
use metropod_snapshots::{Extent, MapError, NodeStore, Nodes, Slot, VolumeMap, fold};

use super::begin::{Base, Begin, Point, Target};
use super::error::{TransferError, Violation};
use crate::layer_ids::LayerIds;
use crate::namespace::{Namespace, PodImage};

/// Entries of one volume beyond which they are folded into its tree, so that a baseline of any size fits memory.
pub(super) const FOLD_ENTRIES: usize = 1 << 20;

/// See the module's text.
pub(super) struct Builder {
    points: Vec<Point>,
    namespace: Namespace,
    have: Option<PodImage>,
    layer_ids: LayerIds,
    fold_entries: usize,
    at: usize,
    current: Option<Current>,
    built: PodImage,
}

/// The volume whose points are being built.
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
        Ok(Builder { points, namespace, have, layer_ids, fold_entries, at: 0, current: None, built })
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

    /// Whether [`Builder::fold`] is due.
    pub(super) fn wants_fold(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.entries >= self.fold_entries)
    }

    /// Puts the changes laid so far into the volume's tree. All content that they name must be in the store.
    pub(super) async fn fold(
        &mut self,
        nodes: &Nodes<Store>,
    ) -> Result<(), MapError<<Store as NodeStore>::Error>> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let image = current.map.freeze(self.layer_ids.take());
        current.map = VolumeMap::from_image(fold(&image, nodes).await?);
        current.entries = 0;
        Ok(())
    }

    /// The whole image, when every point is complete.
    pub(super) fn finish(self) -> Result<PodImage, Violation> {
        if self.at == self.points.len() { Ok(self.built) } else { Err(Violation::Order) }
    }

    /// Whether every point is complete.
    pub(super) fn is_complete(&self) -> bool {
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
