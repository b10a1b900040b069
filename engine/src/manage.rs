//! What managers ask of pods, volumes and snapshots after they were made: size, content, limits, end.
//!
//! Names are looked up here; what goes into the pod's log says ids, so that a name taken again means nothing else.

use std::time::Duration;

use metropod_core::names::{Name, SnapshotId, VolumeId};
use metropod_core::namespace::{Limits, Namespace};
use metropod_core::operation::{Content, Manage, Target};
use metropod_core::{Command, ManageError as Refusal};
use metropod_protocol::PodId;

use crate::array::{Array, ManageError};

/// Longest eradication delay, a hundred years: more is a mistake.
const DELAY_MAX: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

/// A name that users give, taken apart.
pub(crate) struct Place {
    pub(crate) pod: Name,
    volume: Name,
    suffix: Option<Name>,
}

impl Place {
    /// `pod::volume` or `pod::volume.suffix`.
    pub(crate) fn parse(name: &str) -> Result<Place, ManageError> {
        let (pod, rest) = name.split_once("::").ok_or(ManageError::BadName)?;
        let (volume, suffix) = match rest.split_once('.') {
            Some((volume, suffix)) => (volume, Some(Name::new(suffix)?)),
            None => (rest, None),
        };
        Ok(Place { pod: Name::new(pod)?, volume: Name::new(volume)?, suffix })
    }

    fn volume(&self, namespace: &Namespace) -> Result<VolumeId, Refusal> {
        namespace.volume(&self.volume).map(|(id, _)| id).ok_or(Refusal::NoSuchVolume)
    }

    fn snapshot(&self, namespace: &Namespace, suffix: &Name) -> Result<SnapshotId, Refusal> {
        let volume = self.volume(namespace)?;
        namespace.snapshot(volume, suffix).map(|(id, _)| id).ok_or(Refusal::NoSuchSnapshot)
    }

    /// The volume or snapshot.
    pub(crate) fn content(&self, namespace: &Namespace) -> Result<Content, Refusal> {
        match &self.suffix {
            None => self.volume(namespace).map(Content::Volume),
            Some(suffix) => self.snapshot(namespace, suffix).map(Content::Snapshot),
        }
    }
}

impl Array {
    /// Changes a volume's size. It gets smaller only with `truncate`, and loses what lies beyond.
    pub async fn resize_volume(
        &self,
        name: &str,
        size_bytes: u64,
        truncate: bool,
    ) -> Result<(), ManageError> {
        let (pod, volume) = self.volume_id(name)?;
        self.change(pod, Manage::Resize { volume, size_bytes, truncate }).await
    }

    /// Gives a volume the content of another volume or of a snapshot of the same pod. What it held is lost; it does not
    /// get smaller.
    pub async fn overwrite_volume(&self, source: &str, name: &str) -> Result<(), ManageError> {
        let (pod, volume) = self.volume_id(name)?;
        let (source_pod, from) = self.content(source)?;
        if source_pod != pod {
            return Err(ManageError::OtherPod);
        }
        self.change(pod, Manage::Overwrite { volume, from }).await
    }

    /// Gives a volume the content that its snapshot (`pod::volume.suffix`) holds. What it held since is lost.
    pub async fn restore_snapshot(&self, name: &str) -> Result<(), ManageError> {
        let (pod, id) = self.snapshot_id(name)?;
        self.change(pod, Manage::Overwrite { volume: id.volume, from: Content::Snapshot(id) }).await
    }

    /// Moves a volume and its snapshots to another pod of this array. Hosts use it as `target::volume` from then on, with a new
    /// serial number. Neither pod is stretched. Asked for again it waits for the same move, or does nothing if it has come.
    pub async fn move_volume(&self, name: &str, target: &str) -> Result<(), ManageError> {
        let to = self.pod_id(target)?;
        let (pod, volume) = match self.volume_id(name) {
            Err(ManageError::Refused(Refusal::NoSuchVolume)) if self.has_come(name, to)? => return Ok(()),
            found => found?,
        };
        self.manage(Command::Move { pod, volume, to }).await.map(drop)
    }

    /// Bounds what hosts may ask of a volume, at each array; 0: no bound.
    pub async fn set_limits(&self, name: &str, limits: Limits) -> Result<(), ManageError> {
        let (pod, volume) = self.volume_id(name)?;
        self.change(pod, Manage::SetLimits { volume, limits }).await
    }

    /// Takes a volume and its snapshots out of use, at once. It is eradicated after the pod's eradication delay.
    pub async fn destroy_volume(&self, name: &str) -> Result<(), ManageError> {
        let (pod, volume) = self.volume_id(name)?;
        self.destroy(pod, Target::Volume(volume), false).await
    }

    /// Takes a destroyed volume into use again, as it was.
    pub async fn recover_volume(&self, name: &str) -> Result<(), ManageError> {
        let (pod, volume) = self.volume_id(name)?;
        self.change(pod, Manage::Recover(Target::Volume(volume))).await
    }

    /// Removes a destroyed volume and its snapshots for good, without waiting.
    pub async fn eradicate_volume(&self, name: &str) -> Result<(), ManageError> {
        let (pod, volume) = self.volume_id(name)?;
        self.eradicate(pod, Target::Volume(volume), false).await
    }

    /// Takes a snapshot out of use. It is eradicated after the pod's eradication delay.
    pub async fn destroy_snapshot(&self, name: &str) -> Result<(), ManageError> {
        let (pod, snapshot) = self.snapshot_id(name)?;
        self.destroy(pod, Target::Snapshot(snapshot), false).await
    }

    /// Takes a destroyed snapshot into use again.
    pub async fn recover_snapshot(&self, name: &str) -> Result<(), ManageError> {
        let (pod, snapshot) = self.snapshot_id(name)?;
        self.change(pod, Manage::Recover(Target::Snapshot(snapshot))).await
    }

    /// Removes a destroyed snapshot for good, without waiting.
    pub async fn eradicate_snapshot(&self, name: &str) -> Result<(), ManageError> {
        let (pod, snapshot) = self.snapshot_id(name)?;
        self.eradicate(pod, Target::Snapshot(snapshot), false).await
    }

    /// Takes a pod that is at this array alone out of use; `contents`: with the volumes that it holds.
    pub async fn destroy_pod(&self, name: &str, contents: bool) -> Result<(), ManageError> {
        self.destroy(self.pod_id(name)?, Target::Pod, contents).await
    }

    /// Takes a destroyed pod into use again, as it was.
    pub async fn recover_pod(&self, name: &str) -> Result<(), ManageError> {
        self.change(self.pod_id(name)?, Manage::Recover(Target::Pod)).await
    }

    /// Removes a destroyed pod for good, without waiting; `contents`: with the volumes that it holds.
    pub async fn eradicate_pod(&self, name: &str, contents: bool) -> Result<(), ManageError> {
        self.eradicate(self.pod_id(name)?, Target::Pod, contents).await
    }

    /// Bounds the sum of the sizes of a pod's volumes, destroyed ones included until they are eradicated.
    pub async fn set_quota(&self, pod: &str, bytes: Option<u64>) -> Result<(), ManageError> {
        self.change(self.pod_id(pod)?, Manage::SetQuota(bytes)).await
    }

    /// How long what is destroyed in the pod from now on can be recovered.
    pub async fn set_eradication_delay(&self, pod: &str, delay: Duration) -> Result<(), ManageError> {
        let delay_ms = delay.min(DELAY_MAX).as_millis() as u64;
        self.change(self.pod_id(pod)?, Manage::SetEradicationDelay(delay_ms)).await
    }

    async fn change(&self, pod: PodId, change: Manage) -> Result<(), ManageError> {
        self.manage(Command::Change { pod, change }).await.map(drop)
    }

    async fn destroy(&self, pod: PodId, target: Target, contents: bool) -> Result<(), ManageError> {
        self.manage(Command::Destroy { pod, target, contents }).await.map(drop)
    }

    async fn eradicate(&self, pod: PodId, target: Target, contents: bool) -> Result<(), ManageError> {
        self.change(pod, Manage::Eradicate { target, contents, waited: None }).await
    }

    /// Whether the last volume that came to a pod from the pod of this name had this name.
    fn has_come(&self, name: &str, to: PodId) -> Result<bool, ManageError> {
        let place = Place::parse(name)?;
        Ok(self.inner().driver.look(|array| {
            let from = array.pod_named(&place.pod)?.id();
            let namespace = array.pod(to)?.namespace();
            let come = namespace.volumes.get(&namespace.arrived.get(&from)?.volume)?;
            Some(come.name == place.volume)
        }) == Some(true))
    }

    fn volume_id(&self, name: &str) -> Result<(PodId, VolumeId), ManageError> {
        match self.content(name)? {
            (pod, Content::Volume(id)) => Ok((pod, id)),
            (_, Content::Snapshot(_)) => Err(ManageError::BadName),
        }
    }

    fn snapshot_id(&self, name: &str) -> Result<(PodId, SnapshotId), ManageError> {
        match self.content(name)? {
            (pod, Content::Snapshot(id)) => Ok((pod, id)),
            (_, Content::Volume(_)) => Err(ManageError::BadName),
        }
    }

    /// Pod and id of the volume or snapshot of this name.
    pub(crate) fn content(&self, name: &str) -> Result<(PodId, Content), ManageError> {
        let place = Place::parse(name)?;
        let found = self.inner().driver.look(|array| {
            let pod = array.pod_named(&place.pod).ok_or(Refusal::NoSuchPod)?;
            Ok::<_, Refusal>((pod.id(), place.content(pod.namespace())?))
        });
        Ok(found?)
    }
}
