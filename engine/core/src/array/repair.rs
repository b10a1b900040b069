//! Asks for chunks lost here, and answers to those of others.
//!
//! - J1: only an array that holds a pod with this one is asked or answered, while both its connections are up.
//! - J2: at most [`ANSWERS_MAX`] answers to one array are being read; asks beyond are answered with a refusal.
//! - J3: what was repaired becomes durable with a checkpoint, at most one per [`KEEP_AFTER`].

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use metropod_protocol::{ArrayId, PodId, Span, Time};

use super::Array;
use crate::door::{Alarm, Channel, Effect};
use crate::repair::message::Message;
use crate::repair::{ASKS_MAX, Outcome, RepairCounts, Repairs, send};
use crate::task::{Finished, WaitsFor};

/// Answers that are being read for one array at a time.
const ANSWERS_MAX: usize = ASKS_MAX;

/// From a repair to the checkpoint that keeps it, so that many share one.
const KEEP_AFTER: Span = Span::millis(1_000);

/// See the module's text.
pub(super) struct Desk {
    repairs: Repairs,
    answering: BTreeMap<ArrayId, usize>,
    keep_at: Option<Time>,
}

impl Desk {
    pub(super) fn new(repairs: Repairs) -> Desk {
        Desk { repairs, answering: BTreeMap::new(), keep_at: None }
    }

    pub(super) fn due_at(&self) -> Option<Time> {
        self.repairs.due_at().into_iter().chain(self.keep_at).min()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.repairs.close();
    }
}

impl Array {
    /// What became of chunks that are lost here, since the start.
    pub fn repair_counts(&self) -> RepairCounts {
        self.desk.repairs.counts()
    }

    /// The array stops: who waits for a chunk hears that it is not to be had.
    pub fn stop_repairs(&self) {
        self.desk.repairs.close();
    }

    pub(super) fn review_repairs(&mut self, now: Time) {
        let mut seen = BTreeSet::new();
        let linked =
            |peer: &ArrayId| self.is_linked(*peer, Channel::Bulk) && self.is_linked(*peer, Channel::Sync);
        let held = self.pods.values().filter(|pod| pod.born_with.is_none());
        let with = held.filter_map(|pod| Some((pod.peer()?, pod.id)));
        let peers = with.filter(|(peer, _)| linked(peer) && seen.insert(*peer)).collect();
        self.desk.repairs.pass(now, peers);
        if self.desk.keep_at.is_some_and(|at| at <= now) {
            self.desk.keep_at = None;
            self.background.want_checkpoint();
        }
    }

    pub(super) fn repair_frame(&mut self, now: Time, peer: ArrayId, pod: PodId, message: Bytes) {
        if self.pods.get(&pod).and_then(|found| found.peer()) != Some(peer) {
            return;
        }
        match Message::decode(message) {
            Ok(Message::Ask { number, digest }) => {
                let answering = self.desk.answering.entry(peer).or_default();
                if *answering >= ANSWERS_MAX {
                    return send(&*self.bulk, peer, pod, &Message::Answer { number, chunk: None });
                }
                *answering += 1;
                let (store, bulk) = (self.store.clone(), self.bulk.clone());
                self.run_waiting(WaitsFor::Asker, "answer", async move {
                    let chunk = store.get_proven(&digest).await.ok();
                    send(&*bulk, peer, pod, &Message::Answer { number, chunk });
                    Finished::ChunkAnswered { peer }
                });
            }
            Ok(Message::Answer { number, chunk }) => {
                match self.desk.repairs.answered(now, peer, number, chunk) {
                    Outcome::Repaired(digest) => {
                        self.desk.keep_at.get_or_insert(now + KEEP_AFTER);
                        self.effects.push_back(Effect::Alarm(Alarm::ChunkRepaired(digest)));
                    }
                    Outcome::Garbage => self.effects.push_back(Effect::Alarm(Alarm::BadChunk(peer))),
                    Outcome::Nothing => {}
                }
            }
            Err(_) => self.bad_frame(peer, Channel::Bulk),
        }
    }

    pub(super) fn chunk_answered(&mut self, peer: ArrayId) {
        if let Some(answering) = self.desk.answering.get_mut(&peer) {
            *answering = answering.saturating_sub(1);
        }
    }
}
