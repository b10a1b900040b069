//! One array as a deterministic machine: protocol, journal, dedupe and snapshots.

mod layer_ids;

pub mod codec;
pub mod names;
pub mod namespace;
pub mod operation;
pub mod transfer;

pub use layer_ids::LayerIds;
