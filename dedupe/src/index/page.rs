//! Pages of a run: entries in digest order under one check.

use super::run::RunId;
use crate::digest::{DIGEST_BYTES, Digest};
use crate::location::Location;
use crate::segment::{u32_at, u64_at};

/// Length of a page, in bytes (format).
pub(crate) const PAGE_BYTES: usize = 4096;
/// Length of an entry, in bytes (format).
pub(crate) const ENTRY_BYTES: usize = 40;
/// Entries of a full page (format).
pub(crate) const PAGE_ENTRIES: usize = 102;

const COUNT_AT: usize = PAGE_ENTRIES * ENTRY_BYTES;
const NUMBER_AT: usize = COUNT_AT + 4;
const RUN_AT: usize = COUNT_AT + 8;
const CHECK_AT: usize = PAGE_BYTES - 4;
const _: () = assert!(RUN_AT + 4 == CHECK_AT);

/// What the index knows of one digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub digest: Digest,
    pub location: Location,
}

/// Appends a page of at most [`PAGE_ENTRIES`] entries.
pub(crate) fn encode_page(run: RunId, number: u32, entries: &[Entry], buffer: &mut Vec<u8>) {
    assert!((1..=PAGE_ENTRIES).contains(&entries.len()), "the writer fills pages");
    let start = buffer.len();
    for entry in entries {
        buffer.extend_from_slice(&entry.digest.0);
        buffer.extend_from_slice(&entry.location.to_bits().to_le_bytes());
    }
    buffer.resize(start + COUNT_AT, 0);
    buffer.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    buffer.extend_from_slice(&number.to_le_bytes());
    buffer.extend_from_slice(&(run.0 as u32).to_le_bytes());
    let check = crc32c::crc32c(&buffer[start..]);
    buffer.extend_from_slice(&check.to_le_bytes());
}

/// Number of entries of the page, if it is page `number` of `run` and intact.
pub(crate) fn check_page(run: RunId, number: u32, page: &[u8]) -> Option<usize> {
    let page = page.get(..PAGE_BYTES)?;
    let count = u32_at(page, COUNT_AT) as usize;
    let is_it = u32_at(page, NUMBER_AT) == number
        && u32_at(page, RUN_AT) == run.0 as u32
        && (1..=PAGE_ENTRIES).contains(&count)
        && crc32c::crc32c(&page[..CHECK_AT]) == u32_at(page, CHECK_AT);
    is_it.then_some(count)
}

/// Entry `index` of a checked page.
pub(crate) fn entry_at(page: &[u8], index: usize) -> Entry {
    let entry = &page[index * ENTRY_BYTES..(index + 1) * ENTRY_BYTES];
    let mut digest = Digest::ZERO;
    digest.0.copy_from_slice(&entry[..DIGEST_BYTES]);
    Entry { digest, location: Location::from_bits(u64_at(entry, DIGEST_BYTES)) }
}

/// Looks for `digest` in a checked page of `count` entries.
pub(crate) fn search_page(page: &[u8], count: usize, digest: &Digest) -> Option<Location> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = (low + high) / 2;
        let entry = entry_at(page, middle);
        match entry.digest.cmp(digest) {
            std::cmp::Ordering::Equal => return Some(entry.location),
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    None
}
