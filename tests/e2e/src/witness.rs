//! Bytes that were acknowledged, and are looked for after whatever happened meanwhile.

use crate::array::Array;
use crate::content::Dice;

/// Bytes of one write.
const WRITE_BYTES: usize = 64 << 10;
/// Distance between two writes: what lies between stays unwritten.
const STRIDE_BYTES: u64 = 3 * WRITE_BYTES as u64;
/// Number of writes.
const WRITES: u64 = 64;

/// Least size of a volume that a witness fits into, in bytes.
pub const WITNESS_BYTES: u64 = STRIDE_BYTES * WRITES;

/// What one host wrote to a volume, every write of it acknowledged.
#[derive(Debug, Clone)]
pub struct Witness {
    volume: String,
    seed: u64,
}

impl Witness {
    /// Writes to `volume`, which has at least [`WITNESS_BYTES`]; different seeds write different bytes.
    pub fn write(array: &Array, volume: &str, seed: u64) -> Witness {
        let witness = Witness { volume: volume.to_owned(), seed };
        let mut client = array.open(volume);
        for (offset, bytes) in witness.writes() {
            client.write(offset, &bytes).unwrap_or_else(|error| panic!("{volume} at {offset}: {error}"));
        }
        witness
    }

    /// Everything must be there, and nothing else.
    pub fn check(&self, array: &Array) {
        let mut client = array.open(&self.volume);
        let mut found = vec![0; STRIDE_BYTES as usize];
        for (offset, bytes) in self.writes() {
            let read = client.read(offset, &mut found);
            read.unwrap_or_else(|error| panic!("{} at {offset}: {error}", self.volume));
            assert!(found[..WRITE_BYTES] == bytes, "{} at {offset}: not what was acknowledged", self.volume);
            assert!(found[WRITE_BYTES..].iter().all(|byte| *byte == 0), "{} behind {offset}", self.volume);
        }
    }

    fn writes(&self) -> impl Iterator<Item = (u64, Vec<u8>)> {
        let seed = self.seed;
        (0..WRITES).map(move |number| {
            let mut dice = Dice::new(seed << 32 | number);
            let bytes = (0..WRITE_BYTES / 8).flat_map(|_| dice.roll().to_le_bytes()).collect();
            (number * STRIDE_BYTES, bytes)
        })
    }
}
