//! Keeping the index small in memory: spilling the recent table.
//!
//! A full device does not stop it: the table then stays in memory and the runs stay unmerged, because a full array must
//! still be able to flush. The footers of the segments hold the same entries.

use std::sync::Arc;

use metropod_journal::media::{Cause, Io, MediaError};

use super::{Store, WriteError};
use crate::files::remove_detached;
use crate::index::{Entry, Run, RunFault, RunId, RunWriter, run_path};

/// The table is sorted by first byte, one part at a time, so that no single step takes long.
const PARTS: usize = 256;

impl Store {
    /// Spills a full table, and merges runs if nobody has tidied up and there are too many. For the flow that has the turn.
    pub(super) async fn maintain(&self) -> Result<(), WriteError> {
        if self.lock().recent.len() >= self.shared.config.recent_entries_max {
            self.spill().await.or_else(unless_full)?;
        }
        while let Some(task) = self.merge_in_turn() {
            match self.merge(task).await {
                Ok(()) => {}
                Err(RunFault::Damaged) => self.lock().rebuild_index = true,
                Err(RunFault::Media(error)) => return unless_full(error),
            }
        }
        Ok(())
    }

    /// Writes the recent table to a run and empties it.
    pub(super) async fn spill(&self) -> Result<(), MediaError> {
        let (mut parts, entries, id) = {
            let mut inner = self.lock();
            let mut parts: Vec<Vec<Entry>> = vec![Vec::new(); PARTS];
            let mut entries = 0;
            for (digest, location) in &inner.recent {
                if inner.is_visible(*location) {
                    parts[usize::from(digest.0[0])].push(Entry { digest: *digest, location: *location });
                    entries += 1;
                }
            }
            (parts, entries, inner.take_run_id())
        };
        let run = self.write_run(id, &mut parts, entries).await;
        let run = run.inspect_err(|_| remove_detached(&self.shared.io, run_path(id)))?;
        let mut inner = self.lock();
        let inner = &mut *inner;
        // Nobody else changes the table during our turn, so it still holds what the run holds, and what is dead.
        assert_eq!(run.record.entries, entries, "the run holds the table's live entries");
        inner.recent.clear();
        let run = unless_empty(&self.shared.io, run);
        inner.runs = Arc::new(run.into_iter().map(Arc::new).chain(inner.runs.iter().cloned()).collect());
        for segment in inner.segments.values_mut().filter(|segment| !inner.unloaded.contains(&segment.id)) {
            segment.indexed = segment.length;
        }
        Ok(())
    }

    async fn write_run(&self, id: RunId, parts: &mut [Vec<Entry>], entries: u64) -> Result<Run, MediaError> {
        let mut writer = RunWriter::create(&self.shared.io, self.shared.config.array, id, 0, entries).await?;
        for part in parts {
            let mut part = std::mem::take(part);
            part.sort_unstable_by_key(|entry| entry.digest);
            part.iter().for_each(|entry| writer.push(*entry));
            if writer.is_full() {
                writer.write_out().await?;
            }
        }
        writer.finish().await
    }
}

/// A run without entries is not kept: everything that would be in it is dead.
pub(super) fn unless_empty(io: &Io, run: Run) -> Option<Run> {
    if run.record.entries > 0 {
        return Some(run);
    }
    remove_detached(io, run_path(run.record.id));
    None
}

fn unless_full(error: MediaError) -> Result<(), WriteError> {
    if error.cause == Cause::NoSpace { Ok(()) } else { Err(WriteError::Index(error)) }
}
