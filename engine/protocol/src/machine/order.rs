//! Requests of this array's hosts: ordered here, or forwarded to the sequencer, exactly once.
//!
//! - O1: a request leaves this array's hands only once: ordered, or forwarded in one session and then looked for in the merged log.
//! - O2: a withdrawn request is answered when it is certain that it is not and will not be in the log.
//! - O3: a forward that names a heartbeat older than one lease is refused: it may be a write whose host has given it up (story 22).

use std::collections::VecDeque;

use bytes::Bytes;

use crate::api::{Effect, Outcome, Refused, Serving};
use crate::entry::{Body, ENTRY_BYTES_MAX};
use crate::ids::{Chain, Index, RequestId, Time};
use crate::machine::Machine;
use crate::machine::window::cost;
use crate::message::{Frame, SessionId};
use crate::settings::REQUESTS_MAX;

/// A request without an end.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Pending {
    descriptor: Bytes,
    attachment: Bytes,
    place: Place,
    withdrawn: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Place {
    Waiting,
    Forwarded(SessionId),
    Ordered,
}

impl Pending {
    /// What it counts in the window.
    fn cost(&self) -> usize {
        cost(self.descriptor.len() + self.attachment.len())
    }
}

impl Machine {
    pub(super) fn submit(&mut self, now: Time, request: RequestId, descriptor: Bytes, attachment: Bytes) {
        let refused = match self.serving(now) {
            Serving::Off => Some(Refused::Offline),
            Serving::Suspended => Some(Refused::Suspended),
            Serving::Yes | Serving::Held => None,
        };
        let refused = if descriptor.len() + attachment.len() > ENTRY_BYTES_MAX {
            Some(Refused::TooLong)
        } else if self.pending.len() >= REQUESTS_MAX {
            Some(Refused::Busy)
        } else {
            refused
        };
        if let Some(reason) = refused {
            self.emit(Effect::Done { request, outcome: Outcome::Refused(reason) });
            return;
        }
        let pending = Pending { descriptor, attachment, place: Place::Waiting, withdrawn: false };
        let before = self.pending.insert(request, pending);
        assert!(before.is_none(), "request numbers are used once");
        self.queue(request);
    }

    pub(super) fn withdraw(&mut self, request: RequestId) {
        let Some(pending) = self.pending.get_mut(&request) else { return };
        pending.withdrawn = true;
        if pending.place == Place::Waiting {
            self.finish(request, Outcome::Withdrawn);
        }
    }

    fn finish(&mut self, request: RequestId, outcome: Outcome) {
        if let Some(pending) = self.pending.remove(&request) {
            if pending.place == Place::Waiting
                && let Ok(at) = self.unsent.binary_search(&request)
            {
                self.unsent.remove(at);
            }
            self.emit(Effect::Done { request, outcome });
        }
    }

    /// Puts a request in line, by its number.
    fn queue(&mut self, request: RequestId) {
        match self.unsent.back() {
            Some(last) if *last > request => {
                let at = self.unsent.partition_point(|waiting| *waiting < request);
                self.unsent.insert(at, request);
            }
            _ => self.unsent.push_back(request),
        }
    }

    /// An entry of this incarnation of this array has its place.
    pub(super) fn note_ordered(&mut self, request: RequestId, index: Index) {
        self.forward_ended(request);
        let Some(pending) = self.pending.get_mut(&request) else { return };
        assert_ne!(pending.place, Place::Ordered, "a request is ordered once");
        let waiting = pending.place == Place::Waiting;
        pending.place = Place::Ordered;
        pending.descriptor = Bytes::new();
        pending.attachment = Bytes::new();
        if waiting && let Ok(at) = self.unsent.binary_search(&request) {
            self.unsent.remove(at);
        }
        self.ordered.insert(index, request);
        self.emit(Effect::Ordered { request, index });
    }

    /// Whether this request already has its place.
    pub(super) fn is_ordered(&self, request: RequestId) -> bool {
        self.pending.get(&request).is_some_and(|pending| pending.place == Place::Ordered)
    }

    /// Whether this array may assign indexes now (M3).
    pub(super) fn may_order(&self, now: Time) -> bool {
        let me = self.setup.me;
        if self.out_of_sync.is_some() || self.stopped.is_some() || self.off || self.race.is_some() {
            return false;
        }
        let Some(newest) = self.newest() else { return false };
        if newest.members.is_only(me) {
            return self.is_alone(now);
        }
        self.is_merged() && self.is_member() && self.orders_since_known(me)
    }

    fn may_forward(&self) -> bool {
        let Some(peer) = self.setup.peer else { return false };
        let fresh =
            self.session().is_some_and(|session| session.heartbeat_received > session.heartbeat_refused);
        fresh && self.is_merged() && self.is_member() && self.orders_since_known(peer)
    }

    /// Every configuration from the known one on names `array` as sequencer.
    fn orders_since_known(&self, array: crate::ids::ArrayId) -> bool {
        self.log.configurations_from(self.known).iter().all(|item| item.configuration.sequencer == array)
    }

    /// After a session: forwarded requests are in the merged log, or go again, or were withdrawn.
    pub(super) fn resolve_forwarded(&mut self, now: Time) {
        if !self.unresolved || !((self.is_merged() && self.is_member()) || self.is_alone(now)) {
            return;
        }
        self.unresolved = false;
        let current = self.session().map(|session| session.id);
        let stale: Vec<(RequestId, bool)> = self
            .pending
            .iter()
            .filter(|(_, pending)| matches!(pending.place, Place::Forwarded(id) if Some(id) != current))
            .map(|(request, pending)| (*request, pending.withdrawn))
            .collect();
        for (request, withdrawn) in stale {
            self.forward_failed(request, withdrawn);
        }
    }

    fn forward_failed(&mut self, request: RequestId, withdrawn: bool) {
        self.forward_ended(request);
        if withdrawn {
            self.finish(request, Outcome::Withdrawn);
        } else if let Some(pending) = self.pending.get_mut(&request) {
            pending.place = Place::Waiting;
            self.queue(request);
        }
    }

    /// Orders or forwards what waits.
    pub(super) fn order_pending(&mut self, now: Time) {
        if self.unsent.is_empty() {
            return;
        }
        if self.may_order(now) {
            while let Some(request) = self.unsent.front().copied() {
                let pending = &self.pending[&request];
                let body = Body::Operation {
                    descriptor: pending.descriptor.clone(),
                    attachment: pending.attachment.clone(),
                };
                let entry = self.next_entry(self.setup.me, self.incarnation, request.0, body);
                self.append(now, entry);
            }
        } else if self.may_forward() {
            while let Some(request) = self.unsent.front().copied() {
                let cost = self.pending.get(&request).map_or(0, Pending::cost);
                if !self.has_window(now, cost) {
                    return;
                }
                self.unsent.pop_front();
                self.forward(request, cost);
            }
        }
    }

    fn forward(&mut self, request: RequestId, cost: usize) {
        let Some(session) = self.session_mut() else { return };
        let (id, heartbeat) = (session.id, session.heartbeat_received);
        session.forwarding.insert(request, cost);
        session.forwarding_bytes += cost;
        let Some(pending) = self.pending.get_mut(&request) else { return };
        pending.place = Place::Forwarded(id);
        let (descriptor, attachment) = (pending.descriptor.clone(), pending.attachment.clone());
        self.send_frame(Frame::Forward { request: request.0, heartbeat, descriptor, attachment });
    }

    pub(super) fn on_forward(
        &mut self,
        now: Time,
        request: u64,
        heartbeat: u64,
        descriptor: Bytes,
        attachment: Bytes,
    ) {
        if descriptor.len() + attachment.len() > ENTRY_BYTES_MAX {
            self.breach(now);
            return;
        }
        let sole = self.newest().is_none_or(|newest| !newest.members.is_pair());
        if sole || !self.may_order(now) || !self.is_recent_beat(now, heartbeat) {
            self.send_frame(Frame::Refused { request });
            return;
        }
        let Some(session) = self.session_mut() else { return };
        session.forwarded.insert(request);
        let incarnation = session.peer_incarnation;
        let peer = self.setup.peer.expect("a session has a peer");
        let entry = self.next_entry(peer, incarnation, request, Body::Operation { descriptor, attachment });
        self.append(now, entry);
    }

    pub(super) fn on_refused(&mut self, request: u64) {
        let Some(session) = self.session_mut() else { return };
        session.heartbeat_refused = session.heartbeat_received;
        let id = session.id;
        let request = RequestId(request);
        let Some(pending) = self.pending.get(&request) else { return };
        if pending.place == Place::Forwarded(id) {
            let withdrawn = pending.withdrawn;
            self.forward_failed(request, withdrawn);
        }
    }

    pub(super) fn on_order(&mut self, now: Time, index: Index, request: u64, chain: Chain, committed: Index) {
        let id = self.session().map(|session| session.id);
        let body = match self.pending.get(&RequestId(request)) {
            Some(pending) if matches!(pending.place, Place::Forwarded(forwarded) if Some(forwarded) == id) => {
                Body::Operation {
                    descriptor: pending.descriptor.clone(),
                    attachment: pending.attachment.clone(),
                }
            }
            _ => {
                self.breach(now);
                return;
            }
        };
        let mut entry = self.next_entry(self.setup.me, self.incarnation, request, body);
        entry.committed = committed;
        if entry.index != index || entry.chain != chain {
            self.breach(now);
            return;
        }
        self.on_entry(now, entry);
    }

    /// Answers requests whose entries are committed.
    pub(super) fn complete_requests(&mut self) {
        while let Some((index, request)) =
            self.ordered.first_key_value().map(|(index, request)| (*index, *request))
        {
            if index > self.committed {
                return;
            }
            self.ordered.pop_first();
            self.finish(request, Outcome::Committed(index));
        }
    }

    /// This array goes off: every request ends in an error. What was forwarded or ordered may yet be in the survivor's log.
    pub(super) fn refuse_all(&mut self) {
        self.unsent = VecDeque::new();
        self.ordered.clear();
        for (request, _) in std::mem::take(&mut self.pending) {
            self.forward_ended(request);
            self.emit(Effect::Done { request, outcome: Outcome::Refused(Refused::Offline) });
        }
    }

    /// Hosts were held for too long: what has not left this array ends in an error.
    pub(super) fn refuse_waiting(&mut self) {
        for request in std::mem::take(&mut self.unsent) {
            self.pending.remove(&request);
            self.emit(Effect::Done { request, outcome: Outcome::Refused(Refused::Suspended) });
        }
    }
}
