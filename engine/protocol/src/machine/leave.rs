//! Parting: one array of a pair is to hold the pod no more.
//!
//! ```text
//!  mirrored ──► the right given to the one that stays (log) ──► it ends the session ──► alone, by its own right (alone.rs)
//!                                                                        │
//!                                         the other: off, as after any loss of a peer that holds the right
//! ```
//! That somebody leaves is the core's to remember; it says so at each start and when it changes.
//!
//! - P1: the one that stays ends the session only when both have said that they know the right to be its own. So whatever is lost at
//!   whichever instant, it goes on, and the other does not.
//! - P2: until the other's lease is over, the one that stays waits, as after any loss.
//! - P3: alone, it opens no session with the one that left: nothing more is sent there.
//! - P4: the right goes nowhere else meanwhile: it is not handed back.

use crate::api::Serving;
use crate::config::{Configuration, Entitlement, Right};
use crate::ids::{ArrayId, Time};
use crate::machine::Machine;
use crate::machine::session::{Contact, Loss};

impl Machine {
    /// Who is to leave; the other stays.
    pub(super) fn on_leave(&mut self, leaver: Option<ArrayId>) {
        self.leaving = leaver;
        if leaver.is_some() {
            self.hand_back = None;
        }
    }

    /// The one that left is not known here any more.
    pub(super) fn forget_peer(&mut self, now: Time) {
        if !self.is_settled_alone() {
            return;
        }
        self.lose_session(now, Loss::Gone);
        self.contact = Contact::Down;
        self.link_up = false;
        self.leaving = None;
        self.setup.peer = None;
        // Another peer counts its own.
        self.peer_incarnation = Default::default();
        self.peer_attempt = 0;
        self.survivor_history = Vec::new();
    }

    /// The one of a pair that stays, if the other leaves.
    pub(super) fn stayer(&self, pair: &Configuration) -> Option<ArrayId> {
        self.leaving.and_then(|leaver| pair.members.other(leaver))
    }

    /// Gives the right to the one that stays.
    pub(super) fn give_to_stayer(&mut self, now: Time, pair: &Configuration, stayer: ArrayId) {
        if pair.right != Right::Array(stayer) && self.is_fit_as_heard(now, stayer) {
            self.elect(now, pair, stayer);
        }
    }

    /// Ends the session with the one that leaves (P1).
    pub(super) fn part(&mut self, now: Time) {
        let me = self.setup.me;
        let Some(pair) = self.newest_known().copied() else { return };
        let mine = pair.members.is_pair() && self.stayer(&pair) == Some(me) && pair.right == Right::Array(me);
        let both_know = self.session().is_some_and(|session| session.peer_known == self.known);
        if mine && both_know && self.is_merged() && self.is_fit(now) {
            self.lose_session(now, Loss::Gone);
        }
    }

    /// Whether the peer is to hear nothing more of this log (P3).
    pub(super) fn has_parted(&self) -> bool {
        let alone = self.newest().is_some_and(|newest| newest.members.is_only(self.setup.me));
        alone && self.leaving.is_some() && self.leaving == self.setup.peer
    }

    /// Whether another array went on without this copy, or may have: it serves no more by itself. A copy that is stopped for
    /// what it found is none of these.
    pub fn is_left_out(&self) -> bool {
        self.stopped.is_none() && (self.out_of_sync.is_some() || self.off)
    }

    /// Whether this copy serves only if its peer lets it, which is not in session: besides one that is left out, one that has
    /// given the right away, as far as it knows.
    pub fn depends_on_peer(&self, now: Time) -> bool {
        let gave = self.stopped.is_none()
            && self.session().is_none()
            && self.entitlement() == Entitlement::None
            && self.serving(now) != Serving::Yes;
        gave || self.is_left_out()
    }

    /// Whether this array is the sole member and serves.
    pub fn is_sole(&self, now: Time) -> bool {
        self.is_alone(now)
    }
}
