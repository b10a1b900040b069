//! Metropod: active/active block-storage replication, as a library.
//!
//! An [`Array`] keeps volumes in a directory: a journal, content-addressed chunks, volume maps with snapshots. A *pod*
//! is a group of volumes; stretched over two connected arrays, both hold the same content at any time, hosts read and
//! write at either, and when an array or the link is lost exactly one side goes on by itself.
//!
//! The library's futures run on any executor; [`Volume`] also has blocking twins of read, write and flush.

mod array;
mod boot;
mod diff;
mod driver;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod hub;
mod inspect;
mod manage;
mod measure;
mod observe;
mod outlook;
mod reading;
mod space;
mod status;
mod superblock;
mod volume;

pub mod identity;
pub mod link;
pub mod mediator;
pub mod wire;

pub use array::{
    Array, CAPACITY_BYTES_MIN, ConnectError, JOURNAL_BYTES_DEFAULT, JOURNAL_BYTES_MIN, ManageError,
    OVERLAY_ENTRIES_DEFAULT, OpenError, Options, SCRUB_BYTES_PER_S_DEFAULT,
};
pub use diff::{Diff, DiffRange};
pub use inspect::{
    FileKind, InspectError, JournalReport, ManifestReport, PartError, PodRecords, PodReport, Report, inspect,
};
pub use metropod_core::namespace::Limits;
pub use metropod_core::{Extent, HostError, ManageError as Refusal};
pub use metropod_protocol::{ArrayId, Epoch, PodId};
pub use outlook::{Lost, PodDecision, PodExplanation, PodForecast};
pub use status::{
    ArrayStatus, CollectionStatus, ConnectionStatus, MediatorWord, PodSide, PodSpace, PodStatus, Resync,
    ScrubFinding, ScrubStatus, SideStatus, SnapshotStatus, SpaceCount, SpaceShares, SpaceStatus, VolumeSpace,
    VolumeStatus,
};
pub use superblock::{Superblock, SuperblockError};
pub use volume::{IoError, REQUEST_BYTES_MAX, SECTOR_BYTES, Volume};
