//! Deterministic simulator of whole arrays: the shipped core on simulated media, in virtual time, from one seed.

pub mod oracle;
pub mod random;
pub mod solo;
