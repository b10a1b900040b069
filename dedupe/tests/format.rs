//! The bytes on disk, frozen: a change here is a change of format and needs a version.

mod common;

use common::*;
use metropod_dedupe::{Payload, Store, StoreConfig};
use metropod_journal::media::sim::SimMedia;
use metropod_journal::media::{Create, Media, Open};

#[test]
fn the_files_of_a_small_store_are_frozen() {
    let media = SimMedia::new();
    let config = StoreConfig { recent_entries_max: 100, ..small() };
    let store = now(Store::open(io(&media), config, None)).unwrap();
    for n in 0..150 {
        // Raw, because another version of the compressor may choose other bytes.
        store.stage(domain(n), name(n), Payload::raw(content(n).into()));
    }
    let state = now(store.flush()).unwrap();
    let mut found = vec![("state".to_owned(), state.len() as u64, blake3::hash(&state).to_hex().to_string())];
    for dir in ["segments", "runs"] {
        for name in media.list(dir).unwrap() {
            let path = format!("{dir}/{name}");
            let file = media.open(&path, Open { create: Create::Never, direct: false }).unwrap();
            let mut bytes = vec![0; media.len(file).unwrap() as usize];
            media.read(file, 0, &mut bytes).unwrap();
            found.push((path, bytes.len() as u64, blake3::hash(&bytes).to_hex().to_string()));
        }
    }
    let found: Vec<String> =
        found.iter().map(|(path, length, hash)| format!("{path} {length} {}", &hash[..16])).collect();
    assert_eq!(found, GOLDEN);
}

const GOLDEN: [&str; 7] = [
    "state 380 f1d135474fcbeddd",
    "segments/0000000000000001.seg 129800 003f4c3fb96a859f",
    "segments/0000000000000002.seg 90112 c39a9f465228eb24",
    "segments/0000000000000003.seg 129800 02102ee172607852",
    "segments/0000000000000004.seg 129800 ca072c47cc834918",
    "segments/0000000000000005.seg 114688 7d82b6d50013b817",
    "runs/0000000000000001.run 8536 15463e6aa50d1f98",
];
