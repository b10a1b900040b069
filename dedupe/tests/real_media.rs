//! The store on a directory of a real file system.

mod common;

use std::sync::Arc;

use common::*;
use metropod_dedupe::{Store, StoreConfig};
use metropod_journal::media::Io;
use metropod_journal::media::real::RealMedia;

#[test]
fn a_store_in_a_directory_reopens_with_what_was_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let open = |config: StoreConfig, state: Option<&[u8]>| {
        let media = RealMedia::open(dir.path()).unwrap();
        now(Store::open(Io::inline(Arc::new(media)), config, state)).unwrap()
    };
    let mut state = None;
    for round in 0..4 {
        let config = if round % 2 == 0 { small() } else { StoreConfig::new(ARRAY) };
        let store = open(config, state.as_deref());
        assert_eq!(store.stats().chunks, round * 200);
        check_all(&store, 0..round * 200);
        stage_all(&store, round * 200..round * 200 + 200);
        now(store.destage()).unwrap();
        let kept = now(store.flush()).unwrap();
        store.committed(&kept);
        state = Some(kept);
    }
    let store = open(small(), state.as_deref());
    check_all(&store, 0..800);
    assert_eq!(store.stats().damaged, 0);
}
