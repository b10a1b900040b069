//! One array and its driver: what the threads of the real driver do, as events.
//!
//! - D1: one append is in flight; requests on the media happen in any order after a delay; flows are polled by chance.
//! - D2: a crash loses everything but the media; what was under way on the media may or may not have happened.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use metropod_core::task::{Finished, WaitsFor};
use metropod_core::{
    Array, ArrayConfig, BulkPort, CatchUp, Channel, CollectConfig, Effect, Input, OverlayLimits,
};
use metropod_dedupe::{SEGMENT_BYTES_MIN, StoreConfig};
use metropod_journal::media::sim::SimMedia;
use metropod_journal::media::{Completion, Durability, Io, IoRequest, Media};
use metropod_journal::{Append, JournalConfig};
use metropod_protocol::mediator::{MediatorReply, SessionNumber};
use metropod_protocol::{ArrayId, PodId, Settings, Statement, Time};

use super::{Event, IDS, Key, Nanos, POD, Pair, ms, us};
use crate::executor::{Executor, run};
use crate::media_queue::MediaQueue;
use crate::pair::hosts::{Asked, ReadEnd};
use crate::pair::mediator::sign;
use crate::random::Random;

/// Largest drift of a clock, in parts per million either way.
const DRIFT_PPM_MAX: u64 = 400;

/// While a round is under way a checkpoint and a collection are asked for by turns, so many steps apart.
const STEPS_BETWEEN_ASKS: u64 = 5;

pub(super) enum SiteEvent {
    Wake,
    Appended,
    Media(u64),
    Poll,
    Frame { channel: Channel, connection: u64, payload: Bytes },
    LinkUp { channel: Channel, connection: u64 },
    LinkDown { channel: Channel, connection: u64 },
    MediatorUp(SessionNumber),
    MediatorReply(SessionNumber, MediatorReply),
    MediatorPulse,
    Signed(PodId, Statement),
    Withdraw(Key),
    Checkpoint,
}

/// How a flow ended.
pub(super) enum Ended {
    Core(Finished),
    Read(Box<ReadEnd>),
}

/// Frames on their way out, each with its addressee.
type Outgoing = VecDeque<(ArrayId, Vec<Bytes>)>;

#[derive(Clone, Default)]
pub(super) struct Outbox {
    frames: Arc<Mutex<Outgoing>>,
}

impl BulkPort for Outbox {
    fn send(&self, peer: ArrayId, parts: Vec<Bytes>) {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner).push_back((peer, parts));
    }
}

impl Outbox {
    fn take(&self) -> Option<(ArrayId, Vec<Bytes>)> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

pub(super) struct Site {
    index: usize,
    pub media: SimMedia,
    queue: MediaQueue,
    pub array: Option<Array>,
    pub flows: Executor<Ended>,
    outbox: Outbox,
    append: Option<Append>,
    media_waiting: BTreeMap<u64, (IoRequest, Completion)>,
    media_next: u64,
    poll_at: Option<Nanos>,
    wake_at: Option<Time>,
    pub boot: u64,
    pub asked: BTreeMap<Key, Asked>,
    pub frozen: bool,
    pub deferred: VecDeque<SiteEvent>,
    /// The disk answers nothing.
    pub stuck: bool,
    stuck_events: Vec<SiteEvent>,
    pub slow: bool,
    clock_offset: u64,
    drift_ppm: u64,
    steps_in_rounds: u64,
    /// What each pod's catching up was about after the last step.
    catching_up: Vec<(PodId, std::mem::Discriminant<CatchUp>)>,
    pub was_alone: bool,
    pub was_behind: bool,
    /// The last whole volume or snapshot that was read.
    pub read: Option<Bytes>,
}

impl Site {
    pub fn new(index: usize, random: &mut Random) -> Site {
        let media = SimMedia::new();
        Site {
            index,
            queue: MediaQueue::inline(media.clone()),
            media,
            array: None,
            flows: Executor::default(),
            outbox: Outbox::default(),
            append: None,
            media_waiting: BTreeMap::new(),
            media_next: 0,
            poll_at: None,
            wake_at: None,
            boot: 0,
            asked: BTreeMap::new(),
            frozen: false,
            deferred: VecDeque::new(),
            stuck: false,
            stuck_events: Vec::new(),
            slow: false,
            clock_offset: random.below(ms(100_000)),
            drift_ppm: random.below(2 * DRIFT_PPM_MAX),
            catching_up: Vec::new(),
            steps_in_rounds: 0,
            was_alone: false,
            was_behind: false,
            read: None,
        }
    }

    /// What the array's clock shows.
    pub fn clock(&self, now: Nanos) -> Time {
        let drifted = u128::from(now) * u128::from(1_000_000 - DRIFT_PPM_MAX + self.drift_ppm) / 1_000_000;
        Time(self.clock_offset + drifted as u64)
    }

    /// From now on the clock goes as fast, or as slowly, as it may.
    pub fn set_drift(&mut self, now: Nanos, fast: bool) {
        let shown = self.clock(now);
        self.drift_ppm = if fast { 2 * DRIFT_PPM_MAX } else { 0 };
        self.clock_offset = 0;
        let unmoved = self.clock(now);
        self.clock_offset = shown.0.saturating_sub(unmoved.0);
    }

    /// When the array's clock has reached `at`.
    fn when(&self, at: Time) -> Nanos {
        let rate = u128::from(1_000_000 - DRIFT_PPM_MAX + self.drift_ppm);
        (u128::from(at.0.saturating_sub(self.clock_offset)) * 1_000_000).div_ceil(rate) as u64 + 1
    }

    /// What is under way, for a message to a person.
    pub fn under_way(&self) -> String {
        let media: Vec<String> =
            self.media_waiting.values().map(|(request, _)| format!("{:?}", request.doing())).collect();
        format!(
            "{} flows, append {}, media {media:?}, stuck {} {}, frozen {}",
            self.flows.len(),
            self.append.is_some(),
            self.stuck,
            self.stuck_events.len(),
            self.frozen
        )
    }

    /// Answers requests on the media at once, or later again.
    pub fn answer_at_once(&self, at_once: bool) {
        self.queue.set_inline(at_once);
    }

    fn config(&self, random: &mut Random) -> ArrayConfig {
        let me = IDS[self.index];
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&random.bits().to_le_bytes());
        let journal = JournalConfig {
            segment_bytes: 5 << 20,
            budget_bytes: 20 << 20,
            ..JournalConfig::new(me.0, random.bits())
        };
        let overlay = OverlayLimits { entries_max: 60, layers_max: 2 };
        // Small, so that space is collected while everything else happens.
        let store =
            StoreConfig { segment_bytes: SEGMENT_BYTES_MIN, hints_max: 512, ..StoreConfig::new(me.0) };
        let collect = CollectConfig { fresh_percent: 20, fresh_bytes_min: 300_000, clean_percent: 60 };
        let scrub = metropod_core::ScrubConfig { every: None, ..Default::default() };
        let account = metropod_core::AccountConfig { every: None };
        ArrayConfig {
            me,
            journal,
            store,
            overlay,
            settings: Settings::default(),
            collect,
            scrub,
            account,
            seed,
        }
    }
}

impl Pair {
    /// Starts an array, perhaps with the power failing meanwhile.
    pub(super) fn boot(&mut self, site: usize) {
        self.boot_with(site, 0);
    }

    /// As [`Pair::boot`]; each attempt meets a power cut with this chance.
    pub(super) fn boot_with(&mut self, site: usize, cut_percent: u64) {
        if self.sites[site].array.is_some() {
            return;
        }
        // Errors planned for what ran here before.
        if !self.sites[site].media.is_dark() {
            self.sites[site].media.heal();
        }
        for attempt in 0..100 {
            if self.random.chance(cut_percent) && attempt < 5 {
                let effects = self.random.below(20);
                self.sites[site].media.cut_power_after(effects);
            }
            let now = self.sites[site].clock(self.now);
            let mut config = self.sites[site].config(&mut self.random);
            config.account.every = self.accounting;
            let at = &mut self.sites[site];
            at.boot += 1;
            at.queue = MediaQueue::inline(at.media.clone());
            at.outbox = Outbox::default();
            let io = Io::new(Arc::new(at.queue.clone()));
            let opened = run(Array::open(config, io, Arc::new(at.outbox.clone()), now));
            if at.media.is_dark() {
                let seed = self.random.bits();
                self.sites[site].media.crash(seed);
                continue;
            }
            match opened {
                Ok(array) => {
                    at.queue.set_inline(false);
                    at.array = Some(array);
                    at.was_alone = false;
                    self.log(|| format!("{site} boots"));
                    self.step(site, Input::Tick);
                    let soon = self.random.below(ms(60));
                    self.site_after(soon, site, SiteEvent::MediatorPulse);
                    return;
                }
                Err(error) => panic!("an array opens after any crash: {error}"),
            }
        }
        panic!("an array opens once the power stays");
    }

    /// The power of a site fails, or (`kill`) only its process dies.
    pub(super) fn crash(&mut self, site: usize, kill: bool) {
        if self.sites[site].array.is_none() {
            return;
        }
        self.counts.crashes += 1;
        self.log(|| format!("{site} {}", if kill { "is killed" } else { "loses power" }));
        self.finish_media_by_chance(site);
        let seed = self.random.bits();
        let offset = self.random.below(ms(100_000));
        let at = &mut self.sites[site];
        at.array = None;
        at.flows = Executor::default();
        at.boot += 1;
        at.poll_at = None;
        at.wake_at = None;
        at.frozen = false;
        at.deferred.clear();
        at.stuck = false;
        at.stuck_events.clear();
        if kill {
            at.media.kill();
        } else {
            at.media.crash(seed);
            at.clock_offset = offset;
        }
        self.requests_lost(site);
        self.drop_connections(site);
        self.mediator_lost(site);
    }

    /// What was under way on the media when its owner died may have happened (D2).
    fn finish_media_by_chance(&mut self, site: usize) {
        let append = self.sites[site].append.take();
        let waiting = std::mem::take(&mut self.sites[site].media_waiting);
        let media = self.sites[site].media.clone();
        if let Some(append) = append
            && self.random.chance(50)
        {
            let _unheard = media.write(append.file, append.offset, &[&append.data], Durability::Durable);
        }
        for (request, _) in waiting.into_values() {
            if self.random.chance(50) {
                let _unheard = request.run(&media);
            }
        }
    }

    pub(super) fn site_event(&mut self, site: usize, what: SiteEvent) {
        if self.sites[site].array.is_none() {
            return;
        }
        if self.sites[site].stuck && matches!(what, SiteEvent::Appended | SiteEvent::Media(_)) {
            self.sites[site].stuck_events.push(what);
            return;
        }
        match what {
            SiteEvent::Wake => {
                self.sites[site].wake_at = None;
                self.step(site, Input::Tick);
            }
            SiteEvent::Appended => self.finish_append(site),
            SiteEvent::Media(number) => self.finish_media(site, number),
            SiteEvent::Poll => self.poll(site),
            SiteEvent::Frame { channel, connection, payload } => {
                if self.is_up(site, channel, connection) {
                    let peer = IDS[1 - site];
                    self.step(site, Input::Frame { peer, channel, payload });
                }
            }
            SiteEvent::LinkUp { channel, connection } => self.link_up(site, channel, connection),
            SiteEvent::LinkDown { channel, connection } => self.link_down(site, channel, connection),
            SiteEvent::MediatorUp(session) => self.mediator_up(site, session),
            SiteEvent::MediatorReply(session, reply) => self.mediator_reply(site, session, reply),
            SiteEvent::MediatorPulse => self.mediator_pulse(site),
            SiteEvent::Signed(pod, statement) => {
                let signature = sign(IDS[site], &statement);
                self.step(site, Input::Signed { pod, statement, signature });
            }
            SiteEvent::Withdraw(request) => {
                if self.sites[site].asked.contains_key(&request) {
                    self.step(site, Input::Withdraw { pod: POD, request });
                }
            }
            SiteEvent::Checkpoint => {
                let request = self.next_request(site);
                self.step(site, Input::Checkpoint { request });
            }
        }
    }

    pub(super) fn next_request(&mut self, site: usize) -> Key {
        self.sites[site].array.as_mut().expect("asked only while it runs").next_request()
    }

    /// Steps an array and carries out what comes of it.
    pub(super) fn step(&mut self, site: usize, input: Input) {
        let now = self.sites[site].clock(self.now);
        let Some(array) = &mut self.sites[site].array else { return };
        array.step(now, input);
        self.collect_at_turns(site, now);
        while let Some(effect) = self.sites[site].array.as_mut().and_then(Array::next_effect) {
            self.effect(site, effect);
        }
        self.after_step(site);
    }

    /// Asks for a collection whenever catching up goes on to something else, and while it goes on for what has come so far to
    /// be made durable and for another one: what only a round names is at stake then.
    fn collect_at_turns(&mut self, site: usize, now: Time) {
        let at = &mut self.sites[site];
        let Some(array) = &mut at.array else { return };
        let stage = |pod: &metropod_core::Pod| (pod.id(), std::mem::discriminant(pod.catch_up()));
        let stages: Vec<_> = array.pods().map(stage).collect();
        let in_round = |array: &Array| {
            array.pods().any(|pod| !matches!(pod.catch_up(), CatchUp::Idle | CatchUp::Suffix { .. }))
        };
        let turned = std::mem::replace(&mut at.catching_up, stages.clone()) != stages;
        at.steps_in_rounds += u64::from(in_round(array));
        let request = array.next_request();
        match at.steps_in_rounds % (2 * STEPS_BETWEEN_ASKS) {
            STEPS_BETWEEN_ASKS if !turned && in_round(array) => {
                array.step(now, Input::Checkpoint { request })
            }
            0 if !turned && in_round(array) => array.step(now, Input::Collect { request }),
            _ if turned => array.step(now, Input::Collect { request }),
            _ => return,
        }
        self.counts.collected_in_rounds += u64::from(in_round(array) && array.collecting() == "marking");
    }

    fn effect(&mut self, site: usize, effect: Effect) {
        match effect {
            Effect::Append(append) => {
                assert!(self.sites[site].append.is_none(), "D1: one append is in flight");
                self.sites[site].append = Some(append);
                let span = self.disk_delay(site);
                self.site_after(span, site, SiteEvent::Appended);
            }
            Effect::Run(task) => {
                let round = !matches!(task.waits_for, WaitsFor::Media | WaitsFor::Asker);
                assert_eq!(
                    round,
                    task.name.ends_with("round"),
                    "rounds wait for the peer, nothing else does"
                );
                let future = task.future;
                self.sites[site].flows.spawn(async move { Ended::Core(future.await) });
            }
            Effect::Send { peer, channel, parts } => {
                assert_eq!(peer, IDS[1 - site]);
                self.send(site, channel, parts);
            }
            Effect::Mediator(request) => self.ask_mediator(site, request),
            Effect::Sign { pod, statement } => {
                self.site_after(us(20), site, SiteEvent::Signed(pod, statement))
            }
            Effect::Fetch { request, fetch } => self.fetch(site, request, *fetch),
            Effect::Complete { request, result } => self.host_answer(site, request, result),
            Effect::Managed { request, result } => self.manager_answer(site, request, result),
            Effect::StatusChanged { pod } => self.log_status(site, pod),
            Effect::Disconnect { .. } => panic!("what a peer says can be understood"),
            Effect::Alarm(alarm) => self.alarm(site, alarm),
        }
    }

    /// New requests on the media, woken flows, bulk frames and the next deadline go on the queue.
    fn after_step(&mut self, site: usize) {
        for (request, completion) in self.sites[site].queue.take() {
            let at = &mut self.sites[site];
            at.media_next += 1;
            let number = at.media_next;
            at.media_waiting.insert(number, (request, completion));
            let span = self.disk_delay(site);
            self.site_after(span, site, SiteEvent::Media(number));
        }
        while let Some((peer, parts)) = self.sites[site].outbox.take() {
            assert_eq!(peer, IDS[1 - site]);
            self.send(site, Channel::Bulk, parts);
        }
        if self.sites[site].flows.has_ready() && self.sites[site].poll_at.is_none() {
            let at = self.now + self.random.below(us(100));
            self.sites[site].poll_at = Some(at);
            self.site_after(at - self.now, site, SiteEvent::Poll);
        }
        let deadline = self.array(site).and_then(Array::next_deadline);
        if let Some(deadline) = deadline
            && self.sites[site].wake_at.is_none_or(|at| deadline < at)
        {
            self.sites[site].wake_at = Some(deadline);
            let late =
                if self.random.chance(5) { self.random.below(ms(8)) } else { self.random.below(us(300)) };
            let at = self.sites[site].when(deadline).max(self.now) + late;
            self.site_after(at - self.now, site, SiteEvent::Wake);
        }
    }

    fn disk_delay(&mut self, site: usize) -> Nanos {
        let slow = self.sites[site].slow;
        match self.random.below(100) {
            0 if !slow => self.random.below(ms(40)),
            1..10 if !slow => self.random.below(ms(2)),
            _ if slow => self.random.below(ms(60)),
            _ => us(40) + self.random.below(us(200)),
        }
    }

    fn finish_append(&mut self, site: usize) {
        let Some(append) = self.sites[site].append.take() else { return };
        let media = self.sites[site].media.clone();
        let result = media.write(append.file, append.offset, &[&append.data], Durability::Durable);
        if media.is_dark() {
            return self.crash(site, false);
        }
        self.step(site, Input::Appended { id: append.id, result });
    }

    fn finish_media(&mut self, site: usize, number: u64) {
        let Some((request, completion)) = self.sites[site].media_waiting.remove(&number) else { return };
        let media = self.sites[site].media.clone();
        let answer = request.run(&media);
        if media.is_dark() {
            return self.crash(site, false);
        }
        completion.complete(answer);
        self.after_step(site);
    }

    fn poll(&mut self, site: usize) {
        self.sites[site].poll_at = None;
        match self.sites[site].flows.poll_one(&mut self.random) {
            Some(Ended::Core(finished)) => {
                if let Finished::Accounted(Ok(account)) = &finished {
                    self.check_account(account);
                }
                self.step(site, Input::Finished(finished));
            }
            Some(Ended::Read(end)) => {
                self.read_answer(site, *end);
                self.after_step(site);
            }
            None => self.after_step(site),
        }
    }

    /// The disk answers again.
    pub(super) fn unstick(&mut self, site: usize) {
        self.sites[site].stuck = false;
        for what in std::mem::take(&mut self.sites[site].stuck_events) {
            let span = self.random.below(us(300));
            self.site_after(span, site, what);
        }
    }

    /// The process runs again: what happened meanwhile reaches it now, in order.
    pub(super) fn thaw(&mut self, site: usize) {
        if !self.sites[site].frozen {
            return;
        }
        self.log(|| format!("{site} thaws"));
        self.sites[site].frozen = false;
        let boot = self.sites[site].boot;
        for what in std::mem::take(&mut self.sites[site].deferred) {
            self.after(0, Event::Site { site, boot, what });
        }
    }
}
