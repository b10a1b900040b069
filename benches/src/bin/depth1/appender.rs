//! A journal thread: takes one frame at a time, appends it, reports.
//!
//! In: a frame by `submit` (depth 1); out: `done` has run on the journal thread and `completed` shows the number.
//! Spins for the given time for the next frame, then parks; a submit wakes it only if it is parked.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, Thread};
use std::time::Instant;

use crate::disk::{Frame, Tape};
use crate::wire::Spin;

const NONE: u64 = u64::MAX;
const STOP: u64 = u64::MAX - 1;

struct Shared {
    frame: Mutex<Frame>,
    submitted: AtomicU64,
    completed: AtomicU64,
    parked: AtomicBool,
}

/// Handle of a journal thread; dropping it stops and joins the thread.
pub struct Appender {
    shared: Arc<Shared>,
    wake: Thread,
    thread: Option<JoinHandle<()>>,
}

impl Appender {
    /// `done` is called on the journal thread after each append.
    pub fn start(
        tape: Arc<Tape>,
        spin: Spin,
        mut done: impl FnMut(u64) -> io::Result<()> + Send + 'static,
    ) -> Appender {
        let shared = Arc::new(Shared {
            frame: Mutex::new(Frame::new()),
            submitted: AtomicU64::new(NONE),
            completed: AtomicU64::new(NONE),
            parked: AtomicBool::new(false),
        });
        let mine = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            let mut last = NONE;
            loop {
                let sequence = mine.wait_for_other_than(last, spin);
                if sequence == STOP {
                    return;
                }
                let frame = mine.frame.lock().expect("no thread panics while it holds the frame");
                tape.append(&frame, sequence).expect("the benchmark's own file takes the append");
                drop(frame);
                mine.completed.store(sequence, Ordering::SeqCst);
                done(sequence).expect("the benchmark's own peer is there");
                last = sequence;
            }
        });
        Appender { shared, wake: thread.thread().clone(), thread: Some(thread) }
    }

    /// Hands the frame over; the caller gets the previous frame's buffer back.
    pub fn submit(&self, frame: &mut Frame, sequence: u64) {
        {
            let mut slot = self.shared.frame.lock().expect("no thread panics while it holds the frame");
            std::mem::swap(&mut *slot, frame);
        }
        self.signal(sequence);
    }

    pub fn has_completed(&self, sequence: u64) -> bool {
        self.shared.completed.load(Ordering::SeqCst) == sequence
    }

    fn signal(&self, sequence: u64) {
        self.shared.submitted.store(sequence, Ordering::SeqCst);
        if self.shared.parked.swap(false, Ordering::SeqCst) {
            self.wake.unpark();
        }
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        self.signal(STOP);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn wait_for_other_than(&self, last: u64, spin: Spin) -> u64 {
        let deadline = Instant::now() + spin.limit();
        loop {
            let sequence = self.submitted.load(Ordering::SeqCst);
            if sequence != last {
                return sequence;
            }
            if Instant::now() < deadline {
                spin.pause();
                continue;
            }
            self.parked.store(true, Ordering::SeqCst);
            if self.submitted.load(Ordering::SeqCst) == last {
                thread::park();
            }
            self.parked.store(false, Ordering::SeqCst);
        }
    }
}
