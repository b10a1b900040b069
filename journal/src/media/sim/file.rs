//! One simulated file: what is on stable storage, and every version of every sector written since.
//!
//! - F1: `durable` is what survives a crash for certain; `current` is what reads see.
//! - F2: a sector differs between the two only if it has an entry in `unsynced`; the last version is the current one.
//! - F3: after a failed or lying sync the versions it was asked for are *forsaken*: no later sync makes them
//!   durable (the page cache believes them clean), only a rewrite does.

use std::collections::BTreeMap;

use super::pages::{Pages, Sector};
use super::random::SplitMix;
use crate::media::SECTOR_BYTES;

#[derive(Clone)]
struct Version {
    /// Order among all sector versions of the media.
    sequence: u64,
    forsaken: bool,
    content: Sector,
}

/// How much of the unsynced state a crash keeps.
#[derive(Clone, Copy)]
pub(super) enum Survival {
    /// Each sector version with this chance in 256; 0 loses all, 256 keeps the newest of all.
    Chance(u64),
    /// What was written up to this moment, as if the device worked in order.
    UpTo(u64),
}

/// One file.
#[derive(Clone, Default)]
pub(super) struct SimFile {
    durable: Pages,
    current: Pages,
    unsynced: BTreeMap<u64, Vec<Version>>,
}

impl SimFile {
    pub(super) fn length(&self) -> u64 {
        self.current.length()
    }

    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) {
        self.current.read(offset, buffer);
    }

    /// A write the media accepted without a promise; `sequence` counts sector versions.
    pub(super) fn write_unsynced(&mut self, offset: u64, data: &[u8], forsaken: bool, sequence: &mut u64) {
        self.current.write(offset, data);
        for sector in sectors(offset, data.len()) {
            *sequence += 1;
            let version = Version { sequence: *sequence, forsaken, content: self.current.sector(sector) };
            self.unsynced.entry(sector).or_default().push(version);
        }
    }

    /// A write that is durable when it returns; earlier unsynced writes elsewhere stay unsynced.
    pub(super) fn write_durable(&mut self, offset: u64, data: &[u8]) {
        self.current.write(offset, data);
        let end = offset + data.len() as u64;
        if self.durable.length() < end {
            self.durable.set_length(end);
        }
        self.durable.write(offset, data);
        let (first, last) = (offset / SECTOR_BYTES as u64, end.saturating_sub(1) / SECTOR_BYTES as u64);
        for edge in [first, last] {
            // A sector reaches the device whole, with whatever else was written into it.
            self.durable.put_sector(edge, &self.current.sector(edge));
        }
        for sector in sectors(offset, data.len()) {
            if self.unsynced.is_empty() {
                break;
            }
            self.unsynced.remove(&sector);
        }
    }

    /// A sync that does what it says.
    pub(super) fn sync(&mut self) {
        if self.durable.length() < self.current.length() {
            self.durable.set_length(self.current.length());
        }
        let durable = &mut self.durable;
        self.unsynced.retain(|sector, versions| match versions.last() {
            Some(last) if !last.forsaken => {
                durable.put_sector(*sector, &last.content);
                false
            }
            _ => true,
        });
    }

    /// A sync that failed or lied (F3).
    pub(super) fn forsake(&mut self) {
        for version in self.unsynced.values_mut().flatten() {
            version.forsaken = true;
        }
    }

    /// Flips one bit in every copy.
    pub(super) fn rot(&mut self, offset: u64, bit: u8) {
        self.current.flip(offset, bit);
        if offset < self.durable.length() {
            self.durable.flip(offset, bit);
        }
        for version in self.unsynced.get_mut(&(offset / SECTOR_BYTES as u64)).into_iter().flatten() {
            let mut data = match &version.content {
                Sector::Zero => Box::new([0; SECTOR_BYTES]),
                Sector::Data(data) => data.clone(),
            };
            data[(offset % SECTOR_BYTES as u64) as usize] ^= 1 << bit;
            version.content = Sector::Data(data);
        }
    }

    /// Loses power: what was not durable survives as `survival` and chance decide.
    pub(super) fn crash(&mut self, survival: Survival, random: &mut SplitMix) {
        let (kept, written) = (self.durable.length(), self.current.length());
        let length = match survival {
            Survival::Chance(0) => kept,
            Survival::Chance(256) => written,
            _ if kept == written => kept,
            _ => match random.below(4) {
                0 => kept,
                1 => kept + random.below(written - kept + 1),
                _ => written,
            },
        };
        self.durable.set_length(length);
        for (sector, versions) in std::mem::take(&mut self.unsynced) {
            let survivor = match survival {
                Survival::Chance(chance) => {
                    versions.iter().rev().find(|_| random.below(256) < chance).map(|v| &v.content)
                }
                Survival::UpTo(moment) => {
                    versions.iter().rev().find(|v| v.sequence <= moment).map(|v| &v.content)
                }
            };
            if let Some(content) = survivor {
                self.durable.put_sector(sector, content);
            }
        }
        self.current = self.durable.clone();
    }
}

/// Numbers of the sectors that a write of `length` bytes at `offset` touches.
fn sectors(offset: u64, length: usize) -> std::ops::Range<u64> {
    let unit = SECTOR_BYTES as u64;
    if length == 0 { 0..0 } else { offset / unit..(offset + length as u64).div_ceil(unit) }
}
