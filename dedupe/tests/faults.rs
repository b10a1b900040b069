//! Failing calls: nothing staged is lost, everything stays readable, and a later flush succeeds.

mod common;

use std::collections::BTreeSet;

use common::*;
use metropod_dedupe::ReadError;
use metropod_journal::media::Cause;
use metropod_journal::media::sim::{Fault, Operation, SimMedia, SplitMix};

const WRITING: [Operation; 4] = [Operation::Create, Operation::Write, Operation::Sync, Operation::SyncDir];

#[test]
fn any_failing_write_or_sync_costs_writing_again_and_nothing_else() {
    for seed in seeds(300) {
        let mut random = SplitMix::new(seed);
        let media = SimMedia::new();
        let store = open(&media, None);
        let mut staged = BTreeSet::new();
        for _ in 0..20 {
            let operation = WRITING[random.below(4) as usize];
            let cause = if random.below(2) == 0 { Cause::NoSpace } else { Cause::Device(5) };
            media.fail_nth(Some(operation), 1 + random.below(6), Fault::Fail(cause));
            for _ in 0..random.below(30) {
                let n = random.below(500);
                stage(&store, n);
                staged.insert(n);
            }
            let _failed =
                if random.below(2) == 0 { now(store.destage()) } else { now(store.flush()).map(drop) };
        }
        check_all(&store, staged.iter().copied());
        media.heal();
        let state = now(store.flush()).unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        store.committed(&state);
        assert_eq!(store.stats().chunks, staged.len() as u64, "seed {seed}: each chunk is stored once");
        media.crash(seed);
        let store = open(&media, Some(&state));
        assert_eq!(store.stats().chunks, staged.len() as u64, "seed {seed}");
        check_all(&store, staged.iter().copied());
    }
}

#[test]
fn after_a_failed_sync_its_chunks_are_written_again_elsewhere() {
    let media = SimMedia::new();
    let store = open(&media, None);
    stage_all(&store, 0..20);
    now(store.flush()).unwrap();
    stage_all(&store, 20..40);
    media.fail_nth(Some(Operation::Sync), 1, Fault::ERROR);
    now(store.flush()).unwrap_err();
    check_all(&store, 0..40);
    let state = now(store.flush()).unwrap();
    media.crash(1);
    check_all(&open(&media, Some(&state)), 0..40);
}

#[test]
fn a_full_device_leaves_no_litter_and_the_store_goes_on_when_there_is_room() {
    let media = SimMedia::new();
    let files = || metropod_journal::media::Media::list(&media, "segments").unwrap().len();
    let store = open(&media, None);
    stage_all(&store, 0..100);
    now(store.flush()).unwrap();
    media.set_capacity(Some(media.used_bytes() + 1000));
    stage_all(&store, 100..200);
    assert!(now(store.flush()).unwrap_err().is_no_space());
    let (before, used) = (files(), media.used_bytes());
    for _ in 0..20 {
        assert!(now(store.flush()).unwrap_err().is_no_space());
    }
    assert_eq!((files(), media.used_bytes()), (before, used));
    check_all(&store, 0..200);
    media.set_capacity(None);
    let state = now(store.flush()).unwrap();
    check_all(&open(&media, Some(&state)), 0..200);
}

#[test]
fn a_device_too_full_for_the_index_can_still_flush() {
    let media = SimMedia::new();
    let store = open(&media, None);
    stage_all(&store, 0..19);
    now(store.flush()).unwrap();
    stage_all(&store, 19..30);
    media.fail_always(Some(Operation::Create), Fault::Fail(Cause::NoSpace));
    let state = now(store.flush()).unwrap();
    assert_eq!((store.stats().runs, store.stats().recent_entries), (0, 30));
    media.crash(3);
    check_all(&open(&media, Some(&state)), 0..30);
}

#[test]
fn a_failing_read_is_reported_and_the_next_one_succeeds() {
    let media = SimMedia::new();
    let store = open(&media, None);
    stage_all(&store, 0..10);
    now(store.flush()).unwrap();
    // Once at the place that is remembered, once where the index says that it is.
    media.fail_nth(Some(Operation::Read), 1, Fault::ERROR);
    media.fail_nth(Some(Operation::Read), 2, Fault::ERROR);
    assert!(matches!(now(store.get(domain(1), &name(1), None)), Err(ReadError::Media { .. })));
    check(&store, 1);
}

#[test]
fn an_index_that_cannot_be_read_costs_a_second_copy_never_a_lost_chunk() {
    let media = SimMedia::new();
    let store = open(&media, None);
    stage_all(&store, 0..100);
    now(store.flush()).unwrap();
    assert!(store.stats().runs > 0);
    media.fail_always(Some(Operation::Read), Fault::ERROR);
    stage_all(&store, 0..110);
    let state = now(store.flush()).unwrap();
    media.heal();
    check_all(&open(&media, Some(&state)), 0..110);
}
