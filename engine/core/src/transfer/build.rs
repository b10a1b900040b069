//! The target's side of a round's content: changes laid over forks of its own maps, point by point.
//!
//! - L1: changes of a point come in rising order of blocks, points in the order of `Begin`.
//! - L2: a volume that continues the target's own takes on the common point's size first: what the target has beyond
//!   it is dropped, because whatever R holds there was touched since and is named.
//! - L3: a snapshot that the target took itself, between the common point and where it stands, is kept as it is: the
//!   volume it would be rebuilt on shows later writes as well.
//! - L4: memory: beyond [`FOLD_ENTRIES`] entries a volume's changes go into its tree.

use std::collections::BTreeMap;

use metropod_dedupe::Store;
use metropod_snapshots::{Extent, Image, LayerId, MapError, NodeStore, Nodes, Slot, VolumeMap, fold};

use super::begin::{Base, Begin, Point, Reach, Target};
use super::error::{TransferError, Violation};
use crate::namespace::{Namespace, PodImage};

/// Entries of one volume beyond which they are folded into its tree, so that a baseline of any size fits memory.
pub(super) const FOLD_ENTRIES: usize = 1 << 20;

/// See the module's text.
pub(super) struct Builder {
    points: Vec<Point>,
    namespace: Namespace,
    beyond: bool,
    have: Option<PodImage>,
    first_layer: LayerId,
    fold_entries: usize,
    at: usize,
    current: Option<Current>,
    built: PodImage,
}

/// The volume whose points are being built.
struct Current {
    map: VolumeMap,
    /// Whether it goes on from the target's own volume.
    own: bool,
    /// The first block that the point's next entry may name.
    next_block: u64,
    /// Entries laid since the last fold.
    entries: usize,
}

impl Builder {
    /// Prepares to build `begin`'s points; `have` is what the target holds, if the round starts from it.
    pub(super) fn new(
        begin: &Begin,
        have: Option<PodImage>,
        first_layer: LayerId,
        fold_entries: usize,
    ) -> Result<Builder, TransferError> {
        let namespace = begin.namespace().map_err(Violation::Begin)?;
        let mut built = PodImage {
            namespace: namespace.clone(),
            volumes: BTreeMap::new(),
            snapshots: BTreeMap::new(),
        };
        for point in &begin.points {
            if matches!(point.base, Base::Common { .. }) {
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
        let beyond = begin.from.is_some_and(|(_, reach)| reach == Reach::Beyond);
        let points = begin.points.clone();
        Ok(Builder { points, namespace, beyond, have, first_layer, fold_entries, at: 0, current: None, built })
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
            if entry.blocks.start < current.next_block || entry.blocks.end > current.map.size_blocks() {
                return Err(Violation::Order.into());
            }
            current.next_block = entry.blocks.end;
            match entry.slot {
                Slot::Zero => current.map.zero(entry.blocks.clone()),
                Slot::Data(_) => current.map.set(entry.blocks.start, entry.slot),
            }
        }
        current.entries += entries.len();
        if last { self.complete(current) } else { self.hold(current) }
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
        // The layer lives only until the fold is done, so its name can be the one that the point's last layer gets.
        let image = current.map.freeze(LayerId(self.first_layer.0 + self.at as u64));
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
        let (map, own) = match point.base {
            Base::Common { size_bytes: common } => {
                let volume = Target::Volume(point.target.volume());
                let own = self.have.as_ref().and_then(|have| volume.image(have)).cloned();
                let mut map =
                    VolumeMap::from_image(own.ok_or(TransferError::MissingBase { target: Some(volume) })?);
                if map.size_bytes() > common {
                    map.resize(common).map_err(too_large)?;
                }
                map.resize(size_bytes).map_err(too_large)?;
                (map, true)
            }
            Base::Nothing => (VolumeMap::new(size_bytes).map_err(too_large)?, false),
            Base::Previous => return Err(Violation::Order.into()),
        };
        Ok(Current { map, own, next_block: 0, entries: 0 })
    }

    fn hold(&mut self, current: Current) -> Result<(), TransferError> {
        self.current = Some(current);
        Ok(())
    }

    fn complete(&mut self, mut current: Current) -> Result<(), TransferError> {
        let target = self.points[self.at].target;
        let image = current.map.freeze(LayerId(self.first_layer.0 + self.at as u64));
        self.at += 1;
        match target {
            Target::Volume(volume) => {
                self.built.volumes.insert(volume, image);
            }
            Target::Snapshot(snapshot) => {
                let image = self.own_snapshot(&current, target).unwrap_or(image);
                self.built.snapshots.insert(snapshot, image);
            }
        }
        if let Some(next) = self.points.get(self.at)
            && next.base == Base::Previous
        {
            let size_bytes = self.size_of(next.target);
            current.map.resize(size_bytes).map_err(|_| TransferError::Violation(Violation::Order))?;
            current.next_block = 0;
            return self.hold(current);
        }
        Ok(())
    }

    /// The target's own image of a snapshot point (L3).
    fn own_snapshot(&self, current: &Current, target: Target) -> Option<Image> {
        let have = self.have.as_ref().filter(|_| self.beyond && current.own)?;
        target.image(have).filter(|image| image.size_bytes() == self.size_of(target)).cloned()
    }

    fn size_of(&self, target: Target) -> u64 {
        target.size_bytes(&self.namespace).expect("Begin names only what its namespace holds (checked at decode)")
    }
}
