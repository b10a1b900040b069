//! Moving the right in a pair: handing it back to the mediator, by both arrays' consent. To an array: elect.rs.
//!
//! - V1: one change at a time: proposed only when both have said, in this session, that they know the previous one committed.
//! - V2: the right goes to the mediator only from an array, never from one register state to another (story 9).
//! - V3: a hand back is READ, both consents, compare-and-set, and only then the entry; an abandoned attempt leaves the right where it is.
//!   Carrying a compare-and-set for the peer is consent too, and given on the same terms.
//! - V4: after each opening of a session each side READs the register over its own ordered mediator session, so that none of its asks
//!   is still on the way; a register in another state than the log names is doubtful, and the array it names is pre-elected (elect.rs).

use bytes::Bytes;

use crate::api::{Alarm, Effect, MediatorStatus};
use crate::config::{Configuration, Ground, Right};
use crate::ids::{ConfigId, MediatorId, RegisterId, Time};
use crate::machine::Machine;
use crate::mediator::{Answer, Ask, Consent, MediatorReply, Record, Refusal, Statement};
use crate::message::Frame;

/// A hand back under way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct HandBack {
    step: Step,
    give_up_at: Time,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Step {
    Reading { request: u64 },
    Consenting { statement: Statement, mine: Option<Bytes>, theirs: Option<Bytes> },
    Swapping { statement: Statement, request: u64 },
}

impl Machine {
    /// Whether a change may be proposed now (V1), and on which configuration.
    fn settled_pair(&self, now: Time) -> Option<Configuration> {
        let configuration = *self.newest_known()?;
        let session = self.session()?;
        let settled =
            configuration.members.is_pair() && session.peer_known == self.known && self.may_order(now);
        settled.then_some(configuration)
    }

    pub(super) fn move_right(&mut self, now: Time) {
        self.read_register();
        let Some(pair) = self.settled_pair(now) else {
            self.hand_back = None;
            self.mediator_lost_since = None;
            return;
        };
        if let Some(stayer) = self.stayer(&pair) {
            return self.give_to_stayer(now, &pair, stayer);
        }
        if self.switch(now, &pair) {
            return;
        }
        match pair.right {
            Right::Mediator { register, .. } => self.take_from_mediator(now, &pair, register),
            Right::Array(holder) => {
                self.run_hand_back(now, &pair);
                self.re_elect(now, &pair, holder);
            }
        }
    }

    /// Looks into the register once per session, mediator session and configuration, and tells the peer (V4).
    fn read_register(&mut self) {
        let Some(Configuration { id, right: Right::Mediator { mediator, .. }, .. }) =
            self.newest_known().copied()
        else {
            return;
        };
        if self.mediator != Some(mediator) || self.out_of_sync.is_some() {
            return;
        }
        let Some(session) = self.session() else { return };
        if session.ready_after.is_some()
            || session.peer_ready.is_none()
            || session.register_read.is_some_and(|(_, config)| config == id)
        {
            return;
        }
        let request = self.ask(Ask::Read { pod: self.setup.pod });
        if let Some(session) = self.session_mut() {
            session.register_read = Some((request, id));
        }
    }

    fn run_hand_back(&mut self, now: Time, pair: &Configuration) {
        if !self.reaches_mediator() && !self.peer_reaches_mediator() {
            self.hand_back = None;
            return;
        }
        let retry = self.setup.settings.mediator_retry;
        if let Some(hand_back) = &self.hand_back {
            if now < hand_back.give_up_at {
                let at = hand_back.give_up_at;
                self.wake(now, at);
                return;
            }
            self.hand_back = None;
            self.hand_back_at = now;
        }
        if now < self.hand_back_at {
            let at = self.hand_back_at;
            self.wake(now, at);
            return;
        }
        debug_assert!(matches!(pair.right, Right::Array(_)));
        let request = self.ask_somehow(Ask::Read { pod: self.setup.pod });
        let give_up_at = now + crate::ids::Span(retry.0 * 4);
        self.hand_back = Some(HandBack { step: Step::Reading { request }, give_up_at });
        self.wake(now, give_up_at);
    }

    pub(super) fn reaches_mediator(&self) -> bool {
        self.mediator.is_some() && self.mediator == self.wanted_mediator()
    }

    /// Where the right is to go: to the mediator that this array has, or, if it has met none since its start, to the one that
    /// had the right last.
    pub(super) fn wanted_mediator(&self) -> Option<MediatorId> {
        let had = self.log.history().iter().rev().find_map(|item| match item.configuration.right {
            Right::Mediator { mediator, .. } => Some(mediator),
            Right::Array(_) => None,
        });
        self.setup.mediator.or(had)
    }

    pub(super) fn peer_reaches_mediator(&self) -> bool {
        self.session().is_some_and(|session| session.peer_mediator == MediatorStatus::Reachable)
    }

    /// Asks the mediator, by the peer if it is not reached from here: either member may carry both consents.
    fn ask_somehow(&mut self, ask: Ask) -> u64 {
        if self.reaches_mediator() {
            return self.ask(ask);
        }
        self.mediator_requests += 1;
        let request = self.mediator_requests;
        self.send_frame(Frame::Carry { request, ask });
        request
    }

    pub(super) fn on_carry(&mut self, request: u64, ask: Ask) {
        let harmless = match &ask {
            Ask::Read { pod } => *pod == self.setup.pod,
            // The mediator takes whoever carries a change for consenting to it.
            Ask::Swap { statement, .. } => self.may_consent(statement),
            Ask::Remove { .. } => false,
        };
        if harmless && self.reaches_mediator() && self.is_member() {
            if let Ask::Swap { statement, .. } = &ask {
                self.seen_number = self.seen_number.max(statement.epoch.number);
            }
            let own = self.ask(ask);
            if let Some(session) = self.session_mut() {
                session.carrying = Some((own, request));
            }
        }
    }

    pub(super) fn on_carried(&mut self, now: Time, request: u64, answer: Answer) {
        let reply = MediatorReply { request, pod: self.setup.pod, answer };
        self.on_move_reply(now, &reply);
    }

    pub(super) fn on_move_reply(&mut self, now: Time, reply: &MediatorReply) {
        if let Some(session) = self.session_mut()
            && let Some((own, request)) = session.carrying
            && own == reply.request
        {
            session.carrying = None;
            self.send_frame(Frame::Carried { request, answer: reply.answer });
            return;
        }
        if let Some(session) = self.session_mut()
            && let Some((request, config)) = session.register_read
            && request == reply.request
        {
            if let Answer::Register(record) = reply.answer {
                session.register_seen = Some((config, record));
                self.send_frame(Frame::RegisterSeen { config, record });
            }
            return;
        }
        let Some(hand_back) = self.hand_back.clone() else { return };
        let Some(pair) = self.settled_pair(now) else { return };
        match (hand_back.step, reply.answer) {
            (Step::Reading { request }, Answer::Register(record)) if request == reply.request => {
                self.collect_consents(&pair, record, hand_back.give_up_at);
            }
            (Step::Swapping { statement, request }, answer) if request == reply.request => {
                self.hand_back = None;
                match answer {
                    Answer::Granted(record) if record.id == statement.id && statement.config == pair.id => {
                        self.give_to_mediator(now, &pair, &statement);
                    }
                    answer => {
                        if let Answer::Refused { reason: Refusal::Removed | Refusal::WrongMediator, .. } =
                            answer
                        {
                            self.alarm(Alarm::MediatorHasNoRegister);
                        }
                        self.hand_back_at = now + self.setup.settings.mediator_retry;
                    }
                }
            }
            _ => {}
        }
    }

    fn collect_consents(&mut self, pair: &Configuration, record: Option<Record>, give_up_at: Time) {
        let Some(mediator) = self.wanted_mediator() else { return };
        let statement = Statement {
            pod: self.setup.pod,
            mediator,
            expect: record.map(|record| record.id),
            id: RegisterId(self.draw()),
            epoch: self.next_epoch(),
            members: pair.members,
            config: pair.id,
        };
        let step = Step::Consenting { statement, mine: None, theirs: None };
        self.hand_back = Some(HandBack { step, give_up_at });
        self.emit(Effect::Sign(statement));
        self.send_frame(Frame::ConsentAsked(statement));
    }

    /// The peer asks for consent: given if this array sees the same pair, its right at an array.
    pub(super) fn on_consent_asked(&mut self, statement: &Statement) {
        if self.may_consent(statement) {
            self.seen_number = self.seen_number.max(statement.epoch.number);
            self.emit(Effect::Sign(*statement));
        }
    }

    /// Whether a change of the register is one that this array agrees to: for the pair that it knows, the right at an array (V2).
    fn may_consent(&self, statement: &Statement) -> bool {
        let same = self.newest_known().is_some_and(|newest| {
            newest.id == statement.config
                && newest.members == statement.members
                && newest.members.is_pair()
                && matches!(newest.right, Right::Array(_))
        });
        same && self.leaving.is_none()
            && self.is_member()
            && statement.pod == self.setup.pod
            && Some(statement.mediator) == self.wanted_mediator()
    }

    pub(super) fn on_signed(&mut self, now: Time, statement: Statement, signature: Bytes) {
        if let Some(HandBack { step: Step::Consenting { statement: asked, mine, .. }, .. }) =
            &mut self.hand_back
            && *asked == statement
        {
            *mine = Some(signature);
            self.swap_with_consents(now);
            return;
        }
        let same = self.newest_known().is_some_and(|newest| newest.id == statement.config);
        if same && self.is_member() {
            self.send_frame(Frame::Consent { statement, signature });
        }
    }

    pub(super) fn on_consent(&mut self, now: Time, statement: &Statement, signature: Bytes) {
        if let Some(HandBack { step: Step::Consenting { statement: asked, theirs, .. }, .. }) =
            &mut self.hand_back
            && asked == statement
        {
            *theirs = Some(signature);
            self.swap_with_consents(now);
        }
    }

    fn swap_with_consents(&mut self, now: Time) {
        let Some(HandBack { step, give_up_at }) = self.hand_back.clone() else { return };
        let Step::Consenting { statement, mine: Some(mine), theirs: Some(theirs) } = step else { return };
        let Some(peer) = self.setup.peer else { return };
        if self.settled_pair(now).is_none_or(|pair| pair.id != statement.config) {
            self.hand_back = None;
            return;
        }
        let consents = vec![
            Consent { array: self.setup.me, signature: mine },
            Consent { array: peer, signature: theirs },
        ];
        let request = self.ask_somehow(Ask::Swap { statement, consents, preferred: self.setup.preferred });
        self.hand_back = Some(HandBack { step: Step::Swapping { statement, request }, give_up_at });
    }

    fn give_to_mediator(&mut self, now: Time, pair: &Configuration, statement: &Statement) {
        let right = Right::Mediator { mediator: statement.mediator, register: statement.id };
        let epoch = statement.epoch.max(self.next_epoch());
        let id = ConfigId(statement.id.0);
        assert!(
            matches!(pair.right, Right::Array(_)),
            "the right goes to the mediator from an array only (V2)"
        );
        self.append_configuration(now, Configuration { epoch, id, right, ground: Ground::Agreed, ..*pair });
    }
}
