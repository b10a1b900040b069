//! What an array tells about itself, as plain values.

use metropod_core::namespace::Limits;
use metropod_protocol::{Epoch, PodId};

/// One side's state of a pod, in users' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SideStatus {
    /// Serves reads and writes.
    Online,
    /// Holds I/O silently; in sync.
    Paused,
    /// Held I/O for too long: paths fail; in sync, still asking.
    Suspended,
    /// Being filled for the first time.
    Baselining,
    /// Being brought level.
    Resyncing,
    /// Behind or without the right: I/O fails.
    Offline,
    /// Not in contact.
    Unknown,
}

impl SideStatus {
    /// The word users see.
    pub fn word(self) -> &'static str {
        match self {
            SideStatus::Online => "online",
            SideStatus::Paused => "paused",
            SideStatus::Suspended => "suspended",
            SideStatus::Baselining => "baselining",
            SideStatus::Resyncing => "resyncing",
            SideStatus::Offline => "offline",
            SideStatus::Unknown => "unknown",
        }
    }
}

/// How an array sees the mediator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediatorWord {
    /// Session open.
    Online,
    /// No session.
    Unreachable,
    /// Another mediator than the pod's.
    Wrong,
    /// Not known from here, or none is set up.
    Unknown,
}

impl MediatorWord {
    /// The word users see.
    pub fn word(self) -> &'static str {
        match self {
            MediatorWord::Online => "online",
            MediatorWord::Unreachable => "unreachable",
            MediatorWord::Wrong => "wrong",
            MediatorWord::Unknown => "unknown",
        }
    }
}

/// How far a resync is. All counts in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resync {
    /// Address space that differs.
    pub bytes_logical: u64,
    /// Of it, done.
    pub bytes_done: u64,
    /// Of it, named only: the other side had the content.
    pub bytes_referenced: u64,
    /// Shipped content, as stored.
    pub bytes_compressed: u64,
    /// Everything that crossed the wire.
    pub bytes_wire: u64,
    /// `bytes_done` less `bytes_wire`, at least zero.
    pub bytes_saved: u64,
    /// Average rate of `bytes_done` since the round began.
    pub rate_bytes_per_s: u64,
    /// Milliseconds left at that rate, if it is known.
    pub eta_ms: Option<u64>,
}

/// A pod at one of its arrays.
#[derive(Debug, Clone, PartialEq)]
pub struct PodSide {
    /// The array's name, or its id in hexadecimal if the name is not known.
    pub name: String,
    /// Its state.
    pub status: SideStatus,
    /// Whether it orders.
    pub sequencer: bool,
    /// Whether it holds the right to go on alone.
    pub pre_elected: bool,
    /// How it sees the mediator.
    pub mediator_status: MediatorWord,
    /// Whether it is to hold the pod no more.
    pub leaving: bool,
    /// Share of the resync that is done, from 0 to 1.
    pub progress: Option<f64>,
    /// The resync under way.
    pub resync: Option<Resync>,
}

/// A pod as one array sees it, from local state alone.
#[derive(Debug, Clone, PartialEq)]
pub struct PodStatus {
    /// Name.
    pub name: String,
    /// Id.
    pub id: PodId,
    /// Newest configuration.
    pub epoch: Epoch,
    /// This array first, then the other.
    pub arrays: Vec<PodSide>,
    /// Name of the preferred array.
    pub failover_preference: Option<String>,
    /// Number of volumes in use.
    pub volumes: usize,
    /// Sum of the sizes of the volumes in use, in bytes.
    pub size_bytes: u64,
    /// Bound on the sum of all volumes' sizes, in bytes.
    pub quota_bytes: Option<u64>,
    /// What counts against it: volumes in use and destroyed ones, in bytes.
    pub provisioned_bytes: u64,
    /// How long what is destroyed can be recovered, in milliseconds.
    pub eradication_delay_ms: u64,
    /// If the pod is destroyed: milliseconds until it is eradicated.
    pub eradicated_in_ms: Option<u64>,
    /// What it takes at this array; `None`: it was not counted yet.
    pub space: Option<PodSpace>,
}

/// A volume.
#[derive(Debug, Clone, PartialEq)]
pub struct VolumeStatus {
    /// `pod::vol`.
    pub name: String,
    /// Id, unique for ever: pod id and number, in hexadecimal.
    pub id: String,
    /// Size, in bytes.
    pub size_bytes: u64,
    /// Serial number shown to hosts, the same on both arrays.
    pub serial: String,
    /// Bounds on its use at each array.
    pub limits: Limits,
    /// If it is destroyed: milliseconds until it is eradicated.
    pub eradicated_in_ms: Option<u64>,
    /// Name of the pod that it is on its way to: it is out of use here, and in use there as soon as it is listed there.
    pub moving_to: Option<String>,
    /// What it takes at this array; `None`: it was not counted yet.
    pub space: Option<VolumeSpace>,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotStatus {
    /// `pod::vol.suffix`.
    pub name: String,
    /// Size of the volume when it was taken, in bytes.
    pub size_bytes: u64,
    /// If it or its volume is destroyed: milliseconds until it is eradicated.
    pub eradicated_in_ms: Option<u64>,
    /// Stored for it alone, in bytes: what eradicating it would give back; `None`: it was not counted yet.
    pub unique_bytes: Option<u64>,
}

/// What a volume takes at one array. All counts in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct VolumeSpace {
    /// How old the figures are, in milliseconds.
    pub as_of_ms_ago: u64,
    /// Blocks that hold data, before reduction.
    pub logical_bytes: u64,
    /// Stored for what it holds now and nothing else reaches but snapshots of its own.
    pub unique_bytes: u64,
    /// Stored for what it holds now and other volumes or their snapshots reach too; counts in full for each of them. `None`:
    /// too many combinations share to tell.
    pub shared_bytes: Option<u64>,
    /// Stored for its snapshots alone.
    pub snapshots_bytes: u64,
    /// `logical_bytes` by `unique_bytes + shared_bytes`; `None` where nothing is stored, or as above.
    pub data_reduction: Option<f64>,
    /// Its size by the same.
    pub total_reduction: Option<f64>,
}

/// What a pod takes at one array. All counts in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PodSpace {
    /// How old the figures are, in milliseconds.
    pub as_of_ms_ago: u64,
    /// Blocks of its volumes that hold data, before reduction.
    pub logical_bytes: u64,
    /// Stored for one of its volumes.
    pub unique_bytes: u64,
    /// Stored for several of its volumes, and no other pod's.
    pub shared_bytes: u64,
    /// Stored for snapshots alone.
    pub snapshots_bytes: u64,
    /// `logical_bytes` by what is stored for what its volumes hold now, each chunk once, whoever else shares it.
    pub data_reduction: Option<f64>,
    /// Its volumes' sizes by the same.
    pub total_reduction: Option<f64>,
}

/// Whose the space of an array is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SpaceCount {
    /// The newest count; `None`: there is none since the start.
    pub newest: Option<SpaceShares>,
    /// Counts that ended well since the start.
    pub finished: u64,
    /// Counts that failed.
    pub failed: u64,
    /// Requests for a count that were answered.
    pub answered: u64,
    /// How long the last one took, in milliseconds.
    pub last_count_ms: u64,
}

/// One count. All in bytes, and exactly:
/// `unique + shared + snapshots + held + map + unattributed + cleanable + overhead + freed = used + staged`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SpaceShares {
    /// How old the figures are, in milliseconds.
    pub as_of_ms_ago: u64,
    /// Sizes of all volumes.
    pub size_bytes: u64,
    /// Blocks of volumes that hold data, before reduction.
    pub logical_bytes: u64,
    /// Stored for one volume, perhaps for snapshots of its own too.
    pub unique_bytes: u64,
    /// Stored for several volumes.
    pub shared_bytes: u64,
    /// Stored for snapshots of one volume alone.
    pub snapshots_bytes: u64,
    /// Stored for what brings an array level, or is read from elsewhere, and for nothing above.
    pub held_bytes: u64,
    /// Nodes of maps.
    pub map_bytes: u64,
    /// Stored and nobody's at the time: garbage that is not found yet, and what was written since.
    pub unattributed_bytes: u64,
    /// Of all these, what is in memory and in the journal and not in files of chunks yet.
    pub staged_bytes: u64,
    /// Found dead, and given back when the files that hold it are cleaned.
    pub cleanable_bytes: u64,
    /// Headers, footers and padding of files, and room left in those being written; may be below zero, for the lengths of what
    /// is stored are rounded up.
    pub overhead_bytes: i64,
    /// Files that go with the next checkpoint.
    pub freed_bytes: u64,
    /// Length of all files of chunks.
    pub used_bytes: u64,
    /// Files of the index, which come on top.
    pub index_bytes: u64,
    /// The journal now, which comes on top.
    pub journal_bytes: u64,
    /// Chunks that a volume or snapshot needs and that are not here: damage.
    pub missing_chunks: u64,
    /// `logical_bytes` by what is stored for what volumes hold now, each chunk once.
    pub data_reduction: Option<f64>,
    /// `size_bytes` by the same.
    pub total_reduction: Option<f64>,
}

/// A connected array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionStatus {
    /// The array's name.
    pub name: String,
    /// Its id, in hexadecimal.
    pub id: String,
    /// Address it is dialled at.
    pub address: String,
    /// Whether the sync connection is up.
    pub sync_up: bool,
    /// Whether the bulk connection is up.
    pub bulk_up: bool,
}

/// An array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrayStatus {
    /// Name.
    pub name: String,
    /// Id, in hexadecimal.
    pub id: String,
    /// Address arrays connect to.
    pub listen: String,
    /// How it sees the mediator.
    pub mediator_status: MediatorWord,
    /// Journal bytes in use.
    pub journal_bytes: u64,
    /// Journal budget, in bytes.
    pub journal_budget_bytes: u64,
    /// Chunks stored.
    pub chunks: u64,
    /// Their raw size, in bytes.
    pub logical_bytes: u64,
    /// Their stored size, in bytes.
    pub stored_bytes: u64,
    /// What files of chunks take.
    pub space: SpaceStatus,
    /// How space comes back.
    pub collection: CollectionStatus,
}

/// What files of chunks take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpaceStatus {
    /// Their length, in bytes; files that are written to count whole.
    pub used_bytes: u64,
    /// What they may take, in bytes; `None`: as much as the file system has.
    pub capacity_bytes: Option<u64>,
    /// What new data may still take, in bytes; `None`: what the file system has.
    pub free_bytes: Option<u64>,
    /// Of what is used, what is stored since the last collection began: some of it may be garbage by now.
    pub fresh_bytes: u64,
}

/// How space comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CollectionStatus {
    /// `idle | due | marking | draining | cleaning | settling`.
    pub state: &'static str,
    /// Collections that ended well since the array was opened.
    pub passes: u64,
    /// Collections that failed.
    pub failed: u64,
    /// Chunks that nothing referred to any more.
    pub dead_chunks: u64,
    /// Their stored size, in bytes.
    pub dead_bytes: u64,
    /// Files given back.
    pub freed_segments: u64,
    /// Bytes that were moved so that files could be given back.
    pub moved_bytes: u64,
    /// Requests for a collection that were answered.
    pub answered: u64,
    /// How long the last collection worked, in milliseconds.
    pub last_pass_ms: u64,
}

/// How far the reading and proving of everything stored is, or how the last one ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScrubStatus {
    /// `idle | running | resting`.
    pub state: &'static str,
    /// Bytes read.
    pub bytes_done: u64,
    /// Bytes to be read in all; what is freed meanwhile need not be.
    pub bytes_total: u64,
    /// Files read.
    pub segments_done: u64,
    /// Files to be read in all.
    pub segments_total: u64,
    /// Records proven or found rotten.
    pub records: u64,
    /// Things found rotten.
    pub findings: u64,
    /// The newest of them.
    pub listed: Vec<ScrubFinding>,
    /// Chunks met since the start, by a scrub or anybody, that are lost here and could be asked of the other array.
    pub chunks_found: u64,
    /// Of those, repaired from it.
    pub chunks_repaired: u64,
    /// Of those, not to be had.
    pub chunks_not_repairable: u64,
    /// How long ago it began, in milliseconds; `None`: none did since the start.
    pub began_ms_ago: Option<u64>,
    /// How long ago it ended, in milliseconds; `None`: it did not.
    pub ended_ms_ago: Option<u64>,
    /// How long it will take at this pace, in milliseconds; `None`: it does not run.
    pub eta_ms: Option<u64>,
    /// Those that ended well since the start.
    pub finished: u64,
    /// Reads of a file that failed and are tried again, since the start.
    pub failed: u64,
}

/// Something rotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrubFinding {
    /// `chunk | stretch | header | footer | file`.
    pub kind: &'static str,
    /// The file in which it lies.
    pub file: String,
    /// The chunk's digest, if it is a chunk.
    pub digest: Option<String>,
    /// Whether a good copy took its place.
    pub repaired: bool,
}
