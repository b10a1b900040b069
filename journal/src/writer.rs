//! The writing end of the journal: queue, group commit, segments, trim. Sans-IO.
//!
//! Records go in by [`Writer::push`]; [`Writer::next_append`] gives the owner one write at a time, with as many
//! queued records as fit; [`Writer::completed`] takes its result and tells through which record all is durable.
//!
//! - W1: records get consecutive numbers in the order of `push`, and stand in the journal in that order.
//! - W2: a record is reported durable only when its frame and all earlier frames have been completed with success.
//! - W3: after one failed append nothing is appended any more (M3): the journal must be opened again.
//! - W4: a segment is recycled only when a later one has a durable frame and begins at or below the trim point, so
//!   that the oldest segment on the media always begins with a readable frame.
//! - W5: segments are recycled oldest first.
//! - W6: records take no more segments than the budget allows; an open may take one more, and as each open
//!   overwrites the opening frame of one that wrote nothing, it stays at one.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::config::{FRAME_BYTES_MAX, JournalConfig, RECORD_BYTES_MAX, SEGMENTS_MIN};
use crate::error::Poisoned;
use crate::frame::{FRAME_HEADER_BYTES, FrameHeader, Kind, frame_bytes};
use crate::media::{FileId, MediaError};
use crate::pool::Pool;
use crate::record::{Lsn, RECORD_HEADER_BYTES, Record};
use crate::recovery::Recovery;
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentFile, SegmentHeader, Slot};
use crate::spare::{SegmentRecipe, Source, Spare};

/// Segments kept ready ahead of the one being written.
const SPARES_AHEAD: usize = 1;

/// One write: direct, with [`Durability::Durable`](crate::media::Durability::Durable).
#[derive(Debug, Clone)]
#[must_use = "write it and report the result to Writer::completed"]
pub struct Append {
    /// Names the append in [`Writer::completed`].
    pub id: u64,
    /// Where to write.
    pub file: FileId,
    /// At which offset, in bytes.
    pub offset: u64,
    /// What to write: aligned memory, a multiple of 4096 bytes; it goes back to the journal's pool when dropped.
    pub data: Bytes,
}

/// A segment that holds records.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) header: SegmentHeader,
    pub(crate) slot: Slot,
    /// Number of its first frame, written or to be written.
    pub(crate) first_frame: u64,
    /// Number of the first record in it, or of the next one.
    pub(crate) first_lsn: u64,
}

struct InFlight {
    id: u64,
    frame: u64,
    last_lsn: u64,
    done: bool,
}

/// Where the journal goes on; what recovery found.
pub(crate) struct Tail {
    pub(crate) next_lsn: u64,
    pub(crate) next_frame: u64,
    pub(crate) chain: u32,
    pub(crate) life: u64,
    /// Offset of the next frame in the last live segment.
    pub(crate) offset: u64,
    pub(crate) live: VecDeque<Live>,
    pub(crate) spares: VecDeque<Spare>,
    pub(crate) recycled: VecDeque<Slot>,
    pub(crate) next_segment: u64,
    pub(crate) next_file: u32,
}

/// The writing end of one journal.
pub struct Writer {
    dir: Arc<str>,
    array: [u8; 16],
    salt: u64,
    segment_bytes: u64,
    segments_max: u64,
    frames_in_flight_max: usize,
    life: u64,

    queue: VecDeque<Record>,
    queued_bytes: u64,
    /// Number the next pushed record gets.
    next_lsn: u64,
    /// Number of the first record that is in no frame yet.
    unframed_lsn: u64,
    /// An empty frame to write when nothing else is queued.
    wanted: Option<Kind>,

    next_frame: u64,
    chain: u32,
    last_frame_empty: bool,
    next_append: u64,
    in_flight: VecDeque<InFlight>,
    durable_lsn: u64,
    durable_frame: u64,
    poisoned: Option<Poisoned>,

    live: VecDeque<Live>,
    /// Offset of the next frame in the last live segment.
    offset: u64,
    spares: VecDeque<Spare>,
    recycled: VecDeque<Slot>,
    /// A recipe has been given out and no spare has come back for it.
    preparing: bool,
    /// There is no space to grow: the budget is so many segments.
    makes_do: Option<u64>,
    next_segment: u64,
    next_file: u32,
    pool: Pool,
    recovery: Recovery,
}

impl Writer {
    pub(crate) fn new(
        dir: &str,
        config: &JournalConfig,
        segment_bytes: u64,
        tail: Tail,
        recovery: Recovery,
    ) -> Writer {
        Writer {
            dir: dir.into(),
            array: config.array,
            salt: config.salt,
            segment_bytes,
            segments_max: config.budget_bytes / segment_bytes,
            frames_in_flight_max: config.frames_in_flight.clamp(1, crate::config::FRAMES_IN_FLIGHT_MAX),
            life: tail.life,
            queue: VecDeque::new(),
            queued_bytes: 0,
            next_lsn: tail.next_lsn,
            unframed_lsn: tail.next_lsn,
            wanted: Some(Kind::Opening),
            next_frame: tail.next_frame,
            chain: tail.chain,
            last_frame_empty: false,
            next_append: 1,
            in_flight: VecDeque::new(),
            durable_lsn: tail.next_lsn - 1,
            durable_frame: tail.next_frame - 1,
            poisoned: None,
            live: tail.live,
            offset: tail.offset,
            spares: tail.spares,
            recycled: tail.recycled,
            preparing: false,
            makes_do: None,
            next_segment: tail.next_segment,
            next_file: tail.next_file,
            pool: Pool::default(),
            recovery,
        }
    }

    /// Queues a record and gives it its number. The caller bounds what it queues by [`Writer::queued_bytes`].
    ///
    /// After a failed append the record is only numbered: it can never become durable.
    pub fn push(&mut self, record: Record) -> Lsn {
        assert!(record.content_bytes() <= self.record_bytes_max(), "the caller splits larger entries");
        let lsn = self.next_lsn;
        self.next_lsn += 1;
        if self.poisoned.is_none() {
            self.queued_bytes += record.encoded_bytes() as u64;
            self.queue.push_back(record);
        }
        Lsn(lsn)
    }

    /// Asks for an empty frame that states that everything before it is durable. To be called when the journal has
    /// been idle for a moment: without it, rot in the last frame looks like a torn tail.
    pub fn push_closing(&mut self) {
        if !self.last_frame_empty && self.wanted.is_none() {
            self.wanted = Some(Kind::Closing);
        }
    }

    /// The next write, if there is one. `None`: nothing is queued, enough is under way, no segment is ready, or an
    /// append has failed.
    pub fn next_append(&mut self) -> Option<Append> {
        if self.poisoned.is_some() || self.in_flight.len() >= self.frames_in_flight_max {
            return None;
        }
        let kind = self.next_kind()?;
        let first_bytes = match kind {
            Kind::Records => self.queue.front()?.encoded_bytes(),
            Kind::Opening | Kind::Closing => 0,
        };
        if self.remaining_bytes() < frame_bytes(first_bytes) as u64 {
            if kind != Kind::Opening && self.live.len() as u64 >= self.segments_max {
                return None; // W6
            }
            self.next_live()?;
        }
        let records = match kind {
            Kind::Records => self.take_records(),
            Kind::Opening | Kind::Closing => Vec::new(),
        };
        Some(self.frame(kind, &records))
    }

    /// Takes the result of an append; gives back the record through which all is durable.
    pub fn completed(&mut self, id: u64, result: Result<(), MediaError>) -> Result<Lsn, Poisoned> {
        if let Err(source) = result {
            self.poison(source);
        }
        if let Some(poisoned) = self.poisoned {
            return Err(poisoned);
        }
        let append = self.in_flight.iter_mut().find(|append| append.id == id && !append.done);
        append.expect("the owner reports each append once").done = true;
        while let Some(first) = self.in_flight.pop_front_if(|append| append.done) {
            self.durable_frame = first.frame;
            self.durable_lsn = first.last_lsn;
        }
        Ok(Lsn(self.durable_lsn))
    }

    /// Whether [`Writer::segment_recipe`] has something to do: no segment is ready and one may be had.
    pub fn wants_segment(&self) -> bool {
        let may_have = !self.recycled.is_empty() || self.segments() < self.segments_max;
        self.poisoned.is_none() && !self.preparing && self.spares.len() < SPARES_AHEAD && may_have
    }

    /// How to make the next segment ready; only when [`Writer::wants_segment`]. The recipe is good until it
    /// succeeds: retry it, do not drop it.
    pub fn segment_recipe(&mut self) -> SegmentRecipe {
        assert!(self.wants_segment(), "a recipe is asked for only when it is wanted");
        self.recipe()
    }

    /// Makes a recipe for a new file one for a recycled segment, if there is one by now; says whether it did.
    pub fn redirect(&mut self, recipe: &mut SegmentRecipe) -> bool {
        let Source::New(file) = recipe.source else { return false };
        let Some(slot) = self.recycled.pop_front() else { return false };
        recipe.source = Source::Recycled(slot);
        if file.0 + 1 == self.next_file {
            self.next_file = file.0;
        }
        true
    }

    /// Whether the segments there are suffice to go on, one after the other.
    pub fn can_make_do(&self) -> bool {
        self.held_segments() >= SEGMENTS_MIN
    }

    /// There is no space to grow: the budget is what there is, until [`Writer::grows`].
    pub fn make_do(&mut self) {
        self.makes_do = Some(self.held_segments());
    }

    /// Whether it does so.
    pub fn makes_do(&self) -> bool {
        self.makes_do.is_some()
    }

    /// A segment was made `anew`: there is space to grow.
    pub fn grows(&mut self, anew: bool) {
        self.makes_do = self.makes_do.filter(|_| !anew);
    }

    /// Takes a segment that is ready.
    pub fn add_spare(&mut self, spare: Spare) {
        let last =
            self.spares.back().map(|spare| &spare.header).or(self.live.back().map(|live| &live.header));
        let expected = last.map_or(1, |header| header.number + 1);
        assert!(self.preparing && spare.header.number == expected, "spares come back in order, each once");
        self.preparing = false;
        self.spares.push_back(spare);
    }

    /// Whether a trim below `below` would recycle a segment.
    pub fn would_free(&self, below: Lsn) -> bool {
        self.live
            .get(1)
            .is_some_and(|second| second.first_frame <= self.durable_frame && second.first_lsn <= below.0)
    }

    /// Records below `below` are no longer needed; whole segments of them are recycled.
    pub fn trim(&mut self, below: Lsn) {
        while self.would_free(below) {
            let oldest = self.live.pop_front().expect("there are two");
            self.recycled.push_back(oldest.slot);
        }
    }

    /// Bytes of the budget that hold records, with the rest of segments already left.
    pub fn used_bytes(&self) -> u64 {
        let full = self.live.len().saturating_sub(1) as u64;
        full * self.segment_bytes + self.offset
    }

    /// Bytes the journal may take.
    pub fn budget_bytes(&self) -> u64 {
        self.makes_do.unwrap_or(self.segments_max) * self.segment_bytes
    }

    /// Length of a segment, in bytes.
    pub fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// Bytes of records that are in no append yet.
    pub fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }

    /// Records that are in no append yet.
    pub fn queued_records(&self) -> usize {
        self.queue.len()
    }

    /// Whether an append is under way.
    pub fn is_appending(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// The record through which all is durable.
    pub fn durable(&self) -> Lsn {
        Lsn(self.durable_lsn)
    }

    /// Number of the next pushed record.
    pub fn next_lsn(&self) -> Lsn {
        Lsn(self.next_lsn)
    }

    /// The first record that is still on the media, as far as trims tell.
    pub fn oldest(&self) -> Lsn {
        Lsn(self.live.front().map_or(self.next_lsn, |live| live.first_lsn))
    }

    /// The failure that stopped the journal.
    pub fn poisoned(&self) -> Option<Poisoned> {
        self.poisoned
    }

    /// Most bytes of body and attachment of one record together.
    pub fn record_bytes_max(&self) -> usize {
        let room = self.frame_bytes_max() - FRAME_HEADER_BYTES - RECORD_HEADER_BYTES;
        room.min(RECORD_BYTES_MAX)
    }

    /// What opening the journal found.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    pub(crate) fn recipe(&mut self) -> SegmentRecipe {
        self.preparing = true;
        let number = self.next_segment;
        self.next_segment += 1;
        let source = match self.recycled.pop_front() {
            Some(slot) => Source::Recycled(slot),
            None => {
                let file = SegmentFile(self.next_file);
                self.next_file += 1;
                Source::New(file)
            }
        };
        let header = SegmentHeader { array: self.array, number, salt: self.salt, length: self.segment_bytes };
        SegmentRecipe { dir: self.dir.clone(), source, header }
    }

    fn segments(&self) -> u64 {
        self.held_segments() + u64::from(self.preparing)
    }

    /// Segments that there are. One that is being recycled is not among them.
    fn held_segments(&self) -> u64 {
        (self.live.len() + self.spares.len() + self.recycled.len()) as u64
    }

    fn frame_bytes_max(&self) -> usize {
        FRAME_BYTES_MAX.min((self.segment_bytes - SEGMENT_HEADER_BYTES) as usize)
    }

    fn remaining_bytes(&self) -> u64 {
        if self.live.is_empty() { 0 } else { self.segment_bytes - self.offset }
    }

    /// What the next frame is for.
    fn next_kind(&mut self) -> Option<Kind> {
        match self.wanted {
            Some(Kind::Opening) => Some(Kind::Opening),
            // Beyond the budget there is room for opening frames only (W6).
            _ if self.live.len() as u64 > self.segments_max => None,
            _ if !self.queue.is_empty() => Some(Kind::Records),
            // A closing frame states that all is durable, so it waits until all is.
            Some(Kind::Closing) if self.in_flight.is_empty() => Some(Kind::Closing),
            _ => None,
        }
    }

    /// Goes on in the next segment, if one is ready.
    fn next_live(&mut self) -> Option<()> {
        let spare = self.spares.pop_front()?;
        let live = Live {
            header: spare.header,
            slot: spare.slot,
            first_frame: self.next_frame,
            first_lsn: self.unframed_lsn,
        };
        self.live.push_back(live);
        self.offset = SEGMENT_HEADER_BYTES;
        Some(())
    }

    /// As many queued records as fit in one frame and in the rest of the segment.
    fn take_records(&mut self) -> Vec<Record> {
        let limit = self.frame_bytes_max().min(self.remaining_bytes() as usize);
        let mut payload_bytes = 0;
        let mut count = 0;
        for record in &self.queue {
            payload_bytes += record.encoded_bytes();
            if frame_bytes(payload_bytes) > limit {
                break;
            }
            count += 1;
        }
        assert!(count > 0, "room for the first record has been made");
        self.queue.drain(..count).collect()
    }

    fn frame(&mut self, kind: Kind, records: &[Record]) -> Append {
        let active = self.live.back().expect("a segment has been made live");
        let payload_bytes: usize = records.iter().map(Record::encoded_bytes).sum();
        let header = FrameHeader {
            kind,
            segment: active.header.number,
            salt: active.header.salt,
            frame: self.next_frame,
            first_lsn: self.unframed_lsn,
            durable_lsn: self.durable_lsn,
            durable_frame: self.durable_frame,
            life: self.life,
            record_count: u32::try_from(records.len()).expect("bounded by the frame's length"),
            payload_bytes: u32::try_from(payload_bytes).expect("bounded by the frame's length"),
            chain: self.chain,
        };
        let mut buffer = self.pool.take(header.total_bytes());
        let chain = header.encode(records, buffer.as_mut_slice());
        let append = Append {
            id: self.next_append,
            file: active.slot.handle,
            offset: self.offset,
            data: buffer.freeze(),
        };

        self.queued_bytes -= payload_bytes as u64;
        self.unframed_lsn += records.len() as u64;
        self.offset += header.total_bytes() as u64;
        self.next_frame += 1;
        self.chain = chain;
        self.last_frame_empty = records.is_empty();
        self.wanted = None;
        self.next_append += 1;
        let last_lsn = self.unframed_lsn - 1;
        self.in_flight.push_back(InFlight { id: append.id, frame: header.frame, last_lsn, done: false });
        append
    }

    /// W3.
    fn poison(&mut self, source: MediaError) {
        if self.poisoned.is_none() {
            self.poisoned = Some(Poisoned { source });
            self.queue.clear();
            self.queued_bytes = 0;
            self.in_flight.clear();
        }
    }
}
