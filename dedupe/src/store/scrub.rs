//! Scrubbing: every record that can still be read is read from the disk and proven, one segment at a time.
//!
//! Comes in: from which segment on. Goes out: what is rotten in the next one. Whoever calls decides when to go on, so hosts,
//! checkpoints and passes never wait for it.
//!
//! - S1: the disk is asked, not the page cache: what is read at the cache's mercy is less than a page at a file's end.
//! - S2: a finding is something that stays so: it was read twice, and the record is still the one that the index names.
//!   Records that died or were moved, and segments that were freed, while they were read are none.
//! - S3: memory is bounded by one segment and one batch of contents.
//! - S4: what is listed as rotten and can be had elsewhere ([`Store::set_rescue`]) is fetched, and takes its place.

use bytes::{Bytes, BytesMut};
use metropod_journal::media::{Cause, Create, DIRECT_ALIGN_BYTES, Io, MediaError};

use super::Store;
use super::rescue::is_rot;
use crate::digest::{Digest, Domain};
use crate::files::OpenFile;
use crate::location::SegmentId;
use crate::reduce::{Payload, verify, verify_blocks};
use crate::segment::{
    RecordEntry, RecordHeader, SEGMENT_HEADER_BYTES, TRAILER_BYTES, check_segment_header, decode_footer,
    decode_payload, decode_trailer, scan, segment_path,
};
use crate::state::SegmentRecord;

/// Length of a read, in bytes.
const READ_BYTES: u32 = 1 << 20;

/// What is read alone where a longer read failed, in bytes.
const PAGE_BYTES: u32 = DIRECT_ALIGN_BYTES as u32;

/// Records proven together.
const PROVEN_AT_ONCE: usize = 256;

/// Findings of one segment that are listed; the others are counted.
pub const SCRUB_LISTED_MAX: usize = 64;

const _: () = assert!(READ_BYTES.is_multiple_of(PAGE_BYTES) && SEGMENT_HEADER_BYTES <= PAGE_BYTES);

/// What is rotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rot {
    /// A chunk: its record fails its check, or does not hold what its name says.
    Chunk(Digest),
    /// Bytes of a segment without a footer that are no record: which chunk lay there cannot be told from it.
    Stretch,
    /// A segment's header. Costs nothing: records say for themselves what they are.
    Header,
    /// A segment's list of records. Costs reading the segment whenever the list is wanted.
    Footer,
    /// A segment's file is missing or shorter than it was.
    File,
}

/// Something rotten, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// The segment in which it lies.
    pub segment: SegmentId,
    /// What it is.
    pub rot: Rot,
}

/// What scrubbing one segment came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrubbed {
    /// Which one.
    pub segment: SegmentId,
    /// Its durable length, in bytes.
    pub bytes: u64,
    /// Records proven or found rotten.
    pub records: u64,
    /// Things found rotten.
    pub findings: u64,
    /// The first [`SCRUB_LISTED_MAX`] of them.
    pub listed: Vec<Finding>,
    /// Chunks among those listed whose place a good copy took.
    pub repaired: Vec<Digest>,
}

/// What there is to scrub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScrubLeft {
    /// Segments.
    pub segments: u64,
    /// Their durable length, in bytes.
    pub bytes: u64,
}

impl Store {
    /// One past the last segment there is now: the end of a scrub that begins now.
    pub fn scrub_end(&self) -> SegmentId {
        SegmentId(self.lock().next_segment)
    }

    /// What there is from one segment to before another. Costs a look at each segment.
    pub fn scrub_left(&self, from: SegmentId, end: SegmentId) -> ScrubLeft {
        let inner = self.lock();
        let segments = inner.segments.range(from..end.max(from));
        segments.fold(ScrubLeft::default(), |left, (_, segment)| ScrubLeft {
            segments: left.segments + 1,
            bytes: left.bytes + u64::from(segment.length),
        })
    }

    /// Scrubs the first segment from `from` on; `None`: there is none before `end`.
    pub async fn scrub(&self, from: SegmentId, end: SegmentId) -> Result<Option<Scrubbed>, MediaError> {
        let next = self.lock().segments.range(from..end.max(from)).next().map(|(_, segment)| *segment);
        let Some(segment) = next else { return Ok(None) };
        let bytes = u64::from(segment.length);
        let mut scrubbed = Scrubbed {
            segment: segment.id,
            bytes,
            records: 0,
            findings: 0,
            listed: Vec::new(),
            repaired: Vec::new(),
        };
        match Disk::open(&self.shared.io, &segment).await {
            Ok(Some(disk)) => self.scrub_file(&disk, &segment, &mut scrubbed).await?,
            Ok(None) => scrubbed.add(Rot::File),
            Err(error) if error.cause == Cause::NotFound => scrubbed.add(Rot::File),
            Err(error) => return Err(error),
        }
        if !self.lock().segments.contains_key(&segment.id) {
            (scrubbed.findings, scrubbed.listed) = (0, Vec::new());
        }
        for finding in &scrubbed.listed {
            if let Rot::Chunk(digest) = finding.rot
                && self.mend(&digest).await
            {
                scrubbed.repaired.push(digest);
            }
        }
        Ok(Some(scrubbed))
    }

    async fn scrub_file(
        &self,
        disk: &Disk,
        segment: &SegmentRecord,
        scrubbed: &mut Scrubbed,
    ) -> Result<(), MediaError> {
        let (bytes, unreadable) = disk.read_all().await?;
        let header = bytes.slice(..SEGMENT_HEADER_BYTES as usize);
        if check_segment_header(&header, &self.shared.config.array, segment.id).is_err() {
            scrubbed.add(Rot::Header);
        }
        let entries = match footer_of(segment, &bytes) {
            Some(entries) => entries,
            None => {
                let scanned = scan(segment.id, SEGMENT_HEADER_BYTES, &bytes.slice(header.len()..));
                if segment.sealed {
                    scrubbed.add(Rot::Footer);
                }
                // What is left of the footer is no record either.
                let stretches = (scanned.damaged + unreadable).saturating_sub(u64::from(segment.sealed));
                (0..stretches).for_each(|_| scrubbed.add(Rot::Stretch));
                scanned.entries
            }
        };
        for entries in entries.chunks(PROVEN_AT_ONCE) {
            let visible: Vec<RecordEntry> = {
                let inner = self.lock();
                entries.iter().filter(|entry| inner.is_visible(entry.location)).copied().collect()
            };
            scrubbed.records += visible.len() as u64;
            for entry in unproven(segment.id, &bytes, 0, &visible) {
                if self.is_rotten(disk, &entry).await? {
                    scrubbed.add(Rot::Chunk(entry.digest));
                }
            }
        }
        Ok(())
    }

    /// S2.
    async fn is_rotten(&self, disk: &Disk, entry: &RecordEntry) -> Result<bool, MediaError> {
        let (location, from) = (entry.location, entry.location.offset());
        let end = from.saturating_add(location.length_max()).min(disk.length);
        let is_proven = match disk.read(from, end.max(from)).await {
            Ok(bytes) => unproven(location.segment(), &bytes, from, &[*entry]).is_empty(),
            Err(error) if is_rot(error) => false,
            Err(error) => return Err(error),
        };
        if is_proven {
            return Ok(false);
        }
        let named = self.lookup(&entry.digest).await;
        let is_elsewhere = matches!(named, Ok(Some(named)) if named != location);
        Ok(!is_elsewhere && self.lock().is_visible(location))
    }
}

impl Scrubbed {
    fn add(&mut self, rot: Rot) {
        self.findings += 1;
        if self.listed.len() < SCRUB_LISTED_MAX {
            self.listed.push(Finding { segment: self.segment, rot });
        }
    }
}

/// The file of a segment, read past the page cache (S1).
struct Disk {
    io: Io,
    direct: OpenFile,
    /// For the end of the file, which is no whole page.
    cached: OpenFile,
    /// Where that begins.
    whole: u32,
    /// Durable length of the segment.
    length: u32,
}

impl Disk {
    /// `None` if the file is shorter than the segment.
    async fn open(io: &Io, segment: &SegmentRecord) -> Result<Option<Disk>, MediaError> {
        let path = segment_path(segment.id);
        let cached = OpenFile::open(io, &path, Create::Never).await?;
        let direct = OpenFile::open_direct(io, &path).await?;
        let (file_bytes, length) = (io.length(cached.id()).await?, segment.length);
        let whole = file_bytes.min(u64::from(length.next_multiple_of(PAGE_BYTES))) as u32;
        let whole = whole / PAGE_BYTES * PAGE_BYTES;
        let disk = Disk { io: io.clone(), direct, cached, whole, length };
        Ok(Some(disk).filter(|_| file_bytes >= u64::from(length)))
    }

    /// All durable bytes, zero where they cannot be read, and how many pages cannot.
    async fn read_all(&self) -> Result<(Bytes, u64), MediaError> {
        let (mut bytes, mut unreadable) = (BytesMut::with_capacity(self.length as usize), 0);
        while (bytes.len() as u32) < self.length {
            let from = bytes.len() as u32;
            let end = self.length.min(from + READ_BYTES);
            match self.read(from, end).await {
                Ok(read) => bytes.extend_from_slice(&read),
                Err(error) if is_rot(error) => unreadable += self.read_pages(from, end, &mut bytes).await?,
                Err(error) => return Err(error),
            }
        }
        Ok((bytes.freeze(), unreadable))
    }

    async fn read_pages(&self, from: u32, end: u32, bytes: &mut BytesMut) -> Result<u64, MediaError> {
        let mut unreadable = 0;
        for from in (from..end).step_by(PAGE_BYTES as usize) {
            let end = end.min(from + PAGE_BYTES);
            match self.read(from, end).await {
                Ok(read) => bytes.extend_from_slice(&read),
                Err(error) if is_rot(error) => {
                    bytes.extend_from_slice(&[0; PAGE_BYTES as usize][..(end - from) as usize]);
                    unreadable += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(unreadable)
    }

    async fn read(&self, from: u32, end: u32) -> Result<Bytes, MediaError> {
        let start = from / PAGE_BYTES * PAGE_BYTES;
        let whole = end.next_multiple_of(PAGE_BYTES).min(self.whole).max(start);
        let mut bytes = Bytes::new();
        if start < whole {
            bytes = self.io.read(self.direct.id(), u64::from(start), (whole - start) as usize).await?;
        }
        if whole < end {
            let rest = self.io.read(self.cached.id(), u64::from(whole), (end - whole) as usize).await?;
            bytes = [bytes, rest].concat().into();
        }
        Ok(bytes.slice((from - start) as usize..(end - start) as usize))
    }
}

fn footer_of(segment: &SegmentRecord, bytes: &Bytes) -> Option<Vec<RecordEntry>> {
    let trailer_at = segment.length.checked_sub(TRAILER_BYTES).filter(|_| segment.sealed)?;
    let trailer = decode_trailer(segment.id, segment.length, &bytes[trailer_at as usize..])?;
    decode_footer(segment.id, &trailer, bytes.get(trailer.footer_offset as usize..)?)
}

/// Which of these records do not hold what they should, in `bytes`, which begin at `base` of the segment.
fn unproven(segment: SegmentId, bytes: &Bytes, base: u32, entries: &[RecordEntry]) -> Vec<RecordEntry> {
    let (mut rotten, mut blocks) = (Vec::new(), Vec::with_capacity(entries.len()));
    for entry in entries {
        match record_of(segment, bytes, base, entry) {
            Some((Domain::Data, payload)) => blocks.push((entry, payload)),
            Some((domain, payload)) if verify(domain, &entry.digest, &payload).is_ok() => {}
            _ => rotten.push(*entry),
        }
    }
    let proven = verify_blocks(blocks.iter().map(|(entry, payload)| (&entry.digest, payload)));
    rotten.extend(blocks.iter().zip(proven).filter(|(_, proven)| !proven).map(|((entry, _), _)| **entry));
    rotten
}

fn record_of(segment: SegmentId, bytes: &Bytes, base: u32, entry: &RecordEntry) -> Option<(Domain, Payload)> {
    let at = entry.location.offset().checked_sub(base)? as usize;
    let header = RecordHeader::decode(segment, bytes.get(at..)?)?;
    let payload = decode_payload(segment, &header, &bytes.slice(at..))?;
    (header.digest == entry.digest).then_some((header.domain, payload))
}
