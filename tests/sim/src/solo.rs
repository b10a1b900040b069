//! One array on simulated media: hosts write, flows run in any order, the power goes at any effect.
//!
//! - S1: what was acknowledged is there after any crash, whatever was lost, torn or reordered below the last sync.
//! - S2: a snapshot taken while nothing was in flight holds exactly what the volume held then; none of the volume has a number
//!   that another had, wherever it was taken.
//! - S3: an array opens after any crash, without repair.
//! - S4: one seed, one run: [`Solo::trace`] is equal for two runs of a seed.
//! - S5: what the collector leaves is what a recount of everything that is named finds, no more and no less; a read that
//!   was under way meanwhile shows what it would have shown before.
//! - S6: a scrub finds nothing rotten, whatever is moved, freed or lost in a crash while it reads.
//! - S7: whose the space is, is what a recount of every block of every volume and snapshot finds; and it adds up, whatever
//!   goes on meanwhile.

mod accounting;
mod collecting;
mod movers;
mod power;
mod things;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use metropod_core::names::{Name, SnapshotId, VolumeId};
use metropod_core::operation::{BLOCK_BYTES, Manage};
use metropod_core::task::{Finished, Task};
use metropod_core::{Array, BulkPort, Command, Effect, HostError, Input, ManageError, Managed, Source};
use metropod_journal::Append;
use metropod_journal::media::sim::SimMedia;
use metropod_journal::media::{Durability, Media};
use metropod_protocol::{ArrayId, PodId, RequestId, Span, Time};
use metropod_snapshots::{Image, Rework, VolumeMap};

use crate::executor::run;
use crate::oracle::{Oracle, SECTOR_BYTES};
use crate::payload;
use crate::random::Random;

use collecting::HeldRead;
use things::Thing;

/// Size of the volumes, in bytes: small, so that writes meet.
const VOLUME_BYTES: u64 = 1 << 20;

/// Entries of layers that runs of even seeds keep: so few that they fold all the time.
pub const OVERLAY_ENTRIES: usize = 16;
/// Entries that the others keep: enough for their layers to be merged.
const OVERLAY_ENTRIES_MANY: usize = 400;

/// Layers of one image that are kept.
const OVERLAY_LAYERS: usize = 1;

/// Snapshots compared at each check.
const SNAPSHOTS_CHECKED: usize = 2;

/// Most writes in flight.
const IN_FLIGHT_MAX: usize = 8;

const POD: PodId = PodId([7; 16]);
const ME: ArrayId = ArrayId([1; 16]);

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Acknowledged writes.
    pub acknowledged: u64,
    /// Power cuts.
    pub crashes: u64,
    /// Snapshots taken.
    pub snapshots: u64,
    /// Flows run.
    pub flows: u64,
    /// Bytes compared with the oracle.
    pub checked_bytes: u64,
    /// Things that managers did to clones.
    pub churned: u64,
    /// Runs of layers merged.
    pub merges: u64,
    /// Stacks of layers folded.
    pub folds: u64,
    /// Passes of the collector that were waited for.
    pub collected: u64,
    /// Chunks found dead.
    pub dead_chunks: u64,
    /// Recounts that agreed.
    pub recounts: u64,
    /// Moves of the volume to another pod that were answered.
    pub moves: u64,
    /// Moves that another volume of the name turned back.
    pub turned_back: u64,
    /// Accounts of the space that were made beside everything else.
    pub accounts: u64,
    /// Records that were read and proven beside everything else.
    pub scrubbed: u64,
    /// Writes refused because the store was full.
    pub refused: u64,
    /// Bytes that cleaning moved, as far as power cuts let them be counted.
    pub moved_bytes: u64,
}

/// See the module's text.
pub struct Solo {
    random: Random,
    media: SimMedia,
    now: Time,
    array: Option<Array>,
    volume: Option<VolumeId>,
    oracle: Oracle,
    /// By number.
    snapshots: BTreeMap<u64, Vec<u8>>,
    writes: BTreeMap<RequestId, u64>,
    tasks: Vec<Task>,
    append: Option<Append>,
    answers: VecDeque<(RequestId, Result<Managed, ManageError>)>,
    fetches: VecDeque<(RequestId, Box<metropod_core::Fetch>)>,
    counts: Counts,
    trace: u64,
    starts: u64,
    overlay_entries: usize,
    churning: bool,
    /// Whether the volume moves between pods, and the one that it is in.
    moving: bool,
    home: PodId,
    collecting: bool,
    /// The store's bound, in bytes.
    capacity_bytes: Option<u64>,
    held: Option<HeldRead>,
    things: Vec<Thing>,
}

struct NoPeer;

impl BulkPort for NoPeer {
    fn send(&self, _: ArrayId, _: Vec<Bytes>) {}
}

impl Solo {
    /// A new array with one pod and one volume.
    pub fn new(seed: u64) -> Solo {
        let mut solo = Solo {
            random: Random::new(seed),
            media: SimMedia::new(),
            now: Time(1_000_000_000),
            array: None,
            volume: None,
            oracle: Oracle::default(),
            snapshots: BTreeMap::new(),
            writes: BTreeMap::new(),
            tasks: Vec::new(),
            append: None,
            answers: VecDeque::new(),
            fetches: VecDeque::new(),
            counts: Counts::default(),
            trace: seed,
            starts: 0,
            overlay_entries: if seed.is_multiple_of(2) { OVERLAY_ENTRIES } else { OVERLAY_ENTRIES_MANY },
            churning: false,
            moving: false,
            home: POD,
            collecting: false,
            capacity_bytes: None,
            held: None,
            things: Vec::new(),
        };
        solo.open();
        let name = Name::new("pod").expect("a good name");
        solo.manage(Command::CreatePod { pod: POD, name }).expect("the first pod can be made");
        let change =
            Manage::CreateVolume { name: Name::new("vol").expect("a good name"), size_bytes: VOLUME_BYTES };
        match solo.manage(Command::Change { pod: POD, change }) {
            Ok(Managed::Volume(id)) => solo.volume = Some(id),
            other => panic!("the first volume can be made: {other:?}"),
        }
        solo
    }

    /// Runs `steps` random steps and checks everything at the end.
    pub fn run(&mut self, steps: u64) -> Counts {
        for _ in 0..steps {
            self.step();
        }
        self.ask_checkpoint();
        self.settle();
        self.check_all();
        if self.churning {
            self.wait_for_ends();
        }
        if self.collecting {
            self.recount();
        }
        self.counts
    }

    /// Takes snapshots with writes between them; gives the most entries that the layers of all volumes and snapshots
    /// had when the array was at rest, and the most layers of one.
    pub fn many_snapshots(&mut self, snapshots: u64) -> (usize, usize) {
        let (mut entries_max, mut layers_max) = (0, 0);
        for number in 0..snapshots {
            self.send_write();
            self.send_write();
            self.take_snapshot();
            if number % 16 == 0 {
                self.ask_checkpoint();
            }
            self.settle();
            let pod = self.array.as_ref().and_then(|array| array.pod(POD)).expect("no power is cut");
            let maps = pod.namespace().volumes.keys().filter_map(|id| pod.volume_map(*id));
            let images = pod.namespace().snapshots.keys().filter_map(|id| pod.snapshot_image(*id));
            let images = maps.map(VolumeMap::image).chain(images);
            let mut entries = BTreeMap::new();
            for layers in images.map(Image::layers) {
                layers_max = layers_max.max(layers.len());
                entries.extend(layers.iter().map(|layer| (layer.id(), layer.len())));
            }
            entries_max = entries_max.max(entries.values().sum());
        }
        self.check_all();
        (entries_max, layers_max)
    }

    /// Hash over everything that happened.
    pub fn trace(&self) -> u64 {
        self.trace
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..40 if self.writes.len() < IN_FLIGHT_MAX => self.send_write(),
            40..65 => self.finish_append(),
            65..80 => self.finish_task(),
            80..84 => self.pass_time(Span::millis(20)),
            86..90 if self.churning && self.random.chance(70) => self.churn(),
            84..86 if self.moving && !(self.collecting && self.random.chance(50)) => self.move_volume(),
            84..86 if self.collecting => self.collect_something(),
            86..88 => self.take_snapshot(),
            88..90 => self.ask_checkpoint(),
            90..92 => self.arm_power_cut(),
            92 => self.crash(),
            84..86 => self.pass_time(Span::millis(20)),
            93..95 => {
                self.settle();
                self.check_all();
            }
            _ => self.finish_append(),
        }
        if self.media.is_dark() {
            self.crash();
        }
    }

    fn note(&mut self, word: u64) {
        self.trace = (self.trace ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17);
    }

    // ---- hosts

    fn send_write(&mut self) {
        let Some(volume) = self.volume else { return };
        let sectors = VOLUME_BYTES / SECTOR_BYTES as u64;
        let aligned = self.random.chance(70);
        let unit = if aligned { BLOCK_BYTES / SECTOR_BYTES as u64 } else { 1 };
        let first = self.random.below(sectors / unit) * unit;
        let longest = (sectors - first).min(40);
        let length = if aligned { unit * (1 + self.random.below(3)) } else { 1 + self.random.below(20) };
        let length = length.min(longest);
        let zero = self.random.chance(15);
        let number = self.oracle.send(first..first + length, zero);
        let operation = payload::write(volume, first..first + length, if zero { 0 } else { number });
        let Some(array) = &mut self.array else { return };
        let request = array.next_request();
        self.writes.insert(request, number);
        self.note(number);
        self.input(Input::Host { request, pod: self.home, operation });
    }

    fn take_snapshot(&mut self) {
        self.settle();
        if !self.oracle.is_quiet() || self.array.is_none() {
            return;
        }
        let content = self.read(Source::Volume(self.volume.expect("made at the beginning")));
        let suffix = Name::new(&format!("s{}-{}", self.starts, self.counts.snapshots)).expect("a good name");
        let change = Manage::CreateSnapshot { volume: None, suffix };
        if let Ok(Managed::Snapshots(taken)) = self.manage(Command::Change { pod: self.home, change }) {
            self.counts.snapshots += 1;
            for id in taken.into_iter().filter(|id| Some(id.volume) == self.volume) {
                let before = self.snapshots.insert(id.taken_at, content.clone());
                assert!(before.is_none(), "S2: the number of {id:?} was taken");
            }
        }
    }

    fn ask_checkpoint(&mut self) {
        if let Some(array) = &mut self.array {
            let request = array.next_request();
            self.input(Input::Checkpoint { request });
        }
    }

    // ---- the driver's part

    fn input(&mut self, input: Input) {
        let Some(array) = &mut self.array else { return };
        array.step(self.now, input);
        while let Some(effect) = self.array.as_mut().and_then(Array::next_effect) {
            self.effect(effect);
        }
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Append(append) => {
                assert!(self.append.is_none(), "one append is in flight");
                self.append = Some(append);
            }
            Effect::Run(task) => self.tasks.push(task),
            Effect::Complete { request, result } => self.completed(request, result),
            Effect::Managed { request, result } => self.answers.push_back((request, result)),
            Effect::Fetch { request, fetch } => self.fetches.push_back((request, fetch)),
            Effect::Send { .. } | Effect::Mediator(_) | Effect::Sign { .. } => {
                panic!("an array without peer and mediator sends nothing")
            }
            Effect::StatusChanged { .. } | Effect::Alarm(_) | Effect::Disconnect { .. } => {}
        }
    }

    fn completed(&mut self, request: RequestId, result: Result<(), HostError>) {
        if let Some(number) = self.writes.remove(&request) {
            self.note(number ^ 0x5555);
            match result {
                Ok(()) => {
                    self.counts.acknowledged += 1;
                    self.oracle.acknowledge(number);
                }
                Err(HostError::Withdrawn | HostError::Busy) => self.oracle.refuse(number),
                Err(HostError::NoSpace) => {
                    self.counts.refused += 1;
                    self.oracle.refuse(number);
                }
                // Anything else says nothing about what is in the journal: it stays open until a read settles it.
                Err(_) => {}
            }
        }
    }

    fn finish_append(&mut self) {
        let Some(append) = self.append.take() else { return };
        let result = self.media.write(append.file, append.offset, &[&append.data], Durability::Durable);
        if !self.media.is_dark() {
            self.input(Input::Appended { id: append.id, result });
        }
    }

    fn finish_task(&mut self) {
        if self.tasks.is_empty() {
            return;
        }
        let at = self.random.below(self.tasks.len() as u64) as usize;
        let task = self.tasks.swap_remove(at);
        self.counts.flows += 1;
        let finished = run(task.future);
        if let Finished::Accounted(Ok(account)) = &finished {
            self.check_sum(account);
        }
        if let Finished::Upkept(Ok(upkept)) = &finished {
            match upkept.rework {
                Some(Rework::Merged { .. }) => self.counts.merges += 1,
                Some(Rework::Folded { .. }) => self.counts.folds += 1,
                _ => {}
            }
        }
        if !self.media.is_dark() {
            self.input(Input::Finished(finished));
        }
    }

    fn pass_time(&mut self, span: Span) {
        self.now = self.now + span;
        self.input(Input::Tick);
        // A driver would tick without end.
        let due = self.array.as_ref().and_then(Array::next_deadline);
        assert!(due.is_none_or(|due| due > self.now), "a tick leaves nothing due: {due:?} at {:?}", self.now);
    }

    /// Ends something that is under way, or lets time pass.
    fn go_on(&mut self, span: Span) {
        if self.append.is_some() {
            self.finish_append();
        } else if !self.tasks.is_empty() {
            self.finish_task();
        } else {
            self.pass_time(span);
        }
    }

    /// Lets everything that is under way come to its end.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.media.is_dark() {
                self.crash();
            }
            if self.append.is_some() {
                self.finish_append();
            } else if !self.tasks.is_empty() {
                self.finish_task();
            } else if !self.writes.is_empty() {
                // They may wait for a collection, and that for a read.
                self.end_held_read();
                self.pass_time(Span::millis(20));
            } else {
                return;
            }
        }
        panic!("the array comes to rest: {} writes open", self.writes.len());
    }

    fn manage(&mut self, command: Command) -> Result<Managed, ManageError> {
        let Some(array) = &mut self.array else { return Err(ManageError::Media) };
        let request = array.next_request();
        self.answer_to(request, Input::Manage { request, command })
    }

    /// Puts something in that is answered, and waits for the answer; `Media` if the power went meanwhile.
    fn answer_to(&mut self, request: RequestId, input: Input) -> Result<Managed, ManageError> {
        let start = self.starts;
        self.input(input);
        for _ in 0..10_000 {
            if let Some(at) = self.answers.iter().position(|(answered, _)| *answered == request) {
                return self.answers.remove(at).expect("just found").1;
            }
            // Reads that nobody waits for any more: a host that goes away drops them.
            self.fetches.clear();
            if self.media.is_dark() {
                self.crash();
            }
            if self.starts != start {
                return Err(ManageError::Media);
            }
            self.go_on(Span::millis(20));
        }
        let array = self.array.as_ref().map(|array| (array.collecting(), array.collect_counts()));
        panic!("a management request is answered: {array:?}");
    }

    fn read(&mut self, source: Source) -> Vec<u8> {
        self.read_bytes(None, source, VOLUME_BYTES)
    }

    /// Reads from a pod, or else the volume or a snapshot of it, wherever that is.
    fn read_bytes(&mut self, pod: Option<PodId>, source: Source, length: u64) -> Vec<u8> {
        for _ in 0..10_000 {
            // It may have moved by the time the power is back.
            let source = match (source, self.volume.filter(|_| pod.is_none())) {
                (Source::Volume(_), Some(volume)) => Source::Volume(volume),
                (Source::Snapshot(id), Some(volume)) => Source::Snapshot(SnapshotId { volume, ..id }),
                (source, None) => source,
            };
            let pod = pod.unwrap_or(self.home);
            let Some(array) = &mut self.array else { break };
            let request = array.next_request();
            let start = self.starts;
            self.input(Input::Read { request, pod, source, offset: 0, length, metered: true });
            for _ in 0..10_000 {
                if let Some(at) = self.fetches.iter().position(|(answered, _)| *answered == request) {
                    let (_, fetch) = self.fetches.remove(at).expect("just found");
                    match run(fetch.read()) {
                        Ok(bytes) => return bytes.to_vec(),
                        Err(error) if self.media.is_dark() => {
                            self.note(format!("{error:?}").len() as u64);
                            break;
                        }
                        Err(error) => panic!("stored content can be read: {error:?}"),
                    }
                }
                if self.media.is_dark() || self.starts != start {
                    break;
                }
                self.go_on(Span::millis(20));
            }
            if self.media.is_dark() {
                self.crash();
            }
        }
        panic!("a read is answered");
    }

    // ---- checks

    fn check_all(&mut self) {
        let Some(volume) = self.volume else { return };
        let bytes = self.read(Source::Volume(volume));
        self.counts.checked_bytes += bytes.len() as u64;
        if let Err(violation) = self.oracle.check_and_settle(0, &bytes) {
            panic!("S1: {violation:?}");
        }
        let mut snapshots: Vec<u64> = self.snapshots.keys().copied().collect();
        // All of them cost more than the run itself: a few chosen ones now, each at some time.
        while snapshots.len() > SNAPSHOTS_CHECKED {
            let at = self.random.below(snapshots.len() as u64) as usize;
            snapshots.swap_remove(at);
        }
        for taken_at in snapshots {
            let bytes = self.read(Source::Snapshot(SnapshotId { volume, taken_at }));
            self.counts.checked_bytes += bytes.len() as u64;
            assert!(self.snapshots.get(&taken_at) == Some(&bytes), "S2: snapshot {taken_at} changed");
        }
    }
}
