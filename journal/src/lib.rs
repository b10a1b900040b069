//! The array's log: media contract (real and simulated), segments, records, group commit, recovery, trim.

pub mod media;
