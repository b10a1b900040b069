//! Dedupe: reducing and expanding blocks, asking the index, storing and reading chunks on a real disk.
#![allow(clippy::unwrap_used, reason = "a benchmark may fail anywhere")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use metropod_benches::contents::{self, BLOCK_BYTES};
use metropod_benches::park::block_on;
use metropod_dedupe::{
    Compression, Digest, Domain, Payload, Reduced, Store, StoreConfig, digest, expand, reduce, reduce_blocks,
    verify,
};
use metropod_journal::media::Io;
use metropod_journal::media::real::RealMedia;

/// Chunks in the store that is asked.
const CHUNKS: u64 = 50_000;
/// Chunks of one flush.
const FLUSHED: u64 = 256;
/// Digests asked for together.
const TOGETHER: u64 = 32;

fn chunk(content: u64) -> (Digest, Payload) {
    match reduce(&contents::block(content), Compression::WhenItPays) {
        Reduced::Chunk { digest, payload } => (digest, payload),
        Reduced::Zero => unreachable!("content 0 is not asked for"),
    }
}

fn reducing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reduce");
    for blocks in [1, 16, 256] {
        let bytes: Vec<u8> = (1..=blocks).flat_map(contents::block).collect();
        let expected: Vec<Reduced> =
            bytes.chunks(BLOCK_BYTES).map(|block| reduce(block, Compression::WhenItPays)).collect();
        group.throughput(Throughput::Elements(blocks));
        group.bench_function(BenchmarkId::new("blocks", blocks), |bencher| {
            bencher.iter(|| reduce_blocks(black_box(&bytes), Compression::WhenItPays));
        });
        assert_eq!(reduce_blocks(&bytes, Compression::WhenItPays), expected);
    }
    let block = contents::block(7);
    let (name, payload) = chunk(7);
    group.throughput(Throughput::Elements(1));
    group.bench_function("digest", |bencher| bencher.iter(|| digest(Domain::Data, black_box(&block))));
    group.bench_function("expand", |bencher| bencher.iter(|| expand(black_box(&payload)).unwrap()));
    group.bench_function("verify", |bencher| {
        bencher.iter(|| verify(Domain::Data, &name, black_box(&payload)).unwrap());
    });
    assert_eq!(verify(Domain::Data, &name, &payload).unwrap(), block);
    group.finish();
}

fn storing(criterion: &mut Criterion, store: &Store) {
    let mut group = criterion.benchmark_group("store");
    group.throughput(Throughput::Elements(FLUSHED));
    let mut next = CHUNKS + 1;
    group.bench_function("stage and flush 256 new chunks", |bencher| {
        let new = || {
            next += FLUSHED;
            (next - FLUSHED..next).map(chunk).collect::<Vec<_>>()
        };
        bencher.iter_batched(new, |chunks| flush(store, chunks), BatchSize::PerIteration);
    });
    let stats = store.stats();
    assert_eq!((stats.chunks, stats.staged), (next - 1, 0), "every chunk is stored once");

    group.throughput(Throughput::Elements(TOGETHER));
    for (what, first, present) in [("present", 1, true), ("absent", 1 << 40, false)] {
        let names: Vec<Digest> = (first..first + TOGETHER).map(|content| chunk(content).0).collect();
        group.bench_function(BenchmarkId::new("ask for 32 digests", what), |bencher| {
            bencher.iter(|| assert_eq!(block_on(store.have(&names)).unwrap(), [present; TOGETHER as usize]));
        });
    }

    group.throughput(Throughput::Elements(1));
    let mut content = 0;
    group.bench_function("read a chunk, page cache warm", |bencher| {
        bencher.iter(|| {
            content = content % 1000 + 1;
            let name = NAMES.with(|names| names[content as usize - 1]);
            block_on(store.get(Domain::Data, &name, None)).unwrap()
        });
    });
    let (name, _) = chunk(content.max(1));
    assert_eq!(block_on(store.get(Domain::Data, &name, None)).unwrap(), contents::block(content.max(1)));
    group.finish();
}

thread_local! {
    static NAMES: Vec<Digest> = (1..=1000).map(|content| chunk(content).0).collect();
}

fn flush(store: &Store, chunks: Vec<(Digest, Payload)>) {
    for (name, payload) in chunks {
        store.stage(Domain::Data, name, payload);
    }
    let state = block_on(store.flush()).unwrap();
    store.committed(&state);
}

fn main() {
    let mut criterion =
        Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2)).configure_from_args();
    reducing(&mut criterion);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let io = Io::inline(Arc::new(RealMedia::open(directory.path()).unwrap()));
    let config = StoreConfig { recent_entries_max: 10_000, ..StoreConfig::new([2; 16]) };
    let store = block_on(Store::open(io, config, None)).unwrap();
    for first in (1..=CHUNKS).step_by(10_000) {
        flush(&store, (first..first + 10_000).map(chunk).collect());
    }
    storing(&mut criterion, &store);
    criterion.final_summary();
}
