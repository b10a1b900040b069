//! Reading frames back: the walk along the chain, and the search for frames beyond its end.

use bytes::Bytes;

use crate::config::FRAME_BYTES_MAX;
use crate::error::OpenError;
use crate::frame::{Checked, FRAME_ALIGN_BYTES, FRAME_VERSION, Found, FrameHeader, Kind};
use crate::media::{FileId, Io, MediaError};
use crate::record::{Lsn, Record};
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentFile, SegmentHeader, Slot};

/// Bytes read at a time; a frame that begins a read lies in it whole.
const WINDOW_BYTES: usize = FRAME_BYTES_MAX;

/// A segment found on the media.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    pub(crate) slot: Slot,
}

/// Where the next frame is expected, and what it must continue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position {
    /// Index into the list of segments.
    pub(crate) segment: usize,
    pub(crate) offset: u64,
    /// `None` before the first frame of a journal whose older segments are gone.
    pub(crate) link: Option<Link>,
    /// The greatest life so far.
    pub(crate) life: u64,
    /// The greatest frame that one so far calls durable.
    pub(crate) durable_frame: u64,
}

/// What the next frame must state to follow the last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub(crate) frame: u64,
    pub(crate) lsn: u64,
    pub(crate) chain: u32,
}

/// The first frame and record of a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct First {
    pub(crate) frame: u64,
    pub(crate) lsn: u64,
}

/// What headers beyond the end of the chain state.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Witness {
    pub(crate) frames: u64,
    /// Index of the first segment that holds one.
    pub(crate) segment: Option<usize>,
    pub(crate) durable_frame: u64,
    pub(crate) durable_lsn: u64,
    pub(crate) life: u64,
}

struct Whole {
    checked: Checked,
    payload: Bytes,
}

/// Reads the segments of one journal.
pub(crate) struct Scan<'a> {
    io: &'a Io,
    segments: &'a [Segment],
    window: Bytes,
    window_file: Option<FileId>,
    window_offset: u64,
    pub(crate) frames: u64,
    pub(crate) records: u64,
    pub(crate) bytes_read: u64,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(io: &'a Io, segments: &'a [Segment]) -> Scan<'a> {
        let (window, window_file, window_offset) = (Bytes::new(), None, 0);
        Scan { io, segments, window, window_file, window_offset, frames: 0, records: 0, bytes_read: 0 }
    }

    /// Index of the newest segment that begins, intact, at or before `needed`: older ones hold nothing needed.
    pub(crate) async fn start(&mut self, needed: Lsn) -> Result<usize, OpenError> {
        for index in (1..self.segments.len()).rev() {
            let segment = self.segments[index];
            let block = self.read(segment.slot, SEGMENT_HEADER_BYTES, FRAME_ALIGN_BYTES).await?;
            let Found::Frame(checked) = FrameHeader::find(&block, &segment.header) else { continue };
            if checked.header.first_lsn <= needed.0
                && self.whole(index, SEGMENT_HEADER_BYTES).await?.is_some()
            {
                return Ok(index);
            }
        }
        Ok(0)
    }

    /// Walks the chain from `at` to its end, gives records from `needed` on to `visit` and the first frame of each
    /// segment to `begins`.
    ///
    /// Gives back where the chain ends, and where the next life goes on: there, or over a last opening frame.
    pub(crate) async fn walk(
        &mut self,
        mut at: Position,
        needed: Lsn,
        visit: &mut (dyn FnMut(Lsn, Record) + Send),
        begins: &mut Vec<First>,
    ) -> Result<(Position, Position), OpenError> {
        let mut resume = at;
        while let Some((place, whole)) = self.next(at).await? {
            let Whole { checked, payload } = whole;
            let header = checked.header;
            if place.offset == SEGMENT_HEADER_BYTES {
                begins.push(First { frame: header.frame, lsn: header.first_lsn });
            }
            if at.link.is_none() && header.first_lsn > needed.0 {
                return Err(OpenError::BeginsAfterNeeded { found: Lsn(header.first_lsn), needed });
            }
            let file = self.segments[place.segment].slot.file;
            let malformed = OpenError::Malformed { file, offset: place.offset };
            let mut rest = &payload[..];
            for lsn in (header.first_lsn..).take(header.record_count as usize) {
                let Some((record, after)) = Record::decode(rest) else { return Err(malformed) };
                rest = after;
                if lsn >= needed.0 {
                    self.records += 1;
                    visit(Lsn(lsn), record);
                }
            }
            if !rest.is_empty() {
                return Err(malformed);
            }
            self.frames += 1;
            at = Position {
                segment: place.segment,
                offset: place.offset + header.total_bytes() as u64,
                link: Some(Link {
                    frame: header.frame + 1,
                    lsn: header.first_lsn + u64::from(header.record_count),
                    chain: checked.header_crc,
                }),
                life: header.life,
                durable_frame: at.durable_frame.max(header.durable_frame),
            };
            resume = match header.kind {
                Kind::Records | Kind::Closing => at,
                Kind::Opening => Position {
                    offset: place.offset,
                    link: Some(Link { frame: header.frame, lsn: header.first_lsn, chain: header.chain }),
                    ..at
                },
            };
        }
        Ok((at, resume))
    }

    /// Looks at every place from `at` on, also in later segments, for headers that are intact.
    pub(crate) async fn beyond(&mut self, at: Position) -> Result<Witness, OpenError> {
        let mut witness = Witness::default();
        for index in at.segment..self.segments.len() {
            let Segment { header, slot } = self.segments[index];
            let mut offset = if index == at.segment { at.offset } else { SEGMENT_HEADER_BYTES };
            while offset < header.length {
                let wanted = WINDOW_BYTES.min((header.length - offset) as usize);
                let window = self.bytes(slot, header.length, offset, wanted).await?;
                for (block, inside) in window.chunks(FRAME_ALIGN_BYTES).zip(0u64..) {
                    let place = offset + inside * FRAME_ALIGN_BYTES as u64;
                    if let Some(checked) = checked(block, &header, slot.file, place)? {
                        witness.frames += 1;
                        witness.segment = witness.segment.or(Some(index));
                        witness.durable_frame = witness.durable_frame.max(checked.header.durable_frame);
                        witness.durable_lsn = witness.durable_lsn.max(checked.header.durable_lsn);
                        witness.life = witness.life.max(checked.header.life);
                    }
                }
                offset += wanted as u64;
            }
        }
        Ok(witness)
    }

    /// The header at the first place of a segment, if it is intact.
    pub(crate) async fn first_header(&mut self, index: usize) -> Result<Option<FrameHeader>, OpenError> {
        let Segment { header, slot } = self.segments[index];
        let block = self.read(slot, SEGMENT_HEADER_BYTES, FRAME_ALIGN_BYTES).await?;
        let checked = checked(&block, &header, slot.file, SEGMENT_HEADER_BYTES)?;
        Ok(checked.map(|checked| checked.header))
    }

    /// File and offset of a damaged frame that should follow `at`: here, or at the start of the next segment when
    /// nothing intact follows here and the next segment does not begin with a later frame.
    pub(crate) async fn hole(
        &mut self,
        at: Position,
        witness: Witness,
    ) -> Result<(SegmentFile, u64), OpenError> {
        let here = (self.segments[at.segment].slot.file, at.offset);
        let left =
            at.offset > SEGMENT_HEADER_BYTES && witness.segment.is_some_and(|index| index > at.segment);
        let Some(link) = at.link.filter(|_| left) else { return Ok(here) };
        match self.first_header(at.segment + 1).await? {
            Some(header) if header.frame > link.frame => Ok(here),
            _ => Ok((self.segments[at.segment + 1].slot.file, SEGMENT_HEADER_BYTES)),
        }
    }

    /// The frame that follows, here or, when this segment has been left, at the start of the next.
    async fn next(&mut self, at: Position) -> Result<Option<(Position, Whole)>, OpenError> {
        if let Some(whole) = self.whole(at.segment, at.offset).await?
            && follows(&whole.checked.header, &at)
        {
            return Ok(Some((at, whole)));
        }
        let left = at.offset > SEGMENT_HEADER_BYTES && at.segment + 1 < self.segments.len();
        if left
            && let Some(whole) = self.whole(at.segment + 1, SEGMENT_HEADER_BYTES).await?
            && follows(&whole.checked.header, &at)
        {
            let place = Position { segment: at.segment + 1, offset: SEGMENT_HEADER_BYTES, ..at };
            return Ok(Some((place, whole)));
        }
        Ok(None)
    }

    /// The frame at a place, if all of it is intact.
    async fn whole(&mut self, index: usize, offset: u64) -> Result<Option<Whole>, OpenError> {
        let Segment { header, slot } = self.segments[index];
        if offset + FRAME_ALIGN_BYTES as u64 > header.length {
            return Ok(None);
        }
        let block = self.bytes(slot, header.length, offset, FRAME_ALIGN_BYTES).await?;
        let Some(checked) = checked(&block, &header, slot.file, offset)? else { return Ok(None) };
        let total = checked.header.total_bytes();
        if offset + total as u64 > header.length {
            return Err(OpenError::Malformed { file: slot.file, offset });
        }
        let frame = self.bytes(slot, header.length, offset, total).await?;
        let Some(payload) = checked.payload(&frame) else { return Ok(None) };
        let payload = frame.slice_ref(payload);
        Ok(Some(Whole { checked, payload }))
    }

    /// `wanted` bytes at `offset`, through the window.
    async fn bytes(
        &mut self,
        slot: Slot,
        length: u64,
        offset: u64,
        wanted: usize,
    ) -> Result<Bytes, OpenError> {
        if self.window_file == Some(slot.handle) && offset >= self.window_offset {
            let start = usize::try_from(offset - self.window_offset).unwrap_or(usize::MAX);
            if start.saturating_add(wanted) <= self.window.len() {
                return Ok(self.window.slice(start..start + wanted));
            }
        }
        self.window = Bytes::new();
        let window = WINDOW_BYTES.min(usize::try_from(length - offset).unwrap_or(usize::MAX));
        self.window = self.read(slot, offset, window).await?;
        self.window_file = Some(slot.handle);
        self.window_offset = offset;
        Ok(self.window.slice(..wanted))
    }

    async fn read(&mut self, slot: Slot, offset: u64, length: usize) -> Result<Bytes, OpenError> {
        self.bytes_read += length as u64;
        let failed = |source: MediaError| OpenError::Media { file: Some(slot.file), source };
        self.io.read(slot.handle, offset, length).await.map_err(failed)
    }
}

fn follows(header: &FrameHeader, at: &Position) -> bool {
    let linked = at.link.is_none_or(|link| {
        header.frame == link.frame && header.first_lsn == link.lsn && header.chain == link.chain
    });
    linked && header.life >= at.life
}

fn checked(
    block: &[u8],
    segment: &SegmentHeader,
    file: SegmentFile,
    offset: u64,
) -> Result<Option<Checked>, OpenError> {
    match FrameHeader::find(block, segment) {
        Found::Nothing => Ok(None),
        Found::Frame(checked) => Ok(Some(checked)),
        Found::Malformed => Err(OpenError::Malformed { file, offset }),
        Found::UnknownVersion(version) => {
            Err(OpenError::UnknownVersion { file, version, known: FRAME_VERSION })
        }
    }
}
