//! One array as a deterministic machine: protocol, journal, dedupe and snapshots.

pub mod codec;
pub mod names;
pub mod namespace;
pub mod operation;
