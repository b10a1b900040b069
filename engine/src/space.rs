//! Whose the space is, in users' words.
//!
//! - P1: figures are those of the newest count; what was made since has none, what is gone is in the sums still.

use metropod_core::space_account::{PodAccount, SpaceAccount, VolumeAccount};
use metropod_core::{Array as Core, Input};
use metropod_protocol::{PodId, Time};

use crate::array::{Array, ManageError};
use crate::driver::now;
use crate::status::{PodSpace, SpaceCount, SpaceShares, VolumeSpace};

impl Array {
    /// Whose the space is, as of the newest count.
    pub fn space(&self) -> SpaceCount {
        self.inner().driver.look(|array| {
            let done = array.accounted();
            let newest = done.newest.as_ref();
            SpaceCount {
                newest: newest.map(|(as_of, account)| shares(array, account, ms_since(*as_of))),
                finished: done.finished,
                failed: done.failed,
                answered: done.answered,
                last_count_ms: done.last.0 / 1_000_000,
            }
        })
    }

    /// Counts whose the space is now. Not cheap: reads all maps and the index. The array does so by itself after it has
    /// collected, and every quarter of an hour while things change.
    pub async fn count_space(&self) -> Result<(), ManageError> {
        self.asked(|request| Input::Account { request }).await.map(drop)
    }
}

/// The newest account, and how old it is, in milliseconds.
pub(crate) fn newest(array: &Core) -> Option<(&SpaceAccount, u64)> {
    array.accounted().newest.as_ref().map(|(as_of, account)| (&**account, ms_since(*as_of)))
}

pub(crate) fn volume_space(account: &VolumeAccount, size_bytes: u64, as_of_ms_ago: u64) -> VolumeSpace {
    let stored_bytes = account.reached_bytes();
    VolumeSpace {
        as_of_ms_ago,
        logical_bytes: account.logical_bytes,
        unique_bytes: account.unique_bytes,
        shared_bytes: account.shared_bytes,
        snapshots_bytes: account.snapshots_bytes,
        data_reduction: ratio(account.logical_bytes, stored_bytes),
        total_reduction: ratio(size_bytes, stored_bytes),
    }
}

pub(crate) fn pod_space(account: &PodAccount, size_bytes: u64, as_of_ms_ago: u64) -> PodSpace {
    let volumes = || account.volumes.values();
    PodSpace {
        as_of_ms_ago,
        logical_bytes: account.logical_bytes(),
        unique_bytes: volumes().map(|volume| volume.unique_bytes).sum(),
        shared_bytes: account.shared_bytes,
        snapshots_bytes: volumes().map(|volume| volume.snapshots_bytes).sum(),
        data_reduction: ratio(account.logical_bytes(), account.reached_bytes),
        total_reduction: ratio(size_bytes, account.reached_bytes),
    }
}

fn shares(array: &Core, account: &SpaceAccount, as_of_ms_ago: u64) -> SpaceShares {
    let pods = || account.pods.values();
    let volumes = || pods().flat_map(|pod| pod.volumes.values());
    let logical_bytes = pods().map(PodAccount::logical_bytes).sum();
    let size_bytes = account.pods.iter().map(|(id, pod)| size_bytes(array, *id, pod)).sum();
    let census = &account.census;
    let (journal_bytes, _) = array.journal_bytes();
    SpaceShares {
        as_of_ms_ago,
        size_bytes,
        logical_bytes,
        unique_bytes: volumes().map(|volume| volume.unique_bytes).sum(),
        shared_bytes: account.shared_bytes + pods().map(|pod| pod.shared_bytes).sum::<u64>(),
        snapshots_bytes: volumes().map(|volume| volume.snapshots_bytes).sum(),
        held_bytes: account.held_bytes,
        map_bytes: account.map_bytes,
        unattributed_bytes: account.unattributed_bytes,
        staged_bytes: census.staged_bytes,
        cleanable_bytes: census.cleanable_bytes,
        overhead_bytes: census.overhead_bytes,
        freed_bytes: census.freed_bytes,
        used_bytes: census.used_bytes,
        index_bytes: census.index_bytes,
        journal_bytes,
        missing_chunks: account.missing_chunks,
        data_reduction: ratio(logical_bytes, account.reached_bytes),
        total_reduction: ratio(size_bytes, account.reached_bytes),
    }
}

/// The sizes of a pod's volumes that are in the account and still there.
pub(crate) fn size_bytes(array: &Core, pod: PodId, account: &PodAccount) -> u64 {
    let Some(pod) = array.pod(pod) else { return 0 };
    let volumes = &pod.namespace().volumes;
    let sizes = account.volumes.keys().filter_map(|id| volumes.get(id)).map(|volume| volume.size_bytes);
    sizes.fold(0, u64::saturating_add)
}

/// `None` where nothing is stored, or it is not known how much.
fn ratio(bytes: u64, stored_bytes: Option<u64>) -> Option<f64> {
    stored_bytes.filter(|stored| *stored > 0).map(|stored| bytes as f64 / stored as f64)
}

fn ms_since(time: Time) -> u64 {
    now().since(time).0 / 1_000_000
}
