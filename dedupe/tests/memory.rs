//! Memory for finding chunks, per chunk on stable storage.

mod common;

use bytes::Bytes;
use common::*;
use metropod_dedupe::{Digest, Domain, Payload, Store, StoreConfig};
use metropod_journal::media::sim::SimMedia;

const CHUNKS: u32 = 200_000;

/// The table and the page cache are of fixed size; here they bear the same proportion to the chunks as the defaults
/// do at some 50 million.
#[test]
fn finding_a_chunk_costs_at_most_three_bytes_of_memory() {
    let media = SimMedia::new();
    let config = || StoreConfig { recent_entries_max: 1024, cached_pages_max: 4, ..StoreConfig::new(ARRAY) };
    let store = now(Store::open(io(&media), config(), None)).unwrap();
    let name = |n: u32| Digest(*blake3::hash(&n.to_le_bytes()).as_bytes());
    for n in 0..CHUNKS {
        store.stage(Domain::Data, name(n), Payload::raw(Bytes::from_static(b"synthetic")));
        if n % 500 == 499 {
            now(store.flush()).unwrap();
        }
    }
    let state = now(store.flush()).unwrap();
    store.committed(&state);
    for store in [store, now(Store::open(io(&media), config(), Some(&state))).unwrap()] {
        let stats = store.stats();
        let per_chunk = stats.index_memory_bytes as f64 / stats.chunks as f64;
        println!("{per_chunk:.2} bytes per chunk, {} chunks, {} runs", stats.chunks, stats.runs);
        assert_eq!(stats.chunks, u64::from(CHUNKS));
        assert!(stats.runs <= 10);
        assert!(per_chunk <= 3.0, "{per_chunk} bytes per chunk");
    }
    let store = now(Store::open(io(&media), config(), Some(&state))).unwrap();
    let before = media.counters();
    let absent: Vec<Digest> = (CHUNKS..CHUNKS + 10_000).map(name).collect();
    assert!(now(store.have(&absent)).unwrap().iter().all(|have| !have));
    let reads = media.counters().bytes_read - before.bytes_read;
    println!("{:.1} % of absent digests cost a page", reads as f64 / 4096.0 / 100.0);
    assert!(reads / 4096 < 800, "filters answer for the rest");
    let present: Vec<Digest> = (0..1000).map(|n| name(n * 200)).collect();
    assert!(now(store.have(&present)).unwrap().iter().all(|have| *have));
}
