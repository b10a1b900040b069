//! A state of the world, and what an action makes of it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use metropod_protocol::{Input, Message, Right, Serving, Time};

use crate::action::Action;
use crate::array::{Array, Outgoing};
use crate::bounds::{Bounds, Start};
use crate::link::Link;
use crate::mediator::{MEDIATOR, Mediator};
use crate::oracle::{Oracle, Wrong, look};
use crate::sealed::Sealed;

/// How much may still happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Left {
    /// Host writes.
    pub writes: u8,
    /// Requests given up.
    pub withdrawals: u8,
    /// Cuts.
    pub cuts: u8,
    /// Crashes.
    pub crashes: u8,
    /// Lost sessions with the mediator.
    pub losses: u8,
    /// Copies.
    pub strays: u8,
}

/// A state of the world.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct World {
    bounds: Bounds,
    /// On every clock.
    pub now: Time,
    /// Time does not pass beyond.
    pub end: Time,
    /// See [`Bounds::in_flight`].
    pub in_flight: u8,
    /// Both arrays.
    pub arrays: [Sealed<Array>; 2],
    /// The link.
    pub link: Link,
    /// The mediator.
    pub mediator: Sealed<Mediator>,
    /// What may still happen.
    pub left: Left,
    /// What hosts know.
    pub oracle: Oracle,
    next_operation: u64,
    /// Something is wrong.
    pub wrong: Option<Wrong>,
}

impl World {
    /// The world in which a search begins.
    pub fn new(bounds: Bounds) -> World {
        // Later than any time that a machine may take for "never".
        let now = Time(1_000_000);
        let arrays = [0, 1].map(|index| Array::new(&bounds, index, now));
        let mut world = World {
            bounds,
            now,
            end: now,
            in_flight: bounds.in_flight,
            arrays: arrays.map(Sealed::new),
            link: Link::default(),
            mediator: Sealed::new(Mediator::start(now)),
            left: Left { writes: 0, withdrawals: 0, cuts: 0, crashes: 0, losses: 0, strays: 0 },
            oracle: Oracle::default(),
            next_operation: 0,
            wrong: None,
        };
        for array in 0..2 {
            world.at_array(array, |array, now| array.drain(now));
        }
        world.at_array(0, |array, now| array.step(now, Input::Invite { peer: crate::array::IDS[1] }));
        match bounds.start {
            Start::Stretching => {
                world.calm_instant(false);
                world.regain(0);
                world.regain(1);
                world.connect();
            }
            Start::Pair => assert!(world.becomes_whole(), "the pair is whole before the search begins"),
            Start::Elected => {
                world.connect();
                assert!(
                    world.runs_until(World::is_mirrored),
                    "the pair is mirrored before the search begins"
                );
            }
            Start::Alone => world.parts(0),
            Start::Tail => world.parts(1),
            Start::Electing => world.elects(),
        }
        assert_eq!(world.wrong, None, "nothing is wrong before the search begins");
        world.end = Time(world.now.0 + u64::from(bounds.time));
        world.left = Left {
            writes: bounds.writes,
            withdrawals: bounds.withdrawals,
            cuts: bounds.cuts,
            crashes: bounds.crashes,
            losses: bounds.losses,
            strays: bounds.strays,
        };
        world
    }

    /// The link is cut and `winner` goes on alone; if that is not the one that orders, the other has a write of its own.
    fn parts(&mut self, winner: usize) {
        assert!(self.becomes_whole(), "the pair is whole before the search begins");
        self.apply(Action::Cut);
        self.left.writes = 1;
        if winner == 1 {
            self.apply(Action::Submit(0));
        }
        self.apply(Action::Notice(winner));
        assert!(self.runs_until(|world| world.is_alone(winner)), "one array is alone");
        self.apply(Action::Notice(1 - winner));
        let refused = self.runs_until(|world| world.serving(1 - winner) == Some(Serving::Off));
        assert!(refused, "the other is off");
    }

    /// Both lose the mediator, and time passes until array 0 appends an election.
    fn elects(&mut self) {
        assert!(self.becomes_whole(), "the pair is whole before the search begins");
        self.left.losses = 2;
        self.apply(Action::Lose(0));
        self.apply(Action::Lose(1));
        let elected = |world: &World| {
            let newest = world.arrays[0].machine()?.history().last()?.configuration;
            newest.pre_elected()
        };
        while elected(self).is_none() {
            assert!(self.calm_instant(true), "messages come to an end");
            self.pass();
        }
    }

    /// What an action makes of this state. A failed check of the shipped code is what is wrong then.
    pub fn after(&self, action: Action) -> World {
        let mut next = self.clone();
        let done = catch_unwind(AssertUnwindSafe(|| next.apply(action)));
        if let Err(panic) = done {
            next = self.clone();
            next.wrong = Some(Wrong::Asserted(said(&*panic)));
        }
        next
    }

    /// Carries an action out and looks at the result.
    pub(crate) fn apply(&mut self, action: Action) {
        match action {
            Action::Deliver(to) => {
                if let Some(messages) = self.link.under_way[to].pop_front() {
                    self.arrive(to, &messages);
                }
            }
            Action::Sync(array) => self.at_array(array, Array::sync),
            Action::Decide(array) => self.at_mediator(|mediator, now| mediator.decide(now, array)),
            Action::Reply(array) => {
                let mut reply = None;
                self.at_mediator(|mediator, _| reply = mediator.replies[array].pop_front());
                if let Some(reply) = reply {
                    self.at_array(array, |array, now| array.step(now, Input::Mediator(reply)));
                }
            }
            Action::Pass => self.pass(),
            Action::Submit(array) => {
                self.left.writes -= 1;
                self.next_operation += 1;
                let operation = self.next_operation;
                self.at_array(array, |array, now| array.submit(now, operation));
            }
            Action::Withdraw(array) => {
                self.left.withdrawals -= 1;
                self.at_array(array, Array::withdraw);
            }
            Action::Cut => {
                self.left.cuts = self.left.cuts.saturating_sub(1);
                self.link.flows = [false; 2];
            }
            Action::CutTowards(to) => {
                self.left.cuts -= 1;
                self.link.flows[to] = false;
            }
            Action::Notice(array) => {
                self.link.close(array);
                self.at_array(array, |array, now| array.step(now, Input::LinkDown));
            }
            Action::Connect => self.connect(),
            Action::Crash(array, survive) => {
                self.left.crashes -= 1;
                self.link.flows = [false; 2];
                self.link.close(array);
                self.at_mediator(|mediator, now| mediator.disconnect(now, array));
                self.at_array(array, |array, _| {
                    array.crash(survive);
                    Vec::new()
                });
            }
            Action::Restart(array) => self.restart(array),
            Action::Lose(array) => {
                self.left.losses -= 1;
                self.at_mediator(|mediator, now| mediator.disconnect(now, array));
                self.at_array(array, |array, now| array.step(now, Input::MediatorDown));
            }
            Action::Regain(array) => self.regain(array),
            Action::Stray(to) => {
                self.left.strays -= 1;
                let copy = self.link.under_way[to].front().cloned();
                self.link.strays.extend(copy.map(|messages| (to, messages)));
            }
            Action::Haunt => {
                if let Some((to, messages)) = self.link.strays.pop() {
                    self.arrive(to, &messages);
                }
            }
        }
        if self.wrong.is_none() {
            self.wrong = look(self);
        }
    }

    /// Time passes to the next deadline; whoever waited for it is woken.
    pub(crate) fn pass(&mut self) {
        let Some(at) = self.next_deadline() else { return };
        self.now = at;
        for array in 0..2 {
            let due = self.arrays[array].machine().and_then(|machine| machine.next_deadline());
            if due.is_some_and(|due| due <= at) {
                self.at_array(array, |array, now| array.step(now, Input::Tick));
            }
        }
        if self.mediator.deadline().is_some_and(|due| due <= at) {
            self.at_mediator(Mediator::tick);
        }
    }

    /// The next time at which anything happens by itself.
    pub fn next_deadline(&self) -> Option<Time> {
        let arrays = self.arrays.iter().filter_map(|array| array.machine()?.next_deadline());
        arrays.chain(self.mediator.deadline()).filter(|at| *at > self.now).min()
    }

    pub(crate) fn connect(&mut self) {
        self.link.connect();
        for array in 0..2 {
            self.at_array(array, |array, now| array.step(now, Input::LinkUp));
        }
    }

    pub(crate) fn restart(&mut self, index: usize) {
        let bounds = self.bounds;
        let mut wrong = None;
        self.at_array(index, |array, now| {
            array.restart(&bounds, now).unwrap_or_else(|_| {
                wrong = Some(Wrong::Unreadable);
                Vec::new()
            })
        });
        self.wrong = self.wrong.take().or(wrong);
    }

    pub(crate) fn regain(&mut self, array: usize) {
        self.at_mediator(|mediator, now| mediator.connect(now, array));
        self.at_array(array, |array, now| array.step(now, Input::MediatorUp { mediator: MEDIATOR }));
    }

    /// Steps an array and carries out what leaves it.
    pub(crate) fn at_array(&mut self, index: usize, step: impl FnOnce(&mut Array, Time) -> Vec<Outgoing>) {
        let mut array = (*self.arrays[index]).clone();
        let outgoing = step(&mut array, self.now);
        let mut messages = Vec::new();
        for outgoing in outgoing {
            let wrong = match outgoing {
                Outgoing::Send(message) => {
                    messages.push(message);
                    None
                }
                Outgoing::Ask(request) => {
                    self.at_mediator(|mediator, _| mediator.send(index, request));
                    None
                }
                Outgoing::Done(operation, outcome) => {
                    array.machine().and_then(|machine| self.oracle.done(machine, operation, outcome))
                }
                Outgoing::Cut(keep, dropped) => self.oracle.cut(keep, &dropped),
                Outgoing::Alarm(alarm) => Wrong::from_alarm(alarm),
            };
            self.wrong = self.wrong.take().or(wrong);
        }
        match self.bounds.single {
            true => messages.into_iter().for_each(|message| self.link.send(index, vec![message])),
            false => self.link.send(index, messages),
        }
        self.arrays[index] = Sealed::new(array);
    }

    fn arrive(&mut self, to: usize, messages: &[Message]) {
        self.at_array(to, |array, now| {
            let each = messages.iter().flat_map(|message| array.step(now, Input::Receive(message.clone())));
            each.collect()
        });
    }

    fn at_mediator(&mut self, step: impl FnOnce(&mut Mediator, Time)) {
        let mut mediator = (*self.mediator).clone();
        step(&mut mediator, self.now);
        self.mediator = Sealed::new(mediator);
    }

    /// Whether a new connection may be opened.
    pub fn may_connect(&self) -> bool {
        let up = self.arrays.iter().all(|array| array.machine().is_some());
        up && !self.link.is_whole() && !self.bounds.for_good
    }

    /// What hosts get at an array that runs.
    pub fn serving(&self, array: usize) -> Option<Serving> {
        self.arrays[array].machine().map(|machine| machine.serving(self.now))
    }

    /// Sole member and serving.
    pub fn is_alone(&self, array: usize) -> bool {
        self.serving(array) == Some(Serving::Yes) && self.arrays[array].is_sole()
    }

    /// Both serve, and each knows that the other has everything.
    pub fn is_mirrored(&self) -> bool {
        (0..2).all(|array| {
            self.serving(array) == Some(Serving::Yes)
                && self.arrays[array].machine().is_some_and(|machine| machine.status(self.now).mirrored)
        })
    }

    /// Mirrored, equal, the right at the mediator, and its register as the log says.
    pub fn is_whole(&self) -> bool {
        let registered = self.mediator.register().record().map(|record| record.id);
        let right = |array: &Array| match array.machine()?.history().last()?.configuration.right {
            Right::Mediator { register, .. } => Some(register),
            Right::Array(_) => None,
        };
        self.is_mirrored()
            && self.arrays[0].chains() == self.arrays[1].chains()
            && self.arrays.iter().all(|array| registered.is_some() && right(array) == registered)
    }
}

/// What a panic said.
pub(crate) fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}
