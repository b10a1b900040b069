//! The thread that writes the journal for those who cannot wait: asynchronous callers, timers, link readers.
//!
//! One append is in flight (V3), so the mailbox holds at most one. After an append the thread spins for a moment:
//! under load the next one comes at once, and an idle thread costs a wake-up.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use metropod_journal::Append;

use super::Driver;

/// How long the thread spins for the next append before it sleeps.
const SPIN: Duration = Duration::from_micros(20);

pub(super) struct Appender {
    mailbox: Mutex<Mailbox>,
    filled: Condvar,
}

#[derive(Default)]
struct Mailbox {
    append: Option<Append>,
    sleeping: bool,
}

impl Appender {
    pub(super) fn new() -> Appender {
        Appender { mailbox: Mutex::new(Mailbox::default()), filled: Condvar::new() }
    }

    pub(super) fn submit(&self, append: Append) {
        let sleeping = {
            let mut mailbox = self.lock();
            assert!(mailbox.append.is_none(), "V3: one journal append is in flight");
            mailbox.append = Some(append);
            mailbox.sleeping
        };
        if sleeping {
            self.filled.notify_one();
        }
    }

    pub(super) fn wake(&self) {
        self.filled.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Mailbox> {
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, stopping: impl Fn() -> bool) -> Option<Append> {
        let began = Instant::now();
        loop {
            let mut mailbox = self.lock();
            if let Some(append) = mailbox.append.take() {
                return Some(append);
            }
            if stopping() {
                return None;
            }
            if began.elapsed() < SPIN {
                drop(mailbox);
                rustix::thread::sched_yield();
                continue;
            }
            mailbox.sleeping = true;
            let (mut mailbox, _) = self
                .filled
                .wait_timeout(mailbox, Duration::from_millis(500))
                .unwrap_or_else(PoisonError::into_inner);
            mailbox.sleeping = false;
        }
    }
}

pub(super) fn start(driver: &Arc<Driver>) {
    let (driver, here) = (driver.clone(), driver.enter_presence());
    let body = move || {
        let _here = here;
        while let Some(append) = driver.appender.next(|| driver.is_stopping()) {
            let mut next = Some(append);
            while let Some(append) = next {
                next = driver.append(append);
            }
        }
    };
    thread::Builder::new()
        .name("metropod-append".into())
        .spawn(body)
        .expect("the system can start a handful of threads");
}
