//! An array of the world: its clock, its journal and manifest, and a core that keeps nothing but the chain of every entry.

use super::*;
use bytes::Bytes;
use metropod_protocol::mediator::ServiceInput;

#[derive(Clone, Debug)]
pub enum Item {
    Entry(Entry),
    Record(Ticket, DurableRecord),
}

/// What a checkpoint or a flip stores: the stores' content (as chains) and the machine's state.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    pub state: DurableState,
    pub chains: Vec<Chain>,
}

pub struct Array {
    pub index: usize,
    pub machine: Option<Machine>,
    pub boot: u64,
    pub tick_at: u64,
    pub frozen_until: u64,
    offset: u64,
    drift_ppm: i64,

    pub journal: Vec<(Ticket, Item)>,
    pub synced: usize,
    pub syncing: bool,
    pub stalled: bool,
    pub manifest: Manifest,
    /// Chain of every entry of the log, from index 1.
    pub chains: Vec<Chain>,
    pub durable_entries: u64,
    pub next_request: u64,
    pub requests: BTreeMap<RequestId, u64>,
    pub forks: Vec<ConfigId>,
    pub alarms: Vec<Alarm>,
    pub born: bool,
}

impl Array {
    pub fn new(index: usize, random: &mut Random) -> Array {
        Array {
            index,
            machine: None,
            boot: 0,
            tick_at: u64::MAX,
            frozen_until: 0,
            offset: random.below(ms(1_000_000)),
            drift_ppm: random.below(1000) as i64 - 500,
            journal: Vec::new(),
            synced: 0,
            syncing: false,
            stalled: false,
            manifest: Manifest::default(),
            chains: Vec::new(),
            durable_entries: 0,
            next_request: 0,
            requests: BTreeMap::new(),
            forks: Vec::new(),
            alarms: Vec::new(),
            born: false,
        }
    }

    /// This array's clock at a time of the world.
    pub fn clock(&self, world: u64) -> Time {
        let drift = (world as i128 * self.drift_ppm as i128) / 1_000_000;
        Time((self.offset as i128 + world as i128 + drift) as u64)
    }

    /// When this array's clock shows `time`, rounded up.
    pub fn world_time(&self, time: Time) -> u64 {
        let local = time.0 as i128 - self.offset as i128;
        let mut world = (local * 1_000_000 / (1_000_000 + self.drift_ppm as i128)).max(0) as u64;
        while self.clock(world) < time {
            world += 1;
        }
        world
    }
}

impl World {
    fn setup(&mut self, array: usize, peer: Option<ArrayId>) -> Setup {
        Setup {
            me: IDS[array],
            pod: POD,
            peer,
            // Met anew at each start.
            mediator: None,
            preferred: self.preferred,
            settings: self.settings,
            seed: self.random.bytes(),
        }
    }

    /// The pod begins at array 0 and is stretched to array 1.
    pub fn found(&mut self) {
        let setup = self.setup(0, None);
        let now = self.arrays[0].clock(self.now);
        self.arrays[0].machine = Some(Machine::found(setup, now));
        let setup = self.setup(1, Some(IDS[0]));
        let now = self.arrays[1].clock(self.now);
        self.arrays[1].machine = Some(Machine::invited(setup, now));
        for array in 0..2 {
            self.arrays[array].born = true;
            self.drain(array);
        }
        self.step(0, Input::Invite { peer: IDS[1] });
    }

    pub fn submit(&mut self, array: usize) -> Option<u64> {
        self.arrays[array].machine.as_ref()?;
        self.next_op += 1;
        let op = self.next_op;
        self.arrays[array].next_request += 1;
        let request = RequestId(self.arrays[array].next_request);
        self.arrays[array].requests.insert(request, op);
        self.oracle.submitted(op, array);
        self.log(|| format!("{array} submit op {op} request {}", request.0));
        let descriptor = Bytes::copy_from_slice(&op.to_le_bytes());
        let attachment = self.payload.clone();
        self.step(array, Input::Submit { request, descriptor, attachment });
        if self.faults_until > self.now && self.random.chance(5) {
            self.step(array, Input::Withdraw { request });
        }
        Some(op)
    }

    pub fn carry_out(&mut self, array: usize, effect: Effect) {
        match effect {
            Effect::Append { ticket, entry } => {
                self.log(|| format!("{array} append {:?} {:?}", entry.index, entry.configuration()));
                let chains = &mut self.arrays[array].chains;
                assert_eq!(chains.len() as u64 + 1, entry.index.0, "entries are appended in order");
                chains.push(entry.chain);
                let (head, attachment) = entry.encode();
                let entry = Entry::decode(head, attachment).expect("what is written can be read");
                self.arrays[array].journal.push((ticket, Item::Entry(entry)));
            }
            Effect::Record { ticket, record } => {
                self.log(|| format!("{array} record {record:?}"));
                if let DurableRecord::Cut { keep } = record {
                    oracle::cut(self, array, keep);
                    self.arrays[array].chains.truncate(keep.0 as usize);
                    let durable = &mut self.arrays[array].durable_entries;
                    *durable = (*durable).min(keep.0);
                }
                let (ticket, record) = DurableRecord::decode(record.encode(ticket)).expect("can be read");
                self.arrays[array].journal.push((ticket, Item::Record(ticket, record)));
            }
            Effect::Send(message) => self.send(array, message),
            Effect::Mediator(request) => {
                self.log(|| format!("{array} -> M {request:?}"));
                if let Some(session) = self.mediator_sessions[array] {
                    let request = MediatorRequest::decode(request.encode()).expect("can be read");
                    self.send_to_mediator(session, ServiceInput::Request { session, request });
                }
            }
            Effect::Sign(statement) => {
                let boot = self.arrays[array].boot;
                self.after(ms(1) / 5, Event::Signed { array, boot, statement });
            }
            Effect::Committed { through } => oracle::committed(self, array, through),
            Effect::Ordered { .. } => {}
            Effect::Done { request, outcome } => {
                let op = self.arrays[array].requests.remove(&request).expect("each request ends once");
                self.log(|| format!("{array} done op {op} {outcome:?}"));
                oracle::done(self, array, op, outcome);
            }
            Effect::ForkFreeze { config, .. } => self.arrays[array].forks.push(config),
            Effect::CatchUp { .. } => {
                self.log(|| format!("{array} catch up"));
                if !self.hold_catch_up {
                    self.catch_up(array);
                }
            }
            Effect::AnotherRound { .. } => self.start_round(array),
            Effect::CatchUpEnded | Effect::FellBehind { .. } | Effect::StatusChanged => {}
            Effect::Alarm(alarm) => {
                self.log(|| format!("{array} ALARM {alarm:?}"));
                self.arrays[array].alarms.push(alarm);
                // Where there is another mediator than at first, an array that has not heard of it says so.
                let other_mediator = alarm == Alarm::WrongMediator && self.mediator_id != MEDIATOR;
                let harmless =
                    other_mediator || matches!(alarm, Alarm::PeerEjected | Alarm::PeerTooFarBehind);
                assert!(harmless, "{alarm:?} at array {array}: {}", self.describe());
            }
        }
    }

    /// The core's part: by the log alone if it is held, else by copying the state.
    pub fn catch_up(&mut self, survivor: usize) {
        if self.random.chance(50) {
            self.step(survivor, Input::SuffixPossible { after: Index(0) });
        } else {
            self.start_round(survivor);
        }
    }

    pub fn start_round(&mut self, survivor: usize) {
        let machine = self.machine(survivor);
        let base = machine.position(machine.committed()).expect("the commit index is held");
        let chains = self.arrays[survivor].chains[..base.index.0 as usize].to_vec();
        let (from_boot, to_boot) = (self.arrays[survivor].boot, self.arrays[1 - survivor].boot);
        let delay = ms(1) + self.random.below(ms(60));
        self.after(delay, Event::RoundArrives { from: survivor, from_boot, to_boot, chains, base });
    }

    pub fn round_arrives(
        &mut self,
        from: usize,
        from_boot: u64,
        to_boot: u64,
        chains: Vec<Chain>,
        base: Position,
    ) {
        let to = 1 - from;
        if self.arrays[to].boot != to_boot || self.arrays[from].boot != from_boot {
            return;
        }
        let Some(machine) = &self.arrays[to].machine else { return };
        if machine.out_of_sync().is_none() || self.net.connection[to] == 0 || !self.net.open[from] {
            return;
        }
        let Some(state) = machine.state_after_flip(base) else { return };
        let chains = chains[..state.base.index.0 as usize].to_vec();
        self.log(|| format!("{to} flips to {base:?}"));
        let manifest = Box::new(Manifest { state, chains });
        let delay = ms(1) + self.random.below(ms(10));
        self.after(delay, Event::Manifest { array: to, boot: to_boot, manifest, flip: true });
    }

    pub fn manifest_durable(&mut self, array: usize, boot: u64, manifest: Manifest, flip: bool) {
        if self.arrays[array].boot != boot || self.arrays[array].machine.is_none() {
            return;
        }
        let state = DurableState::decode(manifest.state.encode()).expect("can be read");
        let base = state.base;
        if flip {
            let older = base.index < self.arrays[array].manifest.state.base.index;
            if self.machine(array).out_of_sync().is_none() || older {
                return;
            }
            let own = self.machine(array).position(base.index) == Some(base);
            self.arrays[array].manifest = manifest.clone();
            if !own {
                self.arrays[array].chains = manifest.chains;
                self.arrays[array].durable_entries = base.index.0;
            }
            self.step(array, Input::Flipped(Box::new(state)));
            // The survivor's core hears of the flip and sends the rest as log.
            let survivor = 1 - array;
            if self.arrays[survivor].machine.is_some() {
                self.step(survivor, Input::SuffixPossible { after: base.index });
            }
        } else if base.index >= self.arrays[array].manifest.state.base.index {
            self.arrays[array].manifest = manifest;
            self.step(array, Input::Trim { through: base.index });
        }
    }

    pub fn checkpoint(&mut self, array: usize) {
        let Some(machine) = &self.arrays[array].machine else { return };
        let state = machine.durable_state(machine.committed(), true);
        let chains = self.arrays[array].chains[..state.base.index.0 as usize].to_vec();
        let boot = self.arrays[array].boot;
        let delay = self.random.below(ms(5));
        let manifest = Box::new(Manifest { state, chains });
        self.after(delay, Event::Manifest { array, boot, manifest, flip: false });
    }

    // ---- journal

    /// Starts a sync of everything written, unless one runs.
    pub fn sync(&mut self, array: usize) {
        let this = &mut self.arrays[array];
        if this.machine.is_none() || this.syncing || this.stalled || this.synced == this.journal.len() {
            return;
        }
        this.syncing = true;
        let items = this.journal.len();
        let through = this.journal[items - 1].0;
        let boot = this.boot;
        let delay = ms(1) / 20 + self.random.below(ms(1));
        self.after(delay, Event::Synced { array, boot, through, items });
    }

    pub fn synced(&mut self, array: usize, boot: u64, through: Ticket, items: usize) {
        let this = &mut self.arrays[array];
        if this.boot != boot {
            return;
        }
        this.syncing = false;
        if this.stalled {
            return;
        }
        for (_, item) in &this.journal[this.synced..items] {
            match item {
                Item::Entry(entry) => this.durable_entries = entry.index.0,
                Item::Record(_, DurableRecord::Cut { keep }) => {
                    this.durable_entries = this.durable_entries.min(keep.0)
                }
                Item::Record(..) => {}
            }
        }
        this.synced = items;
        self.step(array, Input::Durable { through });
    }

    /// What is not synced survives as any prefix.
    pub fn crash(&mut self, array: usize) {
        let unsynced = (self.arrays[array].journal.len() - self.arrays[array].synced) as u64;
        let survive = self.random.below(unsynced + 1) as usize;
        self.crash_keeping(array, survive);
    }

    /// The first `survive` items that are not synced survive.
    pub fn crash_keeping(&mut self, array: usize, survive: usize) {
        if self.arrays[array].machine.is_none() {
            return;
        }
        let this = &mut self.arrays[array];
        this.machine = None;
        this.boot += 1;
        this.tick_at = u64::MAX;
        this.frozen_until = 0;
        this.syncing = false;
        this.stalled = false;
        let unsynced = this.journal.len() - this.synced;
        this.journal.truncate(this.synced + survive);
        this.synced = this.journal.len();
        for (_, op) in std::mem::take(&mut this.requests) {
            self.oracle.lost(op);
        }
        let connection = self.net.connection[array];
        self.net.connection[array] = 0;
        self.disconnect_mediator(array);
        if connection != 0 {
            let delay = self.random.below(ms(20));
            self.after(delay, Event::Link { array: 1 - array, connection, up: false });
        }
        self.rebuild(array);
        self.log(|| format!("{array} crashes, {survive} of {unsynced} unsynced items survive"));
    }

    /// What the disk holds, as chains.
    fn rebuild(&mut self, array: usize) -> (DurableState, Vec<Entry>) {
        let this = &mut self.arrays[array];
        let mut replay = Replay::new(this.manifest.state.clone());
        for (_, item) in &this.journal {
            match item {
                Item::Entry(entry) => replay.entry(entry.clone()),
                Item::Record(ticket, record) => replay.record(*ticket, record),
            }
        }
        let (state, entries) = replay.finish();
        this.chains = this.manifest.chains.clone();
        this.chains.extend(entries.iter().map(|entry| entry.chain));
        this.durable_entries = this.chains.len() as u64;
        (state, entries)
    }

    /// Both arrays have it in their logs that one is to leave, or none.
    pub fn leave(&mut self, leaver: Option<usize>) {
        self.leaving = leaver.map(|leaver| IDS[leaver]);
        for array in 0..2 {
            if self.arrays[array].machine.is_some() {
                self.step(array, Input::Leave(self.leaving));
            }
        }
    }

    /// Whoever orders is asked to let the other order, or to go on.
    pub fn switch(&mut self, to: usize) {
        for array in 0..2 {
            if self.arrays[array].machine.is_some() {
                self.step(array, Input::Switch(IDS[to]));
            }
        }
    }

    pub fn restart(&mut self, array: usize) {
        assert!(self.arrays[array].machine.is_none());
        let (state, entries) = self.rebuild(array);
        let setup = self.setup(array, Some(IDS[1 - array]));
        let now = self.arrays[array].clock(self.now);
        self.log(|| format!("{array} restarts with {state:?} and {} entries", entries.len()));
        let machine =
            Machine::restart(setup, state, entries, now).expect("what was written can be restarted");
        self.arrays[array].machine = Some(machine);
        self.drain(array);
        self.step(array, Input::Leave(self.leaving));
        if self.net.open == [true; 2] {
            self.connect();
        }
        self.connect_mediator(array);
    }
}
