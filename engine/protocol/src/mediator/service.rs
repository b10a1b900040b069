//! Many registers behind one door: persist before reply, settle after a start, head start for the preferred array.
//!
//! - S1: a grant is replied only after the record was reported persisted; until then the pod's later requests wait behind it.
//! - S2: an array has one session; asks of a closed one are dropped; a READ drops what the same session asked before about that pod.
//! - S3: compare-and-sets wait until `settle` after the start.
//! - S4: a compare-and-set to one member waits while another array is preferred, its session lives and it says that it is fit; at most `head_start`.
//!
//! Consents arrive here verified (the front checks signatures against the members' keys).

use std::collections::{BTreeMap, VecDeque};

use crate::ids::{ArrayId, MediatorId, PodId, Span, Ticket, Time};
use crate::mediator::register::{Decision, Refusal, Register};
use crate::mediator::{Answer, Ask, MediatorReply, MediatorRequest, Record};

/// Asks that may wait for one pod; more are dropped (their sender repeats them).
const WAITING_MAX: usize = 64;

/// A session of an array with the mediator, numbered by the front, rising, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionNumber(pub u64);

/// Timers of the mediator.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ServiceSettings {
    /// After a start, before the first compare-and-set.
    pub settle: Span,
    /// Longest head start.
    pub head_start: Span,
    /// Silence after which a session counts as dead for the head start.
    pub session_dead: Span,
}

impl Default for ServiceSettings {
    fn default() -> ServiceSettings {
        ServiceSettings {
            settle: Span::millis(1_000),
            head_start: Span::millis(400),
            session_dead: Span::millis(300),
        }
    }
}

/// Something that happened at the mediator.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ServiceInput {
    /// An authenticated array connected.
    Connected {
        /// Its session.
        session: SessionNumber,
        /// The array.
        array: ArrayId,
    },
    /// A session is closed.
    Disconnected {
        /// Which.
        session: SessionNumber,
    },
    /// The array's sign of life, sent every session period (100 ms).
    Alive {
        /// Its session.
        session: SessionNumber,
        /// Its disk is fit: it can take over.
        fit: bool,
    },
    /// A request whose consents were verified.
    Request {
        /// Its session.
        session: SessionNumber,
        /// The request; consents that did not verify are removed.
        request: MediatorRequest,
    },
    /// Everything to persist up to this ticket is durable.
    Persisted {
        /// The highest such ticket.
        through: Ticket,
    },
    /// A deadline passed.
    Tick,
}

/// Something for the mediator's driver to do.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ServiceEffect {
    /// Make this the pod's register on disk.
    Persist {
        /// Reported by [`ServiceInput::Persisted`].
        ticket: Ticket,
        /// Which pod.
        pod: PodId,
        /// The register.
        register: Register,
    },
    /// Send to the array.
    Reply {
        /// Its session.
        session: SessionNumber,
        /// The reply.
        reply: MediatorReply,
    },
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Session {
    array: ArrayId,
    heard: Time,
    fit: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Waiting {
    session: SessionNumber,
    since: Time,
    request: MediatorRequest,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Pod {
    register: Register,
    /// Persisting: the reply that is due afterwards, with its ticket.
    persisting: Option<(Ticket, SessionNumber, MediatorReply)>,
    waiting: VecDeque<Waiting>,
}

/// The mediator's registers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Service {
    me: MediatorId,
    settings: ServiceSettings,
    started: Time,
    sessions: BTreeMap<SessionNumber, Session>,
    pods: BTreeMap<PodId, Pod>,
    ticket: Ticket,
    effects: VecDeque<ServiceEffect>,
    deadline: Option<Time>,
}

fn pod_of(ask: &Ask) -> PodId {
    match ask {
        Ask::Read { pod } => *pod,
        Ask::Swap { statement, .. } | Ask::Remove { statement, .. } => statement.pod,
    }
}

impl Service {
    /// A mediator with the registers found on disk.
    pub fn start(
        me: MediatorId,
        settings: ServiceSettings,
        registers: impl IntoIterator<Item = (PodId, Register)>,
        now: Time,
    ) -> Service {
        let pods =
            registers.into_iter().map(|(pod, register)| (pod, Pod { register, ..Pod::default() })).collect();
        Service {
            me,
            settings,
            started: now,
            sessions: BTreeMap::new(),
            pods,
            ticket: Ticket(0),
            effects: VecDeque::new(),
            deadline: None,
        }
    }

    /// Takes one input.
    pub fn step(&mut self, now: Time, input: ServiceInput) {
        match input {
            ServiceInput::Connected { session, array } => {
                // One session per array: what an older one asked must not come after what this one reads (S2).
                let older: Vec<_> =
                    self.sessions.iter().filter(|(_, old)| old.array == array).map(|(old, _)| *old).collect();
                if older.iter().any(|old| *old > session) {
                    return;
                }
                for old in older {
                    self.close(old);
                }
                self.sessions.insert(session, Session { array, heard: now, fit: true });
            }
            ServiceInput::Disconnected { session } => self.close(session),
            ServiceInput::Alive { session, fit } => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.heard = now;
                    session.fit = fit;
                }
            }
            ServiceInput::Request { session, request } => self.request(now, session, request),
            ServiceInput::Persisted { through } => {
                for pod in self.pods.values_mut() {
                    if let Some((_, session, reply)) =
                        pod.persisting.take_if(|(ticket, _, _)| *ticket <= through)
                    {
                        self.effects.push_back(ServiceEffect::Reply { session, reply });
                    }
                }
            }
            ServiceInput::Tick => {}
        }
        self.advance(now);
    }

    /// The next thing to do.
    pub fn next_effect(&mut self) -> Option<ServiceEffect> {
        self.effects.pop_front()
    }

    /// When to call `step` with `Tick` at the latest.
    pub fn next_deadline(&self) -> Option<Time> {
        self.deadline
    }

    /// A pod's register.
    pub fn register(&self, pod: &PodId) -> Register {
        self.pods.get(pod).map_or(Register::Absent, |pod| pod.register)
    }

    fn close(&mut self, session: SessionNumber) {
        self.sessions.remove(&session);
        for pod in self.pods.values_mut() {
            pod.waiting.retain(|waiting| waiting.session != session);
        }
    }

    fn request(&mut self, now: Time, session: SessionNumber, request: MediatorRequest) {
        let Some(known) = self.sessions.get_mut(&session) else { return };
        known.heard = now;
        let id = pod_of(&request.ask);
        if let Ask::Read { .. } = request.ask
            && !self.pods.contains_key(&id)
        {
            let reply = MediatorReply { request: request.request, pod: id, answer: Answer::Register(None) };
            self.effects.push_back(ServiceEffect::Reply { session, reply });
            return;
        }
        let creates = matches!(&request.ask, Ask::Swap { statement, .. } if statement.expect.is_none());
        if !creates && !self.pods.contains_key(&id) {
            let answer = Answer::Refused { reason: Refusal::Absent, record: None };
            let reply = MediatorReply { request: request.request, pod: id, answer };
            self.effects.push_back(ServiceEffect::Reply { session, reply });
            return;
        }
        let pod = self.pods.entry(id).or_default();
        // A newer request of the same session takes the place of an older one (S2); asking again does not prolong a head start.
        let older = pod.waiting.iter().find(|waiting| waiting.session == session);
        let since = older.map_or(now, |waiting| waiting.since);
        pod.waiting.retain(|waiting| waiting.session != session);
        if pod.waiting.len() < WAITING_MAX {
            pod.waiting.push_back(Waiting { session, since, request });
        }
    }

    fn advance(&mut self, now: Time) {
        self.deadline = None;
        let mut wake = |at: Time| {
            self.deadline = Some(self.deadline.map_or(at, |deadline: Time| deadline.min(at)));
        };
        for (id, pod) in &mut self.pods {
            let mut kept = VecDeque::new();
            while let Some(waiting) = pod.waiting.pop_front() {
                if pod.persisting.is_some() {
                    kept.push_back(waiting);
                    continue;
                }
                let Some(session) = self.sessions.get(&waiting.session) else { continue };
                let until = match &waiting.request.ask {
                    Ask::Read { .. } => now,
                    Ask::Swap { statement, preferred, .. } => {
                        let settled = self.started + self.settings.settle;
                        // Who would be refused anyway waits for nobody.
                        let takes = matches!(
                            pod.register.swap(session.array, statement, &[]),
                            Decision::Granted { changed: true, .. }
                        );
                        match preferred {
                            Some(preferred)
                                if takes
                                    && statement.members.is_only(session.array)
                                    && *preferred != session.array =>
                            {
                                settled.max(head_start_end(
                                    &self.sessions,
                                    &self.settings,
                                    *preferred,
                                    waiting.since,
                                    now,
                                ))
                            }
                            _ => settled,
                        }
                    }
                    Ask::Remove { .. } => self.started + self.settings.settle,
                };
                if until > now {
                    wake(until);
                    kept.push_back(waiting);
                    continue;
                }
                let caller = session.array;
                let before = pod.register;
                let answer = decide(self.me, &mut pod.register, caller, &waiting.request.ask);
                let reply = MediatorReply { request: waiting.request.request, pod: *id, answer };
                if pod.register == before {
                    self.effects.push_back(ServiceEffect::Reply { session: waiting.session, reply });
                } else {
                    self.ticket = self.ticket.next();
                    self.effects.push_back(ServiceEffect::Persist {
                        ticket: self.ticket,
                        pod: *id,
                        register: pod.register,
                    });
                    pod.persisting = Some((self.ticket, waiting.session, reply));
                }
            }
            pod.waiting = kept;
        }
        // A refused creation leaves nothing behind.
        self.pods.retain(|_, pod| {
            pod.register != Register::Absent || pod.persisting.is_some() || !pod.waiting.is_empty()
        });
    }
}

/// Until when a compare-and-set of another array waits for the preferred one.
fn head_start_end(
    sessions: &BTreeMap<SessionNumber, Session>,
    settings: &ServiceSettings,
    preferred: ArrayId,
    since: Time,
    now: Time,
) -> Time {
    let alive_until = sessions
        .values()
        .filter(|session| session.array == preferred && session.fit)
        .map(|session| session.heard + settings.session_dead)
        .max();
    match alive_until {
        Some(until) if until > now => until.min(since + settings.head_start),
        _ => now,
    }
}

fn decide(me: MediatorId, register: &mut Register, caller: ArrayId, ask: &Ask) -> Answer {
    let refused = |reason: Refusal, record: Option<Record>| Answer::Refused { reason, record };
    match ask {
        Ask::Read { .. } => Answer::Register(register.record()),
        Ask::Swap { statement, .. } | Ask::Remove { statement, .. } if statement.mediator != me => {
            refused(Refusal::WrongMediator, register.record())
        }
        Ask::Swap { statement, consents, .. } => {
            let consents: Vec<ArrayId> = consents.iter().map(|consent| consent.array).collect();
            match register.swap(caller, statement, &consents) {
                Decision::Granted { record, .. } => {
                    *register = Register::Present(record);
                    Answer::Granted(record)
                }
                Decision::Removed => refused(Refusal::Removed, None),
                Decision::Refused(reason) => refused(reason, register.record()),
            }
        }
        Ask::Remove { statement, consents } => {
            let consents: Vec<ArrayId> = consents.iter().map(|consent| consent.array).collect();
            match register.remove(caller, statement, &consents) {
                Decision::Removed => {
                    *register = Register::Removed;
                    refused(Refusal::Removed, None)
                }
                Decision::Granted { record, .. } => Answer::Granted(record),
                Decision::Refused(reason) => refused(reason, register.record()),
            }
        }
    }
}
