//! What a walk for a collector marks, and what it costs.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use metropod_dedupe::{Compression, Digest, Domain, Store, StoreConfig, digest, pack};
use metropod_journal::media::{Io, sim::SimMedia};
use metropod_snapshots::{
    DiffCursor, FANOUT, Image, LayerId, Marker, Nodes, ReachError, Slot, VolumeMap, fold, mark_reachable,
    read_slots,
};
use support::{Chance, MemoryStore, block_on, chunk};

const TEBIBYTE: u64 = 1 << 40;

/// Keeps what it is told.
#[derive(Default)]
struct Notes(Mutex<(BTreeSet<Digest>, BTreeSet<Digest>, usize)>);

impl Notes {
    fn nodes(&self) -> BTreeSet<Digest> {
        self.0.lock().unwrap().0.clone()
    }

    fn data(&self) -> BTreeSet<Digest> {
        self.0.lock().unwrap().1.clone()
    }

    fn largest(&self) -> usize {
        self.0.lock().unwrap().2
    }
}

impl Marker for Notes {
    type Error = Infallible;

    async fn mark(&self, digests: &[Digest]) -> Result<(), Infallible> {
        let mut notes = self.0.lock().unwrap();
        notes.1.extend(digests);
        notes.2 = notes.2.max(digests.len());
        Ok(())
    }

    async fn visit_nodes(&self, digests: &[Digest]) -> Result<Vec<bool>, Infallible> {
        let mut notes = self.0.lock().unwrap();
        Ok(digests.iter().map(|digest| notes.0.insert(*digest)).collect())
    }
}

#[test]
fn everything_that_any_image_reads_is_marked_and_shared_nodes_are_read_once() {
    for seed in 0..8 {
        let mut chance = Chance(seed);
        let nodes = Nodes::with_capacity(MemoryStore::default(), 0);
        let mut map = VolumeMap::new(TEBIBYTE).unwrap();
        let (mut images, mut expected): (Vec<Image>, BTreeSet<Digest>) = Default::default();
        for round in 0..12u64 {
            for _ in 0..chance.below(400) {
                let block = chance.below(1 << 12) << (8 * chance.below(3));
                map.set(block, Slot::Data(chunk(chance.below(3000))));
            }
            map.zero(round * 300..round * 300 + chance.below(300));
            let image = map.freeze(LayerId(round));
            if chance.below(3) == 0 {
                let folded = block_on(fold(&image, &nodes)).unwrap();
                map.rebase(&image, &folded).unwrap();
                images.push(folded);
            }
            images.push(image);
            if chance.below(4) == 0 {
                map = VolumeMap::from_image(images[chance.below(images.len() as u64) as usize].clone());
            }
        }
        for image in &images {
            expected.extend(names_in(image, &nodes));
        }
        let notes = Notes::default();
        block_on(mark_reachable(&images, nodes.store(), &notes)).unwrap();
        let marked = notes.data();
        assert!(expected.is_subset(&marked), "seed {seed}");
        // Beside data only nodes are marked, and those all have to be there.
        let names = nodes.store().names();
        let unseen: Vec<_> =
            marked.difference(&expected).filter(|name| names.iter().all(|node| node != *name)).collect();
        assert!(unseen.is_empty(), "seed {seed}: {} names that nobody sees", unseen.len());
        // A node under layers is marked as data is.
        let all: BTreeSet<Digest> = notes.nodes().union(&marked).copied().collect();
        for image in &images {
            for node in nodes_of(image, &nodes) {
                assert!(all.contains(&node), "seed {seed}");
            }
        }
    }
}

/// The names of all data in an image, found by the walk that compares.
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

/// The nodes of an image's tree, found by the same walk.
fn nodes_of(image: &Image, nodes: &Nodes<MemoryStore>) -> BTreeSet<Digest> {
    let tree = Image::new(image.size_bytes(), image.root(), Vec::new()).unwrap();
    nodes.store().take_read();
    names_in(&tree, nodes);
    nodes.store().take_read()
}

#[test]
fn what_layers_hide_from_every_image_is_not_kept_and_a_shared_leaf_is_kept_where_it_is_in_sight() {
    let nodes = Nodes::with_capacity(MemoryStore::default(), 0);
    let mut map = VolumeMap::new(TEBIBYTE).unwrap();
    (0..256).for_each(|block| map.set(block, Slot::Data(chunk(block))));
    let folded = block_on(fold(&map.freeze(LayerId(1)), &nodes)).unwrap();
    let mut map = VolumeMap::from_image(folded.clone());
    map.zero(0..100);
    map.set(100, Slot::Data(chunk(1000)));
    let middle = map.freeze(LayerId(2));
    map.set(100, Slot::Data(chunk(1001)));
    let newest = map.freeze(LayerId(3));
    // Another tree that shares the second leaf, with nothing over it.
    let mut other = VolumeMap::from_image(folded.clone());
    other.zero(0..128);
    let other = block_on(fold(&other.freeze(LayerId(4)), &nodes)).unwrap();
    let marked = |images: &[Image]| {
        let notes = Notes::default();
        block_on(mark_reachable(images, nodes.store(), &notes)).unwrap();
        let data: BTreeSet<Digest> = (0..1002).map(chunk).collect();
        notes.data().intersection(&data).count()
    };
    assert_eq!(marked(std::slice::from_ref(&newest)), 155 + 1);
    assert_eq!(marked(&[newest.clone(), middle.clone()]), 155 + 2);
    assert_eq!(marked(&[newest.clone(), folded]), 256 + 1);
    let mut hidden = VolumeMap::from_image(newest);
    hidden.zero(128..256);
    let hidden = hidden.freeze(LayerId(5));
    assert_eq!(marked(std::slice::from_ref(&hidden)), 27 + 1);
    assert_eq!(marked(&[hidden.clone(), other.clone()]), 27 + 1 + 128);
    assert_eq!(marked(&[other, hidden]), 27 + 1 + 128);
}

#[test]
fn a_large_tree_is_walked_in_bounded_batches_side_by_side() {
    let nodes = Nodes::with_capacity(MemoryStore::default(), 0);
    let mut map = VolumeMap::new(4 * TEBIBYTE).unwrap();
    (0..60_000).for_each(|block| map.set(block * 50, Slot::Data(chunk(block))));
    let image = map.freeze(LayerId(1));
    let folded = block_on(fold(&image, &nodes)).unwrap();
    let notes = Notes::default();
    block_on(mark_reachable(&[folded, image], nodes.store(), &notes)).unwrap();
    assert_eq!(notes.data(), (0..60_000).map(chunk).collect());
    assert_eq!(notes.nodes().len(), nodes.store().len());
    assert!(notes.largest() <= 64 * FANOUT);
    assert_eq!(nodes.store().in_flight_max(), 32);
}

#[test]
fn a_node_that_cannot_be_read_ends_the_walk() {
    let nodes = Nodes::with_capacity(MemoryStore::default(), 0);
    let mut map = VolumeMap::new(TEBIBYTE).unwrap();
    (0..1000).for_each(|block| map.set(block << 10, Slot::Data(chunk(block))));
    let folded = block_on(fold(&map.freeze(LayerId(1)), &nodes)).unwrap();
    for lost in nodes.store().names().into_iter().step_by(17) {
        nodes.store().lose(lost);
        let walked =
            block_on(mark_reachable(std::slice::from_ref(&folded), nodes.store(), &Notes::default()));
        assert!(matches!(walked, Err(ReachError::Map(_))));
        nodes.store().find();
    }
}

/// A walk over the chunk store itself: what is reachable stays readable, and no more than that is left.
#[test]
fn after_a_pass_the_store_holds_what_the_images_reach() {
    let media = SimMedia::new();
    let io = Io::inline(Arc::new(media));
    let store = block_on(Store::open(io, StoreConfig::new([1; 16]), None)).unwrap();
    let nodes = Nodes::with_capacity(store.clone(), 0);
    let mut map = VolumeMap::new(TEBIBYTE).unwrap();
    let stage = |number: u64| {
        let content = number.to_le_bytes().repeat(512);
        let name = digest(Domain::Data, &content);
        store.stage(Domain::Data, name, pack(&content, Compression::WhenItPays));
        name
    };
    let mut kept = None;
    for round in 0..6u64 {
        (0..500).for_each(|block| map.set(block * 97, Slot::Data(stage(block + 300 * round + 1))));
        let image = map.freeze(LayerId(round));
        let folded = block_on(fold(&image, &nodes)).unwrap();
        map.rebase(&image, &folded).unwrap();
        if round == 2 {
            kept = Some(folded);
        }
    }
    block_on(store.flush()).unwrap();
    let before = store.stats();
    let images = [kept.unwrap(), map.image().clone()];
    let pass = store.begin_pass().unwrap();
    let reached = block_on(mark_reachable(&images, &store, &pass)).unwrap();
    block_on(pass.finish()).unwrap();
    let after = store.stats();
    assert_eq!(after.chunks, reached.nodes + 1000, "two rounds that share no data");
    assert!(after.chunks < before.chunks);
    for (image, round) in images.iter().zip([2, 5]) {
        for block in 0..500u64 {
            let slots = block_on(read_slots(image, &nodes, block * 97..block * 97 + 1)).unwrap();
            let content = (block + 300 * round + 1).to_le_bytes().repeat(512);
            assert_eq!(block_on(store.get(Domain::Data, &slots[0].digest(), None)).unwrap(), content);
        }
    }
}
