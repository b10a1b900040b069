//! The thread that brings deadlines to the core.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use metropod_core::Input;
use metropod_protocol::Time;

use super::{Driver, now};

/// Longest sleep: a bound on how late a stop is noticed.
const SLEEP_MAX: Duration = Duration::from_millis(500);

pub(super) struct Timer {
    /// The instant the thread sleeps until.
    until: Mutex<Time>,
    earlier: Condvar,
}

impl Timer {
    pub(super) fn new() -> Timer {
        Timer { until: Mutex::new(Time(u64::MAX)), earlier: Condvar::new() }
    }

    /// Makes sure that the core is stepped by `deadline`.
    pub(super) fn no_later_than(&self, deadline: Time) {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if deadline < *until {
            *until = deadline;
            self.earlier.notify_one();
        }
    }

    pub(super) fn wake(&self) {
        self.earlier.notify_all();
    }

    /// Sleeps until the deadline or a little longer than nothing; whether a tick is due.
    fn sleep(&self) -> bool {
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let left = Duration::from_nanos(until.since(now()).0).min(SLEEP_MAX);
        if left.is_zero() {
            return self.due(until);
        }
        let (until, _) = self.earlier.wait_timeout(until, left).unwrap_or_else(PoisonError::into_inner);
        self.due(until)
    }

    fn due(&self, mut until: std::sync::MutexGuard<'_, Time>) -> bool {
        let due = *until <= now();
        if due {
            // The step that follows says when the next one is.
            *until = Time(u64::MAX);
        }
        due
    }
}

pub(super) fn start(driver: &Arc<Driver>) {
    let (driver, here) = (driver.clone(), driver.enter_presence());
    let body = move || {
        let _here = here;
        while !driver.is_stopping() {
            if driver.timer.sleep() {
                driver.tell(Input::Tick);
            }
        }
    };
    thread::Builder::new()
        .name("metropod-timer".into())
        .spawn(body)
        .expect("the system can start a handful of threads");
}
