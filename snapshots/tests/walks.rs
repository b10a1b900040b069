//! What walks over trees cost, and what they do when the store fails them.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use metropod_dedupe::{Digest, Domain, digest};
use metropod_snapshots::{
    BLOCK_BYTES, DiffCursor, Extent, FANOUT, Image, LayerId, MapError, NODE_BYTES, Nodes, NotTheBase, Root,
    Slot, VolumeMap, diff, fold, read_slots, volume_digest,
};
use support::{Chance, MemoryStore, Oracle, block_on, check_diff, chunk};

const TEBIBYTE: u64 = 1 << 40;
/// Blocks under one level 1 node.
const GROUP_BLOCKS: u64 = (FANOUT * FANOUT) as u64;

fn written(size_bytes: u64, blocks: impl IntoIterator<Item = u64>) -> Image {
    let mut map = VolumeMap::new(size_bytes).expect("a size that exists");
    blocks.into_iter().for_each(|block| map.set(block, Slot::Data(chunk(block))));
    map.freeze(LayerId(1))
}

#[test]
fn a_sparse_volume_of_4_tib_costs_what_is_written_in_it() {
    let nodes = Nodes::new(MemoryStore::default());
    let mut chance = Chance(1);
    let mut map = VolumeMap::new(4 * TEBIBYTE).unwrap();
    let mut oracle = Oracle::new(4 * TEBIBYTE);
    for _ in 0..1000 {
        let block = chance.below(map.size_blocks());
        map.set(block, Slot::Data(chunk(block)));
        oracle.set(block, Slot::Data(chunk(block)));
    }
    let before = map.freeze(LayerId(1));
    let folded = block_on(fold(&before, &nodes)).unwrap();
    assert_eq!(folded.root().map(|root| root.height), Some(5));
    assert!(nodes.store().len() <= 1000 * 5, "a path of nodes for each block");
    map.rebase(&before, &folded).unwrap();
    assert_eq!(block_on(diff(None, &folded, &nodes)).unwrap().len(), oracle.blocks.len());

    // A trim of all but the first and the last 1000 blocks.
    let trimmed = 1000..map.size_blocks() - 1000;
    map.zero(trimmed.clone());
    let after = map.freeze(LayerId(2));
    let before_oracle = oracle.clone();
    oracle.zero(trimmed.clone());
    let reads = nodes.store().reads();
    assert_eq!(block_on(diff(Some(&folded), &after, &nodes)).unwrap(), [Extent::zero(trimmed)]);
    assert_eq!(nodes.store().reads(), reads, "the layers above a common tree say it all");
    let back = block_on(diff(Some(&after), &folded, &nodes)).unwrap();
    assert_eq!(check_diff(&back, &oracle, &before_oracle), before_oracle.blocks.len() - oracle.blocks.len());
    assert_eq!(block_on(volume_digest(&after, &nodes)).unwrap(), oracle.digest());
    let staged = nodes.store().len();
    block_on(fold(&after, &nodes)).unwrap();
    assert!(nodes.store().len() - staged <= 2 * 5, "a trim touches the nodes at its two ends");
}

#[test]
fn a_diff_on_a_common_tree_reads_no_node() {
    let nodes = Nodes::with_capacity(MemoryStore::default(), 0);
    let base = written(TEBIBYTE, (0..20_000).chain(1 << 27..(1 << 27) + 1000));
    let folded = block_on(fold(&base, &nodes)).unwrap();
    let mut map = VolumeMap::from_image(folded.clone());
    let from = map.image().clone();
    // More extents than one step takes, and zeroes among them.
    for block in 0..60_000 {
        map.set(block, Slot::Data(chunk(block + 1)));
    }
    map.freeze(LayerId(2));
    map.zero(50_000..50_100);
    let to = map.freeze(LayerId(3));
    let reads = nodes.store().reads();
    let mut cursor = DiffCursor::new(Some(&from), &to, &nodes);
    let mut found = Vec::new();
    loop {
        let batch = block_on(cursor.next_batch(1000)).unwrap();
        if batch.is_empty() {
            break;
        }
        found.extend(batch);
    }
    assert_eq!(found.len(), 60_000 - 100 + 1);
    assert!(found.windows(2).all(|pair| pair[0].blocks.end <= pair[1].blocks.start));
    assert_eq!(nodes.store().reads(), reads);
}

#[test]
fn a_diff_of_two_trees_reads_only_where_they_differ() {
    let store = MemoryStore::default();
    let nodes = Nodes::with_capacity(store.clone(), 0);
    let from = block_on(fold(&written(TEBIBYTE, 0..10 * GROUP_BLOCKS), &nodes)).unwrap();
    let mut map = VolumeMap::from_image(from.clone());
    map.set(3 * GROUP_BLOCKS, Slot::Data(chunk(0)));
    let to = block_on(fold(&map.freeze(LayerId(2)), &nodes)).unwrap();
    let reads = store.reads();
    let found = block_on(diff(Some(&from), &to, &nodes)).unwrap();
    assert_eq!(found, [Extent::data(3 * GROUP_BLOCKS, chunk(0))]);
    assert_eq!(store.reads() - reads, 2 * 4, "one path in each tree");
}

#[test]
fn leaves_are_read_side_by_side_within_a_bound() {
    let store = MemoryStore::default();
    let nodes = Nodes::with_capacity(store.clone(), 0);
    let image = block_on(fold(&written(TEBIBYTE, (0..GROUP_BLOCKS).step_by(100)), &nodes)).unwrap();
    block_on(read_slots(&image, &nodes, 0..GROUP_BLOCKS)).unwrap();
    assert_eq!(store.in_flight_max(), 32);
}

#[test]
fn the_cache_answers_what_was_read_before_and_stays_within_its_capacity() {
    let store = MemoryStore::default();
    let image = block_on(fold(
        &written(TEBIBYTE, (0..100 * 128).step_by(128)),
        &Nodes::with_capacity(store.clone(), 0),
    ))
    .unwrap();
    let nodes = Nodes::with_capacity(store.clone(), 16);
    let read = |block: u64| block_on(read_slots(&image, &nodes, block..block + 1)).unwrap();
    read(0);
    assert_eq!(store.reads(), 4);
    read(1);
    assert_eq!(store.reads(), 4);
    for leaf in 1..100 {
        read(leaf * 128);
    }
    assert_eq!(store.reads(), 4 + 99, "what every read passes stays, in whichever generation");
    assert!(nodes.cached() <= 16);
}

#[test]
fn a_diff_that_failed_goes_on_where_it_was() {
    let store = MemoryStore::default();
    let nodes = Nodes::with_capacity(store.clone(), 0);
    let blocks = (0..4 * GROUP_BLOCKS).step_by(1000);
    let to = block_on(fold(&written(8 * GROUP_BLOCKS * BLOCK_BYTES, blocks.clone()), &nodes)).unwrap();
    for lost in store.names() {
        store.lose(lost);
        let mut cursor = DiffCursor::new(None, &to, &nodes);
        let mut found = Vec::new();
        let mut failures = 0;
        loop {
            match block_on(cursor.next_batch(10)) {
                Ok(batch) if batch.is_empty() => break,
                Ok(batch) => found.extend(batch),
                Err(MapError::Node { digest, .. }) => {
                    assert_eq!(digest, lost);
                    failures += 1;
                    store.find();
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(failures, 1);
        assert!(found.iter().map(|extent| extent.blocks.start).eq(blocks.clone()));
    }
}

#[test]
fn what_is_no_node_is_an_error_and_not_a_panic() {
    let store = MemoryStore::default();
    let nodes = Nodes::new(store.clone());
    let image = |name| Image::new(TEBIBYTE, Some(Root { digest: name, height: 4 }), Vec::new()).unwrap();
    for bytes in [0, 1, 31, NODE_BYTES - 1, NODE_BYTES + 1] {
        let content = Bytes::from(vec![7; bytes]);
        let name = digest(Domain::Node { level: 3 }, &content);
        store.forge(3, name, content);
        for error in [
            block_on(read_slots(&image(name), &nodes, 0..1)).map(drop).unwrap_err(),
            block_on(diff(None, &image(name), &nodes)).map(drop).unwrap_err(),
        ] {
            assert!(matches!(error, MapError::Malformed { level: 3, bytes: found, .. } if found == bytes));
        }
    }
    let nowhere = image(chunk(1));
    assert!(matches!(block_on(read_slots(&nowhere, &nodes, 0..1)), Err(MapError::Node { level: 3, .. })));
    assert!(Image::new(0, Some(Root { digest: chunk(1), height: 0 }), Vec::new()).is_err());
    assert!(Image::new(0, Some(Root { digest: chunk(1), height: 7 }), Vec::new()).is_err());
}

#[test]
fn a_tree_too_high_or_too_low_for_the_size_reads_the_same() {
    let nodes = Nodes::new(MemoryStore::default());
    let small = block_on(fold(&written(100 * BLOCK_BYTES, 0..100), &nodes)).unwrap();
    let mut map = VolumeMap::from_image(small.clone());
    map.resize(4 * TEBIBYTE).unwrap();
    let grown = map.freeze(LayerId(2));
    assert_eq!(grown.layers().len(), 0);
    assert_eq!(block_on(diff(Some(&small), &grown, &nodes)).unwrap(), []);
    let refolded = block_on(fold(&grown, &nodes)).unwrap();
    assert_eq!(refolded.root().unwrap().height, 5);
    assert_eq!(block_on(diff(Some(&small), &refolded, &nodes)).unwrap(), []);
    assert_ne!(
        block_on(volume_digest(&small, &nodes)).unwrap(),
        block_on(volume_digest(&grown, &nodes)).unwrap()
    );
    assert_ne!(refolded, grown);
    assert_eq!(grown.rebased(&refolded, &refolded), Err(NotTheBase));
    let mut shrunk = VolumeMap::from_image(refolded);
    shrunk.resize(100 * BLOCK_BYTES).unwrap();
    let again = block_on(fold(&shrunk.freeze(LayerId(3)), &nodes)).unwrap();
    assert_eq!(again, small);
}

#[test]
fn equal_content_has_the_digest_that_is_frozen_here() {
    let nodes = Nodes::new(MemoryStore::default());
    let image = written(TEBIBYTE, [0, 127, 128, 16_384, 1 << 27]);
    let found = block_on(volume_digest(&image, &nodes)).unwrap();
    assert_eq!(found.0[..8], GOLDEN);
    let empty = block_on(volume_digest(&Image::empty(TEBIBYTE).unwrap(), &nodes)).unwrap();
    let mut named = [0; 41];
    named[..8].copy_from_slice(&TEBIBYTE.to_le_bytes());
    named[8] = 4;
    assert_eq!(empty, digest(Domain::Volume, &named));
    assert_ne!(empty, Digest::ZERO);
}

/// First bytes of the digest above: a change here is a change of format.
const GOLDEN: [u8; 8] = [43, 247, 4, 115, 149, 117, 181, 149];

#[test]
fn walks_can_move_between_threads() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let nodes = Nodes::new(MemoryStore::default());
    let image = Arc::new(written(TEBIBYTE, 0..10));
    block_on(is_send(read_slots(&*image, &nodes, 0..1))).unwrap();
    block_on(is_send(fold(&image, &nodes))).unwrap();
    block_on(is_send(diff(None, &image, &nodes))).unwrap();
    block_on(is_send(volume_digest(&image, &nodes))).unwrap();
}
