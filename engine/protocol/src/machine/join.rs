//! Falling behind, catching up, joining.
//!
//! - N1: the mark precedes the cut, the cut precedes READY, each durable.
//! - N2: what precedes JOIN needs the survivor only; JOIN and what follows need both; the right stays with the survivor.
//! - N3: the mark is cleared only by a JOIN after the survivor's configuration that it names.

use crate::api::{Alarm, Effect};
use crate::config::{Configuration, Ground, Members, Right};
use crate::durable::{DurableState, OutOfSync};
use crate::ids::{ArrayId, ConfigId, Index, Position, Ticket, Time};
use crate::log::Log;
use crate::machine::Machine;
use crate::machine::journal::What;
use crate::machine::session::Contact;
use crate::message::Report;
use crate::settings::JOIN_LAG_ENTRIES;

impl Machine {
    /// The comparison showed that this copy is behind.
    pub(super) fn fall_behind(&mut self, now: Time, keep: Index, mark: OutOfSync, report: &Report) {
        self.survivor_history = report.history.clone();
        let mut after = Ticket(0);
        if self.out_of_sync != Some(mark) {
            after = self.mark_out_of_sync(now, mark);
        }
        if keep < self.log.end().index {
            after = self.cut(now, keep);
        }
        if let Some(session) = self.session_mut() {
            session.ready_after = Some(after);
        }
    }

    pub(super) fn invite(&mut self, peer: ArrayId) {
        assert!(self.setup.peer.is_none_or(|other| other == peer), "a pod has one peer at a time");
        assert_ne!(peer, self.setup.me, "the peer is another array");
        self.setup.peer = Some(peer);
    }

    pub(super) fn on_suffix_possible(&mut self, after: Index) {
        if let Some(session) = self.session_mut()
            && session.catching_up
        {
            session.suffix = Some(after);
        }
    }

    /// Whether the log after the joiner's end may go out: it has said, in READY or since, that its log has got there.
    pub(super) fn sends_suffix(&self) -> bool {
        let session = self.session().filter(|session| session.peer_ready.is_some());
        session.and_then(|session| session.suffix).is_some_and(|after| self.peer_durable >= after)
    }

    /// The last entry that a joiner has; what follows is still needed as log.
    pub(super) fn needed_by_joiner(&self) -> Option<Index> {
        let session = self.session()?;
        session.suffix.map(|_| self.peer_durable)
    }

    /// A joiner that has said that it knows JOIN is behind no more: it may come to order.
    pub(super) fn note_joined(&mut self) {
        if self.session().is_some_and(|session| session.peer_behind)
            && self.is_mirrored()
            && let Some(session) = self.session_mut()
        {
            session.peer_behind = false;
        }
    }

    /// Appends JOIN when the joiner is level, and ends the catch-up when JOIN is known.
    pub(super) fn propose_join(&mut self, now: Time) {
        let Some(session) = self.session() else { return };
        if !session.catching_up {
            return;
        }
        if self.newest_known().is_some_and(|newest| newest.members.is_pair()) {
            if let Some(session) = self.session_mut() {
                session.catching_up = false;
                session.suffix = None;
            }
            self.emit(Effect::CatchUpEnded);
            return;
        }
        let fit = session.peer_fit;
        let (me, peer) = (self.setup.me, self.setup.peer.expect("a session has a peer"));
        // All that may go has gone, and what is not yet reported is a bounded part of the window: hosts wait for it hardly longer
        // than for the round trip of their own writes.
        let lag = self.log.end().index.0.saturating_sub(self.peer_durable.0);
        let level = self.sends_suffix() && session.sent >= self.committed && lag <= JOIN_LAG_ENTRIES;
        let Some(item) = self.log.newest() else { return };
        let holds_survivor = self.peer_durable >= item.first;
        if !fit || !level || !holds_survivor || !self.is_alone(now) {
            return;
        }
        let id = ConfigId(self.draw());
        let epoch = self.next_epoch();
        self.append_configuration(
            now,
            Configuration {
                epoch,
                id,
                members: Members::pair(me, peer),
                sequencer: me,
                right: Right::Array(me),
                ground: Ground::Agreed,
            },
        );
    }

    /// At a joiner: the state to put into the manifest of an image that stands at `base` in the survivor's log. `None` if this
    /// copy is not behind, has not heard the survivor's history up to `base`, or knows more than the image holds.
    pub fn state_after_flip(&self, base: Position) -> Option<DurableState> {
        self.out_of_sync?;
        if self.log.position(base.index).is_some_and(|mine| mine == base) {
            return Some(self.durable_state(base.index.min(self.committed), true));
        }
        if base.index < self.committed {
            return None;
        }
        let history: Vec<_> =
            self.survivor_history.iter().filter(|item| item.first <= base.index).copied().collect();
        let newest = history.last()?;
        if newest.configuration.id != base.config {
            return None;
        }
        let known = newest.first;
        Some(self.state_with(base, known, history))
    }

    pub(super) fn on_flipped(&mut self, now: Time, state: DurableState) {
        let base = state.base;
        if self.out_of_sync.is_none() || base.index < self.log.base().index {
            return;
        }
        if self.log.position(base.index).is_some_and(|mine| mine == base) {
            self.log.trim(base.index.min(self.committed));
        } else if base.index < self.committed {
            self.alarm(Alarm::CommittedWouldBeCut);
            return;
        } else {
            for awaited in &mut self.awaited {
                if let What::Entry(_) = awaited.what {
                    awaited.what = What::Other;
                }
            }
            self.known = state.known_config;
            self.known_written = state.known_config;
            self.durable = base.index;
            self.committed = base.index;
            self.peer_durable = base.index;
            self.log = Log::new(base, state.history);
        }
        match &self.contact {
            Contact::Open(session) if session.ready_after.is_none() => self.send_ready(),
            Contact::Opening(_) => self.renew_opening(now),
            _ => {}
        }
    }
}
