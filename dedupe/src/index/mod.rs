//! Where each stored chunk lies: sealed runs on disk, found through filters and fences in memory.
//!
//! New entries live in the store's recent table until they are spilled to a run; runs are merged by tiers.
//!
//! - I1: a run is immutable and durable before any state lists it.
//! - I2: of two runs that know a digest, the newer one is right; runs are kept newest first.
//! - I3: a lookup never misses an entry of an intact run; a damaged page is reported, never taken for "absent".
//!
//! Bytes: docs/format-store.md, "Run".

mod cache;
mod filter;
mod merge;
mod page;
mod run;
mod writer;

pub(crate) use cache::PageCache;
pub(crate) use merge::{MergePlan, RUNS_MAX, merge, plan_merge, plan_rewrite};
pub(crate) use page::{Entry, PAGE_BYTES, check_page, entry_at};
#[cfg(any(fuzzing, test))]
pub(crate) use run::TRAILER_BYTES as RUN_TRAILER_BYTES;
pub(crate) use run::{Run, RunFault, RunId, RunRecord};
pub(crate) use writer::RunWriter;

/// Directory of the runs.
pub(crate) const RUN_DIR: &str = "runs";

/// Greatest number of a run + 1.
pub(crate) const RUNS_EVER_MAX: u64 = 1 << 48;

/// Path of a run.
pub(crate) fn run_path(run: RunId) -> String {
    format!("{RUN_DIR}/{:016x}.run", run.0)
}

/// Path of a list of dead records; such lists are numbered together with the runs.
pub(crate) fn dead_path(list: RunId) -> String {
    format!("{RUN_DIR}/{:016x}.dead", list.0)
}

/// The number in the file name of a list of dead records.
pub(crate) fn dead_of_name(name: &str) -> Option<RunId> {
    number_of_name(name, ".dead")
}

/// The number in a run's file name, if it is one that this program could have given.
pub(crate) fn run_of_name(name: &str) -> Option<RunId> {
    number_of_name(name, ".run")
}

fn number_of_name(name: &str, suffix: &str) -> Option<RunId> {
    let digits = name.strip_suffix(suffix).filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok().filter(|id| *id < RUNS_EVER_MAX).map(RunId)
}

#[cfg(test)]
mod tests;
