//! Runs as a whole: the beginning that all share, the random run, and the end that all share.

use metropod_core::names::Name;
use metropod_core::operation::Manage;
use metropod_core::{Command, ManageError, Managed};

use super::checks::HEAL;
use super::managers::DELAY;
use super::{Counts, Event, IDS, Key, Nanos, POD, Pair, Plan, SiteFault, VOLUME_BYTES, ms};

/// Between requests of busy hosts.
const BUSY: Nanos = ms(40);

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
}
