//! An array whose device is full: it refuses writes, goes on deleting, and comes back when there is room.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use metropod_core::names::{Name, VolumeId};
use metropod_core::operation::{Manage, Operation, Target};
use metropod_core::task::Task;
use metropod_core::{
    AccountConfig, Array, ArrayConfig, BulkPort, CollectConfig, Command, Effect, HostError, Input,
    ManageError, Managed, OverlayLimits, ScrubConfig,
};
use metropod_dedupe::StoreConfig;
use metropod_journal::JournalConfig;
use metropod_journal::media::sim::SimMedia;
use metropod_journal::media::{Durability, Io, Media};
use metropod_protocol::{ArrayId, PodId, Settings, Span, Time};
use metropod_sim::executor::run;
use metropod_sim::payload;

const ME: ArrayId = ArrayId([1; 16]);
const POD: PodId = PodId([7; 16]);
const VOLUME_BYTES: u64 = 1 << 30;
const SEGMENT_BYTES: u64 = 5 << 20;
/// The device, in bytes: the whole journal, and some content.
const CAPACITY: u64 = 40 << 20;
/// 64 KiB.
const WRITE_SECTORS: u64 = 128;
/// How long an answer may take.
const PATIENCE: Span = Span::millis(60_000);

struct NoPeer;

impl BulkPort for NoPeer {
    fn send(&self, _: ArrayId, _: Vec<Bytes>) {}
}

struct World {
    now: Time,
    array: Array,
    media: SimMedia,
    tasks: VecDeque<Task>,
    completed: Option<Result<(), HostError>>,
    managed: Option<Result<Managed, ManageError>>,
    checkpoints: u64,
    /// The kind of flow that ends only when it is asked for.
    slow: &'static str,
}

impl World {
    /// A device of [`CAPACITY`] bytes.
    fn new() -> World {
        let media = SimMedia::new();
        media.set_capacity(Some(CAPACITY));
        World::on(media, StoreConfig::new(ME.0), 4)
    }

    fn on(media: SimMedia, store: StoreConfig, journal_segments: u64) -> World {
        let now = Time(1_000_000_000);
        let array = open(&media, store, journal_segments, now);
        let (tasks, completed, managed) = (VecDeque::new(), None, None);
        World { now, array, media, tasks, completed, managed, checkpoints: 0, slow: "" }
    }

    fn restart(&mut self) {
        self.array = open(&self.media, StoreConfig::new(ME.0), 4, self.now);
        self.tasks.clear();
        self.step(Input::Tick);
    }

    fn step(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            self.array.step(self.now, input);
            while let Some(effect) = self.array.next_effect() {
                match effect {
                    Effect::Append(append) => {
                        let data = [&append.data[..]];
                        let result = self.media.write(append.file, append.offset, &data, Durability::Durable);
                        inputs.push_back(Input::Appended { id: append.id, result });
                    }
                    Effect::Run(task) => self.tasks.push_back(task),
                    Effect::Complete { result, .. } => self.completed = Some(result),
                    Effect::Managed { result, .. } => self.managed = Some(result),
                    Effect::Fetch { .. }
                    | Effect::StatusChanged { .. }
                    | Effect::Alarm(_)
                    | Effect::Disconnect { .. } => {}
                    Effect::Send { .. } | Effect::Mediator(_) | Effect::Sign { .. } => panic!("it is alone"),
                }
            }
        }
    }

    /// The next flow runs, or time passes.
    fn turn(&mut self) {
        let next = self.tasks.iter().position(|task| task.name != self.slow);
        match next.and_then(|next| self.tasks.remove(next)) {
            Some(task) => {
                self.checkpoints += u64::from(task.name == "checkpoint");
                self.step(Input::Finished(run(task.future)));
            }
            None => {
                self.now = self.now + Span::millis(10);
                self.step(Input::Tick);
            }
        }
    }

    fn manage(&mut self, command: Command) -> Result<Managed, ManageError> {
        let request = self.array.next_request();
        self.managed = None;
        self.step(Input::Manage { request, command });
        let began = self.now;
        while self.managed.is_none() {
            assert!(self.now.since(began) < PATIENCE, "no answer");
            self.turn();
        }
        self.managed.take().expect("just seen")
    }

    /// Everything is written, and what is freed is given back.
    fn checkpoint(&mut self) {
        self.managed = None;
        let request = self.array.next_request();
        self.step(Input::Checkpoint { request });
        while self.managed.is_none() {
            self.turn();
        }
    }

    fn turn_for(&mut self, span: Span) {
        let until = self.now + span;
        while self.now < until {
            self.turn();
        }
    }

    fn stored_bytes(&self) -> u64 {
        self.array.store().space().live_bytes
    }

    fn ask(&mut self, operation: Operation) -> Result<(), HostError> {
        let request = self.array.next_request();
        self.completed = None;
        self.step(Input::Host { request, pod: POD, operation });
        let began = self.now;
        while self.completed.is_none() {
            assert!(self.now.since(began) < PATIENCE, "no answer");
            self.turn();
        }
        self.completed.expect("just seen")
    }

    fn write(&mut self, volume: VolumeId, number: u64) -> Result<(), HostError> {
        let first = number * WRITE_SECTORS;
        // Odd numbers do not compress.
        self.ask(payload::write(volume, first..first + WRITE_SECTORS, 2 * number + 1))
    }
}

fn open(media: &SimMedia, store: StoreConfig, journal_segments: u64, now: Time) -> Array {
    let journal = JournalConfig {
        segment_bytes: SEGMENT_BYTES,
        budget_bytes: journal_segments * SEGMENT_BYTES,
        ..JournalConfig::new(ME.0, 1 + now.0)
    };
    let settings = Settings::default();
    let config = ArrayConfig {
        me: ME,
        journal,
        store,
        settings,
        overlay: OverlayLimits::default(),
        collect: CollectConfig::default(),
        scrub: ScrubConfig::default(),
        account: AccountConfig::default(),
        seed: [3; 32],
    };
    let io = Io::inline(Arc::new(media.clone()));
    run(Array::open(config, io, Arc::new(NoPeer), now)).expect("the media opens")
}

fn with_volume(mut world: World) -> (World, VolumeId) {
    let name = |name: &str| Name::new(name).expect("a good name");
    assert_eq!(world.manage(Command::CreatePod { pod: POD, name: name("pod") }), Ok(Managed::Done));
    let change = Manage::CreateVolume { name: name("vol"), size_bytes: VOLUME_BYTES };
    match world.manage(Command::Change { pod: POD, change }) {
        Ok(Managed::Volume(volume)) => (world, volume),
        other => panic!("a volume is made: {other:?}"),
    }
}

/// Writes until the device is full; gives how many were taken.
fn fill(world: &mut World, volume: VolumeId) -> u64 {
    for number in 0..VOLUME_BYTES / WRITE_SECTORS / 512 {
        match world.write(volume, number) {
            Ok(()) => {}
            Err(HostError::NoSpace) => return number,
            Err(error) => panic!("write {number}: {error}"),
        }
    }
    panic!("the device is never full");
}

#[test]
fn a_full_array_goes_on_deleting_for_as_long_as_it_takes_and_comes_back_by_itself() {
    let (mut world, volume) = with_volume(World::new());
    let taken = fill(&mut world, volume);
    println!("{taken} writes were taken");
    assert!(taken > 100);
    let before = world.checkpoints;
    // Each takes a sector of the journal: it is written more than once over.
    for number in 0..8_000 {
        let offset = number % taken * WRITE_SECTORS * 512;
        assert_eq!(world.ask(Operation::Zero { volume, offset, length: 4096 }), Ok(()), "trim {number}");
    }
    assert!(world.checkpoints > before + 2, "the journal was trimmed meanwhile");
    assert_eq!(world.write(volume, taken), Err(HostError::NoSpace));
    world.restart();
    // The journal has room for some, until it is known that the device has none.
    eprintln!("later");
    let more = (0..32).take_while(|more| world.write(volume, taken + more).is_ok()).count() as u64;
    assert!(more < 32, "a full array is found full");
    let taken = taken + more;

    // A reserve, and what the journal owes.
    world.media.set_capacity(Some(CAPACITY + SEGMENT_BYTES));
    let began = world.now;
    while world.write(volume, taken).is_err() {
        assert!(world.now.since(began) < Span::millis(10_000), "it never comes back");
        for _ in 0..10 {
            world.turn();
        }
    }
}

/// Finding of a loaded machine: what was staged counted as space used up, also what fits into a segment that counts whole.
/// So an array was called full that had room for more a moment later.
#[test]
fn an_array_is_called_full_only_when_nothing_under_way_can_give_it_room() {
    let mut later = Vec::new();
    for capacity_bytes in (CAPACITY..CAPACITY + (4 << 20)).step_by(448 << 10) {
        let store = StoreConfig { segment_bytes: 4 << 20, capacity_bytes, ..StoreConfig::new(ME.0) };
        let (mut world, volume) = with_volume(World::on(SimMedia::new(), store, 64));
        let taken = fill(&mut world, volume);
        world.checkpoint();
        let more = (0..).take_while(|more| world.write(volume, taken + more).is_ok()).count();
        later.push((taken, more));
    }
    println!("writes taken, and taken later: {later:?}");
    assert!(later.iter().all(|(_, more)| *more < 8));
}

/// Volumes of some MiB that are destroyed for good while it is counted whose the space is.
fn eradicated_while_counted() -> World {
    let (mut world, volume) = with_volume(World::new());
    for number in 0..64 {
        assert_eq!(world.write(volume, number), Ok(()));
    }
    world.checkpoint();
    assert!(world.stored_bytes() > 2 << 20, "{} bytes", world.stored_bytes());
    world.slow = "account";
    let request = world.array.next_request();
    world.step(Input::Account { request });
    let target = Target::Volume(volume);
    let destroy = Manage::Destroy { target, contents: false, delay_ms: 60_000 };
    let eradicate = Manage::Eradicate { target, contents: false, waited: None };
    for change in [destroy, eradicate] {
        assert_eq!(world.manage(Command::Change { pod: POD, change }), Ok(Managed::Done));
    }
    world
}

/// Finding of a loaded machine: frozen content that was being counted kept what was eradicated from the pass that was to find
/// it, and none was due after that.
#[test]
fn what_is_eradicated_while_it_is_counted_is_given_back_when_that_ends() {
    let mut world = eradicated_while_counted();
    world.turn_for(Span::millis(20_000));
    assert!(world.array.collect_counts().passes > 0);
    assert!(world.stored_bytes() > 2 << 20, "it is being counted");
    world.slow = "";
    world.turn_for(Span::millis(20_000));
    assert!(world.stored_bytes() < 64 << 10, "{} bytes", world.stored_bytes());
}

#[test]
fn who_asks_for_space_waits_for_what_is_being_counted() {
    let mut world = eradicated_while_counted();
    world.managed = None;
    let request = world.array.next_request();
    world.step(Input::Collect { request });
    world.turn_for(Span::millis(20_000));
    assert_eq!(world.managed, None);
    world.slow = "";
    while world.array.collect_counts().answered == 0 {
        world.turn();
    }
    assert!(world.stored_bytes() < 64 << 10, "{} bytes", world.stored_bytes());
}
