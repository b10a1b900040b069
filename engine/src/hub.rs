//! An array's connections as its driver sees them: frames out by peer and channel, frames in by reader threads.
//!
//! - H1: a frame is queued on the connection that is up at that moment, or dropped: the protocol's sessions notice.
//! - H2: the thread that read a frame steps the core with it and carries the append out that comes of it; meanwhile a
//!   standby reads on, so that a slow disk does not look like a lost link (decision 0001).

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use crossbeam::channel::{Receiver, Sender, unbounded};
use metropod_core::{Alarm, BulkPort, Channel, Input};
use metropod_dedupe::Digest;
use metropod_protocol::{ArrayId, MediatorRequest, PodId, Statement};

use crate::driver::{Asking, Driver, Outside};
use crate::identity::Identity;
use crate::link::{self, Link, LinkEvent};
use crate::mediator::{self, MediatorClient, MediatorClientConfig, MediatorEvent, MediatorSession};
use crate::{reading, wire};

/// Kind of every frame on array connections; the core's own frames tell the rest.
const FRAME_KIND: u8 = wire::KIND_FREE;

/// See the module's text.
pub(crate) struct Hub {
    identity: Arc<Identity>,
    links: RwLock<HashMap<(ArrayId, Channel), Link>>,
    mediator: Mutex<Option<MediatorClient>>,
    driver: OnceLock<Weak<Driver>>,
    /// Each alarm once, with the time it was told last; the newest last.
    alarms: Mutex<Vec<(Alarm, Instant)>>,
    /// Takes link events.
    thread: Mutex<Option<JoinHandle<()>>>,
    damaged: Mutex<DamagedChunks>,
    /// What the mediator was told last.
    fit: AtomicBool,
    events: (Sender<Option<LinkEvent>>, Receiver<Option<LinkEvent>>),
}

/// Alarms kept for those who ask.
const ALARMS_MAX: usize = 256;
/// Before the same alarm is written to the log again.
const ALARM_REST: Duration = Duration::from_secs(60);

impl Hub {
    pub(crate) fn new(identity: Arc<Identity>) -> Arc<Hub> {
        Arc::new(Hub {
            identity,
            links: RwLock::new(HashMap::new()),
            mediator: Mutex::new(None),
            driver: OnceLock::new(),
            alarms: Mutex::new(Vec::new()),
            thread: Mutex::new(None),
            damaged: Mutex::default(),
            fit: AtomicBool::new(true),
            events: unbounded(),
        })
    }

    /// Connects the hub to its driver and starts taking link events.
    pub(crate) fn start(self: &Arc<Self>, driver: &Arc<Driver>) {
        // A hub has one driver; a second call would change nothing.
        let _first = self.driver.set(Arc::downgrade(driver));
        let (hub, here) = (self.clone(), driver.enter_presence());
        let thread = thread::Builder::new()
            .name("metropod-links".into())
            .spawn(move || {
                let _here = here;
                hub.take_events();
            })
            .expect("the system can start a handful of threads");
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
    }

    /// Starts asking the mediator at `address`.
    pub(crate) fn start_mediator(self: &Arc<Self>, config: MediatorClientConfig) -> std::io::Result<()> {
        let hub = Arc::downgrade(self);
        let sink = Box::new(move |event| {
            let Some(driver) = hub.upgrade().and_then(|hub| hub.driver()) else { return };
            match event {
                MediatorEvent::Up { mediator, session } => driver.mediator_up(mediator, Box::new(session)),
                MediatorEvent::Down => driver.mediator_down(),
                MediatorEvent::Reply(reply) => driver.tell(Input::MediatorReply(reply)),
            }
        });
        let client = MediatorClient::start(config, sink)?;
        *self.lock_mediator() = Some(client);
        Ok(())
    }

    /// Where the links put their events.
    pub(crate) fn sink(&self) -> link::LinkSink {
        let events = self.events.0.clone();
        Box::new(move |event| {
            // The receiver lives as long as the hub.
            let _taken = events.send(Some(event));
        })
    }

    /// Takes the link events that are left, the connections' ends, and ends the session with the mediator.
    pub(crate) fn stop(&self) {
        let _taken = self.events.0.send(None);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panicked thread has ended as well.
            let _ended = thread.join();
        }
        // Stopping joins the client's thread, which may be inside the sink: the lock must not be held.
        let client = self.lock_mediator().take();
        drop(client);
    }

    pub(crate) fn driver(&self) -> Option<Arc<Driver>> {
        self.driver.get().and_then(Weak::upgrade)
    }

    pub(crate) fn is_up(&self, peer: ArrayId, channel: Channel) -> bool {
        self.links.read().unwrap_or_else(PoisonError::into_inner).contains_key(&(peer, channel))
    }

    /// Alarms since the start, the newest last.
    pub(crate) fn alarms(&self) -> Vec<Alarm> {
        self.lock_alarms().iter().map(|(alarm, _)| *alarm).collect()
    }

    fn lock_mediator(&self) -> MutexGuard<'_, Option<MediatorClient>> {
        self.mediator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_alarms(&self) -> MutexGuard<'_, Vec<(Alarm, Instant)>> {
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_damaged(&self) -> MutexGuard<'_, DamagedChunks> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_events(&self) {
        while let Ok(Some(event)) = self.events.1.recv() {
            let Some(driver) = self.driver() else { return };
            match event {
                LinkEvent::Up { peer, channel, link, reader } => {
                    let channel = core_channel(channel);
                    let key = (peer.id, channel);
                    self.links.write().unwrap_or_else(PoisonError::into_inner).insert(key, link);
                    driver.tell(Input::LinkUp { peer: peer.id, channel });
                    reading::start(&driver, peer.id, channel, reader);
                }
                LinkEvent::Down { peer, channel, connection, .. } => {
                    let channel = core_channel(channel);
                    let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
                    let present = links.get(&(peer, channel)).is_some_and(|link| link.number() == connection);
                    if present {
                        links.remove(&(peer, channel));
                    }
                    drop(links);
                    if present {
                        driver.tell(Input::LinkDown { peer, channel });
                    }
                }
            }
        }
    }
}

/// Chunks that were told to be damaged, the newest last.
#[derive(Default)]
struct DamagedChunks {
    told: VecDeque<(Digest, Instant)>,
}

/// Damaged chunks remembered; one that was forgotten is told again.
const DAMAGED_MAX: usize = 1024;
/// Damaged chunks told within [`ALARM_REST`].
const DAMAGED_AT_A_TIME: usize = 16;

impl DamagedChunks {
    /// Whether to tell of this one now.
    fn is_news(&mut self, digest: Digest, now: Instant) -> bool {
        let lately = |told: &Instant| now.saturating_duration_since(*told) < ALARM_REST;
        let few = self.told.iter().rev().take_while(|(_, told)| lately(told)).count() < DAMAGED_AT_A_TIME;
        if !few || self.told.iter().any(|(known, _)| *known == digest) {
            return false;
        }
        if self.told.len() == DAMAGED_MAX {
            self.told.pop_front();
        }
        self.told.push_back((digest, now));
        true
    }
}

/// Whether there may be any number of alarms of this kind.
fn is_damage(alarm: &Alarm) -> bool {
    matches!(alarm, Alarm::DamagedChunk(_) | Alarm::ChunkRepaired(_) | Alarm::DamagedSegment(_))
}

impl Outside for Hub {
    fn queue(&self, peer: ArrayId, channel: Channel, parts: Vec<Bytes>) {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get(&(peer, channel)) {
            let (head, body) = head_and_body(parts);
            // A connection that is closed or full is reported by its own event.
            let _dropped = link.queue(FRAME_KIND, 0, head, body);
        }
    }

    fn flush(&self) {
        for link in self.links.read().unwrap_or_else(PoisonError::into_inner).values() {
            link.flush();
        }
    }

    fn disconnect(&self, peer: ArrayId, channel: Channel) {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get(&(peer, channel)) {
            link.close();
        }
    }

    fn sign(&self, statement: &Statement) -> Bytes {
        mediator::sign(&self.identity, statement)
    }

    fn fit(&self, fit: bool) {
        if self.fit.swap(fit, Ordering::Relaxed) != fit
            && let Some(mediator) = self.lock_mediator().as_ref()
        {
            mediator.set_fit(fit);
        }
    }

    fn status_changed(&self, _: PodId) {}

    /// An alarm that goes on is told once in a while and kept once, so that it hides no other. Of damaged chunks, of which there may
    /// be any number, one is kept, each is told once, and so many at a time; of damaged segments one is kept.
    fn alarm(&self, alarm: Alarm) {
        let chunk = match alarm {
            Alarm::DamagedChunk(digest) => Some(digest),
            _ => None,
        };
        if chunk.is_some_and(|digest| !self.lock_damaged().is_news(digest, Instant::now())) {
            return;
        }
        let mut alarms = self.lock_alarms();
        let same = |known: &Alarm| {
            *known == alarm || is_damage(known) && mem::discriminant(known) == mem::discriminant(&alarm)
        };
        let before = alarms.iter().position(|(known, _)| same(known)).map(|at| alarms.remove(at).1);
        let told = before.filter(|told| chunk.is_none() && told.elapsed() < ALARM_REST);
        if told.is_none() {
            tracing::warn!(%alarm, "alarm");
        }
        if alarms.len() == ALARMS_MAX {
            alarms.remove(0);
        }
        alarms.push((alarm, told.unwrap_or_else(Instant::now)));
    }
}

impl Asking for MediatorSession {
    fn queue(&self, request: &MediatorRequest) {
        MediatorSession::queue(self, request);
    }

    fn flush(&self) {
        MediatorSession::flush(self);
    }
}

impl BulkPort for Hub {
    fn send(&self, peer: ArrayId, parts: Vec<Bytes>) {
        let link = {
            let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
            links.get(&(peer, Channel::Bulk)).cloned()
        };
        if let Some(link) = link {
            let (head, body) = head_and_body(parts);
            let _dropped = link.send(FRAME_KIND, 0, head, body);
        }
    }
}

fn core_channel(channel: link::Channel) -> Channel {
    match channel {
        link::Channel::Sync => Channel::Sync,
        link::Channel::Bulk => Channel::Bulk,
    }
}

/// A link takes two parts: small ones go together, the last, which is the payload, stays as it is.
fn head_and_body(mut parts: Vec<Bytes>) -> (Bytes, Bytes) {
    let body = parts.pop().unwrap_or_default();
    let mut head = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    for part in &parts {
        head.extend_from_slice(part);
    }
    (head.freeze(), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_damaged_chunks_is_told_of_a_few_at_a_time_and_each_once() {
        let mut chunks = DamagedChunks::default();
        let digest = |number: u64| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            Digest(bytes)
        };
        let began = Instant::now();
        let told = |chunks: &mut DamagedChunks, numbers: std::ops::Range<u64>, minute: u32| {
            let now = began + minute * ALARM_REST;
            numbers.filter(|number| chunks.is_news(digest(*number), now)).count()
        };
        assert_eq!(told(&mut chunks, 0..10, 0), 10);
        assert_eq!(told(&mut chunks, 0..100_000, 0), DAMAGED_AT_A_TIME - 10);
        assert_eq!(told(&mut chunks, 0..16, 1), 0, "each once");
        for minute in 2..200 {
            assert_eq!(told(&mut chunks, 0..100_000, minute), DAMAGED_AT_A_TIME);
        }
        assert_eq!(chunks.told.len(), DAMAGED_MAX);
    }
}
