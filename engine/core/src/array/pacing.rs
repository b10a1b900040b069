//! How fast entries are taken in: as they come while there is room, else as fast as the stages behind give room back.
//!
//! ```text
//!  used ──────────┬───────────────────────────┬──────────── room
//!   as it comes   50 %  what is left to 90 %  90 %  a trickle
//!                       over the time until
//!                       room comes back
//! ```
//! Room comes back at the end of a stage's turn: a checkpoint trims the journal, a destage empties what is staged. So what
//! is left up to [`FULL`] is spread over what is left of the turn, as far as the turn before lets it be foreseen.
//!
//! - P1: below [`FREE`] of every gauge nothing is delayed.
//! - P2: a delay grows without steps, from nothing at [`FREE`] to its whole a tenth of the room further on.
//! - P3: no entry waits longer than [`DELAY_MAX`] for its own turn; only a gauge that is full stops what comes.

use metropod_protocol::{Span, Time};

/// Share of the room up to which nothing is delayed, in hundredths.
const FREE: u64 = 50;

/// Share of the room that is to be in use when room comes back, in hundredths.
const FULL: u64 = 90;

/// Share of the room over which delays grow to their whole, in hundredths.
const RAMP: u64 = 10;

/// Least share of the room that a turn's rest is given, in hundredths: near [`FULL`] a trickle goes on.
const TRICKLE: u64 = 2;

/// How far ahead of its rate the array may be; it also keeps the number of wake-ups down.
const BURST: Span = Span::millis(1);

/// Longest delay of one entry.
const DELAY_MAX: Span = Span::millis(40);

/// How long a turn takes as long as none has ended.
const TURN_GUESS: Span = Span::millis(100);

/// A turn's length is not foreseen from one of another size beyond this factor.
const SCALE_MAX: u64 = 8;

const _: () = assert!(FREE + RAMP <= FULL && FULL + TRICKLE < 100);

/// How much of something is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gauge {
    pub(super) used: u64,
    pub(super) room: u64,
}

/// A stage that gives room back at the end of each turn.
#[derive(Debug, Default)]
pub(super) struct Stage {
    /// When the present turn began, and how much it works on.
    turn: Option<(Time, u64)>,
    /// How long a turn took, and how much it worked on.
    before: Option<(Span, u64)>,
}

/// When the next entry may be taken in.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    free_at: Time,
}

impl Gauge {
    /// Whether nothing of it is to be spared (P1).
    pub(super) fn is_calm(self) -> bool {
        self.used <= self.share(FREE)
    }

    pub(super) fn is_full(self) -> bool {
        self.used >= self.room
    }

    /// How long what costs this much of it is delayed if room comes back after `turn`.
    fn delay(self, turn: Span, cost: u64) -> Span {
        let above = self.used.saturating_sub(self.share(FREE));
        let ramp = self.share(RAMP).max(1);
        let left = self.share(FULL).saturating_sub(self.used).max(self.share(TRICKLE)).max(1);
        let whole = u128::from(cost) * u128::from(turn.0) / u128::from(left);
        let delay = whole.saturating_mul(u128::from(above.min(ramp))) / u128::from(ramp);
        Span(u64::try_from(delay).unwrap_or(u64::MAX).min(DELAY_MAX.0))
    }

    fn share(self, hundredths: u64) -> u64 {
        (u128::from(self.room) * u128::from(hundredths) / 100) as u64
    }
}

impl Stage {
    /// A turn begins that works on so much.
    pub(super) fn begins(&mut self, now: Time, amount: u64) {
        self.turn = Some((now, amount.max(1)));
    }

    /// A turn is under way from now on, if none was; nothing is known of how much it works on.
    pub(super) fn goes_on(&mut self, now: Time) {
        self.turn.get_or_insert((now, 1));
    }

    /// It ended; a turn that gave nothing back says nothing of the next.
    pub(super) fn ends(&mut self, now: Time, gave: bool) {
        if let Some((began, amount)) = self.turn.take()
            && gave
        {
            self.before = Some((now.since(began), amount));
        }
    }

    /// How long it will be until room comes back. A turn that takes longer than was foreseen is given half as long again.
    fn rest(&self, now: Time) -> Span {
        let foreseen = |amount: Option<u64>| match self.before {
            None => TURN_GUESS,
            Some((took, before)) => {
                let amount =
                    amount.unwrap_or(before).clamp(before / SCALE_MAX, before.saturating_mul(SCALE_MAX));
                let span = u128::from(took.0) * u128::from(amount) / u128::from(before);
                Span(u64::try_from(span).unwrap_or(u64::MAX))
            }
        };
        match self.turn {
            None => foreseen(None),
            Some((began, amount)) => {
                let elapsed = now.since(began);
                Span(foreseen(Some(amount)).0.saturating_sub(elapsed.0).max(elapsed.0 / 2))
            }
        }
    }
}

impl Pacer {
    /// When something that waits may go.
    pub(super) fn opens_at(&self) -> Time {
        Time(self.free_at.0.saturating_sub(BURST.0))
    }

    /// Whether something may go now.
    pub(super) fn is_open(&self, now: Time) -> bool {
        self.opens_at() <= now
    }

    /// Something went that costs this much of each gauge, which the stage beside it relieves.
    pub(super) fn charge<'a>(&mut self, now: Time, gauges: impl Iterator<Item = (Gauge, &'a Stage, u64)>) {
        let delay = gauges.map(|(gauge, stage, cost)| gauge.delay(stage.rest(now), cost));
        self.free_at = self.free_at.max(now) + delay.max().unwrap_or(Span(0));
    }

    /// There is room enough: what was charged does not count any more.
    pub(super) fn forget(&mut self, now: Time) {
        self.free_at = self.free_at.min(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const ENTRY: u64 = 4 << 10;
    const US: u64 = 1_000;
    const MS: u64 = 1_000_000;
    const SECOND: u64 = 1_000_000_000;

    /// A stage as a model: a turn begins when a quarter of the room is in use, and gives back at its end what was there
    /// when it began.
    struct Model {
        room: u64,
        /// Time of a turn apart from what it works on.
        fixed: u64,
        /// Bytes that a turn works off in a second.
        rate: u64,
        /// What hosts would write, in bytes per second.
        demand: u64,
    }

    struct Run {
        longest_gap_ns: u64,
        taken: u64,
        most_used: u64,
        delayed: u64,
    }

    impl Model {
        fn run(&self, seconds: u64) -> Run {
            let (mut pacer, mut stage) = (Pacer::default(), Stage::default());
            let mut run = Run { longest_gap_ns: 0, taken: 0, most_used: 0, delayed: 0 };
            let (mut used, mut now, mut last) = (0, SECOND, SECOND);
            let mut turn: Option<(u64, u64)> = None;
            let pace = ENTRY * SECOND / self.demand;
            while now < (seconds + 1) * SECOND {
                if let Some((ends_at, amount)) = turn.filter(|(ends_at, _)| *ends_at <= now) {
                    used -= amount;
                    stage.ends(Time(ends_at), true);
                    turn = None;
                }
                if turn.is_none() && used >= self.room / 4 {
                    stage.begins(Time(now), used);
                    let working = u128::from(used) * u128::from(SECOND) / u128::from(self.rate);
                    turn = Some((now + self.fixed + working as u64, used));
                }
                let gauge = Gauge { used, room: self.room };
                if gauge.is_calm() {
                    pacer.forget(Time(now));
                }
                if !gauge.is_full() && pacer.is_open(Time(now)) {
                    run.longest_gap_ns = run.longest_gap_ns.max(now - last);
                    pacer.charge(Time(now), std::iter::once((gauge, &stage, ENTRY)));
                    (used, run.taken, last) = (used + ENTRY, run.taken + ENTRY, now);
                    run.most_used = run.most_used.max(used);
                    now += pace;
                    continue;
                }
                run.delayed += 1;
                let ends_at = turn.map_or(u64::MAX, |(ends_at, _)| ends_at);
                let opens_at = if gauge.is_full() { u64::MAX } else { pacer.opens_at().0 };
                now = ends_at.min(opens_at).max(now);
            }
            run
        }
    }

    #[test]
    fn a_stage_that_lags_slows_writes_down_to_its_rate_and_never_stops_them() {
        for (room, fixed, rate) in [
            (920 * MIB, 200 * MS, 50 * MIB),
            (920 * MIB, 20 * MS, 150 * MIB),
            (92 * MIB, 100 * MS, 30 * MIB),
            (256 * MIB, MS, 100 * MIB),
        ] {
            let run = Model { room, fixed, rate, demand: 400 * MIB }.run(120);
            let gap_ms = run.longest_gap_ns / MS;
            println!(
                "{} MiB: {gap_ms} ms, {} MiB, at most {}",
                room / MIB,
                run.taken / MIB,
                run.most_used * 100 / room
            );
            assert!(gap_ms < 50, "{gap_ms} ms without a write, of a room of {} MiB", room / MIB);
            assert!(run.most_used < room, "the bound is where writes stop");
            // No turn works on more than the room, so that is the best rate there is.
            let longest = u128::from(fixed) + u128::from(room) * u128::from(SECOND) / u128::from(rate);
            let best = (u128::from(120 * room) * u128::from(SECOND) / longest) as u64;
            assert!(run.taken > best * 7 / 10, "{} MiB of {} MiB", run.taken / MIB, best / MIB);
        }
    }

    #[test]
    fn where_nothing_lags_nothing_is_delayed() {
        let run = Model { room: 920 * MIB, fixed: 50 * MS, rate: 900 * MIB, demand: 400 * MIB }.run(60);
        assert_eq!(run.delayed, 0);
        assert!(run.longest_gap_ns <= 10 * US);
    }

    #[test]
    fn a_delay_grows_without_steps_and_an_entry_alone_never_waits_long() {
        let mut before = 0;
        for used in 0..=1_000_000 {
            let delay = Gauge { used, room: 1_000_000 }.delay(Span::millis(1_000), 1).0;
            if used <= 500_000 {
                assert_eq!(delay, 0);
            }
            assert!(delay >= before && delay - before < US, "{before} and {delay} ns at {used}");
            before = delay;
        }
        assert!(before > 0);
        let absurd = Gauge { used: u64::MAX, room: u64::MAX }.delay(Span(u64::MAX), u64::MAX);
        assert_eq!(absurd, DELAY_MAX);
        assert_eq!(Gauge { used: 0, room: 0 }.delay(Span::millis(1), 1), Span(0));
    }

    #[test]
    fn a_turn_that_takes_longer_than_foreseen_is_given_more_time() {
        let mut stage = Stage::default();
        stage.begins(Time(0), 10);
        stage.ends(Time(100 * MS), true);
        assert_eq!(stage.rest(Time(SECOND)), Span::millis(100));
        stage.begins(Time(SECOND), 20);
        assert_eq!(stage.rest(Time(SECOND)), Span::millis(200));
        assert_eq!(stage.rest(Time(2 * SECOND)), Span::millis(500));
        stage.ends(Time(2 * SECOND), false);
        assert_eq!(stage.rest(Time(2 * SECOND)), Span::millis(100), "a turn that failed says nothing");
    }
}
