//! The content-addressed store of one array.
//!
//! Comes in: named payloads, staged in memory. Goes out: verified content, and after a flush a state from which the
//! store opens again. [`Store`] is a handle; any number of flows may use it at once.
//!
//! - D1: an entry is in the recent table or in a run only when its record is on stable storage. Until then its
//!   payload stays staged, and reads are answered from memory. So a failed or doubtful write costs nothing but
//!   writing again: the chunks concerned go back to the queue, the segment is never written to again (M3).
//! - D2: only the flow that has the turn changes segments, the recent table and the runs; others stage and read.
//! - D3: the lock is never held across an await.
//! - D4: a state names only what is on stable storage. After a reopen nothing is appended to an old segment, so
//!   whatever a crash left beyond a recorded length is never read.
//! - D5: a file that some state may still name is removed only after [`Store::committed`] of a later state.
//!
//! Space is collected by passes ([`Pass`]) and by cleaning ([`Store::clean`]):
//!
//! - C1: whoever is told that a chunk is stored may go on to refer to it. So a dedupe hit and [`Store::have`] set the
//!   live bit of the pass under way before they answer.
//! - C2: a record that was hardened after the pass began is live.
//! - C3: what a pass found dead vanishes from all lookups in one step.
//! - C4: one state says which segments are freed, which records are dead, and where moved ones are.
//! - C5: a segment's file is removed when a state without the segment is durable; its number is never used again.

mod active;
mod clean;
mod error;
mod flush;
mod free;
mod maintain;
mod marks;
mod open;
mod pass;
mod read;
mod read_blocks;
mod recall;
mod records;
mod rescue;
mod scrub;
mod space;
mod survey;
mod sweep;
mod tidy;
mod weigh;
mod writer;

pub use clean::Cleaned;
pub use error::{OpenError, PassError, ReadError, WriteError};
pub use pass::{Collected, Pass, Pin};
pub use rescue::{Rescue, Rescued};
pub use scrub::{Finding, Rot, SCRUB_LISTED_MAX, ScrubLeft, Scrubbed};
pub use space::{Room, Space};
pub use weigh::{Census, Weighed};

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use metropod_journal::media::Io;
use rustc_hash::FxHashMap;

use crate::dead::DeadRecords;
use crate::digest::{Digest, Domain};
use crate::files::{SegmentFiles, remove_detached};
use crate::hints::Hints;
use crate::index::{PageCache, Run, RunId};
use crate::location::{Location, SegmentId};
use crate::reduce::Payload;
use crate::segment::{RECORD_BYTES_MAX, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, segment_of_path};
use crate::state::{DeadList, SegmentRecord, State};
use crate::turn::Turn;
use free::Unlisted;
use marks::Marks;
use writer::Writer;

/// Sizes of a store; none of them is format, all may change between openings.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Identity of the array; a store is never opened under another.
    pub array: [u8; 16],
    /// Length of a chunk segment, in bytes: from [`SEGMENT_BYTES_MIN`] to [`SEGMENT_BYTES_MAX`].
    pub segment_bytes: u32,
    /// Bytes gathered before a segment is written to.
    pub write_bytes: usize,
    /// Entries of the recent table that cause it to be spilled to a run.
    pub recent_entries_max: usize,
    /// Bytes written but not synced (they are also held in memory) that make destaging sync.
    pub unsynced_bytes_max: u64,
    /// Index pages kept in memory.
    pub cached_pages_max: usize,
    /// Chunks whose place is remembered in memory beside the index, 12 bytes each.
    pub hints_max: usize,
    /// Segments kept open for reading.
    pub open_segments_max: usize,
    /// Length that all segment files together may have, in bytes; `u64::MAX`: as much as the device has. New data
    /// leaves a reserve of it ([`Store::room`]).
    pub capacity_bytes: u64,
}

impl StoreConfig {
    /// The defaults, for the array of this identity.
    pub fn new(array: [u8; 16]) -> StoreConfig {
        StoreConfig {
            array,
            segment_bytes: SEGMENT_BYTES_MAX,
            write_bytes: 1 << 20,
            recent_entries_max: 256 << 10,
            unsynced_bytes_max: 64 << 20,
            cached_pages_max: 1024,
            hints_max: 4 << 20,
            open_segments_max: 256,
            capacity_bytes: u64::MAX,
        }
    }

    fn check(&self) {
        let allowed = SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX;
        assert!(allowed.contains(&self.segment_bytes), "segments are of {allowed:?} bytes");
        assert!(self.recent_entries_max > 0, "the recent table holds at least one entry");
    }
}

/// What a store holds, exact at the last destage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreStats {
    /// Chunks on stable storage that are not known to be garbage.
    pub chunks: u64,
    /// Length of their content, in bytes.
    pub logical_bytes: u64,
    /// Length of their records, in bytes, rounded up as their locations do.
    pub stored_bytes: u64,
    /// Segments on stable storage.
    pub segments: u64,
    /// Their durable length, in bytes.
    pub segment_bytes: u64,
    /// Chunks staged and not yet on stable storage.
    pub staged: u64,
    /// Times that a chunk was staged that was staged or stored already.
    pub duplicates: u64,
    /// Runs of the index.
    pub runs: u64,
    /// Entries in the runs.
    pub run_entries: u64,
    /// Entries in the recent table.
    pub recent_entries: u64,
    /// Memory held for finding chunks, in bytes: recent table, filters, fences, page cache, segment records, lists of
    /// dead records.
    pub index_memory_bytes: u64,
    /// Memory in use for remembering places, in bytes; see [`StoreConfig::hints_max`].
    pub hint_memory_bytes: u64,
    /// Bytes of records stored since the last finished pass began: what may have made garbage since.
    pub fresh_bytes: u64,
    /// Number of the last pass that was finished; zero: none was.
    pub passes: u64,
    /// Stretches of segments, or whole segments, found damaged when the store was opened.
    pub damaged: u64,
}

/// Handle on the content-addressed store of one array; clones are cheap and share it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    io: Io,
    config: StoreConfig,
    writer: Turn<Writer>,
    inner: Mutex<Inner>,
    pages: Mutex<PageCache>,
    hints: Mutex<Hints>,
    files: Mutex<SegmentFiles>,
    rescue: OnceLock<Arc<dyn Rescue>>,
}

/// A chunk that is not yet on stable storage.
struct Staged {
    domain: Domain,
    payload: Payload,
    /// Where it was put; `None` while it is queued.
    placed: Option<Location>,
    /// To be written even if it is stored already.
    replaces: bool,
}

impl Staged {
    fn memory_bytes(&self) -> u64 {
        self.payload.bytes.len() as u64
    }
}

#[derive(Default)]
struct Inner {
    staged: FxHashMap<Digest, Staged>,
    /// Staged and not placed, in order of staging. Only the writer takes from the front.
    queue: VecDeque<Digest>,
    queued_bytes: u64,
    placed_bytes: u64,
    /// What the segment files take.
    used_bytes: u64,
    /// Sum over all segments, kept because it is asked for often.
    live_bytes: u64,
    /// Segments among `obsolete`.
    freed_segments: u64,
    recent: FxHashMap<Digest, Location>,
    /// Newest first.
    runs: Arc<Vec<Arc<Run>>>,
    /// The newest of the runs that are being merged outside a turn.
    claimed: Option<RunId>,
    segments: BTreeMap<SegmentId, SegmentRecord>,
    /// Segments that may still be written to.
    open: BTreeSet<SegmentId>,
    dead: DeadRecords,
    /// What has died since `dead_list` was written, by segment.
    unlisted: BTreeMap<SegmentId, Unlisted>,
    dead_list: Option<DeadList>,
    /// Records superseded since the store was opened; a lookup that saw it rise looks again.
    buried: u64,
    /// The pass under way.
    marks: Option<Marks>,
    last_pass: u64,
    next_pass: u64,
    /// Pins by the pass that begins next at their taking.
    pins: BTreeMap<u64, u64>,
    fresh_bytes: u64,
    /// Segments whose entries have not been read yet, while opening.
    unloaded: BTreeSet<SegmentId>,
    /// Found while opening, see [`Store::incomplete`].
    incomplete: Option<SegmentId>,
    generation: u64,
    next_segment: u64,
    next_run: u64,
    duplicates: u64,
    damaged: u64,
    rebuild_index: bool,
    /// Files to be removed once a state of this generation or a later one is durable.
    obsolete: Vec<(u64, String)>,
}

impl Store {
    /// Makes a chunk findable at once; it is in memory until it is destaged and flushed.
    ///
    /// The payload comes from [`pack`](crate::pack) or [`reduce`](crate::reduce()), or has passed
    /// [`verify`](crate::verify): the store does not check it again before it is read. A chunk that is staged or
    /// stored already costs nothing.
    pub fn stage(&self, domain: Domain, digest: Digest, payload: Payload) {
        self.stage_as(domain, digest, payload, false);
    }

    /// Like [`Store::stage`], but writes the chunk even if one of that name is stored, and takes its place: for a
    /// chunk found rotten and fetched from the peer.
    pub fn replace(&self, domain: Domain, digest: Digest, payload: Payload) {
        self.stage_as(domain, digest, payload, true);
    }

    fn stage_as(&self, domain: Domain, digest: Digest, payload: Payload, replaces: bool) {
        assert!(!digest.is_zero(), "zero blocks are implicit");
        assert!(payload.is_plausible(), "payloads are verified before they are staged");
        let mut inner = self.lock();
        let inner = &mut *inner;
        if let Some(staged) = inner.staged.get_mut(&digest) {
            staged.replaces |= replaces;
            inner.duplicates += 1;
            return;
        }
        let staged = Staged { domain, payload, placed: None, replaces };
        inner.queued_bytes += staged.memory_bytes();
        inner.staged.insert(digest, staged);
        inner.queue.push_back(digest);
    }

    /// Bytes of staged payloads that wait for [`Store::destage`].
    pub fn staged_bytes(&self) -> u64 {
        self.lock().queued_bytes
    }

    /// Bytes of payloads that are destaged but held in memory until a sync covers them; bounded by
    /// [`StoreConfig::unsynced_bytes_max`] and one call's worth.
    pub fn unsynced_bytes(&self) -> u64 {
        self.lock().placed_bytes
    }

    /// The payload of a chunk that is still in memory; no I/O.
    pub fn get_staged(&self, digest: &Digest) -> Option<Payload> {
        self.lock().staged.get(digest).map(|staged| staged.payload.clone())
    }

    /// Says that `state`, which a flush returned, is durable in the manifest: files that only older states name are
    /// removed. Anything but such a state is ignored.
    pub fn committed(&self, state: &[u8]) {
        let Ok(state) = State::decode(state) else { return };
        let mut inner = self.lock();
        let due = |entry: &mut (u64, String)| entry.0 <= state.generation;
        let paths: Vec<(u64, String)> = inner.obsolete.extract_if(.., due).collect();
        inner.freed_segments -=
            paths.iter().filter(|(_, path)| segment_of_path(path).is_some()).count() as u64;
        inner.count_used(self.shared.config.segment_bytes);
        drop(inner);
        for (_, path) in paths {
            // A reader that has the file open reads on; one that comes later looks the chunk up again (C5).
            if let Some(segment) = segment_of_path(&path) {
                let held = lock(&self.shared.files).remove(segment);
                drop(held);
            }
            remove_detached(&self.shared.io, path);
        }
    }

    /// What the store holds.
    pub fn stats(&self) -> StoreStats {
        let cached = lock(&self.shared.pages).memory_bytes();
        let hint_memory_bytes = lock(&self.shared.hints).memory_bytes();
        let inner = self.lock();
        let segments = || inner.segments.values();
        let table_entry = size_of::<(Digest, Location)>() + 1;
        let filters: u64 = inner.runs.iter().map(|run| run.memory_bytes()).sum();
        let table = (inner.recent.capacity() * table_entry) as u64;
        let segment_table = (inner.segments.len() * size_of::<(SegmentId, SegmentRecord)>()) as u64;
        StoreStats {
            chunks: segments().map(|segment| u64::from(segment.live_records)).sum(),
            logical_bytes: segments().map(|segment| segment.live_raw_bytes).sum(),
            stored_bytes: segments().map(|segment| segment.live_bytes).sum(),
            segments: inner.segments.len() as u64,
            segment_bytes: segments().map(|segment| u64::from(segment.length)).sum(),
            staged: inner.staged.len() as u64,
            duplicates: inner.duplicates,
            runs: inner.runs.len() as u64,
            run_entries: inner.runs.iter().map(|run| run.record.entries).sum(),
            recent_entries: inner.recent.len() as u64,
            index_memory_bytes: filters + table + segment_table + cached + inner.dead.memory_bytes(),
            hint_memory_bytes,
            fresh_bytes: inner.fresh_bytes,
            passes: inner.last_pass,
            damaged: inner.damaged,
        }
    }

    /// The first segment that was missing or shorter than its durable length when the store was opened. What it held
    /// counts as stored and cannot be read: whoever has no peer to fetch it from must not go on.
    pub fn incomplete(&self) -> Option<SegmentId> {
        self.lock().incomplete
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.shared.inner)
    }
}

impl Inner {
    /// A chunk goes back to the queue because what was written of it cannot be relied on.
    fn requeue(&mut self, digests: impl DoubleEndedIterator<Item = Digest>) {
        for digest in digests.rev() {
            let Some(staged) = self.staged.get_mut(&digest) else { continue };
            if staged.placed.take().is_some() {
                let bytes = staged.memory_bytes();
                self.placed_bytes -= bytes;
                self.queued_bytes += bytes;
                self.queue.push_front(digest);
            }
        }
    }

    fn take_segment_id(&mut self) -> SegmentId {
        let id = SegmentId(self.next_segment);
        self.next_segment += 1;
        self.open.insert(id);
        id
    }

    fn take_run_id(&mut self) -> RunId {
        self.next_run += 1;
        RunId(self.next_run - 1)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const _: () = assert!(RECORD_BYTES_MAX < SEGMENT_BYTES_MIN);
