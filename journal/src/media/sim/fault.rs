//! Faults a test plans for simulated media, and counts of what was done.

use crate::media::{Cause, Durability};

/// A call on the media, as faults and counters tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Operation {
    List,
    Open,
    Create,
    Length,
    Read,
    Write,
    DurableWrite,
    Sync,
    SyncDir,
    Rename,
    Remove,
}

const OPERATIONS: usize = Operation::Remove as usize + 1;

impl Operation {
    /// Whether the call changes the media or promises durability: what a power cut is counted in.
    pub fn is_effect(self) -> bool {
        !matches!(self, Operation::List | Operation::Open | Operation::Length | Operation::Read)
    }

    pub(super) fn of_write(durability: Durability) -> Operation {
        match durability {
            Durability::Cached => Operation::Write,
            Durability::Durable => Operation::DurableWrite,
        }
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The call fails with this cause; a write may have landed in part, a sync leaves its writes in doubt.
    Fail(Cause),
    /// The call reports success, but what it promised is not durable, and no later sync makes it so.
    Lie,
}

impl Fault {
    /// A device error (EIO).
    pub const ERROR: Fault = Fault::Fail(DEVICE_ERROR);
}

/// EIO.
pub(super) const DEVICE_ERROR: Cause = Cause::Device(5);

/// What was done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    counts: [u64; OPERATIONS],
    /// Bytes handed to writes that succeeded.
    pub bytes_written: u64,
    /// Bytes returned by reads.
    pub bytes_read: u64,
}

impl Counters {
    /// How often `operation` was called.
    pub fn count(&self, operation: Operation) -> u64 {
        self.counts[operation as usize]
    }

    pub(super) fn add(&mut self, operation: Operation) {
        self.counts[operation as usize] += 1;
    }
}

#[derive(Clone)]
struct Planned {
    /// `None`: any effect.
    operation: Option<Operation>,
    /// Matching calls that still succeed.
    spare: u64,
    repeat: bool,
    fault: Fault,
}

/// Verdict on one call.
pub(super) enum Verdict {
    Go,
    Fault(Fault),
    /// The power fails while this call is under way.
    PowerCut,
    /// There is no power.
    Dark,
}

/// Everything planned for one media.
#[derive(Clone, Default)]
pub(super) struct Faults {
    planned: Vec<Planned>,
    effects_left: Option<u64>,
    dark: bool,
    pub(super) effects: u64,
}

impl Faults {
    pub(super) fn plan(&mut self, operation: Option<Operation>, nth: u64, repeat: bool, fault: Fault) {
        assert!(nth > 0, "the next call is number one");
        self.planned.push(Planned { operation, spare: nth - 1, repeat, fault });
    }

    pub(super) fn cut_power_after(&mut self, effects: u64) {
        self.effects_left = Some(effects);
    }

    pub(super) fn dark(&self) -> bool {
        self.dark
    }

    /// Forgets every plan and restores the power.
    pub(super) fn clear(&mut self) {
        *self = Faults { effects: self.effects, ..Faults::default() };
    }

    pub(super) fn judge(&mut self, operation: Operation) -> Verdict {
        if self.dark {
            return Verdict::Dark;
        }
        if operation.is_effect() {
            match &mut self.effects_left {
                Some(0) => {
                    self.dark = true;
                    return Verdict::PowerCut;
                }
                Some(left) => *left -= 1,
                None => {}
            }
            self.effects += 1;
        }
        let mut verdict = Verdict::Go;
        self.planned.retain_mut(|planned| {
            let matches = match planned.operation {
                Some(wanted) => wanted == operation,
                None => operation.is_effect(),
            };
            if !matches {
                return true;
            }
            if planned.spare > 0 {
                planned.spare -= 1;
                return true;
            }
            verdict = Verdict::Fault(planned.fault);
            planned.repeat
        });
        verdict
    }
}
