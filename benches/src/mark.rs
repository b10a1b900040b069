//! A model of an array's references and chunks on files: what a pass that marks live chunks reads and writes.
//!
//! - The nodes: leaves of 128 references, each a digest and a hint of where the chunk lay when the leaf was written, with a
//!   check over all; read from the first to the last.
//! - The index: entries of digest and location in digest order, in checked pages; read likewise.
//! - The segments: 7,700 chunks each. A share of them was cleaned away: their chunks lie in segments of new numbers, their
//!   hints are stale. Numbers are never used twice, so a hint is good if its segment is there.
//! - The live bits: one for every 64 bytes of a segment, the least length of a record.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use metropod_dedupe::Digest;

use crate::chance::{Chance, mix};
use crate::many_chunks::name;

/// References of a leaf.
pub const LEAF_REFERENCES: usize = 128;
const DIGEST_BYTES: usize = 32;
const HINT_BYTES: usize = 8;
const CHECK_BYTES: usize = 4;
const HINTS_AT: usize = LEAF_REFERENCES * DIGEST_BYTES;
const LEAF_CHECK_AT: usize = HINTS_AT + LEAF_REFERENCES * HINT_BYTES;
const LEAF_BYTES: usize = LEAF_CHECK_AT + CHECK_BYTES;
const LEAVES_AT_ONCE: usize = 256;

const ENTRY_BYTES: usize = DIGEST_BYTES + HINT_BYTES;
const PAGE_BYTES: usize = 4096;
const PAGE_ENTRIES: usize = 102;
const PAGE_CHECK_AT: usize = PAGE_BYTES - CHECK_BYTES;
const PAGES_AT_ONCE: usize = 256;

/// Chunks of a segment of 16 MiB at 2,176 bytes each.
const SEGMENT_CHUNKS: u64 = 7700;
const RECORD_BYTES: u64 = 2176;
const UNIT_BYTES: u64 = 64;
const SEGMENT_UNITS: u64 = (16 << 20) / UNIT_BYTES;

/// Where a chunk lies: segment and unit in one number, as a hint holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(pub u64);

impl Place {
    fn of_chunk(chunk: u64) -> Place {
        let unit = chunk % SEGMENT_CHUNKS * RECORD_BYTES / UNIT_BYTES;
        Place(chunk / SEGMENT_CHUNKS * SEGMENT_UNITS + unit)
    }

    fn segment(self) -> u64 {
        self.0 / SEGMENT_UNITS
    }
}

/// Which segments are there.
#[derive(Debug)]
pub struct Segments {
    present: Vec<bool>,
}

impl Segments {
    /// Segments of so many chunks, `stale_percent` of them cleaned away.
    pub fn new(chunks: u64, stale_percent: u64) -> Segments {
        let count = chunks.div_ceil(SEGMENT_CHUNKS);
        Segments { present: (0..count).map(|segment| mix(segment + 1) % 100 >= stale_percent).collect() }
    }

    /// Whether the segment of a hint is there.
    pub fn has(&self, hint: Place) -> bool {
        self.present.get(hint.segment() as usize).copied().unwrap_or(false)
    }

    /// Where the chunk that was written to this place lies now.
    pub fn now(&self, written: Place) -> Place {
        if self.has(written) { written } else { Place(written.0 + self.present.len() as u64 * SEGMENT_UNITS) }
    }

    /// No live bits yet.
    pub fn no_bits(&self) -> LiveBits {
        LiveBits(vec![0; self.present.len() * 2 * SEGMENT_UNITS as usize / 64])
    }
}

/// One bit per unit of every segment, old and new ones.
#[derive(Debug, PartialEq, Eq)]
pub struct LiveBits(Vec<u64>);

impl LiveBits {
    /// Marks the chunk that lies here.
    pub fn set(&mut self, place: Place) {
        self.0[(place.0 / 64) as usize] |= 1 << (place.0 % 64);
    }

    /// Chunks marked.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Marks none.
    pub fn clear(&mut self) {
        self.0.fill(0);
    }
}

/// The files.
#[derive(Debug)]
pub struct Model {
    nodes: File,
    index: File,
    /// The chunk behind each reference, in the order of the leaves.
    pub references: Vec<u32>,
    chunks: u64,
}

impl Model {
    /// Makes the files. References go to chunks at random, in runs of `run` blocks.
    pub fn create(directory: &Path, chunks: u64, references: u64, run: u64) -> io::Result<Model> {
        let mut chance = Chance::new(run);
        let mut targets = Vec::with_capacity(references as usize);
        while (targets.len() as u64) < references.next_multiple_of(LEAF_REFERENCES as u64) {
            let first = chance.below(chunks - run + 1);
            targets.extend((first..first + run).map(|chunk| chunk as u32));
        }
        targets.truncate(references.next_multiple_of(LEAF_REFERENCES as u64) as usize);
        let nodes = write_nodes(&directory.join(format!("nodes-{run}")), &targets)?;
        let index = write_index(&directory.join(format!("index-{run}")), chunks)?;
        Ok(Model { nodes, index, references: targets, chunks })
    }

    /// The bits that every pass must set.
    pub fn expected(&self, segments: &Segments) -> LiveBits {
        let mut bits = segments.no_bits();
        self.references.iter().for_each(|chunk| bits.set(segments.now(Place::of_chunk(u64::from(*chunk)))));
        bits
    }

    /// Where a chunk lies, once it has been found by its digest.
    pub fn place(&self, reference: usize, segments: &Segments) -> Place {
        segments.now(Place::of_chunk(u64::from(self.references[reference])))
    }

    /// Chunks in the store.
    pub fn chunks(&self) -> u64 {
        self.chunks
    }

    /// Reads and checks every leaf; each reference with its number, digest and hint.
    pub fn scan_nodes(&self, mut each: impl FnMut(usize, &[u8; DIGEST_BYTES], Place)) -> io::Result<()> {
        let leaves = self.references.len() / LEAF_REFERENCES;
        let mut buffer = vec![0; LEAVES_AT_ONCE * LEAF_BYTES];
        let mut number = 0;
        for first in (0..leaves).step_by(LEAVES_AT_ONCE) {
            let buffer = &mut buffer[..LEAVES_AT_ONCE.min(leaves - first) * LEAF_BYTES];
            self.nodes.read_exact_at(buffer, (first * LEAF_BYTES) as u64)?;
            for leaf in buffer.chunks_exact(LEAF_BYTES) {
                check(leaf)?;
                let digests = leaf[..HINTS_AT].as_chunks::<DIGEST_BYTES>().0;
                let hints = leaf[HINTS_AT..LEAF_CHECK_AT].as_chunks::<HINT_BYTES>().0;
                for (digest, hint) in digests.iter().zip(hints) {
                    each(number, digest, Place(u64::from_le_bytes(*hint)));
                    number += 1;
                }
            }
        }
        Ok(())
    }

    /// Reads and checks every page of the index; each entry with the first word of its digest.
    pub fn scan_index(&self, segments: &Segments, mut each: impl FnMut(u64, Place)) -> io::Result<()> {
        let pages = (self.chunks as usize).div_ceil(PAGE_ENTRIES);
        let mut buffer = vec![0; PAGES_AT_ONCE * PAGE_BYTES];
        let mut left = self.chunks as usize;
        for first in (0..pages).step_by(PAGES_AT_ONCE) {
            let buffer = &mut buffer[..PAGES_AT_ONCE.min(pages - first) * PAGE_BYTES];
            self.index.read_exact_at(buffer, (first * PAGE_BYTES) as u64)?;
            for page in buffer.chunks_exact(PAGE_BYTES) {
                check(page)?;
                let entries = page.as_chunks::<ENTRY_BYTES>().0.iter().take(left.min(PAGE_ENTRIES));
                left -= entries.len();
                for entry in entries {
                    let place = u64::from_le_bytes(entry[DIGEST_BYTES..].try_into().expect("eight bytes"));
                    each(prefix(entry), segments.now(Place(place)));
                }
            }
        }
        Ok(())
    }
}

/// The first eight bytes of a digest as a number that sorts like it.
pub fn prefix(digest: &[u8]) -> u64 {
    u64::from_be_bytes(digest[..8].try_into().expect("a digest is longer"))
}

fn write_nodes(path: &Path, targets: &[u32]) -> io::Result<File> {
    let mut out = io::BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut leaf = vec![0; LEAF_BYTES];
    for targets in targets.chunks_exact(LEAF_REFERENCES) {
        for (index, chunk) in targets.iter().enumerate() {
            let place = Place::of_chunk(u64::from(*chunk));
            leaf[index * DIGEST_BYTES..][..DIGEST_BYTES].copy_from_slice(&name(u64::from(*chunk)).0);
            leaf[HINTS_AT + index * HINT_BYTES..][..HINT_BYTES].copy_from_slice(&place.0.to_le_bytes());
        }
        seal(&mut leaf);
        out.write_all(&leaf)?;
    }
    out.flush()?;
    File::open(path)
}

fn write_index(path: &Path, chunks: u64) -> io::Result<File> {
    let mut entries: Vec<(Digest, u32)> = (0..chunks).map(|chunk| (name(chunk), chunk as u32)).collect();
    entries.sort_unstable();
    let mut out = io::BufWriter::with_capacity(1 << 20, File::create(path)?);
    for entries in entries.chunks(PAGE_ENTRIES) {
        let mut page = vec![0; PAGE_BYTES];
        for (place, (digest, chunk)) in page.chunks_exact_mut(ENTRY_BYTES).zip(entries) {
            place[..DIGEST_BYTES].copy_from_slice(&digest.0);
            place[DIGEST_BYTES..].copy_from_slice(&Place::of_chunk(u64::from(*chunk)).0.to_le_bytes());
        }
        seal(&mut page);
        out.write_all(&page)?;
    }
    out.flush()?;
    File::open(path)
}

fn seal(bytes: &mut [u8]) {
    let (content, check) = bytes.split_at_mut(bytes.len() - CHECK_BYTES);
    check.copy_from_slice(&crc32c::crc32c(content).to_le_bytes());
}

fn check(bytes: &[u8]) -> io::Result<()> {
    let (content, check) = bytes.split_at(bytes.len() - CHECK_BYTES);
    if crc32c::crc32c(content).to_le_bytes() == check { Ok(()) } else { Err(io::Error::other("damaged")) }
}

const _: () = assert!(PAGE_ENTRIES * ENTRY_BYTES <= PAGE_CHECK_AT);
const _: () = assert!(SEGMENT_CHUNKS * RECORD_BYTES <= SEGMENT_UNITS * UNIT_BYTES);
