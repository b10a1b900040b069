//! Clones of the volume that managers resize, overwrite, destroy, recover and eradicate while the power goes.
//!
//! - T1: what was answered stays so after any crash; what was not answered either happened or did not.
//! - T2: what is in use holds exactly what it held.
//! - T3: nothing is eradicated before its time, unless somebody asked; everything is some time after.

use metropod_core::names::{Name, VolumeId};
use metropod_core::namespace::Limits;
use metropod_core::operation::{Content, Manage, Target};
use metropod_core::{Command, Input, ManageError, Managed, Source};
use metropod_protocol::{Span, Time};

use super::{POD, Solo, VOLUME_BYTES};
use crate::payload;

/// How long destroyed things can be recovered: longer than what elapses between entries that count, so that some do.
const DELAY_MS: u64 = 400_000;

/// Most clones at a time.
const THINGS_MAX: usize = 4;

/// A clone.
pub(super) struct Thing {
    id: VolumeId,
    /// What it holds when it is in use.
    content: Vec<u8>,
    /// What it may be: more than one state only until the next look.
    states: Vec<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    InUse,
    /// Since when.
    Destroyed(Time),
    Gone,
}

impl Solo {
    /// Lets managers work too.
    pub fn churning(mut self) -> Solo {
        let change = Manage::SetEradicationDelay(DELAY_MS);
        if self.manage(Command::Change { pod: POD, change }).is_ok() {
            self.churning = true;
        }
        self
    }

    /// One thing that a manager does.
    pub(super) fn churn(&mut self) {
        self.settle();
        self.look_at_things();
        if self.things.is_empty() || (self.things.len() < THINGS_MAX && self.random.chance(20)) {
            return self.make_thing();
        }
        let at = self.random.below(self.things.len() as u64) as usize;
        match self.random.below(100) {
            0..25 => self.end_thing(at),
            25..40 => {
                self.change_state(at, Manage::Recover(Target::Volume(self.things[at].id)), State::InUse)
            }
            40..50 => {
                let target = Target::Volume(self.things[at].id);
                let change = Manage::Eradicate { target, contents: false, waited: None };
                self.change_state(at, change, State::Gone);
            }
            50..65 => self.resize_thing(at),
            65..80 => self.overwrite_thing(at),
            80..88 => self.limit_volume(),
            _ => {
                let span = self.random.below(DELAY_MS);
                self.pass_time(Span::millis(span));
                self.settle();
            }
        }
        self.counts.churned += 1;
        self.look_at_things();
    }

    /// Sets or clears limits of the volume that hosts write.
    fn limit_volume(&mut self) {
        let volume = self.volume.expect("made at the beginning");
        let iops = [0, 40, 5_000][self.random.below(3) as usize];
        let bytes_per_s = [0, 0, 4 << 20][self.random.below(3) as usize];
        let limits = Limits { iops, bytes_per_s };
        // Without an answer it is set or not; either may be.
        let _either =
            self.manage(Command::Change { pod: self.home, change: Manage::SetLimits { volume, limits } });
    }

    /// How long so many writes and as many reads of a block take one host that asks for all of them at once.
    pub fn time_of(&mut self, limits: Limits, requests: u64) -> Span {
        let volume = self.volume.expect("made at the beginning");
        let change = Manage::SetLimits { volume, limits };
        self.manage(Command::Change { pod: POD, change }).expect("limits can be set");
        let (began, fetched) = (self.now, self.fetches.len());
        for number in 0..requests {
            let sectors = number * 8 % 512..number * 8 % 512 + 8;
            let write = self.oracle.send(sectors.clone(), false);
            let operation = payload::write(volume, sectors, write);
            let array = self.array.as_mut().expect("the array is open");
            let (request, read) = (array.next_request(), array.next_request());
            self.writes.insert(request, write);
            self.input(Input::Host { request, pod: POD, operation });
            let (source, length) = (Source::Volume(volume), 4096);
            self.input(Input::Read { request: read, pod: POD, source, offset: 0, length, metered: true });
        }
        while !self.writes.is_empty() || ((self.fetches.len() - fetched) as u64) < requests {
            self.go_on(Span::millis(1));
        }
        self.now.since(began)
    }

    /// A clone is destroyed, recovered and destroyed anew; then the log gets to the proposals to eradicate it that were made
    /// because it had waited since the first time, and since the second. Gives what they come to.
    pub fn eradications_that_come_late(&mut self) -> [Result<Managed, ManageError>; 2] {
        self.make_thing();
        let target = Target::Volume(self.things[0].id);
        let [first, second] = [(); 2].map(|()| {
            let change = Manage::Recover(target);
            assert_ne!(self.manage(Command::Change { pod: POD, change }), Err(ManageError::Media));
            assert!(self.manage(Command::Destroy { pod: POD, target, contents: false }).is_ok());
            let pod = self.array.as_ref().and_then(|array| array.pod(POD)).expect("no power is cut");
            let mut destroyed = pod.namespace().destroyed_things();
            destroyed.next().expect("it has just been destroyed").1.by
        });
        [first, second].map(|by| {
            let change = Manage::Eradicate { target, contents: true, waited: Some(by) };
            self.manage(Command::Change { pod: POD, change })
        })
    }

    fn make_thing(&mut self) {
        if self.home != POD {
            return;
        }
        let content = self.read(Source::Volume(self.volume.expect("made at the beginning")));
        let name = Name::new(&format!("t{}-{}", self.starts, self.counts.churned)).expect("a good name");
        let source = Name::new("vol").expect("a good name");
        self.counts.churned += 1;
        let change = Manage::CloneVolume { source, suffix: None, name };
        // Without an answer there may be one more clone that nobody looks at.
        if let Ok(Managed::Volume(id)) = self.manage(Command::Change { pod: POD, change }) {
            self.things.push(Thing { id, content, states: vec![State::InUse] });
        }
    }

    fn end_thing(&mut self, at: usize) {
        let target = Target::Volume(self.things[at].id);
        let began = self.now;
        let answer = self.manage(Command::Destroy { pod: POD, target, contents: false });
        match self.things[at].states[0] {
            State::InUse => self.answered(at, answer, State::Destroyed(began), State::InUse),
            // It waits since it was destroyed first, whatever came of this.
            _ => assert!(answer != Ok(Managed::Done), "T1: what is destroyed is not destroyed again"),
        }
    }

    fn change_state(&mut self, at: usize, change: Manage, to: State) {
        let answer = self.manage(Command::Change { pod: POD, change });
        let from = self.things[at].states[0];
        match from {
            State::Destroyed(_) => self.answered(at, answer, to, from),
            State::InUse => assert!(answer != Ok(Managed::Done), "T1: what is in use is not destroyed"),
            State::Gone => {}
        }
    }

    /// Notes what a change of state came to.
    fn answered(&mut self, at: usize, answer: Result<Managed, ManageError>, to: State, from: State) {
        let thing = &mut self.things[at];
        match answer {
            Ok(_) => thing.states = vec![to],
            Err(ManageError::Media) => thing.states = vec![from, to],
            Err(_) => {}
        }
    }

    fn resize_thing(&mut self, at: usize) {
        let thing = &self.things[at];
        let size_bytes = VOLUME_BYTES + 4096 * self.random.below(64);
        let change = Manage::Resize { volume: thing.id, size_bytes, truncate: true };
        let before = thing.content.clone();
        let mut after = before.clone();
        after.resize(size_bytes as usize, 0);
        let answer = self.manage(Command::Change { pod: POD, change });
        self.content_is(at, answer, before, after);
    }

    fn overwrite_thing(&mut self, at: usize) {
        if self.home != POD {
            return;
        }
        let volume = self.volume.expect("made at the beginning");
        let mut after = self.read(Source::Volume(volume));
        let thing = &self.things[at];
        let (id, before) = (thing.id, thing.content.clone());
        after.resize(before.len().max(after.len()), 0);
        let change = Manage::Overwrite { volume: id, from: Content::Volume(volume) };
        let answer = self.manage(Command::Change { pod: POD, change });
        self.content_is(at, answer, before, after);
    }

    /// Notes what a change of content came to; looks if nobody said.
    fn content_is(
        &mut self,
        at: usize,
        answer: Result<Managed, ManageError>,
        before: Vec<u8>,
        after: Vec<u8>,
    ) {
        self.things[at].content = match answer {
            Ok(_) => after,
            Err(ManageError::Media) if self.is_in_use(at) => {
                let found = self.read_thing(at);
                assert!(found == before || found == after, "T2: neither the old nor the new content");
                found
            }
            Err(_) => before,
        };
    }

    fn is_in_use(&self, at: usize) -> bool {
        let pod = self.array.as_ref().and_then(|array| array.pod(POD));
        pod.is_some_and(|pod| pod.namespace().is_in_use(self.things[at].id))
    }

    fn read_thing(&mut self, at: usize) -> Vec<u8> {
        let id = self.things[at].id;
        let pod = self.array.as_ref().and_then(|array| array.pod(POD)).expect("the array is open");
        let length = pod.namespace().volumes[&id].size_bytes;
        self.read_bytes(Some(POD), Source::Volume(id), length)
    }

    /// Compares every clone with what it may be.
    pub(super) fn look_at_things(&mut self) {
        for at in 0..self.things.len() {
            // A look may need time, and time ends things: each is looked at as it is now.
            let pod = self.array.as_ref().and_then(|array| array.pod(POD)).expect("the array is open");
            let found = pod.namespace().volumes.get(&self.things[at].id).map(|volume| volume.destroyed);
            let (now, thing) = (self.now, &mut self.things[at]);
            let may_be = |state: &State| match (state, found) {
                (State::InUse, Some(None)) | (State::Destroyed(_), Some(Some(_))) | (State::Gone, None) => {
                    true
                }
                (State::Destroyed(since), None) => now.since(*since) >= Span::millis(DELAY_MS),
                _ => false,
            };
            let state = thing.states.iter().copied().find(may_be);
            let Some(state) = state else {
                panic!("T1, T3: {:?} of {:?} is {found:?} at {now:?}", thing.states, thing.id)
            };
            thing.states = vec![if found.is_none() { State::Gone } else { state }];
            if state == State::InUse {
                let bytes = self.read_thing(at);
                self.counts.checked_bytes += bytes.len() as u64;
                assert!(self.things[at].content == bytes, "T2: {:?} changed", self.things[at].id);
            }
        }
        self.things.retain(|thing| thing.states != [State::Gone]);
    }

    /// Everything destroyed is eradicated some time after its time.
    pub(super) fn wait_for_ends(&mut self) {
        let destroyed = |solo: &Solo| {
            let pod = solo.array.as_ref().and_then(|array| array.pod(POD)).expect("the array is open");
            pod.namespace().destroyed_things().next().is_some()
        };
        for _ in 0..200 {
            if !destroyed(self) {
                return self.look_at_things();
            }
            self.pass_time(Span::millis(DELAY_MS / 20));
            self.settle();
        }
        panic!("T3: what is destroyed is eradicated in the end");
    }
}
