//! Claims about the store on quiet media.

mod common;

use common::*;
use metropod_dedupe::{
    Compression, Digest, Location, OpenError, Payload, ReadError, Store, StoreConfig, pack,
};
use metropod_journal::media::sim::{Operation, SimMedia};

#[test]
fn what_was_flushed_is_there_after_reopening_and_nothing_else() {
    let media = SimMedia::new();
    let mut state: Option<bytes::Bytes> = None;
    for round in 0..20 {
        let store = open(&media, state.as_deref());
        assert_eq!(store.stats().chunks, round * 100);
        check_all(&store, 0..round * 100);
        stage_all(&store, round * 100..round * 100 + 100);
        let kept = now(store.flush()).unwrap();
        store.committed(&kept);
        check_all(&store, 0..round * 100 + 100);
        stage_all(&store, 10_000..10_100);
        now(store.destage()).unwrap();
        state = Some(kept);
    }
    let store = open(&media, state.as_deref());
    let missing = name(10_001);
    assert_eq!(now(store.get(domain(10_001), &missing, None)), Err(ReadError::Missing { digest: missing }));
    assert!(store.stats().runs <= 10);
    assert_eq!(store.stats().damaged, 0);
}

#[test]
fn a_staged_chunk_is_found_at_once_and_costs_no_io() {
    let media = SimMedia::new();
    let store = open(&media, None);
    let before = media.counters();
    stage_all(&store, 0..50);
    check_all(&store, 0..50);
    assert_eq!(now(store.have(&[name(3), name(99)])).unwrap(), [true, false]);
    assert!(store.get_staged(&name(3)).is_some());
    assert_eq!(media.counters(), before);
}

#[test]
fn a_chunk_stored_already_costs_no_byte_and_is_counted() {
    let media = SimMedia::new();
    let store = open(&media, None);
    stage_all(&store, 0..200);
    stage_all(&store, 0..10);
    assert_eq!(store.stats().duplicates, 10);
    now(store.flush()).unwrap();
    let (before, written) = (stored(store.stats()), media.counters().bytes_written);
    stage_all(&store, 0..200);
    now(store.flush()).unwrap();
    assert_eq!(stored(store.stats()), before);
    assert_eq!(media.counters().bytes_written, written);
    assert_eq!(store.stats().duplicates, 210);
    assert_eq!((store.staged_bytes(), store.unsynced_bytes(), store.stats().staged), (0, 0, 0));
}

#[test]
fn statistics_are_exact_and_survive_reopening() {
    let media = SimMedia::new();
    let store = open(&media, None);
    stage_all(&store, 0..333);
    let state = now(store.flush()).unwrap();
    let stats = store.stats();
    assert_eq!(stats.chunks, 333);
    assert_eq!(stats.logical_bytes, (0..333).map(|n| content(n).len() as u64).sum::<u64>());
    let payloads: u64 = (0..333).map(|n| pack(&content(n), Compression::WhenItPays).bytes.len() as u64).sum();
    assert!(stats.stored_bytes > payloads && stats.stored_bytes < payloads + 333 * 1300);
    assert!(stats.segment_bytes > payloads);
    assert_eq!(stats.run_entries + stats.recent_entries, 333);
    let reopened = open(&media, Some(&state)).stats();
    assert_eq!(stored(reopened), stored(stats));
    assert_eq!((reopened.segments, reopened.segment_bytes), (stats.segments, stats.segment_bytes));
}

#[test]
fn destaging_bounds_the_memory_of_what_is_not_synced() {
    let media = SimMedia::new();
    let store = open(&media, None);
    for n in 0..500 {
        stage(&store, n);
        if n % 10 == 9 {
            now(store.destage()).unwrap();
            assert!(store.unsynced_bytes() < (64 << 10), "hardened by destaging");
            assert_eq!(store.staged_bytes(), 0);
        }
    }
    check_all(&store, 0..500);
}

#[test]
fn writes_are_gathered_and_synced_once_per_flush() {
    let media = SimMedia::new();
    let config = StoreConfig::new(ARRAY);
    let store = now(Store::open(io(&media), config, None)).unwrap();
    stage_all(&store, 0..2000);
    now(store.destage()).unwrap();
    now(store.flush()).unwrap();
    let counters = media.counters();
    assert!(counters.count(Operation::Write) <= 10, "{}", counters.count(Operation::Write));
    assert_eq!(counters.count(Operation::Sync), 2, "one data and one node segment");
}

#[test]
fn a_page_that_holds_durable_chunks_is_never_written_again() {
    let media = SimMedia::new();
    let store = open(&media, None);
    for n in (0..20).filter(|n| n % 5 != 4) {
        stage(&store, n);
        now(store.flush()).unwrap();
        let location = now(store.locate(&name(n))).unwrap().unwrap();
        assert!(location.offset() == 64 || location.offset().is_multiple_of(4096), "{location:?}");
    }
}

#[test]
fn a_good_hint_answers_and_a_wrong_one_costs_only_time() {
    let media = SimMedia::new();
    let store = open(&media, None);
    stage_all(&store, 0..300);
    now(store.flush()).unwrap();
    for n in 0..300 {
        let (digest, expected) = (name(n), content(n));
        let hint = now(store.locate(&digest)).unwrap().unwrap();
        let other = now(store.locate(&name((n + 7) % 300))).unwrap().unwrap();
        for hint in [
            hint,
            other,
            Location::from_bits(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            Location::from_bits(u64::MAX),
        ] {
            assert_eq!(now(store.get(domain(n), &digest, Some(hint))).unwrap(), expected);
        }
    }
    assert_eq!(now(store.locate(&name(1000))).unwrap(), None);
}

#[test]
fn a_host_block_that_equals_a_node_is_not_taken_for_it() {
    let media = SimMedia::new();
    let store = open(&media, None);
    let bytes = content(0);
    let node = metropod_dedupe::Domain::Node { level: 0 };
    let node_name = metropod_dedupe::digest(node, &bytes);
    store.stage(domain(0), name(0), Payload::raw(bytes.clone().into()));
    now(store.flush()).unwrap();
    assert_eq!(now(store.have(&[name(0), node_name])).unwrap(), [true, false]);
    store.stage(node, node_name, Payload::raw(bytes.clone().into()));
    now(store.flush()).unwrap();
    assert_eq!(store.stats().chunks, 2);
    assert_eq!(now(store.get(node, &node_name, None)).unwrap(), bytes);
    assert!(matches!(now(store.get(domain(0), &node_name, None)), Err(ReadError::Rot { .. })));
}

#[test]
fn a_payload_travels_as_stored() {
    let media = SimMedia::new();
    let store = open(&media, None);
    stage_all(&store, 0..60);
    let staged: Vec<Payload> = (0..60).map(|n| now(store.get_payload(&name(n))).unwrap()).collect();
    now(store.flush()).unwrap();
    for (n, staged) in (0..60).zip(staged) {
        assert_eq!(now(store.get_payload(&name(n))).unwrap(), staged);
    }
    assert!(matches!(now(store.get_payload(&Digest([7; 32]))), Err(ReadError::Missing { .. })));
}

#[test]
fn files_no_state_names_are_removed_only_after_a_later_state_is_durable() {
    let media = SimMedia::new();
    let files = |dir: &str| metropod_journal::media::Media::list(&media, dir).unwrap().len();
    let store = open(&media, None);
    let mut state = bytes::Bytes::new();
    for n in 0..300 {
        stage(&store, n);
        state = now(store.flush()).unwrap();
    }
    assert!(files("runs") > store.stats().runs as usize, "merged runs are kept while a state may name them");
    store.committed(&state);
    assert_eq!(files("runs"), store.stats().runs as usize);
    stage_all(&store, 300..400);
    now(store.flush()).unwrap();
    let all = files("segments");
    let store = open(&media, Some(&state));
    assert_eq!(store.stats().chunks, 300);
    assert_eq!(files("segments"), all, "opening removes nothing");
    let next = now(store.flush()).unwrap();
    store.committed(&state);
    assert_eq!(files("segments"), all, "the old state is not a later one");
    store.committed(&next);
    assert!(files("segments") < all);
    assert_eq!(files("segments"), store.stats().segments as usize);
    check_all(&store, 0..300);
}

#[test]
fn a_state_of_another_array_or_version_or_with_damage_is_refused() {
    let media = SimMedia::new();
    let store = open(&media, None);
    stage_all(&store, 0..10);
    let state = now(store.flush()).unwrap();
    let refuse = |config, state: &[u8]| now(Store::open(io(&media), config, Some(state))).err().unwrap();
    assert_eq!(refuse(StoreConfig::new([1; 16]), &state), OpenError::OtherArray);
    assert_eq!(refuse(small(), &state[1..]), OpenError::StateDamaged);
    assert_eq!(refuse(small(), b""), OpenError::StateDamaged);
    let mut newer = state.to_vec();
    newer[8] = 9;
    let end = newer.len() - 4;
    let check = crc32c::crc32c(&newer[..end]);
    newer[end..].copy_from_slice(&check.to_le_bytes());
    assert_eq!(refuse(small(), &newer), OpenError::StateVersion { found: 9 });
}
