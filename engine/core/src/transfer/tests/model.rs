//! A pod at one array, changed by operations as a log would order them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use metropod_dedupe::{Compression, Digest, Domain, Reduced, Store, reduce};
use metropod_protocol::{Chain, ConfigId, Index, Position};
use metropod_snapshots::{Image, Nodes, Slot, VolumeMap, fold, volume_digest};

use super::rig::{new_store, run};
use crate::layer_ids::LayerIds;
use crate::names::{Name, SnapshotId, VolumeId};
use crate::namespace::{Namespace, PodImage, Snapshot, Volume};
use crate::transfer::{Held, Touched};

pub(super) const MIB: u64 = 1 << 20;

/// An entry of the log. Volumes are named by the index of the entry that made them.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Create { size_bytes: u64 },
    Destroy(u64),
    Write { volume: u64, block: u64, content: u64 },
    Zero { volume: u64, blocks: Range<u64> },
    Resize { volume: u64, size_bytes: u64 },
    Snapshot(u64),
    DropSnapshot { volume: u64, taken_at: u64 },
}

/// See the module's text.
pub(super) struct Pod {
    pub store: Store,
    pub nodes: Nodes<Store>,
    pub layer_ids: LayerIds,
    pub namespace: Namespace,
    pub maps: BTreeMap<VolumeId, VolumeMap>,
    pub snapshots: BTreeMap<SnapshotId, Image>,
    pub applied: u64,
}

/// Content number `content`: a third is incompressible.
pub(super) fn block(content: u64) -> Bytes {
    let mut bytes = vec![0; 4096];
    let noisy = if content.is_multiple_of(3) { 4096 } else { 64 };
    blake3::Hasher::new().update(&content.to_le_bytes()).finalize_xof().fill(&mut bytes[..noisy]);
    Bytes::from(bytes)
}

pub(super) fn name_of(content: u64) -> Digest {
    metropod_dedupe::digest(Domain::Data, &block(content))
}

pub(super) fn position(index: u64) -> Position {
    Position { config: ConfigId([7; 16]), index: Index(index), chain: Chain([index as u8; 32]) }
}

impl Pod {
    pub(super) fn new(first_layer: u64) -> Pod {
        let store = new_store();
        Pod {
            nodes: Nodes::new(store.clone()),
            store,
            layer_ids: LayerIds::starting_at(first_layer),
            namespace: Namespace::new(Name::new("pod").unwrap()),
            maps: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            applied: 0,
        }
    }

    pub(super) fn apply_all(&mut self, ops: &[Op]) {
        ops.iter().for_each(|op| self.apply(op));
    }

    pub(super) fn apply(&mut self, op: &Op) {
        self.applied += 1;
        let index = self.applied;
        match op {
            Op::Create { size_bytes } => {
                let id = VolumeId(index);
                let name = Name::new(&format!("v{index}")).unwrap();
                self.namespace.volumes.insert(id, Volume::new(name, *size_bytes));
                self.maps.insert(id, VolumeMap::new(*size_bytes).unwrap());
            }
            Op::Destroy(volume) => {
                let id = VolumeId(*volume);
                self.namespace.volumes.remove(&id);
                self.namespace.snapshots.retain(|snapshot, _| snapshot.volume != id);
                self.snapshots.retain(|snapshot, _| snapshot.volume != id);
                self.maps.remove(&id);
            }
            Op::Write { volume, block: at, content } => {
                let Reduced::Chunk { digest, payload } = reduce(&block(*content), Compression::WhenItPays)
                else {
                    panic!("test content is not zero");
                };
                self.store.stage(Domain::Data, digest, payload);
                self.map(*volume).set(*at, Slot::Data(digest));
            }
            Op::Zero { volume, blocks } => self.map(*volume).zero(blocks.clone()),
            Op::Resize { volume, size_bytes } => {
                self.map(*volume).resize(*size_bytes).unwrap();
                self.namespace.volumes.get_mut(&VolumeId(*volume)).unwrap().size_bytes = *size_bytes;
            }
            Op::Snapshot(volume) => {
                let id = SnapshotId { volume: VolumeId(*volume), taken_at: index };
                let layer = self.layer_ids.take();
                let image = self.map(*volume).freeze(layer);
                let suffix = Name::new(&format!("s{index}")).unwrap();
                self.namespace.snapshots.insert(id, Snapshot::new(suffix, image.size_bytes()));
                self.snapshots.insert(id, image);
            }
            Op::DropSnapshot { volume, taken_at } => {
                let id = SnapshotId { volume: VolumeId(*volume), taken_at: *taken_at };
                self.namespace.snapshots.remove(&id);
                self.snapshots.remove(&id);
            }
        }
    }

    /// What applying `op` now would change.
    pub(super) fn note(&self, op: &Op, touched: &mut Touched) {
        match op {
            Op::Write { volume, block, .. } => touched.add(VolumeId(*volume), block * 4096, 4096),
            Op::Zero { volume, blocks } => {
                touched.add(VolumeId(*volume), blocks.start * 4096, (blocks.end - blocks.start) * 4096);
            }
            Op::Resize { volume, size_bytes } => {
                let before = self.maps[&VolumeId(*volume)].size_bytes();
                touched.add(VolumeId(*volume), *size_bytes, before.saturating_sub(*size_bytes));
            }
            Op::Create { .. } | Op::Destroy(_) | Op::Snapshot(_) | Op::DropSnapshot { .. } => {}
        }
    }

    fn map(&mut self, volume: u64) -> &mut VolumeMap {
        self.maps.get_mut(&VolumeId(volume)).unwrap()
    }

    /// The frozen point at the applied index.
    pub(super) fn freeze(&mut self) -> PodImage {
        let layer_ids = &self.layer_ids;
        PodImage {
            namespace: self.namespace.clone(),
            volumes: self.maps.iter_mut().map(|(id, map)| (*id, map.freeze(layer_ids.take()))).collect(),
            snapshots: self.snapshots.clone(),
        }
    }

    pub(super) fn held(&mut self) -> Held {
        Held { at: position(self.applied), image: self.freeze() }
    }

    /// Puts everything into trees.
    pub(super) fn fold(&mut self) {
        for map in self.maps.values_mut() {
            let image = map.freeze(self.layer_ids.take());
            *map = VolumeMap::from_image(run(fold(&image, &self.nodes)).unwrap());
        }
    }

    /// Takes on a received image.
    pub(super) fn flip(&mut self, image: PodImage, at: u64) {
        self.namespace = image.namespace;
        self.maps = image.volumes.into_iter().map(|(id, image)| (id, VolumeMap::from_image(image))).collect();
        self.snapshots = image.snapshots;
        self.applied = at;
    }

    /// Every chunk that the pod names.
    pub(super) fn names(&mut self) -> BTreeSet<Digest> {
        let image = self.freeze();
        let mut names = BTreeSet::new();
        for image in image.volumes.values().chain(image.snapshots.values()) {
            let extents = run(metropod_snapshots::diff(None, image, &self.nodes)).unwrap();
            names.extend(extents.into_iter().filter_map(|extent| match extent.slot {
                Slot::Zero => None,
                Slot::Data(digest) => Some(digest),
            }));
        }
        names
    }
}

/// Both pods read the same, and the second has every chunk that it names.
pub(super) fn assert_equal(one: &mut Pod, other: &mut Pod) {
    assert_eq!(one.namespace, other.namespace);
    let (left, right) = (one.freeze(), other.freeze());
    for (id, image) in &left.volumes {
        let digest = run(volume_digest(image, &one.nodes)).unwrap();
        assert_eq!(digest, run(volume_digest(&right.volumes[id], &other.nodes)).unwrap(), "{id:?}");
    }
    for (id, image) in &left.snapshots {
        let digest = run(volume_digest(image, &one.nodes)).unwrap();
        assert_eq!(digest, run(volume_digest(&right.snapshots[id], &other.nodes)).unwrap(), "{id:?}");
    }
    assert_eq!((left.volumes.len(), left.snapshots.len()), (right.volumes.len(), right.snapshots.len()));
    let names: Vec<Digest> = other.names().into_iter().collect();
    let present = run(other.store.have(&names)).unwrap();
    assert!(present.into_iter().all(|present| present), "the target names content that it lacks");
}
