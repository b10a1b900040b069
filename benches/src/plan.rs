//! A host's requests by seed: which units of a volume are written or read, and what is written.
//!
//! A unit is 512 bytes or a block. Every one of the `depth` requesters does one request at a time.
//! - L1: the same plan gives the same requests, so whoever knows how many each requester completed knows what the volume
//!   holds.
//! - L2: requesters that write never touch a unit that another one writes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::chance::{Chance, mix};
use crate::contents;
use crate::image::Image;

/// Percent of contents that are copies where [`Contents::Copies`] says so.
const COPIES_PERCENT: u64 = 30;
/// Different contents that copies are taken of.
const COPIED: u64 = 1 << 16;
/// Steps of a scattered order: a prime greater than the units of any volume that is filled.
const STRIDE: u64 = 2_654_435_761;
/// Skewed: so many of ten requests go to a tenth of the units.
const HOT_OF_TEN: u64 = 9;

/// How a request is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Api {
    /// The blocking twin, on a thread of its own.
    Blocking,
    /// The future.
    Async,
}

/// Which way data go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Writes.
    Write,
    /// Reads; every sixteenth is compared.
    Read,
}

/// Where requests go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pattern {
    /// Anywhere, with equal chance.
    Random,
    /// Anywhere but at a block's beginning.
    Misaligned,
    /// Nine of ten to a tenth of the units.
    Skewed,
    /// From the first unit on, once.
    Sequential,
    /// Every unit once, in an order in which neighbours lie far apart.
    Scattered,
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Contents {
    /// Every unit differs from every other one.
    Unique,
    /// Three of ten are there already, after a while.
    Copies,
    /// Every unit differs, and takes very little space.
    Tiny,
    /// The reference image: 20 % zero, 30 % copies, 50 % unique.
    Reference,
}

/// When requesters end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stop {
    /// After so many requests by all of them together.
    Requests(u64),
    /// After so many milliseconds.
    Millis(u64),
}

/// Requests of a host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// `pod::volume`.
    pub volume: String,
    /// Decides places and contents.
    pub seed: u64,
    /// Which way.
    pub kind: Kind,
    /// Where.
    pub pattern: Pattern,
    /// What.
    pub contents: Contents,
    /// Bytes of a unit.
    pub unit_bytes: u64,
    /// Units of the volume that are used, from the first one on.
    pub units: u64,
    /// Units of a request.
    pub length: u64,
    /// Requests under way at a time.
    pub depth: u64,
    /// How they are asked for.
    pub api: Api,
    /// When to end.
    pub stop: Stop,
    /// Whether data are made before the first request: no time is lost between requests, but they take memory of the
    /// array's process.
    pub prepare: bool,
    /// Requests that are due in a second, whether earlier ones have ended or not; blocking requesters only.
    pub rate: Option<u64>,
    /// Pause before each request, in microseconds; for depth 1.
    pub pause_us: u64,
    /// Milliseconds between two counts of what was completed.
    pub step_ms: u64,
    /// For reads: the file that tells what the units hold (see [`Ledger::save`](crate::ledger::Ledger::save)).
    pub ledger: Option<PathBuf>,
}

/// One request: its first unit, and the contents of its units if it writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// First unit.
    pub first: u64,
    /// Contents by number.
    pub contents: Vec<u64>,
}

impl Plan {
    /// 4 KiB unique random writes through the async interface.
    pub fn random_writes(volume: &str, seed: u64, blocks: u64, depth: u64, stop: Stop) -> Plan {
        Plan {
            volume: volume.to_owned(),
            seed,
            kind: Kind::Write,
            pattern: Pattern::Random,
            contents: Contents::Unique,
            unit_bytes: contents::BLOCK_BYTES as u64,
            units: blocks,
            length: 1,
            depth,
            api: Api::Async,
            stop,
            prepare: true,
            rate: None,
            pause_us: 0,
            step_ms: 1000,
            ledger: None,
        }
    }

    /// Fills the whole volume once, from the first block on.
    pub fn fill(volume: &str, seed: u64, blocks: u64) -> Plan {
        let length = 64.min(blocks);
        let stop = Stop::Requests(blocks / length);
        let plan = Plan::random_writes(volume, seed, blocks, 8, stop);
        Plan { pattern: Pattern::Sequential, length, prepare: false, ..plan }
    }

    /// Bytes of a request.
    pub fn request_bytes(&self) -> u64 {
        self.length * self.unit_bytes
    }

    /// What a requester does, without end unless the plan is sequential.
    pub fn requests(&self, requester: u64) -> impl Iterator<Item = Request> + use<> {
        let plan = self.clone();
        let seed = mix(self.seed ^ mix(requester + 1));
        let reference = match self.contents {
            Contents::Reference => Image::reference(self.units, self.seed).contents().to_vec(),
            Contents::Unique | Contents::Copies | Contents::Tiny => Vec::new(),
        };
        let mut chance = Chance::new(seed);
        (0..).map_while(move |number| {
            let first = plan.place(requester, number, &mut chance)?;
            let content = |at: u64| match plan.contents {
                Contents::Reference => reference[(first + at) as usize],
                Contents::Tiny => contents::tiny((plan.seed & 0xffff) << 32 | (first + at)),
                Contents::Copies if mix(seed ^ mix(number * plan.length + at)) % 100 < COPIES_PERCENT => {
                    mix(chance_of_copy(seed, number * plan.length + at) % COPIED + 1).max(1)
                }
                Contents::Unique | Contents::Copies => mix(mix(seed) ^ (number * plan.length + at)).max(1),
            };
            let contents = match plan.kind {
                Kind::Write => (0..plan.length).map(content).collect(),
                Kind::Read => Vec::new(),
            };
            Some(Request { first, contents })
        })
    }

    /// First unit of a requester's next request.
    fn place(&self, requester: u64, number: u64, chance: &mut Chance) -> Option<u64> {
        if self.pattern == Pattern::Sequential {
            let first = (number * self.depth + requester) * self.length;
            return (first + self.length <= self.units).then_some(first);
        }
        let (from, count) = match self.kind {
            Kind::Read => (0, self.units),
            Kind::Write => (requester * (self.units / self.depth), self.units / self.depth),
        };
        // As many places as a request can begin at without leaving the requester's own units.
        let places = count.checked_sub(self.length)? + 1;
        Some(match self.pattern {
            Pattern::Skewed if chance.below(10) < HOT_OF_TEN => from + chance.below((places / 10).max(1)),
            Pattern::Misaligned => {
                let first = from + chance.below(places.checked_sub(1)?);
                if first.is_multiple_of(contents::BLOCK_BYTES as u64 / self.unit_bytes) {
                    first + 1
                } else {
                    first
                }
            }
            Pattern::Scattered if number >= count => return None,
            Pattern::Scattered => from + number.wrapping_mul(STRIDE) % count,
            Pattern::Random | Pattern::Skewed | Pattern::Sequential => from + chance.below(places),
        })
    }

    /// Requests that one requester does at most.
    pub fn most_requests(&self, requester: u64) -> u64 {
        match self.stop {
            Stop::Millis(_) => u64::MAX,
            Stop::Requests(all) => all / self.depth + u64::from(requester < all % self.depth),
        }
    }
}

fn chance_of_copy(seed: u64, number: u64) -> u64 {
    mix(mix(seed ^ 0xc0) ^ number)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn plan(pattern: Pattern, units: u64, length: u64) -> Plan {
        let unit_bytes = if pattern == Pattern::Misaligned { 512 } else { 4096 };
        let plan = Plan::random_writes("p::v", 3, units, 8, Stop::Requests(100));
        Plan { pattern, unit_bytes, length, ..plan }
    }

    #[test]
    fn no_unit_is_written_by_two_requesters_and_none_lies_beyond_the_end() {
        for pattern in [Pattern::Random, Pattern::Misaligned, Pattern::Skewed, Pattern::Sequential] {
            let plan = plan(pattern, 1000, 8);
            let mut writers = BTreeMap::new();
            for requester in 0..plan.depth {
                for request in plan.requests(requester).take(200) {
                    assert_eq!(request.contents.len(), 8);
                    for unit in request.first..request.first + plan.length {
                        assert!(unit < plan.units);
                        assert_eq!(*writers.entry(unit).or_insert(requester), requester, "{pattern:?}");
                    }
                    assert!(pattern != Pattern::Misaligned || request.first % 8 != 0);
                }
            }
        }
    }

    #[test]
    fn a_sequential_plan_touches_every_unit_once() {
        let plan = Plan::fill("p::v", 1, 1024);
        let mut touched = [0; 1024];
        for requester in 0..plan.depth {
            for request in plan.requests(requester).take(plan.most_requests(requester) as usize) {
                (request.first..request.first + plan.length).for_each(|unit| touched[unit as usize] += 1);
            }
        }
        assert_eq!(touched, [1; 1024]);
    }

    #[test]
    fn a_scattered_plan_touches_every_unit_once() {
        let plan = Plan { pattern: Pattern::Scattered, ..plan(Pattern::Random, 1024, 1) };
        let units =
            (0..plan.depth).flat_map(|requester| plan.requests(requester).map(|request| request.first));
        let mut units: Vec<u64> = units.collect();
        assert!(units.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 4).count() < 64);
        units.sort_unstable();
        assert_eq!(units, (0..1024).collect::<Vec<u64>>());
    }

    #[test]
    fn three_of_ten_contents_are_copies_when_asked_for() {
        let plan = Plan { contents: Contents::Copies, ..plan(Pattern::Random, 1 << 20, 1) };
        let pool: std::collections::BTreeSet<u64> = (1..=COPIED).map(|number| mix(number).max(1)).collect();
        let contents = plan.requests(0).take(10_000).flat_map(|request| request.contents);
        let copies = contents.filter(|content| pool.contains(content)).count();
        assert!((2_800..3_200).contains(&copies), "{copies}");
    }
}
