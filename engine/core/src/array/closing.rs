//! Closing the journal's last window when the array goes idle.
//!
//! The last append before a silence is vouched for by nobody: if it rots, recovery takes it for torn. A closing frame,
//! written once within a tenth of a second of the last append, says that what precedes it was durable.
//!
//! - J1: one closing frame per silence: the writer makes none after another, so an idle array writes nothing.

use metropod_protocol::{Span, Time};

use super::Array;

/// Silence after which the closing frame is written.
const QUIET: Span = Span::millis(100);

/// When a closing frame is due.
#[derive(Debug, Default)]
pub(super) struct Closing {
    due_at: Option<Time>,
}

impl Closing {
    /// When the core has to be stepped for it.
    pub(super) fn due_at(&self) -> Option<Time> {
        self.due_at
    }

    /// An append ended.
    pub(super) fn appended(&mut self, now: Time) {
        self.due_at = Some(now + QUIET);
    }
}

impl Array {
    /// Writes the closing frame if the silence lasted.
    pub(super) fn close_journal(&mut self, now: Time) {
        if self.closing.due_at.is_none_or(|at| now < at) {
            return;
        }
        self.closing.due_at = None;
        if !self.journal.is_appending() && self.journal.queued_records() == 0 && self.poisoned.is_none() {
            self.journal.push_closing();
        }
    }
}
