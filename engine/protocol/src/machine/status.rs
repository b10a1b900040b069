//! Whether hosts are served, and the pod as users see it. Answered from local state alone.

use crate::api::{Effect, MediatorStatus, Serving, Side, Status};
use crate::config::{Configuration, Entitlement, Right};
use crate::ids::Time;
use crate::machine::Machine;

impl Machine {
    /// Whether a read may fix its position at `now`, and whether hosts get silence or errors.
    pub fn serving(&self, now: Time) -> Serving {
        if self.out_of_sync.is_some() || self.off || self.stopped.is_some() {
            return Serving::Off;
        }
        if self.known.0 > 0 && !self.is_member() {
            return Serving::Off;
        }
        if self.may_serve(now) {
            return Serving::Yes;
        }
        match self.held_since {
            Some(since) if now.since(since) >= self.setup.settings.hold => Serving::Suspended,
            _ => Serving::Held,
        }
    }

    fn may_serve(&self, now: Time) -> bool {
        if !self.is_member() {
            return false;
        }
        if self.is_settled_alone() {
            return self.is_alone(now);
        }
        // The holder of the right needs no lease: nobody else can go on.
        self.entitlement() == Entitlement::Alone || self.lease.is_some_and(|lease| now < lease)
    }

    /// Keeps count of how long hosts are held, and ends what waits when that is too long.
    pub(super) fn watch_hold(&mut self, now: Time) {
        match self.serving(now) {
            Serving::Yes => {
                self.held_since = None;
                if !self.is_settled_alone()
                    && let Some(lease) = self.lease
                {
                    self.wake(now, lease);
                }
            }
            Serving::Off => self.held_since = None,
            Serving::Held => {
                let since = *self.held_since.get_or_insert(now);
                let at = since + self.setup.settings.hold;
                self.wake(now, at);
            }
            Serving::Suspended => self.refuse_waiting(),
        }
    }

    pub(super) fn mediator_status(&self) -> MediatorStatus {
        let needed = match self.newest() {
            Some(Configuration { right: Right::Mediator { mediator, .. }, .. }) => Some(*mediator),
            _ => self.wanted_mediator(),
        };
        match (needed, self.mediator) {
            (None, _) => MediatorStatus::None,
            (Some(_), None) => MediatorStatus::Unreachable,
            (Some(needed), Some(open)) if needed == open => MediatorStatus::Reachable,
            (Some(_), Some(_)) => MediatorStatus::Wrong,
        }
    }

    /// Whether a session with the peer is open.
    pub fn is_in_session(&self) -> bool {
        self.session().is_some()
    }

    /// The pod as users see it.
    pub fn status(&self, now: Time) -> Status {
        let newest = self.newest();
        let in_session = self.is_in_session();
        let mine = match (self.out_of_sync, self.serving(now)) {
            (Some(mark), _) if in_session && mark.first_time => Side::Baselining,
            (Some(_), _) if in_session => Side::Resyncing,
            (_, Serving::Yes) => Side::Online,
            (_, Serving::Held) => Side::Paused,
            (_, Serving::Suspended) => Side::Suspended,
            (_, Serving::Off) => Side::Offline,
        };
        Status {
            mine,
            peer: self.setup.peer.map(|peer| (peer, self.peer_side(now))),
            sequencer: newest.map(|newest| newest.sequencer),
            pre_elected: newest.and_then(Configuration::pre_elected),
            mediator: self.mediator_status(),
            epoch: newest.map(|newest| newest.epoch).unwrap_or_default(),
            config: newest.map(|newest| newest.id).unwrap_or_default(),
            in_session,
            mirrored: self.is_mirrored(),
            racing: self.race.is_some(),
            held_since: self.held_since,
        }
    }

    /// In session, both members, each knowing it.
    pub(super) fn is_mirrored(&self) -> bool {
        self.is_member()
            && self.is_merged()
            && self.newest_known().is_some_and(|newest| newest.members.is_pair())
            && self.session().is_some_and(|session| session.peer_known >= self.known)
    }

    fn peer_side(&self, now: Time) -> Side {
        let Some(session) = self.session() else {
            let alone = self.is_settled_alone();
            return if alone || (self.off && now >= self.race_at) {
                self.absent_side(alone)
            } else {
                Side::Unknown
            };
        };
        if session.peer_behind && !self.is_mirrored() {
            return if session.peer_first_time { Side::Baselining } else { Side::Resyncing };
        }
        if self.out_of_sync.is_some() {
            return if session.peer_serving { Side::Online } else { Side::Paused };
        }
        if self.is_mirrored() && session.peer_serving { Side::Online } else { Side::Paused }
    }

    fn absent_side(&self, alone: bool) -> Side {
        if alone { Side::Offline } else { Side::Unknown }
    }

    pub(super) fn tell_status(&mut self, now: Time) {
        let told = (self.serving(now), self.status(now));
        if self.told_status != Some(told) {
            self.told_status = Some(told);
            self.emit(Effect::StatusChanged);
        }
    }
}
