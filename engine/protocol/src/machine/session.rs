//! Sessions: opened by HELLOs that echo each other's nonce; every other frame belongs to one.
//!
//! - S1: a HELLO goes out only when everything handed to the journal is durable; what it reports does not change behind it, or its
//!   nonce is thrown away. A settled lone survivor is excepted: it adopts nothing, so its end may grow.
//! - S2: frames are numbered; a duplicate is dropped, a gap ends the session, a frame of another session is ignored.
//! - S3: a HELLO of an earlier attempt of the peer is ignored; opening a session ends the own race and the OFF state; starting anew throws the nonce away.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::api::{Alarm, Effect, MediatorStatus};
use crate::config::Entitlement;
use crate::durable::{DurableRecord, Learned};
use crate::ids::{ConfigId, Incarnation, Index, Nonce, Position, RequestId, Ticket, Time};
use crate::machine::Machine;
use crate::machine::compare::{Verdict, compare};
use crate::mediator::Record;
use crate::message::{Frame, Hello, Message, Report, SessionId};
use crate::settings::HISTORY_KEPT;

/// How this array stands with its peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Contact {
    /// No connection.
    Down,
    /// Connection, no session yet.
    Opening(Opening),
    /// Session.
    Open(Box<Session>),
}

/// An attempt to open a session.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Opening {
    nonce: Nonce,
    /// The peer's newest incarnation and nonce.
    peer: Option<(Incarnation, Nonce)>,
    /// The peer's newest HELLO, kept until the own one that answers it has gone out.
    heard: Option<Box<Hello>>,
    /// The echo in the HELLO sent last under this nonce; `None` if none was sent.
    sent: Option<Option<(Incarnation, Nonce)>>,
    next_send: Time,
}

/// An open session.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Session {
    pub id: SessionId,
    pub peer_incarnation: Incarnation,
    peer_nonce: Nonce,
    next_out: u64,
    next_in: u64,
    pub heard: Time,

    /// The peer's copy is behind (it said so, or the comparison did).
    pub peer_behind: bool,
    /// And was never in sync.
    pub peer_first_time: bool,
    /// READY goes out when this is durable; `None` once it has gone.
    pub ready_after: Option<Ticket>,
    /// The peer's log, from its READY.
    pub peer_ready: Option<(Position, Position)>,
    /// Everything up to here was sent to or came from the peer.
    pub sent: Index,
    /// What was sent and is not reported durable: index, what it counts in the window.
    pub in_flight: VecDeque<(Index, usize)>,
    pub in_flight_bytes: usize,
    /// Own requests forwarded in this session and not heard of, with what they count in the window.
    pub forwarding: BTreeMap<RequestId, usize>,
    pub forwarding_bytes: usize,
    /// Since when the peer owes a durability report.
    pub owed_since: Option<Time>,
    pub peer_committed: Index,
    pub peer_known: Index,
    pub told: (Index, Index, Index),

    pub next_beat: Time,
    pub beats: u64,
    pub beats_sent: VecDeque<(u64, Time)>,
    pub heartbeat_received: u64,
    pub heartbeat_refused: u64,
    pub peer_serving: bool,
    pub peer_fit: bool,
    pub peer_mediator: MediatorStatus,

    /// Requests of the peer ordered in this session whose ORDER has not gone out.
    pub forwarded: BTreeSet<u64>,
    pub catching_up: bool,
    /// The log may follow once the joiner's end is there.
    pub suffix: Option<Index>,

    /// The READ of the register under way or done: request, newest configuration then.
    pub register_read: Option<(u64, ConfigId)>,
    pub register_seen: Option<(ConfigId, Option<Record>)>,
    pub peer_register_seen: Option<(ConfigId, Option<Record>)>,
    /// A request asked in the peer's place: own number, the peer's.
    pub carrying: Option<(u64, u64)>,
}

/// Why a session ended; decides how long its return is awaited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Loss {
    /// Silence or ejection: nothing to wait for.
    Gone,
    /// Closed, a gap, or the peer began anew: it may be back at once.
    Broken,
}

impl Machine {
    pub(super) fn on_link_up(&mut self, now: Time) {
        self.lose_session(now, Loss::Broken);
        self.link_up = true;
        self.renew_opening(now);
    }

    pub(super) fn on_link_down(&mut self, now: Time) {
        self.link_up = false;
        self.lose_session(now, Loss::Broken);
        self.contact = Contact::Down;
    }

    /// Ends the session, if there is one.
    pub(super) fn lose_session(&mut self, now: Time, loss: Loss) {
        let Contact::Open(session) = &self.contact else { return };
        if session.catching_up {
            self.emit(Effect::CatchUpEnded);
        }
        self.hand_back = None;
        self.switch_to = None;
        self.unresolved = true;
        self.lost_at = now;
        self.busy_until = now;
        self.race_at = match loss {
            Loss::Gone => now,
            Loss::Broken => now + self.setup.settings.reconnect,
        };
        self.contact = Contact::Down;
        if self.link_up {
            self.renew_opening(now);
        }
    }

    /// Begins to open a session under a new nonce.
    pub(super) fn renew_opening(&mut self, now: Time) {
        let peer = match &self.contact {
            Contact::Opening(opening) => opening.peer,
            _ => None,
        };
        self.attempts = self.attempts.wrapping_add(1);
        let drawn = self.draw();
        let chance = u32::from_le_bytes([drawn[0], drawn[1], drawn[2], drawn[3]]);
        let nonce = Nonce((u64::from(self.attempts) << 32) | u64::from(chance));
        self.contact = Contact::Opening(Opening { nonce, peer, heard: None, sent: None, next_send: now });
    }

    /// Sends the HELLO that is due.
    pub(super) fn open_session(&mut self, now: Time) {
        let may_tell = self.incarnation_durable && (self.awaited.is_empty() || self.is_settled_alone());
        let interval = self.setup.settings.hello;
        let incarnation = self.incarnation;
        let parted = self.has_parted();
        let Contact::Opening(opening) = &mut self.contact else { return };
        let (nonce, echo) = (opening.nonce, opening.peer);
        // What was held back by the disk goes out as soon as the disk is done.
        let held_back = may_tell && opening.sent != Some(echo);
        if opening.next_send > now && !held_back {
            let at = opening.next_send;
            self.wake(now, at);
            return;
        }
        if self.setup.peer.is_none() || parted {
            return;
        }
        if self.is_shut(now) {
            let at = self.shut_until;
            self.wake(now, at);
            return;
        }
        let Contact::Opening(opening) = &mut self.contact else { return };
        opening.next_send = now + interval;
        if may_tell {
            opening.sent = Some(echo);
            let hello = Hello {
                pod: self.setup.pod,
                from: self.setup.me,
                incarnation,
                nonce,
                echo,
                report: self.report(),
            };
            self.emit(Effect::Send(Message::Hello(Box::new(hello))));
            self.wake(now, now + interval);
            self.try_enter(now);
            return;
        } else if let Some((_, echo)) = echo
            && self.incarnation_durable
        {
            self.emit(Effect::Send(Message::Busy { incarnation, echo }));
        }
        self.wake(now, now + interval);
    }

    /// Whether the peer was ejected a moment ago. A disk that has failed has nothing to wait for: it would be back before this
    /// array has gone on.
    fn is_shut(&self, now: Time) -> bool {
        now < self.shut_until && self.newest().is_some_and(|newest| newest.members.is_pair())
    }

    fn report(&self) -> Report {
        let history = self.log.history();
        let told = history.len().saturating_sub(HISTORY_KEPT);
        Report {
            history: history[told..].iter().filter(|item| item.first <= self.durable).copied().collect(),
            known_config: self.known,
            base: self.log.base(),
            end: self.log.position(self.durable).expect("the durable end is held"),
            committed: self.committed,
            out_of_sync: self.out_of_sync,
            learned: self.learned,
        }
    }

    pub(super) fn receive(&mut self, now: Time, message: Message) {
        match message {
            Message::Hello(hello) => self.on_hello(now, &hello),
            Message::Busy { incarnation, echo } => {
                if let Contact::Opening(opening) = &self.contact
                    && opening.nonce == echo
                    && incarnation >= self.peer_incarnation
                {
                    self.busy_until = now + self.setup.settings.silence;
                }
            }
            Message::Frame { session, number, body } => {
                let Contact::Open(open) = &mut self.contact else { return };
                if open.id != session || number < open.next_in {
                    return;
                }
                if number > open.next_in {
                    self.lose_session(now, Loss::Broken);
                    return;
                }
                open.next_in += 1;
                open.heard = now;
                self.on_frame(now, body);
            }
        }
    }

    fn on_hello(&mut self, now: Time, hello: &Hello) {
        if hello.pod != self.setup.pod
            || Some(hello.from) != self.setup.peer
            || (hello.incarnation, hello.nonce.attempt()) < (self.peer_incarnation, self.peer_attempt)
            || !self.incarnation_durable
        {
            return;
        }
        self.peer_incarnation = hello.incarnation;
        self.peer_attempt = hello.nonce.attempt();
        self.learn_from(now, hello);
        let peer = (hello.incarnation, hello.nonce);
        if let Contact::Open(session) = &self.contact {
            if (session.peer_incarnation, session.peer_nonce) == peer {
                return;
            }
            self.lose_session(now, Loss::Broken);
        }
        let Contact::Opening(opening) = &mut self.contact else { return };
        opening.peer = Some(peer);
        opening.heard = Some(Box::new(hello.clone()));
        if opening.sent == Some(Some(peer)) {
            self.try_enter(now);
        } else {
            // The peer must hear its own nonce back, now.
            opening.next_send = now;
            self.open_session(now);
        }
    }

    /// Opens the session if both have heard each other.
    fn try_enter(&mut self, now: Time) {
        if self.is_shut(now) {
            return;
        }
        let incarnation = self.incarnation;
        let Contact::Opening(opening) = &mut self.contact else { return };
        let Some(hello) = opening.heard.take() else { return };
        let answered = opening.sent == Some(Some((hello.incarnation, hello.nonce)));
        if answered && hello.echo == Some((incarnation, opening.nonce)) {
            self.enter_session(now, &hello);
        } else {
            opening.heard = Some(hello);
        }
    }

    fn learn_from(&mut self, now: Time, hello: &Hello) {
        let newest = hello.report.history.last().map(|item| item.configuration);
        self.seen_number = self.seen_number.max(hello.report.learned.epoch.number);
        let mut learned = hello.report.learned;
        if let Some(newest) = newest {
            self.seen_number = self.seen_number.max(newest.epoch.number);
            if newest.members.is_only(hello.from) && newest.epoch > learned.epoch {
                learned = Learned { epoch: newest.epoch, holder: Some(hello.from) };
            }
        }
        self.learn(now, learned);
    }

    /// Stores a higher epoch that somebody else holds.
    pub(super) fn learn(&mut self, now: Time, learned: Learned) {
        self.seen_number = self.seen_number.max(learned.epoch.number);
        if learned.epoch > self.learned.epoch && learned.holder.is_some_and(|holder| holder != self.setup.me)
        {
            self.learned = learned;
            self.record(now, DurableRecord::Learned(learned));
        }
    }

    /// Both have heard each other: compares the logs and opens the session.
    fn enter_session(&mut self, now: Time, hello: &Hello) {
        let report = &hello.report;
        let verdict = compare(self, report);
        let verdict = match verdict {
            Ok(verdict) => verdict,
            Err(Alarm::PeerTooFarBehind) if self.entitlement() == Entitlement::Alone => {
                self.race_at = now;
                return;
            }
            Err(alarm) => {
                if matches!(alarm, Alarm::Diverged | Alarm::SplitBrain | Alarm::CommittedWouldBeCut) {
                    self.stopped = Some(alarm);
                    self.refuse_all();
                }
                self.alarm(alarm);
                return;
            }
        };
        let Contact::Opening(opening) = &self.contact else { return };
        let id = session_id(
            (self.setup.me, self.incarnation, opening.nonce),
            (hello.from, hello.incarnation, hello.nonce),
        );
        self.stopped = None;
        self.last_alarm = None;
        self.race = None;
        self.off = false;
        self.contact = Contact::Open(Box::new(Session {
            id,
            peer_incarnation: hello.incarnation,
            peer_nonce: hello.nonce,
            next_out: 0,
            next_in: 0,
            heard: now,
            peer_behind: verdict == Verdict::PeerBehind,
            peer_first_time: report.out_of_sync.is_some_and(|mark| mark.first_time),
            ready_after: Some(Ticket(0)),
            peer_ready: None,
            sent: Index(0),
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            forwarding: BTreeMap::new(),
            forwarding_bytes: 0,
            owed_since: None,
            peer_committed: Index(0),
            peer_known: Index(0),
            told: (Index(0), Index(0), Index(0)),
            next_beat: now,
            beats: 0,
            beats_sent: VecDeque::new(),
            heartbeat_received: 0,
            heartbeat_refused: 0,
            peer_serving: false,
            peer_fit: true,
            peer_mediator: MediatorStatus::Unreachable,
            forwarded: BTreeSet::new(),
            catching_up: false,
            suffix: None,
            register_read: None,
            register_seen: None,
            peer_register_seen: None,
            carrying: None,
        }));
        if let Verdict::Behind { keep, mark } = verdict {
            self.fall_behind(now, keep, mark, report);
        }
    }

    /// Ends a session that has gone silent.
    pub(super) fn watch_session(&mut self, now: Time) {
        let Contact::Open(session) = &self.contact else { return };
        let until = session.heard + self.setup.settings.silence;
        if now >= until {
            self.lose_session(now, Loss::Gone);
        } else {
            self.wake(now, until);
        }
    }

    pub(super) fn send_frame(&mut self, body: Frame) {
        let Contact::Open(session) = &mut self.contact else { return };
        let number = session.next_out;
        session.next_out += 1;
        let session = session.id;
        self.emit(Effect::Send(Message::Frame { session, number, body }));
    }

    fn on_frame(&mut self, now: Time, body: Frame) {
        match body {
            Frame::Ready { base, end } => self.on_ready(now, base, end),
            Frame::Entry(entry) => self.on_entry(now, entry),
            Frame::Forward { request, heartbeat, descriptor, attachment } => {
                self.on_forward(now, request, heartbeat, descriptor, attachment);
            }
            Frame::Refused { request } => self.on_refused(request),
            Frame::Order { index, request, chain, committed } => {
                self.on_order(now, index, request, chain, committed);
            }
            Frame::Durable { through, committed, known } => self.on_durable(now, through, committed, known),
            Frame::Heartbeat { number, serving, fit, mediator } => {
                self.on_heartbeat(now, number, serving, fit, mediator);
            }
            Frame::Answer { number, config } => self.on_answer(number, config),
            Frame::ConsentAsked(statement) => self.on_consent_asked(&statement),
            Frame::Consent { statement, signature } => self.on_consent(now, &statement, signature),
            Frame::Carry { request, ask } => self.on_carry(request, ask),
            Frame::Carried { request, answer } => self.on_carried(now, request, answer),
            Frame::RegisterSeen { config, record } => {
                if let Contact::Open(session) = &mut self.contact {
                    session.peer_register_seen = Some((config, record));
                }
                if let Some(record) = record {
                    self.seen_number = self.seen_number.max(record.epoch.number);
                }
            }
        }
    }

    /// The peer did what the protocol forbids: nothing more of this session is believed.
    pub(super) fn breach(&mut self, now: Time) {
        self.alarm(Alarm::PeerBrokeProtocol);
        self.lose_session(now, Loss::Broken);
    }

    /// The open session.
    pub(super) fn session(&self) -> Option<&Session> {
        match &self.contact {
            Contact::Open(session) => Some(session),
            _ => None,
        }
    }

    pub(super) fn session_mut(&mut self) -> Option<&mut Session> {
        match &mut self.contact {
            Contact::Open(session) => Some(session),
            _ => None,
        }
    }
}

type End = (crate::ids::ArrayId, Incarnation, Nonce);

fn session_id(one: End, other: End) -> SessionId {
    let (low, high) = if one.0 < other.0 { (one, other) } else { (other, one) };
    let mut hasher = blake3::Hasher::new();
    for (array, incarnation, nonce) in [low, high] {
        hasher.update(&array.0);
        hasher.update(&incarnation.0.to_le_bytes());
        hasher.update(&nonce.0.to_le_bytes());
    }
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    SessionId(id)
}
