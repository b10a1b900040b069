//! What survives a restart, and how it is put together again from a manifest and the journal.
//!
//! - D1: a record is acted on or spoken of only when durable.
//! - D2: `known_config` is never ahead of the own durable log.
//! - D3: replay takes an entry only if it chains onto what was replayed before, so entries of a log that was cut or
//!   replaced never come back, in whatever order manifests and journal were written.

use crate::config::{Configuration, Epoch};
use crate::entry::Entry;
use crate::ids::{ArrayId, Chain, ConfigId, Incarnation, Index, Position, Ticket};

/// A configuration and where it begins.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct HistoryItem {
    /// The configuration.
    pub configuration: Configuration,
    /// Index of its entry.
    pub first: Index,
    /// Chain before its entry.
    pub chain_before: Chain,
}

/// This copy is behind: another array went on without it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OutOfSync {
    /// Last entry shared with the survivor.
    pub fork: Position,
    /// The survivor's configuration that left this array out.
    pub survivor: ConfigId,
    /// Index of that configuration in the survivor's log. Only a JOIN after it clears this state.
    pub after: Index,
    /// No JOIN was ever seen: users read `baselining` instead of `resyncing`.
    pub first_time: bool,
}

/// Highest epoch heard of from anyone, and who holds it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Learned {
    /// The epoch.
    pub epoch: Epoch,
    /// The array that went on alone in it.
    pub holder: Option<ArrayId>,
}

/// What the core stores per pod: in each manifest as a whole, in the journal record by record.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct DurableState {
    /// Raised at every start.
    pub incarnation: Incarnation,
    /// Index of the newest configuration known committed; 0 in a copy that never knew one.
    pub known_config: Index,
    /// Set while this copy is behind.
    pub out_of_sync: Option<OutOfSync>,
    /// Highest epoch heard of.
    pub learned: Learned,
    /// Everything up to here is in the core's stores, not in the log.
    pub base: Position,
    /// Every configuration up to `base`, oldest first; later ones are found in the log.
    pub history: Vec<HistoryItem>,
    /// Records with a ticket up to this are contained in the other fields.
    pub ticket: Ticket,
}

/// A change of the durable state, written to the journal in order with entries.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum DurableRecord {
    /// A new incarnation began.
    Incarnation(Incarnation),
    /// The configuration at this index is known committed; it may end the out-of-sync state.
    KnownConfig {
        /// Index of the configuration entry.
        index: Index,
        /// It is the JOIN that ends the out-of-sync state.
        in_sync: bool,
    },
    /// This copy is behind.
    OutOfSync(OutOfSync),
    /// A higher epoch was heard of.
    Learned(Learned),
    /// Entries after `keep` are dropped.
    Cut {
        /// The last entry kept.
        keep: Index,
    },
}

/// Why a machine cannot be started from what was found on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestartError {
    /// The newest configuration known committed is neither in the log nor in the history.
    #[error(
        "configuration entry {index:?} is known committed but missing from log and history: damaged below the durable tail"
    )]
    ConfigurationMissing {
        /// Where it should be.
        index: Index,
    },
    /// An entry does not follow from the one before.
    #[error("log entry {index:?} does not follow from the one before")]
    Broken {
        /// The entry.
        index: Index,
    },
}

/// Puts a pod's state together again: start from the manifest's state, feed the pod's journal records in journal order.
#[derive(Clone, Debug)]
pub struct Replay {
    state: DurableState,
    entries: Vec<Entry>,
    skipped: u64,
}

impl Replay {
    /// Starts from the state in the newest manifest.
    pub fn new(state: DurableState) -> Replay {
        Replay { state, entries: Vec::new(), skipped: 0 }
    }

    /// An entry from the journal. Entries that do not chain onto the log so far are skipped (D3).
    pub fn entry(&mut self, entry: Entry) {
        let end = self.entries.last().map_or(self.state.base, Entry::position);
        if entry.index == end.index.next() && entry.chain == entry.chain_after(end.chain) {
            self.entries.push(entry);
        } else {
            self.skipped += 1;
        }
    }

    /// A record from the journal.
    pub fn record(&mut self, ticket: Ticket, record: &DurableRecord) {
        if let DurableRecord::Cut { keep } = record {
            let base = self.state.base.index;
            if *keep >= base {
                let kept = usize::try_from(keep.0 - base.0).unwrap_or(usize::MAX);
                self.entries.truncate(kept);
            }
        }
        if ticket <= self.state.ticket {
            return;
        }
        self.state.ticket = ticket;
        self.state.apply(record);
    }

    /// Entries skipped because they did not chain.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The state and the entries after its base.
    pub fn finish(self) -> (DurableState, Vec<Entry>) {
        (self.state, self.entries)
    }
}

impl DurableState {
    /// Applies one record (a cut concerns entries only).
    pub fn apply(&mut self, record: &DurableRecord) {
        match *record {
            DurableRecord::Incarnation(incarnation) => self.incarnation = self.incarnation.max(incarnation),
            DurableRecord::KnownConfig { index, in_sync } => {
                self.known_config = self.known_config.max(index);
                if in_sync {
                    self.out_of_sync = None;
                }
            }
            DurableRecord::OutOfSync(mark) => self.out_of_sync = Some(mark),
            DurableRecord::Learned(learned) => {
                if learned.epoch > self.learned.epoch {
                    self.learned = learned;
                }
            }
            DurableRecord::Cut { .. } => {}
        }
    }
}
