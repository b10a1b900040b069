//! Merging runs of the index, beside everything else.
//!
//! - X1: one merge outside a turn at a time. Its inputs are one stretch of runs, and nobody else merges any of them.
//! - X2: what is merged in a turn, because there are too many runs, are runs newer than that stretch.
//! - X3: a merged run takes the place of its inputs, so newer runs stay before it; it may name records that died meanwhile,
//!   as all runs do.

use std::sync::Arc;

use super::maintain::unless_empty;
use super::{Inner, Store, WriteError};
use crate::files::remove_detached;
use crate::index::{
    MergePlan, RUNS_MAX, Run, RunFault, RunId, RunRecord, merge, plan_merge, plan_rewrite, run_path,
};

/// Runs to be merged into one.
pub(super) struct MergeTask {
    id: RunId,
    tier: u32,
    inputs: Vec<Arc<Run>>,
}

/// While it is there, its stretch of runs is being merged (X1).
struct Claim<'a>(&'a Store);

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.lock().claimed = None;
    }
}

impl Store {
    /// Whether [`Store::tidy_index`] would do something.
    pub fn is_index_untidy(&self) -> bool {
        let inner = self.lock();
        inner.claimed.is_none() && inner.next_merge(self.spilled_entries()).is_some()
    }

    /// Merges some runs of the index if that is due, while everything else goes on. `false`: nothing was to be done.
    ///
    /// Whoever never calls it pays for merges in the flow that writes, once there are more than ten runs.
    pub async fn tidy_index(&self) -> Result<bool, WriteError> {
        let (task, _claim) = {
            // Nobody merges in a turn now (X2).
            let _turn = self.shared.writer.take().await;
            let mut inner = self.lock();
            let plan = inner.next_merge(self.spilled_entries()).filter(|_| inner.claimed.is_none());
            let Some(plan) = plan else { return Ok(false) };
            let task = inner.begin_merge(plan);
            inner.claimed = Some(task.inputs[0].record.id);
            drop(inner);
            (task, Claim(self))
        };
        match self.merge(task).await {
            Ok(()) => {}
            Err(RunFault::Damaged) => self.lock().rebuild_index = true,
            Err(RunFault::Media(error)) => return Err(WriteError::Index(error)),
        }
        Ok(true)
    }

    /// A merge for the flow that has the turn, if there are too many runs.
    pub(super) fn merge_in_turn(&self) -> Option<MergeTask> {
        let mut inner = self.lock();
        if inner.rebuild_index {
            return None;
        }
        let tiers = inner.tiers(inner.unclaimed());
        let plan = plan_merge(&tiers).filter(|_| tiers.len() > RUNS_MAX)?;
        Some(inner.begin_merge(plan))
    }

    pub(super) async fn merge(&self, task: MergeTask) -> Result<(), RunFault> {
        let MergeTask { id, tier, inputs } = task;
        let (io, array) = (&self.shared.io, self.shared.config.array);
        let keep = |location| self.lock().is_visible(location);
        let merged = merge(io, array, &inputs, id, tier, keep).await;
        let merged = merged.inspect_err(|_| remove_detached(io, run_path(id)))?;
        self.lock().put_merged(&inputs, unless_empty(io, merged));
        Ok(())
    }

    fn spilled_entries(&self) -> u64 {
        self.shared.config.recent_entries_max as u64
    }
}

impl Inner {
    fn next_merge(&self, spilled: u64) -> Option<MergePlan> {
        if self.rebuild_index {
            return None;
        }
        plan_merge(&self.tiers(self.runs.len())).or_else(|| {
            let runs: Vec<RunRecord> = self.runs.iter().map(|run| run.record).collect();
            let live = self.segments.values().map(|segment| u64::from(segment.live_records)).sum();
            plan_rewrite(&runs, live, spilled)
        })
    }

    fn tiers(&self, newest: usize) -> Vec<u32> {
        self.runs[..newest].iter().map(|run| run.record.tier).collect()
    }

    /// How many of the newest runs nobody merges.
    fn unclaimed(&self) -> usize {
        let first = self.claimed.and_then(|id| self.runs.iter().position(|run| run.record.id == id));
        first.unwrap_or(self.runs.len())
    }

    fn begin_merge(&mut self, plan: MergePlan) -> MergeTask {
        let inputs = self.runs[..plan.count].to_vec();
        MergeTask { id: self.take_run_id(), tier: plan.tier, inputs }
    }

    /// X3.
    fn put_merged(&mut self, inputs: &[Arc<Run>], merged: Option<Run>) {
        let first = self.runs.iter().position(|run| run.record.id == inputs[0].record.id);
        let first = first.expect("what is being merged stays until it is");
        let mut runs = self.runs.to_vec();
        let merged = merged.map(|mut run| {
            // Those spilled and merged meanwhile may have come to a higher tier.
            run.record.tier = run.record.tier.max(runs[..first].last().map_or(0, |newer| newer.record.tier));
            Arc::new(run)
        });
        let replaced = runs.splice(first..first + inputs.len(), merged);
        assert!(
            replaced.map(|run| run.record.id).eq(inputs.iter().map(|run| run.record.id)),
            "X1: nobody else merges what is being merged"
        );
        self.runs = Arc::new(runs);
        // The next state is the first that does not name the inputs.
        let from = self.generation + 1;
        self.obsolete.extend(inputs.iter().map(|run| (from, run_path(run.record.id))));
    }
}
