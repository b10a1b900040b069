//! Scrubbing in virtual time: at its pace, with progress that only rises, by itself after a week, and beside everything else.

use std::sync::Arc;

use bytes::Bytes;
use metropod_core::names::{Name, VolumeId};
use metropod_core::operation::Manage;
use metropod_core::task::Task;
use metropod_core::{
    AccountConfig, Alarm, Array, ArrayConfig, BulkPort, CollectConfig, Command, Effect, Input, Managed,
    OverlayLimits, ScrubConfig, ScrubRequest, ScrubState,
};
use metropod_dedupe::{Rot, SEGMENT_BYTES_MIN, StoreConfig, segment_path};
use metropod_journal::JournalConfig;
use metropod_journal::media::sim::{Fault, Operation, SimMedia};
use metropod_journal::media::{Cause, Durability, Io, Media};
use metropod_protocol::{ArrayId, PodId, Settings, Span, Time};
use metropod_sim::executor::run;
use metropod_sim::payload;

const ME: ArrayId = ArrayId([1; 16]);
const POD: PodId = PodId([7; 16]);
const VOLUME_BYTES: u64 = 64 << 20;
/// 64 KiB.
const WRITE_SECTORS: u64 = 128;
const WRITES: u64 = 64;
const RATE: u64 = 1 << 20;
const EVERY: Span = Span::millis(7 * 24 * 3_600 * 1_000);

struct NoPeer;

impl BulkPort for NoPeer {
    fn send(&self, _: ArrayId, _: Vec<Bytes>) {}
}

/// An array whose flows, but for those that are held back, take no time.
struct World {
    now: Time,
    array: Array,
    media: SimMedia,
    tasks: Vec<Task>,
    holds_scrub: bool,
    managed: Option<Managed>,
    completed: u64,
    alarms: Vec<Alarm>,
}

impl World {
    fn new() -> World {
        let (now, media) = (Time(1_000_000_000), SimMedia::new());
        let journal =
            JournalConfig { segment_bytes: 5 << 20, budget_bytes: 40 << 20, ..JournalConfig::new(ME.0, 1) };
        let config = ArrayConfig {
            me: ME,
            journal,
            store: StoreConfig { segment_bytes: SEGMENT_BYTES_MIN, ..StoreConfig::new(ME.0) },
            settings: Settings::default(),
            overlay: OverlayLimits::default(),
            collect: CollectConfig::default(),
            scrub: ScrubConfig { bytes_per_s: RATE, every: Some(EVERY) },
            account: AccountConfig { every: None },
            seed: [3; 32],
        };
        let io = Io::inline(Arc::new(media.clone()));
        let array = run(Array::open(config, io, Arc::new(NoPeer), now)).expect("an empty media opens");
        let (tasks, alarms) = (Vec::new(), Vec::new());
        World { now, array, media, tasks, holds_scrub: false, managed: None, completed: 0, alarms }
    }

    /// With a volume of which [`WRITES`] are stored.
    fn filled() -> (World, VolumeId) {
        let mut world = World::new();
        let name = |name: &str| Name::new(name).expect("a good name");
        world.ask(|request| Input::Manage {
            request,
            command: Command::CreatePod { pod: POD, name: name("pod") },
        });
        let change = Manage::CreateVolume { name: name("vol"), size_bytes: VOLUME_BYTES };
        let command = Command::Change { pod: POD, change };
        let Managed::Volume(volume) = world.ask(|request| Input::Manage { request, command }) else {
            panic!("a volume is made")
        };
        (0..WRITES).for_each(|number| world.write(volume, number, number));
        world.ask(|request| Input::Checkpoint { request });
        (world, volume)
    }

    fn ask(&mut self, input: impl FnOnce(metropod_protocol::RequestId) -> Input) -> Managed {
        self.managed = None;
        let request = self.array.next_request();
        self.step(input(request));
        self.managed.take().expect("flows take no time")
    }

    fn scrub(&mut self, what: ScrubRequest) {
        assert_eq!(self.ask(|request| Input::Scrub { request, what }), Managed::Done);
    }

    fn write(&mut self, volume: VolumeId, place: u64, number: u64) {
        let (request, before) = (self.array.next_request(), self.completed);
        let first = place * WRITE_SECTORS;
        // Odd numbers do not compress.
        let operation = payload::write(volume, first..first + WRITE_SECTORS, 2 * number + 1);
        self.step(Input::Host { request, pod: POD, operation });
        assert_eq!(self.completed, before + 1, "hosts do not wait");
    }

    fn step(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            self.array.step(self.now, input);
            while let Some(effect) = self.array.next_effect() {
                match effect {
                    Effect::Append(append) => {
                        let data = [&append.data[..]];
                        let result = self.media.write(append.file, append.offset, &data, Durability::Durable);
                        inputs.push(Input::Appended { id: append.id, result });
                    }
                    Effect::Run(task) => self.tasks.push(task),
                    Effect::Complete { result, .. } => {
                        assert_eq!(result, Ok(()));
                        self.completed += 1;
                    }
                    Effect::Managed { result, .. } => self.managed = Some(result.expect("it can be done")),
                    Effect::Alarm(alarm) => self.alarms.push(alarm),
                    Effect::Fetch { .. } | Effect::StatusChanged { .. } | Effect::Disconnect { .. } => {}
                    Effect::Send { .. } | Effect::Mediator(_) | Effect::Sign { .. } => panic!("it is alone"),
                }
            }
            let held = self.holds_scrub;
            let next = self.tasks.iter().position(|task| !(held && task.name == "scrub"));
            if let (true, Some(next)) = (inputs.is_empty(), next) {
                inputs.push(Input::Finished(run(self.tasks.remove(next).future)));
            }
        }
    }

    /// Goes to the next moment at which the array wants to be stepped.
    fn turn(&mut self) {
        let next = self.array.next_deadline().expect("the next scrub is due some day");
        self.now = self.now.max(next);
        self.step(Input::Tick);
    }

    fn run_scrub(&mut self) -> Span {
        let (began, finished) = (self.now, self.array.scrub_progress().finished);
        while self.array.scrub_progress().finished == finished {
            let before = self.array.scrub_progress().clone();
            self.turn();
            let after = self.array.scrub_progress();
            assert!(after.bytes_done >= before.bytes_done && after.records >= before.records);
            assert!(after.segments_done <= before.segments_done + 1, "one segment per flow");
        }
        self.now.since(began)
    }
}

#[test]
fn a_scrub_reads_everything_at_its_pace_and_the_next_begins_after_a_week() {
    let (mut world, _) = World::filled();
    world.scrub(ScrubRequest::Start);
    let took = world.run_scrub();
    let progress = world.array.scrub_progress().clone();
    let stats = world.array.store().stats();
    assert_eq!((progress.state, progress.findings), (ScrubState::Resting, 0));
    assert_eq!((progress.bytes_done, progress.bytes_left), (stats.segment_bytes, 0));
    assert_eq!((progress.segments_done, progress.records), (stats.segments, stats.chunks));
    let at_pace = Span(progress.bytes_done * 1_000_000_000 / RATE);
    println!("{} bytes in {} ms", progress.bytes_done, took.0 / 1_000_000);
    assert!(progress.segments_done > 20 && took <= at_pace && took.0 >= at_pace.0 / 100 * 99);
    let ended = world.now;
    world.turn();
    while world.array.scrub_progress().state == ScrubState::Resting {
        world.turn();
    }
    assert_eq!(world.now.since(ended), EVERY);
    assert_eq!(world.array.scrub_progress().began, Some(world.now));
    assert_eq!(world.alarms, []);
}

#[test]
fn a_rotten_chunk_is_one_finding_and_one_alarm() {
    let (mut world, _) = World::filled();
    world.scrub(ScrubRequest::Start);
    world.run_scrub();
    let segment = metropod_dedupe::SegmentId(3);
    world.media.rot(&segment_path(segment), 64 + 60, 5).expect("the segment is there");
    world.scrub(ScrubRequest::Start);
    world.run_scrub();
    let progress = world.array.scrub_progress();
    assert_eq!((progress.findings, progress.finished), (1, 2));
    let Rot::Chunk(digest) = progress.listed[0].rot else { panic!("{:?}", progress.listed) };
    assert_eq!(progress.listed[0].segment, segment);
    assert_eq!(world.alarms, [Alarm::DamagedChunk(digest)]);
}

#[test]
fn writes_checkpoints_and_collections_do_not_wait_for_a_scrub_that_hangs() {
    let (mut world, volume) = World::filled();
    world.holds_scrub = true;
    world.scrub(ScrubRequest::Start);
    assert!(world.tasks.iter().any(|task| task.name == "scrub"));
    (0..WRITES).for_each(|number| world.write(volume, number, 1000 + number));
    world.ask(|request| Input::Checkpoint { request });
    world.managed = None;
    let request = world.array.next_request();
    world.step(Input::Collect { request });
    while world.managed.is_none() {
        world.turn();
    }
    assert!(world.array.collect_counts().freed_segments > 0);
    // What it was to read is gone by now.
    world.holds_scrub = false;
    world.step(Input::Tick);
    world.run_scrub();
    let progress = world.array.scrub_progress();
    assert_eq!((progress.findings, world.alarms.len()), (0, 0));
}

#[test]
fn a_stopped_scrub_reads_no_more_and_a_failed_read_is_tried_again() {
    let (mut world, _) = World::filled();
    world.scrub(ScrubRequest::Start);
    (0..3).for_each(|_| world.turn());
    world.scrub(ScrubRequest::Stop);
    let stopped = world.array.scrub_progress().clone();
    assert_eq!(stopped.state, ScrubState::Idle);
    assert!(stopped.bytes_done > 0 && stopped.bytes_left > 0);
    assert!(world.array.next_deadline().is_none_or(|at| at.since(world.now) > Span::millis(60_000)));

    world.media.fail_nth(Some(Operation::Open), 1, Fault::Fail(Cause::Device(5)));
    world.scrub(ScrubRequest::Start);
    assert_eq!(world.array.scrub_progress().failed, 1);
    let took = world.run_scrub();
    let progress = world.array.scrub_progress();
    assert_eq!((progress.findings, progress.records), (0, world.array.store().stats().chunks));
    assert!(took >= Span::millis(30_000), "it rested first");
    assert_eq!(world.alarms, [Alarm::FlowFailed { flow: "scrub" }]);
}
