//! Going on alone: by the own right, or by the mediator's grant.
//!
//! - A1: only out of session, fit, in sync. A grant counts only for the race in progress and its base.
//! - A2: the configuration of one is appended, durable, the promise past, the fork freeze ordered, the record durable; only then is
//!   anything committed by it. A restart in between repeats the rest.
//! - A3: OFF is entered on knowledge only, and left when the right becomes this array's own or a session opens.
//! - A4: who is unfit asks for nothing, and looks at the register: once it names the other alone, hosts are told.

use crate::api::{Alarm, Effect};
use crate::config::{Configuration, Entitlement, Epoch, Ground, Members, Right};
use crate::durable::{DurableRecord, Learned};
use crate::ids::{ConfigId, MediatorId, RegisterId, Time};
use crate::machine::Machine;
use crate::machine::session::Contact;
use crate::mediator::{Answer, Ask, MediatorReply, MediatorRequest, Refusal, Statement};

/// A race in progress.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Race {
    mediator: MediatorId,
    base: RegisterId,
    /// The register id proposed.
    id: RegisterId,
    epoch: Epoch,
    /// Requests numbered from here on belong to this race.
    first: u64,
    next_ask: Time,
}

/// A look at the register.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Look {
    request: u64,
    next: Time,
}

impl Machine {
    /// Takes the next step of going on alone.
    pub(super) fn go_on_alone(&mut self, now: Time) {
        let me = self.setup.me;
        let able = self.session().is_none() && self.out_of_sync.is_none() && self.stopped.is_none();
        let paired =
            self.newest().is_some_and(|newest| newest.members.is_pair() && newest.members.contains(me));
        if !able || !paired {
            self.race = None;
            return;
        }
        let begin = self.race_begins();
        if now < begin {
            self.wake(now, begin);
            return;
        }
        if !self.is_fit(now) {
            self.race = None;
            self.look_who_won(now);
            return;
        }
        self.look = None;
        match self.entitlement() {
            Entitlement::Alone => {
                let id = ConfigId(self.draw());
                let epoch = self.next_epoch();
                self.become_alone(now, id, epoch);
            }
            Entitlement::Race { mediator, base } => self.run_race(now, mediator, base),
            Entitlement::None => {
                self.race = None;
                let right_is_peers = self
                    .newest_known()
                    .and_then(Configuration::pre_elected)
                    .is_some_and(|holder| holder != me);
                if right_is_peers {
                    self.go_off();
                }
            }
        }
    }

    /// When a lost session is no longer awaited. A peer that hears this array and waits for its own disk gets more time.
    pub(super) fn race_begins(&self) -> Time {
        let latest = self.lost_at + self.setup.settings.eject;
        let busy = if matches!(self.contact, Contact::Opening(_)) {
            self.busy_until.min(latest)
        } else {
            self.lost_at
        };
        self.race_at.max(busy)
    }

    /// A4.
    fn look_who_won(&mut self, now: Time) {
        let Entitlement::Race { mediator, .. } = self.entitlement() else { return };
        if self.off || self.mediator != Some(mediator) {
            return;
        }
        if let Some(look) = self.look
            && now < look.next
        {
            self.wake(now, look.next);
            return;
        }
        let next = now + self.setup.settings.mediator_retry;
        let request = self.ask(Ask::Read { pod: self.setup.pod });
        self.look = Some(Look { request, next });
        self.wake(now, next);
    }

    fn saw_who_won(&mut self, now: Time, answer: Answer) {
        let racing = matches!(self.entitlement(), Entitlement::Race { .. });
        let out = self.session().is_none() && self.out_of_sync.is_none();
        if let Answer::Register(Some(record)) = answer
            && let Some(holder) = record.members.sole().filter(|holder| *holder != self.setup.me)
            && racing
            && out
        {
            self.learn(now, Learned { epoch: record.epoch, holder: Some(holder) });
            self.go_off();
        }
    }

    fn run_race(&mut self, now: Time, mediator: MediatorId, base: RegisterId) {
        if self.off {
            return;
        }
        let epoch = self.newest().map(|newest| newest.epoch).unwrap_or_default();
        if self.learned.epoch > epoch && self.learned.holder.is_some_and(|holder| holder != self.setup.me) {
            self.race = None;
            self.go_off();
            return;
        }
        if self.race.as_ref().is_none_or(|race| (race.mediator, race.base) != (mediator, base)) {
            let id = RegisterId(self.draw());
            let epoch = self.next_epoch();
            let first = self.mediator_requests + 1;
            self.race = Some(Race { mediator, base, id, epoch, first, next_ask: now });
        }
        if self.mediator.is_some_and(|other| other != mediator) {
            self.alarm(Alarm::WrongMediator);
            return;
        }
        if self.mediator.is_none() {
            return;
        }
        let retry = self.setup.settings.mediator_retry;
        let Some(race) = &mut self.race else { return };
        if race.next_ask > now {
            let at = race.next_ask;
            self.wake(now, at);
            return;
        }
        race.next_ask = now + retry;
        self.wake(now, now + retry);
        let Some(race) = self.race.clone() else { return };
        let statement = Statement {
            pod: self.setup.pod,
            mediator,
            expect: Some(race.base),
            id: race.id,
            epoch: race.epoch,
            members: Members::one(self.setup.me),
            config: self.newest().map(|newest| newest.id).unwrap_or_default(),
        };
        let preferred = self.setup.preferred;
        self.ask(Ask::Swap { statement, consents: Vec::new(), preferred });
    }

    /// Sends a request to the mediator and returns its number.
    pub(super) fn ask(&mut self, ask: Ask) -> u64 {
        self.mediator_requests += 1;
        let request = self.mediator_requests;
        self.emit(Effect::Mediator(MediatorRequest { request, ask }));
        request
    }

    pub(super) fn on_mediator_up(&mut self, now: Time, mediator: MediatorId) {
        self.mediator = Some(mediator);
        self.hand_back = None;
        self.hand_back_at = now;
        if let Some(race) = &mut self.race {
            race.next_ask = now;
        }
        if let Some(session) = self.session_mut() {
            session.register_read = None;
        }
    }

    pub(super) fn on_mediator_down(&mut self) {
        self.mediator = None;
        self.hand_back = None;
        if let Some(session) = self.session_mut() {
            session.register_read = None;
        }
    }

    pub(super) fn on_mediator_reply(&mut self, now: Time, reply: &MediatorReply) {
        if reply.pod != self.setup.pod {
            return;
        }
        let record = match reply.answer {
            Answer::Register(record) | Answer::Refused { record, .. } => record,
            Answer::Granted(record) => Some(record),
        };
        if let Some(record) = record {
            self.seen_number = self.seen_number.max(record.epoch.number);
        }
        if self.look.is_some_and(|look| look.request == reply.request) {
            self.saw_who_won(now, reply.answer);
        } else if self.race.as_ref().is_some_and(|race| reply.request >= race.first) {
            self.on_race_reply(now, reply.answer);
        } else {
            self.on_move_reply(now, reply);
        }
    }

    fn on_race_reply(&mut self, now: Time, answer: Answer) {
        let Some(race) = self.race.clone() else { return };
        if self.entitlement() != (Entitlement::Race { mediator: race.mediator, base: race.base }) {
            return;
        }
        match answer {
            Answer::Granted(record)
                if record.members.is_only(self.setup.me) && record.from == Some(race.base) =>
            {
                let epoch = self.next_epoch().max(record.epoch);
                self.become_alone(now, ConfigId(record.id.0), epoch);
            }
            Answer::Refused { reason: Refusal::Changed | Refusal::NoConsent, record: Some(record) } => {
                let holder = record.members.sole();
                if holder.is_some() {
                    self.learn(now, Learned { epoch: record.epoch, holder });
                }
                self.race = None;
                self.go_off();
            }
            Answer::Refused { reason: Refusal::WrongMediator, .. } => self.alarm(Alarm::WrongMediator),
            Answer::Refused { .. } => self.alarm(Alarm::MediatorHasNoRegister),
            Answer::Granted(_) | Answer::Register(_) => {}
        }
    }

    fn go_off(&mut self) {
        if !self.off {
            self.off = true;
            self.refuse_all();
        }
    }

    /// An epoch higher than any seen.
    pub(super) fn next_epoch(&self) -> Epoch {
        let era = self.newest().map_or(0, |newest| newest.epoch.era);
        Epoch { era, number: self.seen_number.saturating_add(1) }
    }

    fn become_alone(&mut self, now: Time, id: ConfigId, epoch: Epoch) {
        let me = self.setup.me;
        assert!(
            self.session().is_none() && self.out_of_sync.is_none(),
            "only out of session and in sync (A1)"
        );
        self.race = None;
        self.off = false;
        self.lease = None;
        self.append_configuration(
            now,
            Configuration {
                epoch,
                id,
                members: Members::one(me),
                sequencer: me,
                right: Right::Array(me),
                ground: Ground::Granted,
            },
        );
    }

    /// Completes going alone (A2).
    pub(super) fn settle_alone(&mut self, now: Time) {
        let me = self.setup.me;
        let Some(item) = self.log.newest().copied() else { return };
        let first = item.first;
        if self.out_of_sync.is_some()
            || !item.configuration.members.is_only(me)
            || first <= self.known_written
            || self.durable < first
        {
            return;
        }
        if now < self.promise {
            let at = self.promise;
            self.wake(now, at);
            return;
        }
        if self.setup.peer.is_some() {
            let committed = self.committed;
            self.emit(Effect::ForkFreeze { config: item.configuration.id, committed });
        }
        self.record(now, DurableRecord::KnownConfig { index: first, in_sync: false });
    }

    /// A restarted lone array waits for its promise, too.
    pub(super) fn settle_wake(&mut self, now: Time) {
        if self.is_settled_alone() && now < self.promise {
            let at = self.promise;
            self.wake(now, at);
        }
    }
}
