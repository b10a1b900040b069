//! Frozen content for managers: volumes and snapshots as they are at one point of the log, held while somebody has it.
//!
//! ```text
//! asked ─► held: waits ─► the right to serve: position = end of the log ─► applied up to there ─► frozen, given
//!             └── off, damaged, gone: refused
//! ```
//! - Z1: what was acknowledged before it was asked for is in it: every such entry is in the log when the position is fixed.
//! - Z2: all of one request is frozen at one point of the log. Nothing is written.

use metropod_protocol::{PodId, RequestId, Time};

use super::Array;
use crate::door::{HostError, ManageError, Managed};
use crate::names::SnapshotId;
use crate::operation::Content;
use crate::pod::{ParkedFreeze, Pod, ReadGate};

impl Array {
    pub(super) fn freeze(
        &mut self,
        now: Time,
        request: RequestId,
        pod: PodId,
        contents: Vec<Content>,
    ) -> Result<(), ManageError> {
        let found = self.pods.get_mut(&pod).ok_or(ManageError::NoSuchPod)?;
        found.freezes.push(ParkedFreeze { request, contents, position: None });
        self.review_freezes(now, pod);
        Ok(())
    }

    /// Decides again about what waits to be frozen.
    pub(super) fn review_freezes(&mut self, now: Time, pod: PodId) {
        let Some(found) = self.pods.get_mut(&pod) else { return };
        for mut freeze in std::mem::take(&mut found.freezes) {
            let Some(found) = self.pods.get_mut(&pod) else { return };
            let end = found.machine.log_end();
            let answer = match found.gate_at(now, &mut freeze.position, |_| end) {
                ReadGate::Wait => {
                    found.freezes.push(freeze);
                    continue;
                }
                ReadGate::Refuse(HostError::Media) => Err(ManageError::Media),
                ReadGate::Refuse(_) => Err(ManageError::Offline),
                ReadGate::Go => found.check_contents(&freeze.contents).map(|()| {
                    let images = freeze.contents.iter().map(|content| found.image_of(*content)).collect();
                    Managed::Images(self.frozen.give(images))
                }),
            };
            self.managed(freeze.request, answer);
        }
    }
}

impl Pod {
    /// Whether all of them exist and are in use.
    fn check_contents(&self, contents: &[Content]) -> Result<(), ManageError> {
        for content in contents {
            match *content {
                Content::Volume(id) if !self.namespace.volumes.contains_key(&id) => {
                    return Err(ManageError::NoSuchVolume);
                }
                Content::Snapshot(id) if !self.namespace.snapshots.contains_key(&id) => {
                    return Err(ManageError::NoSuchSnapshot);
                }
                Content::Volume(id) if self.namespace.is_in_use(id) => {}
                Content::Snapshot(id) if self.snapshot_in_use(id) => {}
                Content::Volume(volume) | Content::Snapshot(SnapshotId { volume, .. })
                    if self.namespace.is_moving(volume) =>
                {
                    return Err(ManageError::Moving);
                }
                _ => return Err(ManageError::Destroyed),
            }
        }
        Ok(())
    }
}
