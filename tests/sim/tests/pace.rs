//! Hosts that write as fast as they can at an array whose checkpoints lag: slower, smoothly, and never stopped.

use std::sync::Arc;

use bytes::Bytes;
use metropod_core::names::{Name, VolumeId};
use metropod_core::operation::Manage;
use metropod_core::task::Task;
use metropod_core::{
    AccountConfig, Array, ArrayConfig, BulkPort, CollectConfig, Command, Effect, HostError, Input, Managed,
    OverlayLimits, ScrubConfig,
};
use metropod_dedupe::StoreConfig;
use metropod_journal::media::sim::SimMedia;
use metropod_journal::media::{Durability, Io, Media};
use metropod_journal::{Append, JournalConfig};
use metropod_protocol::{ArrayId, PodId, RequestId, Settings, Span, Time};
use metropod_sim::executor::run;
use metropod_sim::payload;

const ME: ArrayId = ArrayId([1; 16]);
const POD: PodId = PodId([7; 16]);
const VOLUME_BYTES: u64 = 64 << 20;
/// 64 KiB.
const WRITE_SECTORS: u64 = 128;
const APPEND: Span = Span::millis(1);

struct NoPeer;

impl BulkPort for NoPeer {
    fn send(&self, _: ArrayId, _: Vec<Bytes>) {}
}

/// One array; appends and flows take their time.
struct World {
    now: Time,
    array: Array,
    media: SimMedia,
    volume: VolumeId,
    append: Option<(Time, Append)>,
    tasks: Vec<(Time, Task)>,
    checkpoint: Span,
    managed: Option<Managed>,
    under_way: usize,
    written: u64,
    /// Writes that hosts have under way.
    depth: usize,
    /// Hosts zero single sectors instead of writing.
    zeroes: bool,
    /// Bytes handed to the journal's media.
    appended: u64,
    acknowledged: u64,
    last: Time,
    longest: Span,
}

impl World {
    fn new(checkpoint: Span) -> World {
        let (now, media) = (Time(1_000_000_000), SimMedia::new());
        let journal =
            JournalConfig { segment_bytes: 5 << 20, budget_bytes: 80 << 20, ..JournalConfig::new(ME.0, 1) };
        let settings = Settings::default();
        let config = ArrayConfig {
            me: ME,
            journal,
            store: StoreConfig::new(ME.0),
            settings,
            overlay: OverlayLimits::default(),
            collect: CollectConfig::default(),
            scrub: ScrubConfig { every: None, ..ScrubConfig::default() },
            account: AccountConfig { every: None },
            seed: [3; 32],
        };
        let io = Io::inline(Arc::new(media.clone()));
        let array = run(Array::open(config, io, Arc::new(NoPeer), now)).expect("an empty media opens");
        let mut world = World {
            now,
            array,
            media,
            volume: VolumeId(0),
            append: None,
            tasks: Vec::new(),
            checkpoint,
            managed: None,
            under_way: 0,
            written: 0,
            depth: 16,
            zeroes: false,
            appended: 0,
            acknowledged: 0,
            last: now,
            longest: Span(0),
        };
        let name = |name: &str| Name::new(name).expect("a good name");
        world.manage(Command::CreatePod { pod: POD, name: name("pod") });
        let change = Manage::CreateVolume { name: name("vol"), size_bytes: VOLUME_BYTES };
        match world.manage(Command::Change { pod: POD, change }) {
            Managed::Volume(volume) => world.volume = volume,
            other => panic!("a volume is made: {other:?}"),
        }
        world
    }

    fn manage(&mut self, command: Command) -> Managed {
        let request = self.array.next_request();
        self.step(Input::Manage { request, command });
        loop {
            if let Some(managed) = self.managed.take() {
                return managed;
            }
            self.turn();
        }
    }

    fn step(&mut self, input: Input) {
        self.array.step(self.now, input);
        while let Some(effect) = self.array.next_effect() {
            match effect {
                Effect::Append(append) => self.append = Some((self.now + APPEND, append)),
                Effect::Run(task) => {
                    let takes = if task.name == "checkpoint" { self.checkpoint } else { Span::millis(2) };
                    self.tasks.push((self.now + takes, task));
                }
                Effect::Complete { request, result } => self.completed(request, result),
                Effect::Managed { result, .. } => self.managed = Some(result.expect("it can be done")),
                Effect::Fetch { .. }
                | Effect::StatusChanged { .. }
                | Effect::Alarm(_)
                | Effect::Disconnect { .. } => {}
                Effect::Send { .. } | Effect::Mediator(_) | Effect::Sign { .. } => panic!("it is alone"),
            }
        }
    }

    fn completed(&mut self, _: RequestId, result: Result<(), HostError>) {
        assert_eq!(result, Ok(()));
        self.under_way -= 1;
        self.acknowledged += 1;
        self.longest = self.longest.max(self.now.since(self.last));
        self.last = self.now;
    }

    /// Goes to the next moment at which something happens.
    fn turn(&mut self) {
        let ends = self.append.iter().map(|(at, _)| *at).chain(self.tasks.iter().map(|(at, _)| *at));
        let next = ends.chain(self.array.next_deadline()).min().expect("something will happen");
        assert!(next > self.now || self.append.is_some() || !self.tasks.is_empty(), "time goes on");
        self.now = self.now.max(next);
        if let Some((_, append)) = self.append.take_if(|(at, _)| *at <= self.now) {
            self.appended += append.data.len() as u64;
            let result = self.media.write(append.file, append.offset, &[&append.data], Durability::Durable);
            self.step(Input::Appended { id: append.id, result });
        }
        while let Some(at) = self.tasks.iter().position(|(at, _)| *at <= self.now) {
            let (_, task) = self.tasks.remove(at);
            self.step(Input::Finished(run(task.future)));
        }
        self.step(Input::Tick);
    }

    /// Hosts write all the time; gives the bytes acknowledged and the longest time without an answer.
    fn write_for(&mut self, span: Span) -> (u64, Span) {
        let (until, before) = (self.now + span, self.acknowledged);
        (self.last, self.longest) = (self.now, Span(0));
        while self.now < until {
            while self.under_way < self.depth {
                self.written += 1;
                let first = self.written * WRITE_SECTORS % (VOLUME_BYTES / 512);
                // Odd numbers do not compress, 0 is zeroes.
                let (sectors, value) =
                    if self.zeroes { (1, 0) } else { (WRITE_SECTORS, 2 * self.written + 1) };
                let operation = payload::write(self.volume, first..first + sectors, value);
                let request = self.array.next_request();
                self.under_way += 1;
                self.step(Input::Host { request, pod: POD, operation });
            }
            self.turn();
        }
        ((self.acknowledged - before) * WRITE_SECTORS * 512, self.longest)
    }
}

#[test]
fn checkpoints_that_lag_slow_hosts_down_and_never_stop_them() {
    let mut world = World::new(Span::millis(600));
    world.write_for(Span::millis(1_000));
    let (bytes, longest) = world.write_for(Span::millis(3_000));
    let mib_per_s = (bytes >> 20) / 3;
    println!("{mib_per_s} MiB/s, at most {} ms without an answer", longest.0 / 1_000_000);
    assert!(longest < Span::millis(50), "{} ms without an answer", longest.0 / 1_000_000);
    // Each checkpoint gives back what was written during the one before it, at most half of the journal.
    assert!(mib_per_s >= 40, "{mib_per_s} MiB/s");
}

#[test]
fn checkpoints_that_keep_up_cost_hosts_nothing() {
    let (quick, _) = World::new(Span::millis(1)).write_for(Span::millis(300));
    let (usual, longest) = World::new(Span::millis(20)).write_for(Span::millis(300));
    println!("{} and {} MiB", quick >> 20, usual >> 20);
    assert!(usual >= quick / 100 * 99, "{} of {} MiB", usual >> 20, quick >> 20);
    assert!(longest < Span::millis(5));
}

/// Finding of a benchmark: entries that waited to be applied were taken for a pod's that pins the journal. At each event
/// they were made ready to be written once more, and written where they were not too many.
#[test]
fn entries_that_wait_for_old_content_are_not_written_again() {
    let mut world = World::new(Span::millis(1));
    (world.zeroes, world.depth) = (true, 128);
    world.write_for(Span::millis(3_000));
    let (entries, bytes) = (world.acknowledged, world.appended);
    println!("{entries} entries, {} KiB appended", bytes >> 10);
    assert!(entries > 30_000, "the journal was pressed");
    assert!(bytes < entries * 400, "{bytes} bytes appended for {entries} entries");
}

#[test]
fn old_content_is_read_for_many_entries_at_a_time() {
    let mut world = World::new(Span::millis(1));
    (world.zeroes, world.depth) = (true, 64);
    let applied = |world: &World| world.array.pod(POD).expect("the pod is there").applied().0;
    let before = applied(&world);
    world.write_for(Span::millis(1_000));
    let entries = applied(&world) - before;
    println!("{entries} entries applied in a second, each of which needs a read of 2 ms");
    assert!(entries > 500 * 8, "{entries} entries");
}
