//! A sealed run: sorted entries in pages, a fence per page and a filter in memory.
//!
//! Opening reads the fences and the filter only. A page is read for each positive filter and checked each time, also
//! when it comes from the cache.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use metropod_journal::media::{Cause, Create, FileId, Io, MediaError};

use super::cache::PageCache;
use super::filter::{BLOCK_BYTES, Filter};
use super::page::{PAGE_BYTES, PAGE_ENTRIES, check_page, search_page};
use super::run_path;
use crate::digest::Digest;
use crate::files::OpenFile;
use crate::location::Location;
use crate::segment::{u32_at, u64_at};

/// Length of the trailer that ends a run, in bytes (format).
pub(crate) const TRAILER_BYTES: usize = 72;
/// Length of a fence, in bytes (format).
pub(crate) const FENCE_BYTES: usize = 8;
const MAGIC: [u8; 8] = *b"MPINDRUN";
const VERSION: u32 = 1;
/// Largest single read while a run is opened, in bytes.
const READ_STEP_BYTES: u64 = 1 << 20;

/// Number of a run, never used twice in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RunId(pub u64);

/// What a state says of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunRecord {
    pub id: RunId,
    /// Merges that made it: 0 for a spilled table.
    pub tier: u32,
    pub entries: u64,
    pub file_bytes: u64,
}

/// Why a run could not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunFault {
    /// Its bytes are not what was written.
    Damaged,
    /// They could not be read or written.
    Media(MediaError),
}

impl From<MediaError> for RunFault {
    fn from(error: MediaError) -> RunFault {
        match error.cause {
            // A file that is gone or too short has lost what was durable: that is damage, not a failing device.
            Cause::NotFound | Cause::PastEnd => RunFault::Damaged,
            _ => RunFault::Media(error),
        }
    }
}

/// The end of a run's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunTrailer {
    pub array: [u8; 16],
    pub run: RunId,
    pub entries: u64,
    pub salt: u64,
    pub pages: u32,
    pub filter_blocks: u32,
    /// Of fences and filter.
    pub meta_check: u32,
}

impl RunTrailer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(TRAILER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&0u32.to_le_bytes());
        bytes.extend_from_slice(&self.array);
        bytes.extend_from_slice(&self.run.0.to_le_bytes());
        bytes.extend_from_slice(&self.entries.to_le_bytes());
        bytes.extend_from_slice(&self.salt.to_le_bytes());
        bytes.extend_from_slice(&self.pages.to_le_bytes());
        bytes.extend_from_slice(&self.filter_blocks.to_le_bytes());
        bytes.extend_from_slice(&self.meta_check.to_le_bytes());
        let check = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&check.to_le_bytes());
        bytes
    }

    /// The trailer of the run that `record` describes, or `None`.
    fn decode(array: &[u8; 16], record: &RunRecord, bytes: &[u8]) -> Option<RunTrailer> {
        let bytes = bytes.get(..TRAILER_BYTES)?;
        let intact = bytes[..8] == MAGIC
            && u32_at(bytes, 8) == VERSION
            && bytes[16..32] == *array
            && crc32c::crc32c(&bytes[..TRAILER_BYTES - 4]) == u32_at(bytes, TRAILER_BYTES - 4);
        let trailer = RunTrailer {
            array: *array,
            run: RunId(u64_at(bytes, 32)),
            entries: u64_at(bytes, 40),
            salt: u64_at(bytes, 48),
            pages: u32_at(bytes, 56),
            filter_blocks: u32_at(bytes, 60),
            meta_check: u32_at(bytes, 64),
        };
        let fits = trailer.run == record.id
            && trailer.entries == record.entries
            && trailer.filter_blocks > 0
            && u64::from(trailer.pages) == record.entries.div_ceil(PAGE_ENTRIES as u64)
            && trailer.file_bytes() == record.file_bytes;
        (intact && fits).then_some(trailer)
    }

    /// Length of the whole file, in bytes.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.filter_offset() + u64::from(self.filter_blocks) * BLOCK_BYTES as u64 + TRAILER_BYTES as u64
    }

    fn fences_offset(&self) -> u64 {
        u64::from(self.pages) * PAGE_BYTES as u64
    }

    fn filter_offset(&self) -> u64 {
        self.fences_offset() + u64::from(self.pages) * FENCE_BYTES as u64
    }
}

/// An open run.
pub(crate) struct Run {
    pub record: RunRecord,
    fences: Vec<u64>,
    filter: Filter,
    file: OpenFile,
}

impl Run {
    /// A run just written, or read back.
    pub(crate) fn new(record: RunRecord, fences: Vec<u64>, filter: Filter, file: OpenFile) -> Run {
        Run { record, fences, filter, file }
    }

    /// Opens the run that a state lists.
    pub(crate) async fn open(io: &Io, array: &[u8; 16], record: RunRecord) -> Result<Run, RunFault> {
        let file = OpenFile::open(io, &run_path(record.id), Create::Never).await?;
        let at = record.file_bytes.checked_sub(TRAILER_BYTES as u64).ok_or(RunFault::Damaged)?;
        let bytes = io.read(file.id(), at, TRAILER_BYTES).await?;
        let trailer = RunTrailer::decode(array, &record, &bytes).ok_or(RunFault::Damaged)?;
        let mut meta = Vec::new();
        while trailer.fences_offset() + (meta.len() as u64) < at {
            let offset = trailer.fences_offset() + meta.len() as u64;
            let step = (at - offset).min(READ_STEP_BYTES) as usize;
            meta.extend_from_slice(&io.read(file.id(), offset, step).await?);
        }
        if crc32c::crc32c(&meta) != trailer.meta_check {
            return Err(RunFault::Damaged);
        }
        let (fences, filter) = meta.split_at(trailer.pages as usize * FENCE_BYTES);
        let fences = fences.chunks_exact(FENCE_BYTES).map(|fence| u64_at(fence, 0)).collect();
        Ok(Run::new(record, fences, Filter::decode(trailer.salt, filter), file))
    }

    /// Whether the digest may be here; no I/O.
    pub(crate) fn may_contain(&self, digest: &Digest) -> bool {
        self.filter.may_contain(digest)
    }

    /// The location of `digest`, reading one page (two where neighbours share their first eight bytes).
    pub(crate) async fn find(
        &self,
        io: &Io,
        cache: &Mutex<PageCache>,
        digest: &Digest,
    ) -> Result<Option<Location>, RunFault> {
        let prefix = digest.prefix();
        let first = self.fences.partition_point(|fence| *fence < prefix).saturating_sub(1);
        let end = self.fences.partition_point(|fence| *fence <= prefix);
        for number in (first..end).rev() {
            let (page, count) = self.page(io, cache, number as u32).await?;
            if let Some(location) = search_page(&page, count, digest) {
                return Ok(Some(location));
            }
        }
        Ok(None)
    }

    /// Where the page lies that [`Run::find`] reads first for this digest: file, offset, length; `None` if it is cached.
    pub(crate) fn page_to_read(
        &self,
        cache: &Mutex<PageCache>,
        digest: &Digest,
    ) -> Option<(FileId, u64, u64)> {
        let number = self.fences.partition_point(|fence| *fence <= digest.prefix()).checked_sub(1)?;
        let is_cached = lock(cache).get(self.record.id, number as u32).is_some();
        (!is_cached).then_some((self.file.id(), (number * PAGE_BYTES) as u64, PAGE_BYTES as u64))
    }

    /// The next pages from page `from` on, at most `pages_max`, that may hold one of `names`: first eight bytes, in order.
    pub(crate) fn pages_with(&self, from: u32, names: &[u64], pages_max: u32) -> Option<Range<u32>> {
        let begin = self.page_with(from, names)?;
        let next = |end: &u32| self.page_with(*end, names) == Some(*end);
        let end = (begin + 1..begin + pages_max).take_while(next).last().map_or(begin + 1, |last| last + 1);
        Some(begin..end)
    }

    /// A page may hold what lies from its own first entry to that of the next page, which may share its first bytes.
    fn page_with(&self, from: u32, names: &[u64]) -> Option<u32> {
        let first = *self.fences.get(from as usize)?;
        let name = *names.get(names.partition_point(|name| *name < first))?;
        let before = self.fences.partition_point(|fence| *fence < name) as u32;
        Some(before.saturating_sub(1).max(from))
    }

    /// `pages` pages from page `first`, unchecked.
    pub(crate) async fn read_pages(&self, io: &Io, first: u32, pages: u32) -> Result<Bytes, RunFault> {
        let length = pages as usize * PAGE_BYTES;
        Ok(io.read(self.file.id(), u64::from(first) * PAGE_BYTES as u64, length).await?)
    }

    pub(crate) fn page_count(&self) -> u32 {
        self.fences.len() as u32
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        (self.fences.capacity() * FENCE_BYTES) as u64 + self.filter.memory_bytes()
    }

    async fn page(&self, io: &Io, cache: &Mutex<PageCache>, number: u32) -> Result<(Bytes, usize), RunFault> {
        let cached = lock(cache).get(self.record.id, number);
        let page = match &cached {
            Some(page) => page.clone(),
            None => self.read_pages(io, number, 1).await?,
        };
        let count = check_page(self.record.id, number, &page).ok_or(RunFault::Damaged)?;
        if cached.is_none() {
            lock(cache).insert(self.record.id, number, page.clone());
        }
        Ok((page, count))
    }
}

fn lock(cache: &Mutex<PageCache>) -> std::sync::MutexGuard<'_, PageCache> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}
