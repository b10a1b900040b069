//! Namespace changes, decided at their place in the log: the same on both arrays (N1).

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
    /// Applies a change at `index`. A refused change leaves everything as it was.
    pub(crate) fn apply_manage(&mut self, index: Index, manage: Manage) -> Answer {
        match manage {
            Manage::CreateVolume { name, size_bytes } => self.create_volume(index, name, size_bytes),
            Manage::CreateSnapshot { volume, suffix } => self.create_snapshot(index, volume, suffix),
            Manage::CloneVolume { source, suffix, name } => self.clone_volume(index, source, suffix, name),
            Manage::SetPreference(preferred) => {
                self.namespace.preferred = preferred;
                self.changed = true;
                Ok(Managed::Done)
            }
            Manage::Invite { host, joiner } => match self.namespace.peer {
                Some(pair) if pair != (host, joiner) && pair != (joiner, host) => {
                    Err(ManageError::StretchedAlready)
                }
                _ => {
                    self.namespace.peer = Some((host, joiner));
                    self.changed = true;
                    Ok(Managed::Done)
                }
            },
        }
    }

    fn create_volume(&mut self, index: Index, name: Name, size_bytes: u64) -> Answer {
        if !size_is_valid(size_bytes) {
            return Err(ManageError::BadSize);
        }
        if self.namespace.volume(&name).is_some() {
            return Err(ManageError::VolumeExists);
        }
        let map = VolumeMap::new(size_bytes).map_err(|_| ManageError::BadSize)?;
        let id = VolumeId(index.0);
        self.namespace.volumes.insert(id, Volume { name, size_bytes });
        self.maps.insert(id, map);
        Ok(Managed::Volume(id))
    }

    fn create_snapshot(&mut self, index: Index, volume: Option<Name>, suffix: Name) -> Answer {
        let volumes: Vec<VolumeId> = match volume {
            Some(name) => vec![self.namespace.volume(&name).ok_or(ManageError::NoSuchVolume)?.0],
            None => self.namespace.volumes.keys().copied().collect(),
        };
        if volumes.iter().any(|id| self.namespace.snapshot(*id, &suffix).is_some()) {
            return Err(ManageError::SnapshotExists);
        }
        let mut taken = Vec::with_capacity(volumes.len());
        for volume in volumes {
            let id = SnapshotId { volume, taken_at: index.0 };
            let size_bytes = self.namespace.volumes[&volume].size_bytes;
            let map = self.maps.get_mut(&volume).expect("every volume of the namespace has a map");
            self.images.insert(id, map.freeze(self.layer_ids.take()));
            self.namespace.snapshots.insert(id, Snapshot { suffix: suffix.clone(), size_bytes });
            taken.push(id);
        }
        Ok(Managed::Snapshots(taken))
    }

    fn clone_volume(&mut self, index: Index, source: Name, suffix: Option<Name>, name: Name) -> Answer {
        if self.namespace.volume(&name).is_some() {
            return Err(ManageError::VolumeExists);
        }
        let (source, volume) = self.namespace.volume(&source).ok_or(ManageError::NoSuchVolume)?;
        let (image, size_bytes) = match suffix {
            None => {
                let size_bytes = volume.size_bytes;
                let map = self.maps.get_mut(&source).expect("every volume of the namespace has a map");
                (map.freeze(self.layer_ids.take()), size_bytes)
            }
            Some(suffix) => {
                let (id, snapshot) =
                    self.namespace.snapshot(source, &suffix).ok_or(ManageError::NoSuchSnapshot)?;
                (self.images[&id].clone(), snapshot.size_bytes)
            }
        };
        let id = VolumeId(index.0);
        self.namespace.volumes.insert(id, Volume { name, size_bytes });
        self.maps.insert(id, VolumeMap::from_image(image));
        Ok(Managed::Volume(id))
    }
}
