//! Snapshots: writing to a map, reading through layers and tree, freezing, folding, differences; nodes in memory.
#![allow(clippy::unwrap_used, reason = "a benchmark may fail anywhere")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput};
use metropod_benches::chance::Chance;
use metropod_benches::counted_nodes::CountedNodes;
use metropod_benches::park::block_on;
use metropod_dedupe::Digest;
use metropod_snapshots::{Image, LayerId, Nodes, Slot, VolumeMap, diff, fold, read_slots, volume_digest};

/// Blocks of the volume, all mapped: 100 GiB.
const BLOCKS: u64 = 100 << 18;
/// Changed blocks of a layer.
const CHANGES: u64 = 10_000;
/// Blocks of one read: 64 KiB.
const READ: u64 = 16;

fn content(number: u64) -> Digest {
    let mut digest = Digest([1; 32]);
    digest.0[..8].copy_from_slice(&number.to_le_bytes());
    digest
}

/// A volume whose tree is full, with changes above it.
fn changed(image: &Image, seed: u64) -> VolumeMap {
    let mut map = VolumeMap::from_image(image.clone());
    let mut chance = Chance::new(seed);
    (0..CHANGES).for_each(|_| map.set(chance.below(BLOCKS), Slot::Data(content(chance.bits()))));
    map
}

fn main() {
    let mut criterion =
        Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2)).configure_from_args();
    let (store, root) = CountedNodes::new(BLOCKS, true);
    let nodes = Nodes::new(store);
    let base = Image::new(BLOCKS << 12, root, Vec::new()).unwrap();

    let mut group = criterion.benchmark_group("map");
    group.throughput(Throughput::Elements(CHANGES));
    group.bench_function("write 10,000 blocks", |bencher| bencher.iter(|| changed(black_box(&base), 1)));
    assert!(changed(&base, 1).top().len() as u64 > CHANGES * 99 / 100);

    group.throughput(Throughput::Elements(1));
    group.bench_function("freeze", |bencher| {
        let thaw = || changed(&base, 1);
        bencher.iter_batched(thaw, |mut map| map.freeze(LayerId(1)), BatchSize::LargeInput);
    });
    let mut map = changed(&base, 1);
    let image = map.freeze(LayerId(1));
    assert_eq!(image.layers().len(), 1);

    group.throughput(Throughput::Elements(READ));
    let mut chance = Chance::new(3);
    group.bench_function("look 16 blocks up, nodes cached", |bencher| {
        bencher.iter(|| {
            let first = chance.below(BLOCKS - READ);
            let slots = block_on(read_slots(&image, &nodes, first..first + READ)).unwrap();
            assert!(slots.len() as u64 == READ && slots.iter().all(|slot| *slot != Slot::Zero));
        });
    });

    group.throughput(Throughput::Elements(CHANGES));
    group.bench_function("fold 10,000 changes", |bencher| {
        bencher.iter(|| block_on(fold(black_box(&image), &nodes)).unwrap());
    });
    let folded = block_on(fold(&image, &nodes)).unwrap();
    assert_eq!(
        block_on(volume_digest(&folded, &nodes)).unwrap(),
        block_on(volume_digest(&image, &nodes)).unwrap()
    );

    let changes = |from: &Image, to: &Image| block_on(diff(Some(from), to, &nodes)).unwrap();
    group.bench_function("difference of 10,000 changes, by layers", |bencher| {
        bencher.iter(|| changes(black_box(&base), &image));
    });
    group.bench_function("difference of 10,000 changes, by trees", |bencher| {
        bencher.iter(|| changes(black_box(&base), &folded));
    });
    assert_eq!(changes(&base, &image), changes(&base, &folded));
    group.finish();
    criterion.final_summary();
}
