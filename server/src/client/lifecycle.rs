//! What the REST API does with pods, volumes and snapshots after they were made, as a client sees it.

use serde_json::json;

use super::rest::{Client, ClientError, Method, segment};
use crate::api::shapes::{
    ContentsRequest, DiffShape, EradicatedShape, MoveRequest, OverwriteRequest, PodShape, SetPodRequest,
    SetVolumeRequest, SnapshotShape, VolumeShape,
};

impl Client {
    /// Changes a pod's settings.
    pub fn set_pod(&self, pod: &str, request: &SetPodRequest) -> Result<PodShape, ClientError> {
        self.send(Method::Patch, &format!("pods/{}", segment(pod)), request)
    }

    /// Sets or clears a pod's failover preference.
    pub fn set_preference(&self, pod: &str, array: Option<&str>) -> Result<PodShape, ClientError> {
        let failover_preference = Some(array.map(str::to_owned));
        self.set_pod(pod, &SetPodRequest { failover_preference, ..SetPodRequest::default() })
    }

    /// Takes a pod out of use.
    pub fn destroy_pod(&self, pod: &str, contents: bool) -> Result<PodShape, ClientError> {
        self.send(Method::Post, &verb("pods", pod, "destroy"), &ContentsRequest { contents })
    }

    /// Takes a destroyed pod into use again.
    pub fn recover_pod(&self, pod: &str) -> Result<PodShape, ClientError> {
        self.send(Method::Post, &verb("pods", pod, "recover"), &json!({}))
    }

    /// Removes a destroyed pod for good.
    pub fn eradicate_pod(&self, pod: &str, contents: bool) -> Result<EradicatedShape, ClientError> {
        self.send(Method::Post, &verb("pods", pod, "eradicate"), &ContentsRequest { contents })
    }

    /// Changes a volume's size or limits.
    pub fn set_volume(&self, volume: &str, request: &SetVolumeRequest) -> Result<VolumeShape, ClientError> {
        self.send(Method::Patch, &format!("volumes/{}", segment(volume)), request)
    }

    /// Gives a volume the content of another volume or of a snapshot.
    pub fn overwrite_volume(&self, volume: &str, source: &str) -> Result<VolumeShape, ClientError> {
        let request = OverwriteRequest { source: source.to_owned() };
        self.send(Method::Post, &verb("volumes", volume, "overwrite"), &request)
    }

    /// Moves a volume to another pod of the array.
    pub fn move_volume(&self, volume: &str, pod: &str) -> Result<VolumeShape, ClientError> {
        let request = MoveRequest { pod: pod.to_owned() };
        self.send(Method::Post, &verb("volumes", volume, "move"), &request)
    }

    /// Takes a volume out of use.
    pub fn destroy_volume(&self, volume: &str) -> Result<VolumeShape, ClientError> {
        self.send(Method::Post, &verb("volumes", volume, "destroy"), &json!({}))
    }

    /// Takes a destroyed volume into use again.
    pub fn recover_volume(&self, volume: &str) -> Result<VolumeShape, ClientError> {
        self.send(Method::Post, &verb("volumes", volume, "recover"), &json!({}))
    }

    /// Removes a destroyed volume for good.
    pub fn eradicate_volume(&self, volume: &str) -> Result<EradicatedShape, ClientError> {
        self.send(Method::Post, &verb("volumes", volume, "eradicate"), &json!({}))
    }

    /// One volume with its space measured.
    pub fn measured_volume(&self, volume: &str) -> Result<VolumeShape, ClientError> {
        self.get(&verb("volumes", volume, "space"))
    }

    /// Where two volumes or snapshots differ.
    pub fn diff(&self, first: &str, second: &str) -> Result<DiffShape, ClientError> {
        self.get(&format!("diff/{}/{}", segment(first), segment(second)))
    }

    /// Gives a volume the content of its snapshot.
    pub fn restore_snapshot(&self, snapshot: &str) -> Result<VolumeShape, ClientError> {
        self.send(Method::Post, &verb("snapshots", snapshot, "restore"), &json!({}))
    }

    /// Takes a snapshot out of use.
    pub fn destroy_snapshot(&self, snapshot: &str) -> Result<SnapshotShape, ClientError> {
        self.send(Method::Post, &verb("snapshots", snapshot, "destroy"), &json!({}))
    }

    /// Takes a destroyed snapshot into use again.
    pub fn recover_snapshot(&self, snapshot: &str) -> Result<SnapshotShape, ClientError> {
        self.send(Method::Post, &verb("snapshots", snapshot, "recover"), &json!({}))
    }

    /// Removes a destroyed snapshot for good.
    pub fn eradicate_snapshot(&self, snapshot: &str) -> Result<EradicatedShape, ClientError> {
        self.send(Method::Post, &verb("snapshots", snapshot, "eradicate"), &json!({}))
    }
}

fn verb(kind: &str, name: &str, verb: &str) -> String {
    format!("{kind}/{}/{verb}", segment(name))
}
