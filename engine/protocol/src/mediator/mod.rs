//! The mediator: one small register per pod, and the words spoken with it.

pub mod register;
pub mod service;

use bytes::Bytes;

use crate::config::{Epoch, Members};
use crate::ids::{ArrayId, ConfigId, MediatorId, PodId, RegisterId};

pub use register::{Decision, Refusal, Register};
pub use service::{Service, ServiceEffect, ServiceInput, ServiceSettings, SessionNumber};

/// State of a pod's register.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Record {
    /// Random name of this state.
    pub id: RegisterId,
    /// Number of the configuration it belongs to; informs, orders nothing.
    pub epoch: Epoch,
    /// Who may change it.
    pub members: Members,
    /// The state it replaced; `None` in the first.
    pub from: Option<RegisterId>,
}

/// An exact compare-and-set: the register must be in state `expect`. This is also what a consenting member signs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Statement {
    /// Which pod.
    pub pod: PodId,
    /// Which mediator.
    pub mediator: MediatorId,
    /// State required; `None` creates the register.
    pub expect: Option<RegisterId>,
    /// New state.
    pub id: RegisterId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its members.
    pub members: Members,
    /// The configuration both members know committed; ties the consent to one state of the pair.
    pub config: ConfigId,
}

/// A member's consent as it travels: opaque here, verified by the mediator's front before the service sees it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Consent {
    /// Who consents.
    pub array: ArrayId,
    /// Its signature under the statement's bytes.
    pub signature: Bytes,
}

/// A request of an array about one pod.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct MediatorRequest {
    /// Chosen by the array, repeated in the reply.
    pub request: u64,
    /// What it asks.
    pub ask: Ask,
}

/// What an array may ask.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Ask {
    /// The register, after everything this session asked before was answered or dropped.
    Read {
        /// Which pod.
        pod: PodId,
    },
    /// A compare-and-set.
    Swap {
        /// What is to be set.
        statement: Statement,
        /// Consents to it; a grant to one member needs none.
        consents: Vec<Consent>,
        /// The pod's preferred array, for the head start.
        preferred: Option<ArrayId>,
    },
    /// Puts a tombstone in the register's place: the pod is no longer stretched here.
    Remove {
        /// Statement whose `expect` is the state to remove.
        statement: Statement,
        /// Consents of all members of that state.
        consents: Vec<Consent>,
    },
}

/// The mediator's reply.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MediatorReply {
    /// Which request.
    pub request: u64,
    /// Which pod.
    pub pod: PodId,
    /// The answer.
    pub answer: Answer,
}

/// What the mediator answers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Answer {
    /// The register as it is; `None` if there is none.
    Register(Option<Record>),
    /// The compare-and-set holds (now or already), durable at the mediator.
    Granted(Record),
    /// It does not.
    Refused {
        /// Why.
        reason: Refusal,
        /// The register as it is.
        record: Option<Record>,
    },
}
