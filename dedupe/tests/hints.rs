//! Places that are remembered save reading the index; they never decide what a read answers.

mod common;

use common::*;
use metropod_dedupe::{BLOCK_BYTES, Digest, ReadError, Store, StoreConfig};
use metropod_journal::media::sim::{Fault, Operation, SimMedia};

/// Data blocks by number, some twice, and a zero block after every seventh.
fn asked(numbers: std::ops::Range<u64>) -> Vec<u64> {
    let numbers = numbers.filter(|n| n % 5 != 4);
    numbers
        .flat_map(|n| {
            [vec![n], vec![n; usize::from(n % 3 == 0)], vec![u64::MAX; usize::from(n % 7 == 0)]].concat()
        })
        .collect()
}

fn names(asked: &[u64]) -> Vec<Digest> {
    asked.iter().map(|n| if *n == u64::MAX { Digest::ZERO } else { name(*n) }).collect()
}

fn contents(asked: &[u64]) -> Vec<u8> {
    asked.iter().flat_map(|n| if *n == u64::MAX { vec![0; BLOCK_BYTES] } else { content(*n) }).collect()
}

fn read(store: &Store, asked: &[u64]) -> Result<Vec<u8>, ReadError> {
    let mut out = vec![0; asked.len() * BLOCK_BYTES];
    now(store.read_blocks(&names(asked), &mut out)).map(|()| out)
}

fn check_blocks(store: &Store, asked: &[u64]) {
    assert!(read(store, asked).expect("all of it is stored") == contents(asked), "blocks {asked:?}");
}

fn remembering(media: &SimMedia, state: Option<&[u8]>) -> Store {
    let config = StoreConfig { hints_max: 4096, cached_pages_max: 0, ..small() };
    now(Store::open(io(media), config, state)).expect("the media is healthy")
}

/// Flushes until nothing is worth cleaning; everything was overwritten but what is in `kept`.
fn clean(store: &Store, kept: &[u64]) {
    let pass = store.begin_pass().expect("none is under way");
    now(pass.mark(&names(kept))).expect("the media is healthy");
    now(pass.finish()).expect("the media is healthy");
    assert!(
        now(store.clean(60, u64::MAX)).expect("the media is healthy").segments > 0,
        "something is cleaned"
    );
    let state = now(store.flush()).expect("the media is healthy");
    store.committed(&state);
}

#[test]
fn blocks_read_together_are_what_each_is_alone_staged_unsynced_or_stored() {
    let media = SimMedia::new();
    let store = open(&media, None);
    let all = asked(0..400);
    stage_all(&store, 0..400);
    check_blocks(&store, &all);
    now(store.destage()).unwrap();
    stage_all(&store, 400..450);
    check_blocks(&store, &asked(0..450));
    let state = now(store.flush()).unwrap();
    check_blocks(&store, &asked(0..450));
    let mut backwards = asked(0..450);
    backwards.reverse();
    check_blocks(&open(&media, Some(&state)), &backwards);
    check_blocks(&store, &[]);
}

#[test]
fn neighbours_are_one_read_and_remembered_places_need_no_index() {
    let media = SimMedia::new();
    let store = remembering(&media, None);
    stage_all(&store, 0..200);
    let state = now(store.flush()).unwrap();
    let all: Vec<u64> = (0..100).filter(|n| n % 5 != 4).collect();
    let reads = |store: &Store| {
        let before = media.counters().count(Operation::Read);
        check_blocks(store, &all);
        media.counters().count(Operation::Read) - before
    };
    assert!(reads(&store) <= 4, "what was written is remembered, and lies together");
    let store = remembering(&media, Some(&state));
    let cold = reads(&store);
    let warm = reads(&store);
    assert!(warm <= 4 && cold > 40, "{cold} reads before the places are known, {warm} afterwards");
}

#[test]
fn a_single_read_at_a_remembered_place_is_one_read() {
    let media = SimMedia::new();
    let store = remembering(&media, None);
    stage_all(&store, 0..200);
    let state = now(store.flush()).unwrap();
    let store = remembering(&media, Some(&state));
    check_all(&store, 0..200);
    let before = media.counters().count(Operation::Read);
    check_all(&store, 0..200);
    assert_eq!(media.counters().count(Operation::Read) - before, 200);
}

#[test]
fn what_cleaning_has_moved_is_read_where_it_is_now() {
    let media = SimMedia::new();
    let store = remembering(&media, None);
    let kept: Vec<u64> = (0..600).filter(|n| n % 5 == 1).collect();
    stage_all(&store, 0..600);
    let state = now(store.flush()).unwrap();
    let store = remembering(&media, Some(&state));
    check_blocks(&store, &kept);
    clean(&store, &kept);
    check_blocks(&store, &kept);
    check_all(&store, kept.iter().copied());
}

#[test]
fn stale_hints_of_callers_cost_time_only() {
    let media = SimMedia::new();
    let store = remembering(&media, None);
    stage_all(&store, 0..600);
    now(store.flush()).unwrap();
    let kept: Vec<u64> = (0..600).filter(|n| n % 5 == 1).collect();
    let hints: Vec<_> = kept.iter().map(|n| now(store.locate(&name(*n))).unwrap()).collect();
    clean(&store, &kept);
    stage_all(&store, 1000..1600);
    now(store.flush()).unwrap();
    for (n, hint) in kept.iter().zip(hints) {
        assert_eq!(now(store.get(domain(*n), &name(*n), hint)).unwrap(), content(*n));
    }
}

#[test]
fn rot_in_a_record_read_among_others_is_noticed_and_names_the_chunk() {
    let media = SimMedia::new();
    let store = remembering(&media, None);
    stage_all(&store, 0..60);
    now(store.flush()).unwrap();
    let all = asked(0..60);
    check_blocks(&store, &all);
    for (n, byte) in [(7, 2), (7, 60), (33, 47), (58, 400)] {
        let location = now(store.locate(&name(n))).unwrap().unwrap();
        let path = format!("segments/{:016x}.seg", location.segment().0);
        media.rot(&path, u64::from(location.offset()) + byte, 3).unwrap();
        let rot = ReadError::Rot { digest: name(n), location: Some(location) };
        assert_eq!(read(&store, &all), Err(rot), "byte {byte} of chunk {n}");
        assert_eq!(now(store.get(domain(n), &name(n), None)), Err(rot), "alone, at a remembered place");
        let others: Vec<u64> = all.iter().copied().filter(|other| *other != n).collect();
        check_blocks(&store, &others);
        media.rot(&path, u64::from(location.offset()) + byte, 3).unwrap();
        check_blocks(&store, &all);
    }
    replace(&store, 7);
    now(store.flush()).unwrap();
    check_blocks(&store, &all);
}

#[test]
fn content_that_is_intact_and_of_another_name_is_noticed() {
    let media = SimMedia::new();
    let store = remembering(&media, None);
    // The store takes its callers' word for names; whoever reads does not.
    let wrong = metropod_dedupe::pack(&content(3), metropod_dedupe::Compression::WhenItPays);
    store.stage(domain(2), name(2), wrong);
    stage_all(&store, 5..9);
    assert!(matches!(read(&store, &[2, 6]), Err(ReadError::Rot { digest, .. }) if digest == name(2)));
    now(store.flush()).unwrap();
    assert!(matches!(read(&store, &[2, 6]), Err(ReadError::Rot { digest, .. }) if digest == name(2)));
    check_blocks(&store, &[5, 6, 7]);
}

#[test]
fn a_device_that_fails_is_reported_and_one_that_has_recovered_is_read() {
    let media = SimMedia::new();
    let store = remembering(&media, None);
    stage_all(&store, 0..60);
    now(store.flush()).unwrap();
    let all = asked(0..60);
    media.fail_nth(Some(Operation::Read), 1, Fault::ERROR);
    check_blocks(&store, &all);
    media.fail_always(Some(Operation::Read), Fault::ERROR);
    assert!(matches!(read(&store, &all), Err(ReadError::Media { .. })));
    media.heal();
    check_blocks(&store, &all);
}

#[test]
fn what_is_remembered_stays_within_its_bound() {
    let media = SimMedia::new();
    let config = StoreConfig { hints_max: 64, ..small() };
    let store = now(Store::open(io(&media), config, None)).unwrap();
    for round in 0..5 {
        stage_all(&store, round * 200..round * 200 + 200);
        now(store.flush()).unwrap();
        check_blocks(&store, &asked(0..round * 200 + 200));
        assert!(store.stats().hint_memory_bytes <= 64 * 12);
    }
}

#[test]
fn after_an_opening_places_are_remembered_from_footers_within_the_bound() {
    let media = SimMedia::new();
    let store = remembering(&media, None);
    stage_all(&store, 0..600);
    let state = now(store.flush()).expect("the media is healthy");
    let store = remembering(&media, Some(&state));
    let noted = now(store.recall(|| true));
    assert!(noted > 300, "{noted} of 600 chunks are in sealed segments");
    let before = media.counters().count(Operation::Read);
    check_all(&store, 0..300);
    assert!(media.counters().count(Operation::Read) - before < 300 + 40, "most chunks need no index");
    assert_eq!(now(remembering(&media, Some(&state)).recall(|| false)), 0);
    let config = StoreConfig { hints_max: 400, ..small() };
    let bounded = now(Store::open(io(&media), config, Some(&state))).expect("the media is healthy");
    assert!((1..=300).contains(&now(bounded.recall(|| true))));
    check_all(&bounded, 0..600);
}

#[test]
fn what_is_had_without_waiting_is_the_same_and_rot_is_left_to_be_told() {
    let media = SimMedia::new();
    let store = remembering(&media, None);
    stage_all(&store, 0..60);
    let get_now = |store: &Store, n: u64| store.get_now(domain(n), &name(n)).map(|read| read.to_vec());
    assert_eq!(get_now(&store, 3), Some(content(3)), "staged");
    let state = now(store.flush()).expect("the media is healthy");
    assert_eq!(get_now(&store, 3), None, "no segment is open");
    check_all(&store, 0..60);
    (0..60).for_each(|n| assert_eq!(get_now(&store, n), Some(content(n)), "chunk {n}"));
    assert_eq!(store.get_now(domain(4), &name(3)), None, "of another domain");
    let location = now(store.locate(&name(7))).expect("the media is healthy").expect("it is stored");
    let path = format!("segments/{:016x}.seg", location.segment().0);
    for byte in [0, 40, 60, 300] {
        media.rot(&path, u64::from(location.offset()) + byte, 3).expect("the file is there");
        assert_eq!(get_now(&store, 7), None, "byte {byte}");
        media.rot(&path, u64::from(location.offset()) + byte, 3).expect("the file is there");
    }
    assert_eq!(get_now(&store, 7), Some(content(7)));
    media.fail_always(Some(Operation::Read), Fault::ERROR);
    assert_eq!(get_now(&store, 7), None);
    media.heal();
    assert_eq!(get_now(&remembering(&media, Some(&state)), 7), None, "nothing is remembered");
}
