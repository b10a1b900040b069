//! Pieces of work whose instructions are counted: `instructions CASE TIMES` does the work of a case so many times.
//!
//! `.ci/instructions` runs it under callgrind, once and twice, and compares the difference with `.ci/instructions.txt`. All
//! of it is decided by seeds; the result is checked each time. Without arguments, as `cargo bench` runs it, it does every
//! case once.
#![allow(clippy::unwrap_used, reason = "a benchmark may fail anywhere")]

mod core_site;

use std::hint::black_box;

use core_site::Site;
use metropod_benches::chance::Chance;
use metropod_benches::contents;
use metropod_benches::counted_nodes::CountedNodes;
use metropod_benches::park::block_on;
use metropod_dedupe::{Compression, Digest, Domain, Reduced, reduce_blocks, verify};
use metropod_snapshots::{Image, LayerId, Nodes, Slot, VolumeMap, diff, fold, read_slots};

/// Blocks reduced, writes made and lookups done each time.
const AMOUNT: u64 = 1000;
/// Blocks of the volume whose map is asked: 1 GiB.
const BLOCKS: u64 = 1 << 18;

/// Does a case so many times.
type Work = fn(u64);

const CASES: [(&str, Work); 4] =
    [("core-writes", core_writes), ("reduce", reduce), ("expand", expand), ("map", map)];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let (name, times) = match &words[..] {
        [] => (None, 1),
        [name, times] => (Some(name.as_str()), times.parse().unwrap()),
        _ => panic!("instructions CASE TIMES"),
    };
    let chosen: Vec<_> = CASES.iter().filter(|(case, _)| name.is_none_or(|name| name == *case)).collect();
    assert!(!chosen.is_empty(), "no such case: {words:?}");
    for (_, work) in chosen {
        work(times);
    }
}

/// 1000 writes of a block through the core of an array, in groups of 1 and of 32.
fn core_writes(times: u64) {
    let mut site = Site::new();
    for _ in 0..times {
        for _ in 0..AMOUNT / 2 {
            site.write(1);
        }
        for _ in 0..AMOUNT / 64 {
            site.write(32);
        }
        site.check();
    }
}

/// 1000 blocks hashed and compressed.
fn reduce(times: u64) {
    let bytes: Vec<u8> = (1..=AMOUNT).flat_map(contents::block).collect();
    for _ in 0..times {
        let reduced = reduce_blocks(black_box(&bytes), Compression::WhenItPays);
        assert_eq!(reduced.len() as u64, AMOUNT);
    }
}

/// 1000 blocks expanded and compared with their digests.
fn expand(times: u64) {
    let bytes: Vec<u8> = (1..=AMOUNT).flat_map(contents::block).collect();
    let chunks = reduce_blocks(&bytes, Compression::WhenItPays);
    for _ in 0..times {
        for chunk in &chunks {
            let Reduced::Chunk { digest, payload } = chunk else { panic!("no block is zero") };
            black_box(verify(Domain::Data, digest, black_box(payload)).unwrap());
        }
    }
}

/// 1000 blocks of a full volume set, frozen, looked up through layers and tree, folded and compared.
fn map(times: u64) {
    let (store, root) = CountedNodes::new(BLOCKS, true);
    let nodes = Nodes::new(store);
    let base = Image::new(BLOCKS << 12, root, Vec::new()).unwrap();
    for time in 0..times {
        let mut map = VolumeMap::from_image(base.clone());
        let mut chance = Chance::new(time);
        (0..AMOUNT).for_each(|_| map.set(chance.below(BLOCKS), Slot::Data(content(chance.bits()))));
        let image = map.freeze(LayerId(time + 1));
        for _ in 0..AMOUNT {
            let block = chance.below(BLOCKS);
            black_box(block_on(read_slots(&image, &nodes, block..block + 1)).unwrap());
        }
        let folded = block_on(fold(&image, &nodes)).unwrap();
        let changes = block_on(diff(Some(&base), &folded, &nodes)).unwrap();
        assert_eq!(changes, block_on(diff(Some(&base), &image, &nodes)).unwrap());
    }
}

fn content(number: u64) -> Digest {
    let mut digest = Digest([1; 32]);
    digest.0[..8].copy_from_slice(&number.to_le_bytes());
    digest
}
