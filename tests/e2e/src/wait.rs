//! Waiting for something to become true.

use std::time::{Duration, Instant};

/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Looks until `look` gives something; panics with `what` and what the last look said when `within` is over.
pub fn wait_until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let begin = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if begin.elapsed() > within => {
                panic!("{what}: not within {} s; last seen: {seen}", within.as_secs_f64())
            }
            Err(_) => std::thread::sleep(LOOK_AGAIN),
        }
    }
}
