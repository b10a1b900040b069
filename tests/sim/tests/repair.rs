//! Two arrays of one pod whose disks rot: what one has lost it has from the other, while both serve.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use metropod_core::names::{Name, VolumeId};
use metropod_core::operation::{BLOCK_BYTES, Manage};
use metropod_core::task::{Finished, FlowError};
use metropod_core::{
    AccountConfig, Array, ArrayConfig, BulkPort, Channel, CollectConfig, Command, Effect, Input, Managed,
    OverlayLimits, ScrubConfig, ScrubRequest, Source,
};
use metropod_dedupe::{Rot, SEGMENT_BYTES_MIN, SegmentId, StoreConfig, segment_path};
use metropod_journal::JournalConfig;
use metropod_journal::media::sim::SimMedia;
use metropod_journal::media::{Durability, Io, Media};
use metropod_protocol::{ArrayId, PodId, RequestId, Settings, Side, Span, Time};
use metropod_sim::executor::{Executor, run};
use metropod_sim::payload;
use metropod_sim::random::Random;

const IDS: [ArrayId; 2] = [ArrayId([1; 16]), ArrayId([2; 16])];
const VOLUME_BYTES: u64 = 4 << 20;
const BLOCKS: u64 = VOLUME_BYTES / BLOCK_BYTES;
/// Blocks of one write.
const WRITE_BLOCKS: u64 = 8;

#[derive(Clone, Default)]
struct Outbox(Arc<Mutex<VecDeque<Bytes>>>);

impl BulkPort for Outbox {
    fn send(&self, _: ArrayId, parts: Vec<Bytes>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(parts.concat().into());
    }
}

struct Site {
    array: Array,
    media: SimMedia,
    flows: Executor<Finished>,
    bulk: Outbox,
    /// Sync frames on their way to the other.
    sent: VecDeque<Bytes>,
    reads: Executor<(u64, Result<Bytes, FlowError>)>,
    reading: BTreeMap<RequestId, u64>,
    managed: VecDeque<Managed>,
    acknowledged: usize,
}

/// Two arrays whose disks are quick and rot.
struct World {
    now: Time,
    random: Random,
    sites: [Site; 2],
    /// What each block holds: the value of its sectors.
    values: Vec<u64>,
    /// Reads that ended.
    read: usize,
}

impl World {
    fn new(seed: u64) -> World {
        let now = Time(1_000_000_000);
        let site = |index: usize| {
            let (media, bulk) = (SimMedia::new(), Outbox::default());
            let me = IDS[index];
            let journal = JournalConfig {
                segment_bytes: 32 << 20,
                budget_bytes: 512 << 20,
                ..JournalConfig::new(me.0, 1 + index as u64)
            };
            let seed = [index as u8; 32];
            let settings = Settings::default();
            let overlay = OverlayLimits::default();
            let (store, collect) = (
                StoreConfig { segment_bytes: SEGMENT_BYTES_MIN, hints_max: 512, ..StoreConfig::new(me.0) },
                CollectConfig::default(),
            );
            let (scrub, account) =
                (ScrubConfig { bytes_per_s: 1 << 30, every: None }, AccountConfig::default());
            let config = ArrayConfig { me, journal, store, overlay, collect, scrub, account, settings, seed };
            let io = Io::inline(Arc::new(media.clone()));
            let array =
                run(Array::open(config, io, Arc::new(bulk.clone()), now)).expect("an empty media opens");
            let (flows, sent, managed) = (Executor::default(), VecDeque::new(), VecDeque::new());
            let (reads, reading) = (Executor::default(), BTreeMap::new());
            Site { array, media, flows, bulk, sent, reads, reading, managed, acknowledged: 0 }
        };
        let sites = [site(0), site(1)];
        let mut world =
            World { now, random: Random::new(seed), sites, values: vec![0; BLOCKS as usize], read: 0 };
        for (site, channel) in
            [(0, Channel::Sync), (1, Channel::Sync), (0, Channel::Bulk), (1, Channel::Bulk)]
        {
            world.step(site, Input::LinkUp { peer: IDS[1 - site], channel });
        }
        world
    }

    fn step(&mut self, site: usize, input: Input) {
        let mut inputs = VecDeque::from([input]);
        let at = &mut self.sites[site];
        while let Some(input) = inputs.pop_front() {
            at.array.step(self.now, input);
            while let Some(effect) = at.array.next_effect() {
                match effect {
                    Effect::Append(append) => {
                        let data = [&append.data[..]];
                        let result = at.media.write(append.file, append.offset, &data, Durability::Durable);
                        inputs.push_back(Input::Appended { id: append.id, result });
                    }
                    Effect::Run(task) => at.flows.spawn(task.future),
                    Effect::Send { channel: Channel::Sync, parts, .. } => {
                        at.sent.push_back(parts.concat().into())
                    }
                    Effect::Send { parts, .. } => at.bulk.send(IDS[1 - site], parts),
                    Effect::Complete { result, .. } => {
                        assert_eq!(result, Ok(()));
                        at.acknowledged += 1;
                    }
                    Effect::Managed { result, .. } => at.managed.push_back(result.expect("it can be done")),
                    Effect::Fetch { request, fetch } => {
                        let offset = at.reading.remove(&request).expect("it was asked for");
                        at.reads.spawn(async move { (offset, fetch.read().await) });
                    }
                    Effect::Mediator(_) | Effect::Sign { .. } => {}
                    Effect::StatusChanged { .. } | Effect::Alarm(_) => {}
                    Effect::Disconnect { channel, .. } => panic!("{channel:?} makes no sense"),
                }
            }
        }
    }

    /// A millisecond passes.
    fn turn(&mut self) {
        self.now = self.now + Span::millis(1);
        for (site, peer) in IDS.into_iter().enumerate() {
            self.step(site, Input::Tick);
            for _ in 0..100 {
                let Some(finished) = self.sites[site].flows.poll_one(&mut self.random) else { continue };
                self.step(site, Input::Finished(finished));
            }
            for _ in 0..100 {
                let Some((offset, content)) = self.sites[site].reads.poll_one(&mut self.random) else {
                    continue;
                };
                self.check(offset, &content.expect("one array has it"));
            }
            let bulk =
                std::mem::take(&mut *self.sites[site].bulk.0.lock().unwrap_or_else(PoisonError::into_inner));
            for payload in bulk {
                self.step(1 - site, Input::Frame { peer, channel: Channel::Bulk, payload });
            }
            while let Some(payload) = self.sites[site].sent.pop_front() {
                self.step(1 - site, Input::Frame { peer, channel: Channel::Sync, payload });
            }
        }
    }

    fn until(&mut self, what: &str, done: impl Fn(&World) -> bool) {
        for _ in 0..20_000 {
            if done(self) {
                return;
            }
            self.turn();
        }
        panic!("{what} takes too long");
    }

    fn manage(&mut self, site: usize, command: Command) -> Managed {
        let request = self.sites[site].array.next_request();
        self.step(site, Input::Manage { request, command });
        self.until("a management request", |world| !world.sites[site].managed.is_empty());
        self.sites[site].managed.pop_front().expect("just looked at")
    }

    /// A pod with a volume, stretched from `host` to the other.
    fn stretched(&mut self, number: u8, host: usize) -> (PodId, VolumeId) {
        let pod = PodId([number; 16]);
        let name = |text: String| Name::new(&text).expect("a good name");
        self.manage(host, Command::CreatePod { pod, name: name(format!("pod{number}")) });
        let change = Manage::CreateVolume { name: name("vol".into()), size_bytes: VOLUME_BYTES };
        let Managed::Volume(volume) = self.manage(host, Command::Change { pod, change }) else {
            panic!("a volume is made");
        };
        self.manage(host, Command::Stretch { pod, peer: IDS[1 - host] });
        self.until("stretching", |world| (0..2).all(|site| world.shows(site, pod) == Some(Side::Online)));
        (pod, volume)
    }

    fn shows(&self, site: usize, pod: PodId) -> Option<Side> {
        let status = self.sites[site].array.pod(pod)?.machine().status(self.now);
        status.mirrored.then_some(status.mine)
    }

    /// Writes fresh content over blocks that held none.
    fn write(&mut self, site: usize, (pod, volume): (PodId, VolumeId), first: u64) {
        let request = self.sites[site].array.next_request();
        let value = 2 * first + 1 + 2 * (site as u64) * BLOCKS;
        let operation = payload::write(volume, first * 8..(first + WRITE_BLOCKS) * 8, value);
        let before = self.sites[site].acknowledged;
        self.step(site, Input::Host { request, pod, operation });
        self.until("a write", |world| world.sites[site].acknowledged > before);
        (first..first + WRITE_BLOCKS).for_each(|block| self.values[block as usize] = value);
    }

    fn ask(&mut self, site: usize, (pod, volume): (PodId, VolumeId), blocks: std::ops::Range<u64>) {
        let request = self.sites[site].array.next_request();
        let (offset, length) = (blocks.start * BLOCK_BYTES, (blocks.end - blocks.start) * BLOCK_BYTES);
        self.sites[site].reading.insert(request, offset);
        let source = Source::Volume(volume);
        self.step(site, Input::Read { request, pod, source, offset, length, metered: false });
    }

    fn check(&mut self, offset: u64, content: &[u8]) {
        for (at, sector) in content.chunks(512).enumerate() {
            let number = offset / 512 + at as u64;
            let value = self.values[(number / 8) as usize];
            assert!(sector == payload::sector_bytes(number, value), "sector {number} is of value {value}");
        }
        self.read += 1;
    }

    fn read_all(&mut self, site: usize, of: (PodId, VolumeId)) {
        let before = self.read;
        (0..BLOCKS).step_by(64).for_each(|first| self.ask(site, of, first..first + 64));
        self.until("reading all", |world| world.read >= before + BLOCKS as usize / 64);
    }

    fn checkpoint(&mut self, site: usize) {
        let request = self.sites[site].array.next_request();
        self.step(site, Input::Checkpoint { request });
        self.until("a checkpoint", |world| !world.sites[site].managed.is_empty());
        self.sites[site].managed.clear();
    }

    /// Flips bits anywhere in the records of a site's segments.
    fn rot(&mut self, site: usize, bits: u64) {
        let mut flipped = 0;
        while flipped < bits {
            let segment = SegmentId(self.random.below(12));
            let (offset, bit) = (64 + self.random.below(u64::from(SEGMENT_BYTES_MIN)), self.random.below(8));
            flipped +=
                u64::from(self.sites[site].media.rot(&segment_path(segment), offset, bit as u8).is_ok());
        }
    }

    /// Chunks that a scrub finds rotten, and those of them that it saw repaired.
    fn scrub(&mut self, site: usize) -> (usize, usize) {
        let finished = self.sites[site].array.scrub_progress().finished;
        let request = self.sites[site].array.next_request();
        self.step(site, Input::Scrub { request, what: ScrubRequest::Start });
        self.until("a scrub", |world| world.sites[site].array.scrub_progress().finished > finished);
        self.sites[site].managed.clear();
        let progress = self.sites[site].array.scrub_progress();
        let chunks = progress.listed.iter().filter(|finding| matches!(finding.rot, Rot::Chunk(_)));
        (chunks.count(), progress.repaired.len())
    }
}

/// F16.
#[test]
fn what_rots_at_either_side_is_read_right_at_both_while_they_serve_and_is_sound_afterwards() {
    let (mut repaired, mut scrubbed) = (0, 0);
    for seed in 0..20 {
        let mut world = World::new(seed);
        let of = world.stretched(1, 0);
        let mut next = 0;
        for round in 0..4 {
            let site = (round % 2) as usize;
            for number in 0..8 {
                world.write(number % 2, of, next);
                next += WRITE_BLOCKS;
            }
            (0..2).for_each(|site| world.checkpoint(site));
            let bits = 1 + world.random.below(40);
            world.rot(site, bits);
            if world.random.below(2) == 0 {
                scrubbed += world.scrub(site).1;
            }
            for _ in 0..20 {
                let (at, first) = (world.random.below(2) as usize, world.random.below(next - 8));
                let length = 1 + world.random.below(8);
                world.ask(at, of, first..first + length);
            }
            world.write(1 - site, of, next);
            next += WRITE_BLOCKS;
            (0..2).for_each(|site| world.read_all(site, of));
            (0..2).for_each(|site| world.checkpoint(site));
        }
        for site in 0..2 {
            world.read_all(site, of);
            let (found, mended) = world.scrub(site);
            assert_eq!(found, mended, "seed {seed}: the other array has whatever is rotten here");
            world.checkpoint(site);
            assert_eq!(world.scrub(site).0, 0, "seed {seed}: site {site} is sound");
            let counts = world.sites[site].array.repair_counts();
            assert_eq!((counts.found, counts.failed), (counts.repaired, 0), "seed {seed}");
            repaired += counts.repaired;
        }
    }
    println!("{repaired} chunks repaired, {scrubbed} of them by scrubs that met them first");
    assert!(repaired > 200 && scrubbed > 50, "the runs do something: {repaired}, {scrubbed}");
}
