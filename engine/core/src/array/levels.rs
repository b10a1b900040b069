//! How much of a bounded store is to be free: where cleaning begins and ends, and where writes slow down.
//!
//! ```text
//! free:  0 ─────────── low / 2 ─────────── low ─────────── high ─────────── slack
//!        writes wait   are slowed down     cleaning        cleaning
//!        or hear that  to what cleaning    begins          ends
//!        it is full    gives back
//! ```
//! The slack is what free space and garbage share: the capacity without the reserve and without what lives. The more of it
//! is kept free, the fuller are the segments that are cleaned, and the more is moved for each byte that comes in; the less,
//! the sooner writes wait for a cleaning. So cleaning begins late and gives back little at a time.
//!
//! - F1: both levels move with what lives, without steps; a store without a bound has none.

use metropod_dedupe::Space;

use super::pacing::Gauge;

/// Of the slack, the part below which cleaning begins.
const LOW_SHARE: u64 = 8;

/// Of the slack, the part at which cleaning ends.
const HIGH_SHARE: u64 = 4;

/// See the module's text; in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Levels {
    pub(super) low: u64,
    pub(super) high: u64,
}

impl Levels {
    /// `None` for a store without a bound (F1).
    pub(super) fn of(space: &Space) -> Option<Levels> {
        let slack = slack(space);
        space.is_bounded().then_some(Levels { low: slack / LOW_SHARE, high: slack / HIGH_SHARE })
    }

    /// How near writes are to waiting for space: nothing is in use above the low level.
    pub(super) fn gauge(self, available: u64) -> Gauge {
        Gauge { used: self.low.saturating_sub(available), room: self.low }
    }
}

/// Room beside what was live at the last pass, in bytes.
pub(super) fn slack(space: &Space) -> u64 {
    let live_before = space.live_bytes.saturating_sub(space.fresh_bytes);
    space.capacity_bytes.saturating_sub(space.reserve_bytes).saturating_sub(live_before)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn space(capacity_bytes: u64, live_bytes: u64) -> Space {
        Space {
            used_bytes: live_bytes,
            capacity_bytes,
            reserve_bytes: 100 * MIB,
            freed_bytes: 0,
            live_bytes,
            fresh_bytes: 0,
        }
    }

    #[test]
    fn levels_share_the_slack_and_a_store_without_a_bound_has_none() {
        let levels = Levels::of(&space(1_000 * MIB, 500 * MIB)).unwrap();
        assert_eq!((levels.low, levels.high), (50 * MIB, 100 * MIB));
        assert_eq!(Levels::of(&space(u64::MAX, 500 * MIB)), None);
        // More lives than there is room for beside the reserve: nothing is to be had, and nothing panics.
        let none = Levels::of(&space(500 * MIB, 500 * MIB)).unwrap();
        assert_eq!((none.low, none.high), (0, 0));
        assert!(none.gauge(0).is_calm(), "hosts are not slowed down, they are told");
    }

    #[test]
    fn writes_are_slowed_down_from_half_the_low_level_on() {
        let levels = Levels { low: 50 * MIB, high: 100 * MIB };
        assert!(levels.gauge(100 * MIB).is_calm() && levels.gauge(25 * MIB).is_calm());
        assert!(!levels.gauge(24 * MIB).is_calm());
        assert!(levels.gauge(0).is_full());
    }
}
