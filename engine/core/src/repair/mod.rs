//! Chunks that are lost here, fetched from an array that holds a pod together with this one.
//!
//! Flows ask from anywhere ([`Repairs`] is the store's [`Rescue`]); the core brings answers, time and who may be asked.
//!
//! ```text
//!  flow: Store::get ─ lost ─► fetch ── Ask ──► peer: get_proven ── Answer ──► core: answered ─► flow: verified, staged
//! ```
//! - V1: an answer counts only if its content has the digest asked for; one that does not is told as a broken peer's.
//! - V2: at most [`ASKS_MAX`] asks are open; one more is refused at once. Who asks for the same chunk shares the ask.
//! - V3: an array has [`ANSWER_WITHIN`] for an answer, counted from the first step after the ask. One that lets it pass is
//!   not asked for [`MUTE_FOR`], so that many reads of many lost chunks do not wait one after another.
//! - V4: a chunk that nobody could give is not asked for again within [`REFUSED_FOR`].
//! - V5: after [`Repairs::close`] every ask has ended, and none begins.

pub mod message;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use metropod_dedupe::{Digest, Domain, Payload, Rescue, Rescued, verify};
use metropod_protocol::{ArrayId, PodId, Span, Time};

use crate::array::BulkPort;
use message::Message;

/// Most asks that wait for an answer: with the longest answer to each, 1 MiB of blocks.
pub const ASKS_MAX: usize = 256;

/// How long an array may take for an answer; what a host's read waits at most for a chunk and an array that is silent.
pub const ANSWER_WITHIN: Span = Span::millis(3_000);

/// How long an array that did not answer in time is not asked.
pub const MUTE_FOR: Span = Span::millis(10_000);

/// How long a chunk that nobody could give is not asked for again.
pub const REFUSED_FOR: Span = Span::millis(5_000);

/// Chunks remembered as refused.
const REFUSED_MAX: usize = 4096;

/// Since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RepairCounts {
    /// Times that a chunk was met that is lost here and could be asked for.
    pub found: u64,
    /// Of those, given by another array and proven.
    pub repaired: u64,
    /// Of those, not to be had.
    pub failed: u64,
}

/// What an answer came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was not waited for (any more), or another array is asked now.
    Nothing,
    Repaired(Digest),
    /// The content is not what was asked for.
    Garbage,
}

type Chunk = (Domain, Payload);

/// See the module's text. Clones share everything.
#[derive(Clone)]
pub(crate) struct Repairs {
    state: Arc<Mutex<State>>,
    bulk: Arc<dyn BulkPort>,
}

#[derive(Default)]
struct State {
    peers: Vec<(ArrayId, PodId)>,
    open: BTreeMap<Digest, Ask>,
    refused: BTreeMap<Digest, Time>,
    mute: BTreeMap<ArrayId, Time>,
    next_number: u64,
    counts: RepairCounts,
    closed: bool,
}

struct Ask {
    number: u64,
    peer: ArrayId,
    /// Arrays that can still be asked after this one.
    others: Vec<(ArrayId, PodId)>,
    deadline: Option<Time>,
    slot: Arc<Slot>,
}

/// Where the flows that wait for one chunk find it.
#[derive(Default)]
struct Slot(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    end: Option<Option<Chunk>>,
    wakers: Vec<Waker>,
}

impl Slot {
    fn end(&self, chunk: Option<Chunk>) {
        let wakers = {
            let mut waiting = lock(&self.0);
            waiting.end = Some(chunk);
            std::mem::take(&mut waiting.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Option<Chunk>> {
        let mut waiting = lock(&self.0);
        if let Some(end) = &waiting.end {
            return Poll::Ready(end.clone());
        }
        if !waiting.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            waiting.wakers.push(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Rescue for Repairs {
    fn fetch(&self, digest: Digest) -> Rescued {
        let slot = self.begin(digest);
        Box::pin(async move {
            let slot = slot?;
            poll_fn(|context| slot.poll(context)).await
        })
    }
}

impl Repairs {
    pub(crate) fn new(bulk: Arc<dyn BulkPort>) -> Repairs {
        Repairs { state: Arc::default(), bulk }
    }

    pub(crate) fn counts(&self) -> RepairCounts {
        lock(&self.state).counts
    }

    /// When [`Repairs::pass`] is due.
    pub(crate) fn due_at(&self) -> Option<Time> {
        lock(&self.state).open.values().filter_map(|ask| ask.deadline).min()
    }

    /// Time has passed, and these arrays may be asked now.
    pub(crate) fn pass(&self, now: Time, peers: Vec<(ArrayId, PodId)>) {
        let mut state = lock(&self.state);
        let state = &mut *state;
        state.refused.retain(|_, until| *until > now);
        state.mute.retain(|_, until| *until > now);
        for ask in state.open.values_mut() {
            let deadline = *ask.deadline.get_or_insert(now + ANSWER_WITHIN);
            if deadline <= now {
                state.mute.insert(ask.peer, now + MUTE_FOR);
            }
        }
        state.peers = peers;
        state.peers.retain(|(peer, _)| !state.mute.contains_key(peer));
        let usable = |peer: &ArrayId| state.peers.iter().any(|(one, _)| one == peer);
        let lost: Vec<Digest> =
            state.open.iter().filter(|(_, ask)| !usable(&ask.peer)).map(|(digest, _)| *digest).collect();
        for digest in lost {
            self.ask_another(now, state, digest);
        }
    }

    /// An answer came.
    pub(crate) fn answered(&self, now: Time, peer: ArrayId, number: u64, chunk: Option<Chunk>) -> Outcome {
        let mut state = lock(&self.state);
        let state = &mut *state;
        let asked = |(_, ask): &(&Digest, &Ask)| ask.number == number && ask.peer == peer;
        let Some(digest) = state.open.iter().find(asked).map(|(digest, _)| *digest) else {
            return Outcome::Nothing;
        };
        let is_given = chunk.is_some();
        let proven = chunk.filter(|(domain, payload)| verify(*domain, &digest, payload).is_ok());
        if proven.is_some() {
            if let Some(ask) = state.open.remove(&digest) {
                state.counts.repaired += 1;
                ask.slot.end(proven);
            }
            return Outcome::Repaired(digest);
        }
        self.ask_another(now, state, digest);
        if is_given { Outcome::Garbage } else { Outcome::Nothing }
    }

    /// Nobody is asked any more (V5).
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        std::mem::take(&mut state.open).into_values().for_each(|ask| ask.slot.end(None));
    }

    fn begin(&self, digest: Digest) -> Option<Arc<Slot>> {
        let mut state = lock(&self.state);
        if state.closed || state.refused.contains_key(&digest) {
            return None;
        }
        if let Some(ask) = state.open.get(&digest) {
            return Some(ask.slot.clone());
        }
        let mut others = state.peers.clone();
        if others.is_empty() || state.open.len() >= ASKS_MAX {
            return None;
        }
        let (peer, pod) = others.remove(0);
        state.counts.found += 1;
        let number = self.send(&mut state, peer, pod, digest);
        let slot = Arc::<Slot>::default();
        state.open.insert(digest, Ask { number, peer, others, deadline: None, slot: slot.clone() });
        Some(slot)
    }

    /// The array asked cannot give it.
    fn ask_another(&self, now: Time, state: &mut State, digest: Digest) {
        let Some(mut ask) = state.open.remove(&digest) else { return };
        while let Some((peer, pod)) = ask.others.pop() {
            if state.peers.contains(&(peer, pod)) {
                ask.number = self.send(state, peer, pod, digest);
                (ask.peer, ask.deadline) = (peer, Some(now + ANSWER_WITHIN));
                state.open.insert(digest, ask);
                return;
            }
        }
        state.counts.failed += 1;
        // Where nobody is asked there is nothing to spare anybody.
        if !state.peers.is_empty() && state.refused.len() < REFUSED_MAX {
            state.refused.insert(digest, now + REFUSED_FOR);
        }
        ask.slot.end(None);
    }

    fn send(&self, state: &mut State, peer: ArrayId, pod: PodId, digest: Digest) -> u64 {
        state.next_number += 1;
        let number = state.next_number;
        send(&*self.bulk, peer, pod, &Message::Ask { number, digest });
        number
    }
}

/// Queues a message on the bulk connection.
pub(crate) fn send(bulk: &dyn BulkPort, peer: ArrayId, pod: PodId, message: &Message) {
    bulk.send(peer, vec![Bytes::copy_from_slice(&pod.0), message.encode()]);
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
