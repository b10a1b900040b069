//! Whose the space is, compared with a recount.
//!
//! - A1: the recount asks every volume and snapshot for every block, and the store for each record by itself.

use std::collections::{BTreeMap, BTreeSet};

use metropod_core::names::{SnapshotId, VolumeId};
use metropod_core::operation::BLOCK_BYTES;
use metropod_core::space_account::{PodAccount, SpaceAccount, VolumeAccount};
use metropod_core::{Array, Input};
use metropod_dedupe::{Digest, Store};
use metropod_protocol::PodId;
use metropod_snapshots::{Nodes, Source, resolve};

use super::Solo;
use super::collecting::add_nodes;
use crate::executor::run;

/// Who reaches a chunk: snapshots, and volumes as they are now.
#[derive(Default)]
struct Reachers {
    volumes: BTreeSet<(PodId, VolumeId)>,
    snapshots: BTreeSet<(PodId, SnapshotId)>,
}

impl Reachers {
    /// The volumes that are concerned at all.
    fn concerned(&self) -> BTreeSet<(PodId, VolumeId)> {
        let snapshots = self.snapshots.iter().map(|(pod, id)| (*pod, id.volume));
        self.volumes.iter().copied().chain(snapshots).collect()
    }
}

impl Solo {
    /// S7, of any account: it adds up, and counts nothing twice.
    pub(super) fn check_sum(&mut self, account: &SpaceAccount) {
        self.counts.accounts += 1;
        let census = &account.census;
        assert_eq!(account.sum_bytes(), census.used_bytes as i64, "S7: it adds up: {account:?}");
        let counted = account.data_bytes() + account.held_bytes + account.map_bytes;
        assert!(counted <= census.stored_bytes + census.staged_bytes, "S7: nothing twice: {account:?}");
        assert_eq!(account.missing_chunks, 0, "S7: everything named is there: {account:?}");
    }

    /// S7, at rest after a pass; `false` if something was folded, moved or lost since.
    pub(super) fn recount_space(&mut self) -> bool {
        self.ask_checkpoint();
        self.settle();
        let Some(array) = &mut self.array else { return false };
        let request = array.next_request();
        if self.answer_to(request, Input::Account { request }).is_err() {
            return false;
        }
        let Some(array) = &self.array else { return false };
        let (_, account) = array.accounted().newest.as_ref().expect("it was just made");
        let stats = array.store().stats();
        if stats.staged > 0 || account.census.stored_bytes != stats.stored_bytes {
            return false;
        }
        let counted = recounted(array);
        let map_bytes = map_bytes(array);
        assert_eq!(account.pods, counted.pods, "S7");
        let shared_bytes = counted.shared_bytes;
        assert_eq!(
            (account.map_bytes, account.held_bytes, account.shared_bytes),
            (map_bytes, 0, shared_bytes),
            "S7"
        );
        let space = array.store().space();
        assert_eq!(account.reached_bytes, counted.reached_bytes, "S7");
        assert_eq!(account.census.used_bytes, space.used_bytes, "S7");
        // A checkpoint since the pass may have folded something: the nodes before that are garbage.
        account.unattributed_bytes == 0
    }
}

/// What the pods take, block by block; of the array only what it shares and reaches.
fn recounted(array: &Array) -> SpaceAccount {
    let nodes = Nodes::new(array.store().clone());
    let mut found: BTreeMap<Digest, Reachers> = BTreeMap::new();
    let mut account = SpaceAccount { reached_bytes: Some(0), ..SpaceAccount::default() };
    for pod in array.pods() {
        let mut counted = PodAccount { reached_bytes: Some(0), ..PodAccount::default() };
        for id in pod.namespace().volumes.keys() {
            let map = pod.volume_map(*id).expect("every volume has a map");
            let names = names(map, map.size_blocks(), &nodes);
            let logical_bytes = names.len() as u64 * BLOCK_BYTES;
            let volume = VolumeAccount { logical_bytes, shared_bytes: Some(0), ..Default::default() };
            counted.volumes.insert(*id, volume);
            for name in names {
                found.entry(name).or_default().volumes.insert((pod.id(), *id));
            }
        }
        for id in pod.namespace().snapshots.keys() {
            let image = pod.snapshot_image(*id).expect("every snapshot has an image");
            counted.snapshots.insert(*id, 0);
            for name in names(image, image.size_bytes() / BLOCK_BYTES, &nodes) {
                found.entry(name).or_default().snapshots.insert((pod.id(), *id));
            }
        }
        account.pods.insert(pod.id(), counted);
    }
    for (name, reachers) in &found {
        count(&mut account, reachers, record_bytes(array.store(), name));
    }
    account
}

fn count(account: &mut SpaceAccount, reachers: &Reachers, bytes: u64) {
    let concerned = reachers.concerned();
    let pods: BTreeSet<PodId> = concerned.iter().map(|(pod, _)| *pod).collect();
    let first = concerned.first().expect("somebody reaches it");
    let volume = volume_of(account, first);
    match (pods.len(), concerned.len(), reachers.volumes.len()) {
        (1, 1, 0) => volume.snapshots_bytes += bytes,
        (1, 1, _) => volume.unique_bytes += bytes,
        (1, ..) => pod_of(account, first.0).shared_bytes += bytes,
        _ => account.shared_bytes += bytes,
    }
    if reachers.volumes.is_empty() && reachers.snapshots.len() == 1 {
        let (pod, id) = reachers.snapshots.first().expect("one");
        *pod_of(account, *pod).snapshots.entry(*id).or_default() += bytes;
    }
    if !reachers.volumes.is_empty() {
        *account.reached_bytes.as_mut().expect("it is exact") += bytes;
    }
    for pod in reachers.volumes.iter().map(|(pod, _)| *pod).collect::<BTreeSet<_>>() {
        *pod_of(account, pod).reached_bytes.as_mut().expect("it is exact") += bytes;
    }
    for place in reachers.volumes.iter().filter(|_| concerned.len() > 1) {
        *volume_of(account, place).shared_bytes.as_mut().expect("it is exact") += bytes;
    }
}

fn pod_of(account: &mut SpaceAccount, pod: PodId) -> &mut PodAccount {
    account.pods.get_mut(&pod).expect("listed above")
}

fn volume_of<'a>(account: &'a mut SpaceAccount, (pod, id): &(PodId, VolumeId)) -> &'a mut VolumeAccount {
    pod_of(account, *pod).volumes.get_mut(id).expect("listed above: every snapshot has a volume")
}

/// The name in each block that holds data.
fn names(source: &impl Source, blocks: u64, nodes: &Nodes<Store>) -> Vec<Digest> {
    let slots = run(resolve(source.lookup(0..blocks), nodes)).expect("every node is stored");
    slots.iter().map(|slot| slot.digest()).filter(|name| !name.is_zero()).collect()
}

fn map_bytes(array: &Array) -> u64 {
    let mut nodes = BTreeSet::new();
    for pod in array.pods() {
        let maps = pod.namespace().volumes.keys().filter_map(|id| pod.volume_map(*id));
        maps.for_each(|map| add_nodes(map.image(), array.store(), &mut nodes));
        let images = pod.namespace().snapshots.keys().filter_map(|id| pod.snapshot_image(*id));
        images.for_each(|image| add_nodes(image, array.store(), &mut nodes));
    }
    nodes.iter().map(|name| record_bytes(array.store(), name)).sum()
}

fn record_bytes(store: &Store, name: &Digest) -> u64 {
    let location = run(store.locate(name)).expect("the index can be read");
    u64::from(location.expect("nothing is staged").length_max())
}
