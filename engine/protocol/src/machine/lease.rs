//! Leases: who may serve reads in a configuration of two.
//!
//! - E1: the promise is made before the answer is sent, and binds until it has passed on this clock.
//! - E2: the lease counts from the sending of the heartbeat, never from the receipt of the answer.
//! - E3: no answer outside an open session, and none when this array is behind or alone.

use crate::api::{MediatorStatus, Serving};
use crate::ids::{ConfigId, Time};
use crate::machine::Machine;
use crate::machine::session::Contact;
use crate::message::Frame;
use crate::settings::HEARTBEATS_REMEMBERED;

impl Machine {
    /// Sends the heartbeat that is due.
    pub(super) fn beat(&mut self, now: Time) {
        let interval = self.setup.settings.heartbeat;
        let Contact::Open(session) = &mut self.contact else { return };
        if session.next_beat > now {
            let at = session.next_beat;
            self.wake(now, at);
            return;
        }
        session.beats += 1;
        let number = session.beats;
        if session.beats_sent.len() == HEARTBEATS_REMEMBERED {
            session.beats_sent.pop_front();
        }
        session.beats_sent.push_back((number, now));
        session.next_beat = now + interval;
        self.wake(now, now + interval);
        let serving = self.serving(now) == Serving::Yes;
        let body =
            Frame::Heartbeat { number, serving, fit: self.is_fit(now), mediator: self.mediator_status() };
        self.send_frame(body);
        self.tell_commit();
    }

    pub(super) fn on_heartbeat(
        &mut self,
        now: Time,
        number: u64,
        serving: bool,
        fit: bool,
        mediator: MediatorStatus,
    ) {
        let me = self.setup.me;
        let paired = self.newest().filter(|newest| newest.members.is_pair() && newest.members.contains(me));
        let config = if self.out_of_sync.is_none() { paired.map(|newest| newest.id) } else { None };
        let Contact::Open(session) = &mut self.contact else { return };
        session.heartbeat_received = number;
        session.peer_serving = serving;
        session.peer_fit = fit;
        session.peer_mediator = mediator;
        if let Some(config) = config {
            self.promise = self.promise.max(now + self.setup.settings.promise());
            self.send_frame(Frame::Answer { number, config });
        }
    }

    pub(super) fn on_answer(&mut self, number: u64, config: ConfigId) {
        let Contact::Open(session) = &self.contact else { return };
        let Some((_, sent)) = session.beats_sent.iter().find(|(beat, _)| *beat == number) else { return };
        let until = *sent + self.setup.settings.lease;
        // A member that does not know that it is behind does not hold the configuration of the one that answers.
        let holds = self.log.history().iter().rev().any(|item| item.configuration.id == config);
        if self.out_of_sync.is_none() && holds {
            self.lease = Some(self.lease.map_or(until, |lease| lease.max(until)));
        }
    }

    /// Whether a heartbeat of this session was sent within one lease.
    pub(super) fn is_recent_beat(&self, now: Time, number: u64) -> bool {
        let lease = self.setup.settings.lease;
        let Contact::Open(session) = &self.contact else { return false };
        session.beats_sent.iter().any(|(beat, sent)| *beat == number && now.since(*sent) <= lease)
    }
}
