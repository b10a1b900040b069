//! A pod's part in the move of a volume to another pod of the array; `array/moves.rs` tells the whole.
//!
//! - V1: whether a volume is taken depends on this pod's namespace alone, so a replay decides as the first time did.
//! - V2: while it is on its way nothing but the end of the move changes what describes it. Hosts' writes that were ordered
//!   behind the entry that sent it, and acknowledged, still take place; what is taken over is what they left.
//! - V3: its snapshots come with it, under their numbers (`namespace.rs`, N3). How long a destroyed one still waits the entry
//!   says, and it is the same for all: the entry that brought them stands for their destruction here.

use metropod_protocol::{Body, Index, PodId};
use metropod_snapshots::{Image, VolumeMap};

use super::Pod;
use super::manage::Answer;
use crate::door::{ManageError, Managed};
use crate::names::{SnapshotId, VolumeId};
use crate::namespace::{Arrived, Destroyed, Moving, Snapshot, Volume, size_is_valid};
use crate::operation::{Arrival, Content, Manage, Operation, Target, is_move_in};

/// What a volume that comes holds: it and its snapshots, as they are in the pod that it leaves.
pub(crate) struct Coming {
    live: Image,
    last_snapshot: u64,
    snapshots: Vec<(SnapshotId, Snapshot, Image)>,
}

impl Pod {
    /// What names the volume on its way, or ends or stretches the pod that it leaves, has to wait.
    pub(super) fn check_not_moving(&self, manage: &Manage) -> Result<(), ManageError> {
        let Some(Moving { volume: moving, .. }) = self.namespace.moving else { return Ok(()) };
        let is_named = |name| self.namespace.volume(name).is_some_and(|(id, _)| id == moving);
        let concerned = match manage {
            Manage::Invite { .. } | Manage::MoveOut { .. } => true,
            Manage::CreateSnapshot { volume: None, .. } => true,
            Manage::CreateSnapshot { volume: Some(name), .. } => is_named(name),
            Manage::CloneVolume { source, .. } => is_named(source),
            Manage::Destroy { target, .. } | Manage::Recover(target) | Manage::Eradicate { target, .. } => {
                match target {
                    Target::Pod => true,
                    Target::Volume(volume) => *volume == moving,
                    Target::Snapshot(id) => id.volume == moving,
                }
            }
            Manage::Overwrite { volume, from } => {
                let source = match from {
                    Content::Volume(source) => *source,
                    Content::Snapshot(id) => id.volume,
                };
                *volume == moving || source == moving
            }
            Manage::Resize { volume, .. } | Manage::SetLimits { volume, .. } => *volume == moving,
            _ => false,
        };
        if concerned { Err(ManageError::Moving) } else { Ok(()) }
    }

    pub(super) fn move_out(&mut self, index: Index, volume: VolumeId, to: PodId) -> Answer {
        self.check_leaves(volume)?;
        if to == self.id {
            return Err(ManageError::MoveToSamePod);
        }
        self.namespace.moving = Some(Moving { volume, to, by: index });
        Ok(Managed::Done)
    }

    /// Whether a volume may leave.
    pub(crate) fn check_leaves(&mut self, volume: VolumeId) -> Result<(), ManageError> {
        if self.namespace.destroyed.is_some() {
            return Err(ManageError::Destroyed);
        }
        self.used_volume(volume)?;
        if self.namespace.peer.is_some() {
            return Err(ManageError::MoveOfStretched);
        }
        if self.namespace.moving.is_some() {
            return Err(ManageError::Moving);
        }
        Ok(())
    }

    /// The entry that brings the volume on its way to its new pod, if it comes next there.
    pub(crate) fn arrival(&self, through: Index) -> Option<(PodId, Arrival)> {
        let Moving { volume, to, by } = self.namespace.moving?;
        let Volume { name, size_bytes, limits, .. } = self.namespace.volumes.get(&volume)?.clone();
        let snapshots = self.namespace.snapshots.iter().filter(|(id, _)| id.volume == volume);
        let left = snapshots.filter_map(|(_, snapshot)| Some(snapshot.destroyed?.left_ms)).max();
        let left_ms = left.unwrap_or(0);
        Some((to, Arrival { from: self.id, by, through, volume, name, size_bytes, limits, left_ms }))
    }

    /// What the volume on its way holds; `None` if that entry does not bring it.
    pub(crate) fn leaving(&mut self, arrival: &Arrival) -> Option<Coming> {
        let Moving { volume, by, .. } = self.namespace.moving?;
        if (volume, by) != (arrival.volume, arrival.by) {
            return None;
        }
        let snapshots = self.namespace.snapshots.iter().filter(|(id, _)| id.volume == volume);
        let snapshots = snapshots.map(|(id, found)| (*id, found.clone(), self.images[id].clone())).collect();
        let last_snapshot = self.namespace.volumes.get(&volume)?.last_snapshot;
        Some(Coming { live: self.image_of(Content::Volume(volume)), last_snapshot, snapshots })
    }

    /// Whether a volume may come (V1).
    pub(crate) fn check_takes(&self, volume: &Volume) -> Result<(), ManageError> {
        if self.namespace.destroyed.is_some() {
            return Err(ManageError::TargetDestroyed);
        }
        if self.namespace.peer.is_some() {
            return Err(ManageError::MoveOfStretched);
        }
        if !size_is_valid(volume.size_bytes) {
            return Err(ManageError::BadSize);
        }
        self.check_free(&volume.name)?;
        self.check_quota(volume.size_bytes)
    }

    pub(super) fn move_in(&mut self, index: Index, arrival: Arrival) -> Answer {
        let content = self.arriving.take();
        if self.has_taken(arrival.from, arrival.by) {
            return Ok(Managed::Done);
        }
        let volume = described(&arrival);
        self.check_takes(&volume)?;
        let Coming { live, last_snapshot, snapshots } = content.ok_or(ManageError::Media)?;
        let id = VolumeId(index.0);
        self.namespace.arrived.insert(arrival.from, Arrived { by: arrival.by, volume: id });
        self.namespace.volumes.insert(id, Volume { last_snapshot, ..volume });
        self.maps.insert(id, VolumeMap::from_image(live));
        if snapshots.iter().any(|(_, snapshot, _)| snapshot.destroyed.is_some()) {
            self.namespace.begin_counting(index);
        }
        for (SnapshotId { taken_at, .. }, mut snapshot, image) in snapshots {
            let here = SnapshotId { volume: id, taken_at };
            snapshot.destroyed =
                snapshot.destroyed.map(|_| Destroyed { by: index, left_ms: arrival.left_ms });
            self.namespace.snapshots.insert(here, snapshot);
            self.images.insert(here, image);
        }
        Ok(Managed::Volume(id))
    }

    pub(super) fn move_end(&mut self, by: Index, stays: bool) -> Answer {
        let Some(moving) = self.namespace.moving.filter(|moving| moving.by == by) else {
            return Ok(Managed::Done);
        };
        self.namespace.moving = None;
        if !stays {
            self.remove_volume(moving.volume);
        }
        Ok(Managed::Done)
    }

    /// Whether the volume of a move has come here.
    pub(crate) fn has_taken(&self, from: PodId, by: Index) -> bool {
        self.namespace.arrived.get(&from).is_some_and(|last| last.by >= by)
    }

    /// The volume that the next committed entry brings, if it brings one that is taken: its content is needed first.
    pub(crate) fn next_arrival(&self) -> Option<Arrival> {
        if self.damaged || self.applied >= self.committed {
            return None;
        }
        let entry = self.machine.entry(self.applied.next())?;
        match &entry.body {
            Body::Operation { descriptor, .. } if is_move_in(descriptor) => {}
            _ => return None,
        }
        match self.operation_of(entry) {
            Ok(Some(Operation::Manage(Manage::MoveIn(arrival))))
                if !self.has_taken(arrival.from, arrival.by)
                    && self.check_takes(&described(&arrival)).is_ok() =>
            {
                Some(arrival)
            }
            _ => None,
        }
    }
}

fn described(arrival: &Arrival) -> Volume {
    Volume { limits: arrival.limits, ..Volume::new(arrival.name.clone(), arrival.size_bytes) }
}
