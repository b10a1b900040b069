//! Who is at work for an array: its threads, and callers that write its journal. Closing waits until nobody is.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counts who is there.
#[derive(Clone, Default)]
pub(crate) struct Presence {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    count: Mutex<usize>,
    /// Nobody is there any more.
    empty: Condvar,
}

/// Somebody is there until this is dropped.
pub(crate) struct Guard {
    shared: Arc<Shared>,
}

impl Presence {
    pub(crate) fn enter(&self) -> Guard {
        *self.shared.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Guard { shared: self.shared.clone() }
    }

    /// Waits until nobody is there, for so long at most; says whether that is so.
    pub(crate) fn wait_until_empty(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut count = self.shared.count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count > 0 {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            count = self.shared.empty.wait_timeout(count, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut count = self.shared.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count -= 1;
        if *count == 0 {
            self.shared.empty.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_goes_on_when_the_last_one_leaves_and_not_for_ever() {
        let presence = Presence::default();
        let first = presence.enter();
        assert!(!presence.wait_until_empty(Duration::from_millis(10)));
        let second = presence.enter();
        drop(first);
        let waiting = presence.clone();
        let waiter = std::thread::spawn(move || waiting.wait_until_empty(Duration::from_secs(20)));
        drop(second);
        assert!(waiter.join().unwrap());
    }
}
