//! What can go wrong with the store, one enum per operation.

use metropod_journal::media::{Cause, MediaError};

use crate::digest::Digest;
use crate::location::{Location, SegmentId};
use crate::segment::segment_path;

/// Why a store could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The device failed; the same open may succeed later.
    #[error("the chunk store could not be read")]
    Media(#[from] MediaError),
    /// The state given is not what a flush returned.
    #[error("the chunk store's state is damaged; restore the manifest from a copy")]
    StateDamaged,
    /// The state was written by a newer version.
    #[error(
        "the chunk store's state has version {found}, which this program does not know; use the release that wrote it"
    )]
    StateVersion {
        /// The version it has.
        found: u32,
    },
    /// The state belongs to another array.
    #[error("the chunk store's state belongs to another array; put the right manifest back")]
    OtherArray,
    /// A segment file belongs to another array.
    #[error("{} belongs to another array; move it away and put this array's own file back", segment_path(*segment))]
    OtherArraysSegment {
        /// Its name.
        segment: SegmentId,
    },
    /// A segment file is another segment, or none.
    #[error("{} is not the segment it is named after; put the right file back", segment_path(*segment))]
    NotThisSegment {
        /// Its name.
        segment: SegmentId,
    },
    /// A segment was written by another version.
    #[error("{} has version {found}, which this program does not know; use the release that wrote it", segment_path(*segment))]
    SegmentVersion {
        /// Its name.
        segment: SegmentId,
        /// The version it has.
        found: u32,
    },
}

/// Why staged chunks could not be written. They stay staged and readable; the same call may succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Writing chunks failed; they will go to another segment.
    #[error("writing chunks failed")]
    Segment(#[source] MediaError),
    /// A sync failed; what it covered will be written again, to another segment.
    #[error("making chunks durable failed")]
    Sync(#[source] MediaError),
    /// Writing the index failed; the chunks themselves are safe.
    #[error("writing the chunk index failed")]
    Index(#[source] MediaError),
}

impl WriteError {
    /// Whether the device is full.
    pub fn is_no_space(&self) -> bool {
        let (WriteError::Segment(error) | WriteError::Sync(error) | WriteError::Index(error)) = self;
        error.cause == Cause::NoSpace
    }
}

/// Why a pass came to nothing: nothing was found dead, everything is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PassError {
    /// Whether a chunk is referred to could not be told.
    #[error("a pass could not mark a chunk")]
    Mark(#[from] ReadError),
    /// A page of the index is damaged: what lies there might be referred to. The whole index is rebuilt at the next opening.
    #[error("a page of the index is damaged; open the array again to have the index rebuilt")]
    IndexDamaged,
    /// The index could not be read.
    #[error("a pass could not read the index")]
    Index(#[source] MediaError),
    /// A segment's records could not be listed.
    #[error("a pass could not read what a segment holds")]
    Segment(#[source] MediaError),
}

/// Why a chunk could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The store does not hold it.
    #[error("chunk {digest} is not stored here")]
    Missing {
        /// Its name.
        digest: Digest,
    },
    /// What is stored is not what it is named after: fetch it from the peer and [`replace`](crate::Store::replace).
    #[error("chunk {digest} is rotten")]
    Rot {
        /// Its name.
        digest: Digest,
        /// Where it lies; `None` while it is only staged.
        location: Option<Location>,
    },
    /// A page of the index is damaged, so it is not known whether the chunk is stored. Staging it again heals it;
    /// the whole index is rebuilt at the next opening.
    #[error("the index page that would know chunk {digest} is damaged")]
    IndexDamaged {
        /// Its name.
        digest: Digest,
    },
    /// The device failed.
    #[error("chunk {digest} could not be read")]
    Media {
        /// Its name.
        digest: Digest,
        /// How.
        #[source]
        source: MediaError,
    },
}
