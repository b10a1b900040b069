//! What hosts write: sector contents that name the write that made them, cut and reduced as an array takes them in.

use bytes::{Bytes, BytesMut};
use metropod_core::names::VolumeId;
use metropod_core::operation::{Operation, Piece, shares};
use metropod_dedupe::{Compression, Reduced, reduce};

/// Sector size in bytes.
pub const SECTOR_BYTES: usize = 512;

/// A value, as the number of the write that made it; 0 is zeroes. Its bytes follow from it.
pub type Value = u64;

/// Odd, so that multiplying by it can be undone.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The number that undoes multiplying by [`SPREAD`].
const UNSPREAD: u64 = inverse(SPREAD);

const _: () = assert!(SPREAD.wrapping_mul(UNSPREAD) == 1);

/// The bytes of a sector that holds `value`: distinct for every write; compressible for every other.
pub fn sector_bytes(sector: u64, value: Value) -> Vec<u8> {
    if value == 0 {
        return vec![0; SECTOR_BYTES];
    }
    let mut bytes = Vec::with_capacity(SECTOR_BYTES);
    let mut word = value.wrapping_mul(SPREAD) ^ place(sector, value);
    while bytes.len() < SECTOR_BYTES {
        bytes.extend_from_slice(&word.to_le_bytes());
        if !value.is_multiple_of(2) {
            word = word.wrapping_mul(0xff51_afd7_ed55_8ccd).wrapping_add(1) ^ (word >> 29);
        }
    }
    bytes
}

/// The value whose bytes these are, if they are any value's, `newest` being the highest number in use.
pub fn value_of(sector: u64, bytes: &[u8], newest: Value) -> Option<Value> {
    let word = u64::from_le_bytes(*bytes.first_chunk::<8>()?);
    if word == 0 && bytes.iter().all(|byte| *byte == 0) {
        return Some(0);
    }
    [sector, sector % 8]
        .map(|place| (word ^ place).wrapping_mul(UNSPREAD))
        .into_iter()
        .find(|value| (1..=newest).contains(value) && sector_bytes(sector, *value) == bytes)
}

/// A write of `sectors` that all hold `value`, or of zeroes.
pub fn write(volume: VolumeId, sectors: std::ops::Range<u64>, value: Value) -> Operation {
    let offset = sectors.start * SECTOR_BYTES as u64;
    let length = (sectors.end - sectors.start) * SECTOR_BYTES as u64;
    if value == 0 {
        return Operation::Zero { volume, offset, length };
    }
    let mut data = BytesMut::with_capacity(length as usize);
    for sector in sectors {
        data.extend_from_slice(&sector_bytes(sector, value));
    }
    Operation::Write { volume, offset, length, pieces: pieces(offset, &data.freeze()) }
}

/// The pieces of a write of `data` at `offset`.
pub fn pieces(offset: u64, data: &Bytes) -> Vec<Piece> {
    let mut at = 0;
    shares(offset, data.len() as u64)
        .map(|(_, share)| {
            let part = data.slice(at..at + share.length as usize);
            at += share.length as usize;
            if !share.is_whole() {
                return Piece::Partial(part);
            }
            match reduce(&part, Compression::WhenItPays) {
                Reduced::Zero => Piece::Zero,
                Reduced::Chunk { digest, payload } => Piece::Data { digest, payload },
            }
        })
        .collect()
}

/// In words, for a message to a person.
pub fn describe(content: &[u8]) -> String {
    if content.iter().all(|byte| *byte == 0) {
        return "zeroes".into();
    }
    let head: Vec<String> = content[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("bytes beginning {}", head.join(""))
}

/// Every third write repeats content across sectors of different blocks, so that chunks are shared.
fn place(sector: u64, value: Value) -> u64 {
    if value.is_multiple_of(3) { sector % 8 } else { sector }
}

/// The inverse of an odd number modulo 2^64: each step doubles the bits that are right.
const fn inverse(odd: u64) -> u64 {
    let mut guess = odd;
    let mut step = 0;
    while step < 6 {
        guess = guess.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(guess)));
        step += 1;
    }
    guess
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_tells_which_write_made_it() {
        for value in 0..200 {
            for sector in [0, 1, 7, 8, 9, 2047] {
                assert_eq!(value_of(sector, &sector_bytes(sector, value), 200), Some(value));
            }
        }
        assert_eq!(value_of(3, &[7; SECTOR_BYTES], 200), None);
    }
}
