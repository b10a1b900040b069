//! Managers at both sites who change, destroy, recover and eradicate what hosts have, under faults.
//!
//! - V1: the volume that hosts write keeps what they wrote: it grows, and is overwritten with itself, which touches all of
//!   it and changes nothing.
//! - V2: a clone that is overwritten with the volume holds what the volume held between asking and answer.
//! - V3: what is destroyed stays until its time has come, unless somebody asked for its eradication; then it goes.

use std::collections::{BTreeMap, BTreeSet};

use metropod_core::Command;
use metropod_core::names::VolumeId;
use metropod_core::operation::{Content, Manage, Target};

use metropod_protocol::Serving;

use super::{Event, Frozen, Key, Nanos, POD, Pair, VOLUME_BYTES, ms};
use crate::random::Random;

/// How long what is destroyed can be recovered.
pub(super) const DELAY: Nanos = ms(2_000);

/// Clocks drift; so much earlier than [`DELAY`] is in time.
const DRIFT: Nanos = ms(10);

/// Longest pause between two requests of a site's manager.
const PAUSE: Nanos = ms(120);

/// See the module's text.
pub(super) struct Managers {
    random: Random,
    pub at_work: bool,
    /// Clones and snapshots that were there at some time.
    known: Vec<Target>,
    /// Of those, the ones that a manager wanted to end or cut: what they hold is not compared with the volume's past.
    ended: BTreeSet<Target>,
    /// When the first request to destroy was sent, unless somebody asked for the eradication.
    destroyed: BTreeMap<Target, Nanos>,
    /// Requests to overwrite a clone that were not answered.
    overwriting: BTreeMap<VolumeId, u32>,
    asked: BTreeMap<(usize, Key), VolumeId>,
}

impl Managers {
    pub(super) fn new(seed: u64) -> Managers {
        Managers {
            random: Random::new(seed ^ 0x6d61_6e61_6765_7273),
            at_work: false,
            known: Vec::new(),
            ended: BTreeSet::new(),
            destroyed: BTreeMap::new(),
            overwriting: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }
}

impl Pair {
    /// Lets managers at both sites work in [`Pair::run`].
    pub fn managed(mut self) -> Pair {
        self.managers.at_work = true;
        self
    }

    /// A manager's next request, and the one after it some time later.
    pub(super) fn manager_turn(&mut self, site: usize) {
        if !self.hosts.manage {
            return;
        }
        let span = self.managers.random.below(PAUSE);
        self.after(span, Event::Manager { site });
        self.check_ends();
        for frozen in self.frozen.keys() {
            let target = match frozen {
                Frozen::Snapshot(id) => Target::Snapshot(*id),
                Frozen::Clone(id) => Target::Volume(*id),
            };
            if !self.managers.known.contains(&target) {
                self.managers.known.push(target);
            }
        }
        let Some(volume) = self.volume else { return };
        if self.sites[site].array.is_none() || self.sites[site].frozen {
            return;
        }
        let managers = &mut self.managers;
        let choice = managers.random.below(100);
        let target = match managers.known.len() as u64 {
            0 => Target::Volume(volume),
            known => managers.known[managers.random.below(known) as usize],
        };
        let own = target == Target::Volume(volume);
        match (choice, target) {
            (0..15, _) => {
                let size_bytes = VOLUME_BYTES + 4096 * managers.random.below(1000);
                self.ask_for(site, Manage::Resize { volume, size_bytes, truncate: false });
            }
            (15..30, _) => {
                self.ask_for(site, Manage::Overwrite { volume, from: Content::Volume(volume) });
            }
            _ if own => {}
            (30..45, Target::Volume(id)) => self.overwrite(site, id, volume),
            (45..55, Target::Volume(id)) => {
                let size_bytes = VOLUME_BYTES / 2 + 4096 * managers.random.below(300);
                self.end(target);
                self.ask_for(site, Manage::Resize { volume: id, size_bytes, truncate: true });
            }
            (30..70, _) => {
                self.end(target);
                self.managers.destroyed.entry(target).or_insert(self.now);
                self.manage(site, Command::Destroy { pod: POD, target, contents: false });
            }
            (70..88, _) => self.ask_for(site, Manage::Recover(target)),
            _ => {
                self.managers.destroyed.remove(&target);
                self.end(target);
                self.managers.known.retain(|known| *known != target);
                self.ask_for(site, Manage::Eradicate { target, contents: false, waited: None });
            }
        }
    }

    fn ask_for(&mut self, site: usize, change: Manage) {
        self.manage(site, Command::Change { pod: POD, change });
    }

    /// From now on nobody knows what it holds, or whether it is there.
    fn end(&mut self, target: Target) {
        self.managers.ended.insert(target);
        match target {
            Target::Volume(id) => {
                self.frozen.retain(|frozen, _| match frozen {
                    Frozen::Clone(clone) => *clone != id,
                    Frozen::Snapshot(snapshot) => snapshot.volume != id,
                });
            }
            Target::Snapshot(id) => drop(self.frozen.remove(&Frozen::Snapshot(id))),
            Target::Pod => {}
        }
    }

    fn overwrite(&mut self, site: usize, clone: VolumeId, volume: VolumeId) {
        self.frozen.remove(&Frozen::Clone(clone));
        *self.managers.overwriting.entry(clone).or_default() += 1;
        let change = Manage::Overwrite { volume: clone, from: Content::Volume(volume) };
        if let Some(request) = self.manage(site, Command::Change { pod: POD, change }) {
            self.managers.asked.insert((site, request), clone);
        }
    }

    /// A request was done, having been under way at these moments.
    pub(super) fn manager_done(
        &mut self,
        site: usize,
        request: Key,
        times: std::ops::Range<crate::register::Moment>,
    ) {
        let Some(clone) = self.managers.asked.remove(&(site, request)) else { return };
        // With another request for the same clone, answered or not, nobody knows which was the last.
        if self.managers.overwriting.get(&clone) == Some(&1)
            && !self.managers.ended.contains(&Target::Volume(clone))
        {
            self.managers.overwriting.remove(&clone);
            self.frozen.insert(Frozen::Clone(clone), times);
        }
    }

    /// Nothing destroyed is gone before its time (V3). Of an array that serves and has applied all it has: others may not
    /// have heard of its making yet.
    fn check_ends(&self) {
        for site in 0..2 {
            let Some(pod) = self.array(site).and_then(|array| array.pod(POD)) else { continue };
            let machine = pod.machine();
            let at = &self.sites[site];
            let serves = !at.frozen && machine.serving(at.clock(self.now)) == Serving::Yes;
            if !serves || pod.applied() != machine.log_end() {
                continue;
            }
            let namespace = pod.namespace();
            for (target, since) in &self.managers.destroyed {
                let there = match target {
                    Target::Volume(id) => namespace.volumes.contains_key(id),
                    Target::Snapshot(id) => namespace.snapshots.contains_key(id),
                    Target::Pod => true,
                };
                if !there && self.now + DRIFT < *since + DELAY {
                    self.fail(&format!("V3: {target:?} is gone before its time at {site}"));
                }
            }
        }
    }

    /// Whether anything waits for its eradication anywhere.
    pub(super) fn awaits_ends(&self) -> bool {
        (0..2).any(|site| {
            let pod = self.array(site).and_then(|array| array.pod(POD));
            pod.is_none_or(|pod| pod.namespace().destroyed_things().next().is_some())
        })
    }
}
