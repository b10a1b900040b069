//! What the API tells of a scrub.

use metropod::{ScrubFinding, ScrubStatus};
use serde::{Deserialize, Serialize};

/// What `scrub show` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubShape {
    /// `idle | running | resting`.
    pub state: String,
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
    pub listed: Vec<ScrubFindingShape>,
    /// Chunks met since the start, by a scrub or anybody, that are lost here and could be asked of the other array.
    pub chunks_found: u64,
    /// Of those, repaired from it.
    pub chunks_repaired: u64,
    /// Of those, not to be had.
    pub chunks_not_repairable: u64,
    /// How long ago it began.
    pub began_ms_ago: Option<u64>,
    /// How long ago it ended.
    pub ended_ms_ago: Option<u64>,
    /// How long it will take at this pace.
    pub eta_ms: Option<u64>,
    /// Scrubs that ended well since the start.
    pub finished: u64,
    /// Reads of a file that failed and are tried again, since the start.
    pub failed: u64,
}

/// Something rotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubFindingShape {
    /// `chunk | stretch | header | footer | file`.
    pub kind: String,
    /// The file in which it lies, below the array's directory.
    pub file: String,
    /// The chunk's digest, if it is a chunk.
    pub digest: Option<String>,
    /// Whether a good copy took its place.
    pub repaired: bool,
}

impl From<ScrubStatus> for ScrubShape {
    fn from(status: ScrubStatus) -> ScrubShape {
        ScrubShape {
            state: status.state.to_owned(),
            bytes_done: status.bytes_done,
            bytes_total: status.bytes_total,
            segments_done: status.segments_done,
            segments_total: status.segments_total,
            records: status.records,
            findings: status.findings,
            listed: status.listed.into_iter().map(ScrubFindingShape::from).collect(),
            chunks_found: status.chunks_found,
            chunks_repaired: status.chunks_repaired,
            chunks_not_repairable: status.chunks_not_repairable,
            began_ms_ago: status.began_ms_ago,
            ended_ms_ago: status.ended_ms_ago,
            eta_ms: status.eta_ms,
            finished: status.finished,
            failed: status.failed,
        }
    }
}

impl From<ScrubFinding> for ScrubFindingShape {
    fn from(finding: ScrubFinding) -> ScrubFindingShape {
        let ScrubFinding { kind, file, digest, repaired } = finding;
        ScrubFindingShape { kind: kind.to_owned(), file, digest, repaired }
    }
}
