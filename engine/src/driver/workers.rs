//! Threads for flows and reads: as many as are busy, a few kept for the next.
//!
//! Flows block on media and on the other array, so a fixed small pool could be exhausted by waiting ones; threads
//! are made when all are busy, up to a bound, and end when idle for a while.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, unbounded};

/// Most threads at a time. Work beyond waits in the queue, which the core's own bounds on flows and requests limit.
const THREADS_MAX: usize = 64;

/// How long an idle thread waits for work before it ends.
const IDLE: Duration = Duration::from_secs(5);

type Work = Box<dyn FnOnce() + Send>;

pub(super) struct Workers {
    queue: Sender<Option<Work>>,
    shared: std::sync::Arc<Shared>,
}

struct Shared {
    work: Receiver<Option<Work>>,
    threads: AtomicUsize,
    idle: AtomicUsize,
}

impl Workers {
    pub(super) fn new() -> Workers {
        let (queue, work) = unbounded();
        let shared = Shared { work, threads: AtomicUsize::new(0), idle: AtomicUsize::new(0) };
        Workers { queue, shared: std::sync::Arc::new(shared) }
    }

    pub(super) fn run(&self, work: Work) {
        // The receiver lives in `shared`, so the queue cannot be closed.
        let _queued = self.queue.send(Some(work));
        let waiting = self.shared.work.len();
        let idle = self.shared.idle.load(Ordering::Acquire);
        if waiting > idle && self.shared.threads.load(Ordering::Acquire) < THREADS_MAX {
            self.start_thread();
        }
    }

    pub(super) fn stop(&self) {
        for _ in 0..self.shared.threads.load(Ordering::Acquire) {
            let _queued = self.queue.send(None);
        }
    }

    fn start_thread(&self) {
        let shared = self.shared.clone();
        shared.threads.fetch_add(1, Ordering::AcqRel);
        let body = {
            let shared = shared.clone();
            move || work_until_idle(&shared)
        };
        if thread::Builder::new().name("metropod-worker".into()).spawn(body).is_err() {
            shared.threads.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

fn work_until_idle(shared: &Shared) {
    loop {
        shared.idle.fetch_add(1, Ordering::AcqRel);
        let work = shared.work.recv_timeout(IDLE);
        shared.idle.fetch_sub(1, Ordering::AcqRel);
        match work {
            Ok(Some(work)) => work(),
            // Whoever queued work just now still counted on this thread: look once more after it stopped being idle.
            Err(RecvTimeoutError::Timeout) => match shared.work.try_recv() {
                Ok(Some(work)) => work(),
                Ok(None) | Err(_) => break,
            },
            Ok(None) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    shared.threads.fetch_sub(1, Ordering::AcqRel);
}
