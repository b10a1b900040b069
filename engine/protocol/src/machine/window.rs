//! How much may be under way to the peer: entries that it has not reported durable, and forwards that it has not ordered.
//!
//! - W1: with something under way, no more is sent than the window allows; with nothing, one entry is, unless the window is
//!   shut. So a session that opens while much waits sends what the connection can hold, not everything at once.
//! - W2: whoever waits for room with something under way is stepped by the report that makes room; with nothing, by a deadline.

use crate::ids::{RequestId, Time};
use crate::machine::Machine;
use crate::settings::{ENTRY_COST_BYTES, WINDOW_BYTES, WINDOW_RETRY};

/// What an entry or forward of this many payload bytes counts.
pub(super) fn cost(payload_bytes: usize) -> usize {
    payload_bytes + ENTRY_COST_BYTES
}

impl Machine {
    /// Sets the bytes that may be under way: this pod's share of the connection, at most [`WINDOW_BYTES`].
    pub fn set_window(&mut self, bytes: usize) {
        self.window_bytes = bytes.min(WINDOW_BYTES);
    }

    /// Bytes under way to the peer.
    pub fn under_way_bytes(&self) -> usize {
        self.session().map_or(0, |session| session.in_flight_bytes + session.forwarding_bytes)
    }

    /// Whether an entry or forward of this cost may be sent now (W1).
    pub(super) fn has_window(&mut self, now: Time, cost: usize) -> bool {
        let under_way = self.under_way_bytes();
        if under_way == 0 && self.window_bytes == 0 {
            self.wake(now, now + WINDOW_RETRY);
        }
        if under_way == 0 { self.window_bytes > 0 } else { under_way + cost <= self.window_bytes }
    }

    /// A forward of this session was ordered, refused or given up.
    pub(super) fn forward_ended(&mut self, request: RequestId) {
        if let Some(session) = self.session_mut()
            && let Some(cost) = session.forwarding.remove(&request)
        {
            session.forwarding_bytes -= cost;
        }
    }
}
