//! Segments being written, and the way of a chunk from the queue to stable storage.
//!
//! queued → placed (in a segment's buffer or file, unsynced) → hardened (in the recent table, memory given back).
//!
//! - P1: before a write or sync is awaited its segment is marked doubtful; the mark goes when the call has succeeded.
//!   A failed call and a flow dropped half-way look the same to the next one: a mark that stayed.
//! - P2: after a doubtful write, what was written before it counts; after a doubtful sync, only what was hardened
//!   before it. The rest is queued again. Either way nothing more is written to that segment.
//! - P3: a page that holds hardened records is never written again.

use std::collections::BTreeSet;

use metropod_journal::media::{IoRequest, MediaError};

use super::active::{Active, Doubt, Origin, Placed};
use super::read::LOOKUPS_AT_ONCE;
use super::{Inner, Store, WriteError, lock};
use crate::digest::{Digest, Domain};
use crate::files::remove_detached;
use crate::location::{Location, SEGMENTS_MAX, SegmentId};
use crate::reduce::Payload;
use crate::segment::{SEGMENT_DIR, Stream, segment_path};

const STREAMS: usize = Stream::ALL.len();

/// What only the flow that has the turn may touch.
#[derive(Default)]
pub(super) struct Writer {
    /// By stream.
    active: [Option<Active>; STREAMS],
    /// Not written to any more, not yet synced.
    closed: Vec<Active>,
    names_in_doubt: bool,
    /// What is written belongs to the state that gives freed segments back (space.rs, W1).
    pub(super) for_a_state: bool,
}

impl Store {
    /// Writes staged chunks that are not stored yet into open segments, unsynced. What does not fill a write stays
    /// gathered in memory.
    pub async fn destage(&self) -> Result<(), WriteError> {
        let mut writer = self.shared.writer.take().await;
        self.settle_doubts(&mut writer);
        self.place_queued(&mut writer).await?;
        if self.unsynced_bytes() >= self.shared.config.unsynced_bytes_max {
            self.harden(&mut writer).await?;
            self.maintain().await?;
        }
        Ok(())
    }

    /// Places what is queued now; what is staged meanwhile waits for the next call.
    pub(super) async fn place_queued(&self, writer: &mut Writer) -> Result<(), WriteError> {
        let mut left = self.lock().queue.len();
        while left > 0 {
            let batch: Vec<Digest> =
                self.lock().queue.iter().take(left.min(LOOKUPS_AT_ONCE)).copied().collect();
            let found = self.lookup_batch(&batch).await;
            for (digest, found) in batch.iter().zip(found) {
                // An index that cannot answer costs a second copy, never a lost chunk.
                self.place(writer, *digest, found.ok().flatten()).await?;
            }
            left -= batch.len();
        }
        Ok(())
    }

    async fn place(
        &self,
        writer: &mut Writer,
        digest: Digest,
        found: Option<Location>,
    ) -> Result<(), WriteError> {
        let Some((domain, payload)) = self.lock().next_to_place(&digest, found) else {
            return Ok(());
        };
        let stream = Stream::of(domain);
        self.make_room(writer, stream, &payload).await?;
        let active = writer.active[stream as usize].as_mut().expect("make_room leaves an open segment");
        let location = active.append(domain, digest, &payload, Origin::Staged { replaced: found });
        self.lock().set_placed(&digest, location);
        self.write_out_if_full(writer, stream).await
    }

    /// Copies a record that lies at `from`; it counts once it is hardened.
    pub(super) async fn place_moved(
        &self,
        writer: &mut Writer,
        from: Location,
        domain: Domain,
        digest: Digest,
        payload: &Payload,
    ) -> Result<(), WriteError> {
        let stream = Stream::of_survivors(domain);
        self.make_room(writer, stream, payload).await?;
        let active = writer.active[stream as usize].as_mut().expect("make_room leaves an open segment");
        active.append(domain, digest, payload, Origin::Moved { from });
        self.write_out_if_full(writer, stream).await
    }

    async fn write_out_if_full(&self, writer: &mut Writer, stream: Stream) -> Result<(), WriteError> {
        let is_full = |active: &Active| active.buffer.len() >= self.shared.config.write_bytes;
        match writer.active[stream as usize].as_ref().is_some_and(is_full) {
            true => self.write_out(writer, stream).await,
            false => Ok(()),
        }
    }

    async fn make_room(
        &self,
        writer: &mut Writer,
        stream: Stream,
        payload: &Payload,
    ) -> Result<(), WriteError> {
        let segment_bytes = self.shared.config.segment_bytes;
        if writer.active[stream as usize]
            .as_ref()
            .is_some_and(|active| !active.has_room(payload, segment_bytes))
        {
            self.seal(writer, stream).await?;
        }
        if writer.active[stream as usize].is_none() {
            let begun = self.begin_segment(stream, writer.for_a_state).await;
            let active = begun.map_err(WriteError::Segment)?;
            writer.active[stream as usize] = Some(active);
        }
        Ok(())
    }

    async fn begin_segment(&self, stream: Stream, for_a_state: bool) -> Result<Active, MediaError> {
        let id = {
            let mut inner = self.lock();
            self.check_room(&inner, for_a_state)?;
            let id = inner.take_segment_id();
            inner.count_used(self.shared.config.segment_bytes);
            id
        };
        assert!(id.0 < SEGMENTS_MAX, "2^36 segments are a zebibyte");
        Active::begin(&self.shared.io, &self.shared.config.array, id, stream).await
    }

    async fn seal(&self, writer: &mut Writer, stream: Stream) -> Result<(), WriteError> {
        if let Some(active) = &mut writer.active[stream as usize] {
            active.seal();
        }
        self.write_out(writer, stream).await?;
        writer.closed.extend(writer.active[stream as usize].take());
        Ok(())
    }

    async fn write_out(&self, writer: &mut Writer, stream: Stream) -> Result<(), WriteError> {
        let Some(active) = &mut writer.active[stream as usize] else { return Ok(()) };
        let written = active.write_out(&self.shared.io).await;
        written.map_err(|error| {
            self.settle_doubts(writer);
            WriteError::Segment(error)
        })
    }

    /// Puts everything placed on stable storage.
    pub(super) async fn harden(&self, writer: &mut Writer) -> Result<(), WriteError> {
        for stream in Stream::ALL {
            let Some(active) = &mut writer.active[stream as usize] else { continue };
            if !active.is_unsynced() {
                continue;
            }
            match active.pad(self.shared.config.segment_bytes) {
                true => self.write_out(writer, stream).await?,
                false => self.seal(writer, stream).await?,
            }
        }
        self.sync_names(writer).await?;
        self.sync_segments(writer).await
    }

    async fn sync_names(&self, writer: &mut Writer) -> Result<(), WriteError> {
        if writer.unsynced().all(|active| active.named) {
            return Ok(());
        }
        writer.names_in_doubt = true;
        if let Err(error) = self.shared.io.sync_dir(SEGMENT_DIR).await {
            self.settle_doubts(writer);
            return Err(WriteError::Sync(error));
        }
        writer.names_in_doubt = false;
        writer.unsynced().for_each(|active| active.named = true);
        Ok(())
    }

    async fn sync_segments(&self, writer: &mut Writer) -> Result<(), WriteError> {
        let mut syncs = Vec::new();
        for active in writer.unsynced() {
            active.doubt = Doubt::Sync;
            syncs.push((self.shared.io.submit(IoRequest::Sync { file: active.file.id() }), active));
        }
        let mut failed = None;
        for (sync, active) in syncs {
            match sync.await {
                Ok(_) => {
                    active.doubt = Doubt::None;
                    self.make_findable(active);
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        writer.closed.retain(|active| active.doubt != Doubt::None);
        self.note_open(writer);
        match failed {
            None => Ok(()),
            Some(error) => {
                self.settle_doubts(writer);
                Err(WriteError::Sync(error))
            }
        }
    }

    /// A segment was synced.
    fn make_findable(&self, active: &mut Active) {
        loop {
            let hardened = self.lock().harden_some(active);
            let mut hints = lock(&self.shared.hints);
            for placed in &active.placed[hardened] {
                hints.insert(&placed.digest, placed.location);
            }
            if active.hardened == active.placed.len() {
                return;
            }
        }
    }

    /// Queues again whatever a failed or abandoned call left in doubt (P2). Every turn begins with it.
    pub(super) fn settle_doubts(&self, writer: &mut Writer) {
        let names_in_doubt = std::mem::take(&mut writer.names_in_doubt);
        writer.for_a_state = false;
        let is_doubtful = |active: &Active| active.doubt != Doubt::None || (names_in_doubt && !active.named);
        let mut doubtful: Vec<Active> = writer.closed.extract_if(.., |active| is_doubtful(active)).collect();
        doubtful.extend(
            writer.active.iter_mut().filter_map(|active| active.take_if(|active| is_doubtful(active))),
        );
        for mut active in doubtful {
            let kept = match active.doubt {
                Doubt::Write if !names_in_doubt || active.named => {
                    active.placed.partition_point(|placed| placed.location.offset() < active.written)
                }
                _ => active.hardened,
            };
            let staged =
                |placed: Placed| matches!(placed.origin, Origin::Staged { .. }).then_some(placed.digest);
            self.lock().requeue(active.placed.drain(kept..).filter_map(staged));
            active.buffer = Vec::new();
            active.sealed = false;
            active.doubt = Doubt::None;
            if kept > active.hardened {
                writer.closed.push(active);
            } else if kept == 0 {
                remove_detached(&self.shared.io, segment_path(active.id));
            }
        }
        self.note_open(writer);
    }

    /// Tells which segments may still be written to: those are not freed, and not cleaned.
    fn note_open(&self, writer: &Writer) {
        let open = writer.closed.iter().chain(writer.active.iter().flatten());
        let open: BTreeSet<SegmentId> = open.map(|active| active.id).collect();
        let mut inner = self.lock();
        for left in std::mem::replace(&mut inner.open, open) {
            inner.free_if_empty(left);
        }
        inner.count_used(self.shared.config.segment_bytes);
    }
}

impl Writer {
    fn unsynced(&mut self) -> impl Iterator<Item = &mut Active> {
        self.closed.iter_mut().chain(self.active.iter_mut().flatten()).filter(|active| active.is_unsynced())
    }
}

impl Inner {
    /// What to write for the chunk at the front of the queue; `None` if it is stored already, and then it leaves.
    fn next_to_place(&mut self, digest: &Digest, found: Option<Location>) -> Option<(Domain, Payload)> {
        let staged = self.staged.get(digest).expect("a queued chunk is staged");
        let Some(found) = found.filter(|_| !staged.replaces) else {
            return Some((staged.domain, staged.payload.clone()));
        };
        // Records die during a turn only, and this one is ours; so what was found is still there to be referred to.
        assert!(self.is_visible(found), "a dedupe hit is on a live record");
        self.set_live(found);
        let staged = self.staged.get(digest).expect("a queued chunk is staged");
        self.queued_bytes -= staged.memory_bytes();
        self.duplicates += 1;
        self.staged.remove(digest);
        self.leave_queue(digest);
        None
    }

    fn set_placed(&mut self, digest: &Digest, location: Location) {
        let staged = self.staged.get_mut(digest).expect("a queued chunk is staged");
        staged.placed = Some(location);
        let bytes = staged.memory_bytes();
        self.queued_bytes -= bytes;
        self.placed_bytes += bytes;
        self.leave_queue(digest);
    }

    fn leave_queue(&mut self, digest: &Digest) {
        let front = self.queue.pop_front();
        assert_eq!(front.as_ref(), Some(digest), "only the flow that has the turn takes from the queue");
    }
}
