//! The pod's own time, and what falls due in it.
//!
//! ```text
//! applied: something is destroyed ─► stopwatch from the log's time ─► due? ─► the sequencer proposes Eradicate
//!                                        └── every CLOCK_STEP ────────────► the sequencer proposes Clock
//! ```
//! Both arrays hold a stopwatch, started when they applied the entry that set the log's time, so that either can go on
//! counting when it becomes the sequencer. What a proposal says is in the entry; applying it asks no clock.
//!
//! - H1: the log's time never runs ahead: a stopwatch starts when the entry is applied, and what it shows is added to
//!   the time in that entry. A restart forgets at most [`CLOCK_STEP`] of it, and the time the array was down.
//! - H2: at most one chore of this array is under way; after a proposal the next waits [`PAUSE`] or for an answer.
//! - H3: while nothing is destroyed, nothing is counted and nothing is written.

use metropod_protocol::{RequestId, Serving, Span, Time};

use super::Pod;
use crate::namespace::PodTime;
use crate::operation::{Manage, Target};

/// The log's time is written at least this often while something waits for it.
const CLOCK_STEP: Span = Span::millis(300_000);

/// Between attempts to propose.
const PAUSE: Span = Span::millis(1_000);

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Chores {
    /// What falls due next.
    next: Option<(PodTime, Target)>,
    /// The log's time and when it was applied here.
    stopwatch: Option<(PodTime, Time)>,
    under_way: Option<RequestId>,
    not_before: Option<Time>,
}

impl Pod {
    /// The pod's time now, as this array counts it.
    pub(crate) fn time(&self, now: Time) -> PodTime {
        match self.chores.stopwatch {
            Some((time, since)) => time.after(now.since(since).0 / 1_000_000),
            None => self.namespace.clock,
        }
    }

    /// How long until something destroyed is eradicated, in milliseconds, as far as this array knows.
    pub fn milliseconds_until(&self, due: PodTime, now: Time) -> u64 {
        due.0.saturating_sub(self.time(now).0)
    }

    /// An entry says how late it is.
    pub(super) fn count_time(&mut self, manage: &Manage) {
        let said = match manage {
            Manage::Destroy { now, .. } => Some(*now),
            Manage::Eradicate { due_by, .. } => *due_by,
            Manage::Clock(now) => Some(*now),
            _ => None,
        };
        self.namespace.clock = said.map_or(self.namespace.clock, |now| self.namespace.clock.max(now));
    }

    /// The namespace changed: looks anew at what waits.
    pub(crate) fn review_chores(&mut self, now: Time) {
        self.chores.next = self.namespace.next_due();
        self.chores.not_before = None;
        let clock = self.namespace.clock;
        match (self.chores.next, self.chores.stopwatch) {
            (None, _) => self.chores.stopwatch = None,
            (Some(_), Some((time, _))) if time == clock => {}
            (Some(_), _) => self.chores.stopwatch = Some((clock, now)),
        }
    }

    /// When this array has to look at its chores.
    pub(crate) fn chore_at(&self) -> Option<Time> {
        let ((due, _), (time, since)) = (self.chores.next?, self.chores.stopwatch?);
        let span = Span(due.0.saturating_sub(time.0).saturating_mul(1_000_000)).min(CLOCK_STEP);
        Some((since + span).max(self.chores.not_before.unwrap_or(since)))
    }

    /// What is to be proposed now.
    pub(crate) fn chore(&mut self, now: Time) -> Option<Manage> {
        if self.chore_at().is_none_or(|at| now < at) {
            return None;
        }
        // Whoever orders proposes; the other array looks again, for it may come to order (H2).
        self.chores.not_before = Some(now + PAUSE);
        let orders = self.machine.status(now).sequencer == Some(self.me);
        if !orders || self.machine.serving(now) != Serving::Yes || self.chores.under_way.is_some() {
            return None;
        }
        let (due, target) = self.chores.next?;
        let time = self.time(now);
        Some(if due <= time {
            Manage::Eradicate { target, contents: true, due_by: Some(time) }
        } else {
            Manage::Clock(time)
        })
    }

    pub(crate) fn chore_begins(&mut self, request: RequestId) {
        self.chores.under_way = Some(request);
    }

    /// A request ended; it may have been a chore.
    pub(crate) fn chore_ends(&mut self, request: RequestId) {
        if self.chores.under_way == Some(request) {
            self.chores.under_way = None;
        }
    }
}
