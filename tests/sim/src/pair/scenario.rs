//! The words that scenarios are written in: faults that last until they are ended, requests of hosts and managers, and what
//! the arrays show.

use metropod_core::names::{Name, VolumeId};
use metropod_core::operation::Manage;
use metropod_core::{Array, Channel, Command, Input, Managed, ScrubRequest};
use metropod_dedupe::{Rot, SEGMENT_BYTES_MIN};
use metropod_journal::media::Media;
use metropod_protocol::mediator::Register;
use metropod_protocol::{MediatorStatus, PodId, Serving, Side};

use super::checks::runs;
use super::hosts::Asked;
use super::{IDS, Key, Nanos, POD, Pair, ms};

/// Where the chunk store's files are.
const SEGMENTS: &str = "segments";

/// What an array shows, in the words of the failure table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Serves.
    On,
    /// Silent.
    Held,
    /// Refuses.
    Off,
    /// Behind, catching up.
    Resyncing,
    /// Not running.
    Dead,
}

impl Pair {
    /// Sets how busy the hosts are: the longest pause between two requests of a site; 0: idle.
    pub fn hosts(&mut self, pause: Nanos) {
        self.load(pause, false);
    }

    /// From now on hosts are at one site only.
    pub fn hosts_only_at(&mut self, site: usize) {
        self.hosts.away[1 - site] = true;
    }

    /// The first sector of one of the blocks that hosts write often.
    pub fn some_block(&mut self) -> u64 {
        self.random.below(20) * 8
    }

    /// Whether a write waits for its answer.
    pub fn is_under_way(&self, site: usize, number: u64) -> bool {
        self.sites[site]
            .asked
            .values()
            .any(|asked| matches!(asked, Asked::Write { number: at } if *at == number))
    }

    /// Cuts the link between the arrays, in both directions.
    pub fn cut_link(&mut self) {
        self.block([true; 2]);
        if self.random.chance(50) {
            self.close(Channel::Sync);
            self.close(Channel::Bulk);
        }
    }

    /// Cuts the link in the direction from one site only.
    pub fn cut_way_from(&mut self, site: usize) {
        self.block([site == 0, site == 1]);
    }

    /// The link works again.
    pub fn mend_link(&mut self) {
        self.block([false; 2]);
    }

    /// The mediator is lost.
    pub fn lose_mediator(&mut self) {
        self.stop_mediator();
    }

    /// The mediator is back, with what it had persisted.
    pub fn restore_mediator(&mut self) {
        self.start_mediator();
    }

    /// Cuts or mends a site's own path to the mediator.
    pub fn set_mediator_path(&mut self, site: usize, works: bool) {
        self.mediator_path(site, works);
    }

    /// The array dies, by its power or its process, until [`Pair::revive`].
    pub fn kill(&mut self, site: usize) {
        let kill = self.random.chance(50);
        self.crash(site, kill);
    }

    /// The array starts again.
    pub fn revive(&mut self, site: usize) {
        self.boot(site);
    }

    /// A frozen array goes on.
    pub fn wake(&mut self, site: usize) {
        self.thaw(site);
    }

    /// Waits up to `most`, by chance.
    pub fn some_time(&mut self, most: Nanos) {
        let span = self.random.below(most.max(1));
        self.run_for(span);
    }

    /// A choice of the run's seed.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.random.chance(percent)
    }

    /// One of the sites, by chance.
    pub fn some_site(&mut self) -> usize {
        usize::from(self.random.chance(50))
    }

    /// What the array at a site shows.
    pub fn shown(&self, site: usize) -> Shown {
        self.shown_of(site, POD)
    }

    /// What the array at a site shows of a pod.
    pub fn shown_of(&self, site: usize, pod: PodId) -> Shown {
        if !runs(self.array(site)) {
            return Shown::Dead;
        }
        let Some(pod) = self.array(site).and_then(|array| array.pod(pod)) else { return Shown::Off };
        let now = self.sites[site].clock(self.now);
        match (pod.machine().status(now).mine, pod.machine().serving(now)) {
            (Side::Resyncing | Side::Baselining, _) => Shown::Resyncing,
            (_, Serving::Yes) => Shown::On,
            (_, Serving::Held) => Shown::Held,
            (_, Serving::Suspended | Serving::Off) => Shown::Off,
        }
    }

    /// Waits until both arrays show what they should, and fails if that takes too long. Who is to be the only one that serves
    /// has gone on alone: what its lease lets it serve until then does not count.
    pub fn expect(&mut self, shown: [Shown; 2], within: Nanos) {
        let until = self.now + within;
        let alone = match shown.map(|shown| shown == Shown::On) {
            [true, false] => Some(0),
            [false, true] => Some(1),
            _ => None,
        };
        let holds = |pair: &Pair| {
            [pair.shown(0), pair.shown(1)] == shown && alone.is_none_or(|site| pair.sites[site].was_alone)
        };
        while !holds(self) {
            if self.now >= until {
                let found = [self.shown(0), self.shown(1)];
                self.fail(&format!("expected {shown:?} within {within} ns, found {found:?}"));
            }
            self.run_for(ms(1));
        }
    }

    /// Fails unless both arrays show this for a while.
    pub fn expect_for(&mut self, shown: [Shown; 2], span: Nanos) {
        let until = self.now + span;
        while self.now < until {
            let found = [self.shown(0), self.shown(1)];
            if found != shown {
                self.fail(&format!("expected {shown:?} to last, found {found:?}"));
            }
            self.run_for(ms(5));
        }
    }

    /// Waits until the array at a site shows what it should, and fails if that takes too long.
    pub fn expect_at(&mut self, site: usize, shown: Shown, within: Nanos) {
        self.until(&format!("{shown:?} at {site}"), within, |pair| pair.shown(site) == shown);
    }

    /// The site that is alone, if one is.
    pub fn survivor(&self) -> Option<usize> {
        (0..2).find(|site| self.sites[*site].was_alone)
    }

    /// Lets the world go on, event by event, until something holds; fails if that takes too long.
    pub fn until(&mut self, what: &str, within: Nanos, holds: impl Fn(&Pair) -> bool) {
        let until = self.now + within;
        while !holds(self) {
            if self.now >= until {
                self.fail(&format!("{what} within {within} ns"));
            }
            self.next_event();
        }
    }

    /// The array that is pre-elected, by the word of the one at a site.
    pub fn pre_elected(&self, site: usize) -> Option<usize> {
        let pod = self.array(site)?.pod(POD)?;
        pod.machine().status(self.sites[site].clock(self.now)).pre_elected.map(Pair::site_of)
    }

    /// Whether both arrays know that they have agreed on who is pre-elected.
    pub fn have_elected(&self, site: usize) -> bool {
        let agreed = |at: usize| {
            let pod = self.array(at)?.pod(POD)?;
            let status = pod.machine().status(self.sites[at].clock(self.now));
            (status.mirrored && status.in_session).then_some(status.pre_elected?)
        };
        (0..2).all(|at| agreed(at) == Some(IDS[site]))
    }

    /// How the array at a site sees the mediator.
    pub fn sees_mediator(&self, site: usize) -> Option<MediatorStatus> {
        let pod = self.array(site)?.pod(POD)?;
        Some(pod.machine().status(self.sites[site].clock(self.now)).mediator)
    }

    /// Whether the mediator's disk says that the array at a site goes on alone.
    pub fn is_granted(&self, site: usize) -> bool {
        self.register().record().is_some_and(|record| record.members.is_only(IDS[site]))
    }

    /// The site of the array that orders, by the word of the one at a site.
    pub fn sequencer(&self, site: usize) -> Option<usize> {
        let pod = self.array(site)?.pod(POD)?;
        pod.machine().history().last().map(|item| Pair::site_of(item.configuration.sequencer))
    }

    /// Takes the mediator back to what its disk held earlier.
    pub fn roll_mediator_back(&mut self, to: Register) {
        self.stop_mediator();
        self.mediator.registers.insert(POD, to);
        self.start_mediator();
    }

    /// Whether a site's way to the mediator leads to another one.
    pub fn set_wrong_mediator(&mut self, site: usize, wrong: bool) {
        self.mediator.wrong[site] = wrong;
        self.mediator_lost(site);
        self.step(site, Input::MediatorDown);
    }

    /// Frames between the arrays take so long, one way.
    pub fn delay_link(&mut self, delay: Nanos) {
        self.network.burst = 0;
        self.network.delay = delay;
    }

    /// A bound on what the disk of a site holds, so much above what is there; `None`: none.
    pub fn leave_room(&mut self, site: usize, bytes: Option<u64>) {
        let media = &self.sites[site].media;
        media.set_capacity(bytes.map(|bytes| media.used_bytes() + bytes));
    }

    /// Bits of segments of a site's disk turn over.
    pub fn rot(&mut self, site: usize, bits: u64) {
        self.rotting = true;
        let segments = self.sites[site].media.list(SEGMENTS).unwrap_or_default();
        for _ in 0..if segments.is_empty() { 0 } else { bits } {
            let name = &segments[self.random.below(segments.len() as u64) as usize];
            let offset = 64 + self.random.below(u64::from(SEGMENT_BYTES_MIN));
            let bit = self.random.below(8) as u8;
            let turned = self.sites[site].media.rot(&format!("{SEGMENTS}/{name}"), offset, bit);
            self.log(|| format!("{site}: bit {bit} of byte {offset} of {name} turns over: {turned:?}"));
        }
    }

    /// Scrubs what a site has stored until no chunk is rotten; says whether it came to that.
    pub fn scrub(&mut self, site: usize) -> bool {
        for _ in 0..4 {
            let Some(array) = self.sites[site].array.as_mut() else { self.fail("who is scrubbed runs") };
            let finished = array.scrub_progress().finished;
            let (scrub, checkpoint) = (array.next_request(), array.next_request());
            self.step(site, Input::Scrub { request: scrub, what: ScrubRequest::Start });
            let done = |pair: &Pair| {
                pair.array(site).is_some_and(|array| array.scrub_progress().finished > finished)
            };
            self.until("a scrub ends", ms(60_000), done);
            let progress = self.array(site).map(Array::scrub_progress);
            let mut found = progress.iter().flat_map(|progress| progress.listed.iter());
            if progress.is_some() && !found.any(|finding| matches!(finding.rot, Rot::Chunk(_))) {
                return true;
            }
            // What was repaired is where the good copy is once a checkpoint says so.
            self.step(site, Input::Checkpoint { request: checkpoint });
            self.run_for(ms(1_500));
        }
        false
    }

    /// The power of a site will fail at one of the next effects on its media.
    pub fn cut_power_at_some_effect(&mut self, site: usize, most: u64) {
        let effects = self.random.below(most);
        self.log(|| format!("{site} will lose power after {effects} effects"));
        self.sites[site].media.cut_power_after(effects);
    }

    /// A manager asks for a snapshot of the whole pod, without waiting for the answer.
    pub fn snapshot(&mut self, site: usize) {
        let suffix = Name::new(&format!("f{}", self.moment)).expect("a good name");
        let change = Manage::CreateSnapshot { volume: None, suffix };
        self.manage(site, Command::Change { pod: POD, change });
    }

    /// A manager has something changed, and hears that it is.
    pub fn change(&mut self, site: usize, change: Manage) -> Managed {
        self.must(site, Command::Change { pod: POD, change })
    }

    /// The same without waiting for the answer.
    pub fn begin_change(&mut self, site: usize, change: Manage) {
        self.manage(site, Command::Change { pod: POD, change });
    }

    /// The other array is to order from now on.
    pub fn begin_switch(&mut self, site: usize, to: usize) {
        self.manage(site, Command::Switch { pod: POD, to: IDS[to] });
    }

    /// A host gives a request up.
    pub fn give_up(&mut self, site: usize, request: Key) {
        if self.sites[site].asked.contains_key(&request) && self.sites[site].array.is_some() {
            self.step(site, Input::Withdraw { pod: POD, request });
        }
    }

    /// A second volume, made, grown or destroyed as managers do.
    pub fn make_volume(&mut self, site: usize, name: &str, size_bytes: u64) -> VolumeId {
        let name = Name::new(name).expect("a good name");
        match self.change(site, Manage::CreateVolume { name, size_bytes }) {
            Managed::Volume(id) => {
                // It is no clone of the volume that hosts write.
                self.frozen.remove(&super::Frozen::Clone(id));
                id
            }
            other => self.fail(&format!("a volume is made: {other:?}")),
        }
    }

    /// Whether what is held here of a volume is level with what hosts of the other side see.
    pub fn holds(&self, site: usize, volume: VolumeId) -> Option<u64> {
        let pod = self.array(site)?.pod(POD)?;
        pod.namespace().volumes.get(&volume).map(|volume| volume.size_bytes)
    }

    /// The clocks of the two arrays go as differently as they may.
    pub fn drift_apart(&mut self) {
        for site in 0..2 {
            self.sites[site].set_drift(self.now, site == 0);
        }
    }

    /// Fails unless exactly one array serves in the end, and goes on doing so.
    pub fn expect_one(&mut self, within: Nanos) -> usize {
        let until = self.now + within;
        loop {
            let on = [0, 1].map(|site| self.shown(site) == Shown::On);
            if on[0] != on[1] && self.survivor().is_some() {
                let winner = usize::from(on[1]);
                self.run_for(ms(500));
                if self.shown(winner) != Shown::On || self.shown(1 - winner) == Shown::On {
                    self.fail("who went on goes on, alone");
                }
                return winner;
            }
            if self.now >= until {
                self.fail("exactly one array goes on");
            }
            self.run_for(ms(1));
        }
    }
}
