//! Content of a simulated file: sparse pages, shared between the durable and the current view until they differ.
//!
//! - P1: an absent page reads as zeroes, and nothing at or past `length` is ever non-zero, so that growing a
//!   file shows zeroes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::media::SECTOR_BYTES;

const PAGE_BYTES: usize = 4096;
const SECTORS_PER_PAGE: u64 = (PAGE_BYTES / SECTOR_BYTES) as u64;

const _: () = assert!(PAGE_BYTES.is_multiple_of(SECTOR_BYTES));

type Page = [u8; PAGE_BYTES];

static ZEROES: Page = [0; PAGE_BYTES];

/// Whether all of at most a page is zero: most of what is written is, where files are made ahead.
fn is_zero(part: &[u8]) -> bool {
    *part == ZEROES[..part.len()]
}

/// One 512-byte sector's content; zeroes cost nothing.
#[derive(Clone)]
pub(super) enum Sector {
    Zero,
    Data(Box<[u8; SECTOR_BYTES]>),
}

/// A sparse byte sequence.
#[derive(Clone, Default)]
pub(super) struct Pages {
    length: u64,
    pages: BTreeMap<u64, Arc<Page>>,
}

impl Pages {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Makes the sequence `length` long; what lies beyond is forgotten.
    pub(super) fn set_length(&mut self, length: u64) {
        if length < self.length {
            drop(self.pages.split_off(&length.div_ceil(PAGE_BYTES as u64)));
            let inside = (length % PAGE_BYTES as u64) as usize;
            if inside != 0
                && let Some(page) = self.pages.get_mut(&(length / PAGE_BYTES as u64))
            {
                Arc::make_mut(page)[inside..].fill(0);
            }
        }
        self.length = length;
    }

    /// Fills `buffer` from `offset`; the caller has checked the length.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) {
        let mut done = 0;
        while done < buffer.len() {
            let (page, inside, step) = place(offset + done as u64, buffer.len() - done);
            let part = &mut buffer[done..done + step];
            match self.pages.get(&page) {
                Some(bytes) => part.copy_from_slice(&bytes[inside..inside + step]),
                None => part.fill(0),
            }
            done += step;
        }
    }

    /// Writes `data` at `offset`, growing the sequence when needed.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        self.length = self.length.max(offset + data.len() as u64);
        let mut done = 0;
        while done < data.len() {
            let (page, inside, step) = place(offset + done as u64, data.len() - done);
            let part = &data[done..done + step];
            let zero = is_zero(part);
            if zero && step == PAGE_BYTES {
                self.pages.remove(&page);
            } else if !zero || self.pages.contains_key(&page) {
                let bytes = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE_BYTES]));
                Arc::make_mut(bytes)[inside..inside + step].copy_from_slice(part);
            }
            done += step;
        }
    }

    /// The content of sector number `sector`.
    pub(super) fn sector(&self, sector: u64) -> Sector {
        let Some(page) = self.pages.get(&(sector / SECTORS_PER_PAGE)) else { return Sector::Zero };
        let start = (sector % SECTORS_PER_PAGE) as usize * SECTOR_BYTES;
        let content = &page[start..start + SECTOR_BYTES];
        if is_zero(content) {
            return Sector::Zero;
        }
        let mut data = Box::new([0; SECTOR_BYTES]);
        data.copy_from_slice(content);
        Sector::Data(data)
    }

    /// Replaces sector number `sector` without changing the length; the part past the end is dropped (P1).
    pub(super) fn put_sector(&mut self, sector: u64, content: &Sector) {
        let length = self.length;
        let start = sector * SECTOR_BYTES as u64;
        if start >= length {
            return;
        }
        match content {
            Sector::Zero => self.write(start, &[0; SECTOR_BYTES]),
            Sector::Data(data) => self.write(start, data.as_slice()),
        }
        if self.length > length {
            self.set_length(length);
        }
    }

    /// Flips one bit.
    pub(super) fn flip(&mut self, offset: u64, bit: u8) {
        let mut byte = [0];
        self.read(offset, &mut byte);
        self.write(offset, &[byte[0] ^ (1 << bit)]);
    }
}

/// Page number, offset inside it and how much of `wanted` it holds.
fn place(offset: u64, wanted: usize) -> (u64, usize, usize) {
    let inside = (offset % PAGE_BYTES as u64) as usize;
    (offset / PAGE_BYTES as u64, inside, wanted.min(PAGE_BYTES - inside))
}
