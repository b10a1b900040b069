//! How long destroyed things have waited, and what is proposed when they have waited long enough.
//!
//! ```text
//! applied: Destroy ─► a stopwatch of its own at either array ─► it has waited ─► the sequencer proposes Eradicate
//!                                    └── every COUNT_STEP ────────────────────► the sequencer proposes Elapsed
//! ```
//! No clock is common to the arrays or to an array's starts, and an entry may be ordered long after it was proposed,
//! behind entries that its proposer had not seen. So a proposal says nothing but what stays true:
//!
//! - Eradicate: "what entry `by` destroyed has waited". It names that entry, so it means no later destruction of the same
//!   thing.
//! - Elapsed: "so long is it since entry `since`". It is counted for what was destroyed by then, and only if no other entry
//!   has counted from there.
//!
//! - H1: nothing is eradicated early. A stopwatch starts when the Destroy is applied, or anew from what entries have
//!   counted; both start no earlier than that was so, so what waits has waited at least as long as any of them shows, and
//!   each array goes by the furthest. Applying an entry asks no clock.
//! - H2: at most one chore of this array is under way; after a proposal the next waits [`PAUSE`] or for an answer.
//! - H3: while nothing is destroyed, nothing is counted and nothing is written.
//! - H4: nothing is put off by what else happens: a stopwatch is never set back, however often things are destroyed. What a
//!   start of the array forgets, the time it was down apart, is at most two steps: one under way, and the one in which the
//!   thing was destroyed.

use std::collections::BTreeMap;

use metropod_protocol::{Index, RequestId, Serving, Span, Time};

use super::Pod;
use crate::namespace::{Destroyed, Namespace};
use crate::operation::{Manage, Target};

/// What has elapsed is written at least this often while something waits.
const COUNT_STEP: Span = Span::millis(150_000);

/// Between attempts to propose.
const PAUSE: Span = Span::millis(1_000);

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Chores {
    /// When what an entry destroyed will have waited, as this array knows.
    ends: BTreeMap<Index, Time>,
    /// Which has waited first.
    next: Option<(Time, Index, Target)>,
    /// The entry that the next count is from, and when it was here.
    counted: Option<(Index, Time)>,
    under_way: Option<RequestId>,
    not_before: Option<Time>,
}

impl Chores {
    /// Looks anew at what waits.
    fn review(&mut self, namespace: &Namespace, now: Time) {
        let before = std::mem::take(&mut self.ends);
        (self.next, self.not_before) = (None, None);
        for (target, Destroyed { by, left_ms }) in namespace.destroyed_things() {
            // H1: either is late enough.
            let counted = now + Span(left_ms.saturating_mul(1_000_000));
            let end = before.get(&by).map_or(counted, |known| counted.min(*known));
            self.ends.insert(by, end);
            if self.next.is_none_or(|(first, ..)| end < first) {
                self.next = Some((end, by, target));
            }
        }
        self.counted = match (self.next, self.counted) {
            (None, _) => None,
            (Some(_), Some((since, at))) if since == namespace.counted_from => Some((since, at)),
            (Some(_), _) => Some((namespace.counted_from, now)),
        };
    }

    fn look_at(&self) -> Option<Time> {
        let ((end, ..), (_, since)) = (self.next?, self.counted?);
        Some(end.min(since + COUNT_STEP).max(self.not_before.unwrap_or(since)))
    }

    /// What is true now and worth an entry.
    fn proposal(&self, now: Time) -> Option<Manage> {
        let ((end, by, target), (since, at)) = (self.next?, self.counted?);
        // Counting goes first: it must not wait until nothing is to be eradicated.
        if now >= at + COUNT_STEP {
            return Some(Manage::Elapsed { since, ms: now.since(at).0 / 1_000_000 });
        }
        (now >= end).then_some(Manage::Eradicate { target, contents: true, waited: Some(by) })
    }
}

impl Pod {
    /// How long until something destroyed is eradicated, in milliseconds, as far as this array knows.
    pub fn milliseconds_left(&self, destroyed: Destroyed, now: Time) -> u64 {
        let end = self.chores.ends.get(&destroyed.by);
        end.map_or(destroyed.left_ms, |end| end.since(now).0.div_ceil(1_000_000))
    }

    /// The namespace changed.
    pub(crate) fn review_chores(&mut self, now: Time) {
        self.chores.review(&self.namespace, now);
    }

    /// When this array has to look at its chores.
    pub(crate) fn chore_at(&self) -> Option<Time> {
        self.chores.look_at()
    }

    /// What is to be proposed now.
    pub(crate) fn chore(&mut self, now: Time) -> Option<Manage> {
        if self.chore_at().is_none_or(|at| now < at) {
            return None;
        }
        // Whoever orders proposes; the other array looks again, for it may come to order (H2).
        self.chores.not_before = Some(now + PAUSE);
        let orders = self.machine.status(now).sequencer == Some(self.me);
        if !orders || self.machine.serving(now) != Serving::Yes || self.chores.under_way.is_some() {
            return None;
        }
        self.chores.proposal(now)
    }

    pub(crate) fn chore_begins(&mut self, request: RequestId) {
        self.chores.under_way = Some(request);
    }

    /// A request ended; it may have been a chore.
    pub(crate) fn chore_ends(&mut self, request: RequestId) {
        if self.chores.under_way == Some(request) {
            self.chores.under_way = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{Name, VolumeId};
    use crate::namespace::Volume;

    const OLD: VolumeId = VolumeId(1);
    const NEW: VolumeId = VolumeId(2);
    const STEP_MS: u64 = COUNT_STEP.0 / 1_000_000;
    const DELAY_MS: u64 = 3 * STEP_MS + 7;

    fn at(ms: u64) -> Time {
        Time(ms * 1_000_000)
    }

    impl Chores {
        fn sees(&mut self, namespace: &Namespace, ms: u64) {
            self.review(namespace, at(ms));
        }

        fn proposes(&self, ms: u64) -> Option<Manage> {
            self.look_at().filter(|look| at(ms) >= *look).and_then(|_| self.proposal(at(ms)))
        }
    }

    fn pod() -> Namespace {
        let mut namespace = Namespace::new(Name::new("pod").unwrap());
        for (id, name) in [(OLD, "old"), (NEW, "new")] {
            namespace.volumes.insert(id, Volume::new(Name::new(name).unwrap(), 1 << 20));
        }
        namespace
    }

    fn destroy(namespace: &mut Namespace, id: VolumeId, by: u64) {
        namespace.begin_counting(Index(by));
        let destroyed = Destroyed { by: Index(by), left_ms: DELAY_MS };
        namespace.volumes.get_mut(&id).unwrap().destroyed = Some(destroyed);
    }

    fn recover(namespace: &mut Namespace, id: VolumeId) {
        namespace.volumes.get_mut(&id).unwrap().destroyed = None;
    }

    fn left(namespace: &Namespace, id: VolumeId) -> u64 {
        namespace.volumes[&id].destroyed.unwrap().left_ms
    }

    fn eradicates(id: VolumeId, by: u64) -> Option<Manage> {
        Some(Manage::Eradicate { target: Target::Volume(id), contents: true, waited: Some(Index(by)) })
    }

    fn elapsed(since: u64, ms: u64) -> Option<Manage> {
        Some(Manage::Elapsed { since: Index(since), ms })
    }

    #[test]
    fn a_thing_waits_its_whole_delay_however_long_others_have_waited() {
        let (mut namespace, mut chores) = (pod(), Chores::default());
        destroy(&mut namespace, OLD, 10);
        chores.sees(&namespace, 0);
        // The array that asks for it may have started just now: nothing it says tells of the time before.
        destroy(&mut namespace, NEW, 11);
        chores.sees(&namespace, STEP_MS - 2);
        recover(&mut namespace, OLD);
        chores.sees(&namespace, STEP_MS - 1);
        for (step, since) in [(1, 10), (2, 20), (3, 21), (4, 22)] {
            assert_eq!(chores.proposes(step * STEP_MS - 1), None);
            assert_eq!(chores.proposes(step * STEP_MS), elapsed(since, STEP_MS));
            namespace.elapse(Index(19 + step), Index(since), STEP_MS);
            chores.sees(&namespace, step * STEP_MS);
        }
        assert_eq!(chores.proposes(STEP_MS - 3 + DELAY_MS), None);
        assert_eq!(chores.proposes(STEP_MS - 2 + DELAY_MS), eradicates(NEW, 11));
    }

    #[test]
    fn what_was_measured_before_a_destruction_and_ordered_behind_it_is_not_counted_for_it() {
        let (mut namespace, mut chores) = (pod(), Chores::default());
        destroy(&mut namespace, OLD, 10);
        chores.sees(&namespace, 0);
        let proposed = chores.proposes(STEP_MS);
        destroy(&mut namespace, NEW, 11);
        let Some(Manage::Elapsed { since, ms }) = proposed else { panic!("{proposed:?}") };
        namespace.elapse(Index(12), since, ms);
        assert_eq!((left(&namespace, OLD), left(&namespace, NEW)), (DELAY_MS - STEP_MS, DELAY_MS));
        // The next count is from where both were destroyed.
        chores.sees(&namespace, STEP_MS);
        assert_eq!(chores.proposes(2 * STEP_MS), elapsed(12, STEP_MS));
        namespace.elapse(Index(13), Index(12), STEP_MS);
        assert_eq!(
            (left(&namespace, OLD), left(&namespace, NEW)),
            (DELAY_MS - 2 * STEP_MS, DELAY_MS - STEP_MS)
        );
    }

    #[test]
    fn time_that_both_arrays_have_measured_is_counted_once() {
        let (mut namespace, mut one, mut other) = (pod(), Chores::default(), Chores::default());
        destroy(&mut namespace, OLD, 10);
        one.sees(&namespace, 0);
        other.sees(&namespace, 3);
        assert_eq!(one.proposes(STEP_MS), elapsed(10, STEP_MS));
        assert_eq!(other.proposes(STEP_MS + 8), elapsed(10, STEP_MS + 5));
        namespace.elapse(Index(20), Index(10), STEP_MS);
        namespace.elapse(Index(21), Index(10), STEP_MS + 5);
        assert_eq!((left(&namespace, OLD), namespace.counted_from), (DELAY_MS - STEP_MS, Index(20)));
    }

    #[test]
    fn an_array_that_starts_goes_on_from_what_entries_have_counted() {
        let mut namespace = pod();
        destroy(&mut namespace, OLD, 10);
        namespace.elapse(Index(20), Index(10), 3 * STEP_MS);
        let mut started = Chores::default();
        started.sees(&namespace, 1_000_000);
        assert_eq!(started.proposes(1_000_006), None);
        assert_eq!(started.proposes(1_000_007), eradicates(OLD, 10));
    }

    #[test]
    fn a_backlog_of_eradications_does_not_keep_time_from_being_counted() {
        let (mut namespace, mut chores) = (pod(), Chores::default());
        destroy(&mut namespace, OLD, 10);
        chores.sees(&namespace, 0);
        assert_eq!(chores.proposes(DELAY_MS), elapsed(10, DELAY_MS));
        namespace.elapse(Index(20), Index(10), DELAY_MS);
        chores.sees(&namespace, DELAY_MS);
        assert_eq!(chores.proposes(DELAY_MS), eradicates(OLD, 10));
    }

    #[test]
    fn destructions_without_end_put_nothing_off() {
        let (mut namespace, mut chores) = (pod(), Chores::default());
        destroy(&mut namespace, OLD, 10);
        chores.sees(&namespace, 0);
        for ms in 1..DELAY_MS {
            let index = 10 + ms;
            match chores.proposes(ms) {
                Some(Manage::Elapsed { since, ms }) => namespace.elapse(Index(index), since, ms),
                Some(early) => panic!("after {ms} ms: {early:?}"),
                None => destroy(&mut namespace, NEW, index),
            }
            chores.sees(&namespace, ms);
        }
        assert_eq!(chores.proposes(DELAY_MS), eradicates(OLD, 10));
        assert!(left(&namespace, OLD) <= STEP_MS, "and what was counted outlives the array");
    }
}
