//! Two arrays and one connection: what is under way at once is bounded, whatever pods have to send; what comes damaged is not
//! lived with.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use metropod_core::names::{Name, VolumeId};
use metropod_core::operation::Manage;
use metropod_core::task::Finished;
use metropod_core::{
    AccountConfig, Array, ArrayConfig, BulkPort, Channel, CollectConfig, Command, Effect, Input, Managed,
    OverlayLimits, ScrubConfig,
};
use metropod_dedupe::StoreConfig;
use metropod_journal::JournalConfig;
use metropod_journal::media::sim::SimMedia;
use metropod_journal::media::{Durability, Io, Media};
use metropod_protocol::settings::CONNECTION_WINDOW_BYTES;
use metropod_protocol::{ArrayId, PodId, Settings, Side, Span, Time};
use metropod_sim::executor::{Executor, run};
use metropod_sim::payload;
use metropod_sim::random::Random;

const IDS: [ArrayId; 2] = [ArrayId([1; 16]), ArrayId([2; 16])];
const VOLUME_BYTES: u64 = 64 << 20;
const WRITE_SECTORS: u64 = 1024;

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
    managed: VecDeque<Managed>,
    acknowledged: usize,
    disconnected: Vec<Channel>,
}

/// Two arrays whose disks are quick, and a connection that can stall.
struct World {
    now: Time,
    random: Random,
    sites: [Site; 2],
    stalled: bool,
    /// The next long frame loses a bit on its way.
    damaging: bool,
    /// Most bytes that were on their way from a site at once.
    most: [usize; 2],
}

impl World {
    fn new() -> World {
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
            let (store, collect) = (StoreConfig::new(me.0), CollectConfig::default());
            let (scrub, account) = (ScrubConfig::default(), AccountConfig::default());
            let config = ArrayConfig { me, journal, store, overlay, collect, scrub, account, settings, seed };
            let io = Io::inline(Arc::new(media.clone()));
            let array =
                run(Array::open(config, io, Arc::new(bulk.clone()), now)).expect("an empty media opens");
            let (flows, sent, managed) = (Executor::default(), VecDeque::new(), VecDeque::new());
            Site { array, media, flows, bulk, sent, managed, acknowledged: 0, disconnected: Vec::new() }
        };
        let sites = [site(0), site(1)];
        let mut world =
            World { now, random: Random::new(5), sites, stalled: false, damaging: false, most: [0; 2] };
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
                    Effect::Fetch { .. } | Effect::Mediator(_) | Effect::Sign { .. } => {}
                    Effect::StatusChanged { .. } | Effect::Alarm(_) => {}
                    Effect::Disconnect { channel, .. } => at.disconnected.push(channel),
                }
            }
        }
        let under_way = at.sent.iter().map(Bytes::len).sum();
        self.most[site] = self.most[site].max(under_way);
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
            let bulk =
                std::mem::take(&mut *self.sites[site].bulk.0.lock().unwrap_or_else(PoisonError::into_inner));
            for payload in bulk {
                self.step(1 - site, Input::Frame { peer, channel: Channel::Bulk, payload });
            }
            while !self.stalled
                && let Some(mut payload) = self.sites[site].sent.pop_front()
            {
                if self.damaging && payload.len() > 4096 {
                    let mut bytes = payload.to_vec();
                    *bytes.last_mut().expect("it is long") ^= 1;
                    (payload, self.damaging) = (bytes.into(), false);
                }
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

    /// Writes of one half of a MiB each, all at once.
    fn write(&mut self, site: usize, (pod, volume): (PodId, VolumeId), count: u64) {
        for number in 0..count {
            let request = self.sites[site].array.next_request();
            let sectors = number * WRITE_SECTORS..(number + 1) * WRITE_SECTORS;
            // An odd value's sectors cannot be compressed.
            let operation = payload::write(volume, sectors, 2 * (u64::from(pod.0[0]) * 1000 + number) + 1);
            self.step(site, Input::Host { request, pod, operation });
        }
    }
}

#[test]
fn busy_pods_share_what_their_connection_can_hold() {
    let mut world = World::new();
    let pods = [world.stretched(1, 0), world.stretched(2, 0), world.stretched(3, 1), world.stretched(4, 1)];
    world.most = [0; 2];
    world.stalled = true;
    // Array 0 sends entries of two pods and forwards of two.
    for pod in pods {
        world.write(0, pod, 44);
    }
    for _ in 0..20 {
        world.turn();
    }
    let [most, _] = world.most;
    assert!(most > CONNECTION_WINDOW_BYTES / 2, "the link is used: {most}");
    assert!(most < CONNECTION_WINDOW_BYTES + (4 << 20), "{most} bytes under way");
    world.stalled = false;
    world.until("acknowledging", |world| world.sites[0].acknowledged == 4 * 44);
    for (pod, _) in pods {
        assert!((0..2).all(|site| world.shows(site, pod) == Some(Side::Online)), "nobody lost a session");
    }
}

#[test]
fn a_pod_whose_entry_is_damaged_leaves_its_peer_and_is_brought_level() {
    let mut world = World::new();
    let (pod, volume) = world.stretched(1, 0);
    world.damaging = true;
    world.write(0, (pod, volume), 4);
    world.until("leaving", |world| !world.damaging && world.shows(0, pod).is_none());
    world.until("going on alone", |world| world.sites[0].acknowledged == 4);
    world.until("a rejoin", |world| (0..2).all(|site| world.shows(site, pod) == Some(Side::Online)));
    world.write(1, (pod, volume), 4);
    world.until("writes there", |world| world.sites[1].acknowledged == 4);
    assert!(world.sites[1].array.is_fit(world.now), "it may take over again");
}

#[test]
fn what_cannot_be_understood_closes_the_connection_that_it_came_on() {
    let mut world = World::new();
    let (pod, _) = world.stretched(1, 0);
    let peer = IDS[0];
    let frames = [
        (Channel::Sync, Bytes::from_static(b"nonsense")),
        // The pod's, with a message that is none.
        (Channel::Sync, [&[0][..], &pod.0, &[1, 0, 0, 0, 0xff]].concat().into()),
        (Channel::Bulk, Bytes::from_static(b"short")),
        (Channel::Bulk, [&pod.0[..], &[0xff; 40]].concat().into()),
    ];
    for (channel, payload) in frames {
        world.step(1, Input::Frame { peer, channel, payload });
        assert_eq!(std::mem::take(&mut world.sites[1].disconnected), [channel]);
    }
    // One that is whole, of a pod that is not here: the peer may know more.
    let frame = [&[2][..], &[9; 16], &[1]].concat();
    world.step(1, Input::Frame { peer, channel: Channel::Sync, payload: frame.into() });
    assert!(world.sites[1].disconnected.is_empty());
}
