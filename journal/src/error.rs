//! Errors of the journal, split by what the caller can do next.

use crate::media::MediaError;
use crate::record::Lsn;
use crate::segment::SegmentFile;

/// Why a journal could not be opened. Nothing has been changed unless a media call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The media failed; the same open may succeed later.
    #[error("the journal's media failed{}", at_file(file))]
    Media {
        /// The segment file, when the call was about one.
        file: Option<SegmentFile>,
        /// What failed.
        #[source]
        source: MediaError,
    },
    /// The settings cannot work.
    #[error(
        "a journal of {budget_bytes} bytes in segments of {segment_bytes} bytes cannot work: give it at least \
         {needed_bytes} bytes"
    )]
    BudgetTooSmall {
        /// Configured budget.
        budget_bytes: u64,
        /// Length of a segment.
        segment_bytes: u64,
        /// Least budget for such segments.
        needed_bytes: u64,
    },
    /// The segment length is not possible.
    #[error(
        "segments of {segment_bytes} bytes are not possible: use a multiple of 4096 bytes, at least 16384"
    )]
    SegmentLength {
        /// Configured length.
        segment_bytes: u64,
    },
    /// A file with a segment's name is something else.
    #[error("{file} in the journal directory is not a journal segment; restore the segment or ask the peer")]
    NotASegment {
        /// The file.
        file: SegmentFile,
    },
    /// Written by another version of the software.
    #[error("{file} has format version {version}, this program knows {known}; use the program that wrote it")]
    UnknownVersion {
        /// The file.
        file: SegmentFile,
        /// What it says.
        version: u16,
        /// What is known here.
        known: u16,
    },
    /// The header's check does not match its content.
    #[error("the header of {file} is damaged; repair this copy from its peer")]
    DamagedHeader {
        /// The file.
        file: SegmentFile,
    },
    /// The directory mixes files of two arrays.
    #[error("{file} belongs to array {}, not to {}; put the right files back", hex(found), hex(expected))]
    ForeignArray {
        /// The file.
        file: SegmentFile,
        /// Whose file it is.
        found: [u8; 16],
        /// Whose directory this is.
        expected: [u8; 16],
    },
    /// The file was cut or extended.
    #[error("{file} is {found} bytes long and should be {expected}; repair this copy from its peer")]
    WrongLength {
        /// The file.
        file: SegmentFile,
        /// Its length.
        found: u64,
        /// The length its header or its neighbours promise.
        expected: u64,
    },
    /// Two files claim the same place.
    #[error("{first} and {second} both claim to be segment {number}; one is a copy: move it away")]
    DuplicateSegment {
        /// The place.
        number: u64,
        /// One file.
        first: SegmentFile,
        /// The other.
        second: SegmentFile,
    },
    /// A segment between two others is not there.
    #[error("journal segment {number} is missing (before {next}); put its file back or repair from the peer")]
    MissingSegment {
        /// The place of the missing segment.
        number: u64,
        /// The file that follows it.
        next: SegmentFile,
    },
    /// The journal begins after the first record that is needed.
    #[error("the journal begins at record {found} but {needed} is needed; put older segment files back")]
    BeginsAfterNeeded {
        /// First record there is.
        found: Lsn,
        /// First record needed.
        needed: Lsn,
    },
    /// The journal ends before the first record that is needed.
    #[error(
        "the journal ends at record {last} but records from {needed} on were trusted to it; put its files back"
    )]
    EndsBeforeNeeded {
        /// Last record there is.
        last: Lsn,
        /// First record needed.
        needed: Lsn,
    },
    /// A record below the durable tail is damaged: ask the peer, never truncate.
    #[error(
        "journal record {at} is damaged below the durable tail ({file} at offset {offset}; durable to record \
         {durable_to}); repair this copy from its peer"
    )]
    DamagedBelowTail {
        /// First record that cannot be read.
        at: Lsn,
        /// The file it should be in.
        file: SegmentFile,
        /// Where its frame should begin, in bytes.
        offset: u64,
        /// The greatest record that a later frame calls durable.
        durable_to: Lsn,
    },
    /// A frame passes its checks but makes no sense: a defect of the program that wrote it.
    #[error(
        "the frame at offset {offset} of {file} is intact but malformed; keep the file and report a defect"
    )]
    Malformed {
        /// The file.
        file: SegmentFile,
        /// Where the frame begins, in bytes.
        offset: u64,
    },
}

/// A segment could not be made ready; preparing it again may succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("journal segment file {file} could not be prepared")]
pub struct PrepareError {
    /// The file.
    pub file: SegmentFile,
    /// What failed.
    #[source]
    pub source: MediaError,
}

/// An append failed: what is on the media is unknown, and the journal must be opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a journal append failed; the array must stop and open its journal again")]
pub struct Poisoned {
    /// The first failure.
    #[source]
    pub source: MediaError,
}

impl From<MediaError> for OpenError {
    fn from(source: MediaError) -> OpenError {
        OpenError::Media { file: None, source }
    }
}

impl From<PrepareError> for OpenError {
    fn from(error: PrepareError) -> OpenError {
        OpenError::Media { file: Some(error.file), source: error.source }
    }
}

fn at_file(file: &Option<SegmentFile>) -> String {
    file.map_or_else(String::new, |file| format!(" at {file}"))
}

fn hex(id: &[u8; 16]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
