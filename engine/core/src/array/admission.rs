//! Who waits for room: hosts' writes before their pod's machine, and reports of the other array's entries after the journal.
//!
//! ```text
//!  own hosts ──► line of the pod ──┐ open, and no gauge full          ┌─► machine ─► journal ─► machine
//!                                  ├──────────────── pacer ───────────┤
//!  peer's entries ─► journal ──────┘ open                             └─► "durable" ─► machine ─► peer goes on
//! ```
//! What a peer sends is not asked for, but it sends no more than a window ahead of what is reported durable. So a slow array
//! slows its peer down by reporting later, and needs room for one window beyond what it lets in by itself.
//!
//! - A1: what waits, here and for meters, is at most [`WAITING_BYTES_MAX`]; one pod leaves others a share. The rest is
//!   told to try again.
//! - A2: a pod's machine has at most [`HELD_BYTES_MAX`] of hosts' writes, or one: so much comes to the peer unasked.
//! - A3: pods take turns; one that is held keeps no other from going on.
//! - A4: a state record is never held back, and takes what stands before it along.
//! - A5: a damaged pod that is in session reports no entry: its peer goes on without it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use metropod_journal::Lsn;
use metropod_protocol::settings::CONNECTION_WINDOW_BYTES;
use metropod_protocol::{Input as MachineInput, PodId, RequestId, Ticket, Time};

use super::pacing::{Gauge, Pacer};
use super::{Array, STAGED_BYTES_MAX};
use crate::door::HostError;
use crate::operation::Operation;
use crate::pod::Pod;

/// What may wait at one array, in bytes.
const WAITING_BYTES_MAX: u64 = 256 << 20;

/// What of hosts' writes one pod's machine has at most, in bytes.
const HELD_BYTES_MAX: u64 = CONNECTION_WINDOW_BYTES as u64;

/// Something handed to the journal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Journaled {
    pub(crate) lsn: Lsn,
    pub(crate) ticket: Ticket,
    pub(crate) kind: Kind,
}

/// How it is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An entry of this array's hosts: it was paced before.
    Own,
    /// An entry of the peer's hosts, of so many bytes.
    Peers(u64),
    /// A state record or a configuration (A4).
    State,
}

struct Waiter {
    request: RequestId,
    operation: Operation,
}

/// See the module's text.
#[derive(Default)]
pub(super) struct Admission {
    lines: BTreeMap<PodId, VecDeque<Waiter>>,
    /// Pods with a line, in the order of their turns.
    turns: VecDeque<PodId>,
    /// Bytes that wait, here and for meters.
    waiting: BTreeMap<PodId, u64>,
    waiting_bytes: u64,
    /// Pods with durable entries that are not reported.
    reports: BTreeSet<PodId>,
    reports_first: bool,
    pacer: Pacer,
    /// When the core has to be stepped for those who wait for nothing but their time.
    opens_at: Option<Time>,
    /// What may be said to waiting requests has changed.
    stale: bool,
}

impl Admission {
    /// When the core has to be stepped for it.
    pub(super) fn opens_at(&self) -> Option<Time> {
        self.opens_at
    }

    /// What those who wait are to be told may have changed.
    pub(super) fn review(&mut self) {
        self.stale = true;
    }

    /// Takes so many bytes that wait into account, or refuses (A1).
    pub(super) fn hold(&mut self, pod: PodId, bytes: u64) -> bool {
        let own = self.waiting.get(&pod).copied().unwrap_or(0);
        let left = WAITING_BYTES_MAX.saturating_sub(self.waiting_bytes - own);
        if own + bytes > left / 2 {
            return false;
        }
        self.waiting.insert(pod, own + bytes);
        self.waiting_bytes += bytes;
        true
    }

    /// They wait no longer.
    pub(super) fn let_go(&mut self, pod: PodId, bytes: u64) {
        self.waiting_bytes -= bytes;
        if let Some(own) = self.waiting.get_mut(&pod) {
            *own -= bytes;
            if *own == 0 {
                self.waiting.remove(&pod);
            }
        }
    }

    fn push(&mut self, pod: PodId, waiter: Waiter) {
        let line = self.lines.entry(pod).or_default();
        if line.is_empty() {
            self.turns.push_back(pod);
        }
        line.push_back(waiter);
    }

    /// Takes the first of a pod's line; the pod's next turn comes after those of the others.
    fn pop(&mut self, pod: PodId) -> Option<Waiter> {
        self.turns.retain(|turn| *turn != pod);
        let line = self.lines.get_mut(&pod)?;
        let waiter = line.pop_front()?;
        if line.is_empty() {
            self.lines.remove(&pod);
        } else {
            self.turns.push_back(pod);
        }
        self.let_go(pod, waiter.operation.cost());
        Some(waiter)
    }

    /// Takes a request out of its line; says whether it was there.
    pub(super) fn leave(&mut self, pod: PodId, request: RequestId) -> bool {
        let Some(line) = self.lines.get_mut(&pod) else { return false };
        let Some(at) = line.iter().position(|waiter| waiter.request == request) else { return false };
        let left = line.remove(at);
        if line.is_empty() {
            self.lines.remove(&pod);
            self.turns.retain(|turn| *turn != pod);
        }
        self.let_go(pod, left.map_or(0, |waiter| waiter.operation.cost()));
        true
    }

    /// An entry of this pod is durable.
    pub(super) fn is_due(&mut self, pod: PodId) {
        self.reports.insert(pod);
    }
}

impl Array {
    /// A host operation that its meter let go.
    pub(super) fn host_metered(&mut self, now: Time, request: RequestId, pod: PodId, operation: Operation) {
        let cost = operation.cost();
        let first = !self.admission.lines.contains_key(&pod) && self.may_hold(pod, cost);
        if first && self.has_place(&operation) && self.take_room(now, cost) {
            return self.submit_host(now, request, pod, &operation);
        }
        if !self.admission.hold(pod, cost) {
            return self.complete(request, Err(HostError::Busy));
        }
        self.admission.push(pod, Waiter { request, operation });
    }

    /// Lets in and reports what may be by now, one before the other by turns.
    pub(super) fn admit(&mut self, now: Time) {
        self.admission.reports_first = !self.admission.reports_first;
        let reports_wait = if self.admission.reports_first {
            let wait = self.report(now);
            self.let_in(now) | wait
        } else {
            self.let_in(now) | self.report(now)
        };
        self.admission.opens_at = reports_wait.then(|| self.admission.pacer.opens_at());
    }

    /// Lets waiting writes in while there is room; those that are refused by now hear it whether or not there is. Says
    /// whether some wait for nothing but their time.
    fn let_in(&mut self, now: Time) -> bool {
        if std::mem::take(&mut self.admission.stale) {
            self.sweep(now);
        }
        let mut held = 0;
        while let Some(pod) = self.admission.turns.front().copied() {
            let head = self.admission.lines.get(&pod).and_then(VecDeque::front);
            let cost = head.map_or(0, |waiter| waiter.operation.cost());
            if !self.may_hold(pod, cost) || head.is_some_and(|waiter| !self.has_place(&waiter.operation)) {
                // A3.
                self.admission.turns.rotate_left(1);
                held += 1;
                if held >= self.admission.turns.len() {
                    if self.lacks_space() {
                        // It may be for the collector to make place.
                        self.collection.review();
                        self.collect(now);
                    }
                    return false;
                }
                continue;
            }
            if !self.take_room(now, cost) {
                return !self.gauges().iter().any(|gauge| gauge.is_full());
            }
            held = 0;
            let Some(Waiter { request, operation }) = self.admission.pop(pod) else { return false };
            match self.check_host(now, pod, &operation) {
                Ok(()) => self.submit_host(now, request, pod, &operation),
                Err(error) => self.complete(request, Err(error)),
            }
        }
        false
    }

    fn sweep(&mut self, now: Time) {
        let pods: Vec<PodId> = self.admission.lines.keys().copied().collect();
        for pod in pods {
            let Some(line) = self.admission.lines.remove(&pod) else { continue };
            self.admission.turns.retain(|turn| *turn != pod);
            for waiter in line {
                match self.check_host(now, pod, &waiter.operation) {
                    Ok(()) => self.admission.push(pod, waiter),
                    Err(error) => {
                        self.admission.let_go(pod, waiter.operation.cost());
                        self.complete(waiter.request, Err(error));
                    }
                }
            }
        }
    }

    /// Tells machines what is durable, the peer's entries as they are paced. Says whether some wait for their time.
    pub(super) fn report(&mut self, now: Time) -> bool {
        let through = self.journal.durable();
        for pod in std::mem::take(&mut self.admission.reports) {
            let Some(found) = self.pods.get(&pod) else { continue };
            let paced = found.machine.is_in_session();
            let free = if paced { found.reported_with_state(through) } else { usize::MAX };
            let mut last = None;
            let mut count = 0;
            while let Some(found) = self.pods.get(&pod)
                && let Some(first) = found.in_journal.front().copied()
                && first.lsn <= through
            {
                if found.damaged && paced && first.kind != Kind::State && count >= free {
                    // A5. A change of the session asks again.
                    break;
                }
                if let Kind::Peers(cost) = first.kind
                    && count >= free
                    && !self.pace(now, cost)
                {
                    self.admission.reports.insert(pod);
                    break;
                }
                count += 1;
                last = Some(first.ticket);
                if let Some(found) = self.pods.get_mut(&pod) {
                    found.in_journal.pop_front();
                }
            }
            if let Some(through) = last {
                self.step_pod(now, pod, MachineInput::Durable { through });
            }
        }
        !self.admission.reports.is_empty()
    }

    /// Whether there is, or need be, place for what it brings: in the maps, and for content in the store.
    fn has_place(&self, operation: &Operation) -> bool {
        self.has_layer_room() && !(matches!(operation, Operation::Write { .. }) && self.lacks_space())
    }

    /// Takes room for an entry of this cost, if there is some and it is time.
    fn take_room(&mut self, now: Time, cost: u64) -> bool {
        !self.gauges().iter().any(|gauge| gauge.is_full()) && self.pace(now, cost)
    }

    /// Whether it is time for an entry of this cost; then it is charged.
    fn pace(&mut self, now: Time, cost: u64) -> bool {
        let [journal, entries, staged] = self.gauges();
        // Space that is used up keeps writes alone from going on, see `has_place`.
        let space = self.collection.levels.map(|levels| levels.gauge(self.available_bytes()));
        if [journal, entries, staged].iter().chain(&space).all(|gauge| gauge.is_calm()) {
            self.admission.pacer.forget(now);
            return true;
        }
        if !self.admission.pacer.is_open(now) {
            return false;
        }
        let (checkpoint, destage) = (&self.background.checkpoint_stage, &self.background.destage_stage);
        let space = space.map(|space| (space, &self.collection.stage, cost));
        let charged = [(journal, checkpoint, cost), (entries, checkpoint, 1), (staged, destage, cost)];
        self.admission.pacer.charge(now, charged.into_iter().chain(space));
        true
    }

    /// The journal's bytes, the journal's records, what is staged.
    fn gauges(&self) -> [Gauge; 3] {
        let [bytes, records] = self.journal_gauges();
        [bytes, records, Gauge { used: self.store.staged_bytes(), room: STAGED_BYTES_MAX }]
    }

    /// A2.
    fn may_hold(&self, pod: PodId, cost: u64) -> bool {
        self.pods
            .get(&pod)
            .is_none_or(|found| found.held_bytes == 0 || found.held_bytes + cost <= HELD_BYTES_MAX)
    }
}

impl Pod {
    /// How many of what is durable go with the last state record among it (A4).
    fn reported_with_state(&self, through: Lsn) -> usize {
        let durable = self.in_journal.partition_point(|item| item.lsn <= through);
        let last = self.in_journal.range(..durable).rposition(|item| item.kind == Kind::State);
        last.map_or(0, |at| at + 1)
    }
}
