//! Two machines, a mediator, links, journals and hosts in one deterministic world.
//!
//! Time is virtual; every choice comes from a counter-seeded generator. After every event the oracles in `oracle.rs` look at the whole world.
#![allow(dead_code, reason = "each test file uses its own part of the world")]

pub mod array;
pub mod faults;
pub mod network;
pub mod oracle;
pub mod random;
pub mod story;

use std::collections::BTreeMap;

use metropod_protocol::mediator::{Register, Service};
use metropod_protocol::mediator::{ServiceEffect, ServiceInput, ServiceSettings, SessionNumber};
use metropod_protocol::*;

pub use array::Array;
pub use network::Direction;
pub use oracle::Oracle;
pub use random::Random;

pub const POD: PodId = PodId([7; 16]);
pub const MEDIATOR: MediatorId = MediatorId([9; 16]);
pub const IDS: [ArrayId; 2] = [ArrayId([1; 16]), ArrayId([2; 16])];

/// Milliseconds of virtual time.
pub const fn ms(count: u64) -> u64 {
    count * 1_000_000
}

#[derive(Clone, Debug)]
pub enum Event {
    Tick { array: usize, boot: u64 },
    Synced { array: usize, boot: u64, through: Ticket, items: usize },
    Link { array: usize, connection: u64, up: bool },
    Deliver { to: usize, connection: u64, message: Message },
    ToMediator { session: SessionNumber, input: ServiceInput },
    FromMediator { session: SessionNumber, reply: MediatorReply },
    MediatorLink { array: usize, session: SessionNumber, up: bool },
    Persisted { boot: u64, through: Ticket, pod: PodId, register: Register },
    MediatorTick { boot: u64 },
    Alive { array: usize, session: SessionNumber },
    Signed { array: usize, boot: u64, statement: Statement },
    Manifest { array: usize, boot: u64, manifest: Box<array::Manifest>, flip: bool },
    RoundArrives { from: usize, from_boot: u64, to_boot: u64, chains: Vec<Chain>, base: Position },
    Checkpoint { array: usize },
    Host { array: usize, read: bool },
    Restart { array: usize },
    Leave { leaver: Option<usize> },
    Switch { to: usize },
    Thaw { array: usize },
    Unstall { array: usize },
    Heal { what: Fault },
    Strike,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Link,
    OneWay(usize),
    Mediator(usize),
    MediatorDown,
}

pub struct World {
    pub now: u64,
    pub seed: u64,
    sequence: u64,
    queue: BTreeMap<(u64, u64), Event>,
    pub random: Random,
    pub arrays: [Array; 2],
    pub net: network::Network,
    pub mediator: Option<Service>,
    pub mediator_boot: u64,
    pub mediator_id: MediatorId,
    pub registers: BTreeMap<PodId, Register>,
    pub mediator_sessions: [Option<SessionNumber>; 2],
    /// Whether each array's path to the mediator works.
    pub mediator_path: [bool; 2],
    mediator_last: BTreeMap<(SessionNumber, bool), u64>,
    next_session: u64,
    pub oracle: Oracle,
    pub preferred: Option<ArrayId>,
    /// Who is to hold the pod no more: in the log by now, so also said after a restart.
    pub leaving: Option<ArrayId>,
    pub next_op: u64,
    /// Random faults are struck until then.
    pub faults_until: u64,
    pub hosts: bool,
    pub chaos: bool,
    pub trace: Vec<String>,
    pub tracing: bool,
    /// No automatic copy when a joiner is ready.
    pub hold_catch_up: bool,
    pub hold_grants: bool,
    pub settings: Settings,
    /// Every frame that was delivered, if recording.
    pub recorded: Vec<(usize, Message)>,
    pub recording: bool,
    /// Each frame is also tried in damaged forms on a copy of the machine.
    pub hostile: bool,
    /// Payload of what hosts submit.
    pub payload: bytes::Bytes,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let arrays = [Array::new(0, &mut random), Array::new(1, &mut random)];
        let mut world = World {
            now: ms(5_000),
            seed,
            sequence: 0,
            queue: BTreeMap::new(),
            random,
            arrays,
            net: network::Network::new(),
            mediator: None,
            mediator_boot: 0,
            mediator_id: MEDIATOR,
            registers: BTreeMap::new(),
            mediator_sessions: [None; 2],
            mediator_path: [true; 2],
            mediator_last: BTreeMap::new(),
            next_session: 0,
            oracle: Oracle::new(),
            preferred: None,
            leaving: None,
            next_op: 0,
            faults_until: 0,
            hosts: false,
            chaos: false,
            trace: Vec::new(),
            tracing: false,
            hold_catch_up: false,
            hold_grants: false,
            settings: Settings::default(),
            recorded: Vec::new(),
            recording: false,
            hostile: false,
            payload: bytes::Bytes::from_static(b"payload"),
        };
        world.tracing = std::env::vars().any(|(name, _)| name == "METROPOD_TRACE");
        world
    }

    /// A stretched pod, both online, the right at the mediator.
    pub fn stretched(seed: u64) -> World {
        World::stretched_with(seed, |_| {})
    }

    /// The same, prepared otherwise.
    pub fn stretched_with(seed: u64, prepare: impl Fn(&mut World)) -> World {
        let mut world = World::stretching_with(seed, prepare);
        assert!(world.run_until(ms(4_000), World::is_whole), "a new pod is stretched: {}", world.describe());
        world
    }

    /// A new pod whose stretch has just begun.
    pub fn stretching_with(seed: u64, prepare: impl Fn(&mut World)) -> World {
        let mut world = World::new(seed);
        prepare(&mut world);
        world.start_mediator(true);
        world.found();
        world.connect();
        world.connect_mediator(0);
        world.connect_mediator(1);
        world
    }

    pub fn schedule(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), event);
    }

    pub fn after(&mut self, delay: u64, event: Event) {
        self.schedule(self.now + delay, event);
    }

    pub fn log(&mut self, text: impl FnOnce() -> String) {
        if self.tracing {
            let line = format!("{:9.3} {}", self.now as f64 / 1e6, text());
            self.trace.push(line);
        }
    }

    /// Runs one event; false if there is none.
    pub fn run_one(&mut self) -> bool {
        let Some((key, event)) = self.queue.pop_first() else { return false };
        self.now = key.0;
        self.handle(event);
        oracle::check(self);
        true
    }

    pub fn run_for(&mut self, span: u64) {
        let until = self.now + span;
        while self.queue.first_key_value().is_some_and(|(key, _)| key.0 <= until) {
            self.run_one();
        }
        self.now = until;
    }

    /// Runs until the condition holds (looked at after each event), at most `span`.
    pub fn run_until(&mut self, span: u64, condition: impl Fn(&World) -> bool) -> bool {
        let until = self.now + span;
        loop {
            if condition(self) {
                return true;
            }
            if self.queue.first_key_value().is_none_or(|(key, _)| key.0 > until) {
                self.now = until;
                return condition(self);
            }
            self.run_one();
        }
    }

    fn handle(&mut self, event: Event) {
        let target = match &event {
            Event::Tick { array, .. }
            | Event::Synced { array, .. }
            | Event::Link { array, .. }
            | Event::MediatorLink { array, .. }
            | Event::Signed { array, .. }
            | Event::Alive { array, .. }
            | Event::Host { array, .. } => Some(*array),
            Event::Deliver { to, .. } => Some(*to),
            _ => None,
        };
        if let Some(array) = target
            && self.arrays[array].frozen_until > self.now
        {
            let at = self.arrays[array].frozen_until;
            self.schedule(at, event);
            return;
        }
        match event {
            Event::Tick { array, boot } => {
                if self.arrays[array].boot == boot {
                    self.arrays[array].tick_at = u64::MAX;
                    self.step(array, Input::Tick);
                }
            }
            Event::Synced { array, boot, through, items } => self.synced(array, boot, through, items),
            Event::Unstall { array } => {
                self.arrays[array].stalled = false;
                self.sync(array);
            }
            Event::Link { array, connection, up } => self.link_event(array, connection, up),
            Event::Deliver { to, connection, message } => self.deliver(to, connection, message),
            Event::ToMediator { session, input } => {
                if self.mediator.is_some() {
                    let _ = session;
                    self.step_mediator(input);
                }
            }
            Event::FromMediator { session, reply } => {
                if let Some(array) = (0..2).find(|array| self.mediator_sessions[*array] == Some(session)) {
                    let held = self.hold_grants && matches!(reply.answer, Answer::Granted(_));
                    if self.arrays[array].frozen_until > self.now || held {
                        let at = self.arrays[array].frozen_until.max(self.now + ms(20));
                        self.schedule(at, Event::FromMediator { session, reply });
                    } else {
                        self.log(|| format!("{array} <- M {reply:?}"));
                        self.step(array, Input::Mediator(reply));
                    }
                }
            }
            Event::MediatorLink { array, session, up } => {
                if self.mediator_sessions[array] == Some(session) {
                    if up {
                        let mediator = self.mediator_id;
                        self.step(array, Input::SetMediator(Some(mediator)));
                        self.step(array, Input::MediatorUp { mediator });
                    }
                } else if !up && self.mediator_sessions[array].is_none() {
                    self.step(array, Input::MediatorDown);
                }
            }
            Event::Persisted { boot, through, pod, register } => {
                if boot == self.mediator_boot && self.mediator.is_some() {
                    self.registers.insert(pod, register);
                    self.step_mediator(ServiceInput::Persisted { through });
                }
            }
            Event::MediatorTick { boot } => {
                if boot == self.mediator_boot && self.mediator.is_some() {
                    self.step_mediator(ServiceInput::Tick);
                }
            }
            Event::Alive { array, session } => {
                if self.mediator_sessions[array] == Some(session) {
                    let fit = !self.arrays[array].stalled;
                    self.send_to_mediator(session, ServiceInput::Alive { session, fit });
                    self.after(ms(100), Event::Alive { array, session });
                }
            }
            Event::Signed { array, boot, statement } => {
                if self.arrays[array].boot == boot {
                    let signature = bytes::Bytes::from_static(b"signed");
                    self.step(array, Input::Signed { statement, signature });
                }
            }
            Event::Manifest { array, boot, manifest, flip } => {
                self.manifest_durable(array, boot, *manifest, flip)
            }
            Event::RoundArrives { from, from_boot, to_boot, chains, base } => {
                self.round_arrives(from, from_boot, to_boot, chains, base);
            }
            Event::Checkpoint { array } => self.checkpoint(array),
            Event::Host { array, read } => {
                if self.hosts {
                    if read {
                        oracle::read(self, array);
                    } else {
                        self.submit(array);
                    }
                    self.next_host();
                }
            }
            Event::Restart { array } => {
                if self.arrays[array].machine.is_none() {
                    self.restart(array);
                }
            }
            Event::Leave { leaver } => self.leave(leaver),
            Event::Switch { to } => self.switch(to),
            Event::Thaw { .. } => {}
            Event::Heal { what } => self.heal(what),
            Event::Strike => self.strike(),
        }
    }

    pub fn step(&mut self, array: usize, input: Input) {
        let now = self.arrays[array].clock(self.now);
        let Some(machine) = &mut self.arrays[array].machine else { return };
        machine.step(now, input);
        self.drain(array);
    }

    /// Carries out what the machine wants.
    pub fn drain(&mut self, array: usize) {
        while let Some(effect) = self.arrays[array].machine.as_mut().and_then(Machine::next_effect) {
            self.carry_out(array, effect);
        }
        self.sync(array);
        let Some(machine) = &self.arrays[array].machine else { return };
        if let Some(deadline) = machine.next_deadline() {
            let at = self.arrays[array].world_time(deadline);
            if at < self.arrays[array].tick_at {
                self.arrays[array].tick_at = at;
                let boot = self.arrays[array].boot;
                self.schedule(at, Event::Tick { array, boot });
            }
        }
    }

    // ---- mediator

    pub fn start_mediator(&mut self, settled: bool) {
        self.mediator_boot += 1;
        let settings = ServiceSettings::default();
        let started = if settled { self.now - ms(2_000) } else { self.now };
        let registers: Vec<_> = self.registers.iter().map(|(pod, register)| (*pod, *register)).collect();
        self.mediator = Some(Service::start(self.mediator_id, settings, registers, Time(started)));
        self.log(|| "M starts".into());
    }

    pub fn stop_mediator(&mut self) {
        self.mediator = None;
        for array in 0..2 {
            self.disconnect_mediator(array);
        }
        self.log(|| "M stops".into());
    }

    fn step_mediator(&mut self, input: ServiceInput) {
        let now = Time(self.now);
        let Some(mediator) = &mut self.mediator else { return };
        mediator.step(now, input);
        let mut effects = Vec::new();
        while let Some(effect) = mediator.next_effect() {
            effects.push(effect);
        }
        let deadline = mediator.next_deadline();
        let boot = self.mediator_boot;
        for effect in effects {
            match effect {
                ServiceEffect::Persist { ticket, pod, register } => {
                    self.log(|| format!("M persists {register:?}"));
                    let delay = self.random.below(ms(3)) + 1;
                    self.after(delay, Event::Persisted { boot, through: ticket, pod, register });
                }
                ServiceEffect::Reply { session, reply } => {
                    let at = self.mediator_time(session, false);
                    self.schedule(at, Event::FromMediator { session, reply });
                }
            }
        }
        if let Some(deadline) = deadline {
            self.schedule(deadline.0, Event::MediatorTick { boot });
        }
    }

    /// When the next message of this session and direction arrives: in order.
    fn mediator_time(&mut self, session: SessionNumber, up: bool) -> u64 {
        let delay = ms(1) / 10 + self.random.below(ms(4));
        let last = self.mediator_last.get(&(session, up)).copied().unwrap_or(0);
        let at = (self.now + delay).max(last);
        self.mediator_last.insert((session, up), at);
        at
    }

    pub fn send_to_mediator(&mut self, session: SessionNumber, input: ServiceInput) {
        let at = self.mediator_time(session, true);
        self.schedule(at, Event::ToMediator { session, input });
    }

    pub fn connect_mediator(&mut self, array: usize) {
        if self.mediator.is_none() || !self.mediator_path[array] || self.arrays[array].machine.is_none() {
            return;
        }
        self.next_session += 1;
        let session = SessionNumber(self.next_session);
        self.mediator_sessions[array] = Some(session);
        self.send_to_mediator(session, ServiceInput::Connected { session, array: IDS[array] });
        self.after(ms(1), Event::MediatorLink { array, session, up: true });
        self.after(ms(1), Event::Alive { array, session });
    }

    pub fn disconnect_mediator(&mut self, array: usize) {
        if let Some(session) = self.mediator_sessions[array].take() {
            self.after(0, Event::MediatorLink { array, session, up: false });
            let delay = self.random.below(ms(300));
            let input = ServiceInput::Disconnected { session };
            self.after(delay, Event::ToMediator { session, input });
        }
    }

    // ---- what the tests look at

    pub fn machine(&self, array: usize) -> &Machine {
        self.arrays[array].machine.as_ref().expect("the array is up")
    }

    pub fn serving(&self, array: usize) -> Option<Serving> {
        let now = self.arrays[array].clock(self.now);
        self.arrays[array].machine.as_ref().map(|machine| machine.serving(now))
    }

    pub fn status(&self, array: usize) -> Option<Status> {
        let now = self.arrays[array].clock(self.now);
        self.arrays[array].machine.as_ref().map(|machine| machine.status(now))
    }

    pub fn is_online(&self, array: usize) -> bool {
        self.serving(array) == Some(Serving::Yes)
    }

    pub fn newest(&self, array: usize) -> Option<Configuration> {
        let machine = self.arrays[array].machine.as_ref()?;
        machine.history().last().map(|item| item.configuration)
    }

    /// Sole member and serving.
    pub fn is_alone(&self, array: usize) -> bool {
        self.is_online(array)
            && self.newest(array).is_some_and(|newest| newest.members.is_only(IDS[array]))
            && self.machine(array).committed()
                >= self.machine(array).history().last().map_or(Index(0), |item| item.first)
    }

    /// Both online, mirrored, the right at the mediator and the register as the log says.
    pub fn is_whole(&self) -> bool {
        (0..2).all(|array| {
            let Some(status) = self.status(array) else { return false };
            self.arrays[array].frozen_until <= self.now
                && status.mine == Side::Online
                && status.mirrored
                && status.peer.is_some_and(|(_, side)| side == Side::Online)
                && self.newest(array).is_some_and(|newest| match newest.right {
                    Right::Mediator { register, .. } => self
                        .registers
                        .get(&POD)
                        .and_then(Register::record)
                        .is_some_and(|record| record.id == register),
                    Right::Array(_) => false,
                })
        })
    }

    pub fn describe(&self) -> String {
        let mut text = format!("seed {} at {:.3} ms\n", self.seed, self.now as f64 / 1e6);
        for array in 0..2 {
            let now = self.arrays[array].clock(self.now);
            match &self.arrays[array].machine {
                None => text += &format!("  {array}: down\n"),
                Some(machine) => {
                    text += &format!(
                        "  {array}: {:?}\n     newest {:?}\n     base {:?} end {:?} durable {:?} committed {:?} oos {:?} serving {:?} promise/now {:?}\n",
                        machine.status(now),
                        machine.history().last(),
                        machine.base().index,
                        machine.log_end(),
                        machine.durable(),
                        machine.committed(),
                        machine.out_of_sync(),
                        machine.serving(now),
                        now,
                    );
                }
            }
        }
        text +=
            &format!("  register {:?}\n  pending {:?}\n", self.registers.get(&POD), self.oracle.open_ops());
        text
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() && self.tracing {
            for line in self.trace.iter().rev().take(100_000).rev() {
                eprintln!("{line}");
            }
        }
    }
}
