//! The mediator and the arrays' sessions with it: the shipped service; its disk, front and clients are models.
//!
//! - M1: a reply leaves only after what it rests on is persisted; a crash loses what is not.
//! - M2: one ordered session per array; while its path is cut, what is under way waits, and a session that heard nothing for
//!   long ends at either side by itself.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use metropod_core::Input;
use metropod_protocol::mediator::{
    Consent, MediatorReply, MediatorRequest, Register, Service, ServiceEffect, ServiceInput, ServiceSettings,
    SessionNumber, Statement,
};
use metropod_protocol::{ArrayId, Ask, MediatorId, PodId, Ticket, Time};

use super::site::SiteEvent;
use super::{Event, IDS, MEDIATOR, Nanos, Pair, ms, us};

/// What another mediator calls itself.
const ANOTHER: MediatorId = MediatorId([10; 16]);
/// Between signs of life.
const PERIOD: Nanos = ms(100);
/// Silence after which an array takes its session for dead.
const DEAD: Nanos = ms(300);
/// Silence after which the mediator does.
const SILENCE: Nanos = ms(1_000);

pub(super) enum MediatorEvent {
    Takes { site: usize, session: SessionNumber, what: Call },
    Answers { site: usize, session: SessionNumber, reply: MediatorReply },
    Persisted { boot: u64, ticket: Ticket, pod: PodId, register: Register },
    Wake { boot: u64 },
}

pub(super) enum Call {
    Connected,
    Alive { fit: bool },
    Request(MediatorRequest),
}

pub(super) struct Mediator {
    pub service: Option<Service>,
    boot: u64,
    pub registers: BTreeMap<PodId, Register>,
    /// Whether each array's path works.
    pub path: [bool; 2],
    /// Whether each array's path leads to another mediator.
    pub wrong: [bool; 2],
    /// What each array takes for its session.
    sessions: [Option<SessionNumber>; 2],
    /// When each array last heard of it.
    heard: [Nanos; 2],
    /// When the mediator last heard of each session.
    served: BTreeMap<SessionNumber, (usize, Nanos)>,
    stalled_in: [VecDeque<(SessionNumber, Call)>; 2],
    stalled_out: [VecDeque<(SessionNumber, MediatorReply)>; 2],
    last: [[Nanos; 2]; 2],
    next_session: u64,
    wake_at: Option<Time>,
}

impl Mediator {
    pub fn new() -> Mediator {
        Mediator {
            service: None,
            boot: 0,
            registers: BTreeMap::new(),
            path: [true; 2],
            wrong: [false; 2],
            sessions: [None; 2],
            heard: [0; 2],
            served: BTreeMap::new(),
            stalled_in: Default::default(),
            stalled_out: Default::default(),
            last: [[0; 2]; 2],
            next_session: 0,
            wake_at: None,
        }
    }
}

/// An array's signature in this world.
pub(super) fn sign(array: ArrayId, statement: &Statement) -> Bytes {
    let mut hasher = blake3::Hasher::new_keyed(&[7; 32]);
    hasher.update(&array.0);
    hasher.update(&statement.signed_bytes());
    Bytes::copy_from_slice(hasher.finalize().as_bytes())
}

/// Those of the consents that hold.
fn verified(statement: &Statement, consents: Vec<Consent>) -> Vec<Consent> {
    consents.into_iter().filter(|consent| consent.signature == sign(consent.array, statement)).collect()
}

impl Pair {
    pub(super) fn start_mediator(&mut self) {
        if self.mediator.service.is_some() {
            return;
        }
        self.log(|| "mediator starts".into());
        self.mediator.boot += 1;
        let registers = self.mediator.registers.clone();
        self.mediator.service =
            Some(Service::start(MEDIATOR, ServiceSettings::default(), registers, Time(self.now)));
        self.mediator.wake_at = None;
    }

    pub(super) fn stop_mediator(&mut self) {
        self.log(|| "mediator stops".into());
        self.mediator.service = None;
        self.mediator.served.clear();
        for site in 0..2 {
            self.mediator.stalled_in[site].clear();
            self.mediator.stalled_out[site].clear();
        }
    }

    pub(super) fn mediator_event(&mut self, event: MediatorEvent) {
        match event {
            MediatorEvent::Takes { site, session, what } => {
                if !self.mediator.path[site] || !self.mediator.stalled_in[site].is_empty() {
                    self.mediator.stalled_in[site].push_back((session, what));
                } else {
                    self.mediator_takes(site, session, what);
                }
            }
            MediatorEvent::Answers { site, session, reply } => {
                if !self.mediator.path[site] || !self.mediator.stalled_out[site].is_empty() {
                    self.mediator.stalled_out[site].push_back((session, reply));
                } else {
                    self.site_after(0, site, SiteEvent::MediatorReply(session, reply));
                }
            }
            MediatorEvent::Persisted { boot, ticket, pod, register } => {
                if self.mediator.boot == boot && self.mediator.service.is_some() {
                    self.mediator.registers.insert(pod, register);
                    self.service_step(ServiceInput::Persisted { through: ticket });
                } else if self.random.chance(50) && boot + 1 >= self.mediator.boot {
                    // Written, and then it died before it could say so; nothing newer was written since.
                    let untouched = self.mediator.service.is_none();
                    if untouched {
                        self.mediator.registers.insert(pod, register);
                    }
                }
            }
            MediatorEvent::Wake { boot } => {
                if self.mediator.boot == boot {
                    self.mediator.wake_at = None;
                    self.service_step(ServiceInput::Tick);
                }
            }
        }
    }

    fn mediator_takes(&mut self, site: usize, session: SessionNumber, what: Call) {
        if self.mediator.service.is_none() {
            return;
        }
        let now = self.now;
        match what {
            Call::Connected => {
                self.mediator.served.retain(|_, (owner, _)| *owner != site);
                self.mediator.served.insert(session, (site, now));
                self.service_step(ServiceInput::Connected { session, array: IDS[site] });
            }
            Call::Alive { fit } => {
                if let Some((_, heard)) = self.mediator.served.get_mut(&session) {
                    *heard = now;
                    self.service_step(ServiceInput::Alive { session, fit });
                }
            }
            Call::Request(mut request) => {
                if let Ask::Swap { statement, consents, .. } | Ask::Remove { statement, consents } =
                    &mut request.ask
                {
                    *consents = verified(statement, std::mem::take(consents));
                }
                if let Some((_, heard)) = self.mediator.served.get_mut(&session) {
                    *heard = now;
                    self.service_step(ServiceInput::Request { session, request });
                }
            }
        }
    }

    fn service_step(&mut self, input: ServiceInput) {
        let now = Time(self.now);
        let Some(service) = &mut self.mediator.service else { return };
        service.step(now, input);
        while let Some(effect) = self.mediator.service.as_mut().and_then(Service::next_effect) {
            match effect {
                ServiceEffect::Persist { ticket, pod, register } => {
                    let boot = self.mediator.boot;
                    let span = us(200) + self.random.below(ms(5));
                    self.log(|| format!("mediator persists {register:?}"));
                    self.after(
                        span,
                        Event::Mediator(MediatorEvent::Persisted { boot, ticket, pod, register }),
                    );
                }
                ServiceEffect::Reply { session, reply } => {
                    let Some((site, _)) = self.mediator.served.get(&session).copied() else { continue };
                    self.log(|| format!("mediator answers {site}: {:?}", reply.answer));
                    let at = self.mediator_arrival(site, 1);
                    self.at(at, Event::Mediator(MediatorEvent::Answers { site, session, reply }));
                }
            }
        }
        let deadline = self.mediator.service.as_ref().and_then(Service::next_deadline);
        if let Some(deadline) = deadline
            && self.mediator.wake_at.is_none_or(|at| deadline < at)
        {
            self.mediator.wake_at = Some(deadline);
            let boot = self.mediator.boot;
            self.at(deadline.0 + 1, Event::Mediator(MediatorEvent::Wake { boot }));
        }
    }

    /// When what is said now on an array's session arrives: after what was said before.
    fn mediator_arrival(&mut self, site: usize, direction: usize) -> Nanos {
        let delay = us(200) + self.random.below(ms(3));
        let last = &mut self.mediator.last[site][direction];
        *last = (self.now + delay).max(*last + 1);
        *last
    }

    fn tell_mediator(&mut self, site: usize, what: Call) {
        let Some(session) = self.mediator.sessions[site] else { return };
        let at = self.mediator_arrival(site, 0);
        self.at(at, Event::Mediator(MediatorEvent::Takes { site, session, what }));
    }

    // ---- the array's side

    pub(super) fn ask_mediator(&mut self, site: usize, request: MediatorRequest) {
        self.log(|| format!("{site} asks the mediator {:?}", request.ask));
        self.tell_mediator(site, Call::Request(request));
    }

    pub(super) fn mediator_up(&mut self, site: usize, session: SessionNumber) {
        if self.mediator.sessions[site] == Some(session) {
            let mediator = if self.mediator.wrong[site] { ANOTHER } else { MEDIATOR };
            self.step(site, Input::MediatorUp { mediator });
        }
    }

    pub(super) fn mediator_reply(&mut self, site: usize, session: SessionNumber, reply: MediatorReply) {
        if self.mediator.sessions[site] == Some(session) {
            self.mediator.heard[site] = self.now;
            self.step(site, Input::MediatorReply(reply));
        }
    }

    /// The array's client: signs of life, the end of a dead session, a new one.
    pub(super) fn mediator_pulse(&mut self, site: usize) {
        let again = PERIOD + self.random.below(ms(10));
        self.site_after(again, site, SiteEvent::MediatorPulse);
        self.end_silent_sessions();
        let reachable = self.mediator.path[site] && self.mediator.service.is_some();
        let session = self.mediator.sessions[site];
        let served = session.is_some_and(|session| self.mediator.served.contains_key(&session));
        if session.is_some() {
            let known = served || self.mediator.heard[site] + DEAD / 2 > self.now;
            if reachable && known {
                if served {
                    self.mediator.heard[site] = self.now;
                }
                let now = self.sites[site].clock(self.now);
                let fit =
                    self.array(site).is_some_and(|array| array.pods().all(|pod| pod.machine().is_fit(now)));
                self.tell_mediator(site, Call::Alive { fit });
            } else if reachable || self.mediator.heard[site] + DEAD <= self.now {
                self.mediator.sessions[site] = None;
                self.log(|| format!("{site} loses the mediator"));
                self.step(site, Input::MediatorDown);
            }
        } else if reachable {
            self.mediator.next_session += 1;
            let session = SessionNumber(self.mediator.next_session);
            self.mediator.sessions[site] = Some(session);
            self.mediator.heard[site] = self.now;
            self.tell_mediator(site, Call::Connected);
            self.tell_mediator(site, Call::Alive { fit: true });
            self.site_after(us(500), site, SiteEvent::MediatorUp(session));
        }
    }

    pub(super) fn mediator_lost(&mut self, site: usize) {
        self.mediator.sessions[site] = None;
        if let Some((session, _)) =
            self.mediator.served.iter().find(|(_, (owner, _))| *owner == site).map(|(at, of)| (*at, *of))
            && self.mediator.path[site]
        {
            self.mediator.served.remove(&session);
            self.service_step(ServiceInput::Disconnected { session });
        }
    }

    fn end_silent_sessions(&mut self) {
        let now = self.now;
        let silent: Vec<SessionNumber> = self
            .mediator
            .served
            .iter()
            .filter(|(_, (_, heard))| heard + SILENCE <= now)
            .map(|(session, _)| *session)
            .collect();
        for session in silent {
            self.mediator.served.remove(&session);
            self.service_step(ServiceInput::Disconnected { session });
        }
    }

    /// Cuts or mends an array's path to the mediator.
    pub(super) fn mediator_path(&mut self, site: usize, works: bool) {
        self.log(|| format!("{site} path to the mediator: {works}"));
        self.mediator.path[site] = works;
        if works {
            for (session, what) in std::mem::take(&mut self.mediator.stalled_in[site]) {
                self.mediator_takes(site, session, what);
            }
            for (session, reply) in std::mem::take(&mut self.mediator.stalled_out[site]) {
                self.site_after(0, site, SiteEvent::MediatorReply(session, reply));
            }
        }
    }
}
