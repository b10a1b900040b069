//! Cleaning: what lives in segments that are mostly dead moves, step by step, and checkpoints give back what that frees.
//!
//! ```text
//! step ── freed ──► checkpoint ──► given back
//!   └──── step ── freed ──► checkpoint ──► given back
//!           └──── …
//! ```
//! - N1: at most one step is ahead of the checkpoint that gives back what the step before freed, and none while half of the
//!   reserve is used: what cleaning writes fits into the reserve, and checkpoints find the rest.
//! - N2: with a bound, cleaning begins when little is free, and ends when enough is (levels.rs): more than comes in until the
//!   next step has given something back. Steps are small, so that it comes back little by little.
//! - N3: what a pass found goes stale while hosts write on. When another is due it comes first: cleaning by what is known
//!   would move what is dead by now.
//! - N4: what is freed already is given back before anything is moved.

use metropod_dedupe::{Collected, Store};
use metropod_protocol::Time;

use super::Array;
use super::collect::State;
use super::levels::Levels;
use super::retry::Kind;
use crate::task::{Finished, FlowError};

/// Share of a segment that may be live, in percent, for it to be cleaned while room is short.
const SHORT_PERCENT: u32 = 95;

/// Records that a step of cleaning moves at most, in bytes.
const STEP_BYTES_MAX: u64 = 256 << 20;

/// Of the reserve, or what is left of it, the part that one step fills, one in so many.
const STEP_SHARE: u64 = 4;

/// Steps that are under way or whose checkpoint is (N1).
const STEPS_MAX: usize = 2;

/// What one step did, with the end of the pass before it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Swept {
    /// Segments of which more lives were left, in percent.
    percent: u32,
    collected: Option<Collected>,
    moved_bytes: u64,
    segments: u64,
    more: bool,
    error: Option<FlowError>,
}

impl Array {
    pub(super) fn is_room_low(&self) -> bool {
        self.collection.levels.is_some_and(|levels| self.available_bytes() < levels.low)
    }

    /// N2, N4.
    pub(super) fn give_room(&mut self, now: Time) {
        if self.store.space().freed_bytes > 0 {
            self.await_checkpoint();
            self.collection.state = State::Settling;
        } else if self.collection.cleanable {
            self.begin_cleaning(now);
        }
    }

    fn begin_cleaning(&mut self, now: Time) {
        (self.collection.state, self.collection.began) = (State::Cleaning, now);
        self.collection.stage.goes_on(now);
        let (store, percent) = (self.store.clone(), self.sweep_percent());
        self.run("clean", async move { Finished::Swept(clean(&store, percent, None).await) });
    }

    fn await_checkpoint(&mut self) {
        let number = self.background.want_checkpoint();
        self.collection.awaited.push_back(number);
    }

    /// Share of a segment that may be live, in percent, for it to be cleaned now.
    pub(super) fn sweep_percent(&self) -> u32 {
        match self.collection.levels {
            Some(levels) if self.coming_bytes() < levels.high => SHORT_PERCENT,
            _ => self.config.collect.clean_percent,
        }
    }

    /// What new data will be able to take once a checkpoint is durable, in bytes.
    fn coming_bytes(&self) -> u64 {
        let room = self.store.room();
        room.free_bytes.saturating_add(room.freed_bytes).saturating_sub(self.owed_bytes(&room))
    }

    pub(super) fn swept(&mut self, now: Time, swept: Swept) {
        if swept.collected.is_some() {
            self.collection.worked_until(now);
            self.collection.rest(now);
        }
        let counts = &mut self.collection.counts;
        counts.moved_bytes += swept.moved_bytes;
        counts.freed_segments += swept.segments;
        if let Some(collected) = swept.collected {
            counts.passes += 1;
            counts.dead_chunks += collected.dead_chunks;
            counts.dead_bytes += collected.dead_bytes;
            counts.freed_segments += collected.freed_segments;
            counts.last_pass = self.collection.took;
            self.collection.cleanable = true;
        }
        self.note(now, Kind::Collect, swept.error);
        self.collection.more = swept.more && swept.error.is_none();
        // What failed is not tried again before another pass: there may be no space for it at all.
        let is_left = swept.more || swept.percent < SHORT_PERCENT;
        self.collection.cleanable &= is_left && swept.error.is_none();
        // Also what was freed otherwise may be waited for.
        if self.store.space().freed_bytes > 0 || !self.collection.waiting.is_empty() {
            self.await_checkpoint();
        }
        self.go_on_cleaning(now);
    }

    /// A checkpoint is durable.
    pub(super) fn collected_until(&mut self, now: Time, checkpoint: u64) {
        let before = self.collection.awaited.len();
        self.collection.awaited.retain(|awaited| *awaited > checkpoint);
        if self.collection.awaited.len() == before {
            return;
        }
        self.collection.stage.ends(now, true);
        // Whatever lacked space may have it now.
        self.background.retries.pass(Time(u64::MAX));
        match self.collection.state {
            State::Settling => self.go_on_cleaning(now),
            _ => self.collection.stage.goes_on(now),
        }
    }

    fn go_on_cleaning(&mut self, now: Time) {
        self.collection.levels = Levels::of(&self.store.space());
        let short = self.collection.cleanable && self.sweep_percent() == SHORT_PERCENT;
        let failed = !self.background.retries.may_start(Kind::Collect);
        // N3.
        let knows = !self.is_slack_used() || self.collection.not_at_all_before.is_some_and(|at| at > now);
        // N1.
        let room = self.store.room();
        let may = self.collection.awaited.is_empty()
            || (self.collection.awaited.len() < STEPS_MAX && room.left_bytes >= room.reserve_bytes / 2);
        if (self.collection.more || short) && !failed && knows && may {
            self.begin_cleaning(now);
        } else if self.collection.awaited.is_empty() {
            self.end_collecting(now);
        } else {
            self.collection.state = State::Settling;
        }
    }
}

/// Moves what lives out of segments that are worth it, one step.
pub(super) async fn clean(store: &Store, percent: u32, collected: Option<Collected>) -> Swept {
    let mut swept = Swept { percent, collected, ..Swept::default() };
    let space = store.space();
    let step = match space.is_bounded() {
        true => space.capacity_bytes.saturating_sub(space.used_bytes).min(space.reserve_bytes) / STEP_SHARE,
        false => STEP_BYTES_MAX,
    };
    // However little is left: one segment, which gives back more than it takes.
    match store.clean(percent, step.clamp(1, STEP_BYTES_MAX)).await {
        Ok(cleaned) => {
            swept.moved_bytes = cleaned.moved_bytes;
            swept.segments = cleaned.segments;
            swept.more = cleaned.more && cleaned.segments > 0;
        }
        Err(error) => swept.error = Some(FlowError::from(error)),
    }
    swept
}
