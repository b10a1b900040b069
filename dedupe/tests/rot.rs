//! Bytes that change on the media are found, named and healed; they never answer for content.

mod common;

use common::*;
use metropod_dedupe::{Compression, ReadError, Store, pack};
use metropod_journal::media::Media;
use metropod_journal::media::sim::{Fault, Operation, SimMedia, SplitMix};

fn replace(store: &Store, n: u64) {
    store.replace(domain(n), name(n), pack(&content(n), Compression::WhenItPays));
}

fn length(media: &SimMedia, path: &str) -> u64 {
    let how = metropod_journal::media::Open { create: metropod_journal::media::Create::Never, direct: false };
    let file = media.open(path, how).expect("the file is there");
    media.len(file).expect("the file is open")
}

fn paths(media: &SimMedia, dir: &str) -> Vec<String> {
    media.list(dir).expect("the media is healthy").into_iter().map(|name| format!("{dir}/{name}")).collect()
}

/// A config that keeps no page and no place, so that each lookup sees the media.
fn open_uncached(media: &SimMedia, state: Option<&[u8]>) -> Store {
    let config = metropod_dedupe::StoreConfig { cached_pages_max: 0, hints_max: 0, ..small() };
    now(Store::open(io(media), config, state)).expect("the media is healthy")
}

#[test]
fn a_rotten_chunk_is_reported_with_its_place_and_healed_by_replacing_it() {
    let media = SimMedia::new();
    let store = open(&media, None);
    stage_all(&store, 0..50);
    now(store.flush()).unwrap();
    let before = stored(store.stats());
    let location = now(store.locate(&name(7))).unwrap().unwrap();
    let path = format!("segments/{:016x}.seg", location.segment().0);
    media.rot(&path, u64::from(location.offset()) + 60, 3).unwrap();
    let rot = ReadError::Rot { digest: name(7), location: Some(location) };
    assert_eq!(now(store.get(domain(7), &name(7), None)), Err(rot));
    assert_eq!(now(store.get(domain(7), &name(7), Some(location))), Err(rot));
    assert_eq!(now(store.get_payload(&name(7))), Err(rot));

    stage(&store, 7);
    now(store.flush()).unwrap();
    assert_eq!(now(store.get(domain(7), &name(7), None)), Err(rot), "staging alone finds it stored");
    replace(&store, 7);
    check(&store, 7);
    let state = now(store.flush()).unwrap();
    check_all(&store, 0..50);
    assert_eq!(now(store.get(domain(7), &name(7), Some(location))).unwrap(), content(7));
    assert_eq!(stored(store.stats()), before, "the rotten copy no longer counts");
    media.crash(1);
    check_all(&open(&media, Some(&state)), 0..50);
}

#[test]
fn no_flipped_bit_of_a_segment_ever_answers_with_other_content() {
    let media = SimMedia::new();
    let store = open(&media, None);
    stage_all(&store, 0..12);
    let state = now(store.flush()).unwrap();
    for path in paths(&media, "segments") {
        for offset in (0..length(&media, &path)).step_by(7) {
            media.rot(&path, offset, (offset % 8) as u8).unwrap();
            let reopened = open(&media, Some(&state));
            let wrong = (0..12).filter(|n| match now(reopened.get(domain(*n), &name(*n), None)) {
                Ok(read) => {
                    assert_eq!(read, content(*n));
                    false
                }
                Err(ReadError::Rot { .. } | ReadError::Missing { .. }) => true,
                Err(error) => panic!("{error:?}"),
            });
            assert!(wrong.count() <= 1, "one bit costs one chunk");
            media.rot(&path, offset, (offset % 8) as u8).unwrap();
        }
    }
}

/// Every chunk is itself or an error says so.
fn check_honest(store: &Store, numbers: std::ops::Range<u64>) {
    for n in numbers {
        match now(store.get(domain(n), &name(n), None)) {
            Ok(read) => assert_eq!(read, content(n), "chunk {n}"),
            Err(ReadError::Media { .. }) => panic!("the device is healthy"),
            Err(_) => {}
        }
    }
}

#[test]
fn syncs_that_lied_before_a_power_cut_cost_chunks_but_never_the_truth() {
    for seed in seeds(100) {
        let media = SimMedia::new();
        let store = open(&media, None);
        let mut state = None;
        for round in 0..6 {
            stage_all(&store, round * 30..round * 30 + 30);
            if (seed + round) % 3 == 0 {
                let operation = if seed % 2 == 0 { Operation::Sync } else { Operation::SyncDir };
                media.fail_nth(Some(operation), 1 + seed % 4, Fault::Lie);
            }
            state = Some(now(store.flush()).unwrap());
        }
        media.crash(seed);
        let store = open(&media, state.as_deref());
        check_honest(&store, 0..180);
        for n in 0..180 {
            replace(&store, n);
        }
        let state = now(store.flush()).unwrap();
        media.crash(seed);
        check_all(&open(&media, Some(&state)), 0..180);
    }
}

#[test]
fn scattered_rot_in_every_file_costs_chunks_but_never_the_truth() {
    for seed in seeds(60) {
        let mut random = SplitMix::new(seed);
        let media = SimMedia::new();
        let store = open(&media, None);
        stage_all(&store, 0..150);
        let state = now(store.flush()).unwrap();
        for path in [paths(&media, "segments"), paths(&media, "runs")].concat() {
            for _ in 0..random.below(40) {
                let offset = random.below(length(&media, &path));
                media.rot(&path, offset, random.below(8) as u8).unwrap();
            }
        }
        let store = open(&media, Some(&state));
        check_honest(&store, 0..150);
        for n in 0..150 {
            replace(&store, n);
        }
        let state = now(store.flush()).unwrap();
        check_all(&store, 0..150);
        check_all(&open(&media, Some(&state)), 0..150);
    }
}

#[test]
fn a_damaged_index_page_is_reported_healed_by_staging_and_rebuilt_at_the_next_opening() {
    let media = SimMedia::new();
    let store = open_uncached(&media, None);
    stage_all(&store, 0..100);
    now(store.flush()).unwrap();
    assert_eq!(store.stats().recent_entries, 0);
    for path in paths(&media, "runs") {
        media.rot(&path, 50, 1).unwrap();
    }
    let damaged = now(store.get(domain(1), &name(1), None));
    assert_eq!(damaged, Err(ReadError::IndexDamaged { digest: name(1) }));
    assert_eq!(now(store.have(&[name(1)])).unwrap(), [false]);
    stage(&store, 1);
    let state = now(store.flush()).unwrap();
    check(&store, 1);
    let store = open(&media, Some(&state));
    check_all(&store, 0..100);
    let state = now(store.flush()).unwrap();
    store.committed(&state);
    check_all(&open(&media, Some(&state)), 0..100);
}

#[test]
fn a_run_whose_filter_is_damaged_or_that_is_gone_is_rebuilt_from_the_segments() {
    let rot = |media: &SimMedia, path: &str| media.rot(path, length(media, path) - 80, 1).unwrap();
    let remove = |media: &SimMedia, path: &str| media.remove(path).unwrap();
    for damage in [rot as fn(&SimMedia, &str), remove] {
        let media = SimMedia::new();
        let store = open(&media, None);
        stage_all(&store, 0..300);
        let state = now(store.flush()).unwrap();
        store.committed(&state);
        for path in paths(&media, "runs") {
            damage(&media, &path);
        }
        let store = open(&media, Some(&state));
        check_all(&store, 0..300);
        assert_eq!((store.stats().chunks, store.stats().damaged), (300, 0));
    }
}

#[test]
fn a_damaged_footer_costs_reading_the_segment_and_a_lost_segment_its_own_chunks() {
    let media = SimMedia::new();
    let config = || metropod_dedupe::StoreConfig { recent_entries_max: 10_000, ..small() };
    let store = now(Store::open(io(&media), config(), None)).unwrap();
    stage_all(&store, 0..300);
    let state = now(store.flush()).unwrap();
    let all = paths(&media, "segments");
    media.rot(&all[0], length(&media, &all[0]) - 5, 1).unwrap();
    let store = now(Store::open(io(&media), config(), Some(&state))).unwrap();
    check_all(&store, 0..300);
    assert_eq!(store.stats().damaged, 1);

    media.remove(&all[0]).unwrap();
    let store = now(Store::open(io(&media), config(), Some(&state))).unwrap();
    assert_eq!(store.stats().damaged, 1);
    let lost = (0..300).filter(|n| now(store.get(domain(*n), &name(*n), None)).is_err()).count();
    assert!((10..200).contains(&lost), "{lost} chunks lay in the lost segment");
}
