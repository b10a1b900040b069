//! Inside a session: who holds more sends the rest, the sequencer sends what it orders, both report what is durable.
//!
//! - G1: no index is assigned before everything the peer reported is held ([`Machine::is_merged`]).
//! - G2: an entry is taken only where it belongs: next index, matching chain, from a side that may send it.
//! - G3: to a joiner only committed entries go, up to JOIN; what follows JOIN goes at once.
//! - G4: what is sent ahead of the peer's durability reports is bounded in entries and bytes.

use crate::api::{Alarm, Effect, MediatorStatus};
use crate::config::Entitlement;
use crate::entry::{ENTRY_BYTES_MAX, Entry};
use crate::ids::{Index, Position, RequestId, Time};
use crate::machine::Machine;
use crate::machine::session::Loss;
use crate::machine::window::cost;
use crate::message::Frame;
use crate::settings::WINDOW_ENTRIES;

impl Machine {
    /// Sends READY once what the comparison demanded is durable.
    pub(super) fn get_ready(&mut self) {
        let Some(ticket) = self.session().and_then(|session| session.ready_after) else { return };
        if !self.is_durable(ticket) {
            return;
        }
        if let Some(session) = self.session_mut() {
            session.ready_after = None;
        }
        self.send_ready();
    }

    pub(super) fn send_ready(&mut self) {
        let end = self.log.position(self.durable).expect("the durable end is held");
        let base = self.log.base();
        self.send_frame(Frame::Ready { base, end });
        self.tell_commit();
    }

    pub(super) fn on_ready(&mut self, now: Time, base: Position, end: Position) {
        let my_end = self.log.end().index;
        if let Some(mine) = self.log.position(end.index)
            && mine.chain != end.chain
        {
            self.stopped = Some(Alarm::Diverged);
            self.refuse_all();
            self.alarm(Alarm::Diverged);
            self.lose_session(now, Loss::Broken);
            return;
        }
        let me = self.setup.me;
        let newest_is_sole = self.newest().is_some_and(|newest| newest.members.is_only(me));
        let Some(session) = self.session_mut() else { return };
        if base.index > end.index
            || (session.peer_behind && end.index > my_end)
            || (session.peer_ready.is_some() && !session.peer_behind)
        {
            self.breach(now);
            return;
        }
        session.peer_ready = Some((base, end));
        session.sent = end.index;
        session.in_flight.clear();
        session.in_flight_bytes = 0;
        session.owed_since = None;
        let starts = session.peer_behind && newest_is_sole && !session.catching_up;
        session.catching_up |= starts;
        self.peer_durable = end.index;
        if starts {
            let peer = self.setup.peer.expect("a session has a peer");
            self.emit(Effect::CatchUp { peer, base, end });
        }
        // JOIN is in the log, but what the joiner lacks before it is no longer held: only another catch-up helps, and only a lone
        // survivor can run one.
        let lacks = end.index < self.log.base().index && !newest_is_sole;
        if lacks && self.entitlement() == Entitlement::Alone {
            self.lose_session(now, Loss::Gone);
        }
    }

    /// Both are ready and this array holds everything the peer reported.
    pub(super) fn is_merged(&self) -> bool {
        self.session().is_some_and(|session| {
            session.ready_after.is_none()
                && session.peer_ready.is_some_and(|(_, end)| self.log.end().index >= end.index)
        })
    }

    pub(super) fn on_entry(&mut self, now: Time, entry: Entry) {
        // A survivor sends from the position that a joiner reports, and may hear of a flip late: what is held already comes again.
        let held = entry.index <= self.log.end().index;
        if held && self.log.position(entry.index).is_none_or(|mine| mine.chain == entry.chain) {
            return;
        }
        if !self.may_take(&entry) {
            self.breach(now);
            return;
        }
        if let Some(session) = self.session_mut() {
            session.sent = session.sent.max(entry.index);
            session.peer_committed = session.peer_committed.max(entry.committed);
        }
        self.append(now, entry);
    }

    /// Whether an entry sent by the peer belongs into this log (G2).
    fn may_take(&self, entry: &Entry) -> bool {
        let Some(session) = self.session() else { return false };
        let me = self.setup.me;
        let Some((_, peer_end)) = session.peer_ready else { return false };
        if session.ready_after.is_some()
            || !self.log.follows(entry)
            || entry.payload_bytes() > ENTRY_BYTES_MAX
        {
            return false;
        }
        if self.out_of_sync.is_some() {
            return true;
        }
        let again = entry.origin == me
            && entry.origin_incarnation == self.incarnation
            && self.is_ordered(RequestId(entry.origin_request));
        let leaves_me_out = entry.configuration().is_some_and(|written| !written.members.contains(me));
        let orders = self.newest().is_none_or(|newest| newest.sequencer == me);
        !again && !leaves_me_out && !session.peer_behind && (!orders || entry.index <= peer_end.index)
    }

    /// Sends what the peer lacks.
    pub(super) fn pump(&mut self, now: Time) {
        if self.out_of_sync.is_some() {
            return;
        }
        let me = self.setup.me;
        let sole = self.newest().is_some_and(|newest| newest.members.is_only(me));
        let (committed, end, peer_durable) = (self.committed, self.log.end().index, self.peer_durable);
        loop {
            let Some(session) = self.session() else { return };
            if session.ready_after.is_some() || session.peer_ready.is_none() || (sole && !self.sends_suffix())
            {
                return;
            }
            let next = session.sent.next();
            // What this array alone answers for goes out only when it is durable here: after a crash it may order another
            // entry at that place without asking anyone.
            let alone = self.log.in_force(next).is_some_and(|item| item.configuration.members.is_only(me));
            let limit = if alone { committed } else { end };
            let ahead = session.sent.0.saturating_sub(peer_durable.0);
            if next > limit || ahead >= WINDOW_ENTRIES {
                return;
            }
            let Some(entry) = self.log.get(next).cloned() else {
                // Trimmed meanwhile: the joiner needs another round.
                let end = session.peer_ready.map(|(_, end)| end).unwrap_or_default();
                if let Some(session) = self.session_mut() {
                    session.suffix = None;
                }
                self.emit(Effect::AnotherRound { end });
                return;
            };
            if !self.has_window(now, cost(entry.payload_bytes())) {
                return;
            }
            self.send_entry(entry);
        }
    }

    fn send_entry(&mut self, entry: Entry) {
        let Some(session) = self.session_mut() else { return };
        session.sent = entry.index;
        let bytes = cost(entry.payload_bytes());
        session.in_flight.push_back((entry.index, bytes));
        session.in_flight_bytes += bytes;
        let body = if Some(entry.origin) == self.setup.peer
            && self.session().is_some_and(|session| session.peer_incarnation == entry.origin_incarnation)
            && self.session_mut().is_some_and(|session| session.forwarded.remove(&entry.origin_request))
        {
            Frame::Order {
                index: entry.index,
                request: entry.origin_request,
                chain: entry.chain,
                committed: entry.committed,
            }
        } else {
            Frame::Entry(entry)
        };
        self.send_frame(body);
    }

    pub(super) fn on_durable(&mut self, now: Time, through: Index, committed: Index, known: Index) {
        let end = self.log.end().index;
        let Some(session) = self.session_mut() else { return };
        let Some((_, peer_end)) = session.peer_ready else {
            self.breach(now);
            return;
        };
        let behind = self.out_of_sync.is_some();
        let Some(session) = self.session_mut() else { return };
        // A survivor's own end may lie anywhere beyond a joiner's.
        if !behind && through > end.max(peer_end.index) {
            self.breach(now);
            return;
        }
        session.peer_committed = session.peer_committed.max(committed);
        session.peer_known = session.peer_known.max(known);
        while session.in_flight.front().is_some_and(|(index, _)| *index <= through) {
            let bytes = session.in_flight.pop_front().map_or(0, |(_, bytes)| bytes);
            session.in_flight_bytes -= bytes;
        }
        if through > self.peer_durable {
            self.peer_durable = through;
            if let Some(session) = self.session_mut() {
                session.owed_since = None;
            }
        }
    }

    /// What the peer said is committed; holds for this log as far as it reaches.
    pub(super) fn peer_committed(&self) -> Index {
        self.session()
            .filter(|session| session.ready_after.is_none())
            .map_or(Index(0), |session| session.peer_committed)
    }

    /// The durable end as far as the peer knows of it: what waits for the window is not in its log, and not its to count.
    fn reportable(&self) -> Index {
        match self.session() {
            Some(session) if self.out_of_sync.is_none() => self.durable.min(session.sent),
            _ => self.durable,
        }
    }

    /// Reports own durability at once, unless nobody waits for it.
    pub(super) fn tell_durable(&mut self) {
        let now_told = (self.reportable(), self.known);
        let Some(session) = self.session() else { return };
        let alone = self.is_settled_alone();
        if !alone && (session.told.0, session.told.2) != now_told {
            self.tell_commit();
        }
    }

    /// Reports durability and commit index, if they changed.
    pub(super) fn tell_commit(&mut self) {
        let told = (self.reportable(), self.committed, self.known);
        let Some(session) = self.session_mut() else { return };
        if session.ready_after.is_some() || session.told == told {
            return;
        }
        session.told = told;
        let (through, committed, known) = told;
        self.send_frame(Frame::Durable { through, committed, known });
    }

    /// Ends the session with a peer whose disk does not keep up, so that going on alone can begin.
    pub(super) fn eject_slow_peer(&mut self, now: Time) {
        let end = self.log.end().index;
        let peer_durable = self.peer_durable;
        // Whoever may not go on gains nothing by leaving: its hosts would get errors where they now wait.
        let settings = &self.setup.settings;
        let limit = match self.entitlement() {
            Entitlement::None => settings.hold,
            Entitlement::Race { .. } if self.mediator_status() != MediatorStatus::Reachable => settings.hold,
            _ => settings.eject,
        };
        let paired = self.newest().is_some_and(|newest| newest.members.is_pair());
        let behind = self.out_of_sync.is_some();
        let Some(session) = self.session_mut() else { return };
        // Who says itself that it does not keep up may owe nothing yet, and cannot apply what it has.
        let lags = peer_durable < session.sent.min(end) || !session.peer_fit;
        let owes = paired && !behind && session.peer_ready.is_some() && lags;
        if !owes {
            session.owed_since = None;
            return;
        }
        let since = *session.owed_since.get_or_insert(now);
        let at = since + limit;
        if now < at {
            self.wake(now, at);
        } else if self.is_fit(now) {
            self.alarm(Alarm::PeerEjected);
            self.shut_until = now + self.setup.settings.eject;
            self.lose_session(now, Loss::Gone);
        }
    }
}
