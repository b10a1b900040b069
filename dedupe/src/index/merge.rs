//! Merging runs by tiers, so that a lookup asks few filters and an entry is rewritten few times.
//!
//! Four runs of a tier become one of the next. When there are still more than [`RUNS_MAX`], the two youngest tiers are
//! merged early. Tiers never rise towards newer runs, so what is merged is always the newest stretch. Overwriting leaves
//! entries of what is dead in runs of high tiers, which four of a kind take long to reach: once most entries are such,
//! everything becomes one run.

use std::sync::Arc;

use metropod_journal::media::Io;

use super::page::{Entry, check_page, entry_at};
use super::run::{Run, RunFault, RunId, RunRecord};
use super::writer::RunWriter;
use crate::location::Location;

/// Runs of one tier that are merged into one of the next.
const RATIO: usize = 4;
/// Entries of all runs, in terms of records that live, above which everything is written anew: what that costs is then less
/// than what was written since the last time.
const STALE_FACTOR: u64 = 2;
/// Runs that may stay after merging.
pub(crate) const RUNS_MAX: usize = 10;
/// Pages read at once from each input.
const READ_PAGES: u32 = 64;

/// What to merge next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MergePlan {
    /// The newest so many runs.
    pub count: usize,
    /// Tier of the result.
    pub tier: u32,
}

/// Decides what to merge, given the tiers of all runs, newest first.
pub(crate) fn plan_merge(tiers: &[u32]) -> Option<MergePlan> {
    assert!(tiers.is_sorted(), "tiers never rise towards newer runs");
    let through = |tier: u32| tiers.partition_point(|other| *other <= tier);
    let newest = *tiers.first()?;
    let mut plan = None;
    let mut start = 0;
    let mut tier = newest;
    // A full tier takes the younger ones along; its result may fill the next one, which then goes in the same pass.
    while start < tiers.len() {
        let end = through(tier);
        let carried = usize::from(plan.is_some());
        if end - start + carried >= RATIO {
            plan = Some(MergePlan { count: end, tier: tier + 1 });
        }
        start = end;
        tier = match tiers.get(start) {
            Some(next) if plan.is_none_or(|plan| plan.tier == *next) => *next,
            _ => break,
        };
    }
    if plan.is_some() || tiers.len() <= RUNS_MAX {
        return plan;
    }
    let youngest = through(newest);
    let tier = tiers.get(youngest).copied().unwrap_or(newest);
    Some(MergePlan { count: through(tier), tier })
}

/// Decides whether so many entries are of what does not live that all runs become one. `live` records live, and `spilled`
/// entries make a run of the first tier.
pub(crate) fn plan_rewrite(runs: &[RunRecord], live: u64, spilled: u64) -> Option<MergePlan> {
    let entries = runs.iter().fold(0_u64, |sum, run| sum.saturating_add(run.entries));
    if entries <= live.saturating_mul(STALE_FACTOR).saturating_add(spilled.saturating_mul(RATIO as u64)) {
        return None;
    }
    let mut tier = 0;
    let mut reach = spilled;
    while reach < live {
        (tier, reach) = (tier + 1, reach.saturating_mul(RATIO as u64));
    }
    Some(MergePlan { count: runs.len(), tier })
}

/// Merges `inputs`, newest first, into run `id`, leaving out entries whose locations are not to be kept: what such an
/// entry supersedes is out of use as well.
pub(crate) async fn merge(
    io: &Io,
    array: [u8; 16],
    inputs: &[Arc<Run>],
    id: RunId,
    tier: u32,
    keep: impl Fn(Location) -> bool + Send,
) -> Result<Run, RunFault> {
    let entries_max = inputs.iter().map(|run| run.record.entries).sum();
    let mut writer = RunWriter::create(io, array, id, tier, entries_max).await?;
    let mut cursors: Vec<Cursor> = inputs.iter().cloned().map(Cursor::new).collect();
    loop {
        let mut least: Option<Entry> = None;
        for cursor in &mut cursors {
            if let Some(entry) = cursor.peek(io).await?
                && least.is_none_or(|least| entry.digest < least.digest)
            {
                least = Some(entry);
            }
        }
        let Some(entry) = least else { break };
        for cursor in &mut cursors {
            // The newest run's entry was taken; older ones of the same digest are superseded.
            cursor.skip(&entry);
        }
        if keep(entry.location) {
            writer.push(entry);
        }
        if writer.is_full() {
            writer.write_out().await?;
        }
    }
    Ok(writer.finish().await?)
}

/// Reads a run from its first entry to its last.
struct Cursor {
    run: Arc<Run>,
    next_page: u32,
    entries: Vec<Entry>,
    at: usize,
}

impl Cursor {
    fn new(run: Arc<Run>) -> Cursor {
        Cursor { run, next_page: 0, entries: Vec::new(), at: 0 }
    }

    async fn peek(&mut self, io: &Io) -> Result<Option<Entry>, RunFault> {
        if self.at == self.entries.len() && self.next_page < self.run.page_count() {
            self.load(io).await?;
        }
        Ok(self.entries.get(self.at).copied())
    }

    fn skip(&mut self, taken: &Entry) {
        if self.entries.get(self.at).is_some_and(|entry| entry.digest == taken.digest) {
            self.at += 1;
        }
    }

    async fn load(&mut self, io: &Io) -> Result<(), RunFault> {
        let pages = READ_PAGES.min(self.run.page_count() - self.next_page);
        let bytes = self.run.read_pages(io, self.next_page, pages).await?;
        self.entries.clear();
        self.at = 0;
        for page in bytes.chunks_exact(super::page::PAGE_BYTES) {
            let count = check_page(self.run.record.id, self.next_page, page).ok_or(RunFault::Damaged)?;
            self.entries.extend((0..count).map(|index| entry_at(page, index)));
            self.next_page += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_of_a_tier_are_merged_and_a_full_next_tier_goes_along() {
        assert_eq!(plan_merge(&[]), None);
        assert_eq!(plan_merge(&[0, 0, 0]), None);
        assert_eq!(plan_merge(&[0, 0, 0, 0]), Some(MergePlan { count: 4, tier: 1 }));
        assert_eq!(plan_merge(&[0, 0, 0, 0, 1, 2]), Some(MergePlan { count: 4, tier: 1 }));
        assert_eq!(plan_merge(&[0, 0, 0, 0, 1, 1, 1]), Some(MergePlan { count: 7, tier: 2 }));
        assert_eq!(plan_merge(&[0, 1, 1, 1, 1]), Some(MergePlan { count: 5, tier: 2 }));
    }

    #[test]
    fn everything_becomes_one_run_when_most_entries_are_of_what_is_dead() {
        let runs = |entries: &[u64]| -> Vec<RunRecord> {
            let record = |(id, entries): (u64, &u64)| RunRecord {
                id: RunId(id),
                tier: 0,
                entries: *entries,
                file_bytes: 0,
            };
            (1..).zip(entries).map(record).collect()
        };
        assert_eq!(plan_rewrite(&runs(&[]), 0, 10), None);
        assert_eq!(plan_rewrite(&runs(&[10, 70, 160]), 100, 10), None);
        let plan = |count, tier| Some(MergePlan { count, tier });
        assert_eq!(plan_rewrite(&runs(&[10, 71, 160]), 100, 10), plan(3, 2));
        assert_eq!(plan_rewrite(&runs(&[41]), 0, 10), plan(1, 0));
    }

    #[test]
    fn there_are_never_more_runs_than_the_bound_however_many_are_spilled() {
        let mut tiers: Vec<u32> = Vec::new();
        for _ in 0..100_000 {
            tiers.insert(0, 0);
            while let Some(plan) = plan_merge(&tiers) {
                assert!(plan.count >= 2 || tiers.len() <= RUNS_MAX, "a merge takes at least two runs");
                tiers.splice(..plan.count, [plan.tier]);
            }
            assert!(tiers.len() <= RUNS_MAX);
        }
    }
}
