//! Timers and bounds, with their defaults.

use crate::ids::Span;

/// Entries sent ahead of what the peer reported durable.
pub const WINDOW_ENTRIES: u64 = 4096;
/// Bytes that one pod may have sent and not heard of: entries not reported durable and forwards not ordered. Pods that
/// share a connection may have less.
pub const WINDOW_BYTES: usize = 16 << 20;
/// Bytes that all pods of one connection may have sent and not heard of, but for one entry more.
pub const CONNECTION_WINDOW_BYTES: usize = 2 * WINDOW_BYTES;
/// What an entry counts in a window besides its payload: its own fields, and what a connection needs to keep a frame.
pub const ENTRY_COST_BYTES: usize = 320;
/// A pod that may send nothing and waits for no report looks again after this time.
pub const WINDOW_RETRY: Span = Span::millis(5);
/// A joiner whose reports are this few entries behind is level enough for JOIN: more than a busy pod has in flight on a slow link.
pub const JOIN_LAG_ENTRIES: u64 = WINDOW_ENTRIES / 2;
/// While a suffix goes to a joiner, at most this many entries are kept from trimming for it.
pub const SUFFIX_ENTRIES_MAX: u64 = 1 << 17;
/// Configurations that are remembered at least, and told in a HELLO: older ones cannot matter to a comparison.
pub const HISTORY_KEPT: usize = 4096;
/// After a pre-election for want of a mediator the next one waits so many times [`Settings::pre_elect`]: a mediator that comes
/// and goes does not fill the log.
pub const PRE_ELECT_REST: u64 = 16;
/// Heartbeats whose sending time is remembered.
pub const HEARTBEATS_REMEMBERED: usize = 32;
/// Requests that may wait at one array; more are refused.
pub const REQUESTS_MAX: usize = 1 << 16;

/// Timers of one pod.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Settings {
    /// Between heartbeats.
    pub heartbeat: Span,
    /// Lease, from the sending of the heartbeat.
    pub lease: Span,
    /// Bound of relative clock drift, in parts per million.
    pub drift_ppm: u64,
    /// Silence after which the link is lost.
    pub silence: Span,
    /// How long a closed link or a broken session may take to come back.
    pub reconnect: Span,
    /// How long a started pair waits for a HELLO before it races.
    pub boot_grace: Span,
    /// How long HELD is silent to hosts.
    pub hold: Span,
    /// Own append that takes longer makes this array unfit.
    pub unfit: Span,
    /// Peer not durable for this long is ejected.
    pub eject: Span,
    /// Between repeated asks of the mediator, and attempts to hand the right back.
    pub mediator_retry: Span,
    /// How long neither array reaches the mediator before one of them is pre-elected.
    pub pre_elect: Span,
    /// Between repeated HELLOs.
    pub hello: Span,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            heartbeat: Span::millis(50),
            lease: Span::millis(300),
            drift_ppm: 1_000,
            silence: Span::millis(250),
            reconnect: Span::millis(150),
            boot_grace: Span::millis(2_000),
            hold: Span::millis(25_000),
            unfit: Span::millis(1_000),
            eject: Span::millis(1_500),
            mediator_retry: Span::millis(500),
            pre_elect: Span::millis(1_000),
            hello: Span::millis(100),
        }
    }
}

impl Settings {
    /// How long a promise binds: the lease, stretched by twice the drift bound.
    pub fn promise(&self) -> Span {
        Span(self.lease.0 + self.lease.0 * 2 * self.drift_ppm / 1_000_000)
    }
}
