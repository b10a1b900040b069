//! Which kinds of flows rest after a failure, and whether the device is full.
//!
//! - Y1: a kind that failed is not started again before its time; other kinds are not held up by it.
//! - Y2: a time that has passed is forgotten: it asks for no further wake-up.

use std::collections::{BTreeMap, BTreeSet};

use metropod_protocol::{Span, Time};

use crate::task::FlowError;

/// How long a failed flow rests before it is tried again.
const RETRY_AFTER: Span = Span::millis(500);

/// How long the reserve rests, and a journal that cannot grow: each try writes until the device is full.
const RETRY_LONG: Span = Span::millis(2_000);

/// Kinds of flows that are started again by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Segment,
    Destage,
    Checkpoint,
    Fold,
    Reserve,
    Collect,
    Index,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Retries {
    rests_until: BTreeMap<Kind, Time>,
    no_space: BTreeSet<Kind>,
    /// Kinds that failed when they were last tried.
    failing: BTreeSet<Kind>,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Segment => "segment",
            Kind::Destage => "destage",
            Kind::Checkpoint => "checkpoint",
            Kind::Fold => "fold",
            Kind::Reserve => "reserve",
            Kind::Collect => "collect",
            Kind::Index => "index",
        }
    }

    /// Whether hosts depend on it: without room for it nothing more can be taken in.
    fn is_needed_for_writes(self) -> bool {
        !matches!(self, Kind::Fold | Kind::Collect | Kind::Index)
    }
}

impl Retries {
    /// Notes how a flow ended.
    pub(super) fn note(&mut self, now: Time, kind: Kind, error: Option<FlowError>) {
        match error {
            Some(_) if kind == Kind::Reserve => self.rests_until.insert(kind, now + RETRY_LONG),
            Some(_) => self.rests_until.insert(kind, now + RETRY_AFTER),
            None => self.rests_until.remove(&kind),
        };
        match error {
            Some(_) => self.failing.insert(kind),
            None => self.failing.remove(&kind),
        };
        match error {
            Some(error) if error.is_no_space() && kind.is_needed_for_writes() => self.no_space.insert(kind),
            _ => self.no_space.remove(&kind),
        };
    }

    /// The journal cannot grow and can do without: that holds nobody up.
    pub(super) fn forgo_segment(&mut self, now: Time) {
        self.rests_until.insert(Kind::Segment, now + RETRY_LONG);
        self.no_space.remove(&Kind::Segment);
    }

    /// A recycled segment costs no space.
    pub(super) fn may_recycle(&mut self) {
        self.rests_until.remove(&Kind::Segment);
    }

    /// There may be space now for what lacks it.
    pub(super) fn hurry(&mut self) {
        let lacking = &self.no_space;
        self.rests_until.retain(|kind, _| *kind == Kind::Reserve || !lacking.contains(kind));
    }

    /// Whether another kind last failed for want of space.
    pub(super) fn lacks_other_than(&self, kind: Kind) -> bool {
        self.no_space.iter().any(|lacking| *lacking != kind)
    }

    /// Forgets what has passed (Y2).
    pub(super) fn pass(&mut self, now: Time) {
        self.rests_until.retain(|_, until| *until > now);
    }

    /// Whether a flow of this kind may be started.
    pub(super) fn may_start(&self, kind: Kind) -> bool {
        !self.rests_until.contains_key(&kind)
    }

    /// When the next one may.
    pub(super) fn next(&self) -> Option<Time> {
        self.rests_until.values().min().copied()
    }

    /// Whether this kind last failed for want of space: it is tried again even if there is little to do, for nothing else
    /// tells that there is room again.
    pub(super) fn lacks_space(&self, kind: Kind) -> bool {
        self.no_space.contains(&kind)
    }

    /// Whether this kind failed when it was last tried, for whatever reason.
    pub(super) fn is_failing(&self, kind: Kind) -> bool {
        self.failing.contains(&kind)
    }

    /// Whether something that hosts depend on last failed for want of space.
    pub(super) fn is_full(&self) -> bool {
        !self.no_space.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use metropod_journal::media::{Cause, Doing, MediaError};

    use super::*;

    #[test]
    fn each_kind_rests_for_itself_and_a_passed_time_asks_for_no_wake_up() {
        let full = FlowError::Media(MediaError { doing: Doing::Write, cause: Cause::NoSpace });
        let mut retries = Retries::default();
        retries.note(Time(0), Kind::Fold, Some(full));
        assert!(!retries.is_full() && !retries.may_start(Kind::Fold) && retries.may_start(Kind::Destage));
        retries.note(Time(0), Kind::Destage, Some(full));
        retries.note(Time(0), Kind::Segment, None);
        assert!(retries.is_full(), "another kind's success says nothing about this one");
        let due = retries.next().unwrap();
        retries.pass(due);
        assert_eq!(retries.next(), None);
        assert!(retries.may_start(Kind::Destage) && retries.is_full());
        retries.note(due, Kind::Destage, None);
        assert!(!retries.is_full());
        assert!(!retries.is_failing(Kind::Destage) && retries.is_failing(Kind::Fold));
    }
}
