//! Sizes, overwriting, and the end of things: destroyed, then recovered or eradicated.
//!
//! ```text
//! in use ── destroy ──► destroyed ── it has waited, or somebody's wish ──► eradicated: name and roots are gone
//!    ◄────── recover ──────┘
//! ```
//! Eradicating frees nothing by itself: maps and images stop being roots, and what they alone named is found unused
//! by the store's collection.

use metropod_protocol::Index;
use metropod_snapshots::{Image, VolumeMap};

use super::Pod;
use super::manage::Answer;
use crate::door::{ManageError, Managed, Source};
use crate::names::{SnapshotId, VolumeId};
use crate::namespace::{Destroyed, Volume, size_is_valid};
use crate::operation::{BLOCK_BYTES, Content, Target};

impl Pod {
    pub(super) fn resize(&mut self, volume: VolumeId, size_bytes: u64, truncate: bool) -> Answer {
        if !size_is_valid(size_bytes) {
            return Err(ManageError::BadSize);
        }
        let before = self.used_volume(volume)?.size_bytes;
        if size_bytes < before {
            if !truncate {
                return Err(ManageError::WouldShrink);
            }
            // The rest of a block that is cut would have to be zeroed, in case the volume grows again.
            if !size_bytes.is_multiple_of(BLOCK_BYTES) {
                return Err(ManageError::BadTruncation);
            }
        }
        self.check_quota(size_bytes.saturating_sub(before))?;
        self.dropped_content |= size_bytes < before;
        let map = self.maps.get_mut(&volume).expect("every volume of the namespace has a map");
        map.resize(size_bytes).map_err(|_| ManageError::BadSize)?;
        self.used_volume(volume)?.size_bytes = size_bytes;
        Ok(Managed::Done)
    }

    /// The volume reads as `from` does; it does not get smaller, zeroes follow the end of a smaller source.
    pub(super) fn overwrite(&mut self, volume: VolumeId, from: Content) -> Answer {
        let before = self.used_volume(volume)?.size_bytes;
        let source_bytes = match from {
            Content::Volume(id) => self.used_volume(id)?.size_bytes,
            Content::Snapshot(id) => {
                self.used_volume(id.volume)?;
                let snapshot = self.namespace.snapshots.get(&id).ok_or(ManageError::NoSuchSnapshot)?;
                if snapshot.destroyed.is_some() {
                    return Err(ManageError::Destroyed);
                }
                snapshot.size_bytes
            }
        };
        let size_bytes = before.max(source_bytes);
        self.check_quota(size_bytes - before)?;
        let mut map = VolumeMap::from_image(self.image_of(from));
        map.resize(size_bytes).map_err(|_| ManageError::BadSize)?;
        self.let_go.extend(self.maps.insert(volume, map));
        self.dropped_content = true;
        self.used_volume(volume)?.size_bytes = size_bytes;
        Ok(Managed::Done)
    }

    pub(super) fn destroy(&mut self, index: Index, target: Target, contents: bool, delay_ms: u64) -> Answer {
        match target {
            Target::Pod => {
                if self.namespace.peer.is_some() {
                    return Err(ManageError::Stretched);
                }
                let mut volumes = self.namespace.volumes.values();
                if !contents && volumes.any(|volume| volume.destroyed.is_none()) {
                    return Err(ManageError::HasContents);
                }
            }
            Target::Volume(_) => {}
            // A snapshot's life is its own only while its volume lives.
            Target::Snapshot(id) => drop(self.used_volume(id.volume)?),
        }
        if self.state_of(target)?.is_some() {
            return Err(ManageError::Destroyed);
        }
        self.namespace.begin_counting(index);
        *self.state_of(target)? = Some(Destroyed { by: index, left_ms: delay_ms });
        Ok(Managed::Done)
    }

    pub(super) fn recover(&mut self, target: Target) -> Answer {
        if self.namespace.destroyed.is_some() && target != Target::Pod {
            return Err(ManageError::Destroyed);
        }
        match self.state_of(target)?.take() {
            Some(_) => Ok(Managed::Done),
            None => Err(ManageError::NotDestroyed),
        }
    }

    pub(super) fn eradicate(&mut self, target: Target, contents: bool, waited: Option<Index>) -> Answer {
        let state = (*self.state_of(target)?).ok_or(ManageError::NotDestroyed)?;
        // It may have been recovered and destroyed again since the proposal.
        if waited.is_some_and(|by| by != state.by) {
            return Err(ManageError::NotDestroyed);
        }
        self.dropped_content = true;
        match target {
            Target::Pod if !contents && !self.namespace.volumes.is_empty() => {
                return Err(ManageError::HasContents);
            }
            Target::Pod => self.gone = true,
            Target::Volume(volume) => self.remove_volume(volume),
            Target::Snapshot(snapshot) => {
                self.namespace.snapshots.remove(&snapshot);
                self.let_go.extend(self.images.remove(&snapshot).map(VolumeMap::from_image));
            }
        }
        Ok(Managed::Done)
    }

    /// Removes a volume and its snapshots.
    pub(super) fn remove_volume(&mut self, volume: VolumeId) {
        self.namespace.volumes.remove(&volume);
        self.let_go.extend(self.maps.remove(&volume));
        self.namespace.snapshots.retain(|id, _| id.volume != volume);
        let images = self.images.extract_if(.., |id, _| id.volume == volume);
        self.let_go.extend(images.map(|(_, image)| VolumeMap::from_image(image)));
    }

    /// A volume that is not destroyed.
    pub(super) fn used_volume(&mut self, id: VolumeId) -> Result<&mut Volume, ManageError> {
        let volume = self.namespace.volumes.get_mut(&id).ok_or(ManageError::NoSuchVolume)?;
        if volume.destroyed.is_some() { Err(ManageError::Destroyed) } else { Ok(volume) }
    }

    /// Whether a target is destroyed; the target must exist.
    fn state_of(&mut self, target: Target) -> Result<&mut Option<Destroyed>, ManageError> {
        match target {
            Target::Pod => Ok(&mut self.namespace.destroyed),
            Target::Volume(id) => {
                let volume = self.namespace.volumes.get_mut(&id).ok_or(ManageError::NoSuchVolume)?;
                Ok(&mut volume.destroyed)
            }
            Target::Snapshot(id) => {
                let snapshot = self.namespace.snapshots.get_mut(&id).ok_or(ManageError::NoSuchSnapshot)?;
                Ok(&mut snapshot.destroyed)
            }
        }
    }

    /// The frozen content of a volume as it is now, or of a snapshot; both must exist.
    pub(crate) fn image_of(&mut self, content: Content) -> Image {
        match content {
            Content::Volume(id) => {
                let map = self.maps.get_mut(&id).expect("every volume of the namespace has a map");
                map.freeze(self.layer_ids.take())
            }
            Content::Snapshot(id) => self.images[&id].clone(),
        }
    }

    /// Whether a volume or snapshot exists, destroyed or not.
    pub fn is_there(&self, source: Source) -> bool {
        match source {
            Source::Volume(id) => self.namespace.volumes.contains_key(&id),
            Source::Snapshot(id) => self.namespace.snapshots.contains_key(&id),
        }
    }

    /// Whether hosts may use a volume or snapshot.
    pub fn is_in_use(&self, source: Source) -> bool {
        match source {
            Source::Volume(id) => self.namespace.is_in_use(id),
            Source::Snapshot(id) => self.snapshot_in_use(id),
        }
    }

    /// Whether hosts may read a snapshot.
    pub(crate) fn snapshot_in_use(&self, id: SnapshotId) -> bool {
        self.namespace.is_in_use(id.volume)
            && self.namespace.snapshots.get(&id).is_some_and(|snapshot| snapshot.destroyed.is_none())
    }
}
