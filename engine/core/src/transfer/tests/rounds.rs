//! What rounds bring about when nothing goes wrong.

use std::sync::Arc;

use metropod_protocol::Index;

use super::model::{MIB, Op, Pod, assert_equal, position};
use super::rig::{POD, Round};
use crate::checkpoint::images_of;
use crate::transfer::{
    Begin, Building, Inbox, Message, Port, Progress, Touched, WINDOW_ENTRIES, receive_round, send_round,
};

fn write(volume: u64, block: u64, content: u64) -> Op {
    Op::Write { volume, block, content }
}

/// The common end of the log: both apply it; what it touches.
fn apply_to_both(source: &mut Pod, target: &mut Pod, ops: &[Op]) -> Touched {
    let mut touched = Touched::new(Index(source.applied + ops.len() as u64));
    for op in ops {
        source.note(op, &mut touched);
        source.apply(op);
        target.apply(op);
    }
    touched
}

fn two_volumes() -> Vec<Op> {
    let mut ops = vec![Op::Create { size_bytes: 4 * MIB }, Op::Create { size_bytes: 2 * MIB + 512 }];
    ops.extend((0..300).map(|block| write(1, block, block + 1)));
    ops.extend((0..200).map(|block| write(2, block, block + 1)));
    ops.push(write(2, 512, 9999));
    ops
}

#[test]
fn what_a_round_starts_from_is_named_before_its_flow_has_run() {
    let mut target = Pod::new(1);
    target.apply_all(&two_volumes());
    let held = target.freeze();
    let named = Building::from_held(&held).images().expect("nothing is being folded");
    assert_eq!(named, images_of(&held).cloned().collect::<Vec<_>>());
    assert_eq!(named.len(), 2);
}

#[test]
fn a_baseline_ships_each_chunk_once_for_all_volumes() {
    let (mut source, mut target) = (Pod::new(1), Pod::new(1_000_000));
    source.apply_all(&two_volumes());
    let (sent, ended) = Round::from_nothing().run_well(&mut source, &mut target);
    assert_equal(&mut source, &mut target);
    assert_eq!(sent.data_blocks, 501);
    assert_eq!(sent.chunks, 301, "contents 1 to 300 are in both volumes");
    assert_eq!(ended.chunks(), 301);
    let counters = ended.source_progress.sample();
    assert_eq!(counters.bytes_referenced, 200 * 4096);
}

#[test]
fn a_baseline_of_a_folded_pod_gives_the_same_pod() {
    let (mut source, mut target) = (Pod::new(1), Pod::new(1_000_000));
    source.apply_all(&two_volumes());
    source.fold();
    Round::from_nothing().run_well(&mut source, &mut target);
    assert_equal(&mut source, &mut target);
}

/// The flows run on whatever thread the driver likes.
#[test]
fn flows_can_move_between_threads() {
    fn sendable<T: Send>(value: T) -> T {
        value
    }
    let mut source = Pod::new(1);
    let image = source.freeze();
    let begin = Begin::plan(POD, 5, None, (position(0), &image)).unwrap();
    let (port, progress) = (Arc::new(Nowhere), Arc::new(Progress::new()));
    let (store, ids) = (source.store.clone(), source.layer_ids.clone());
    drop(sendable(send_round(
        begin.clone(),
        None,
        image,
        store.clone(),
        port.clone(),
        Inbox::new(),
        progress.clone(),
    )));
    drop(sendable(receive_round(begin, None, ids, store, port, Inbox::new(), progress, Building::default())));
}

struct Nowhere;

impl Port for Nowhere {
    fn send(&self, _: Message) {}
}

#[test]
fn a_pod_without_volumes_is_brought_over_too() {
    let (mut source, mut target) = (Pod::new(1), Pod::new(1_000_000));
    let (sent, _) = Round::from_nothing().run_well(&mut source, &mut target);
    assert_eq!((sent.batches, sent.entries), (0, 0));
    assert_equal(&mut source, &mut target);
}

#[test]
fn a_repeated_baseline_ships_nothing() {
    let (mut source, mut target) = (Pod::new(1), Pod::new(1_000_000));
    source.apply_all(&two_volumes());
    Round::from_nothing().run_well(&mut source, &mut target);
    let (sent, ended) = Round::from_nothing().run_well(&mut source, &mut target);
    assert_eq!((sent.chunks, ended.chunks()), (0, 0));
    assert_equal(&mut source, &mut target);
}

#[test]
fn a_baseline_larger_than_the_window_keeps_flowing() {
    let (mut source, mut target) = (Pod::new(1), Pod::new(1_000_000));
    source.apply(&Op::Create { size_bytes: 1 << 40 });
    let blocks = 3 * WINDOW_ENTRIES as u64;
    for at in 0..blocks {
        // Few contents, each its own extent.
        source.apply(&write(1, at * 3, at % 50 + 1));
    }
    let (sent, _) = Round::from_nothing().run_well(&mut source, &mut target);
    assert_eq!(sent.entries, blocks);
    assert_eq!(sent.chunks, 50);
    assert_equal(&mut source, &mut target);
}

#[test]
fn a_baseline_beyond_the_fold_bound_goes_into_the_tree() {
    let (mut source, mut target) = (Pod::new(1), Pod::new(1_000_000));
    source.apply(&Op::Create { size_bytes: 64 * MIB });
    (0..5000).for_each(|at| source.apply(&write(1, at * 2, at + 1)));
    source.apply(&Op::Snapshot(1));
    (0..3000).for_each(|at| source.apply(&write(1, at * 2, at + 7000)));
    let round = Round { fold_entries: 1500, ..Round::from_nothing() };
    let (sent, _) = round.run_well(&mut source, &mut target);
    assert_eq!(sent.chunks, 8000);
    assert!(target.maps.values().all(|map| map.image().root().is_some()));
    assert_equal(&mut source, &mut target);
}

#[test]
fn a_round_from_the_targets_exact_point_ships_only_what_changed() {
    let (mut source, mut target) = (Pod::new(1), Pod::new(1_000_000));
    source.apply_all(&two_volumes());
    Round::from_nothing().run_well(&mut source, &mut target);
    let (at, from) = (source.applied, source.freeze());
    source.fold();
    source.apply_all(&[write(1, 7, 5001), write(1, 900, 5002), Op::Zero { volume: 2, blocks: 10..100 }]);
    source.fold();
    let (sent, _) = Round::from(at, from, None).run_well(&mut source, &mut target);
    assert_eq!((sent.data_blocks, sent.chunks), (2, 2));
    assert_equal(&mut source, &mut target);
}

#[test]
fn snapshots_taken_in_between_are_built_on_the_way_and_dropped_ones_vanish() {
    let (mut source, mut target) = (Pod::new(1), Pod::new(1_000_000));
    source.apply_all(&two_volumes());
    source.apply(&Op::Snapshot(1));
    let old = source.applied;
    source.apply(&Op::Snapshot(2));
    Round::from_nothing().run_well(&mut source, &mut target);
    assert_equal(&mut source, &mut target);
    let (at, from) = (source.applied, source.freeze());
    source.apply_all(&[
        write(1, 0, 6001),
        Op::Snapshot(1),
        write(1, 0, 6002),
        Op::Snapshot(1),
        Op::Zero { volume: 1, blocks: 0..1 },
        Op::DropSnapshot { volume: 1, taken_at: old },
        write(2, 1, 6001),
    ]);
    let (sent, ended) = Round::from(at, from, None).run_well(&mut source, &mut target);
    assert_eq!(ended.begin.points.len(), 4);
    assert_eq!(sent.chunks, 2, "6001 is asked for once");
    assert_equal(&mut source, &mut target);
}

#[test]
fn volumes_come_go_grow_and_shrink() {
    let (mut source, mut target) = (Pod::new(1), Pod::new(1_000_000));
    source.apply_all(&two_volumes());
    source.apply(&Op::Create { size_bytes: 2 * MIB });
    let third = source.applied;
    source.apply(&write(third, 511, 7077));
    Round::from_nothing().run_well(&mut source, &mut target);
    let (at, from) = (source.applied, source.freeze());
    source.apply(&Op::Create { size_bytes: MIB });
    let fourth = source.applied;
    source.apply_all(&[
        write(fourth, 3, 7078),
        Op::Destroy(2),
        Op::Resize { volume: 1, size_bytes: 8 * MIB },
        write(1, 2000, 7079),
        Op::Resize { volume: third, size_bytes: MIB },
        Op::Snapshot(third),
        Op::Resize { volume: third, size_bytes: 2 * MIB },
    ]);
    let (sent, _) = Round::from(at, from, None).run_well(&mut source, &mut target);
    assert_eq!(sent.chunks, 2);
    assert_equal(&mut source, &mut target);
}

/// The fork freeze lies before what the target destaged from the common log; a block was changed there and changed
/// back later, by the survivor alone.
#[test]
fn a_block_changed_and_changed_back_is_put_right_at_a_target_beyond_the_common_point() {
    for fold in [false, true] {
        let (mut source, mut target) = (Pod::new(1), Pod::new(1_000_000));
        source.apply_all(&two_volumes());
        Round::from_nothing().run_well(&mut source, &mut target);
        source.fold();
        let (at, from) = (source.applied, source.freeze());
        let common = [write(1, 5, 4000), Op::Zero { volume: 1, blocks: 20..30 }, write(1, 800, 4001)];
        let touched = apply_to_both(&mut source, &mut target, &common);
        source.apply_all(&[write(1, 5, 6), Op::Zero { volume: 1, blocks: 800..801 }]);
        (20..30).for_each(|block| source.apply(&write(1, block, block + 1)));
        if fold {
            source.fold();
        }
        let (sent, _) = Round::from(at, from, Some(touched)).run_well(&mut source, &mut target);
        assert_eq!(sent.chunks, 0, "every chunk is at the target");
        assert!(sent.data_blocks <= 22, "only what was touched is named");
        assert_equal(&mut source, &mut target);
    }
}

#[test]
fn a_snapshot_that_the_target_took_itself_beyond_the_common_point_stays_right() {
    let (mut source, mut target) = (Pod::new(1), Pod::new(1_000_000));
    source.apply_all(&two_volumes());
    Round::from_nothing().run_well(&mut source, &mut target);
    let (at, from) = (source.applied, source.freeze());
    let common = [write(1, 5, 4000), Op::Snapshot(1), write(1, 5, 4001), write(1, 6, 4002)];
    let touched = apply_to_both(&mut source, &mut target, &common);
    source.apply_all(&[write(1, 5, 4000), write(1, 6, 4003), Op::Snapshot(1), write(1, 6, 4002)]);
    Round::from(at, from, Some(touched)).run_well(&mut source, &mut target);
    assert_equal(&mut source, &mut target);
}

#[test]
fn a_volume_that_grew_at_the_target_beyond_the_common_point_takes_on_the_right_size() {
    let (mut source, mut target) = (Pod::new(1), Pod::new(1_000_000));
    source.apply_all(&two_volumes());
    Round::from_nothing().run_well(&mut source, &mut target);
    let (at, from) = (source.applied, source.freeze());
    let common = [Op::Resize { volume: 1, size_bytes: 8 * MIB }, write(1, 1500, 4000), write(1, 1600, 4001)];
    let touched = apply_to_both(&mut source, &mut target, &common);
    source.apply_all(&[
        Op::Resize { volume: 1, size_bytes: 3 * MIB },
        Op::Resize { volume: 1, size_bytes: 8 * MIB },
        write(1, 1600, 4002),
    ]);
    Round::from(at, from, Some(touched)).run_well(&mut source, &mut target);
    assert_equal(&mut source, &mut target);
}
