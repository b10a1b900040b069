//! The mediator: the shipped service, its sessions with both arrays, and what is under way in them.
//!
//! Persisting and replying are one action: a mediator that dies in between is a reply that is lost with its session, or an ask that is.

use std::collections::VecDeque;

use metropod_protocol::mediator::{
    Register, Service, ServiceEffect, ServiceInput, ServiceSettings, SessionNumber,
};
use metropod_protocol::{MediatorId, MediatorReply, MediatorRequest, PodId, Span, Time};

use crate::array::{IDS, POD};

/// The mediator's name.
pub const MEDIATOR: MediatorId = MediatorId([9; 16]);

/// The service and its ordered sessions.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Mediator {
    service: Service,
    sessions: [Option<SessionNumber>; 2],
    opened: u64,
    /// Asks under way from each array.
    pub asks: [VecDeque<MediatorRequest>; 2],
    /// Replies under way to each array.
    pub replies: [VecDeque<MediatorReply>; 2],
}

impl Mediator {
    /// A mediator without registers.
    pub fn start(now: Time) -> Mediator {
        let settings = ServiceSettings { settle: Span(0), head_start: Span(0), session_dead: Span(0) };
        let none: [(PodId, Register); 0] = [];
        Mediator {
            service: Service::start(MEDIATOR, settings, none, now),
            sessions: [None; 2],
            opened: 0,
            asks: Default::default(),
            replies: Default::default(),
        }
    }

    /// Whether an array has a session.
    pub fn is_connected(&self, array: usize) -> bool {
        self.sessions[array].is_some()
    }

    /// Opens a session.
    pub fn connect(&mut self, now: Time, array: usize) {
        self.opened += 1;
        let session = SessionNumber(self.opened);
        self.sessions[array] = Some(session);
        self.step(now, ServiceInput::Connected { session, array: IDS[array] });
    }

    /// Loses a session with everything under way in it.
    pub fn disconnect(&mut self, now: Time, array: usize) {
        self.asks[array].clear();
        self.replies[array].clear();
        if let Some(session) = self.sessions[array].take() {
            self.step(now, ServiceInput::Disconnected { session });
        }
    }

    /// Takes an ask of an array on its way; lost without a session.
    pub fn send(&mut self, array: usize, request: MediatorRequest) {
        if self.is_connected(array) {
            self.asks[array].push_back(request);
        }
    }

    /// Decides the next ask of an array.
    pub fn decide(&mut self, now: Time, array: usize) {
        if let Some(session) = self.sessions[array]
            && let Some(request) = self.asks[array].pop_front()
        {
            self.step(now, ServiceInput::Request { session, request });
        }
    }

    /// When it wants to be woken.
    pub fn deadline(&self) -> Option<Time> {
        self.service.next_deadline()
    }

    /// A deadline passed.
    pub fn tick(&mut self, now: Time) {
        self.step(now, ServiceInput::Tick);
    }

    /// The pod's register.
    pub fn register(&self) -> Register {
        self.service.register(&POD)
    }

    fn step(&mut self, now: Time, input: ServiceInput) {
        self.service.step(now, input);
        while let Some(effect) = self.service.next_effect() {
            match effect {
                ServiceEffect::Persist { ticket, .. } => {
                    self.service.step(now, ServiceInput::Persisted { through: ticket });
                }
                ServiceEffect::Reply { session, reply } => {
                    if let Some(array) = self.sessions.iter().position(|open| *open == Some(session)) {
                        self.replies[array].push_back(reply);
                    }
                }
            }
        }
    }
}
