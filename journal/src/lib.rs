//! The array's log: media contract (real and simulated), segments, records, group commit, recovery, trim.
//!
//! One journal per array. [`open`] recovers it and gives its [`Writer`], which turns queued [`Record`]s into
//! [`Append`]s for the owner to write; a completed append makes its records durable. Bytes: docs/format-journal.md.

mod config;
mod error;
mod frame;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
pub mod media;
mod pool;
mod record;
mod recovery;
mod scan;
mod segment;
mod spare;
mod writer;

pub use config::{
    BUDGET_BYTES_DEFAULT, FRAME_BYTES_MAX, FRAMES_IN_FLIGHT_MAX, JournalConfig, RECORD_BYTES_MAX,
    SEGMENT_BYTES_DEFAULT, SEGMENTS_MIN,
};
pub use error::{OpenError, Poisoned, PrepareError};
pub use record::{Lsn, RECORD_HEADER_BYTES, Record, StreamId};
pub use recovery::{Recovery, open};
pub use segment::SegmentFile;
pub use spare::{SegmentRecipe, Spare};
pub use writer::{Append, Writer};
