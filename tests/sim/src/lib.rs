//! Deterministic simulator of whole arrays: the shipped core on simulated media, in virtual time, from one seed.

pub mod executor;
pub mod failures;
pub mod media_queue;
pub mod oracle;
pub mod pair;
pub mod payload;
pub mod random;
pub mod register;
pub mod solo;
