//! Making a segment ready: a new file, or a file whose records are no longer needed.
//!
//! Crash stories:
//! - P1: a new file is zeroed, gets its header and is synced under a temporary name before it is renamed, so that a
//!   file with a segment's name always has its length and a header. What stays under the temporary name is removed
//!   at the next open.
//! - P2: a recycled file only gets a new header, one sector: after a crash it is the old segment or the new one.
//! - P3: files are recycled oldest first, so that the segments on the media always have consecutive numbers.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::PrepareError;
use crate::media::{Cause, Create, Durability, Io, MediaError, Open};
use crate::segment::{SegmentFile, SegmentHeader, Slot};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    New(SegmentFile),
    Recycled(Slot),
}

/// What has to be done to get the next segment; made by [`Writer::segment_recipe`](crate::Writer::segment_recipe).
#[derive(Debug)]
pub struct SegmentRecipe {
    pub(crate) dir: Arc<str>,
    pub(crate) source: Source,
    pub(crate) header: SegmentHeader,
}

/// A segment that is ready to be written.
#[derive(Debug)]
#[must_use = "hand it to Writer::add_spare"]
pub struct Spare {
    pub(crate) header: SegmentHeader,
    pub(crate) slot: Slot,
}

impl SegmentRecipe {
    /// Makes the segment ready; after an error it may be called again.
    pub async fn prepare(&self, io: &Io) -> Result<Spare, PrepareError> {
        let (file, result) = match self.source {
            Source::New(file) => (file, self.create(io, file).await),
            Source::Recycled(slot) => (slot.file, self.recycle(io, slot).await),
        };
        match result {
            Ok(slot) => Ok(Spare { header: self.header, slot }),
            Err(source) => Err(PrepareError { file, source }),
        }
    }

    /// Whether it makes a file, which takes space; a recycled one takes none.
    pub fn is_new(&self) -> bool {
        matches!(self.source, Source::New(_))
    }

    async fn create(&self, io: &Io, file: SegmentFile) -> Result<Slot, MediaError> {
        let unfinished = file.unfinished_path(&self.dir);
        match io.remove(&unfinished).await {
            Err(MediaError { cause: Cause::NotFound, .. }) | Ok(()) => {}
            Err(error) => return Err(error),
        }
        let handle = io.open(&unfinished, Open { create: Create::New, direct: true }).await?;
        let slot = Slot { file, handle };
        match self.fill(io, slot, &unfinished).await {
            Ok(()) => Ok(slot),
            Err(error) => {
                io.close(handle).await;
                // On a full device its part of a file keeps others from what space there is.
                let _left = io.remove(&unfinished).await;
                Err(error)
            }
        }
    }

    async fn fill(&self, io: &Io, slot: Slot, unfinished: &str) -> Result<(), MediaError> {
        io.prewrite(slot.handle, self.header.length).await?;
        self.recycle(io, slot).await?;
        io.sync(slot.handle).await?;
        io.rename(unfinished, &slot.file.path(&self.dir)).await?;
        io.sync_dir(&self.dir).await
    }

    async fn recycle(&self, io: &Io, slot: Slot) -> Result<Slot, MediaError> {
        let block = Bytes::from_owner(self.header.encode());
        io.write(slot.handle, 0, vec![block], Durability::Durable).await?;
        Ok(slot)
    }
}
