//! Names for layers, shared by the core and the flows that build layers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metropod_snapshots::LayerId;

/// Hands out layer ids that were never used in this array; clones share the counter.
#[derive(Debug, Clone)]
pub struct LayerIds {
    next: Arc<AtomicU64>,
}

impl LayerIds {
    /// Goes on from `next`, as stored in the manifest.
    pub fn starting_at(next: u64) -> LayerIds {
        LayerIds { next: Arc::new(AtomicU64::new(next)) }
    }

    /// An unused id.
    pub fn take(&self) -> LayerId {
        LayerId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// The first id not handed out yet.
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }
}
