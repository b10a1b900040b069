//! Opening a journal after any crash.
//!
//! Reads a directory of segments, gives each record to the caller, and returns a writer that goes on behind the
//! last; or refuses.
//!
//! - R1: a record whose append was completed with success is visited, or the open fails; it is never skipped.
//! - R2: nothing is written until every segment has been classified. Then: files of cut-short creations are removed,
//!   what was read is made durable (a killed process may have left writes that only the device's cache holds),
//!   frames beyond the cut that could begin a segment are erased, and one empty frame of a new life is appended,
//!   which settles the cut: what lay behind it can never come back. A crash in between changes nothing that the
//!   next open reads. An opening frame that nothing followed is overwritten by the next one: the two differ in one
//!   sector only, so that it is the one or the other after a crash.
//! - R3: a hole at or below the greatest `durable_frame` stated by any intact header behind it is damage and is
//!   reported, with the file and the offset; a hole above it is a torn tail and is cut.
//!
//! Bytes: docs/format-journal.md. Faults met here: torn tail, stale tail, lost sync, missing file, rot, foreign file.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::config::{JournalConfig, RESUME_NUMBER_MAX, SEGMENTS_MIN};
use crate::error::OpenError;
use crate::frame::FRAME_ALIGN_BYTES;
use crate::media::{AlignedBuf, Cause, Create, Durability, FileId, Io, MediaError, Open};
use crate::record::{Lsn, Record};
use crate::scan::{First, Link, Position, Scan, Segment};
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentFile, SegmentHeader, Slot, join};
use crate::spare::Spare;
use crate::writer::{Live, Tail, Writer};

/// Least length of a segment, in bytes.
const SEGMENT_BYTES_MIN: u64 = 4 * FRAME_ALIGN_BYTES as u64;

/// What opening a journal found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Segments read.
    pub segments: usize,
    /// Frames in them.
    pub frames: u64,
    /// Records visited.
    pub records: u64,
    /// Bytes read from the media.
    pub bytes_read: u64,
    /// Intact headers beyond the cut: parts of appends that were under way.
    pub frames_cut: u64,
}

/// Opens the journal in `dir`, or begins one when the directory holds none; each record from `needed_from` on goes
/// to `visit`, in order.
pub async fn open(
    io: &Io,
    dir: &str,
    config: JournalConfig,
    visit: &mut (dyn FnMut(Lsn, Record) + Send),
) -> Result<Writer, OpenError> {
    let mut handles = Vec::new();
    let opened = recover(io, dir, &config, visit, &mut handles).await;
    if opened.is_err() {
        for handle in handles {
            io.close(handle).await;
        }
    }
    opened
}

async fn recover(
    io: &Io,
    dir: &str,
    config: &JournalConfig,
    visit: &mut (dyn FnMut(Lsn, Record) + Send),
    handles: &mut Vec<FileId>,
) -> Result<Writer, OpenError> {
    let Inventory { segments, unfinished, next_file } = inventory(io, dir, config, handles).await?;
    let segment_bytes = check_order(&segments, config)?;
    let needed = config.needed_from;
    let (tail, recovery) = if segments.is_empty() {
        (beginning(next_file), Recovery::default())
    } else {
        let mut scan = Scan::new(io, &segments);
        let end = read(&mut scan, &segments, needed, visit).await?;
        let spares = end.at.segment + 1..segments.len();
        let mut stale = Vec::new();
        for index in spares {
            if scan.first_header(index).await?.is_some() {
                stale.push(segments[index].slot);
            }
        }
        let recovery = Recovery {
            segments: segments.len() - end.start,
            frames: scan.frames,
            records: scan.records,
            bytes_read: scan.bytes_read,
            frames_cut: end.frames_cut,
        };
        check_needed(end.link.lsn, needed)?;
        settle(io, &segments[end.first_in_doubt()..], &stale).await?;
        (tail(&segments, end, next_file), recovery)
    };
    check_needed(tail.next_lsn, needed)?;
    settle_names(io, dir, &unfinished).await?;
    let mut writer = Writer::new(dir, config, segment_bytes, tail, recovery);
    begin_life(io, &mut writer, handles).await?;
    Ok(writer)
}

struct Inventory {
    /// In the order of their numbers.
    segments: Vec<Segment>,
    /// Paths of files whose creation was cut short.
    unfinished: Vec<String>,
    next_file: u32,
}

async fn inventory(
    io: &Io,
    dir: &str,
    config: &JournalConfig,
    handles: &mut Vec<FileId>,
) -> Result<Inventory, OpenError> {
    let mut found = Inventory { segments: Vec::new(), unfinished: Vec::new(), next_file: 1 };
    for name in io.list(dir).await? {
        if SegmentFile::is_unfinished(&name) {
            found.unfinished.push(join(dir, &name));
        }
        let Some(file) = SegmentFile::parse(&name) else { continue };
        found.next_file = found.next_file.max(file.0.saturating_add(1));
        let failed = |source: MediaError| OpenError::Media { file: Some(file), source };
        let how = Open { create: Create::Never, direct: true };
        let handle = io.open(&file.path(dir), how).await.map_err(failed)?;
        handles.push(handle);
        let length = io.length(handle).await.map_err(failed)?;
        if length < SEGMENT_HEADER_BYTES {
            return Err(OpenError::WrongLength { file, found: length, expected: config.segment_bytes });
        }
        let block = io.read(handle, 0, SEGMENT_HEADER_BYTES as usize).await.map_err(failed)?;
        let header = SegmentHeader::decode(&block, file, config.array)?;
        if header.length != length {
            return Err(OpenError::WrongLength { file, found: length, expected: header.length });
        }
        found.segments.push(Segment { header, slot: Slot { file, handle } });
    }
    found.segments.sort_by_key(|segment| (segment.header.number, segment.slot.file));
    Ok(found)
}

/// Numbers must be consecutive and lengths equal; gives back the length of a segment.
fn check_order(segments: &[Segment], config: &JournalConfig) -> Result<u64, OpenError> {
    for pair in segments.windows(2) {
        let (one, two) = (&pair[0], &pair[1]);
        let (number, next) = (one.header.number, two.header.number);
        if number == next {
            return Err(OpenError::DuplicateSegment { number, first: one.slot.file, second: two.slot.file });
        }
        if number.checked_add(1) != Some(next) {
            return Err(OpenError::MissingSegment { number: number.saturating_add(1), next: two.slot.file });
        }
        if one.header.length != two.header.length {
            let (found, expected) = (two.header.length, one.header.length);
            return Err(OpenError::WrongLength { file: two.slot.file, found, expected });
        }
    }
    if let Some(last) = segments.last()
        && last.header.number >= RESUME_NUMBER_MAX
    {
        return Err(OpenError::Malformed { file: last.slot.file, offset: 0 });
    }
    let segment_bytes = segments.first().map_or(config.segment_bytes, |first| first.header.length);
    if segment_bytes < SEGMENT_BYTES_MIN || !segment_bytes.is_multiple_of(FRAME_ALIGN_BYTES as u64) {
        return Err(OpenError::SegmentLength { segment_bytes });
    }
    let budget_bytes = config.budget_bytes;
    if budget_bytes / segment_bytes < SEGMENTS_MIN {
        let needed_bytes = SEGMENTS_MIN.saturating_mul(segment_bytes);
        return Err(OpenError::BudgetTooSmall { budget_bytes, segment_bytes, needed_bytes });
    }
    Ok(segment_bytes)
}

/// Where the readable part ends.
struct End {
    /// Index of the first segment that is needed.
    start: usize,
    at: Position,
    /// Where the next life goes on, and what it continues.
    resume: Position,
    link: Link,
    begins: Vec<First>,
    /// Greatest life seen anywhere.
    life: u64,
    frames_cut: u64,
}

impl End {
    /// Index of the first segment that holds a frame which no later one calls durable.
    fn first_in_doubt(&self) -> usize {
        let earlier = self.begins.iter().filter(|first| first.frame <= self.at.durable_frame + 1).count();
        self.start + earlier.saturating_sub(1)
    }
}

async fn read(
    scan: &mut Scan<'_>,
    segments: &[Segment],
    needed: Lsn,
    visit: &mut (dyn FnMut(Lsn, Record) + Send),
) -> Result<End, OpenError> {
    let start = scan.start(needed).await?;
    let is_first = segments[start].header.number == 1;
    let link = is_first.then_some(Link { frame: 1, lsn: 1, chain: 0 });
    let from = Position { segment: start, offset: SEGMENT_HEADER_BYTES, link, life: 0, durable_frame: 0 };
    let mut begins = Vec::new();
    let (at, resume) = scan.walk(from, needed, visit, &mut begins).await?;
    let witness = scan.beyond(at).await?;
    // Without a link, not even the first frame of the oldest segment was readable, and that one is always durable.
    let link = match at.link {
        Some(link) if witness.durable_frame < link.frame => link,
        link => {
            let (file, offset) = scan.hole(at, witness).await?;
            let lsn = Lsn(link.map_or(needed.0, |link| link.lsn));
            return Err(OpenError::DamagedBelowTail {
                at: lsn,
                file,
                offset,
                durable_to: Lsn(witness.durable_lsn),
            });
        }
    };
    let life = witness.life.max(at.life);
    let link = resume.link.unwrap_or(link);
    if life.max(link.frame).max(link.lsn) >= RESUME_NUMBER_MAX {
        return Err(OpenError::Malformed { file: segments[at.segment].slot.file, offset: resume.offset });
    }
    Ok(End { start, at, resume, link, begins, life, frames_cut: witness.frames })
}

fn check_needed(next_lsn: u64, needed: Lsn) -> Result<(), OpenError> {
    if next_lsn < needed.0 {
        return Err(OpenError::EndsBeforeNeeded { last: Lsn(next_lsn - 1), needed });
    }
    Ok(())
}

/// R2: makes `last` durable, and erases frames that could begin a segment behind the cut.
async fn settle(io: &Io, last: &[Segment], stale: &[Slot]) -> Result<(), OpenError> {
    for slot in stale {
        let zeroes = Bytes::from_owner(AlignedBuf::zeroed(FRAME_ALIGN_BYTES));
        let erased = io.write(slot.handle, SEGMENT_HEADER_BYTES, vec![zeroes], Durability::Durable).await;
        erased.map_err(|source| OpenError::Media { file: Some(slot.file), source })?;
    }
    for Segment { slot, .. } in last {
        let synced = io.sync(slot.handle).await;
        synced.map_err(|source| OpenError::Media { file: Some(slot.file), source })?;
    }
    Ok(())
}

/// R2, for names.
async fn settle_names(io: &Io, dir: &str, unfinished: &[String]) -> Result<(), OpenError> {
    for path in unfinished {
        io.remove(path).await?;
    }
    let above = dir.rsplit_once('/').map_or("", |(above, _)| above);
    for dir in [above, dir] {
        match io.sync_dir(dir).await {
            // The first segment's creation makes the directory.
            Ok(()) | Err(MediaError { cause: Cause::NotFound, .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn beginning(next_file: u32) -> Tail {
    Tail {
        next_lsn: 1,
        next_frame: 1,
        chain: 0,
        life: 1,
        offset: 0,
        live: VecDeque::new(),
        spares: VecDeque::new(),
        recycled: VecDeque::new(),
        next_segment: 1,
        next_file,
    }
}

fn tail(segments: &[Segment], end: End, next_file: u32) -> Tail {
    let End { start, at, resume, link, begins, life, .. } = end;
    let live = (start..=at.segment).zip(0..).map(|(index, place): (usize, usize)| {
        // Only the very first segment can be live without a frame.
        let first = begins.get(place).copied().unwrap_or(First { frame: link.frame, lsn: link.lsn });
        let Segment { header, slot } = segments[index];
        Live { header, slot, first_frame: first.frame, first_lsn: first.lsn }
    });
    let spares = segments[at.segment + 1..].iter();
    Tail {
        next_lsn: link.lsn,
        next_frame: link.frame,
        chain: link.chain,
        life: life + 1,
        offset: resume.offset,
        live: live.collect(),
        spares: spares.map(|segment| Spare { header: segment.header, slot: segment.slot }).collect(),
        recycled: segments[..start].iter().map(|segment| segment.slot).collect(),
        next_segment: segments.last().map_or(1, |last| last.header.number + 1),
        next_file,
    }
}

/// Appends the opening frame; what it follows is settled from then on.
async fn begin_life(io: &Io, writer: &mut Writer, handles: &mut Vec<FileId>) -> Result<(), OpenError> {
    let append = match writer.next_append() {
        Some(append) => append,
        None => {
            // May exceed the budget by one segment: an open must not depend on a trim.
            let spare = writer.recipe().prepare(io).await?;
            handles.push(spare.slot.handle);
            writer.add_spare(spare);
            writer.next_append().expect("a segment is ready and nothing is under way")
        }
    };
    let result = io.write(append.file, append.offset, vec![append.data], Durability::Durable).await;
    writer.completed(append.id, result).map_err(|poisoned| poisoned.source)?;
    Ok(())
}
