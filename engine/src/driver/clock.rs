//! The array's clock: nanoseconds since boot, suspend included.

use metropod_protocol::Time;
use rustix::time::{ClockId, clock_gettime};

/// The time now. `CLOCK_BOOTTIME` counts suspend: a lease must not survive a sleep (story of the frozen holder).
pub(crate) fn now() -> Time {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Time(seconds * 1_000_000_000 + nanos)
}
