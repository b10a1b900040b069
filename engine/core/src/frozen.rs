//! Frozen content that was given out: whoever holds it may read all of it, for as long as it is held.
//!
//! - F1: what is held counts as referred to when space is collected, whatever became of the volume meanwhile.

use std::sync::{Arc, Weak};

use metropod_snapshots::Image;

/// Frozen points of volumes and snapshots; what they reach stays until the last handle is dropped.
#[derive(Debug, PartialEq, Eq)]
pub struct Frozen {
    /// The content, in the order asked for.
    pub images: Vec<Image>,
}

/// What is held by others.
#[derive(Default)]
pub(crate) struct GivenOut {
    held: Vec<Weak<Frozen>>,
}

impl GivenOut {
    /// Gives out frozen content.
    pub(crate) fn give(&mut self, images: Vec<Image>) -> Arc<Frozen> {
        let frozen = Arc::new(Frozen { images });
        self.held.retain(|held| held.strong_count() > 0);
        self.held.push(Arc::downgrade(&frozen));
        frozen
    }

    /// Whether something is still held.
    pub(crate) fn is_held(&self) -> bool {
        self.held.iter().any(|held| held.strong_count() > 0)
    }

    /// Everything that is still held.
    pub(crate) fn images(&self) -> Vec<Image> {
        let held = self.held.iter().filter_map(Weak::upgrade);
        held.flat_map(|frozen| frozen.images.clone()).collect()
    }
}
