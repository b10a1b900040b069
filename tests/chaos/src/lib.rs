//! Chaos on real processes: random faults under hosts of both sides, and a check of every answer they got.
//!
//! A run is named by its seed: which faults, how long, what the hosts do. How processes and packets interleave is the
//! machine's, so the same seed twice is not the same run, only the same plan.
//!
//! - C1: every block is a linearizable register over both arrays; what was acknowledged is never lost.
//! - C2: a write whose answer was lost may have been done any time since, or never; once its host has given it up it
//!   does not appear after a write that was sent later.
//! - C3: while the arrays cannot hear each other, not both acknowledge.
//! - C4: some time after the last fault is over both arrays are online, and both read the same bytes.
//! - C5: whatever a run made (processes, namespaces, files of a run without a violation) is gone at its end.

pub mod host;
pub mod judge;
pub mod nemesis;
pub mod network;
pub mod rows;
pub mod run;
pub mod stage;
pub mod summary;

/// One of the two arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The array that makes the pod.
    A,
    /// The other.
    B,
}

impl Side {
    /// Both, in order.
    pub const BOTH: [Side; 2] = [Side::A, Side::B];

    /// Its name as an array.
    pub fn name(self) -> &'static str {
        match self {
            Side::A => "A",
            Side::B => "B",
        }
    }
}
