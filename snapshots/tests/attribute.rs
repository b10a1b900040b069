//! Who reaches what, compared with a count of every block of every image.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use metropod_dedupe::Digest;
use metropod_snapshots::{
    DiffCursor, Image, LayerId, Mapped, Names, Nodes, Owners, SetId, Share, Slot, VolumeMap, attribute, fold,
    mapped_blocks,
};
use support::{Chance, MemoryStore, block_on, chunk};

const SIZE_BYTES: u64 = 1 << 40;

/// Volumes by pod, each with its snapshots, and the content of all.
struct World {
    /// Pod, snapshots, content now.
    volumes: Vec<(usize, Vec<Image>, Image)>,
    held: Vec<Image>,
    nodes: Nodes<MemoryStore>,
}

/// Who reaches a name, in the oracle's words: volumes, each with its snapshots; nothing for now.
type Reachers = BTreeSet<(usize, Option<usize>)>;

fn world(seed: u64) -> World {
    let mut chance = Chance(seed);
    let nodes = Nodes::with_capacity(MemoryStore::default(), 0);
    let mut layer = 0;
    let mut maps: Vec<(Vec<Image>, VolumeMap)> = vec![(Vec::new(), VolumeMap::new(SIZE_BYTES).unwrap())];
    let mut held = Vec::new();
    for _ in 0..40 {
        let at = chance.below(maps.len() as u64) as usize;
        layer += 1;
        match chance.below(10) {
            0..5 => {
                let base = chance.below(1 << 9) << (9 * chance.below(3));
                for block in 0..chance.below(300) {
                    maps[at].1.set(base + block, Slot::Data(chunk(chance.below(2000))));
                }
            }
            5 => {
                let first = chance.below(1000);
                maps[at].1.zero(first..first + chance.below(600));
            }
            6 => {
                let image = maps[at].1.freeze(LayerId(layer));
                if chance.below(4) == 0 { held.push(image) } else { maps[at].0.push(image) }
            }
            7 => {
                let image = maps[at].1.freeze(LayerId(layer));
                let folded = block_on(fold(&image, &nodes)).unwrap();
                maps[at].1.rebase(&image, &folded).unwrap();
            }
            8 if maps.len() < 7 => {
                let image = maps[at].1.freeze(LayerId(layer));
                maps.push((Vec::new(), VolumeMap::from_image(image)));
            }
            9 if maps.len() < 7 => maps.push((Vec::new(), VolumeMap::new(SIZE_BYTES).unwrap())),
            _ => {}
        }
    }
    let pods = 1 + chance.below(3) as usize;
    let volumes = maps.into_iter().enumerate().map(|(at, (snapshots, mut map))| {
        layer += 1;
        (at * pods / 7, snapshots, map.freeze(LayerId(layer)))
    });
    World { volumes: volumes.collect(), held, nodes }
}

/// The oracle: every block of every image.
fn recount(world: &World) -> BTreeMap<Digest, Reachers> {
    let mut found: BTreeMap<Digest, Reachers> = BTreeMap::new();
    for (volume, (_, snapshots, live)) in world.volumes.iter().enumerate() {
        for (snapshot, image) in snapshots.iter().enumerate() {
            for name in names_in(image, &world.nodes) {
                found.entry(name).or_default().insert((volume, Some(snapshot)));
            }
        }
        for name in names_in(live, &world.nodes) {
            found.entry(name).or_default().insert((volume, None));
        }
    }
    for name in world.held.iter().flat_map(|image| names_in(image, &world.nodes)) {
        found.entry(name).or_default();
    }
    found
}

fn names_in(image: &Image, nodes: &Nodes<MemoryStore>) -> BTreeSet<Digest> {
    let mut names = BTreeSet::new();
    let mut cursor = DiffCursor::new(None, image, nodes);
    loop {
        let batch = block_on(cursor.next_batch(1000)).unwrap();
        if batch.is_empty() {
            return names;
        }
        names.extend(batch.iter().map(|extent| extent.slot.digest()).filter(|name| !name.is_zero()));
    }
}

fn share_of(reachers: &Reachers, world: &World) -> Share {
    let volumes: BTreeSet<usize> = reachers.iter().map(|(volume, _)| *volume).collect();
    let pods: BTreeSet<usize> = volumes.iter().map(|volume| world.volumes[*volume].0).collect();
    let only = |set: &BTreeSet<usize>| (set.len() == 1).then(|| *set.first().unwrap());
    match (only(&volumes), only(&pods)) {
        _ if reachers.is_empty() => Share::Held,
        (Some(volume), _) if reachers.contains(&(volume, None)) => Share::Volume(volume),
        (Some(volume), _) => {
            let only = (reachers.len() == 1).then(|| reachers.first().unwrap().1.unwrap());
            Share::Snapshots { volume, only }
        }
        (None, Some(pod)) => Share::Pod(pod),
        (None, None) => Share::Array,
    }
}

/// What the walk finds, part by part.
fn walk(world: &World, owners: &mut Owners, bits: u32) -> (BTreeMap<Digest, SetId>, BTreeSet<Digest>) {
    let mut images: Vec<(SetId, Image)> = Vec::new();
    for (volume, (_, snapshots, live)) in world.volumes.iter().enumerate() {
        for (snapshot, image) in snapshots.iter().enumerate() {
            images.push((owners.snapshot(volume, snapshot), image.clone()));
        }
        images.push((owners.volume(volume), live.clone()));
    }
    images.extend(world.held.iter().map(|image| (SetId::NONE, image.clone())));
    let (mut data, mut nodes) = (BTreeMap::new(), BTreeSet::new());
    for part in 0..1 << bits {
        let mut names = Names::new(bits, part, 4000);
        block_on(attribute(&images, world.nodes.store(), owners, &mut names)).unwrap();
        let (of_data, of_nodes) = names.finish(owners).expect("few enough");
        data.extend(of_data);
        nodes.extend(of_nodes);
    }
    (data, nodes)
}

#[test]
fn every_name_has_the_share_that_a_recount_finds() {
    for seed in 0..60 {
        let world = world(seed);
        let expected = recount(&world);
        let volumes = || world.volumes.iter().map(|(pod, snapshots, _)| (*pod, snapshots.len()));
        for sets_max in [usize::MAX, 12] {
            let mut owners = Owners::with_sets_max(volumes(), sets_max);
            let (found, nodes) = walk(&world, &mut owners, (seed % 3) as u32);
            assert!(found.keys().eq(expected.keys()), "seed {seed}: the same names");
            for (name, reachers) in &expected {
                let set = found[name].index();
                assert_eq!(owners.share(set), share_of(reachers, &world), "seed {seed}: {reachers:?}");
                let holders: BTreeSet<usize> = owners.volumes(set).collect();
                let live = reachers.iter().filter(|(_, snapshot)| snapshot.is_none());
                let live: BTreeSet<usize> = live.map(|(volume, _)| *volume).collect();
                assert!(live.is_subset(&holders), "seed {seed}");
                assert!(owners.is_rounded() || live == holders, "seed {seed}");
            }
            assert_eq!(nodes, nodes_of(&world), "seed {seed}");
        }
    }
}

fn nodes_of(world: &World) -> BTreeSet<Digest> {
    let live = world.volumes.iter().flat_map(|(_, snapshots, live)| snapshots.iter().chain([live]));
    let mut nodes = BTreeSet::new();
    world.nodes.store().take_read();
    for image in live.chain(&world.held) {
        let tree = Image::new(image.size_bytes(), image.root(), Vec::new()).unwrap();
        names_in(&tree, &world.nodes);
        nodes.extend(world.nodes.store().take_read());
    }
    nodes
}

#[test]
fn too_many_names_are_told_and_more_parts_hold_them() {
    let mut map = VolumeMap::new(SIZE_BYTES).unwrap();
    (0..5000).for_each(|block| map.set(block, Slot::Data(chunk(block))));
    let nodes = Nodes::with_capacity(MemoryStore::default(), 0);
    let image = map.freeze(LayerId(1));
    let folded = block_on(fold(&image, &nodes)).unwrap();
    let mut owners = Owners::new([(0, 0)]);
    let images = [(owners.volume(0), folded)];
    let mut count = |bits: u32, part: u64| {
        let mut names = Names::new(bits, part, 2000);
        block_on(attribute(&images, nodes.store(), &mut owners, &mut names)).unwrap();
        names.finish(&mut owners).map(|(data, nodes)| data.len() + nodes.len())
    };
    assert_eq!(count(0, 0), None);
    let parts: Vec<usize> = (0..8).map(|part| count(3, part).expect("few enough")).collect();
    assert_eq!(parts.iter().sum::<usize>(), 5000 + nodes.store().len());
}

#[test]
fn blocks_that_hold_data_are_counted_as_the_walk_that_compares_finds_them() {
    for seed in 0..40 {
        let world = world(seed);
        let mut mapped = Mapped::new(world.nodes.store().clone());
        for (_, snapshots, live) in &world.volumes {
            for image in snapshots.iter().chain([live]) {
                let expected = block_on(mapped_blocks(image, &world.nodes)).unwrap();
                assert_eq!(block_on(mapped.blocks(image)).unwrap(), expected, "seed {seed}");
            }
        }
    }
}
