//! Moving the right to an array of a pair: because both have lost the mediator, because its register is in doubt, because
//! another array is preferred by now.
//!
//! ```text
//!                     neither reaches the mediator, for a while;  the register is in doubt
//!  right at mediator ──────────────────────────────────────────────────────────────────► pre-elected
//!         ▲                                                                              │ ▲ │ another is preferred,
//!         └────────────────────── one reaches it again: hand back (moves.rs) ────────────┘ └─┘ mediator still away
//! ```
//! Pre-elected, an array goes on by itself when its peer is lost, and the peer does not: without a mediator there is one that
//! goes on after the loss of the link, where otherwise both would be held. If it is the pre-elected one that is lost, nobody goes on.
//!
//! - V1 (moves.rs) holds: one change at a time, both having said that they know the previous one.
//! - L1: the peer's loss of the mediator is what it said in this session, mine is what I see. Either may be stale by a
//!   heartbeat: harmless, for it is the log that moves the right, whatever the reason.
//! - L2: who is pre-elected is fit, and preferred if that is possible.
//! - L3: a mediator that comes and goes moves the right once in a while, not each time.

use crate::api::{Alarm, MediatorStatus};
use crate::config::{Configuration, Ground, Right};
use crate::ids::{ArrayId, ConfigId, RegisterId, Span, Time};
use crate::machine::Machine;
use crate::settings::PRE_ELECT_REST;

impl Machine {
    /// The right is at the mediator's register `register`.
    pub(super) fn take_from_mediator(&mut self, now: Time, pair: &Configuration, register: RegisterId) {
        if let Some(holder) = self.named_in_doubt(pair, register) {
            self.elect(now, pair, holder);
        } else if self.is_mediator_lost(now) && self.has_rested(now) {
            let holder = self.electable(now, pair);
            self.elected_at = Some(now);
            self.elect(now, pair, holder);
        }
    }

    /// The right is at `holder`, and the mediator perhaps away.
    pub(super) fn re_elect(&mut self, now: Time, pair: &Configuration, holder: ArrayId) {
        let lost = self.is_mediator_lost(now);
        let preferred = self.setup.preferred.filter(|array| pair.members.contains(*array));
        if let Some(preferred) = preferred
            && lost
            && preferred != holder
            && self.is_fit_as_heard(now, preferred)
        {
            self.elect(now, pair, preferred);
        }
    }

    /// Whether the last pre-election was long enough ago (L3); otherwise looks again in time.
    fn has_rested(&mut self, now: Time) -> bool {
        let rest = Span(self.setup.settings.pre_elect.0 * PRE_ELECT_REST);
        let due = self.elected_at.map_or(now, |at| at + rest);
        if now < due {
            self.wake(now, due);
        }
        now >= due
    }

    /// Whether neither array has reached the mediator for long enough (L1, L3); otherwise looks again in time.
    fn is_mediator_lost(&mut self, now: Time) -> bool {
        // The one that decides: where the right lies now, or where it is to go.
        if self.mediator_status() == MediatorStatus::Reachable || self.peer_reaches_mediator() {
            self.mediator_lost_since = None;
            return false;
        }
        let since = *self.mediator_lost_since.get_or_insert(now);
        let due = since + self.setup.settings.pre_elect;
        if now < due {
            self.wake(now, due);
        }
        now >= due
    }

    /// L2.
    fn electable(&self, now: Time, pair: &Configuration) -> ArrayId {
        let me = self.setup.me;
        let other = pair.members.other(me).unwrap_or(me);
        let first = self.setup.preferred.filter(|array| pair.members.contains(*array)).unwrap_or(me);
        let second = if first == me { other } else { me };
        if self.is_fit_as_heard(now, first) || !self.is_fit_as_heard(now, second) { first } else { second }
    }

    pub(super) fn is_fit_as_heard(&self, now: Time, array: ArrayId) -> bool {
        match array == self.setup.me {
            true => self.is_fit(now),
            false => self.session().is_some_and(|session| session.peer_fit),
        }
    }

    /// The array that a doubtful register names, or else the preferred one (V4 of moves.rs).
    fn named_in_doubt(&mut self, pair: &Configuration, register: RegisterId) -> Option<ArrayId> {
        let record = self.doubt(pair, register)?;
        if record.is_none() {
            self.alarm(Alarm::MediatorHasNoRegister);
        }
        let holder = record
            .and_then(|record| record.members.sole())
            .or(self.setup.preferred)
            .filter(|array| pair.members.contains(*array))
            .unwrap_or(self.setup.me);
        Some(holder)
    }

    pub(super) fn elect(&mut self, now: Time, pair: &Configuration, holder: ArrayId) {
        assert!(pair.members.contains(holder), "the right goes to a member");
        self.mediator_lost_since = None;
        let id = ConfigId(self.draw());
        let epoch = self.next_epoch();
        let next = Configuration { epoch, id, right: Right::Array(holder), ground: Ground::Agreed, ..*pair };
        self.append_configuration(now, next);
    }
}
