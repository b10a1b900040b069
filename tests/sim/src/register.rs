//! Every sector is a linearizable register across both arrays: the check, as operations end.
//!
//! Times are numbers of events. Each value is written once, so a write and all reads that returned it form a cluster, and a
//! history is linearizable exactly if no two clusters must each come before the other (Gibbons and Korach, 1997): with
//! `from` the earliest end and `until` the latest start in a cluster, a cluster with `from < until` holds the register
//! all that time ("forward"); two forward ones must not overlap, and another's `until..from` must not lie inside one.
//!
//! - H1: a value is read only after its write was sent; never after its write was refused for certain.
//! - H2: a write that ended in an error, or whose end was never told, may take place any time later, but before every
//!   write sent after that error: a host that gave it up and wrote again must not find it afterwards.
//! - H3: zeroes are written often: a read of zeroes is refused when it fits none of the writes of zeroes, and counted to
//!   one when it fits only that.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::payload::{SECTOR_BYTES, Value, describe, value_of};

/// The number of an event: earlier is smaller.
pub type Moment = u64;

const NEVER: Moment = Moment::MAX;

/// Every write and read of one volume so far.
#[derive(Debug, Clone)]
pub struct History {
    sectors: Vec<Vec<Cluster>>,
    writes: BTreeMap<u64, Range<u64>>,
    refused: BTreeSet<u64>,
    newest: u64,
}

#[derive(Debug, Clone, Copy)]
struct Cluster {
    /// The write.
    number: u64,
    zero: bool,
    start: Moment,
    /// A value that was never acknowledged counts once it was read.
    counts: bool,
    /// Earliest end of the write or of a read of it.
    from: Moment,
    /// Latest start of the write or of a read of it.
    until: Moment,
    /// When its host was told that it may or may not have been done.
    given_up: Moment,
}

/// What a sector showed and must not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The sector.
    pub sector: u64,
    /// What was found, in words.
    pub found: String,
    /// Why that is wrong, in words.
    pub why: String,
}

impl History {
    /// A volume of zeroes.
    pub fn new(sectors: u64) -> History {
        let first =
            Cluster { number: 0, zero: true, start: 0, counts: true, from: 0, until: 0, given_up: NEVER };
        History {
            sectors: vec![vec![first]; sectors as usize],
            writes: BTreeMap::new(),
            refused: BTreeSet::new(),
            newest: 0,
        }
    }

    /// A write is sent: its number, which is its value unless it writes zeroes.
    pub fn sent(&mut self, sectors: Range<u64>, zero: bool, at: Moment) -> u64 {
        self.newest += 1;
        let cluster = Cluster {
            number: self.newest,
            zero,
            start: at,
            counts: false,
            from: NEVER,
            until: at,
            given_up: NEVER,
        };
        for sector in sectors.clone() {
            self.sectors[sector as usize].push(cluster);
        }
        self.writes.insert(self.newest, sectors);
        self.newest
    }

    /// It is acknowledged.
    pub fn acknowledged(&mut self, number: u64, at: Moment) {
        self.each(number, |cluster| {
            cluster.counts = true;
            cluster.from = cluster.from.min(at);
        });
    }

    /// It ended in an error that says nothing about what became of it (H2).
    pub fn failed(&mut self, number: u64, at: Moment) {
        self.each(number, |cluster| cluster.given_up = at);
    }

    /// It was refused or withdrawn for certain. `Err`: it had been read.
    pub fn refused(&mut self, number: u64) -> Result<(), Violation> {
        let mut read = None;
        for sector in self.writes.get(&number).cloned().into_iter().flatten() {
            let clusters = &mut self.sectors[sector as usize];
            if clusters.iter().any(|cluster| cluster.number == number && cluster.counts) {
                read = Some(sector);
            }
            clusters.retain(|cluster| cluster.number != number);
        }
        self.refused.insert(number);
        match read {
            None => Ok(()),
            Some(sector) => Err(Violation {
                sector,
                found: format!("write {number}"),
                why: "it was read, then refused for certain".into(),
            }),
        }
    }

    /// A read of `bytes` from sector `first` on took place between two moments.
    pub fn read(&mut self, first: u64, bytes: &[u8], times: Range<Moment>) -> Result<(), Violation> {
        for (at, content) in bytes.chunks(SECTOR_BYTES).enumerate() {
            let sector = first + at as u64;
            self.read_sector(sector, content, &times).map_err(|why| Violation {
                sector,
                found: describe(content),
                why,
            })?;
        }
        Ok(())
    }

    /// The write that a sector's content is of.
    pub fn value(&self, sector: u64, content: &[u8]) -> Option<Value> {
        value_of(sector, content, self.newest)
    }

    fn read_sector(&mut self, sector: u64, content: &[u8], times: &Range<Moment>) -> Result<(), String> {
        let Some(value) = value_of(sector, content, self.newest) else {
            return Err("no write made this".into());
        };
        let clusters = &mut self.sectors[sector as usize];
        let mut fitting = Vec::new();
        let mut reason = None;
        for at in 0..clusters.len() {
            let candidate = clusters[at];
            let matches =
                if value == 0 { candidate.zero } else { candidate.number == value && !candidate.zero };
            if !matches {
                continue;
            }
            let grown = candidate.with_read(times);
            match clusters.iter().find(|other| other.number != grown.number && grown.contradicts(other)) {
                _ if candidate.start > times.end => reason = Some(format!("{candidate:?} was sent later")),
                Some(other) => reason = Some(format!("read at {times:?}: {grown:?} against {other:?}")),
                None => fitting.push((at, grown)),
            }
        }
        match fitting.as_slice() {
            [] if self.refused.contains(&value) => Err(format!("write {value} was refused for certain")),
            [] => Err(reason.unwrap_or_else(|| format!("write {value} is not of this sector"))),
            [(at, grown)] => {
                clusters[*at] = *grown;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn each(&mut self, number: u64, change: impl Fn(&mut Cluster)) {
        for sector in self.writes.get(&number).cloned().into_iter().flatten() {
            for cluster in &mut self.sectors[sector as usize] {
                if cluster.number == number {
                    change(cluster);
                }
            }
        }
    }
}

impl Cluster {
    fn with_read(mut self, times: &Range<Moment>) -> Cluster {
        self.counts = true;
        self.from = self.from.min(times.end);
        self.until = self.until.max(times.start);
        self
    }

    fn is_forward(&self) -> bool {
        self.from < self.until
    }

    fn contradicts(&self, other: &Cluster) -> bool {
        if !other.counts {
            return false;
        }
        if self.given_up < other.start && other.from < self.until {
            return true;
        }
        match (self.is_forward(), other.is_forward()) {
            (true, true) => self.from.max(other.from) < self.until.min(other.until),
            (true, false) => self.from < other.until && other.from < self.until,
            (false, true) => other.from < self.until && self.from < other.until,
            (false, false) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::sector_bytes;

    fn read(history: &mut History, value: Value, times: Range<Moment>) -> bool {
        history.read(0, &sector_bytes(0, value), times).is_ok()
    }

    #[test]
    fn a_read_after_the_acknowledgement_sees_the_write() {
        let mut history = History::new(1);
        let one = history.sent(0..1, false, 1);
        history.acknowledged(one, 2);
        assert!(!read(&mut history, 0, 3..4));
        assert!(read(&mut history, one, 3..4));
    }

    #[test]
    fn a_concurrent_write_may_be_seen_or_not_but_not_taken_back() {
        let mut history = History::new(1);
        let one = history.sent(0..1, false, 1);
        assert!(read(&mut history, 0, 2..3));
        assert!(read(&mut history, one, 4..5));
        assert!(!read(&mut history, 0, 6..7));
        assert!(read(&mut history, one, 6..7));
    }

    #[test]
    fn a_write_that_failed_does_not_appear_after_a_later_one() {
        let mut history = History::new(1);
        let ghost = history.sent(0..1, false, 1);
        history.failed(ghost, 2);
        let next = history.sent(0..1, false, 3);
        history.acknowledged(next, 4);
        assert!(!read(&mut history, ghost, 5..6));
        assert!(read(&mut history, next, 5..6));
    }

    #[test]
    fn a_write_whose_end_was_never_told_may_appear_any_time_once() {
        let mut history = History::new(1);
        let lost = history.sent(0..1, false, 1);
        let next = history.sent(0..1, false, 3);
        history.acknowledged(next, 4);
        assert!(read(&mut history, next, 5..6));
        assert!(read(&mut history, lost, 7..8));
        assert!(!read(&mut history, next, 9..10));
    }

    #[test]
    fn a_refused_write_is_never_read() {
        let mut history = History::new(1);
        let one = history.sent(0..1, false, 1);
        assert_eq!(history.refused(one), Ok(()));
        assert!(!read(&mut history, one, 2..3));
    }

    #[test]
    fn zeroes_are_taken_for_any_write_of_zeroes_that_fits() {
        let mut history = History::new(1);
        let one = history.sent(0..1, false, 1);
        history.acknowledged(one, 2);
        assert!(!read(&mut history, 0, 3..4));
        let zero = history.sent(0..1, true, 5);
        assert!(read(&mut history, 0, 6..7));
        assert!(!read(&mut history, one, 8..9));
        history.acknowledged(zero, 10);
        assert!(read(&mut history, 0, 11..12));
    }
}
