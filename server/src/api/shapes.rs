//! The JSON documents of the REST API and of `--json`, shared by the server and its clients.
//!
//! Sizes are bytes, times are milliseconds, ids are lower-case hexadecimal. A figure that is not known is `null`.

mod outlook;
mod requests;
mod scrub;
mod space;

use metropod::{
    ArrayStatus, CollectionStatus, ConnectionStatus, Diff, Epoch, PodSide, PodStatus, Resync, SnapshotStatus,
    SpaceStatus, VolumeStatus,
};
use serde::{Deserialize, Serialize};

pub use outlook::{CutShape, DecisionShape, ExplanationShape, ForecastShape};
pub use requests::{
    ConnectRequest, ContentsRequest, CreatePodRequest, CreateSnapshotRequest, CreateVolumeRequest,
    MoveRequest, OverwriteRequest, SetPodRequest, SetVolumeRequest, StretchRequest, SwitchRequest,
    UnstretchRequest,
};

pub use scrub::{ScrubFindingShape, ScrubShape};
pub use space::{CountShape, PodSpaceShape, SharesShape};

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
    /// What files of chunks take.
    pub space: SpaceShape,
    /// How space comes back.
    pub collection: CollectionShape,
    /// What needs a person's attention, the newest last.
    pub alarms: Vec<String>,
}

/// What files of chunks take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceShape {
    /// Their length.
    pub used_bytes: u64,
    /// What they may take; null: as much as the file system has.
    pub capacity_bytes: Option<u64>,
    /// What new data may still take; null: what the file system has.
    pub free_bytes: Option<u64>,
    /// Stored since the last collection began.
    pub fresh_bytes: u64,
}

/// How space comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionShape {
    /// `idle | due | marking | draining | cleaning | settling`.
    pub state: String,
    /// Collections that ended well.
    pub passes: u64,
    /// Collections that failed.
    pub failed: u64,
    /// Chunks that nothing referred to any more.
    pub dead_chunks: u64,
    /// Their size as stored.
    pub dead_bytes: u64,
    /// Files given back.
    pub freed_segments: u64,
    /// Bytes moved so that files could be given back.
    pub moved_bytes: u64,
    /// Requests for a collection that were answered.
    pub answered: u64,
    /// How long the last collection worked.
    pub last_pass_ms: u64,
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
    /// Number of volumes in use.
    pub volumes: usize,
    /// Sum of their sizes.
    pub size_bytes: u64,
    /// Bound on `provisioned_bytes`.
    pub quota_bytes: Option<u64>,
    /// Sum of the sizes of all volumes, those that wait for their eradication included.
    pub provisioned_bytes: u64,
    /// How long what is destroyed can be recovered.
    pub eradication_delay_ms: u64,
    /// Whether the pod waits for its eradication.
    pub destroyed: bool,
    /// How long it still waits.
    pub eradicated_in_ms: Option<u64>,
    /// What it takes at the array that answers; null: it was not counted yet.
    pub space: Option<PodSpaceShape>,
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
    /// Whether it is to hold the pod no more.
    pub leaving: bool,
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
    /// Stored for what it holds and nothing else reaches but snapshots of its own; null: it was not counted yet.
    pub unique_bytes: Option<u64>,
    /// Stored for what it holds and other volumes or their snapshots reach too: in full for each of them.
    pub shared_bytes: Option<u64>,
    /// Stored for its snapshots alone.
    pub snapshots_bytes: Option<u64>,
    /// Bytes in use before reduction: when it was counted, or now if asked for by `/space` (`volume show --measure`).
    pub logical_bytes: Option<u64>,
    /// `logical_bytes`, when it was counted, by `unique_bytes + shared_bytes`; null where nothing is stored.
    pub data_reduction: Option<f64>,
    /// `size_bytes` by the same.
    pub total_reduction: Option<f64>,
    /// How old these figures are.
    pub space_as_of_ms_ago: Option<u64>,
    /// Requests in a second that each array lets through.
    pub iops_limit: Option<u64>,
    /// Bytes in a second that each array lets through.
    pub bandwidth_limit_bytes_per_s: Option<u64>,
    /// Whether it, or its pod, waits for its eradication.
    pub destroyed: bool,
    /// How long it still waits.
    pub eradicated_in_ms: Option<u64>,
    /// The pod that it is on its way to: out of use here, and in use there as soon as it is listed there.
    pub moving_to: Option<String>,
}

/// One snapshot of `snapshot list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotShape {
    /// `pod::volume.suffix`.
    pub name: String,
    /// Size of the volume when it was taken.
    pub size_bytes: u64,
    /// Whether it, its volume or its pod waits for its eradication.
    pub destroyed: bool,
    /// How long it still waits.
    pub eradicated_in_ms: Option<u64>,
    /// Stored for it alone; null: it was not counted yet.
    pub unique_bytes: Option<u64>,
}

/// What is no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EradicatedShape {
    /// The name it had, which is free now.
    pub name: String,
}

/// What `volume diff` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffShape {
    /// Name of the first volume or snapshot.
    pub first: String,
    /// Name of the second.
    pub second: String,
    /// Size of the first.
    pub first_bytes: u64,
    /// Size of the second.
    pub second_bytes: u64,
    /// Bytes in all ranges that differ.
    pub differing_bytes: u64,
    /// Those ranges, in order, in blocks of 4 KiB; the first of them if `truncated`.
    pub ranges: Vec<DiffRangeShape>,
    /// Whether ranges were left out.
    pub truncated: bool,
}

/// A range that differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffRangeShape {
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
    /// Whether it is zero, or beyond the end, in the first.
    pub zero_in_first: bool,
    /// Whether it is zero, or beyond the end, in the second.
    pub zero_in_second: bool,
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
            space: status.space.into(),
            collection: status.collection.into(),
            alarms,
        }
    }
}

impl From<SpaceStatus> for SpaceShape {
    fn from(space: SpaceStatus) -> SpaceShape {
        let SpaceStatus { used_bytes, capacity_bytes, free_bytes, fresh_bytes } = space;
        SpaceShape { used_bytes, capacity_bytes, free_bytes, fresh_bytes }
    }
}

impl From<CollectionStatus> for CollectionShape {
    fn from(status: CollectionStatus) -> CollectionShape {
        CollectionShape {
            state: status.state.to_owned(),
            passes: status.passes,
            failed: status.failed,
            dead_chunks: status.dead_chunks,
            dead_bytes: status.dead_bytes,
            freed_segments: status.freed_segments,
            moved_bytes: status.moved_bytes,
            answered: status.answered,
            last_pass_ms: status.last_pass_ms,
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
            quota_bytes: status.quota_bytes,
            provisioned_bytes: status.provisioned_bytes,
            eradication_delay_ms: status.eradication_delay_ms,
            destroyed: status.eradicated_in_ms.is_some(),
            eradicated_in_ms: status.eradicated_in_ms,
            space: status.space.map(PodSpaceShape::from),
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
            leaving: side.leaving,
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
            unique_bytes: status.space.map(|space| space.unique_bytes),
            shared_bytes: status.space.and_then(|space| space.shared_bytes),
            snapshots_bytes: status.space.map(|space| space.snapshots_bytes),
            logical_bytes: status.space.map(|space| space.logical_bytes),
            data_reduction: status.space.and_then(|space| space.data_reduction),
            total_reduction: status.space.and_then(|space| space.total_reduction),
            space_as_of_ms_ago: status.space.map(|space| space.as_of_ms_ago),
            iops_limit: Some(status.limits.iops).filter(|limit| *limit > 0),
            bandwidth_limit_bytes_per_s: Some(status.limits.bytes_per_s).filter(|limit| *limit > 0),
            destroyed: status.eradicated_in_ms.is_some(),
            eradicated_in_ms: status.eradicated_in_ms,
            moving_to: status.moving_to,
        }
    }
}

impl From<SnapshotStatus> for SnapshotShape {
    fn from(status: SnapshotStatus) -> SnapshotShape {
        SnapshotShape {
            name: status.name,
            size_bytes: status.size_bytes,
            destroyed: status.eradicated_in_ms.is_some(),
            eradicated_in_ms: status.eradicated_in_ms,
            unique_bytes: status.unique_bytes,
        }
    }
}

impl DiffShape {
    /// From the comparison of two names.
    pub fn new(first: String, second: String, diff: Diff) -> DiffShape {
        let ranges = diff.ranges.iter().map(|range| DiffRangeShape {
            offset: range.offset,
            length: range.length,
            zero_in_first: range.zero_in_first,
            zero_in_second: range.zero_in_second,
        });
        DiffShape {
            first,
            second,
            first_bytes: diff.first_bytes,
            second_bytes: diff.second_bytes,
            differing_bytes: diff.differing_bytes,
            ranges: ranges.collect(),
            truncated: diff.truncated,
        }
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
    use metropod::{Limits, MediatorWord, PodId, PodSpace, SideStatus, VolumeSpace};
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
                leaving: false,
                mediator_status: MediatorWord::Online,
                progress: Some(0.5),
                resync: Some(Resync { bytes_logical: 8, bytes_done: 4, ..Resync::default() }),
            }],
            failover_preference: None,
            volumes: 2,
            size_bytes: 2048,
            quota_bytes: Some(4096),
            provisioned_bytes: 3072,
            eradication_delay_ms: 1000,
            eradicated_in_ms: None,
            space: Some(PodSpace { as_of_ms_ago: 9, unique_bytes: 6, ..PodSpace::default() }),
        };
        assert_eq!(
            serde_json::to_value(PodShape::from(status)).unwrap(),
            json!({
                "name": "p", "id": "ab".repeat(16), "epoch": {"era": 0, "number": 3},
                "arrays": [{
                    "name": "A", "status": "resyncing", "sequencer": false, "pre_elected": false, "leaving": false,
                    "mediator_status": "online", "progress": 0.5, "recovery_point_ms": null,
                    "resync": {
                        "bytes_logical": 8, "bytes_done": 4, "bytes_referenced": 0, "bytes_compressed": 0,
                        "bytes_wire": 0, "bytes_saved": 0, "rate_bytes_per_s": 0, "eta_ms": null,
                    },
                }],
                "failover_preference": null, "volumes": 2, "size_bytes": 2048, "quota_bytes": 4096,
                "provisioned_bytes": 3072, "eradication_delay_ms": 1000, "destroyed": false,
                "eradicated_in_ms": null,
                "space": {
                    "as_of_ms_ago": 9, "logical_bytes": 0, "unique_bytes": 6, "shared_bytes": 0,
                    "snapshots_bytes": 0, "data_reduction": null, "total_reduction": null,
                },
            })
        );
    }

    #[test]
    fn a_volume_is_shown_as_the_command_line_promises() {
        let status = VolumeStatus {
            name: "p::v".into(),
            id: "1".into(),
            size_bytes: 512,
            serial: "s".into(),
            limits: Limits { iops: 7, bytes_per_s: 0 },
            eradicated_in_ms: Some(5),
            moving_to: Some("q".into()),
            space: Some(VolumeSpace {
                as_of_ms_ago: 9,
                logical_bytes: 400,
                unique_bytes: 60,
                shared_bytes: Some(20),
                snapshots_bytes: 8,
                data_reduction: Some(5.0),
                total_reduction: Some(6.4),
            }),
        };
        assert_eq!(
            serde_json::to_value(VolumeShape::from(status)).unwrap(),
            json!({
                "name": "p::v", "id": "1", "size_bytes": 512, "serial": "s", "unique_bytes": 60,
                "shared_bytes": 20, "snapshots_bytes": 8, "logical_bytes": 400, "data_reduction": 5.0,
                "total_reduction": 6.4, "space_as_of_ms_ago": 9, "iops_limit": 7,
                "bandwidth_limit_bytes_per_s": null, "destroyed": true, "eradicated_in_ms": 5,
                "moving_to": "q",
            })
        );
    }
}
