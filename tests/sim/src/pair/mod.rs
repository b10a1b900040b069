//! Two whole arrays, their mediator and their hosts, in virtual time, from one seed.
//!
//! ```text
//!   queue ─► event ─► array / executor / media / connection / mediator / host ─► effects ─► queue
//! ```
//! Arrays run the shipped core and the mediator the shipped service; media, connections, clocks and hosts are models.
//!
//! - P1: after every event the oracles of checks.rs look at the whole world.
//! - P2: one seed, one run: [`Pair::trace`] is equal for two runs of a seed.
//! - P3: an event of an array belongs to one boot; it is void after a crash and waits while the array is frozen.

mod checks;
mod faults;
mod hosts;
mod managers;
mod mediator;
mod movers;
mod neighbour;
mod network;
mod parting;
mod scenario;
mod script;
mod site;

use std::collections::BTreeMap;

use metropod_core::names::{SnapshotId, VolumeId};
use metropod_core::{Array, Channel};
use metropod_protocol::{ArrayId, MediatorId, PodId, RequestId, Span};

use crate::random::Random;
use crate::register::{History, Moment};

pub use faults::{Plan, SiteFault};
pub use neighbour::NEIGHBOUR;
pub use scenario::Shown;

use faults::FaultEvent;
use mediator::{Mediator, MediatorEvent};
use network::{Network, NetworkEvent};
use site::{Site, SiteEvent};

/// The arrays, by site.
pub const IDS: [ArrayId; 2] = [ArrayId([1; 16]), ArrayId([2; 16])];

/// The pod.
pub const POD: PodId = PodId([7; 16]);

/// The mediator.
pub const MEDIATOR: MediatorId = MediatorId([9; 16]);

/// Size of the volume, in bytes: small, so that writes meet.
pub const VOLUME_BYTES: u64 = 1 << 20;

/// Nanoseconds of virtual time.
pub type Nanos = u64;

/// Milliseconds as virtual time.
pub const fn ms(count: u64) -> Nanos {
    count * 1_000_000
}

/// Microseconds as virtual time.
pub const fn us(count: u64) -> Nanos {
    count * 1_000
}

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events.
    pub events: u64,
    /// Acknowledged writes.
    pub acknowledged: u64,
    /// Reads answered and checked.
    pub reads: u64,
    /// Host requests that ended in an error.
    pub errors: u64,
    /// Crashes of an array.
    pub crashes: u64,
    /// Times an array went on alone.
    pub alone: u64,
    /// Times an array was marked out of sync.
    pub behind: u64,
    /// Snapshots and clones compared.
    pub snapshots: u64,
    /// Requests of managers that were done.
    pub managed: u64,
    /// Collections that began while a round was under way.
    pub collected_in_rounds: u64,
    /// Counts of whose the space is that ended, and added up.
    pub accounts: u64,
    /// Of them, those with something that was held for no volume or snapshot.
    pub accounts_with_held: u64,
    /// Moves and stretches asked for at once of which one was refused.
    pub moves_or_stretches_refused: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.events += other.events;
        self.acknowledged += other.acknowledged;
        self.reads += other.reads;
        self.errors += other.errors;
        self.crashes += other.crashes;
        self.alone += other.alone;
        self.behind += other.behind;
        self.snapshots += other.snapshots;
        self.managed += other.managed;
        self.collected_in_rounds += other.collected_in_rounds;
        self.accounts += other.accounts;
        self.accounts_with_held += other.accounts_with_held;
        self.moves_or_stretches_refused += other.moves_or_stretches_refused;
    }
}

enum Event {
    Site {
        site: usize,
        boot: u64,
        what: SiteEvent,
    },
    Network(NetworkEvent),
    Mediator(MediatorEvent),
    Fault(FaultEvent),
    /// The hosts at a site do something.
    Host {
        site: usize,
    },
    /// The manager at a site does something.
    Manager {
        site: usize,
    },
}

/// See the module's text.
pub struct Pair {
    seed: u64,
    now: Nanos,
    moment: Moment,
    queue: BTreeMap<(Nanos, u64), Event>,
    queued: u64,
    random: Random,
    sites: [Site; 2],
    network: Network,
    mediator: Mediator,
    history: History,
    volume: Option<VolumeId>,
    /// Snapshots and clones, and when they were taken.
    frozen: BTreeMap<Frozen, std::ops::Range<Moment>>,
    hosts: hosts::Load,
    neighbour: neighbour::Neighbour,
    managers: managers::Managers,
    /// The volume moves between pods before its own is stretched.
    moves: bool,
    /// Between counts of whose the space is.
    accounting: Option<Span>,
    plan: Plan,
    faults_until: Nanos,
    /// Bits of what is stored turn over: damage is found, and mended.
    rotting: bool,
    counts: Counts,
    trace: u64,
    verbose: bool,
}

/// Content that does not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Frozen {
    Snapshot(SnapshotId),
    Clone(VolumeId),
}

impl Pair {
    /// Two empty arrays that run, connected, with a reachable mediator.
    pub fn new(seed: u64) -> Pair {
        let mut random = Random::new(seed);
        let sites = [Site::new(0, &mut random), Site::new(1, &mut random)];
        let mut pair = Pair {
            seed,
            now: ms(1_000),
            moment: 1,
            queue: BTreeMap::new(),
            queued: 0,
            sites,
            network: Network::new(&mut random),
            mediator: Mediator::new(),
            history: History::new(VOLUME_BYTES / crate::payload::SECTOR_BYTES as u64),
            volume: None,
            frozen: BTreeMap::new(),
            hosts: hosts::Load::default(),
            neighbour: neighbour::Neighbour::default(),
            managers: managers::Managers::new(seed),
            moves: false,
            accounting: None,
            plan: Plan::default(),
            faults_until: 0,
            rotting: false,
            counts: Counts::default(),
            trace: seed,
            random,
            verbose: false,
        };
        pair.start_mediator();
        pair.start_network();
        for site in 0..2 {
            pair.boot(site);
        }
        pair
    }

    /// Has arrays count whose the space is, all the time, from their next start on.
    pub fn accounting(mut self) -> Pair {
        self.accounting = Some(Span::millis(100));
        self
    }

    /// Prints what happens.
    pub fn verbose(mut self, verbose: bool) -> Pair {
        self.verbose = verbose;
        self
    }

    /// Hash over everything that happened.
    pub fn trace(&self) -> u64 {
        self.trace
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Virtual time.
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// The array at a site, if it runs.
    pub fn array(&self, site: usize) -> Option<&Array> {
        self.sites[site].array.as_ref()
    }

    /// Lets virtual time pass.
    pub fn run_for(&mut self, span: Nanos) {
        let until = self.now + span;
        while self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= until) {
            self.next_event();
        }
        self.now = until;
    }

    fn next_event(&mut self) {
        let Some(((at, number), event)) = self.queue.pop_first() else { return };
        self.now = at;
        self.counts.events += 1;
        self.note(at ^ number.rotate_left(40));
        self.handle(event);
        self.check_world();
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Site { site, boot, what } => {
                if self.sites[site].boot != boot {
                    return;
                }
                if self.sites[site].frozen {
                    self.sites[site].deferred.push_back(what);
                    return;
                }
                self.site_event(site, what);
            }
            Event::Network(event) => self.network_event(event),
            Event::Mediator(event) => self.mediator_event(event),
            Event::Fault(event) => self.fault_event(event),
            Event::Host { site } => self.host_turn(site),
            Event::Manager { site } => self.manager_turn(site),
        }
    }

    fn at(&mut self, at: Nanos, event: Event) {
        self.queued += 1;
        self.queue.insert((at.max(self.now), self.queued), event);
    }

    fn after(&mut self, span: Nanos, event: Event) {
        self.at(self.now + span, event);
    }

    fn site_after(&mut self, span: Nanos, site: usize, what: SiteEvent) {
        let boot = self.sites[site].boot;
        self.after(span, Event::Site { site, boot, what });
    }

    /// A moment after all earlier ones.
    fn tick(&mut self) -> Moment {
        self.moment += 1;
        self.moment
    }

    fn note(&mut self, word: u64) {
        self.trace = (self.trace ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17);
    }

    fn log(&self, text: impl FnOnce() -> String) {
        if self.verbose {
            eprintln!("{:>10.3} {}", self.now as f64 / 1e6, text());
        }
    }

    /// The site that holds the array.
    fn site_of(id: ArrayId) -> usize {
        IDS.iter().position(|known| *known == id).expect("there are two arrays")
    }
}

/// A host's or manager's request at one array.
type Key = RequestId;

fn name_of(channel: Channel) -> &'static str {
    match channel {
        Channel::Sync => "sync",
        Channel::Bulk => "bulk",
    }
}
