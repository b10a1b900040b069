//! Open files of the store: each is closed when its last user lets go.

use std::collections::VecDeque;
use std::sync::Arc;

use metropod_journal::media::{Create, FileId, Io, IoRequest, MediaError, Open};
use rustc_hash::FxHashMap;

use crate::location::SegmentId;

/// Files written here are appended to through the page cache and read at any alignment.
pub(crate) fn how(create: Create) -> Open {
    Open { create, direct: false }
}

/// An open file; closing is submitted when it is dropped, so readers drain before a handle goes.
pub(crate) struct OpenFile {
    io: Io,
    id: FileId,
}

impl OpenFile {
    pub(crate) async fn open(io: &Io, path: &str, create: Create) -> Result<OpenFile, MediaError> {
        let id = io.open(path, how(create)).await?;
        Ok(OpenFile { io: io.clone(), id })
    }

    /// For reading whole pages past the page cache.
    pub(crate) async fn open_direct(io: &Io, path: &str) -> Result<OpenFile, MediaError> {
        let id = io.open(path, Open { create: Create::Never, direct: true }).await?;
        Ok(OpenFile { io: io.clone(), id })
    }

    pub(crate) fn id(&self) -> FileId {
        self.id
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        // The request runs whether or not anybody waits for it; a handle that cannot be closed is gone either way.
        drop(self.io.submit(IoRequest::Close { file: self.id }));
    }
}

/// Removes a file that no state refers to; if that fails it is found again as a leftover at the next opening.
pub(crate) fn remove_detached(io: &Io, path: String) {
    drop(io.submit(IoRequest::Remove { path }));
}

/// Segments kept open for reading; at most `limit`, the one opened first goes first.
pub(crate) struct SegmentFiles {
    open: FxHashMap<SegmentId, Arc<OpenFile>>,
    order: VecDeque<SegmentId>,
    limit: usize,
}

impl SegmentFiles {
    pub(crate) fn new(limit: usize) -> SegmentFiles {
        SegmentFiles { open: FxHashMap::default(), order: VecDeque::new(), limit: limit.max(1) }
    }

    pub(crate) fn get(&self, segment: SegmentId) -> Option<Arc<OpenFile>> {
        self.open.get(&segment).cloned()
    }

    /// Lets go of a segment's file; what was held is returned, to be dropped outside any lock.
    #[must_use]
    pub(crate) fn remove(&mut self, segment: SegmentId) -> Option<Arc<OpenFile>> {
        self.order.retain(|other| *other != segment);
        self.open.remove(&segment)
    }

    /// Adds a file; what it displaces is returned, to be dropped outside any lock.
    #[must_use]
    pub(crate) fn insert(&mut self, segment: SegmentId, file: Arc<OpenFile>) -> Option<Arc<OpenFile>> {
        if let Some(previous) = self.open.insert(segment, file) {
            return Some(previous);
        }
        self.order.push_back(segment);
        if self.order.len() <= self.limit {
            return None;
        }
        self.order.pop_front().and_then(|oldest| self.open.remove(&oldest))
    }
}
