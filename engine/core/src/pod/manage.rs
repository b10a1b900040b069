//! Namespace changes, decided at their place in the log: the same on both arrays (N1).
//!
//! - N3: a refused change leaves everything as it was.
//! - N4: what is destroyed keeps its name, its content and its share of the quota until it is eradicated, so that it
//!   can always be recovered. Its I/O is refused at the door; a write that was ordered behind the destruction all the
//!   same takes place, so that recovering loses nothing acknowledged.

use metropod_protocol::Index;
use metropod_snapshots::VolumeMap;

use super::Pod;
use crate::door::{ManageError, Managed};
use crate::names::{Name, SnapshotId, VolumeId};
use crate::namespace::{Snapshot, Volume, size_is_valid};
use crate::operation::Manage;

/// What a change came to.
pub type Answer = Result<Managed, ManageError>;

impl Pod {
    /// Applies a change at `index`.
    pub(crate) fn apply_manage(&mut self, index: Index, manage: Manage) -> Answer {
        self.changed = true;
        let allowed =
            matches!(manage, Manage::Recover(_) | Manage::Eradicate { .. } | Manage::Elapsed { .. });
        if self.namespace.destroyed.is_some() && !allowed {
            return Err(ManageError::Destroyed);
        }
        self.check_not_moving(&manage)?;
        match manage {
            Manage::CreateVolume { name, size_bytes } => self.create_volume(index, name, size_bytes),
            Manage::CreateSnapshot { volume, suffix } => self.create_snapshot(index, volume, suffix),
            Manage::CloneVolume { source, suffix, name } => self.clone_volume(index, source, suffix, name),
            Manage::SetPreference(preferred) => {
                self.namespace.preferred = preferred;
                Ok(Managed::Done)
            }
            Manage::Invite { host, joiner } => match self.namespace.peer {
                Some(pair) if pair != (host, joiner) && pair != (joiner, host) => {
                    Err(ManageError::StretchedAlready)
                }
                // What is invited anew begins anew: the one that leaves is to be forgotten first.
                Some(_) if self.namespace.leaving.is_some() => Err(ManageError::Leaving),
                _ => {
                    self.namespace.peer = Some((host, joiner));
                    Ok(Managed::Done)
                }
            },
            Manage::Resize { volume, size_bytes, truncate } => self.resize(volume, size_bytes, truncate),
            Manage::Destroy { target, contents, delay_ms } => self.destroy(index, target, contents, delay_ms),
            Manage::Recover(target) => self.recover(target),
            Manage::Eradicate { target, contents, waited } => self.eradicate(target, contents, waited),
            Manage::Elapsed { since, ms } => {
                self.namespace.elapse(index, since, ms);
                Ok(Managed::Done)
            }
            Manage::Overwrite { volume, from } => self.overwrite(volume, from),
            Manage::SetQuota(quota) => {
                if quota.is_some_and(|quota| quota < self.namespace.provisioned_bytes()) {
                    return Err(ManageError::QuotaTooSmall);
                }
                self.namespace.quota_bytes = quota;
                Ok(Managed::Done)
            }
            Manage::SetEradicationDelay(delay_ms) => {
                self.namespace.eradication_delay_ms = delay_ms;
                Ok(Managed::Done)
            }
            Manage::SetLimits { volume, limits } => {
                self.used_volume(volume)?.limits = limits;
                Ok(Managed::Done)
            }
            Manage::MoveOut { volume, to } => self.move_out(index, volume, to),
            Manage::MoveIn(arrival) => self.move_in(index, arrival),
            Manage::MoveEnd { by, stays } => self.move_end(by, stays),
            Manage::Leave(leaver) => match self.namespace.peer {
                Some((one, other)) if leaver == one || leaver == other => {
                    self.namespace.leaving = Some(leaver);
                    Ok(Managed::Done)
                }
                _ => Err(ManageError::NotAMember),
            },
            Manage::Left(leaver) => {
                // Somebody may have changed his mind meanwhile.
                if self.namespace.leaving == Some(leaver) {
                    (self.namespace.peer, self.namespace.leaving) = (None, None);
                    self.namespace.preferred = None;
                }
                Ok(Managed::Done)
            }
        }
    }

    fn create_volume(&mut self, index: Index, name: Name, size_bytes: u64) -> Answer {
        if !size_is_valid(size_bytes) {
            return Err(ManageError::BadSize);
        }
        self.check_free(&name)?;
        self.check_quota(size_bytes)?;
        let map = VolumeMap::new(size_bytes).map_err(|_| ManageError::BadSize)?;
        let id = VolumeId(index.0);
        self.namespace.volumes.insert(id, Volume::new(name, size_bytes));
        self.maps.insert(id, map);
        Ok(Managed::Volume(id))
    }

    fn create_snapshot(&mut self, index: Index, volume: Option<Name>, suffix: Name) -> Answer {
        let volumes: Vec<VolumeId> = match volume {
            Some(name) => vec![self.used_volume_named(&name)?.0],
            None => {
                let used = self.namespace.volumes.iter().filter(|(_, volume)| volume.destroyed.is_none());
                used.map(|(id, _)| *id).collect()
            }
        };
        for id in &volumes {
            match self.namespace.snapshot(*id, &suffix) {
                Some((_, snapshot)) if snapshot.destroyed.is_some() => {
                    return Err(ManageError::NameOfDestroyed);
                }
                Some(_) => return Err(ManageError::SnapshotExists),
                None => {}
            }
        }
        let mut taken = Vec::with_capacity(volumes.len());
        for volume in volumes {
            let described = self.used_volume(volume)?;
            described.last_snapshot = described.next_snapshot(index);
            let (size_bytes, taken_at) = (described.size_bytes, described.last_snapshot);
            let id = SnapshotId { volume, taken_at };
            let map = self.maps.get_mut(&volume).expect("every volume of the namespace has a map");
            self.images.insert(id, map.freeze(self.layer_ids.take()));
            self.namespace.snapshots.insert(id, Snapshot::new(suffix.clone(), size_bytes));
            taken.push(id);
        }
        Ok(Managed::Snapshots(taken))
    }

    fn clone_volume(&mut self, index: Index, source: Name, suffix: Option<Name>, name: Name) -> Answer {
        self.check_free(&name)?;
        let (source, volume) = self.used_volume_named(&source)?;
        let size_bytes = match &suffix {
            None => volume.size_bytes,
            Some(suffix) => self.used_snapshot_named(source, suffix)?.1.size_bytes,
        };
        self.check_quota(size_bytes)?;
        let image = match suffix {
            None => {
                let map = self.maps.get_mut(&source).expect("every volume of the namespace has a map");
                map.freeze(self.layer_ids.take())
            }
            Some(suffix) => {
                let id = self.used_snapshot_named(source, &suffix)?.0;
                self.images[&id].clone()
            }
        };
        let id = VolumeId(index.0);
        self.namespace.volumes.insert(id, Volume::new(name, size_bytes));
        self.maps.insert(id, VolumeMap::from_image(image));
        Ok(Managed::Volume(id))
    }

    /// Whether a new volume may have this name.
    pub(super) fn check_free(&self, name: &Name) -> Result<(), ManageError> {
        match self.namespace.volume(name) {
            None => Ok(()),
            Some((_, volume)) if volume.destroyed.is_some() => Err(ManageError::NameOfDestroyed),
            Some(_) => Err(ManageError::VolumeExists),
        }
    }

    /// Whether the volumes may grow by so much in all.
    pub(super) fn check_quota(&self, more_bytes: u64) -> Result<(), ManageError> {
        let wanted = self.namespace.provisioned_bytes().saturating_add(more_bytes);
        match self.namespace.quota_bytes {
            Some(quota) if wanted > quota && more_bytes > 0 => Err(ManageError::OverQuota),
            _ => Ok(()),
        }
    }

    fn used_volume_named(&self, name: &Name) -> Result<(VolumeId, &Volume), ManageError> {
        match self.namespace.volume(name) {
            None => Err(ManageError::NoSuchVolume),
            Some((_, volume)) if volume.destroyed.is_some() => Err(ManageError::Destroyed),
            Some(found) => Ok(found),
        }
    }

    fn used_snapshot_named(
        &self,
        volume: VolumeId,
        suffix: &Name,
    ) -> Result<(SnapshotId, &Snapshot), ManageError> {
        match self.namespace.snapshot(volume, suffix) {
            None => Err(ManageError::NoSuchSnapshot),
            Some((_, snapshot)) if snapshot.destroyed.is_some() => Err(ManageError::Destroyed),
            Some(found) => Ok(found),
        }
    }
}
