//! One array: the shipped machine, and a disk on which what was written is durable later, in order.
//!
//! - A1: what is durable is folded by the shipped [`Replay`], exactly as a start reads it.
//! - A2: of what was not durable any prefix survives a crash.
//! - A3: the log is never trimmed, so each catch-up goes by the log.

use std::collections::BTreeMap;

use bytes::Bytes;
use metropod_protocol::{
    Alarm, ArrayId, Chain, DurableRecord, DurableState, Effect, Entitlement, Entry, Index, Input, Machine,
    MediatorRequest, Members, Message, Outcome, PodId, Replay, RequestId, RestartError, Setup, Ticket, Time,
};

use crate::bounds::Bounds;
use crate::mediator::MEDIATOR;
use crate::sealed::Sealed;

/// The pod.
pub const POD: PodId = PodId([7; 16]);
/// Both arrays.
pub const IDS: [ArrayId; 2] = [ArrayId([1; 16]), ArrayId([2; 16])];

/// Something written to the journal.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Item {
    Entry(Entry),
    Record(DurableRecord),
}

/// What leaves the array in a step.
#[derive(Debug)]
pub enum Outgoing {
    /// To the peer.
    Send(Message),
    /// To the mediator.
    Ask(MediatorRequest),
    /// A host operation ended.
    Done(u64, Outcome),
    /// The log was cut: the last entry kept, and the short chains of those dropped.
    Cut(Index, Vec<u64>),
    /// Somebody should look.
    Alarm(Alarm),
}

/// An array.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Array {
    index: usize,
    boot: u8,
    machine: Option<Machine>,
    /// What is durable, as a start reads it.
    disk: Sealed<(DurableState, Vec<Entry>)>,
    written: Vec<(Ticket, Item)>,
    /// Short chains of the log, durable or not.
    chains: Vec<u64>,
    requests: BTreeMap<RequestId, u64>,
    next_request: u64,
}

/// A chain, short enough to be kept in each state.
pub fn short(chain: Chain) -> u64 {
    u64::from_le_bytes(chain.0[..8].try_into().expect("eight bytes"))
}

impl Array {
    /// The array that founds the pod (0), or the one that is invited (1).
    pub fn new(bounds: &Bounds, index: usize, now: Time) -> Array {
        let mut array = Array {
            index,
            boot: 0,
            machine: None,
            disk: Sealed::new(Default::default()),
            written: Vec::new(),
            chains: Vec::new(),
            requests: BTreeMap::new(),
            next_request: 0,
        };
        let setup = array.setup(bounds, (index == 1).then_some(IDS[0]));
        array.machine = Some(match index {
            0 => Machine::found(setup, now),
            _ => Machine::invited(setup, now),
        });
        array
    }

    fn setup(&self, bounds: &Bounds, peer: Option<ArrayId>) -> Setup {
        let mut seed = [0; 32];
        seed[..2].copy_from_slice(&[self.index as u8, self.boot]);
        Setup {
            me: IDS[self.index],
            pod: POD,
            peer,
            mediator: Some(MEDIATOR),
            preferred: None,
            settings: bounds.settings(),
            seed,
        }
    }

    /// The machine, if it runs.
    pub fn machine(&self) -> Option<&Machine> {
        self.machine.as_ref()
    }

    /// Steps the machine, if it runs, and carries out what stays inside the array.
    pub fn step(&mut self, now: Time, input: Input) -> Vec<Outgoing> {
        let Some(machine) = &mut self.machine else { return Vec::new() };
        machine.step(now, input);
        self.drain(now)
    }

    /// Carries out what the machine wants. Signing takes no time, and the suffix is always possible (A3).
    pub fn drain(&mut self, now: Time) -> Vec<Outgoing> {
        let mut out = Vec::new();
        loop {
            let Some(machine) = &mut self.machine else { return out };
            let Some(effect) = machine.next_effect() else { return out };
            match effect {
                Effect::Append { ticket, entry } => {
                    self.chains.push(short(entry.chain));
                    self.written.push((ticket, Item::Entry(entry)));
                }
                Effect::Record { ticket, record } => {
                    if let DurableRecord::Cut { keep } = record {
                        let at = usize::try_from(keep.0).expect("short logs").min(self.chains.len());
                        out.push(Outgoing::Cut(keep, self.chains.split_off(at)));
                    }
                    self.written.push((ticket, Item::Record(record)));
                }
                Effect::Send(message) => out.push(Outgoing::Send(message)),
                Effect::Mediator(request) => out.push(Outgoing::Ask(request)),
                Effect::Sign(statement) => {
                    let signature = Bytes::from_static(b"signed");
                    machine.step(now, Input::Signed { statement, signature });
                }
                Effect::CatchUp { .. } | Effect::AnotherRound { .. } => {
                    machine.step(now, Input::SuffixPossible { after: Index(0) });
                }
                Effect::Done { request, outcome } => {
                    let operation = self.requests.remove(&request).expect("each request ends once");
                    out.push(Outgoing::Done(operation, outcome));
                }
                Effect::Alarm(alarm) => out.push(Outgoing::Alarm(alarm)),
                Effect::Committed { .. }
                | Effect::Ordered { .. }
                | Effect::ForkFreeze { .. }
                | Effect::CatchUpEnded
                | Effect::FellBehind { .. }
                | Effect::StatusChanged => {}
            }
        }
    }

    /// A host's operation.
    pub fn submit(&mut self, now: Time, operation: u64) -> Vec<Outgoing> {
        self.next_request += 1;
        let request = RequestId(self.next_request);
        self.requests.insert(request, operation);
        let descriptor = Bytes::copy_from_slice(&operation.to_le_bytes());
        self.step(now, Input::Submit { request, descriptor, attachment: Bytes::new() })
    }

    /// The oldest open operation is given up.
    pub fn withdraw(&mut self, now: Time) -> Vec<Outgoing> {
        let Some(request) = self.requests.keys().next().copied() else { return Vec::new() };
        self.step(now, Input::Withdraw { request })
    }

    /// Operations without an end.
    pub fn open(&self) -> usize {
        self.requests.len()
    }

    /// Written and not durable.
    pub fn unsynced(&self) -> usize {
        self.written.len()
    }

    /// Everything written is durable.
    pub fn sync(&mut self, now: Time) -> Vec<Outgoing> {
        let Some((through, _)) = self.written.last() else { return Vec::new() };
        let through = *through;
        self.fold(usize::MAX);
        self.step(now, Input::Durable { through })
    }

    /// The first `count` written items reach the disk (A1).
    fn fold(&mut self, count: usize) {
        let (state, entries) = (*self.disk).clone();
        let mut replay = Replay::new(state);
        entries.into_iter().for_each(|entry| replay.entry(entry));
        let count = count.min(self.written.len());
        for (ticket, item) in self.written.drain(..count) {
            match item {
                Item::Entry(entry) => replay.entry(entry),
                Item::Record(record) => replay.record(ticket, &record),
            }
        }
        self.disk = Sealed::new(replay.finish());
    }

    /// Dies; the first `survive` written items reach the disk (A2).
    pub fn crash(&mut self, survive: usize) {
        self.fold(survive);
        self.written.clear();
        self.requests.clear();
        self.machine = None;
        self.boot += 1;
        self.next_request = 0;
        self.chains = self.disk.1.iter().map(|entry| short(entry.chain)).collect();
    }

    /// Starts from the disk.
    pub fn restart(&mut self, bounds: &Bounds, now: Time) -> Result<Vec<Outgoing>, RestartError> {
        let (state, entries) = (*self.disk).clone();
        let setup = self.setup(bounds, Some(IDS[1 - self.index]));
        self.machine = Some(Machine::restart(setup, state, entries, now)?);
        Ok(self.drain(now))
    }

    /// Whether what is durable entitles this array to go on without asking anyone.
    pub fn has_durable_right(&self) -> bool {
        let (state, entries) = &*self.disk;
        if state.out_of_sync.is_some() || state.known_config == Index(0) {
            return false;
        }
        let me = IDS[self.index];
        entries
            .iter()
            .filter(|entry| entry.index >= state.known_config)
            .filter_map(Entry::configuration)
            .map(|configuration| configuration.entitles(me))
            .reduce(Entitlement::meet)
            .is_some_and(|entitlement| entitlement == Entitlement::Alone)
    }

    /// Sole member by its newest configuration, and that one recorded.
    pub fn is_sole(&self) -> bool {
        let Some(machine) = &self.machine else { return false };
        machine.history().last().is_some_and(|item| {
            item.configuration.members == Members::one(IDS[self.index]) && machine.committed() >= item.first
        })
    }

    /// Short chains of the log.
    pub fn chains(&self) -> &[u64] {
        &self.chains
    }
}
