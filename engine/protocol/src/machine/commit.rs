//! What is committed, and what is known about it.
//!
//! - C1: committed = durable on every member of the configuration in force at the entry; never beyond the own durable log.
//! - C2: going alone commits the whole own log, once it is complete.
//! - C3: passing a configuration entry is recorded before its gain is used.

use crate::api::Effect;
use crate::config::{Configuration, Entitlement};
use crate::durable::DurableRecord;
use crate::ids::{Index, Time};
use crate::machine::Machine;

impl Machine {
    pub(super) fn advance_commit(&mut self, now: Time) {
        let target = self.commit_target(now);
        if target > self.committed {
            self.committed = target;
            self.emit(Effect::Committed { through: target });
        }
        self.record_known(now);
    }

    fn commit_target(&self, now: Time) -> Index {
        if self.is_alone(now) {
            return self.durable;
        }
        let me = self.setup.me;
        let mut target = self.committed.max(self.peer_committed().min(self.durable));
        while target < self.durable {
            let Some(item) = self.log.in_force(target.next()) else { break };
            let members = item.configuration.members;
            let reach = if members.is_pair() && members.contains(me) {
                self.durable.min(self.peer_durable)
            } else if members.is_only(me) && self.known >= item.first {
                // Going alone was complete before this was recorded.
                self.durable
            } else {
                break;
            };
            let next = reach.min(self.segment_end(item.first));
            if next <= target {
                break;
            }
            target = next;
        }
        target
    }

    /// The last index governed by the configuration written at `first`.
    fn segment_end(&self, first: Index) -> Index {
        let later = self.log.configurations_from(first.next());
        later.first().map_or(self.log.end().index, |item| item.first.previous())
    }

    /// Records that the newest committed configuration is known to be so.
    fn record_known(&mut self, now: Time) {
        let Some(item) = self.log.in_force(self.committed).copied() else { return };
        let members = item.configuration.members;
        if item.first <= self.known_written || members.is_only(self.setup.me) {
            // Going alone records it itself, after its freeze.
            return;
        }
        let joined = members.is_pair() && members.contains(self.setup.me);
        let in_sync = self.out_of_sync.is_some_and(|mark| joined && item.first > mark.after);
        self.record(now, DurableRecord::KnownConfig { index: item.first, in_sync });
    }

    /// The newest configuration in the log.
    pub(super) fn newest(&self) -> Option<&Configuration> {
        self.log.newest().map(|item| &item.configuration)
    }

    /// The newest configuration, if its commitment is recorded.
    pub(super) fn newest_known(&self) -> Option<&Configuration> {
        self.log.newest().filter(|item| item.first == self.known).map(|item| &item.configuration)
    }

    /// What this member may do when it loses its peer (M1).
    pub(super) fn entitlement(&self) -> Entitlement {
        if self.out_of_sync.is_some() || self.known == Index(0) {
            return Entitlement::None;
        }
        let me = self.setup.me;
        let mut items =
            self.log.configurations_from(self.known).iter().map(|item| item.configuration.entitles(me));
        let Some(first) = items.next() else { return Entitlement::None };
        items.fold(first, Entitlement::meet)
    }

    /// Member of the newest known configuration and of every later one, and not behind.
    pub(super) fn is_member(&self) -> bool {
        let me = self.setup.me;
        self.out_of_sync.is_none()
            && self.known > Index(0)
            && self
                .log
                .configurations_from(self.known)
                .iter()
                .all(|item| item.configuration.members.contains(me))
    }

    /// Sole member, recorded; the peer's lease may still run.
    pub(super) fn is_settled_alone(&self) -> bool {
        self.out_of_sync.is_none()
            && self.newest_known().is_some_and(|newest| newest.members.is_only(self.setup.me))
    }

    /// Sole member for good, the peer's lease surely over.
    pub(super) fn is_alone(&self, now: Time) -> bool {
        self.is_settled_alone() && now >= self.promise
    }
}
