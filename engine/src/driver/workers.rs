//! Threads for flows and reads: as many as are busy, a few kept for the next.
//!
//! - W1: work waits in a queue only while as many threads as may be are busy. A thread that is promised to queued work is
//!   not counted as idle for the next: queue and idle threads change under one lock.
//! - W2: rounds of catch-up wait for the other array, for as long as that takes. They have threads of their own, so that
//!   any number of them keeps no segment, destage, checkpoint or read waiting; the two ends of a round do not share threads
//!   either, so that two arrays whose sending rounds wait for each other's receiving ones cannot stand still.
//! - W3: reads of lost chunks wait for the other array, too, but for a bounded time. Its own are answered by threads that
//!   wait for nothing, so that two arrays all of whose reads wait for each other do go on.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use metropod_core::task::WaitsFor;

use super::Presence;

/// Most threads for work that ends by itself. More of it waits in the queue, which the core's own bounds on flows and
/// requests limit.
const THREADS_MAX: usize = 64;

/// Most rounds at a time, in each direction; more are no faster. Others wait in the queue, at most one per pod.
const ROUNDS_MAX: usize = 32;

/// Chunks read for other arrays at a time; more wait in the queue, which the core bounds.
const ANSWERS_MAX: usize = 4;

/// How long an idle thread waits for work before it ends.
const IDLE: Duration = Duration::from_secs(5);

type Work = Box<dyn FnOnce() + Send>;

/// See the module's text.
pub(super) struct Workers {
    media: Pool,
    sending: Pool,
    receiving: Pool,
    answering: Pool,
}

impl Workers {
    pub(super) fn new(presence: &Presence) -> Workers {
        Workers {
            media: Pool::new("metropod-worker", THREADS_MAX, presence),
            sending: Pool::new("metropod-send", ROUNDS_MAX, presence),
            receiving: Pool::new("metropod-receive", ROUNDS_MAX, presence),
            answering: Pool::new("metropod-answer", ANSWERS_MAX, presence),
        }
    }

    pub(super) fn run(&self, waits_for: WaitsFor, work: Work) {
        let pool = match waits_for {
            WaitsFor::Media => &self.media,
            WaitsFor::Joiner => &self.sending,
            WaitsFor::Survivor => &self.receiving,
            WaitsFor::Asker => &self.answering,
        };
        pool.run(work);
    }

    /// Lets the threads end; what is still queued is dropped.
    pub(super) fn stop(&self) {
        for pool in [&self.media, &self.sending, &self.receiving, &self.answering] {
            pool.stop();
        }
    }
}

struct Pool {
    shared: Arc<Shared>,
    presence: Presence,
}

struct Shared {
    name: &'static str,
    threads_max: usize,
    state: Mutex<State>,
    /// Work was queued, or the pool stops.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Work>,
    threads: usize,
    /// Threads that wait, including those that were woken for queued work and have not taken it yet.
    idle: usize,
    stopping: bool,
}

impl Pool {
    fn new(name: &'static str, threads_max: usize, presence: &Presence) -> Pool {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Pool { shared: Arc::new(Shared { name, threads_max, state, changed }), presence: presence.clone() }
    }

    fn run(&self, work: Work) {
        let mut state = self.shared.lock();
        if state.stopping {
            return;
        }
        state.queue.push_back(work);
        if state.queue.len() <= state.idle {
            drop(state);
            self.shared.changed.notify_one();
        } else if state.threads < self.shared.threads_max {
            state.threads += 1;
            drop(state);
            self.start_thread();
        }
    }

    fn stop(&self) {
        let mut state = self.shared.lock();
        state.stopping = true;
        let unwanted = std::mem::take(&mut state.queue);
        drop(state);
        drop(unwanted);
        self.shared.changed.notify_all();
    }

    fn start_thread(&self) {
        let mut place = Place { shared: self.shared.clone(), left: false };
        let here = self.presence.enter();
        let body = move || {
            let _here = here;
            while let Some(work) = place.next() {
                work();
            }
        };
        let spawned = thread::Builder::new().name(self.shared.name.into()).spawn(body);
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread for a worker; its work waits for another");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread's place in its pool.
struct Place {
    shared: Arc<Shared>,
    /// Given back already.
    left: bool,
}

impl Place {
    /// The next work; `None`: there is none for a while, the place is given back and the thread ends.
    fn next(&mut self) -> Option<Work> {
        let mut state = self.shared.lock();
        if state.queue.is_empty() && !state.stopping {
            state.idle += 1;
            let wanted = |state: &mut State| state.queue.is_empty() && !state.stopping;
            let waited = self.shared.changed.wait_timeout_while(state, IDLE, wanted);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.idle -= 1;
        }
        let work = state.queue.pop_front();
        if work.is_none() {
            // Under the lock that found the queue empty: whoever queues next must not count on this thread.
            state.threads -= 1;
            self.left = true;
        }
        work
    }
}

impl Drop for Place {
    /// For a thread that panicked or never began.
    fn drop(&mut self) {
        if !self.left {
            self.shared.lock().threads -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use crossbeam::channel::{bounded, unbounded};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn work_never_waits_behind_work_that_waits_for_it() {
        let began = Instant::now();
        let mut rounds = 0u64;
        while began.elapsed() < Duration::from_secs(2) {
            // A pool with one idle thread.
            let pool = Pool::new("test", THREADS_MAX, &Presence::default());
            let (first_ended, ended) = bounded(1);
            let warm = first_ended.clone();
            pool.run(Box::new(move || warm.send(true).unwrap()));
            ended.recv().unwrap();
            thread::sleep(Duration::from_micros(100));
            let (second_runs, first_hears) = bounded(1);
            // The first can end only if the second runs beside it, though the thread that takes the first was idle.
            pool.run(Box::new(move || first_ended.send(first_hears.recv_timeout(PATIENCE).is_ok()).unwrap()));
            // At every moment of the other thread's waking up.
            let pause = Duration::from_nanos(rounds % 1_000 * 100);
            let paused = Instant::now();
            while paused.elapsed() < pause {}
            pool.run(Box::new(move || second_runs.send(()).unwrap()));
            assert!(ended.recv().unwrap(), "queued behind what waits for it, in round {rounds}");
            pool.stop();
            rounds += 1;
        }
    }

    #[test]
    fn any_number_of_waiting_rounds_leaves_other_work_and_the_other_direction_alone() {
        let workers = Workers::new(&Presence::default());
        let (release, released) = unbounded::<()>();
        let (done, ended) = unbounded();
        for waits_for in [WaitsFor::Joiner, WaitsFor::Survivor] {
            for _ in 0..THREADS_MAX + ROUNDS_MAX {
                let (released, done) = (released.clone(), done.clone());
                workers.run(
                    waits_for,
                    Box::new(move || {
                        let _over = released.recv();
                        done.send(waits_for).unwrap();
                    }),
                );
            }
            let done = done.clone();
            workers.run(WaitsFor::Media, Box::new(move || done.send(WaitsFor::Media).unwrap()));
            assert_eq!(ended.recv_timeout(PATIENCE), Ok(WaitsFor::Media), "a read runs beside rounds");
        }
        drop(release);
        for _ in 0..2 * (THREADS_MAX + ROUNDS_MAX) {
            ended.recv_timeout(PATIENCE).unwrap();
        }
    }
}
