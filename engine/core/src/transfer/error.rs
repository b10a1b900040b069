//! Why a round ended without a result, split by what the core can do next.

use metropod_dedupe::{Digest, ReadError, Store, WriteError};
use metropod_snapshots::{MapError, NodeStore};

use super::begin::Target;
use crate::codec::DecodeError;

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The session is over: begin again in the next one; what arrived is kept.
    #[error("the session ended during a transfer")]
    Closed,
    /// The other end gave up.
    #[error("the other array gave up the transfer: {0}")]
    Aborted(AbortReason),
    /// The other end broke the rules.
    #[error("the other array broke the rules of a transfer: {0}")]
    Violation(#[from] Violation),
    /// The target does not hold what the round builds on, or has gone further than the round allows for: plan one from
    /// another point, or from nothing. The source sees `Aborted` with the same reason.
    #[error("the array does not hold {target:?} of the common point that the round builds on")]
    MissingBase {
        /// What is missing; `None` for the common point as a whole.
        target: Option<Target>,
    },
    /// A chunk came damaged every time that it was asked for.
    #[error("chunk {digest} came damaged each time it was asked for")]
    Corrupt {
        /// Its name.
        digest: Digest,
    },
    /// The pod has more volumes and snapshots than one round can name.
    #[error("{points} frozen points and {namespace_bytes} bytes of names are more than one round can carry")]
    TooLarge {
        /// Points to build.
        points: usize,
        /// Encoded namespace.
        namespace_bytes: usize,
    },
    /// A map could not be walked or folded.
    #[error("a volume's map cannot be read or written")]
    Map(#[from] MapError<<Store as NodeStore>::Error>),
    /// Stored content could not be read, or the index could not be asked.
    #[error("stored content cannot be read")]
    Read(#[from] ReadError),
    /// Received content could not be written.
    #[error("received content cannot be stored")]
    Write(#[from] WriteError),
}

impl TransferError {
    /// What the other end is told; nothing when it is gone or gave up itself.
    pub(super) fn abort_reason(&self) -> Option<AbortReason> {
        match self {
            TransferError::Closed | TransferError::Aborted(_) => None,
            TransferError::Violation(_) => Some(AbortReason::Violation),
            TransferError::MissingBase { .. } => Some(AbortReason::MissingBase),
            TransferError::Corrupt { .. } => Some(AbortReason::Corrupt),
            TransferError::TooLarge { .. } => Some(AbortReason::Other),
            TransferError::Map(_) | TransferError::Read(_) | TransferError::Write(_) => {
                Some(AbortReason::Storage)
            }
        }
    }
}

/// What the other end did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A message that has no place here.
    #[error("a message out of place")]
    OutOfPlace,
    /// More unfinished batches than the window allows.
    #[error("more unfinished batches than the window allows")]
    Window,
    /// A batch for a point, or a block, that is not next.
    #[error("changes out of order or beyond the end of the volume")]
    Order,
    /// An answer about a batch that is not open, or of another length.
    #[error("an answer about a batch that is not open")]
    Batch,
    /// Content that was not asked for.
    #[error("content that was not asked for")]
    Unasked,
    /// The same content was asked for too often.
    #[error("the same content was asked for too often")]
    Asks,
    /// The two ends computed different checks.
    #[error("the check over all changes differs")]
    Check,
    /// `Begin` cannot be read.
    #[error("the round's description cannot be read: {0}")]
    Begin(DecodeError),
}

/// What one end tells the other when it gives up (format: the number is sent).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum AbortReason {
    /// Without a reason, or one that this version does not know.
    Other = 0,
    /// The other broke the rules.
    Violation = 1,
    /// The target lacks what the round builds on.
    MissingBase = 2,
    /// A chunk came damaged every time.
    Corrupt = 3,
    /// The end's own media or stored content failed.
    Storage = 4,
    /// The pod went on without the round.
    Obsolete = 5,
}

impl AbortReason {
    pub(super) fn from_u8(number: u8) -> AbortReason {
        match number {
            1 => AbortReason::Violation,
            2 => AbortReason::MissingBase,
            3 => AbortReason::Corrupt,
            4 => AbortReason::Storage,
            5 => AbortReason::Obsolete,
            _ => AbortReason::Other,
        }
    }
}

impl std::fmt::Display for AbortReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            AbortReason::Other => "no reason given",
            AbortReason::Violation => "this array broke the rules",
            AbortReason::MissingBase => "it lacks what the round builds on",
            AbortReason::Corrupt => "a chunk came damaged every time",
            AbortReason::Storage => "its storage failed",
            AbortReason::Obsolete => "the round is no longer wanted",
        })
    }
}
