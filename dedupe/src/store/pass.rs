//! One pass of the collector: mark what is referred to, then let the rest die at once.
//!
//! ```text
//! begin_pass ─► mark, visit … ─► readers of before have drained ─► finish: list the dead ─► flip
//! ```
//! The caller freezes everything that can refer to a chunk in the same step in which it begins the pass, and marks what
//! the frozen images reach. What is referred to later was either hit (C1) or born (C2) during the pass. Whatever else
//! may hold names across the beginning (a reader) has a [`Pin`], or is waited for by the caller.
//!
//! - G1: until the flip a pass has changed nothing; a crash, an error or dropping it leaves everything as it was.
//! - G2: the flip waits for no device. It happens during a turn, so no chunk is being placed meanwhile.
//! - G3: bits are never used by a second pass: nothing would ever die.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::marks::{Limit, Marks};
use super::read::LOOKUPS_AT_ONCE;
use super::records::list_records;
use super::sweep::Wanted;
use super::{Inner, PassError, Store, lock};
use crate::digest::Digest;
use crate::location::{Location, SegmentId};
use crate::segment::{RecordEntry, SEGMENT_HEADER_BYTES};

/// A pass under way; dropping it gives it up.
pub struct Pass {
    store: Store,
    number: u64,
    /// Names given and not followed.
    wanted: Mutex<Wanted>,
}

/// What was reachable when this was taken stays readable until it is dropped.
pub struct Pin {
    store: Store,
    before: u64,
}

/// What a pass found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Chunks that died.
    pub dead_chunks: u64,
    /// Length of their records, in bytes.
    pub dead_bytes: u64,
    /// Segments freed because nothing in them lives.
    pub freed_segments: u64,
    /// Chunks that something refers to and the store does not hold.
    pub missing_chunks: u64,
    /// Bytes of records stored between the beginnings of the pass before and this one.
    pub fresh_bytes: u64,
}

/// The records of one segment that no bit was set for when they were listed, with the lengths of their content.
type Dying = Vec<(Location, u32)>;

impl Store {
    /// Begins a pass, unless one is under way.
    pub fn begin_pass(&self) -> Option<Pass> {
        let mut inner = self.lock();
        if inner.marks.is_some() {
            return None;
        }
        let number = inner.next_pass;
        inner.next_pass += 1;
        let limit = |length, records| Limit { length, records };
        let segments = inner.segments.values();
        let limits = segments.map(|one| (one.id, limit(one.length, one.records))).collect();
        inner.marks = Some(Marks::new(number, inner.fresh_bytes, limits));
        Some(Pass { store: self.clone(), number, wanted: Mutex::default() })
    }

    /// Keeps what is reachable now readable: no pass that begins later ends before the pin is dropped.
    pub fn pin(&self) -> Pin {
        let mut inner = self.lock();
        let before = inner.next_pass;
        *inner.pins.entry(before).or_default() += 1;
        Pin { store: self.clone(), before }
    }
}

impl Pass {
    /// Marks chunks that something refers to, now or before the pass finishes.
    pub async fn mark(&self, digests: &[Digest]) -> Result<(), PassError> {
        let mut wanted = std::mem::take(&mut *lock(&self.wanted));
        self.store.want(digests, &mut wanted);
        let followed = if wanted.is_full() { self.store.follow(&mut wanted).await } else { Ok(()) };
        lock(&self.wanted).add(wanted);
        followed
    }

    /// Marks nodes that something refers to; says of each whether this is the first time in this pass, so that the nodes
    /// below it have to be visited.
    pub async fn visit(&self, digests: &[Digest]) -> Result<Vec<bool>, PassError> {
        let mut first = Vec::with_capacity(digests.len());
        for batch in digests.chunks(LOOKUPS_AT_ONCE) {
            let found = self.store.stored_or_staged(batch).await?;
            let mut inner = self.store.lock();
            for (digest, found) in batch.iter().zip(&found) {
                let location = found.location().filter(|location| inner.set_live_if_visible(*location));
                let marks = inner.marks.as_mut().filter(|marks| marks.pass == self.number);
                first.push(marks.is_none_or(|marks| marks.visit(digest, location)));
            }
        }
        Ok(first)
    }

    /// Whether nobody is left who may read what was unreachable when the pass began.
    pub fn is_drained(&self) -> bool {
        self.store.lock().pins.range(..=self.number).next().is_none()
    }

    /// Ends the pass: what was not marked is dead, and segments without a live record are freed.
    ///
    /// # Panics
    /// If the pass is not drained.
    pub async fn finish(self) -> Result<Collected, PassError> {
        assert!(self.is_drained(), "readers drain before what they may read dies");
        let mut wanted = std::mem::take(&mut *lock(&self.wanted));
        self.store.follow(&mut wanted).await?;
        let suspects = self.suspects();
        let mut dying = BTreeMap::new();
        for segment in suspects {
            if let Some(list) = self.list_dying(segment).await? {
                dying.insert(segment, list);
            }
        }
        let _turn = self.store.shared.writer.take().await;
        let collected = self.store.lock().flip(self.number, dying);
        Ok(Collected { missing_chunks: wanted.missing, ..collected })
    }

    /// Segments in which fewer records are marked or dead than there were.
    fn suspects(&self) -> Vec<SegmentId> {
        let mut inner = self.store.lock();
        let inner = &mut *inner;
        let Some(marks) = inner.marks.as_mut() else { return Vec::new() };
        marks.watch();
        let has_dying = |(segment, limit): &(&SegmentId, &Limit)| {
            let known = inner.dead.count_below(**segment, limit.length);
            marks.live_records(**segment) + known < limit.records
        };
        marks.limits.iter().filter(has_dying).map(|(segment, _)| *segment).collect()
    }

    async fn list_dying(&self, segment: SegmentId) -> Result<Option<Dying>, PassError> {
        let record = self.store.lock().segments.get(&segment).copied();
        let Some(record) = record else { return Ok(None) };
        let listed = list_records(&self.store.shared.io, &record, SEGMENT_HEADER_BYTES)
            .await
            .map_err(PassError::Segment)?;
        let inner = self.store.lock();
        let Some(marks) = &inner.marks else { return Ok(None) };
        let Some(limit) = marks.limits.get(&segment) else { return Ok(None) };
        let is_dying = |entry: &&RecordEntry| {
            let location = entry.location;
            location.offset() < limit.length && !marks.is_set(location) && !inner.dead.contains(location)
        };
        let dying = listed.entries.iter().filter(is_dying);
        Ok(Some(dying.map(|entry| (entry.location, entry.raw_len)).collect()))
    }
}

impl Inner {
    /// C1: a record that is being referred to lives through the pass under way.
    pub(super) fn set_live(&mut self, location: Location) {
        if let Some(marks) = &mut self.marks {
            marks.set(location);
        }
    }

    /// Like [`Inner::set_live`], if the record is not dead by now.
    pub(super) fn set_live_if_visible(&mut self, location: Location) -> bool {
        let is_visible = self.is_visible(location);
        if is_visible {
            self.set_live(location);
        }
        is_visible
    }

    /// The same for records in the order in which they lie.
    pub(super) fn set_live_where_visible(&mut self, locations: &[Location]) {
        let Some(marks) = &mut self.marks else { return };
        for of_segment in locations.chunk_by(|one, next| one.segment() == next.segment()) {
            let segment = of_segment[0].segment();
            if self.segments.contains_key(&segment) {
                let dead = self.dead.of(segment);
                let alive = |location: &&Location| dead.binary_search(&location.offset()).is_err();
                marks.set_all(segment, of_segment.iter().filter(alive));
            }
        }
    }

    /// C3: everything that no bit was set for dies here.
    fn flip(&mut self, pass: u64, mut dying: BTreeMap<SegmentId, Dying>) -> Collected {
        let mut marks = self.marks.take().expect("a pass has marks until it is over");
        assert!(marks.pass == pass, "one pass at a time");
        let mut late = marks.take_late();
        late.sort_unstable();
        let mut collected = Collected { fresh_bytes: marks.fresh_bytes, ..Collected::default() };
        let before = self.segments.len();
        for (segment, list) in &mut dying {
            list.retain(|(location, _)| {
                late.binary_search(location).is_err() && !self.dead.contains(*location)
            });
            if self.segments.contains_key(segment) {
                self.let_die(*segment, list, &marks, &mut collected);
            }
        }
        collected.freed_segments = (before - self.segments.len()) as u64;
        self.last_pass = pass;
        self.fresh_bytes -= marks.fresh_bytes;
        collected
    }

    fn let_die(
        &mut self,
        segment: SegmentId,
        dying: &[(Location, u32)],
        marks: &Marks,
        collected: &mut Collected,
    ) {
        let limit = marks.limits.get(&segment).expect("only what was there when the pass began may die");
        let (mut bytes, mut raw_bytes) = (0, 0);
        for (location, raw_len) in dying {
            assert!(!marks.is_set(*location), "C1: a marked record lives");
            assert!(location.offset() < limit.length, "C2: a record born since lives");
            bytes += u64::from(location.length_max());
            raw_bytes += u64::from(*raw_len);
        }
        let offsets: Vec<u32> = dying.iter().map(|(location, _)| location.offset()).collect();
        let dead_before = self.dead.count_below(segment, limit.length);
        let known = marks.live_records(segment) + dead_before + offsets.len() as u32;
        self.dead.extend(segment, &offsets);
        self.count_found(segment, known.saturating_sub(limit.records));
        self.deduct(segment, offsets.len() as u32, bytes, raw_bytes);
        if marks.live_records(segment) == 0 {
            self.forget_lost(segment, limit);
        }
        collected.dead_chunks += offsets.len() as u64;
        collected.dead_bytes += bytes;
        self.free_if_empty(segment);
    }

    /// More records are found than the state told: they count before they die.
    fn count_found(&mut self, segment: SegmentId, found: u32) {
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.records += found;
            segment.live_records += found;
        }
    }

    /// Records whose very headers are damaged, and to which nothing refers, count no more, once nothing else in the segment
    /// lives and none was added: then they go with it. Earlier they might be readable again and be referred to by a dedupe
    /// hit, and a segment in which less is counted than lives is freed too early.
    fn forget_lost(&mut self, segment: SegmentId, limit: &Limit) {
        if let Some(segment) = self.segments.get_mut(&segment)
            && segment.records == limit.records
            && !self.open.contains(&segment.id)
        {
            segment.records -= segment.live_records;
            segment.live_records = 0;
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut inner = self.store.lock();
        if inner.marks.as_ref().is_some_and(|marks| marks.pass == self.number) {
            inner.marks = None;
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut inner = self.store.lock();
        if let Some(count) = inner.pins.get_mut(&self.before) {
            *count -= 1;
            if *count == 0 {
                inner.pins.remove(&self.before);
            }
        }
    }
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pass({})", self.number)
    }
}

impl std::fmt::Debug for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pin(before pass {})", self.before)
    }
}
