//! What is merged and folded, and when: volumes with many snapshots and clones, kept up after every freeze.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use metropod_snapshots::{
    BLOCK_BYTES, Image, LayerId, Limits, Nodes, Rework, Slot, Stack, VolumeMap, Work, fold, merge_in_turns,
    read_slots, survey,
};
use support::{Chance, MemoryStore, Oracle, Point, block_on, chunk};

const BLOCKS: u64 = 100_000;

/// Volumes and their snapshots, kept up as an array does it.
struct Kept {
    nodes: Nodes<MemoryStore>,
    limits: Limits,
    volumes: Vec<VolumeMap>,
    points: Vec<Point>,
    fence: Option<Image>,
    layers_made: u64,
    merged_entries: usize,
    merges: usize,
    folds: usize,
    entries_seen_max: usize,
}

impl Kept {
    fn new(volumes: usize, entries_max: usize) -> Kept {
        let map = || VolumeMap::new(BLOCKS * BLOCK_BYTES).unwrap();
        Kept {
            nodes: Nodes::new(MemoryStore::default()),
            limits: Limits { entries_max, layers_max: 8 },
            volumes: std::iter::repeat_with(map).take(volumes).collect(),
            points: Vec::new(),
            fence: None,
            layers_made: 0,
            merged_entries: 0,
            merges: 0,
            folds: 0,
            entries_seen_max: 0,
        }
    }

    fn layer_id(&mut self) -> LayerId {
        self.layers_made += 1;
        LayerId(self.layers_made)
    }

    fn freeze(&mut self, volume: usize) -> Image {
        let id = self.layer_id();
        self.volumes[volume].freeze(id)
    }

    fn stacks(&self) -> Vec<Stack> {
        let open =
            self.volumes.iter().map(VolumeMap::image).chain(self.points.iter().map(|point| &point.image));
        let open = open.map(|image| Stack { image: image.clone(), fenced: false });
        let fence = self.fence.iter().map(|image| Stack { image: image.clone(), fenced: true });
        open.chain(fence).collect()
    }

    fn entries(&self) -> usize {
        let stacks = self.stacks();
        let layers = stacks.iter().flat_map(|stack| stack.image.layers());
        let different: BTreeMap<LayerId, usize> = layers.map(|layer| (layer.id(), layer.len())).collect();
        different.values().sum()
    }

    fn keep_up(&mut self) {
        self.entries_seen_max = self.entries_seen_max.max(self.entries());
        while let Some(work) = survey(&self.stacks(), self.limits, &BTreeSet::new()).work {
            let rework = match work {
                Work::Merge(run) => {
                    let into = Arc::new(block_on(merge_in_turns(&run, self.layer_id())));
                    self.merges += 1;
                    self.merged_entries += into.len();
                    Rework::Merged { run: run.iter().map(|layer| layer.id()).collect(), into }
                }
                Work::Fold(from) => {
                    self.folds += 1;
                    let into = block_on(fold(&from, &self.nodes)).unwrap();
                    Rework::Folded { from, into }
                }
            };
            self.volumes.iter_mut().for_each(|volume| drop(volume.rework(&rework)));
            let points = self.points.iter_mut().map(|point| &mut point.image);
            for image in points.chain(&mut self.fence) {
                *image = image.reworked(&rework).unwrap_or(image.clone());
            }
            self.entries_seen_max = self.entries_seen_max.max(self.entries());
        }
    }

    fn deepest(&self) -> usize {
        self.stacks().iter().map(|stack| stack.image.layers().len()).max().unwrap()
    }
}

/// Writes `changes` random blocks between a thousand snapshots; gives the kept volume.
fn a_thousand_snapshots(changes: u64, entries_max: usize) -> Kept {
    let mut kept = Kept::new(1, entries_max);
    let mut oracle = Oracle::new(BLOCKS * BLOCK_BYTES);
    let mut chance = Chance(1);
    for number in 0..1000 {
        for _ in 0..changes {
            let (block, slot) = (chance.below(BLOCKS), Slot::Data(chunk(chance.below(1 << 40))));
            kept.volumes[0].set(block, slot);
            oracle.set(block, slot);
        }
        let image = kept.freeze(0);
        // The oracles of all would be large: every fiftieth is compared.
        let oracle = if number % 50 == 0 { oracle.clone() } else { Oracle::new(0) };
        kept.points.push(Point { image, oracle });
        kept.keep_up();
        assert!(kept.deepest() <= 8, "snapshot {number}");
        assert!(kept.entries() <= entries_max, "snapshot {number}");
    }
    for point in kept.points.iter().filter(|point| point.oracle.size_bytes > 0) {
        let slots = block_on(read_slots(&point.image, &kept.nodes, 0..BLOCKS)).unwrap();
        assert!(slots == point.oracle.slots(0..BLOCKS));
    }
    kept
}

#[test]
fn memory_stays_bounded_with_a_thousand_snapshots_and_changes_between_them() {
    let kept = a_thousand_snapshots(50, 4_000);
    let bound = 4_000 + 4_000 / 4 + 50;
    assert!(kept.entries_seen_max <= bound, "{} entries at a time", kept.entries_seen_max);
    assert!(kept.folds > 100 && kept.merges > 10, "{} folds, {} merges", kept.folds, kept.merges);
}

#[test]
fn a_thousand_snapshots_within_the_budget_cost_no_leaf_and_few_duplicates() {
    let kept = a_thousand_snapshots(5, 100_000);
    assert_eq!((kept.folds, kept.nodes.store().len()), (0, 0));
    let (written, entries) = (1000 * 5, kept.entries());
    println!("{written} entries written, {entries} held, {} merged", kept.merged_entries);
    assert!(entries <= 8 * written, "{entries} entries are held for {written}");
}

#[test]
fn a_nearly_idle_volume_is_merged_and_never_folded() {
    let mut kept = Kept::new(1, 1 << 20);
    let mut merged_max = 0;
    for checkpoint in 0..1000 {
        kept.volumes[0].set(checkpoint * 97 % BLOCKS, Slot::Data(chunk(checkpoint)));
        kept.freeze(0);
        kept.keep_up();
        assert!(kept.deepest() <= 8);
        merged_max = merged_max.max(kept.merged_entries);
    }
    assert_eq!((kept.folds, kept.entries()), (0, 1000));
    println!("{merged_max} entries merged for 1000 written one at a checkpoint");
    assert!(merged_max <= 8 * 1000, "an entry is merged a few times: {merged_max}");
}

#[test]
fn the_fullest_volume_is_folded_first_and_the_others_stay() {
    let mut kept = Kept::new(3, 1000);
    for (volume, changes) in [(0, 300), (1, 500), (2, 250)] {
        (0..changes).for_each(|block| kept.volumes[volume].set(block, Slot::Data(chunk(block))));
        kept.freeze(volume);
    }
    kept.keep_up();
    let layers: Vec<usize> = kept.volumes.iter().map(|volume| volume.image().layers().len()).collect();
    assert_eq!((kept.folds, layers), (1, vec![1, 0, 1]));
}

#[test]
fn what_a_volume_and_its_clones_share_is_folded_once_for_all_of_them() {
    let mut kept = Kept::new(1, 1000);
    (0..600).for_each(|block| kept.volumes[0].set(block, Slot::Data(chunk(block))));
    let image = kept.freeze(0);
    kept.volumes.push(VolumeMap::from_image(image));
    for volume in 0..2 {
        kept.volumes[volume].set(7, Slot::Data(chunk(9_000 + volume as u64)));
        kept.volumes[volume].resize((600 - 100 * volume as u64) * BLOCK_BYTES).unwrap();
        kept.freeze(volume);
    }
    kept.limits.entries_max = 10;
    kept.keep_up();
    assert_eq!(kept.folds, 1);
    let roots: Vec<_> = kept.volumes.iter().map(|volume| volume.image().root().unwrap()).collect();
    assert_eq!(roots[0], roots[1]);
    for volume in 0..2 {
        let slots = block_on(read_slots(&kept.volumes[volume], &kept.nodes, 0..700)).unwrap();
        let end = 600 - 100 * volume;
        assert_eq!(slots[7], Slot::Data(chunk(9_000 + volume as u64)));
        assert!(slots[8..end].iter().zip(8..).all(|(slot, block)| *slot == Slot::Data(chunk(block))));
        assert!(slots[end..].iter().all(|slot| *slot == Slot::Zero));
    }
}

#[test]
fn nothing_is_merged_across_the_point_a_difference_will_be_taken_from() {
    let mut kept = Kept::new(1, 1 << 20);
    for number in 0..40u64 {
        kept.volumes[0].set(number, Slot::Data(chunk(number)));
        let image = kept.freeze(0);
        if number == 4 {
            kept.fence = Some(image);
        }
        kept.keep_up();
    }
    let fence = kept.fence.as_ref().unwrap().layers().len();
    let layers = kept.volumes[0].image().layers();
    assert!(layers.len() <= fence + 8);
    let below: usize = layers[..fence].iter().map(|layer| layer.len()).sum();
    assert_eq!(below, 5, "the fork point's layers are still the oldest of the volume");
}
