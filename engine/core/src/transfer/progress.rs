//! How far a round is: counters that only grow, shared with whoever samples them.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one round at one end; see [`Counters`].
#[derive(Debug, Default)]
pub struct Progress {
    logical: AtomicU64,
    done: AtomicU64,
    referenced: AtomicU64,
    compressed: AtomicU64,
    wire: AtomicU64,
    saved: AtomicU64,
}

/// A sample of [`Progress`]. Each value only grows; `bytes_done` ends at `bytes_logical`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Content that the round names, zeroes not counted: known when the round begins.
    pub bytes_logical: u64,
    /// Of it, what the target is known to hold.
    pub bytes_done: u64,
    /// Of what is done, content that was not shipped: the target had it, or one chunk served several blocks.
    pub bytes_referenced: u64,
    /// Stored size of the chunks shipped.
    pub bytes_compressed: u64,
    /// Bytes of all messages of the round, both ways.
    pub bytes_wire: u64,
    /// Content that did not have to be shipped, by reference or by compression.
    pub bytes_saved: u64,
}

impl Progress {
    /// All zero.
    pub fn new() -> Progress {
        Progress::default()
    }

    /// The present values.
    pub fn sample(&self) -> Counters {
        // `done` is read before what it is compared with, so that a sample never shows more done than there is.
        let bytes_done = self.done.load(Ordering::Acquire);
        Counters {
            bytes_logical: self.logical.load(Ordering::Acquire),
            bytes_done,
            bytes_referenced: self.referenced.load(Ordering::Acquire),
            bytes_compressed: self.compressed.load(Ordering::Acquire),
            bytes_wire: self.wire.load(Ordering::Acquire),
            bytes_saved: self.saved.load(Ordering::Acquire),
        }
    }

    pub(super) fn set_logical(&self, bytes: u64) {
        self.logical.fetch_max(bytes, Ordering::AcqRel);
    }

    pub(super) fn add_wire(&self, bytes: u64) {
        self.wire.fetch_add(bytes, Ordering::AcqRel);
    }

    /// A batch is done: `named` bytes of content, of which `shipped` came as chunks of `stored` bytes.
    pub(super) fn add_done(&self, named: u64, shipped: u64, stored: u64) {
        let referenced = named.saturating_sub(shipped);
        self.referenced.fetch_add(referenced, Ordering::AcqRel);
        self.compressed.fetch_add(stored, Ordering::AcqRel);
        self.saved.fetch_add(referenced + shipped.saturating_sub(stored), Ordering::AcqRel);
        self.done.fetch_add(named, Ordering::AcqRel);
    }
}
