//! Files that are not the store's own, or not whole: named at the opening, never removed.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod common;

use common::*;
use metropod_dedupe::{OpenError, SegmentId, Store, StoreConfig};
use metropod_journal::media::sim::SimMedia;
use metropod_journal::media::{Create, Durability, Media, Open};

#[test]
fn another_arrays_segments_are_refused_and_never_removed() {
    let (mine, theirs) = (SimMedia::new(), SimMedia::new());
    let store = open(&mine, None);
    stage_all(&store, 0..10);
    let state = now(store.flush()).unwrap();
    let other = now(Store::open(io(&theirs), StoreConfig { array: [1; 16], ..small() }, None)).unwrap();
    stage_all(&other, 0..10);
    now(other.flush()).unwrap();
    let name = mine.list("segments").unwrap().remove(0);
    let segment = SegmentId(1);
    let foreign = bytes_of(&theirs, &format!("segments/{name}"));
    for path in [format!("segments/{name}"), "segments/00000000000000ff.seg".to_owned()] {
        let media = SimMedia::new();
        for name in mine.list("segments").unwrap() {
            let path = format!("segments/{name}");
            put(&media, &path, &bytes_of(&mine, &path));
        }
        put(&media, &path, &foreign);
        let refused = now(Store::open(io(&media), small(), Some(&state))).err().unwrap();
        // A copy under another number is that array's as well.
        let named = if path.contains("ff") { SegmentId(0xff) } else { segment };
        assert_eq!(refused, OpenError::OtherArraysSegment { segment: named });
        assert_eq!(bytes_of(&media, &path), foreign);
    }
}

#[test]
fn a_segment_that_is_missing_or_cut_is_named() {
    let media = SimMedia::new();
    let store = open(&media, None);
    stage_all(&store, 0..60);
    let state = now(store.flush()).unwrap();
    drop(store);
    assert_eq!(open(&media, Some(&state)).incomplete(), None);
    let path = format!("segments/{}", media.list("segments").unwrap()[1]);
    let whole = bytes_of(&media, &path);
    for length in [0, 30, 64, whole.len() - 1] {
        put(&media, &path, &whole[..length]);
        assert_eq!(open(&media, Some(&state)).incomplete(), Some(SegmentId(2)), "{length}");
    }
    media.remove(&path).unwrap();
    assert_eq!(open(&media, Some(&state)).incomplete(), Some(SegmentId(2)));
    put(&media, &path, &whole);
    let store = open(&media, Some(&state));
    assert_eq!(store.incomplete(), None);
    check_all(&store, 0..60);
}

fn bytes_of(media: &SimMedia, path: &str) -> Vec<u8> {
    let file = media.open(path, Open { create: Create::Never, direct: false }).unwrap();
    let mut bytes = vec![0; media.len(file).unwrap() as usize];
    media.read(file, 0, &mut bytes).unwrap();
    media.close(file);
    bytes
}

fn put(media: &SimMedia, path: &str, bytes: &[u8]) {
    // Absent at first.
    let _removed = media.remove(path);
    let file = media.open(path, Open { create: Create::New, direct: false }).unwrap();
    media.write(file, 0, &[bytes], Durability::Durable).unwrap();
    media.sync_dir("segments").unwrap();
    media.close(file);
}
