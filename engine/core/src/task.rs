//! Flows that run beside the core: destage, checkpoint, upkeep of layers, partial blocks, transfer.
//!
//! A flow takes immutable inputs (frozen images, store and media handles) and ends in one [`Finished`] value, which
//! the core applies in a step of its own. So no flow ever holds a reference into the core, and the driver may run
//! flows wherever it likes: on threads in production, in virtual time in the simulator.

use std::future::Future;
use std::pin::Pin;

use metropod_dedupe::{Digest, Pass, PassError, ReadError, Reduced, Scrubbed, WriteError};
use metropod_journal::media::{Cause, MediaError};
use metropod_journal::{PrepareError, SegmentRecipe, Spare};
use metropod_protocol::{ArrayId, PodId};
use metropod_snapshots::{ChunkStoreError, LayerId, MapError, ReachError, Rework};

use crate::array::Swept;
use crate::checkpoint::Checkpointed;
use crate::namespace::PodImage;
use crate::space_account::SpaceAccount;
use crate::transfer::{AbortReason, TransferError};

/// A flow to run to its end.
pub struct Task {
    /// Its kind, for logs.
    pub name: &'static str,
    /// What it waits for: flows that wait for the other array must not keep others from running.
    pub waits_for: WaitsFor,
    /// The flow itself.
    pub future: Pin<Box<dyn Future<Output = Finished> + Send>>,
}

/// What a flow may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitsFor {
    /// This array's media and processors: it ends by itself.
    Media,
    /// The joiner, for its part of a round that is sent.
    Joiner,
    /// The survivor, for its part of a round that is received.
    Survivor,
    /// Nobody: this array's media. But another array's reads wait for it, while this one's may wait for that array.
    Asker,
}

/// Why a flow gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowError {
    /// The media failed.
    Media(MediaError),
    /// Stored content is missing or damaged.
    Damaged,
    /// A chunk is.
    Chunk(Digest),
    /// The joiner does not hold the point that the round starts from.
    MissingBase,
    /// The other end went away or broke the rules.
    Peer,
}

impl From<MediaError> for FlowError {
    fn from(error: MediaError) -> FlowError {
        FlowError::Media(error)
    }
}

impl From<WriteError> for FlowError {
    fn from(error: WriteError) -> FlowError {
        let (WriteError::Segment(source) | WriteError::Sync(source) | WriteError::Index(source)) = error
        else {
            return FlowError::Damaged;
        };
        FlowError::Media(source)
    }
}

impl From<ReadError> for FlowError {
    fn from(error: ReadError) -> FlowError {
        match error {
            ReadError::Media { source, .. } => FlowError::Media(source),
            ReadError::Missing { digest }
            | ReadError::Rot { digest, .. }
            | ReadError::IndexDamaged { digest } => FlowError::Chunk(digest),
            _ => FlowError::Damaged,
        }
    }
}

impl From<MapError<ChunkStoreError>> for FlowError {
    fn from(error: MapError<ChunkStoreError>) -> FlowError {
        match error {
            MapError::Node { source, .. } | MapError::Stage { source } => match source {
                ChunkStoreError::Read(error) => error.into(),
                ChunkStoreError::Write(error) => error.into(),
                _ => FlowError::Damaged,
            },
            _ => FlowError::Damaged,
        }
    }
}

impl From<PassError> for FlowError {
    fn from(error: PassError) -> FlowError {
        match error {
            PassError::Mark(error) => error.into(),
            PassError::Segment(error) | PassError::Index(error) => FlowError::Media(error),
            _ => FlowError::Damaged,
        }
    }
}

impl From<ReachError<ChunkStoreError, PassError>> for FlowError {
    fn from(error: ReachError<ChunkStoreError, PassError>) -> FlowError {
        match error {
            ReachError::Map(error) => error.into(),
            ReachError::Mark { source } => source.into(),
            _ => FlowError::Damaged,
        }
    }
}

impl From<TransferError> for FlowError {
    fn from(error: TransferError) -> FlowError {
        match error {
            TransferError::Map(error) => error.into(),
            TransferError::Read(error) => error.into(),
            TransferError::Write(error) => error.into(),
            TransferError::Aborted(AbortReason::MissingBase) => FlowError::MissingBase,
            _ => FlowError::Peer,
        }
    }
}

impl FlowError {
    /// Whether the device is full.
    pub fn is_no_space(&self) -> bool {
        matches!(self, FlowError::Media(MediaError { cause: Cause::NoSpace, .. }))
    }
}

/// What keeping layers within their limits came to, one piece of work at a time.
#[derive(Debug)]
pub struct Upkept {
    /// Entries of all layers before the work.
    pub entries: usize,
    /// What was made, to be given to every image; `None`: there is nothing to do.
    pub rework: Option<Rework>,
}

/// A group of images that could not be folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotUpkept {
    /// Its oldest layer, if a fold failed.
    pub oldest: Option<LayerId>,
    /// Why.
    pub error: FlowError,
}

/// How a flow ended.
#[derive(Debug)]
pub enum Finished {
    /// A journal segment is ready.
    Segment {
        /// How to make it; kept until it succeeded.
        recipe: SegmentRecipe,
        /// The segment.
        result: Result<Spare, PrepareError>,
    },
    /// The reserve is there.
    ReserveMade(Result<(), MediaError>),
    /// The reserve is given up.
    ReserveGiven(Result<(), MediaError>),
    /// Staged payloads went to segments.
    Destaged(Result<(), FlowError>),
    /// Runs of the index were merged, or need not be.
    Tidied(Result<(), FlowError>),
    /// A checkpoint is durable.
    Checkpointed(Result<Box<Checkpointed>, FlowError>),
    /// Partial blocks of the entry being applied are whole now.
    Merged {
        /// The pod.
        pod: PodId,
        /// Which application asked; an older number is ignored.
        number: u64,
        /// Whole blocks.
        result: Result<Vec<(u64, Reduced)>, FlowError>,
    },
    /// Layers were merged or folded, or need not be.
    Upkept(Result<Box<Upkept>, NotUpkept>),
    /// A flow that only makes way for other steps, or that drops what took long to drop.
    Turn,
    /// A pass has marked everything that its roots reach, or came to nothing.
    Marked(Result<Pass, FlowError>),
    /// A pass is over, or a step of the cleaning after it.
    Swept(Swept),
    /// It was counted whose the space is.
    Accounted(Result<Box<SpaceAccount>, FlowError>),
    /// A segment was read and proven.
    Scrubbed {
        /// Which scrub asked; another number than that of the one under way is ignored.
        number: u64,
        /// What it came to; `None`: there is none left.
        result: Result<Option<Box<Scrubbed>>, MediaError>,
    },
    /// An array was told what this one has of a chunk.
    ChunkAnswered {
        /// Which array.
        peer: ArrayId,
    },
    /// At the survivor: a round ended.
    Sent {
        /// The pod.
        pod: PodId,
        /// Which round.
        round: u64,
        /// Whether the joiner flipped.
        result: Result<(), FlowError>,
    },
    /// At the joiner: an image is complete.
    Received {
        /// The pod.
        pod: PodId,
        /// Which round.
        round: u64,
        /// The image.
        result: Result<Box<PodImage>, FlowError>,
    },
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Task({})", self.name)
    }
}
