//! One pod's register: an exact compare-and-set, nothing else.
//!
//! - R1: the record changes only if the caller names its present id.
//! - R2: a successful change, repeated by the same caller, gives the same grant as long as the record is still that caller's.
//! - R3: a register is created and given two members only with the consent of both; it goes to one member only at that member's own request.
//! - R4: a removed register stays removed: a tombstone answers every later request with a refusal.

use crate::ids::ArrayId;
use crate::mediator::{Record, Statement};

/// A pod's register.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum Register {
    /// Never created here (or lost: both refuse).
    #[default]
    Absent,
    /// In use.
    Present(Record),
    /// Removed for good.
    Removed,
}

/// Why a change was refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Refusal {
    /// The register is in another state.
    Changed,
    /// There is none.
    Absent,
    /// There was one; it is removed.
    Removed,
    /// The caller is not a member, or a member's consent is missing.
    NoConsent,
    /// The statement is for another mediator.
    WrongMediator,
}

/// What a register decides.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Decision {
    /// The record is (or was already) as asked for.
    Granted {
        /// The record.
        record: Record,
        /// It has just become so and must be persisted before the reply.
        changed: bool,
    },
    /// Removed (just now).
    Removed,
    /// No.
    Refused(Refusal),
}

impl Register {
    /// The record, if there is one.
    pub fn record(&self) -> Option<Record> {
        match self {
            Register::Present(record) => Some(*record),
            _ => None,
        }
    }

    /// Decides a compare-and-set by the authenticated `caller`; `consents` names the members whose consent was verified.
    pub fn swap(&self, caller: ArrayId, statement: &Statement, consents: &[ArrayId]) -> Decision {
        let consented = |array: ArrayId| array == caller || consents.contains(&array);
        let record = match (self, statement.expect) {
            (Register::Removed, _) => return Decision::Refused(Refusal::Removed),
            (Register::Absent, Some(_)) => return Decision::Refused(Refusal::Absent),
            (Register::Absent, None) => {
                if !statement.members.is_pair()
                    || !statement.members.iter().all(consented)
                    || !statement.members.contains(caller)
                {
                    return Decision::Refused(Refusal::NoConsent);
                }
                return Decision::Granted { record: new_record(statement), changed: true };
            }
            (Register::Present(record), _) => *record,
        };
        if record.from == statement.expect
            && record.members == statement.members
            && repeats(&record, caller, statement)
        {
            return Decision::Granted { record, changed: false };
        }
        if statement.expect != Some(record.id) {
            return Decision::Refused(Refusal::Changed);
        }
        let allowed = match statement.members.sole() {
            Some(sole) => sole == caller && record.members.contains(caller),
            None => statement.members.contains(caller) && statement.members.iter().all(consented),
        };
        if !allowed {
            return Decision::Refused(Refusal::NoConsent);
        }
        Decision::Granted { record: new_record(statement), changed: true }
    }

    /// Decides the removal of the state named by `expect`.
    pub fn remove(&self, caller: ArrayId, statement: &Statement, consents: &[ArrayId]) -> Decision {
        match self {
            Register::Absent => Decision::Refused(Refusal::Absent),
            Register::Removed => Decision::Removed,
            Register::Present(record) if statement.expect != Some(record.id) => {
                Decision::Refused(Refusal::Changed)
            }
            Register::Present(record) => {
                if record.members.contains(caller)
                    && record.members.iter().all(|member| member == caller || consents.contains(&member))
                {
                    Decision::Removed
                } else {
                    Decision::Refused(Refusal::NoConsent)
                }
            }
        }
    }
}

/// A grant to one member repeats for any fresh id it proposes (it may have restarted); a record of two repeats for its own id only.
fn repeats(record: &Record, caller: ArrayId, statement: &Statement) -> bool {
    record.members.is_only(caller) || record.id == statement.id
}

fn new_record(statement: &Statement) -> Record {
    Record { id: statement.id, epoch: statement.epoch, members: statement.members, from: statement.expect }
}
