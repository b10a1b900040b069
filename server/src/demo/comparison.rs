//! The end of the demo: every block of both sides, against each other and against what was acknowledged.

use crate::client::nbd::{NbdClient, NbdError, TRANSFER_BYTES_MAX};

use super::load::Hosts;
use super::oracle::{BLOCK_BYTES, ContentHash};
use super::sites::Site;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Comparison {
    pub(super) blocks_compared: u64,
    /// Blocks that differ between the sides.
    pub(super) mismatches: u64,
    /// Blocks that do not hold the last acknowledged write at one side or both.
    pub(super) lost: u64,
}

/// Reads all volumes at both sites, all at once.
pub(super) fn compare(hosts: &Hosts) -> Result<Comparison, NbdError> {
    let found: Vec<Result<Comparison, NbdError>> = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..hosts.volumes.len())
            .map(|volume| scope.spawn(move || compare_volume(hosts, volume)))
            .collect();
        readers.into_iter().map(|reader| reader.join().expect("readers do not panic")).collect()
    });
    let mut sum = Comparison::default();
    for part in found {
        let part = part?;
        sum.blocks_compared += part.blocks_compared;
        sum.mismatches += part.mismatches;
        sum.lost += part.lost;
    }
    Ok(sum)
}

fn compare_volume(hosts: &Hosts, volume: usize) -> Result<Comparison, NbdError> {
    let mut sides = [hosts.open(Site::A, volume)?, hosts.open(Site::B, volume)?];
    let bytes = hosts.volumes[volume].bytes;
    let oracle = &hosts.volumes[volume].oracle;
    let mut found = Comparison::default();
    if sides.iter().any(|side| side.size_bytes() != bytes) {
        found.mismatches += bytes / BLOCK_BYTES as u64;
        return Ok(found);
    }
    for offset in (0..bytes).step_by(TRANSFER_BYTES_MAX) {
        let length = (bytes - offset).min(TRANSFER_BYTES_MAX as u64) as usize;
        let [a, b] = &mut sides;
        let (at_a, at_b) = (read(a, offset, length)?, read(b, offset, length)?);
        let first = (offset / BLOCK_BYTES as u64) as usize;
        let (contents_a, contents_b) = (ContentHash::of_blocks(&at_a), ContentHash::of_blocks(&at_b));
        found.blocks_compared += contents_a.len() as u64;
        let blocks = at_a.chunks(BLOCK_BYTES).zip(at_b.chunks(BLOCK_BYTES));
        found.mismatches += blocks.filter(|(a, b)| a != b).count() as u64;
        let lost = (oracle.count_lost(first, &contents_a), oracle.count_lost(first, &contents_b));
        found.lost += lost.0.max(lost.1);
    }
    Ok(found)
}

fn read(side: &mut NbdClient, offset: u64, length: usize) -> Result<Vec<u8>, NbdError> {
    let mut bytes = vec![0; length];
    side.read(offset, &mut bytes)?;
    Ok(bytes)
}
