//! What a volume may hold, by what was sent and acknowledged.
//!
//! Per sector of 512 bytes: the last acknowledged value, and every later value that was sent and not acknowledged.
//! After a crash the sector must hold one of them; which one it holds is what it holds from then on.
//!
//! - O1: an acknowledged value may be replaced only by one sent after it was sent.
//! - O2: what a crash decided stays decided.

use std::collections::BTreeMap;

pub use crate::payload::{SECTOR_BYTES, Value, sector_bytes};

use crate::payload::describe;

/// One volume's model.
#[derive(Debug, Clone, Default)]
pub struct Oracle {
    /// Acknowledged value of each sector; absent: 0.
    settled: BTreeMap<u64, Value>,
    /// Sent and not acknowledged, by write number.
    open: BTreeMap<u64, Open>,
    next: u64,
}

#[derive(Debug, Clone)]
struct Open {
    sectors: std::ops::Range<u64>,
    value: Value,
}

/// A sector that holds what it must not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The sector.
    pub sector: u64,
    /// What was found, in words.
    pub found: String,
    /// What it may hold.
    pub allowed: Vec<Value>,
}

impl Oracle {
    /// A write of `sectors` is sent: its number. `zero`: it writes zeroes.
    pub fn send(&mut self, sectors: std::ops::Range<u64>, zero: bool) -> u64 {
        self.next += 1;
        let value = if zero { 0 } else { self.next };
        self.open.insert(self.next, Open { sectors, value });
        self.next
    }

    /// It is acknowledged.
    pub fn acknowledge(&mut self, number: u64) {
        if let Some(open) = self.open.remove(&number) {
            for sector in open.sectors {
                self.settled.insert(sector, open.value);
            }
        }
    }

    /// It was refused for certain.
    pub fn refuse(&mut self, number: u64) {
        self.open.remove(&number);
    }

    /// Whether nothing is in flight.
    pub fn is_quiet(&self) -> bool {
        self.open.is_empty()
    }

    /// Checks what was read at `first` and takes it as settled (O2).
    pub fn check_and_settle(&mut self, first: u64, bytes: &[u8]) -> Result<(), Violation> {
        for (at, content) in bytes.chunks(SECTOR_BYTES).enumerate() {
            let sector = first + at as u64;
            let allowed = self.allowed(sector);
            match allowed.iter().find(|value| content == sector_bytes(sector, **value)) {
                Some(value) => {
                    self.settled.insert(sector, *value);
                }
                None => return Err(Violation { sector, found: describe(content), allowed }),
            }
        }
        Ok(())
    }

    /// Forgets what was in flight: a crash decided it, and reading settled it.
    pub fn crashed(&mut self) {
        self.open.clear();
    }

    fn allowed(&self, sector: u64) -> Vec<Value> {
        let settled = self.settled.get(&sector).copied().unwrap_or(0);
        let open = self.open.values().filter(|open| open.sectors.contains(&sector)).map(|open| open.value);
        std::iter::once(settled).chain(open).collect()
    }
}
