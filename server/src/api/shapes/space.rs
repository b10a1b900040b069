//! Whose the space is, as answers show it. All counts in bytes at the array that answers.

use metropod::{PodSpace, SpaceCount, SpaceShares};
use serde::{Deserialize, Serialize};

/// What `array space` shows.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct CountShape {
    /// The newest count; null: there is none since the start.
    pub newest: Option<SharesShape>,
    /// Counts that ended well since the start.
    pub finished: u64,
    /// Counts that failed.
    pub failed: u64,
    /// Requests for a count that were answered.
    pub answered: u64,
    /// How long the last one took.
    pub last_count_ms: u64,
}

/// One count. Exactly: `unique + shared + snapshots + held + map + unattributed + cleanable + overhead + freed =
/// used + staged`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct SharesShape {
    /// How old the figures are.
    pub as_of_ms_ago: u64,
    /// Sizes of all volumes.
    pub size_bytes: u64,
    /// Bytes in use in them, before reduction.
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
    /// Of all these, what is not in files of chunks yet.
    pub staged_bytes: u64,
    /// Found dead, and given back by cleaning.
    pub cleanable_bytes: u64,
    /// Headers, footers, padding and room left in files; may be below zero, for records' lengths are rounded up.
    pub overhead_bytes: i64,
    /// Files that go with the next checkpoint.
    pub freed_bytes: u64,
    /// Length of all files of chunks.
    pub used_bytes: u64,
    /// Files of the index, on top.
    pub index_bytes: u64,
    /// The journal, on top.
    pub journal_bytes: u64,
    /// Chunks that are needed and not here.
    pub missing_chunks: u64,
    /// `logical_bytes` by what is stored for what volumes hold, each chunk once.
    pub data_reduction: Option<f64>,
    /// `size_bytes` by the same: with what thin provisioning saves.
    pub total_reduction: Option<f64>,
}

/// What a pod takes.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct PodSpaceShape {
    /// How old the figures are.
    pub as_of_ms_ago: u64,
    /// Bytes in use in its volumes, before reduction.
    pub logical_bytes: u64,
    /// Stored for one of its volumes.
    pub unique_bytes: u64,
    /// Stored for several of its volumes, and no other pod's.
    pub shared_bytes: u64,
    /// Stored for snapshots alone.
    pub snapshots_bytes: u64,
    /// `logical_bytes` by what is stored for what its volumes hold, each chunk once, whoever else shares it.
    pub data_reduction: Option<f64>,
    /// Sizes of its volumes by the same.
    pub total_reduction: Option<f64>,
}

impl From<SpaceCount> for CountShape {
    fn from(count: SpaceCount) -> CountShape {
        let SpaceCount { newest, finished, failed, answered, last_count_ms } = count;
        CountShape { newest: newest.map(SharesShape::from), finished, failed, answered, last_count_ms }
    }
}

impl From<SpaceShares> for SharesShape {
    fn from(shares: SpaceShares) -> SharesShape {
        SharesShape {
            as_of_ms_ago: shares.as_of_ms_ago,
            size_bytes: shares.size_bytes,
            logical_bytes: shares.logical_bytes,
            unique_bytes: shares.unique_bytes,
            shared_bytes: shares.shared_bytes,
            snapshots_bytes: shares.snapshots_bytes,
            held_bytes: shares.held_bytes,
            map_bytes: shares.map_bytes,
            unattributed_bytes: shares.unattributed_bytes,
            staged_bytes: shares.staged_bytes,
            cleanable_bytes: shares.cleanable_bytes,
            overhead_bytes: shares.overhead_bytes,
            freed_bytes: shares.freed_bytes,
            used_bytes: shares.used_bytes,
            index_bytes: shares.index_bytes,
            journal_bytes: shares.journal_bytes,
            missing_chunks: shares.missing_chunks,
            data_reduction: shares.data_reduction,
            total_reduction: shares.total_reduction,
        }
    }
}

impl From<PodSpace> for PodSpaceShape {
    fn from(space: PodSpace) -> PodSpaceShape {
        PodSpaceShape {
            as_of_ms_ago: space.as_of_ms_ago,
            logical_bytes: space.logical_bytes,
            unique_bytes: space.unique_bytes,
            shared_bytes: space.shared_bytes,
            snapshots_bytes: space.snapshots_bytes,
            data_reduction: space.data_reduction,
            total_reduction: space.total_reduction,
        }
    }
}
