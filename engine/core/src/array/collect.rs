//! Giving space back: when the store's collector is set to work, what it starts from, and what follows.
//!
//! ```text
//! Idle ── due, nothing in the way ──► Marking ── marked ──► Draining ── readers of before gone ──► Cleaning ◄──┐
//!  ▲ │                                   │ failed                                                   │ ▲  │      │
//!  │ └─ little is free, and of what passes found dead some is left to clean ──────────────────────────┼─┘  │ more │
//!  │                                     ▼                                                            ▼    └──────┤
//!  └─────────────────────────────────── rests ◄──── nothing freed, or its checkpoint is durable ── Settling ──────┘
//! ```
//! - L1: whatever somebody may still name is reached from the roots taken in the step in which the pass begins: live maps,
//!   snapshots, fork points, images about to be flipped to, rounds at both their ends, frozen content that was given out.
//! - L2: nothing may be under way then whose names no root shows: no fold, whose new nodes nobody refers to yet, and no
//!   checkpoint, whose draft is older than the roots. While a pass is due no fold is started.
//! - L3: who reads what was reachable before holds a pin; the pass ends when the last is gone.
//! - L4: what was freed is the device's again once a checkpoint is durable (cleaning.rs).
//! - L5: while there is room, passes take at most [`REST_FACTOR`]⁻¹ of the time.
//! - L6: what was eradicated while frozen content named it is looked for again when nobody has that any more; who asks for
//!   space waits for a walk that counts.

use std::collections::VecDeque;

use metropod_dedupe::Pass;
use metropod_protocol::{RequestId, Span, Time};
use metropod_snapshots::mark_reachable;

use super::Array;
use super::cleaning::clean;
use super::levels::{Levels, slack};
use super::pacing::Stage;
use super::retry::Kind;
use crate::door::{ManageError, Managed};
use crate::pod::Answer;
use crate::task::{Finished, FlowError};

/// A pass rests so many times as long as it took.
const REST_FACTOR: u64 = 10;

/// An urgent pass waits for no longer after the one before.
const URGENT_REST_MAX: Span = Span::millis(1_000);

/// Between looks whether the readers of before are gone.
const DRAIN_LOOK: Span = Span::millis(5);

/// How long a pass that failed rests: what stopped it, damage most likely, does not go away by itself.
const FAILED_REST: Span = Span::millis(30_000);

/// Of the room that garbage can take, the part that fresh data may fill before a pass is due.
const SLACK_SHARE: u64 = 4;

/// When space is collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectConfig {
    /// Fresh data that makes a pass due, in percent of what was live at the pass before.
    pub fresh_percent: u32,
    /// Fresh data below which no pass is due by itself, in bytes.
    pub fresh_bytes_min: u64,
    /// Share of a segment that may be live, in percent, for it to be cleaned.
    pub clean_percent: u32,
}

impl Default for CollectConfig {
    fn default() -> CollectConfig {
        CollectConfig { fresh_percent: 25, fresh_bytes_min: 256 << 20, clean_percent: 50 }
    }
}

/// What collecting has come to since the array was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CollectCounts {
    /// Passes that ended well.
    pub passes: u64,
    /// Passes that failed.
    pub failed: u64,
    /// Chunks that died.
    pub dead_chunks: u64,
    /// Length of their records, in bytes.
    pub dead_bytes: u64,
    /// Segments freed by passes or emptied by cleaning.
    pub freed_segments: u64,
    /// Length of records moved by cleaning, in bytes.
    pub moved_bytes: u64,
    /// Requests for a pass that were answered, well or not.
    pub answered: u64,
    /// How long the last pass took.
    pub last_pass: Span,
}

/// See the module's text.
#[derive(Default)]
pub(super) enum State {
    #[default]
    Idle,
    Marking,
    Draining(Pass),
    Cleaning,
    /// Until what was freed is given back.
    Settling,
}

/// State of the collector.
#[derive(Default)]
pub(super) struct Collection {
    pub(super) state: State,
    /// Who wants to know when a pass that begins from now on has given its space back.
    asked: Vec<RequestId>,
    /// Who waits for the pass under way.
    pub(super) waiting: Vec<RequestId>,
    /// Something was eradicated since the last pass began.
    suspected: bool,
    /// A pass began after something was eradicated, and frozen content may have named it still (L6).
    held_back: bool,
    /// Something was applied since the last pass began.
    applied: bool,
    /// What decides whether a pass is due may have changed.
    review: bool,
    /// It is to be decided again after the rest.
    postponed: bool,
    /// A pass is due; folds wait for it (L2).
    due: bool,
    /// The last step left segments that are worth cleaning.
    pub(super) more: bool,
    pub(super) began: Time,
    /// What marking took, and listing the dead with the first step of cleaning; waiting for readers costs nothing.
    pub(super) took: Span,
    /// Passes that are not urgent wait until then.
    not_before: Option<Time>,
    /// Urgent ones until then.
    pub(super) not_at_all_before: Option<Time>,
    look_at: Option<Time>,
    /// Checkpoints that give back what steps freed, at most two.
    pub(super) awaited: VecDeque<u64>,
    /// What is under way began with a pass.
    with_pass: bool,
    /// Segments may be left that are worth cleaning when room is short.
    pub(super) cleanable: bool,
    /// What is to be free, as of when it last may have changed.
    pub(super) levels: Option<Levels>,
    /// How long it takes to give space back.
    pub(super) stage: Stage,
    pub(super) counts: CollectCounts,
}

impl Collection {
    /// Whether somebody asked for a pass that has not begun.
    pub(super) fn is_asked(&self) -> bool {
        !self.asked.is_empty()
    }

    pub(super) fn is_idle(&self) -> bool {
        !matches!(self.state, State::Marking | State::Cleaning)
    }

    /// Whether a pass waits for what is under way to end (L2).
    pub(super) fn is_due(&self) -> bool {
        self.due
    }

    /// When the core has to be stepped for it.
    pub(super) fn due_at(&self) -> Option<Time> {
        match self.state {
            State::Idle if self.due || self.review => self.not_at_all_before,
            State::Idle => self.not_before.filter(|_| self.suspected || self.postponed),
            State::Draining(_) => self.look_at,
            State::Marking | State::Cleaning | State::Settling => None,
        }
    }

    /// Whether space may come back without anybody's doing.
    pub(super) fn may_help(&self) -> bool {
        let cleanable = self.cleanable && self.levels.is_some();
        self.applied || self.due || cleanable || !matches!(self.state, State::Idle)
    }

    /// Something was applied; `eradicated`: a volume, snapshot or pod with all it held.
    pub(super) fn applied(&mut self, eradicated: bool) {
        self.applied = true;
        if eradicated {
            self.suspected = true;
            self.review = true;
        }
    }

    /// A time that has passed asks for no more wake-ups: what is in the way of a pass wakes the core when it ends.
    fn forget_passed(&mut self, now: Time) {
        for at in [&mut self.not_before, &mut self.not_at_all_before] {
            *at = at.filter(|at| *at > now);
        }
    }

    pub(super) fn worked_until(&mut self, now: Time) {
        self.took = Span(self.took.0 + now.since(self.began).0);
    }

    /// L5.
    pub(super) fn rest(&mut self, now: Time) {
        self.not_before = Some(now + Span(self.took.0.saturating_mul(REST_FACTOR)));
        self.not_at_all_before = Some(now + self.took.min(URGENT_REST_MAX));
    }

    /// Chunks were written, or a flow that was in the way has ended.
    pub(super) fn review(&mut self) {
        self.review = true;
    }
}

impl Array {
    /// What collecting has come to.
    pub fn collect_counts(&self) -> CollectCounts {
        self.collection.counts
    }

    /// What the collector does, in a word.
    pub fn collecting(&self) -> &'static str {
        match self.collection.state {
            State::Idle if self.collection.due => "due",
            State::Idle => "idle",
            State::Marking => "marking",
            State::Draining(_) => "draining",
            State::Cleaning => "cleaning",
            State::Settling => "settling",
        }
    }

    pub(super) fn collect_for(&mut self, request: RequestId) {
        self.collection.asked.push(request);
        self.collection.review = true;
    }

    /// Begins a pass that is due, or ends one that has drained.
    pub(super) fn collect(&mut self, now: Time) {
        if let State::Draining(_) = self.collection.state {
            return self.drain_pass(now);
        }
        if !matches!(self.collection.state, State::Idle) {
            return;
        }
        let collection = &mut self.collection;
        collection.forget_passed(now);
        if collection.review {
            collection.levels = Levels::of(&self.store.space());
        }
        self.look_for_held();
        if self.collection.not_at_all_before.is_none() {
            self.review_pass();
        }
        if !self.background.retries.may_start(Kind::Collect) {
            return;
        }
        if self.collection.due {
            self.begin_pass(now);
        }
        if matches!(self.collection.state, State::Idle) && self.is_room_low() {
            self.give_room(now);
        }
    }

    /// L6: nobody tells that frozen content is let go of; whatever happens next shows it.
    fn look_for_held(&mut self) {
        let collection = &mut self.collection;
        if collection.held_back && !self.frozen.is_held() {
            (collection.held_back, collection.suspected) = (false, true);
        }
    }

    /// Decides whether a pass is due, if something speaks for it.
    fn review_pass(&mut self) {
        let collection = &mut self.collection;
        let rested = collection.not_before.is_none();
        let wants_look = collection.suspected || collection.postponed;
        if std::mem::take(&mut collection.review) || (rested && wants_look && !collection.due) {
            collection.postponed = !rested;
            self.collection.due = self.is_pass_due(rested);
        }
    }

    fn is_pass_due(&self, rested: bool) -> bool {
        let full = self.lacks_space() && self.collection.applied;
        let asked = !self.collection.asked.is_empty() && !self.accounting.is_walking();
        if full || asked {
            return true;
        }
        let config = &self.config.collect;
        let fresh_bytes = self.store.fresh_bytes();
        if fresh_bytes < config.fresh_bytes_min && !self.collection.suspected {
            return self.store.is_bounded() && self.is_slack_used();
        }
        let space = self.store.space();
        let live_before = space.live_bytes.saturating_sub(fresh_bytes);
        let many = fresh_bytes >= config.fresh_bytes_min
            && fresh_bytes >= live_before / 100 * u64::from(config.fresh_percent);
        (rested && (many || self.collection.suspected)) || self.is_slack_used()
    }

    /// Whether fresh data has taken its part of the room that garbage may take.
    pub(super) fn is_slack_used(&self) -> bool {
        let space = self.store.space();
        let segment_bytes = u64::from(self.config.store.segment_bytes);
        space.is_bounded() && space.fresh_bytes >= slack(&space).div_ceil(SLACK_SHARE).max(2 * segment_bytes)
    }

    /// L1, L2.
    fn begin_pass(&mut self, now: Time) {
        if !self.background.lets_a_pass_begin() || !self.upkeep.is_idle() {
            return;
        }
        let Some(pass) = self.store.begin_pass() else { return };
        let Some(roots) = self.roots() else {
            // A round folds what it received: its new nodes are nobody's yet. It is over soon.
            self.collection.not_at_all_before = Some(now + DRAIN_LOOK);
            return;
        };
        let collection = &mut self.collection;
        collection.state = State::Marking;
        if !self.accounting.is_walking() {
            collection.waiting.append(&mut collection.asked);
        }
        collection.held_back |= collection.suspected && self.frozen.is_held();
        (collection.due, collection.suspected, collection.applied) = (false, false, false);
        collection.with_pass = true;
        (collection.began, collection.took) = (now, Span(0));
        collection.stage.goes_on(now);
        let store = self.store.clone();
        self.run("mark", async move {
            let marked = mark_reachable(&roots, &store, &pass).await;
            Finished::Marked(marked.map(|_| pass).map_err(FlowError::from))
        });
    }

    pub(super) fn marked(&mut self, now: Time, result: Result<Pass, FlowError>) {
        self.collection.worked_until(now);
        match result {
            Ok(pass) => {
                self.collection.state = State::Draining(pass);
                self.drain_pass(now);
            }
            Err(error) => self.pass_failed(now, error),
        }
    }

    /// L3.
    fn drain_pass(&mut self, now: Time) {
        match std::mem::take(&mut self.collection.state) {
            State::Draining(pass) if pass.is_drained() => {
                (self.collection.state, self.collection.began) = (State::Cleaning, now);
                let (store, percent) = (self.store.clone(), self.sweep_percent());
                self.run("collect", async move {
                    match pass.finish().await {
                        Ok(collected) => Finished::Swept(clean(&store, percent, Some(collected)).await),
                        Err(error) => Finished::Marked(Err(error.into())),
                    }
                });
            }
            State::Draining(pass) => {
                self.collection.state = State::Draining(pass);
                self.collection.look_at = Some(now + DRAIN_LOOK);
            }
            other => self.collection.state = other,
        }
    }

    pub(super) fn end_collecting(&mut self, now: Time) {
        (self.collection.state, self.collection.more) = (State::Idle, false);
        self.collection.stage.ends(now, false);
        self.collection.review = true;
        if std::mem::take(&mut self.collection.with_pass) {
            self.accounting.collected();
        }
        // Who waits for space hears that there is none to be had.
        self.admission.review();
        self.answer_waiting(Ok(Managed::Done));
    }

    fn pass_failed(&mut self, now: Time, error: FlowError) {
        self.collection.counts.failed += 1;
        (self.collection.state, self.collection.with_pass) = (State::Idle, false);
        self.collection.stage.ends(now, false);
        self.collection.suspected = true;
        self.collection.not_before = Some(now + FAILED_REST);
        self.collection.not_at_all_before = Some(now + FAILED_REST);
        self.note(now, Kind::Collect, Some(error));
        self.answer_waiting(Err(ManageError::Media));
    }

    fn answer_waiting(&mut self, answer: Answer) {
        for request in std::mem::take(&mut self.collection.waiting) {
            self.collection.counts.answered += 1;
            self.managed(request, answer.clone());
        }
    }
}
