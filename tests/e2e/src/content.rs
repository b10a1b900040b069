//! What the harness's hosts write: every sector says which write it comes from.
//!
//! A content id is 0 for zeroes, else the number of a write; `id`, the sector's number and a body made from both fill
//! the sector, so that a sector read back tells its id, and that it is whole and in its place.

/// The unit of the oracle, in bytes: the smallest NBD request.
pub const SECTOR_BYTES: usize = 512;

/// Repeatable chance.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// Splitmix64.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }
}

/// The content of sectors from `first` on, as many as `into` takes, after write `id`.
pub(crate) fn compose(first: u64, id: u64, into: &mut [u8]) {
    for (sector, bytes) in (first..).zip(into.chunks_mut(SECTOR_BYTES)) {
        compose_sector(sector, id, bytes);
    }
}

/// The id that a sector's content names; `None` if it is not as any write left it.
pub(crate) fn id_of(sector: u64, bytes: &[u8]) -> Option<u64> {
    let head = bytes.first_chunk().expect("sectors are read whole");
    let id = u64::from_le_bytes(*head);
    let mut expected = [0; SECTOR_BYTES];
    compose_sector(sector, id, &mut expected);
    (expected == bytes).then_some(id)
}

fn compose_sector(sector: u64, id: u64, into: &mut [u8]) {
    if id == 0 {
        into.fill(0);
        return;
    }
    // One in three compresses well.
    let mut dice = Dice::new(id ^ sector.rotate_left(32));
    let repeated = id.is_multiple_of(3).then(|| dice.roll());
    for word in into.chunks_mut(8) {
        let value = repeated.unwrap_or_else(|| dice.roll());
        word.copy_from_slice(&value.to_le_bytes());
    }
    into[..8].copy_from_slice(&id.to_le_bytes());
    into[8..16].copy_from_slice(&sector.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_tells_its_write_and_shows_any_change() {
        let mut sectors = [0; 3 * SECTOR_BYTES];
        compose(7, 42, &mut sectors);
        for (number, bytes) in (7..).zip(sectors.chunks(SECTOR_BYTES)) {
            assert_eq!(id_of(number, bytes), Some(42));
        }
        assert_eq!(id_of(8, &sectors[..SECTOR_BYTES]), None, "another sector's content");
        sectors[300] ^= 1;
        assert_eq!(id_of(7, &sectors[..SECTOR_BYTES]), None, "torn");
        assert_eq!(id_of(7, &[0; SECTOR_BYTES]), Some(0));
    }
}
