//! Where chunks were seen last: a bounded table in memory, from a digest to a location.
//!
//! Comes in: what lookups answered, what was written or moved. Goes out: a location that is probably right. A lookup in
//! the runs costs a page read; this costs a cache line or two (decision 0016).
//!
//! - H1: a hint is never believed. Whoever uses one compares the digest of the record that it finds there, so an entry
//!   keeps only part of its digest and may be stale, or lost, at any time.
//! - H2: at most the number of entries it was made for, of 12 bytes each; memory is taken only as sets are used.
//! - H3: an entry that was never asked for goes before one that was: a scan does not drive out what is in use.

use crate::digest::Digest;
use crate::location::Location;

/// Entries that a digest may be in; their locations fill a cache line.
const WAYS: usize = 8;

/// Bytes of an entry: part of a digest and a location.
const ENTRY_BYTES: usize = size_of::<u32>() + size_of::<u64>();

/// The reserved bit of a location says here that the entry was asked for.
const ASKED: u64 = 1;

/// See the module's text.
pub(crate) struct Hints {
    /// Zero: the entry is empty.
    tags: Vec<u32>,
    places: Vec<u64>,
    sets: u64,
    entries: u64,
}

impl Hints {
    /// A table of at most `entries_max` entries.
    pub(crate) fn new(entries_max: usize) -> Hints {
        let sets = entries_max / WAYS;
        Hints { tags: vec![0; sets * WAYS], places: vec![0; sets * WAYS], sets: sets as u64, entries: 0 }
    }

    /// Where the chunk may lie.
    pub(crate) fn get(&mut self, digest: &Digest) -> Option<Location> {
        let (first, tag) = self.find(digest)?;
        let way = self.tags[first..first + WAYS].iter().position(|other| *other == tag)?;
        let place = &mut self.places[first + way];
        *place |= ASKED;
        Some(Location::from_bits(*place & !ASKED))
    }

    /// Notes where the chunk lies; forgets another if there is no room.
    pub(crate) fn insert(&mut self, digest: &Digest, location: Location) {
        let Some((first, tag)) = self.find(digest) else { return };
        let set = &self.tags[first..first + WAYS];
        let way = set.iter().position(|other| *other == tag);
        let way = way.or_else(|| set.iter().position(|other| *other == 0));
        let way = way.unwrap_or_else(|| self.give_up(first, digest.word(2) as usize % WAYS));
        self.entries += u64::from(self.tags[first + way] == 0);
        self.tags[first + way] = tag;
        self.places[first + way] = location.to_bits() & !ASKED;
    }

    /// Bytes in use.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.entries * ENTRY_BYTES as u64
    }

    /// The first entry of the digest's set, and how the digest is known there.
    fn find(&self, digest: &Digest) -> Option<(usize, u32)> {
        let set = (u128::from(digest.word(0)) * u128::from(self.sets)) >> 64;
        (self.sets > 0).then(|| (set as usize * WAYS, (digest.word(1) as u32).max(1)))
    }

    /// The entry of a full set that is to go: from `start` on, the first that was not asked for (H3). When all were, none
    /// counts as asked for any more.
    fn give_up(&mut self, first: usize, start: usize) -> usize {
        let places = &mut self.places[first..first + WAYS];
        let mut ways = (start..start + WAYS).map(|way| way % WAYS);
        ways.find(|way| places[*way] & ASKED == 0).unwrap_or_else(|| {
            places.iter_mut().for_each(|place| *place &= !ASKED);
            start
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Domain, digest};
    use crate::location::SegmentId;

    fn name(number: u64) -> Digest {
        digest(Domain::Data, &number.to_le_bytes())
    }

    fn place(number: u64) -> Location {
        Location::new(SegmentId(number), 64, 2160)
    }

    #[test]
    fn a_hint_is_found_and_the_newest_place_is_given() {
        let mut hints = Hints::new(1000);
        assert_eq!(hints.get(&name(1)), None);
        hints.insert(&name(1), place(1));
        assert_eq!(hints.get(&name(1)), Some(place(1)));
        hints.insert(&name(1), place(2));
        assert_eq!((hints.get(&name(1)), hints.get(&name(2))), (Some(place(2)), None));
        assert_eq!(hints.memory_bytes(), 12);
    }

    #[test]
    fn the_table_stays_within_its_bound_whatever_comes() {
        let mut hints = Hints::new(1000);
        (0..50_000).for_each(|number| hints.insert(&name(number), place(number)));
        assert_eq!(hints.memory_bytes(), 1000 * 12);
        let known = (0..50_000).filter(|number| hints.get(&name(*number)) == Some(place(*number))).count();
        assert_eq!(known, 1000);
    }

    #[test]
    fn a_scan_does_not_drive_out_what_is_asked_for() {
        let mut hints = Hints::new(1000);
        let in_use = 0..300;
        in_use.clone().for_each(|number| hints.insert(&name(number), place(number)));
        for number in 1000..20_000 {
            hints.insert(&name(number), place(number));
            hints.get(&name(number % 300));
        }
        let kept = in_use.filter(|number| hints.get(&name(*number)).is_some()).count();
        assert!(kept > 280, "{kept} of 300 are left");
    }

    #[test]
    fn a_table_of_no_entries_knows_nothing() {
        let mut hints = Hints::new(0);
        hints.insert(&name(1), place(1));
        assert_eq!((hints.get(&name(1)), hints.memory_bytes()), (None, 0));
    }
}
