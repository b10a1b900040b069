//! Names of simulated files: what the directories say now, and what they would say after a crash.
//!
//! - N1: a change of a name is durable only after `sync_dir` of its directory; before that any subset of the
//!   changes may survive, each of them whole (a rename never leaves neither name).

use std::collections::{BTreeMap, BTreeSet};

use super::random::SplitMix;

#[derive(Clone)]
enum Change {
    Link { path: String, file: u64 },
    Rename { from: String, to: String, file: u64 },
    Unlink { path: String },
}

/// All names of one media.
#[derive(Clone, Default)]
pub(super) struct Names {
    current: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    unsynced: Vec<Change>,
}

impl Names {
    pub(super) fn get(&self, path: &str) -> Option<u64> {
        self.current.get(path).copied()
    }

    /// Files that have a name now.
    pub(super) fn named(&self) -> BTreeSet<u64> {
        self.current.values().copied().collect()
    }

    /// Files that have a name now or may have one after a crash.
    pub(super) fn reachable(&self) -> BTreeSet<u64> {
        let pending = self.unsynced.iter().filter_map(|change| match change {
            Change::Link { file, .. } | Change::Rename { file, .. } => Some(*file),
            Change::Unlink { .. } => None,
        });
        self.current.values().chain(self.durable.values()).copied().chain(pending).collect()
    }

    pub(super) fn in_dir(&self, dir: &str) -> Vec<String> {
        let names = self.current.keys().filter(|path| split(path).0 == dir);
        names.map(|path| split(path).1.to_owned()).collect()
    }

    pub(super) fn link(&mut self, path: &str, file: u64) {
        self.change(Change::Link { path: path.to_owned(), file });
    }

    pub(super) fn rename(&mut self, from: &str, to: &str, file: u64) {
        self.change(Change::Rename { from: from.to_owned(), to: to.to_owned(), file });
    }

    pub(super) fn unlink(&mut self, path: &str) {
        self.change(Change::Unlink { path: path.to_owned() });
    }

    /// Makes every change in `dir` durable.
    pub(super) fn sync_dir(&mut self, dir: &str) {
        let mut later: Vec<Change> = Vec::new();
        for change in std::mem::take(&mut self.unsynced) {
            if split(change.place()).0 != dir {
                later.push(change);
                continue;
            }
            if let Change::Rename { from, file, .. } = &change {
                // The name this file had before went with it, whatever its own directory has synced.
                later.retain(|earlier| {
                    !matches!(earlier, Change::Link { path, file: linked } if path == from && linked == file)
                });
            }
            change.apply(&mut self.durable);
        }
        self.unsynced = later;
    }

    /// Loses power: of the unsynced changes each survives with a chance of `chance` in 256.
    pub(super) fn crash(&mut self, chance: u64, random: &mut SplitMix) {
        for change in std::mem::take(&mut self.unsynced) {
            if random.below(256) < chance {
                change.apply(&mut self.durable);
            }
        }
        self.current = self.durable.clone();
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.unsynced.push(change);
    }
}

impl Change {
    /// The path whose directory must be synced.
    fn place(&self) -> &str {
        match self {
            Change::Link { path, .. } | Change::Unlink { path } => path,
            Change::Rename { to, .. } => to,
        }
    }

    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Change::Link { path, file } => {
                names.insert(path.clone(), *file);
            }
            Change::Rename { from, to, file } => {
                if names.get(from) == Some(file) {
                    names.remove(from);
                }
                names.insert(to.clone(), *file);
            }
            Change::Unlink { path } => {
                names.remove(path);
            }
        }
    }
}

/// Directory and name of a path.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}
