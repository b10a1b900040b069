//! Volume maps over the real chunk store, on simulated media.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::sync::Arc;

use metropod_dedupe::{Compression, Domain, ReadError, Reduced, Store, StoreConfig, pack, reduce};
use metropod_journal::media::{Io, sim::SimMedia};
use metropod_snapshots::{
    BLOCK_BYTES, ChunkStoreError, Image, LayerId, MapError, NodeStore, Nodes, Root, Slot, Source, VolumeMap,
    diff, fold, read_slots, resolve_now, volume_digest,
};
use support::{Chance, Oracle, block_on, chunk};

const SIZE_BYTES: u64 = 1 << 40;

fn open(media: &SimMedia, state: Option<&[u8]>) -> Store {
    let io = Io::inline(Arc::new(media.clone()));
    let mut config = StoreConfig::new([1; 16]);
    config.segment_bytes = 4 << 20;
    block_on(Store::open(io, config, state)).unwrap()
}

#[test]
fn a_folded_volume_is_the_same_after_its_store_was_reopened() {
    let media = SimMedia::new();
    let mut chance = Chance(3);
    let mut oracle = Oracle::new(SIZE_BYTES);
    let (root, digest, state) = {
        let store = open(&media, None);
        let nodes = Nodes::new(store.clone());
        let mut map = VolumeMap::new(SIZE_BYTES).unwrap();
        let mut base = map.image().clone();
        for round in 0..3 {
            for _ in 0..1500 {
                let block = chance.below(1 << 18) << (9 * chance.below(2));
                map.set(block, Slot::Data(chunk(block + round)));
                oracle.set(block, Slot::Data(chunk(block + round)));
            }
            map.zero(round * 1000..round * 1000 + 5000);
            oracle.zero(round * 1000..round * 1000 + 5000);
            let image = map.freeze(LayerId(round));
            let folded = block_on(fold(&image, &nodes)).unwrap();
            map.rebase(&image, &folded).unwrap();
            assert_ne!(folded, base);
            base = folded;
        }
        let digest = block_on(volume_digest(&base, &nodes)).unwrap();
        assert_eq!(digest, oracle.digest());
        (base.root(), digest, block_on(store.flush()).unwrap())
    };
    let nodes = Nodes::new(open(&media, Some(&state)));
    let image = Image::new(SIZE_BYTES, root, Vec::new()).unwrap();
    assert_eq!(block_on(volume_digest(&image, &nodes)).unwrap(), digest);
    let cold = Nodes::new(nodes.store().clone());
    assert_eq!(resolve_now(&image.lookup(4000..9000), &cold), None, "no node is cached");
    assert_eq!(block_on(read_slots(&image, &cold, 4000..9000)).unwrap(), oracle.slots(4000..9000));
    assert_eq!(resolve_now(&image.lookup(4000..9000), &cold), Some(oracle.slots(4000..9000)));
    assert_eq!(block_on(diff(None, &image, &nodes)).unwrap().len(), oracle.blocks.len());
}

/// A host may write any block, also one that equals a node.
#[test]
fn a_block_with_the_bytes_of_a_node_is_not_taken_for_it() {
    let store = open(&SimMedia::new(), None);
    let nodes = Nodes::new(store.clone());
    let mut forged = vec![0; BLOCK_BYTES as usize];
    forged[..32].copy_from_slice(&chunk(1).0);
    let Reduced::Chunk { digest, payload } = reduce(&forged, Compression::Never) else { panic!("not zero") };
    store.stage(Domain::Data, digest, payload);
    let image = Image::new(100 * BLOCK_BYTES, Some(Root { digest, height: 1 }), Vec::new()).unwrap();
    let refused = block_on(read_slots(&image, &nodes, 0..1)).unwrap_err();
    assert!(matches!(
        refused,
        MapError::Node { level: 0, source: ChunkStoreError::Read(ReadError::Rot { .. }), .. }
    ));
}

#[test]
fn a_node_with_one_child_is_stored_in_less_than_a_hundred_bytes() {
    let mut content = vec![0; 4096];
    content[64..96].copy_from_slice(&chunk(1).0);
    assert!(pack(&content, Compression::WhenItPays).bytes.len() < 100);
}

#[test]
fn a_large_fold_does_not_pile_up_in_memory() {
    let store = open(&SimMedia::new(), None);
    let nodes = Nodes::with_capacity(store.clone(), 0);
    let mut map = VolumeMap::new(SIZE_BYTES).unwrap();
    // 12,800 leaves that do not compress: 50 MiB.
    for leaf in 0..12_800u64 {
        (0..128)
            .step_by(2)
            .for_each(|index| map.set(leaf * 128 + index, Slot::Data(chunk(leaf * 128 + index))));
    }
    block_on(fold(&map.freeze(LayerId(1)), &nodes)).unwrap();
    assert!(store.staged_bytes() < 20 << 20, "{} bytes staged", store.staged_bytes());
    block_on(store.relieve()).unwrap();
}
