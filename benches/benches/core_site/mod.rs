//! The core of one array and what its driver would hold: media in memory, no link, no hashing while steps are taken.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use metropod_benches::contents::{self, BLOCK_BYTES};
use metropod_benches::park::block_on;
use metropod_core::names::{Name, VolumeId};
use metropod_core::operation::{Manage, Operation, Piece};
use metropod_core::task::Task;
use metropod_core::{
    AccountConfig, Array, ArrayConfig, BulkPort, CollectConfig, Command, Effect, Fetch, Input, Managed,
    OverlayLimits, ScrubConfig, Source,
};
use metropod_dedupe::{Compression, Reduced, StoreConfig, reduce};
use metropod_journal::media::sim::SimMedia;
use metropod_journal::media::{Durability, Io, Media};
use metropod_journal::{Append, JournalConfig};
use metropod_protocol::{ArrayId, PodId, Settings, Span, Time};

const ME: ArrayId = ArrayId([1; 16]);
const POD: PodId = PodId([7; 16]);
/// Blocks of the volume; also the number of different contents.
const BLOCKS: u64 = 1024;

struct NoPeer;

impl BulkPort for NoPeer {
    fn send(&self, _: ArrayId, _: Vec<Bytes>) {}
}

/// An array and what its driver would hold.
pub struct Site {
    media: SimMedia,
    now: Time,
    array: Array,
    appends: VecDeque<Append>,
    tasks: VecDeque<Task>,
    acknowledged: u64,
    managed: Option<Managed>,
    fetch: Option<Box<Fetch>>,
    volume: VolumeId,
    pieces: Vec<Piece>,
    written: u64,
}

impl Site {
    pub fn new() -> Site {
        let media = SimMedia::new();
        let now = Time(1_000_000_000);
        let journal =
            JournalConfig { segment_bytes: 5 << 20, budget_bytes: 40 << 20, ..JournalConfig::new(ME.0, 1) };
        let config = ArrayConfig {
            me: ME,
            journal,
            store: StoreConfig::new(ME.0),
            overlay: OverlayLimits::default(),
            settings: Settings::default(),
            collect: CollectConfig::default(),
            scrub: ScrubConfig::default(),
            account: AccountConfig::default(),
            seed: [3; 32],
        };
        let io = Io::inline(Arc::new(media.clone()));
        let array = block_on(Array::open(config, io, Arc::new(NoPeer), now)).unwrap();
        let mut site = Site {
            media,
            now,
            array,
            appends: VecDeque::new(),
            tasks: VecDeque::new(),
            acknowledged: 0,
            managed: None,
            fetch: None,
            volume: VolumeId(0),
            pieces: (1..=BLOCKS).map(piece).collect(),
            written: 0,
        };
        site.take_effects();
        let name = |text| Name::new(text).unwrap();
        site.manage(Command::CreatePod { pod: POD, name: name("pod") });
        let size_bytes = BLOCKS * BLOCK_BYTES as u64;
        let change = Manage::CreateVolume { name: name("vol"), size_bytes };
        match site.manage(Command::Change { pod: POD, change }) {
            Managed::Volume(volume) => site.volume = volume,
            other => panic!("a volume was made: {other:?}"),
        }
        site
    }

    fn manage(&mut self, command: Command) -> Managed {
        let request = self.array.next_request();
        self.step(Input::Manage { request, command });
        loop {
            if let Some(managed) = self.managed.take() {
                return managed;
            }
            self.finish_all();
            self.now = self.now + Span::millis(20);
            self.step(Input::Tick);
        }
    }

    fn step(&mut self, input: Input) {
        self.array.step(self.now, input);
        self.take_effects();
    }

    fn take_effects(&mut self) {
        while let Some(effect) = self.array.next_effect() {
            match effect {
                Effect::Append(append) => self.appends.push_back(append),
                Effect::Run(task) => self.tasks.push_back(task),
                Effect::Complete { result, .. } => {
                    result.unwrap();
                    self.acknowledged += 1;
                }
                Effect::Managed { result, .. } => self.managed = Some(result.unwrap()),
                Effect::Fetch { fetch, .. } => self.fetch = Some(fetch),
                _ => {}
            }
        }
    }

    /// Performs appends and flows; gives the time of the steps that take their results in `append_steps`.
    fn finish_all(&mut self) -> Duration {
        let mut append_steps = Duration::ZERO;
        loop {
            if let Some(append) = self.appends.pop_front() {
                let result =
                    self.media.write(append.file, append.offset, &[&append.data], Durability::Durable);
                let began = Instant::now();
                self.step(Input::Appended { id: append.id, result });
                append_steps += began.elapsed();
            } else if let Some(task) = self.tasks.pop_front() {
                let finished = block_on(task.future);
                self.step(Input::Finished(finished));
            } else {
                return append_steps;
            }
        }
    }

    /// So many writes of a block, the first in an append of its own and the others in the next; gives the timed part.
    pub fn write(&mut self, writes: u64) -> Duration {
        let inputs: Vec<Input> = (0..writes).map(|_| self.next_write()).collect();
        let expected = self.acknowledged + writes;
        let began = Instant::now();
        inputs.into_iter().for_each(|input| self.step(input));
        let mut timed = began.elapsed();
        while self.acknowledged < expected {
            timed += self.finish_all();
            self.now = self.now + Span::millis(1);
            self.step(Input::Tick);
        }
        timed
    }

    fn next_write(&mut self) -> Input {
        let block = self.written % BLOCKS;
        let content = (self.written / BLOCKS + block) % BLOCKS;
        self.written += 1;
        let operation = Operation::Write {
            volume: self.volume,
            offset: block * BLOCK_BYTES as u64,
            length: BLOCK_BYTES as u64,
            pieces: vec![self.pieces[content as usize].clone()],
        };
        Input::Host { request: self.array.next_request(), pod: POD, operation }
    }

    /// The last write's block holds what was written.
    pub fn check(&mut self) {
        let last = self.written - 1;
        let (block, content) = (last % BLOCKS, (last / BLOCKS + last % BLOCKS) % BLOCKS);
        let request = self.array.next_request();
        let length = BLOCK_BYTES as u64;
        let source = Source::Volume(self.volume);
        self.step(Input::Read { request, pod: POD, source, offset: block * length, length, metered: false });
        let bytes = block_on(self.fetch.take().unwrap().read()).unwrap();
        assert_eq!(bytes, contents::block(content + 1));
    }
}

fn piece(content: u64) -> Piece {
    match reduce(&contents::block(content), Compression::WhenItPays) {
        Reduced::Zero => Piece::Zero,
        Reduced::Chunk { digest, payload } => Piece::Data { digest, payload },
    }
}
