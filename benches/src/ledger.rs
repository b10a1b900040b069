//! What the units of a volume hold, by content number: replayed from plans, compared with the volume.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use metropod::Volume;

use crate::contents;
use crate::images::in_parallel;
use crate::plan::Plan;

/// Bytes read at once.
const STRIDE_BYTES: u64 = 1 << 20;

/// Content numbers by unit; 0 is zeroes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    unit_bytes: u64,
    units: Vec<u64>,
}

impl Ledger {
    /// Of a volume that nothing was written to.
    pub fn new(unit_bytes: u64, units: u64) -> Ledger {
        Ledger { unit_bytes, units: vec![0; units as usize] }
    }

    /// Enters what the requesters of a plan completed, by requester.
    pub fn apply(&mut self, plan: &Plan, completed: &[u64]) {
        assert!(plan.unit_bytes == self.unit_bytes, "a ledger counts in units of one length");
        for (requester, count) in completed.iter().enumerate() {
            for request in plan.requests(requester as u64).take(*count as usize) {
                let first = request.first as usize;
                self.units[first..first + request.contents.len()].copy_from_slice(&request.contents);
            }
        }
    }

    /// Units.
    pub fn len(&self) -> u64 {
        self.units.len() as u64
    }

    /// Whether it has no units.
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// What units hold.
    pub fn bytes(&self, first: u64, count: u64) -> Vec<u8> {
        let mut bytes = vec![0; (count * self.unit_bytes) as usize];
        let units = &self.units[first as usize..(first + count) as usize];
        for (content, unit) in units.iter().zip(bytes.chunks_exact_mut(self.unit_bytes as usize)) {
            contents::fill_part(*content, unit);
        }
        bytes
    }

    /// For another process.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let words = std::iter::once(&self.unit_bytes).chain(&self.units);
        fs::write(path, words.flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>())
    }

    /// Reads what [`Ledger::save`] wrote.
    pub fn load(path: &Path) -> io::Result<Ledger> {
        let bytes = fs::read(path)?;
        let mut words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        let unit_bytes = words.next().ok_or_else(|| io::Error::other("an empty ledger"))?;
        Ok(Ledger { unit_bytes, units: words.collect() })
    }

    /// Reads the whole of it back from the volume; gives the number of blocks compared.
    pub fn check(&self, volume: &Volume) -> io::Result<u64> {
        let stride = STRIDE_BYTES / self.unit_bytes;
        let firsts: Vec<u64> = (0..self.len()).step_by(stride as usize).collect();
        in_parallel(&firsts, |first| {
            let count = stride.min(self.len() - first);
            let (offset, length) = (first * self.unit_bytes, count * self.unit_bytes);
            let found = volume.read_blocking(offset, length).map_err(io::Error::other)?;
            if found[..] == self.bytes(*first, count)[..] {
                Ok(())
            } else {
                Err(io::Error::other(format!("the {length} bytes from {offset} are not what was written")))
            }
        })?;
        Ok(self.len() * self.unit_bytes / contents::BLOCK_BYTES as u64)
    }
}

/// Reads back what these plans, done one after the other, wrote last to each unit; gives the number of units compared. For
/// volumes too large for a ledger.
pub fn check_plans(volume: &Volume, done: &[(Plan, Vec<u64>)]) -> io::Result<u64> {
    let mut expected = BTreeMap::new();
    for (plan, completed) in done {
        for (requester, count) in completed.iter().enumerate() {
            for request in plan.requests(requester as u64).take(*count as usize) {
                expected.extend(
                    (request.first..)
                        .zip(request.contents)
                        .map(|(unit, content)| (unit, (plan.unit_bytes, content))),
                );
            }
        }
    }
    let expected: Vec<(u64, (u64, u64))> = expected.into_iter().collect();
    in_parallel(&expected, |(unit, (unit_bytes, content))| {
        let found = volume.read_blocking(unit * unit_bytes, *unit_bytes).map_err(io::Error::other)?;
        let mut wanted = vec![0; *unit_bytes as usize];
        contents::fill_part(*content, &mut wanted);
        if found[..] == wanted[..] {
            Ok(())
        } else {
            Err(io::Error::other(format!("unit {unit} is not what was written")))
        }
    })?;
    Ok(expected.len() as u64)
}
