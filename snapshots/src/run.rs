//! The delta run: a layer as bytes, for the disk and for transfer.
//!
//! Decoding refuses what encoding cannot have made, so that a layer from outside has all the properties of one made
//! here (layer.rs, L1). Bytes: docs/format-map.md, "Delta run".

use std::borrow::Cow;
use std::ops::Range;

use metropod_dedupe::Digest;

use crate::layer::{Layer, LayerId, Packed};
use crate::slot::{BLOCKS_MAX, Slot};

const MAGIC: [u8; 8] = *b"MTPDRUN\0";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 40;
const ZERO_BYTES: usize = 16;
const BLOCK_BYTES: usize = 8;
const DIGEST_BYTES: usize = 32;
const CHECK_BYTES: usize = 4;

/// Why bytes are not a delta run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Shorter or longer than its header says, or shorter than a header.
    #[error("the delta run has {bytes} bytes, which is not its length")]
    Length {
        /// What there is.
        bytes: usize,
    },
    /// Not a delta run at all.
    #[error("these bytes are no delta run")]
    Magic,
    /// Written by a newer version.
    #[error("delta run version {version} is not known here")]
    Version {
        /// The version it has.
        version: u32,
    },
    /// A field that version 1 leaves zero is not.
    #[error("the delta run uses a field that version {VERSION} reserves")]
    Reserved,
    /// Damaged: the check does not match.
    #[error("the delta run is damaged")]
    Check,
    /// Intact, but not in order, overlapping, empty, or beyond 40 bits; written by something broken.
    #[error("entry {entry} of the delta run is not possible there")]
    Entry {
        /// Position: zero ranges first, then blocks.
        entry: usize,
    },
}

impl Layer {
    /// The layer as a delta run.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_in_pieces(usize::MAX).flatten().collect()
    }

    /// The delta run in pieces of about `piece_bytes`, for layers too large to be held twice. A layer that is not
    /// packed is packed first.
    pub fn encode_in_pieces(&self, piece_bytes: usize) -> RunPieces<'_> {
        let packed = match self.as_packed() {
            Some(packed) => Cow::Borrowed(packed),
            None => Cow::Owned(self.extents().collect()),
        };
        RunPieces { id: self.id(), packed, piece_bytes, part: Part::Head, at: 0, check: 0 }
    }

    /// Bytes of the delta run, if the layer is packed or has just been counted.
    pub fn encoded_bytes(&self) -> u64 {
        let (zero_ranges, data) = match self.as_packed() {
            Some(packed) => (packed.zeroes.len(), packed.blocks.len()),
            None => self.extents().fold((0, 0), |(zero_ranges, data), extent| match extent.slot {
                Slot::Zero => (zero_ranges + 1, data),
                Slot::Data(_) => (zero_ranges, data + 1),
            }),
        };
        run_bytes(zero_ranges, data).expect("a layer in memory has a length in memory") as u64
    }

    /// The layer that a delta run holds. Never panics and never allocates more than the input's length.
    pub fn decode(bytes: &[u8]) -> Result<Layer, RunError> {
        let wrong_length = RunError::Length { bytes: bytes.len() };
        if bytes.len() < HEADER_BYTES + CHECK_BYTES {
            return Err(wrong_length);
        }
        if bytes[..8] != MAGIC {
            return Err(RunError::Magic);
        }
        let (checked, check) = bytes.split_at(bytes.len() - CHECK_BYTES);
        let version = u32::from_le_bytes(checked[8..12].try_into().expect("four bytes"));
        if version != VERSION {
            return Err(RunError::Version { version });
        }
        if checked[12..16] != [0; 4] {
            return Err(RunError::Reserved);
        }
        let counts = usize::try_from(number(checked, 24)).ok().zip(usize::try_from(number(checked, 32)).ok());
        let Some((zero_ranges, data)) =
            counts.filter(|counts| run_bytes(counts.0, counts.1) == Some(bytes.len()))
        else {
            return Err(wrong_length);
        };
        if crc32c::crc32c(checked).to_le_bytes() != check {
            return Err(RunError::Check);
        }
        let (zeroes, rest) = checked[HEADER_BYTES..].split_at(zero_ranges * ZERO_BYTES);
        let (blocks, digests) = rest.split_at(data * BLOCK_BYTES);
        let packed = Packed {
            blocks: blocks.chunks_exact(BLOCK_BYTES).map(|block| number(block, 0)).collect(),
            digests: digests
                .chunks_exact(DIGEST_BYTES)
                .map(|digest| Digest(digest.try_into().expect("chunks of a digest's length")))
                .collect(),
            zeroes: zeroes.chunks_exact(ZERO_BYTES).map(|zero| number(zero, 0)..number(zero, 8)).collect(),
        };
        check_order(&packed)?;
        Ok(Layer::packed(LayerId(number(checked, 16)), packed))
    }
}

/// A delta run being written out: its bytes, piece by piece. The check covers all pieces.
#[derive(Debug)]
pub struct RunPieces<'a> {
    id: LayerId,
    packed: Cow<'a, Packed>,
    piece_bytes: usize,
    part: Part,
    /// Entries of the part that are written.
    at: usize,
    check: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Head,
    Zeroes,
    Blocks,
    Digests,
    Check,
    End,
}

impl RunPieces<'_> {
    /// The next entries of a part, `size` bytes each, and whether they were the last.
    fn entries(
        &mut self,
        count: usize,
        size: usize,
        put: impl Fn(&Packed, usize, &mut Vec<u8>),
    ) -> (Vec<u8>, bool) {
        let end = count.min(self.at.saturating_add((self.piece_bytes / size).max(1)));
        let mut bytes = Vec::with_capacity((end - self.at) * size);
        (self.at..end).for_each(|entry| put(&self.packed, entry, &mut bytes));
        self.at = end;
        (bytes, end == count)
    }

    fn head(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&0u32.to_le_bytes());
        bytes.extend_from_slice(&self.id.0.to_le_bytes());
        bytes.extend_from_slice(&(self.packed.zeroes.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&(self.packed.blocks.len() as u64).to_le_bytes());
        bytes
    }
}

impl Iterator for RunPieces<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let (zero_ranges, data) = (self.packed.zeroes.len(), self.packed.blocks.len());
        let ((bytes, done), next) = match self.part {
            Part::Head => ((self.head(), true), Part::Zeroes),
            Part::Zeroes => {
                let put = |packed: &Packed, entry: usize, bytes: &mut Vec<u8>| {
                    bytes.extend_from_slice(&packed.zeroes[entry].start.to_le_bytes());
                    bytes.extend_from_slice(&packed.zeroes[entry].end.to_le_bytes());
                };
                (self.entries(zero_ranges, ZERO_BYTES, put), Part::Blocks)
            }
            Part::Blocks => {
                let put = |packed: &Packed, entry: usize, bytes: &mut Vec<u8>| {
                    bytes.extend_from_slice(&packed.blocks[entry].to_le_bytes());
                };
                (self.entries(data, BLOCK_BYTES, put), Part::Digests)
            }
            Part::Digests => {
                let put = |packed: &Packed, entry: usize, bytes: &mut Vec<u8>| {
                    bytes.extend_from_slice(&packed.digests[entry].0);
                };
                (self.entries(data, DIGEST_BYTES, put), Part::Check)
            }
            Part::Check => ((self.check.to_le_bytes().to_vec(), true), Part::End),
            Part::End => return None,
        };
        if done {
            (self.part, self.at) = (next, 0);
        }
        self.check = crc32c::crc32c_append(self.check, &bytes);
        Some(bytes)
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn run_bytes(zero_ranges: usize, data: usize) -> Option<usize> {
    let zeroes = zero_ranges.checked_mul(ZERO_BYTES)?;
    let data = data.checked_mul(BLOCK_BYTES + DIGEST_BYTES)?;
    zeroes.checked_add(data)?.checked_add(HEADER_BYTES + CHECK_BYTES)
}

/// Both arrays in order without touching, no zero digest, nothing beyond 40 bits, no block inside a zero range.
fn check_order(packed: &Packed) -> Result<(), RunError> {
    let mut free_from = 0;
    for (entry, zero) in packed.zeroes.iter().enumerate() {
        let apart = entry == 0 || zero.start > free_from;
        if !apart || zero.is_empty() || zero.end > BLOCKS_MAX {
            return Err(RunError::Entry { entry });
        }
        free_from = zero.end;
    }
    let mut free_from = 0;
    let mut zeroes = packed.zeroes.iter().peekable();
    for (index, (block, digest)) in packed.blocks.iter().zip(&packed.digests).enumerate() {
        while zeroes.next_if(|zero: &&Range<u64>| zero.end <= *block).is_some() {}
        let zeroed = zeroes.peek().is_some_and(|zero| zero.contains(block));
        if *block < free_from || *block >= BLOCKS_MAX || zeroed || *digest == Digest::ZERO {
            return Err(RunError::Entry { entry: packed.zeroes.len() + index });
        }
        free_from = block + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;

    fn sample() -> Layer {
        let mut table = Table::new();
        table.zero(3..BLOCKS_MAX);
        table.set(1, Slot::Data(Digest([1; 32])));
        table.set(900, Slot::Data(Digest([2; 32])));
        Layer::freeze(LayerId(0x0102_0304), table)
    }

    /// Bytes with one changed and the check made right again.
    fn forged(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = sample().encode();
        bytes.truncate(bytes.len() - CHECK_BYTES);
        change(&mut bytes);
        let check = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&check.to_le_bytes());
        bytes
    }

    #[test]
    fn a_decoded_run_says_what_was_encoded() {
        let layer = sample();
        let decoded = Layer::decode(&layer.encode()).unwrap();
        assert_eq!(decoded.id(), layer.id());
        assert!(decoded.extents().eq(layer.extents()));
        assert_eq!(decoded.encode(), layer.encode());
    }

    #[test]
    fn a_run_in_pieces_of_any_size_is_the_run() {
        let whole = sample().encode();
        for layer in [sample(), sample().compact()] {
            assert_eq!(layer.encoded_bytes(), whole.len() as u64);
            for piece_bytes in [1, 20, 33, 64, 1000] {
                let pieces: Vec<Vec<u8>> = layer.encode_in_pieces(piece_bytes).collect();
                assert!(pieces.iter().all(|piece| piece.len() <= piece_bytes.max(HEADER_BYTES)));
                assert_eq!(pieces.concat(), whole);
            }
        }
    }

    #[test]
    fn the_bytes_of_version_1_are_frozen() {
        let bytes = sample().encode();
        assert_eq!(bytes.len(), 40 + 2 * 16 + 2 * 40 + 4);
        assert_eq!(&bytes[..16], b"MTPDRUN\0\x01\0\0\0\0\0\0\0");
        assert_eq!(
            bytes[16..40],
            [[4, 3, 2, 1, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0, 0, 0]].concat()
        );
        assert_eq!(bytes[40..56], [[3, 0, 0, 0, 0, 0, 0, 0], [0x84, 3, 0, 0, 0, 0, 0, 0]].concat());
        assert_eq!(bytes[72..88], [[1, 0, 0, 0, 0, 0, 0, 0], [0x84, 3, 0, 0, 0, 0, 0, 0]].concat());
        assert_eq!(bytes[88..152], [[1; 32], [2; 32]].concat());
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_refused() {
        let bytes = sample().encode();
        for at in 0..bytes.len() {
            assert!(Layer::decode(&bytes[..at]).is_err(), "truncated at {at}");
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert!(Layer::decode(&damaged).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn an_intact_run_that_no_layer_can_be_is_refused() {
        let entry =
            |change: &dyn Fn(&mut Vec<u8>)| Layer::decode(&forged(|bytes| change(bytes))).unwrap_err();
        assert_eq!(entry(&|bytes| bytes[50] = 9), RunError::Entry { entry: 1 }, "ranges overlap");
        assert_eq!(entry(&|bytes| bytes[88..120].fill(0)), RunError::Entry { entry: 2 });
        assert_eq!(entry(&|bytes| bytes[72] = 4), RunError::Entry { entry: 2 });
        assert_eq!(entry(&|bytes| bytes[85] = 2), RunError::Entry { entry: 3 });
        assert_eq!(entry(&|bytes| bytes[24..32].fill(0xff)), RunError::Length { bytes: 156 });
        assert_eq!(entry(&|bytes| bytes[8] = 9), RunError::Version { version: 9 });
        assert_eq!(entry(&|bytes| bytes[0] = 9), RunError::Magic);
        assert_eq!(entry(&|bytes| bytes[15] = 9), RunError::Reserved);
    }
}
