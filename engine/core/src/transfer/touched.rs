//! Blocks that a target may have changed since a common point.
//!
//! When an array goes on alone it freezes at its destaged index; the peer may have applied entries beyond that, up to
//! the end of the log that both have. Whatever those entries touch goes here: it is at most what was undestaged.
//!
//! Changes from the common point to R name what differs in the end. A block that the target changed and the survivor
//! changed back is not among them; named here, it is sent as it is in R.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::{BufMut, BytesMut};
use metropod_protocol::Index;

use crate::codec::{DecodeError, Reader, put_count};
use crate::names::VolumeId;
use crate::operation::BLOCK_BYTES;

/// Ranges of blocks per volume, disjoint and in order; see the module's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    through: Index,
    volumes: BTreeMap<VolumeId, BTreeMap<u64, u64>>,
}

impl Touched {
    /// Nothing yet, of the entries after the common point and up to `through`. A target that has applied more than that
    /// refuses the round.
    pub fn new(through: Index) -> Touched {
        Touched { through, volumes: BTreeMap::new() }
    }

    /// The last entry whose blocks are here.
    pub fn through(&self) -> Index {
        self.through
    }

    /// Adds the blocks of a byte range that an entry writes or zeroes. An entry that shrinks a volume touches what it
    /// cuts off; growth need not be named.
    pub fn add(&mut self, volume: VolumeId, offset: u64, length: u64) {
        if length == 0 {
            return;
        }
        let (mut start, mut end) =
            (offset / BLOCK_BYTES, offset.saturating_add(length).div_ceil(BLOCK_BYTES));
        let ranges = self.volumes.entry(volume).or_default();
        while let Some((first, last)) = ranges.range(..=end).next_back().map(|(first, last)| (*first, *last))
            && last >= start
        {
            ranges.remove(&first);
            (start, end) = (start.min(first), end.max(last));
        }
        ranges.insert(start, end);
    }

    /// Ranges of a volume, in order.
    pub fn ranges(&self, volume: VolumeId) -> impl Iterator<Item = Range<u64>> + '_ {
        self.volumes.get(&volume).into_iter().flatten().map(|(start, end)| *start..*end)
    }

    /// Blocks in all ranges of a volume.
    pub fn blocks(&self, volume: VolumeId) -> u64 {
        self.ranges(volume).map(|range| range.end - range.start).sum()
    }

    /// Appends the encoded form, for a manifest.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.through.0);
        put_count(out, self.volumes.values().map(BTreeMap::len).sum());
        for (volume, ranges) in &self.volumes {
            for (start, end) in ranges {
                out.put_u64_le(volume.0);
                out.put_u64_le(*start);
                out.put_u64_le(*end);
            }
        }
    }

    /// Reads what [`Touched::encode`] wrote.
    pub fn decode(reader: &mut Reader) -> Result<Touched, DecodeError> {
        let mut touched = Touched::new(Index(reader.u64()?));
        for _ in 0..reader.count(24)? {
            let (volume, start, end) = (VolumeId(reader.u64()?), reader.u64()?, reader.u64()?);
            let ranges = touched.volumes.entry(volume).or_default();
            let follows = ranges.last_key_value().is_none_or(|(_, last)| *last < start);
            if start >= end || !follows {
                return Err(DecodeError::Value { field: "touched" });
            }
            ranges.insert(start, end);
        }
        Ok(touched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_become_one_and_survive_encoding() {
        let mut touched = Touched::new(Index(7));
        for (offset, length) in
            [(4096, 4096), (20 * 4096, 1), (8192 + 5, 1), (0, 0), (40960, 8192), (8 * 4096, 3 * 4096)]
        {
            touched.add(VolumeId(1), offset, length);
        }
        touched.add(VolumeId(2), 100, 5000);
        let ranges: Vec<_> = touched.ranges(VolumeId(1)).collect();
        assert_eq!(ranges, [1..3, 8..12, 20..21]);
        assert_eq!((touched.blocks(VolumeId(1)), touched.blocks(VolumeId(2))), (7, 2));
        let mut out = BytesMut::new();
        touched.encode(&mut out);
        let bytes = out.freeze();
        let mut reader = Reader::new(bytes.clone());
        assert_eq!(Touched::decode(&mut reader), Ok(touched));
        assert_eq!(reader.end(), Ok(()));
        for cut in 0..bytes.len() {
            assert!(Touched::decode(&mut Reader::new(bytes.slice(..cut))).is_err());
        }
    }
}
