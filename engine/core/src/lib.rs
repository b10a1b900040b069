//! One array as a deterministic machine: protocol, journal, dedupe and snapshots.
//!
//! [`Array::step`] takes one [`Input`], [`Array::next_effect`] gives what is to be done. Time is an argument; media,
//! links, the mediator and whatever takes long are reached through effects. The driver in the `metropod` crate and
//! the simulator run the same code.

mod array;
mod catchup;
mod fetch;
mod frozen;
#[cfg(test)]
mod golden;
mod layer_ids;
mod pod;

pub mod checkpoint;
pub mod codec;
pub mod door;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
pub mod journal_record;
pub mod manifest;
pub mod names;
pub mod namespace;
pub mod operation;
pub mod peer_message;
pub mod repair;
pub mod run_file;
pub mod space_account;
pub mod task;
pub mod transfer;

pub use array::{
    AccountConfig, Accounted, Array, ArrayConfig, BulkPort, CollectConfig, CollectCounts, DESTAGE_BYTES,
    OpenError, SCRUB_BYTES_PER_S_DEFAULT, SCRUB_FINDINGS_MAX, STAGED_BYTES_MAX, ScrubConfig, ScrubProgress,
    ScrubState,
};
pub use catchup::CatchUp;
pub use door::{
    Alarm, Channel, Command, Effect, HostError, Input, ManageError, Managed, ScrubRequest, Source,
};
pub use fetch::{Extent, Fetch};
pub use frozen::Frozen;
pub use layer_ids::LayerIds;
pub use metropod_snapshots::{ENTRIES_MAX as OVERLAY_ENTRIES_DEFAULT, Limits as OverlayLimits};
pub use pod::Pod;
