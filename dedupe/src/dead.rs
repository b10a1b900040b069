//! Records that nothing refers to any more, in segments that still stand.
//!
//! The index may go on naming them; a lookup asks here before it answers, and merges leave them out.
//!
//! - Z1: a dead record stays dead. Content of its name is written anew, to another place.
//! - Z2: lists are in rising order and belong to segments that the store has.
//!
//! Bytes: docs/format-store.md, "Dead list".

use std::collections::BTreeMap;

use crate::index::RunId;
use crate::location::{Location, SegmentId};
use crate::segment::{SEGMENT_BYTES_MAX, SEGMENT_HEADER_BYTES, u32_at, u64_at};
use crate::state::DeadList;

const MAGIC: [u8; 8] = *b"MPSTDEAD";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 48;
const SEGMENT_BYTES: usize = 12;
const OFFSET_BYTES: usize = 4;
const CHECK_BYTES: usize = 4;

/// Offsets of dead records, by segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DeadRecords {
    segments: BTreeMap<SegmentId, Vec<u32>>,
}

impl DeadRecords {
    pub(crate) fn contains(&self, location: Location) -> bool {
        let list = self.segments.get(&location.segment());
        list.is_some_and(|list| list.binary_search(&location.offset()).is_ok())
    }

    /// Offsets of a segment's dead records, in rising order.
    pub(crate) fn of(&self, segment: SegmentId) -> &[u32] {
        self.segments.get(&segment).map_or(&[], Vec::as_slice)
    }

    /// Adds one record; `false` if it was dead already.
    pub(crate) fn insert(&mut self, location: Location) -> bool {
        let list = self.segments.entry(location.segment()).or_default();
        match list.binary_search(&location.offset()) {
            Ok(_) => false,
            Err(at) => {
                list.insert(at, location.offset());
                true
            }
        }
    }

    /// Adds records of one segment, none of which is dead yet.
    pub(crate) fn extend(&mut self, segment: SegmentId, offsets: &[u32]) {
        if offsets.is_empty() {
            return;
        }
        let list = self.segments.entry(segment).or_default();
        list.extend_from_slice(offsets);
        list.sort_unstable();
        assert!(list.is_sorted_by(|a, b| a < b), "a record dies once");
        list.shrink_to_fit();
    }

    /// The segment is freed, or its list is not to be believed.
    pub(crate) fn forget(&mut self, segment: SegmentId) {
        self.segments.remove(&segment);
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(SegmentId, &[u32]) -> bool) {
        self.segments.retain(|segment, list| keep(*segment, list));
    }

    pub(crate) fn count(&self, segment: SegmentId) -> u32 {
        self.segments.get(&segment).map_or(0, |list| list.len() as u32)
    }

    /// How many of a segment's dead records lie below `length`.
    pub(crate) fn count_below(&self, segment: SegmentId, length: u32) -> u32 {
        let list = self.segments.get(&segment);
        list.map_or(0, |list| list.partition_point(|offset| *offset < length) as u32)
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        let list = |list: &Vec<u32>| size_of::<(SegmentId, Vec<u32>)>() + list.capacity() * OFFSET_BYTES;
        self.segments.values().map(|offsets| list(offsets) as u64).sum()
    }

    pub(crate) fn encode(&self, array: &[u8; 16], id: RunId) -> Vec<u8> {
        let offsets: usize = self.segments.values().map(Vec::len).sum();
        let length =
            HEADER_BYTES + self.segments.len() * SEGMENT_BYTES + offsets * OFFSET_BYTES + CHECK_BYTES;
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(self.segments.len() as u32).to_le_bytes());
        bytes.extend_from_slice(array);
        bytes.extend_from_slice(&id.0.to_le_bytes());
        bytes.extend_from_slice(&(offsets as u64).to_le_bytes());
        for (segment, list) in &self.segments {
            bytes.extend_from_slice(&segment.0.to_le_bytes());
            bytes.extend_from_slice(&(list.len() as u32).to_le_bytes());
            list.iter().for_each(|offset| bytes.extend_from_slice(&offset.to_le_bytes()));
        }
        let check = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&check.to_le_bytes());
        assert_eq!(bytes.len(), length, "the layout has the length that decoding expects");
        bytes
    }

    /// The lists of the file that a state names as `list`, or `None` if it is not that file, whole.
    pub(crate) fn decode(array: &[u8; 16], list: &DeadList, bytes: &[u8]) -> Option<DeadRecords> {
        if bytes.len() as u64 != list.file_bytes || bytes.len() < HEADER_BYTES + CHECK_BYTES {
            return None;
        }
        let (content, check) = bytes.split_at(bytes.len() - CHECK_BYTES);
        let is_it = content[..8] == MAGIC
            && u32_at(content, 8) == VERSION
            && content[16..32] == *array
            && u64_at(content, 32) == list.id.0
            && crc32c::crc32c(content) == u32_at(check, 0);
        if !is_it {
            return None;
        }
        let mut segments = BTreeMap::new();
        let mut rest = &content[HEADER_BYTES..];
        for _ in 0..u32_at(content, 12) {
            let head = rest.get(..SEGMENT_BYTES)?;
            let end = SEGMENT_BYTES.checked_add((u32_at(head, 8) as usize).checked_mul(OFFSET_BYTES)?)?;
            let offsets = rest.get(SEGMENT_BYTES..end)?.chunks_exact(OFFSET_BYTES);
            let offsets: Vec<u32> = offsets.map(|offset| u32_at(offset, 0)).collect();
            let range = SEGMENT_HEADER_BYTES..SEGMENT_BYTES_MAX;
            let plausible = offsets.is_sorted_by(|a, b| a < b)
                && offsets.first().is_some_and(|first| range.contains(first))
                && offsets.last().is_some_and(|last| range.contains(last));
            if !plausible || segments.insert(SegmentId(u64_at(head, 0)), offsets).is_some() {
                return None;
            }
            rest = &rest[end..];
        }
        rest.is_empty().then_some(DeadRecords { segments })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARRAY: [u8; 16] = *b"0123456789abcdef";

    fn sample() -> DeadRecords {
        let mut dead = DeadRecords::default();
        for offset in [640, 64, 4096] {
            assert!(dead.insert(Location::new(SegmentId(3), offset, 100)));
        }
        assert!(!dead.insert(Location::new(SegmentId(3), 640, 100)));
        dead.extend(SegmentId(9), &[8192]);
        dead
    }

    #[test]
    fn a_list_reads_back_and_any_flipped_bit_or_cut_is_refused() {
        let bytes = sample().encode(&ARRAY, RunId(5));
        let list = DeadList { id: RunId(5), file_bytes: bytes.len() as u64 };
        assert_eq!(DeadRecords::decode(&ARRAY, &list, &bytes), Some(sample()));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(DeadRecords::decode(&ARRAY, &list, &damaged), None, "bit {bit}");
        }
        for length in 0..bytes.len() {
            let list = DeadList { id: RunId(5), file_bytes: length as u64 };
            assert_eq!(DeadRecords::decode(&ARRAY, &list, &bytes[..length]), None, "cut to {length}");
        }
        assert_eq!(DeadRecords::decode(&[0; 16], &list, &bytes), None);
        assert_eq!(DeadRecords::decode(&ARRAY, &DeadList { id: RunId(6), ..list }, &bytes), None);
    }

    #[test]
    fn the_bytes_of_a_list_are_frozen() {
        assert_eq!(
            blake3::hash(&sample().encode(&ARRAY, RunId(5))).to_hex().as_str(),
            "0cde441925bb623b720373e7e02ccd6196c350ffa39d5a2f33f480b1e5de10c1"
        );
    }

    #[test]
    fn only_the_records_named_are_dead() {
        let dead = sample();
        for offset in (64..8192).step_by(64) {
            let expected = [64, 640, 4096].contains(&offset);
            assert_eq!(dead.contains(Location::new(SegmentId(3), offset, 100)), expected, "{offset}");
            assert!(!dead.contains(Location::new(SegmentId(4), offset, 100)));
        }
        assert_eq!((dead.count(SegmentId(3)), dead.count_below(SegmentId(3), 4096)), (3, 2));
    }
}
