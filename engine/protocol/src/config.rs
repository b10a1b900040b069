//! Configurations: who is a member, who orders, and where the right to go on alone lies.
//!
//! Give before take: what a configuration takes is lost from its append, what it gives is gained only when it is
//! known durable on both. [`Entitlement::meet`] is that rule for two configurations.

use crate::ids::{ArrayId, ConfigId, MediatorId, RegisterId};

/// Orders configurations for people and for noticing that one is behind; ids decide, epochs inform.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Epoch {
    /// Raised only by operator force.
    pub era: u32,
    /// Higher than any number its proposer ever saw.
    pub number: u64,
}

/// One or two arrays.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Members {
    low: ArrayId,
    high: Option<ArrayId>,
}

impl Members {
    /// A single member.
    pub const fn one(array: ArrayId) -> Members {
        Members { low: array, high: None }
    }

    /// Two members in id order; equal ids make a single member.
    pub fn pair(one: ArrayId, other: ArrayId) -> Members {
        match one.cmp(&other) {
            std::cmp::Ordering::Less => Members { low: one, high: Some(other) },
            std::cmp::Ordering::Greater => Members { low: other, high: Some(one) },
            std::cmp::Ordering::Equal => Members::one(one),
        }
    }

    /// Whether `array` is one of them.
    pub fn contains(&self, array: ArrayId) -> bool {
        self.low == array || self.high == Some(array)
    }

    /// Whether there are two.
    pub fn is_pair(&self) -> bool {
        self.high.is_some()
    }

    /// Whether `array` is the only one.
    pub fn is_only(&self, array: ArrayId) -> bool {
        self.low == array && self.high.is_none()
    }

    /// The other member, if there are two and `array` is one of them.
    pub fn other(&self, array: ArrayId) -> Option<ArrayId> {
        match self.high {
            Some(high) if self.low == array => Some(high),
            Some(high) if high == array => Some(self.low),
            _ => None,
        }
    }

    /// The only member, if there is one only.
    pub fn sole(&self) -> Option<ArrayId> {
        if self.high.is_none() { Some(self.low) } else { None }
    }

    /// The members in id order.
    pub fn iter(&self) -> impl Iterator<Item = ArrayId> + use<> {
        std::iter::once(self.low).chain(self.high)
    }
}

/// Where the right to let a member go on alone lies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Right {
    /// In the pod's register at a mediator, while it is in the named state.
    Mediator {
        /// Whose register.
        mediator: MediatorId,
        /// The register state that a racer must name.
        register: RegisterId,
    },
    /// At a member (in a configuration of two: pre-elected).
    Array(ArrayId),
}

/// How a configuration of one member came about: a granted one holds as soon as it is durable at that member, an agreed one when
/// it is known durable at both.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Ground {
    /// By the log of both.
    Agreed,
    /// By the right: the mediator's grant or the holder's own.
    Granted,
}

/// Who is a member, who orders, and where the right lies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Configuration {
    /// Era and number.
    pub epoch: Epoch,
    /// Random name; the register id when it was written after a grant or record.
    pub id: ConfigId,
    /// One or two arrays.
    pub members: Members,
    /// The member that orders.
    pub sequencer: ArrayId,
    /// Where the right lies.
    pub right: Right,
    /// By agreement or by the right.
    pub ground: Ground,
}

/// What one configuration, or a run of them, entitles a member to when it loses its peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Entitlement {
    /// Nothing.
    None,
    /// To ask the mediator, naming the register state.
    Race {
        /// Whom to ask.
        mediator: MediatorId,
        /// What to name as expected.
        base: RegisterId,
    },
    /// To go on without asking.
    Alone,
}

impl Entitlement {
    /// What remains when both must allow it: `self` from the earlier configuration, `later` from the later.
    pub fn meet(self, later: Entitlement) -> Entitlement {
        use Entitlement::{Alone, None, Race};
        match (self, later) {
            (None, _) | (_, None) => None,
            (Alone, Alone) => Alone,
            (Race { mediator, .. }, Race { mediator: other, .. }) if mediator != other => None,
            (Race { .. }, race @ Race { .. }) => race,
            (race @ Race { .. }, Alone) | (Alone, race @ Race { .. }) => race,
        }
    }
}

impl Configuration {
    /// What this configuration alone entitles `array` to.
    pub fn entitles(&self, array: ArrayId) -> Entitlement {
        if !self.members.contains(array) {
            return Entitlement::None;
        }
        if !self.members.is_pair() {
            return Entitlement::Alone;
        }
        match self.right {
            Right::Mediator { mediator, register } => Entitlement::Race { mediator, base: register },
            Right::Array(holder) if holder == array => Entitlement::Alone,
            Right::Array(_) => Entitlement::None,
        }
    }

    /// The member that holds the right in a configuration of two.
    pub fn pre_elected(&self) -> Option<ArrayId> {
        match self.right {
            Right::Array(holder) if self.members.is_pair() => Some(holder),
            _ => None,
        }
    }
}
