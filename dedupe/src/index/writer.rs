//! Writing a run: entries in, in digest order; a durable file out.
//!
//! - W1: the file's content and its name are on stable storage before [`RunWriter::finish`] returns the run.

use bytes::Bytes;
use metropod_journal::media::{Create, Durability, Io, MediaError};

use super::filter::Filter;
use super::page::{Entry, PAGE_BYTES, PAGE_ENTRIES, encode_page};
use super::run::{Run, RunId, RunRecord, RunTrailer};
use super::{RUN_DIR, run_path};
use crate::digest::Digest;
use crate::files::OpenFile;

/// Pages gathered before they are written.
const WRITE_PAGES: usize = 128;
/// Filter blocks written at once.
const WRITE_BLOCKS: usize = 8192;

/// A run being written.
pub(crate) struct RunWriter {
    io: Io,
    array: [u8; 16],
    record: RunRecord,
    file: OpenFile,
    page: Vec<Entry>,
    pending: Vec<u8>,
    fences: Vec<u64>,
    filter: Filter,
    salt: u64,
    last: Option<Digest>,
}

impl RunWriter {
    /// Begins run `id` with room for `entries_max` entries in its filter.
    pub(crate) async fn create(
        io: &Io,
        array: [u8; 16],
        id: RunId,
        tier: u32,
        entries_max: u64,
    ) -> Result<RunWriter, MediaError> {
        let salt = crate::segment::u64_at(blake3::hash(&array).as_bytes(), 0);
        Ok(RunWriter {
            io: io.clone(),
            array,
            record: RunRecord { id, tier, entries: 0, file_bytes: 0 },
            file: OpenFile::open(io, &run_path(id), Create::New).await?,
            page: Vec::with_capacity(PAGE_ENTRIES),
            pending: Vec::new(),
            fences: Vec::new(),
            filter: Filter::with_capacity(entries_max, salt),
            salt,
            last: None,
        })
    }

    /// Takes the next entry, of a greater digest than the last one.
    pub(crate) fn push(&mut self, entry: Entry) {
        assert!(self.last.is_none_or(|last| last < entry.digest), "entries come in strictly rising order");
        self.last = Some(entry.digest);
        self.filter.insert(&entry.digest);
        self.record.entries += 1;
        self.page.push(entry);
        if self.page.len() == PAGE_ENTRIES {
            self.end_page();
        }
    }

    /// Whether enough is gathered for [`RunWriter::write_out`].
    pub(crate) fn is_full(&self) -> bool {
        self.pending.len() >= WRITE_PAGES * PAGE_BYTES
    }

    /// Writes what is gathered, unsynced.
    pub(crate) async fn write_out(&mut self) -> Result<(), MediaError> {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return Ok(());
        }
        let offset = self.record.file_bytes;
        self.record.file_bytes += pending.len() as u64;
        self.io.write(self.file.id(), offset, vec![Bytes::from(pending)], Durability::Cached).await
    }

    /// Writes the rest, makes everything durable and opens the run for reading.
    pub(crate) async fn finish(mut self) -> Result<Run, MediaError> {
        if !self.page.is_empty() {
            self.end_page();
        }
        self.write_out().await?;
        let mut meta_check = 0;
        for fence in &self.fences {
            self.pending.extend_from_slice(&fence.to_le_bytes());
        }
        let blocks = self.filter.block_count() as usize;
        for first in (0..blocks).step_by(WRITE_BLOCKS) {
            self.filter.encode(first..blocks.min(first + WRITE_BLOCKS), &mut self.pending);
            meta_check = crc32c::crc32c_append(meta_check, &self.pending);
            self.write_out().await?;
        }
        let trailer = RunTrailer {
            array: self.array,
            run: self.record.id,
            entries: self.record.entries,
            salt: self.salt,
            pages: self.fences.len() as u32,
            filter_blocks: blocks as u32,
            meta_check,
        };
        self.pending = trailer.encode();
        self.write_out().await?;
        assert_eq!(
            self.record.file_bytes,
            trailer.file_bytes(),
            "the trailer describes the file that was written"
        );
        self.io.sync(self.file.id()).await?;
        self.io.sync_dir(RUN_DIR).await?;
        self.fences.shrink_to_fit();
        Ok(Run::new(self.record, self.fences, self.filter, self.file))
    }

    fn end_page(&mut self) {
        let number = self.fences.len() as u32;
        self.fences.push(self.page[0].digest.prefix());
        encode_page(self.record.id, number, &self.page, &mut self.pending);
        self.page.clear();
    }
}
