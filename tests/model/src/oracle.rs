//! What must hold in each state.
//!
//! There is one history: the entries that some host may have seen, because a write was acknowledged or because an array that serves
//! reads knows them committed. Nobody ever serves without it, nobody ever acknowledges beside it.

use std::fmt;

use metropod_protocol::{Alarm, Body, Index, Machine, Outcome, Serving};

use crate::array::short;
use crate::world::World;

/// What went wrong.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Wrong {
    /// An array is alone while the other may serve a read.
    AloneBesideServing,
    /// An array serves without what hosts have seen, or something else was seen in its place.
    Contradiction,
    /// Both know different entries committed.
    CommittedDiffers,
    /// Entries that hosts have seen are cut from a log.
    SeenIsCut,
    /// Both disks entitle their arrays to go on without asking.
    TwoRights,
    /// An operation that was reported withdrawn is committed.
    WithdrawnIsCommitted,
    /// An operation is in the log twice.
    Twice,
    /// A disk cannot be read at a start.
    Unreadable,
    /// A machine said what must not happen.
    Alarmed(Alarm),
    /// A check inside the shipped code failed.
    Asserted(String),
}

impl Wrong {
    /// Whether the array that raised it says that the protocol was broken; the others are part of a life with faults.
    pub fn from_alarm(alarm: Alarm) -> Option<Wrong> {
        match alarm {
            Alarm::PeerEjected | Alarm::PeerTooFarBehind => None,
            _ => Some(Wrong::Alarmed(alarm)),
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::AloneBesideServing => f.write_str("an array is alone while the other serves"),
            Wrong::Contradiction => f.write_str("hosts see two histories"),
            Wrong::CommittedDiffers => f.write_str("different entries are known committed"),
            Wrong::SeenIsCut => f.write_str("what hosts have seen is cut"),
            Wrong::TwoRights => f.write_str("two durable rights to be alone"),
            Wrong::WithdrawnIsCommitted => f.write_str("a withdrawn operation is committed"),
            Wrong::Twice => f.write_str("an operation is in the log twice"),
            Wrong::Unreadable => f.write_str("a disk cannot be read"),
            Wrong::Alarmed(alarm) => write!(f, "alarm {alarm:?}"),
            Wrong::Asserted(what) => write!(f, "assertion: {what}"),
        }
    }
}

/// What hosts know.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Oracle {
    /// Short chains of the entries that hosts may have seen, from index 1.
    seen: Vec<u64>,
    /// Operations reported withdrawn.
    withdrawn: Vec<u64>,
}

impl Oracle {
    /// An operation ended at an array.
    pub fn done(&mut self, machine: &Machine, operation: u64, outcome: Outcome) -> Option<Wrong> {
        match outcome {
            Outcome::Committed(index) => self.see(machine, index),
            Outcome::Withdrawn => {
                self.withdrawn.push(operation);
                None
            }
            Outcome::Refused(_) => None,
        }
    }

    /// A log was cut: these were dropped, the first of them after `keep`.
    pub fn cut(&self, keep: Index, dropped: &[u64]) -> Option<Wrong> {
        let seen = self.seen.get(usize::try_from(keep.0).expect("short logs"));
        (!dropped.is_empty() && dropped.first() == seen).then_some(Wrong::SeenIsCut)
    }

    /// Hosts may see everything up to `index` at this array.
    fn see(&mut self, machine: &Machine, index: Index) -> Option<Wrong> {
        for at in 1..=index.0 {
            let chain = short(machine.position(Index(at))?.chain);
            match self.seen.get(at as usize - 1) {
                Some(seen) if *seen != chain => return Some(Wrong::Contradiction),
                Some(_) => {}
                None => self.seen.push(chain),
            }
        }
        None
    }

    /// Whether a machine's log holds everything that hosts have seen.
    fn is_held_by(&self, machine: &Machine) -> bool {
        let Some(last) = self.seen.last() else { return true };
        machine.position(Index(self.seen.len() as u64)).is_some_and(|held| short(held.chain) == *last)
    }
}

/// Looks at the whole world.
pub fn look(world: &mut World) -> Option<Wrong> {
    let now = world.now;
    let serves = [0, 1].map(|array| world.serving(array) == Some(Serving::Yes));
    for array in 0..2 {
        let Some(machine) = world.arrays[array].machine() else { continue };
        if serves[array] {
            if !world.oracle.is_held_by(machine) {
                return Some(Wrong::Contradiction);
            }
            if world.arrays[array].is_sole() && serves[1 - array] {
                return Some(Wrong::AloneBesideServing);
            }
            let committed = machine.committed();
            if let Some(wrong) = world.oracle.see(machine, committed) {
                return Some(wrong);
            }
        }
        if let Some(wrong) = operations(machine, &world.oracle.withdrawn) {
            return Some(wrong);
        }
        debug_assert_eq!(machine.serving(now) == Serving::Yes, serves[array]);
    }
    if let [Some(one), Some(other)] = [0, 1].map(|array| world.arrays[array].machine()) {
        let common = one.committed().min(other.committed());
        if one.position(common).map(|held| held.chain) != other.position(common).map(|held| held.chain) {
            return Some(Wrong::CommittedDiffers);
        }
    }
    let rights = [0, 1].map(|array| world.arrays[array].has_durable_right());
    (rights == [true; 2]).then_some(Wrong::TwoRights)
}

/// Each operation is in the log once, and a withdrawn one is not committed.
fn operations(machine: &Machine, withdrawn: &[u64]) -> Option<Wrong> {
    let mut found = Vec::new();
    for index in 1..=machine.committed().0 {
        let Some(Body::Operation { descriptor, .. }) = machine.entry(Index(index)).map(|entry| &entry.body)
        else {
            continue;
        };
        let operation = u64::from_le_bytes(descriptor[..].try_into().expect("eight bytes"));
        if withdrawn.contains(&operation) {
            return Some(Wrong::WithdrawnIsCommitted);
        }
        if found.contains(&operation) {
            return Some(Wrong::Twice);
        }
        found.push(operation);
    }
    None
}
