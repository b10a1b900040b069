//! Limits of volumes: requests and bytes in a second, charged where hosts' requests enter, before reduction.
//!
//! ```text
//! request ─► checked ─► its volume's meter open? ──yes──► admission, gate
//!                              │ no: waits in line, until the time that the meter says
//! ```
//! A meter is a token bucket told as a time: each charge moves `free_at` on by what it takes at the limit's rate, and a
//! request may go while `free_at` is at most [`BURST`] ahead of now.
//!
//! - L1: over any span, what goes is at most the limit's rate times the span and [`BURST`], and one request more.
//! - L2: a volume's requests go in the order in which they came, as far as limits are concerned.
//! - L3: each array charges what its own hosts ask: the limit of a stretched volume holds at each side.
//! - L4: nothing waits here that would be refused: a pod that goes off or a volume that is destroyed empties its line.

use std::collections::{BTreeMap, VecDeque};

use metropod_protocol::{PodId, RequestId, Serving, Span, Time};

use super::Array;
use crate::door::{HostError, Source};
use crate::names::VolumeId;
use crate::namespace::Limits;
use crate::operation::{Operation, WRITE_BYTES_MAX};
use crate::pod::ParkedRead;

/// How far ahead of its rate a volume may be.
const BURST: Span = Span::millis(50);

/// Requests that may wait for one volume's meter; more are refused.
const WAITING_MAX: usize = 1 << 14;

/// What a waiting read counts among what waits, in bytes.
const READ_BYTES: u64 = 256;

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// What a request counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    requests: u64,
    bytes: u64,
}

impl Cost {
    /// A request that moves so many bytes: one for each 768 KiB begun, which is also how long writes are split.
    fn of(bytes: u64) -> Cost {
        Cost { requests: bytes.div_ceil(WRITE_BYTES_MAX).max(1), bytes }
    }
}

/// What waits.
enum Waiting {
    Host(RequestId, Operation),
    Read(ParkedRead),
}

impl Waiting {
    fn cost(&self) -> Cost {
        match self {
            Waiting::Host(_, Operation::Write { length, .. }) => Cost::of(*length),
            // Zeroing moves nothing, whatever its length.
            Waiting::Host(..) => Cost::of(0),
            Waiting::Read(read) => Cost::of(read.length),
        }
    }

    /// What it counts among what waits.
    fn bytes(&self) -> u64 {
        match self {
            Waiting::Host(_, operation) => operation.cost(),
            Waiting::Read(_) => READ_BYTES,
        }
    }

    fn request(&self) -> RequestId {
        match self {
            Waiting::Host(request, _) => *request,
            Waiting::Read(read) => read.request,
        }
    }
}

/// How far one volume is.
#[derive(Default)]
struct Meter {
    requests_free_at: Time,
    bytes_free_at: Time,
    line: VecDeque<Waiting>,
}

impl Meter {
    /// When the next request may go.
    fn opens_at(&self, limits: Limits) -> Time {
        let requests = if limits.iops > 0 { self.requests_free_at } else { Time(0) };
        let bytes = if limits.bytes_per_s > 0 { self.bytes_free_at } else { Time(0) };
        Time(requests.max(bytes).0.saturating_sub(BURST.0))
    }

    fn charge(&mut self, now: Time, limits: Limits, cost: Cost) {
        let taken = |amount: u64, rate: u64| {
            let span = u128::from(amount) * u128::from(SECOND) / u128::from(rate);
            Span(u64::try_from(span).unwrap_or(u64::MAX))
        };
        if limits.iops > 0 {
            self.requests_free_at = self.requests_free_at.max(now) + taken(cost.requests, limits.iops);
        }
        if limits.bytes_per_s > 0 {
            self.bytes_free_at = self.bytes_free_at.max(now) + taken(cost.bytes, limits.bytes_per_s);
        }
    }
}

/// Meters of the volumes that have limits.
#[derive(Default)]
pub(super) struct Meters {
    meters: BTreeMap<(PodId, VolumeId), Meter>,
    /// When the first of those that wait may go.
    opens_at: Option<Time>,
    /// Limits, volumes or the state of a pod changed: all lines have to be looked at.
    stale: bool,
}

impl Meters {
    /// When the core has to be stepped for them.
    pub(super) fn opens_at(&self) -> Option<Time> {
        self.opens_at
    }

    /// Something changed that lines depend on.
    pub(super) fn review(&mut self) {
        self.stale = true;
    }
}

impl Array {
    /// A checked host operation: goes on, or waits for its volume's meter.
    pub(super) fn meter_host(&mut self, now: Time, request: RequestId, pod: PodId, operation: Operation) {
        match operation.touches() {
            Some((volume, ..)) => self.meter(now, pod, volume, Waiting::Host(request, operation)),
            None => self.host_metered(now, request, pod, operation),
        }
    }

    /// A checked read: goes on, or waits for its volume's meter.
    pub(super) fn meter_read(&mut self, now: Time, pod: PodId, read: ParkedRead) {
        match read.source {
            Source::Volume(volume) => self.meter(now, pod, volume, Waiting::Read(read)),
            Source::Snapshot(_) => self.read_metered(now, pod, read),
        }
    }

    fn meter(&mut self, now: Time, pod: PodId, volume: VolumeId, waiting: Waiting) {
        let limits = self.limits_of(pod, volume);
        if limits == Limits::default() && !self.meters.meters.contains_key(&(pod, volume)) {
            return self.go(now, pod, waiting);
        }
        let meter = self.meters.meters.entry((pod, volume)).or_default();
        if meter.line.is_empty() && meter.opens_at(limits) <= now {
            meter.charge(now, limits, waiting.cost());
            return self.go(now, pod, waiting);
        }
        if meter.line.len() >= WAITING_MAX || !self.admission.hold(pod, waiting.bytes()) {
            return self.complete(waiting.request(), Err(HostError::Busy));
        }
        meter.line.push_back(waiting);
        let opens_at = meter.opens_at(limits);
        self.meters.opens_at = Some(self.meters.opens_at.map_or(opens_at, |at| at.min(opens_at)));
    }

    fn go(&mut self, now: Time, pod: PodId, waiting: Waiting) {
        match waiting {
            Waiting::Host(request, operation) => self.host_metered(now, request, pod, operation),
            Waiting::Read(read) => self.read_metered(now, pod, read),
        }
    }

    /// The world may have changed meanwhile.
    fn go_after_waiting(&mut self, now: Time, pod: PodId, waiting: Waiting) {
        let found = self.pods.get(&pod).ok_or(HostError::NoSuchVolume);
        let fits = match &waiting {
            Waiting::Host(_, operation) => self.check_host(now, pod, operation),
            Waiting::Read(read) => found.and_then(|found| found.check_range(read)),
        };
        match fits {
            Ok(()) => self.go(now, pod, waiting),
            Err(error) => self.complete(waiting.request(), Err(error)),
        }
    }

    /// Lets go what may go by now, and what would be refused (L4).
    pub(super) fn release(&mut self, now: Time) {
        let stale = std::mem::take(&mut self.meters.stale);
        if !stale && self.meters.opens_at.is_none_or(|at| now < at) {
            return;
        }
        let keys: Vec<(PodId, VolumeId)> = self.meters.meters.keys().copied().collect();
        for (pod, volume) in keys {
            let limits = self.limits_of(pod, volume);
            let held = self.pods.get(&pod).is_some_and(|found| {
                let serving = found.machine.serving(now);
                matches!(serving, Serving::Yes | Serving::Held) && found.namespace.is_in_use(volume)
            });
            while let Some(meter) = self.meters.meters.get_mut(&(pod, volume)) {
                if held && meter.opens_at(limits) > now {
                    break;
                }
                let Some(waiting) = meter.line.pop_front() else {
                    if !held || limits == Limits::default() {
                        self.meters.meters.remove(&(pod, volume));
                    }
                    break;
                };
                if held {
                    meter.charge(now, limits, waiting.cost());
                }
                self.admission.let_go(pod, waiting.bytes());
                self.go_after_waiting(now, pod, waiting);
            }
        }
        self.meters.opens_at = self.next_opening();
    }

    fn next_opening(&self) -> Option<Time> {
        let waiting = self.meters.meters.iter().filter(|(_, meter)| !meter.line.is_empty());
        waiting.map(|((pod, volume), meter)| meter.opens_at(self.limits_of(*pod, *volume))).min()
    }

    /// Takes a request out of line; says whether it was there.
    pub(super) fn leave_line(&mut self, pod: PodId, request: RequestId) -> bool {
        let volumes = (pod, VolumeId(0))..=(pod, VolumeId(u64::MAX));
        for (_, meter) in self.meters.meters.range_mut(volumes) {
            if let Some(at) = meter.line.iter().position(|waiting| waiting.request() == request) {
                let left = meter.line.remove(at);
                self.admission.let_go(pod, left.map_or(0, |waiting| waiting.bytes()));
                return true;
            }
        }
        false
    }

    fn limits_of(&self, pod: PodId, volume: VolumeId) -> Limits {
        let found = self.pods.get(&pod).and_then(|found| found.namespace.volumes.get(&volume));
        found.map_or(Limits::default(), |volume| volume.limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When each of so many requests goes that all wait from the beginning.
    fn times(limits: Limits, cost: Cost, requests: u64) -> Vec<u64> {
        let mut meter = Meter::default();
        let mut now = Time(7 * SECOND);
        (0..requests)
            .map(|_| {
                now = now.max(meter.opens_at(limits));
                meter.charge(now, limits, cost);
                now.0 - 7 * SECOND
            })
            .collect()
    }

    #[test]
    fn the_rate_is_kept_after_a_short_burst() {
        let limits = Limits { iops: 1000, bytes_per_s: 0 };
        let went = times(limits, Cost::of(4096), 1000);
        assert_eq!(went.iter().filter(|at| **at == 0).count(), 51, "50 ms of requests, and one");
        assert_eq!(went[999], 949_000_000);
        let limits = Limits { iops: 0, bytes_per_s: 1 << 20 };
        let went = times(limits, Cost::of(512 << 10), 5);
        assert_eq!(went, [0, 450_000_000, 950_000_000, 1_450_000_000, 1_950_000_000]);
    }

    #[test]
    fn the_tighter_of_two_limits_holds() {
        let limits = Limits { iops: 10, bytes_per_s: 1 << 30 };
        assert_eq!(times(limits, Cost::of(4096), 11)[10], 950_000_000);
        let limits = Limits { iops: 1_000_000, bytes_per_s: 4096 };
        assert_eq!(times(limits, Cost::of(4096), 3)[2], 1_950_000_000);
    }

    #[test]
    fn a_long_request_counts_as_often_as_it_would_be_split_and_the_absurd_is_harmless() {
        assert_eq!(Cost::of(0).requests, 1);
        assert_eq!(Cost::of(WRITE_BYTES_MAX).requests, 1);
        assert_eq!(Cost::of(WRITE_BYTES_MAX + 512).requests, 2);
        for rate in [1, u64::MAX] {
            let limits = Limits { iops: rate, bytes_per_s: rate };
            times(limits, Cost { requests: u64::MAX, bytes: u64::MAX }, 3);
        }
    }
}
