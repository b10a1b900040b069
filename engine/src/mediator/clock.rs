//! The clock of the protocol: it counts suspend, which `std::time::Instant` does not.

use metropod_protocol::Time;
use rustix::time::{ClockId, clock_gettime};

pub(super) fn now() -> Time {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Time(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}
