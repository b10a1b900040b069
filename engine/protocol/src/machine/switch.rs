//! The other array of a pair is to order.
//!
//! ```text
//!  mirrored, wished ──► configuration entry with another sequencer; right and register stay
//!                       the one that ordered stops at its append ── known durable on both ──► the other begins
//! ```
//! - T1: it is a wish, not a setting: it is forgotten when it has come true, and with the session.
//! - T2: one change at a time (V1 of moves.rs), and only towards an array whose disk keeps up.

use crate::config::{Configuration, Ground};
use crate::ids::{ArrayId, ConfigId, Time};
use crate::machine::Machine;

impl Machine {
    /// `array` is to order from now on. Of no effect where the pair is not in session.
    pub(super) fn on_switch(&mut self, array: ArrayId) {
        if self.session().is_some() {
            self.switch_to = Some(array);
        }
    }

    /// Says whether the change was made.
    pub(super) fn switch(&mut self, now: Time, pair: &Configuration) -> bool {
        let Some(array) = self.switch_to.filter(|array| pair.members.contains(*array)) else { return false };
        if array == pair.sequencer {
            self.switch_to = None;
            return false;
        }
        if !self.is_fit_as_heard(now, array) {
            return false;
        }
        self.switch_to = None;
        let id = ConfigId(self.draw());
        let epoch = self.next_epoch();
        let next = Configuration { epoch, id, sequencer: array, ground: Ground::Agreed, ..*pair };
        self.append_configuration(now, next);
        true
    }
}
