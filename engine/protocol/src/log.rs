//! The part of a pod's log that is kept in memory: entries after the base, and the configurations of the whole log.
//!
//! - L1: entries are gap free from `base.index + 1` and each chains onto the one before.
//! - L2: `history` names every configuration up to the end, in order, but for the oldest where there are very many.

use std::collections::VecDeque;

use crate::config::Configuration;
use crate::durable::HistoryItem;
use crate::entry::Entry;
use crate::ids::{Index, Position};
use crate::settings::HISTORY_KEPT;

/// See the module's text.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Log {
    base: Position,
    entries: VecDeque<Entry>,
    history: Vec<HistoryItem>,
}

impl Log {
    /// A log that begins after `base`; `history` may reach beyond `base`, later configurations come with their entries.
    pub fn new(base: Position, history: Vec<HistoryItem>) -> Log {
        let history = history.into_iter().filter(|item| item.first <= base.index).collect();
        Log { base, entries: VecDeque::new(), history }
    }

    /// Beginning: everything up to here is elsewhere.
    pub fn base(&self) -> Position {
        self.base
    }

    /// The last entry's place.
    pub fn end(&self) -> Position {
        self.entries.back().map_or(self.base, Entry::position)
    }

    /// The entry at `index`, if it is held.
    pub fn get(&self, index: Index) -> Option<&Entry> {
        let offset = index.0.checked_sub(self.base.index.0 + 1)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }

    /// The place `index`, if its chain is known: the base or a held entry.
    pub fn position(&self, index: Index) -> Option<Position> {
        if index == self.base.index { Some(self.base) } else { self.get(index).map(Entry::position) }
    }

    /// Whether `entry` follows the end: next index, configuration in force, matching chain.
    pub fn follows(&self, entry: &Entry) -> bool {
        self.has_place_for(entry) && entry.chain == entry.chain_after(self.end().chain)
    }

    fn has_place_for(&self, entry: &Entry) -> bool {
        let end = self.end();
        let config = match entry.configuration() {
            Some(configuration) => configuration.id,
            None => end.config,
        };
        entry.index == end.index.next() && entry.config == config
    }

    /// Adds an entry whose chain was computed or verified by the caller.
    pub fn push(&mut self, entry: Entry) {
        assert!(self.has_place_for(&entry), "an entry is appended only where it belongs");
        debug_assert!(self.follows(&entry), "an entry chains onto the one before");
        if let Some(configuration) = entry.configuration() {
            let item = HistoryItem {
                configuration: *configuration,
                first: entry.index,
                chain_before: self.end().chain,
            };
            self.history.push(item);
        }
        self.entries.push_back(entry);
    }

    /// Drops everything after `keep`, which must be held.
    pub fn cut(&mut self, keep: Index) {
        assert!(keep >= self.base.index && keep <= self.end().index, "a cut stays within the held log");
        self.entries.truncate(usize::try_from(keep.0 - self.base.index.0).expect("held entries fit memory"));
        self.history.retain(|item| item.first <= keep);
    }

    /// Forgets entries up to `through`.
    pub fn trim(&mut self, through: Index) {
        while self.base.index < through {
            let Some(entry) = self.entries.pop_front() else { return };
            self.base = entry.position();
        }
        self.forget_oldest();
    }

    /// Forgets the oldest configurations where there are very many, but for the one in force at the base and the one before.
    fn forget_oldest(&mut self) {
        let before_base = self.history.partition_point(|item| item.first <= self.base.index);
        let surplus = self.history.len().saturating_sub(HISTORY_KEPT);
        self.history.drain(..surplus.min(before_base.saturating_sub(2)));
    }

    /// Every configuration, oldest first.
    pub fn history(&self) -> &[HistoryItem] {
        &self.history
    }

    /// The newest configuration.
    pub fn newest(&self) -> Option<&HistoryItem> {
        self.history.last()
    }

    /// The configuration in force at `index`.
    pub fn in_force(&self, index: Index) -> Option<&HistoryItem> {
        let after = self.history.partition_point(|item| item.first <= index);
        after.checked_sub(1).map(|at| &self.history[at])
    }

    /// The configuration written exactly at `index`.
    pub fn configuration_at(&self, index: Index) -> Option<&Configuration> {
        self.in_force(index).filter(|item| item.first == index).map(|item| &item.configuration)
    }

    /// Configurations from the one written at `index` on.
    pub fn configurations_from(&self, index: Index) -> &[HistoryItem] {
        let before = self.history.partition_point(|item| item.first < index);
        &self.history[before..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Epoch, Ground, Members, Right};
    use crate::ids::{ArrayId, Chain, ConfigId};

    fn item(first: u64) -> HistoryItem {
        let array = ArrayId([1; 16]);
        let configuration = Configuration {
            epoch: Epoch { era: 0, number: first },
            id: ConfigId([0; 16]),
            members: Members::one(array),
            sequencer: array,
            right: Right::Array(array),
            ground: Ground::Granted,
        };
        HistoryItem { configuration, first: Index(first), chain_before: Chain::EMPTY }
    }

    #[test]
    fn a_history_without_end_keeps_its_newest_part_and_what_is_in_force() {
        let many = 3 * HISTORY_KEPT as u64;
        let at = |index: u64| Position { index: Index(index), ..Position::default() };
        let mut log = Log::new(at(many), (1..=many).map(item).collect());
        log.trim(Index(many));
        assert_eq!(log.history().len(), HISTORY_KEPT);
        assert_eq!(log.newest().map(|item| item.first), Some(Index(many)));
        // What lies behind the base is not given up for what lies before it.
        let mut log = Log::new(at(many), (1..=many).map(item).collect());
        log.base = at(10);
        log.trim(Index(10));
        assert_eq!(log.in_force(Index(10)).map(|item| item.first), Some(Index(10)));
        assert_eq!(log.history()[0].first, Index(9));
    }
}
