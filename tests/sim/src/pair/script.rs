//! Runs as a whole: the beginning that all share, the random run, and the steps that scenarios are written in.

use metropod_core::names::Name;
use metropod_core::operation::Manage;
use metropod_core::{Channel, Command, ManageError, Managed};
use metropod_protocol::{PodId, Serving, Side};

use super::checks::{HEAL, runs};
use super::managers::DELAY;
use super::{Counts, Event, IDS, Key, Nanos, POD, Pair, Plan, SiteFault, VOLUME_BYTES, ms};

/// Between requests of busy hosts.
const BUSY: Nanos = ms(40);

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
    /// A pod with a volume and some content at site 0, stretched; faults strike from the beginning of the baseline on when
    /// `early`.
    pub fn stretch(&mut self, preferred: Option<usize>, early: bool) {
        self.run_for(ms(300));
        let name = Name::new("pod").expect("a good name");
        self.must(0, Command::CreatePod { pod: POD, name });
        let change =
            Manage::CreateVolume { name: Name::new("vol").expect("a good name"), size_bytes: VOLUME_BYTES };
        match self.must(0, Command::Change { pod: POD, change }) {
            Managed::Volume(id) => self.volume = Some(id),
            other => self.fail(&format!("a volume is made: {other:?}")),
        }
        for _ in 0..20 {
            let first = self.random.below(250) * 8;
            let zero = self.random.chance(10);
            let length = 8 * (1 + self.random.below(4));
            self.write(0, first..first + length, zero);
            let span = self.random.below(ms(3));
            self.run_for(span);
        }
        if self.managers.at_work {
            let change = Manage::SetEradicationDelay(DELAY / ms(1));
            self.must(0, Command::Change { pod: POD, change });
        }
        if self.moves {
            self.move_there_and_back();
        }
        if !self.is_home() {
            // The stretch came first: hosts have nothing to do but read what is nowhere else.
            self.frozen.clear();
            self.volume = None;
            return;
        }
        self.must(0, Command::Stretch { pod: POD, peer: IDS[1] });
        if self.moves && self.random.chance(30) {
            self.expect_no_moves();
        }
        self.load(BUSY, false);
        if early {
            return;
        }
        self.heal_within(HEAL);
        let change = Manage::SetPreference(preferred.map(|site| IDS[site]));
        self.must(0, Command::Change { pod: POD, change });
    }

    pub(super) fn must(&mut self, site: usize, command: Command) -> Managed {
        for _ in 0..100 {
            match self.ask(site, command.clone()) {
                Ok(managed) => return managed,
                Err(ManageError::NotConnected) => self.run_for(ms(50)),
                Err(error) => self.fail(&format!("{command:?} succeeds: {error}")),
            }
        }
        self.fail(&format!("{command:?} succeeds in time"))
    }

    /// Sends a management request and waits for its answer.
    fn ask(&mut self, site: usize, command: Command) -> Result<Managed, ManageError> {
        let Some(request) = self.manage(site, command) else { return Err(ManageError::Media) };
        self.answer(site, request)
    }

    pub(super) fn answer(&mut self, site: usize, request: Key) -> Result<Managed, ManageError> {
        for _ in 0..20_000 {
            let results = &mut self.hosts.results;
            if let Some(at) = results.iter().position(|(from, key, _)| (*from, *key) == (site, request)) {
                return results.swap_remove(at).2;
            }
            self.run_for(ms(1));
        }
        self.fail("a management request is answered")
    }

    /// A random run: baseline, faults under load, healing, comparison.
    pub fn run(&mut self) -> Counts {
        let preferred = [None, Some(0), Some(1)][self.random.below(3) as usize];
        let early = self.random.chance(15);
        self.plan = Plan {
            faults: ms(2_000 + self.random.below(9_000)),
            pause: ms([300, 800, 2_500][self.random.below(3) as usize]),
            longest: ms([1_000, 3_000, 6_000][self.random.below(3) as usize]),
        };
        self.stretch(preferred, early);
        if !early && self.random.chance(35) {
            let preferred = [None, Some(0), Some(1)][self.random.below(3) as usize];
            self.add_neighbour(preferred);
            self.hosts.neighbour_percent = [5, 50][self.random.below(2) as usize];
        }
        let pause = [ms(10), BUSY, ms(150)][self.random.below(3) as usize];
        self.load(pause, true);
        if self.managers.at_work {
            (0..2).for_each(|site| self.after(0, Event::Manager { site }));
        }
        self.strike_for(self.plan.faults);
        self.run_for(self.plan.faults);
        self.finish()
    }

    /// Ends all faults, lets the pair heal under light load, and compares everything.
    pub fn finish(&mut self) -> Counts {
        self.end_faults();
        self.load(BUSY, false);
        self.heal_within(HEAL);
        self.run_for(ms(200));
        self.load(0, false);
        self.rest_within(ms(10_000));
        self.heal_within(HEAL);
        self.compare();
        if self.managers.at_work {
            self.expect_ends();
        }
        if self.random.chance(30) {
            // What both hold survives a common loss of power.
            for site in 0..2 {
                self.hurt(site, SiteFault::Power, ms(1));
            }
            self.run_for(ms(2));
            self.heal_within(HEAL);
            self.rest_within(ms(10_000));
            self.compare();
        }
        self.counts
    }

    /// What is destroyed is eradicated, on both arrays alike.
    fn expect_ends(&mut self) {
        let until = self.now + 3 * DELAY;
        while self.awaits_ends() {
            if self.now >= until {
                self.fail("V3: what is destroyed is eradicated in the end");
            }
            self.run_for(ms(20));
        }
        self.rest_within(ms(10_000));
        self.compare();
    }

    // ---- words for scenarios

    /// Sets how busy the hosts are: the longest pause between two requests of a site; 0: idle.
    pub fn hosts(&mut self, pause: Nanos) {
        self.load(pause, false);
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

    /// Waits up to `most`, by chance.
    pub fn some_time(&mut self, most: Nanos) {
        let span = self.random.below(most.max(1));
        self.run_for(span);
    }

    /// A choice of the run's seed.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.random.chance(percent)
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

    /// Waits until both arrays show what they should, and fails if that takes too long.
    pub fn expect(&mut self, shown: [Shown; 2], within: Nanos) {
        let until = self.now + within;
        while [self.shown(0), self.shown(1)] != shown {
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

    /// The site that is alone, if one is.
    pub fn survivor(&self) -> Option<usize> {
        (0..2).find(|site| self.sites[*site].was_alone)
    }
}
