//! The JSON documents of the REST API and of `--json`, shared by the server and its clients.
//!
//! Sizes are bytes, times are milliseconds, ids are lower-case hexadecimal. A figure that is not known is `null`.

use metropod::{
    ArrayStatus, ConnectionStatus, Epoch, PodSide, PodStatus, Resync, SnapshotStatus, VolumeStatus,
};
use serde::{Deserialize, Serialize};

/// What `array show` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArrayShape {
    /// Name.
    pub name: String,
    /// Id.
    pub id: String,
    /// Version of the program.
    pub version: String,
    /// Where other arrays connect.
    pub listen: String,
    /// `online | unreachable | wrong | unknown`.
    pub mediator_status: String,
    /// Journal bytes in use.
    pub journal_bytes: u64,
    /// Journal budget.
    pub journal_budget_bytes: u64,
    /// Chunks stored.
    pub chunks: u64,
    /// Their size before compression.
    pub logical_bytes: u64,
    /// Their size as stored.
    pub stored_bytes: u64,
    /// What needs a person's attention, the newest last.
    pub alarms: Vec<String>,
}

/// One connection of `array connections`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionShape {
    /// The other array's name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Where it is dialled.
    pub address: String,
    /// `connected | partially_connected | connecting`.
    pub status: String,
    /// Whether the connection for writes is up.
    pub sync_up: bool,
    /// Whether the connection for transfers is up.
    pub bulk_up: bool,
}

/// One pod of `pod list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodShape {
    /// Name.
    pub name: String,
    /// Id.
    pub id: String,
    /// Newest configuration.
    pub epoch: EpochShape,
    /// The array that answers first, then the other.
    pub arrays: Vec<PodSideShape>,
    /// The array that goes on when both could.
    pub failover_preference: Option<String>,
    /// Number of volumes.
    pub volumes: usize,
    /// Sum of their sizes.
    pub size_bytes: u64,
}

/// Orders configurations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochShape {
    /// Raised by operator force only.
    pub era: u32,
    /// Raised by every configuration.
    pub number: u64,
}

/// A pod at one array.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodSideShape {
    /// The array.
    pub name: String,
    /// `online | paused | suspended | baselining | resyncing | offline | unknown`.
    pub status: String,
    /// Whether it orders writes.
    pub sequencer: bool,
    /// Whether it holds the right to go on alone.
    pub pre_elected: bool,
    /// `online | unreachable | wrong | unknown`.
    pub mediator_status: String,
    /// Share of the resync that is done, 0 to 1.
    pub progress: Option<f64>,
    /// Age of its newest consistent image while it is behind.
    pub recovery_point_ms: Option<u64>,
    /// The resync under way.
    pub resync: Option<ResyncShape>,
}

/// How far a resync is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ResyncShape {
    /// Address space that differs.
    pub bytes_logical: u64,
    /// Of it, done.
    pub bytes_done: u64,
    /// Of it, only named: the content was there.
    pub bytes_referenced: u64,
    /// Shipped content, as stored.
    pub bytes_compressed: u64,
    /// Everything that crossed the wire.
    pub bytes_wire: u64,
    /// What did not have to.
    pub bytes_saved: u64,
    /// Average so far.
    pub rate_bytes_per_s: u64,
    /// What is left at that rate.
    pub eta_ms: Option<u64>,
}

/// One volume of `volume list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VolumeShape {
    /// `pod::volume`.
    pub name: String,
    /// Id.
    pub id: String,
    /// Size.
    pub size_bytes: u64,
    /// Serial number shown to hosts, the same on both arrays.
    pub serial: String,
    /// Stored bytes that only this volume needs; not measured yet.
    pub unique_bytes: Option<u64>,
    /// Bytes in use before reduction; not measured yet.
    pub logical_bytes: Option<u64>,
    /// `logical_bytes` by stored bytes; not measured yet.
    pub data_reduction: Option<f64>,
    /// Whether it waits for its eradication.
    pub destroyed: bool,
}

/// One snapshot of `snapshot list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotShape {
    /// `pod::volume.suffix`.
    pub name: String,
    /// Size of the volume when it was taken.
    pub size_bytes: u64,
}

/// What `array connection-key` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyShape {
    /// For `array connect --key` at the other array.
    pub key: String,
}

/// What `array connect` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectedShape {
    /// The other array's name.
    pub name: String,
}

/// Why a request was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorShape {
    /// What and why.
    pub error: String,
    /// What to do.
    pub remedy: String,
}

/// Body of `POST /api/v1/array/connections`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectRequest {
    /// `HOST:PORT` the other array listens on.
    pub address: String,
    /// Its connection key.
    pub key: String,
}

/// Body of `POST /api/v1/pods`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreatePodRequest {
    /// Name.
    pub name: String,
}

/// Body of `PATCH /api/v1/pods/{pod}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetPodRequest {
    /// The preferred array; `null` for none.
    pub failover_preference: Option<String>,
}

/// Body of `POST /api/v1/pods/{pod}/stretch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StretchRequest {
    /// A connected array.
    pub array: String,
}

/// Body of `POST /api/v1/volumes`: an empty volume of a size, or a clone of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateVolumeRequest {
    /// `pod::volume`.
    pub name: String,
    /// Size of an empty volume, a multiple of 512.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// `pod::volume` or `pod::volume.suffix` to clone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// Body of `POST /api/v1/snapshots`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateSnapshotRequest {
    /// `pod::volume`, or `pod` for all its volumes in one cut.
    pub of: String,
    /// What follows the dot; made from the time if it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suffix: Option<String>,
}

impl ArrayShape {
    /// From the array's own words.
    pub fn new(status: ArrayStatus, alarms: Vec<String>) -> ArrayShape {
        ArrayShape {
            name: status.name,
            id: status.id,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            listen: status.listen,
            mediator_status: status.mediator_status.word().to_owned(),
            journal_bytes: status.journal_bytes,
            journal_budget_bytes: status.journal_budget_bytes,
            chunks: status.chunks,
            logical_bytes: status.logical_bytes,
            stored_bytes: status.stored_bytes,
            alarms,
        }
    }
}

impl From<ConnectionStatus> for ConnectionShape {
    fn from(status: ConnectionStatus) -> ConnectionShape {
        let word = match (status.sync_up, status.bulk_up) {
            (true, true) => "connected",
            (false, false) => "connecting",
            (true, false) | (false, true) => "partially_connected",
        };
        ConnectionShape {
            name: status.name,
            id: status.id,
            address: status.address,
            status: word.to_owned(),
            sync_up: status.sync_up,
            bulk_up: status.bulk_up,
        }
    }
}

impl From<PodStatus> for PodShape {
    fn from(status: PodStatus) -> PodShape {
        PodShape {
            name: status.name,
            id: hex(&status.id.0),
            epoch: status.epoch.into(),
            arrays: status.arrays.into_iter().map(PodSideShape::from).collect(),
            failover_preference: status.failover_preference,
            volumes: status.volumes,
            size_bytes: status.size_bytes,
        }
    }
}

impl From<Epoch> for EpochShape {
    fn from(epoch: Epoch) -> EpochShape {
        EpochShape { era: epoch.era, number: epoch.number }
    }
}

impl From<PodSide> for PodSideShape {
    fn from(side: PodSide) -> PodSideShape {
        PodSideShape {
            name: side.name,
            status: side.status.word().to_owned(),
            sequencer: side.sequencer,
            pre_elected: side.pre_elected,
            mediator_status: side.mediator_status.word().to_owned(),
            progress: side.progress,
            recovery_point_ms: None,
            resync: side.resync.map(ResyncShape::from),
        }
    }
}

impl From<Resync> for ResyncShape {
    fn from(resync: Resync) -> ResyncShape {
        ResyncShape {
            bytes_logical: resync.bytes_logical,
            bytes_done: resync.bytes_done,
            bytes_referenced: resync.bytes_referenced,
            bytes_compressed: resync.bytes_compressed,
            bytes_wire: resync.bytes_wire,
            bytes_saved: resync.bytes_saved,
            rate_bytes_per_s: resync.rate_bytes_per_s,
            eta_ms: resync.eta_ms,
        }
    }
}

impl From<VolumeStatus> for VolumeShape {
    fn from(status: VolumeStatus) -> VolumeShape {
        VolumeShape {
            name: status.name,
            id: status.id,
            size_bytes: status.size_bytes,
            serial: status.serial,
            unique_bytes: None,
            logical_bytes: None,
            data_reduction: None,
            destroyed: false,
        }
    }
}

impl From<SnapshotStatus> for SnapshotShape {
    fn from(status: SnapshotStatus) -> SnapshotShape {
        SnapshotShape { name: status.name, size_bytes: status.size_bytes }
    }
}

impl PodShape {
    /// Whether two arrays hold it and both serve.
    pub fn is_online_on_both(&self) -> bool {
        self.arrays.len() == 2 && self.arrays.iter().all(|array| array.status == "online")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use metropod::{MediatorWord, PodId, SideStatus};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_shown_as_the_command_line_promises() {
        let status = PodStatus {
            name: "p".into(),
            id: PodId([0xab; 16]),
            epoch: Epoch { era: 0, number: 3 },
            arrays: vec![PodSide {
                name: "A".into(),
                status: SideStatus::Resyncing,
                sequencer: false,
                pre_elected: false,
                mediator_status: MediatorWord::Online,
                progress: Some(0.5),
                resync: Some(Resync { bytes_logical: 8, bytes_done: 4, ..Resync::default() }),
            }],
            failover_preference: None,
            volumes: 2,
            size_bytes: 2048,
        };
        assert_eq!(
            serde_json::to_value(PodShape::from(status)).unwrap(),
            json!({
                "name": "p", "id": "ab".repeat(16), "epoch": {"era": 0, "number": 3},
                "arrays": [{
                    "name": "A", "status": "resyncing", "sequencer": false, "pre_elected": false,
                    "mediator_status": "online", "progress": 0.5, "recovery_point_ms": null,
                    "resync": {
                        "bytes_logical": 8, "bytes_done": 4, "bytes_referenced": 0, "bytes_compressed": 0,
                        "bytes_wire": 0, "bytes_saved": 0, "rate_bytes_per_s": 0, "eta_ms": null,
                    },
                }],
                "failover_preference": null, "volumes": 2, "size_bytes": 2048,
            })
        );
    }

    #[test]
    fn a_volume_is_shown_as_the_command_line_promises() {
        let status =
            VolumeStatus { name: "p::v".into(), id: "1".into(), size_bytes: 512, serial: "s".into() };
        assert_eq!(
            serde_json::to_value(VolumeShape::from(status)).unwrap(),
            json!({
                "name": "p::v", "id": "1", "size_bytes": 512, "serial": "s", "unique_bytes": null,
                "logical_bytes": null, "data_reduction": null, "destroyed": false,
            })
        );
    }
}
