//! Ends that break the rules.

use std::sync::{Arc, Mutex};

use metropod_dedupe::{Compression, Digest, pack};
use metropod_protocol::Index;
use metropod_snapshots::Extent;

use super::model::{MIB, Op, Pod, block, name_of, position};
use super::rig::{POD, Round, run_both};
use crate::transfer::{
    AbortReason, BATCH_ENTRIES_MAX, Begin, Body, Building, Common, INBOX_MESSAGES_MAX, Inbox, Message,
    Overflow, Port, Progress, Touched, TransferError, Violation, WINDOW_BATCHES, WINDOW_ENTRIES,
    receive_round, send_round,
};

/// A batch of the largest legal size fits.
const VOLUME_BYTES: u64 = 64 * MIB;

#[derive(Default)]
struct Log(Mutex<Vec<Body>>);

impl Port for Log {
    fn send(&self, message: Message) {
        self.0.lock().unwrap().push(message.body);
    }
}

fn small() -> Pod {
    let mut source = Pod::new(1);
    source.apply(&Op::Create { size_bytes: VOLUME_BYTES });
    (0..10).for_each(|at| source.apply(&Op::Write { volume: 1, block: at, content: at + 1 }));
    source
}

fn data(block: u64) -> Extent {
    Extent::data(block, name_of(block + 1))
}

fn changes(seq: u64, point: u32, last: bool, entries: Vec<Extent>) -> Body {
    Body::Changes { seq, point, last, entries }
}

fn chunk(seq: u64, content: u64) -> Body {
    Body::Chunks { seq, payloads: vec![pack(&block(content), Compression::WhenItPays)] }
}

/// What a target makes of `bodies` after `Begin`; the last message is what it told the source last.
fn target_given(bodies: Vec<Body>) -> (Option<TransferError>, Option<Body>) {
    let (mut source, target) = (small(), Pod::new(1_000_000));
    let image = source.freeze();
    let begin = Begin::plan(POD, 5, None, (position(source.applied), &image)).unwrap();
    let (inbox, port) = (Inbox::new(), Arc::new(Log::default()));
    bodies.into_iter().for_each(|body| inbox.push(Message { round: 5, body }).unwrap());
    let progress = Arc::new(Progress::new());
    let receiving = receive_round(
        begin,
        None,
        target.layer_ids.clone(),
        target.store.clone(),
        port.clone(),
        inbox,
        progress,
        Building::default(),
    );
    let (ended, _) = run_both(receiving, async {});
    let last = port.0.lock().unwrap().last().cloned();
    (ended.map(|ended| ended.expect_err("a broken round gives no image")), last)
}

fn assert_target_refuses(expected: Violation, bodies: Vec<Body>) {
    let (error, last) = target_given(bodies.clone());
    assert!(
        matches!(error, Some(TransferError::Violation(found)) if found == expected),
        "{error:?} instead of {expected:?}"
    );
    assert_eq!(last, Some(Body::Abort(AbortReason::Violation)));
}

#[test]
fn a_target_refuses_a_source_that_breaks_the_rules() {
    assert_target_refuses(Violation::OutOfPlace, vec![Body::Done { seq: 1 }]);
    assert_target_refuses(Violation::OutOfPlace, vec![Body::Flipped]);
    assert_target_refuses(Violation::Order, vec![changes(2, 0, false, vec![])]);
    assert_target_refuses(Violation::Order, vec![changes(1, 1, false, vec![])]);
    assert_target_refuses(Violation::Order, vec![changes(1, 0, true, vec![]), changes(2, 1, true, vec![])]);
    assert_target_refuses(
        Violation::Order,
        vec![changes(1, 0, false, vec![Extent::zero(0..VOLUME_BYTES / 4096 + 1)])],
    );
    assert_target_refuses(Violation::Order, vec![Body::End { check: [0; 32] }]);
    assert_target_refuses(Violation::Check, vec![changes(1, 0, true, vec![]), Body::End { check: [0; 32] }]);
    assert_target_refuses(Violation::Unasked, vec![chunk(1, 1)]);
    assert_target_refuses(
        Violation::Unasked,
        vec![changes(1, 0, true, vec![data(0)]), chunk(1, 1), chunk(1, 1)],
    );
    assert_target_refuses(
        Violation::Unasked,
        vec![changes(1, 0, false, vec![data(0)]), changes(2, 0, true, vec![data(0)]), chunk(2, 1)],
    );
}

#[test]
fn a_target_refuses_more_than_the_window() {
    let batch = |seq| changes(seq, 0, false, vec![Extent::data(0, Digest([seq as u8; 32]))]);
    let many = (1..=WINDOW_BATCHES as u64 + 1).map(batch).collect();
    assert_target_refuses(Violation::Window, many);
    let full = |seq: u64| {
        let mut entries: Vec<Extent> = vec![Extent::data(0, Digest([seq as u8; 32]))];
        entries.extend((1..BATCH_ENTRIES_MAX as u64).map(|block| Extent::zero(block..block + 1)));
        Body::Changes { seq, point: 0, last: false, entries }
    };
    let wide = (1..=(WINDOW_ENTRIES / BATCH_ENTRIES_MAX) as u64 + 1).map(full).collect();
    assert_target_refuses(Violation::Window, wide);
}

#[test]
fn a_target_waits_for_content_and_ends_with_the_session() {
    let (error, last) = target_given(vec![changes(1, 0, true, vec![data(0)])]);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(last, Some(Body::Need { seq: 1, lacking: vec![true] }));
    let (error, _) = target_given(vec![Body::Abort(AbortReason::Obsolete)]);
    assert!(matches!(error, Some(TransferError::Aborted(AbortReason::Obsolete))));
}

#[test]
fn messages_of_another_round_are_ignored() {
    let (mut source, mut target) = (small(), Pod::new(1_000_000));
    let round = Round {
        to_target: Box::new(|mut message| {
            if matches!(message.body, Body::Total { .. }) {
                message.round = 4;
            }
            Some(message)
        }),
        ..Round::from_nothing()
    };
    let ended = round.run(&mut source, &mut target);
    assert!(matches!((ended.source, ended.target), (Some(Ok(_)), Some(Ok(_)))));
    assert_eq!(ended.target_progress.sample().bytes_logical, 0, "the total of another round does not count");
}

/// What a source makes of `bodies`, which wait for it from the beginning.
fn source_given(bodies: Vec<Body>) -> (Option<TransferError>, Vec<Body>) {
    let mut source = small();
    let image = source.freeze();
    let begin = Begin::plan(POD, 5, None, (position(source.applied), &image)).unwrap();
    let (inbox, port) = (Inbox::new(), Arc::new(Log::default()));
    let sending = send_round(
        begin,
        None,
        image,
        source.store.clone(),
        port.clone(),
        inbox.clone(),
        Arc::new(Progress::new()),
    );
    let (ended, _) = run_both(sending, async {
        crate::transfer::turns::give_way().await;
        while !port.0.lock().unwrap().iter().any(|body| matches!(body, Body::End { .. })) {
            crate::transfer::turns::give_way().await;
        }
        bodies.into_iter().for_each(|body| inbox.push(Message { round: 5, body }).unwrap());
    });
    let said = port.0.lock().unwrap().clone();
    (ended.map(|ended| ended.expect_err("a broken round does not end well")), said)
}

#[test]
fn a_source_refuses_a_target_that_breaks_the_rules() {
    let need = |lacking: Vec<bool>| Body::Need { seq: 1, lacking };
    let cases = [
        (Violation::Batch, vec![Body::Done { seq: 2 }]),
        (Violation::Batch, vec![Body::Done { seq: 1 }, Body::Done { seq: 1 }]),
        (Violation::Batch, vec![Body::Need { seq: 9, lacking: vec![true] }]),
        (Violation::Batch, vec![need(vec![true; 9])]),
        (Violation::Batch, vec![need(vec![true; 11])]),
        (Violation::Batch, vec![need(vec![false; 10])]),
        (Violation::Batch, vec![Body::Done { seq: 1 }, need(vec![true; 10])]),
        (Violation::Asks, vec![need(vec![true; 10]); 5]),
        (Violation::OutOfPlace, vec![Body::Flipped]),
        (Violation::OutOfPlace, vec![Body::Ready { check: [0; 32] }]),
        (Violation::Check, vec![Body::Done { seq: 1 }, Body::Ready { check: [0; 32] }]),
        (Violation::OutOfPlace, vec![Body::Total { data_blocks: 1 }]),
    ];
    for (expected, bodies) in cases {
        let (error, said) = source_given(bodies);
        assert!(
            matches!(error, Some(TransferError::Violation(found)) if found == expected),
            "{error:?} instead of {expected:?}"
        );
        assert_eq!(said.last(), Some(&Body::Abort(AbortReason::Violation)));
    }
}

#[test]
fn a_source_without_credit_stops_at_the_window() {
    let mut source = Pod::new(1);
    source.apply(&Op::Create { size_bytes: 1 << 40 });
    (0..2 * WINDOW_ENTRIES as u64)
        .for_each(|at| source.apply(&Op::Write { volume: 1, block: at * 2, content: at % 9 + 1 }));
    let image = source.freeze();
    let begin = Begin::plan(POD, 5, None, (position(source.applied), &image)).unwrap();
    let port = Arc::new(Log::default());
    let progress = Arc::new(Progress::new());
    let sending =
        send_round(begin, None, image, source.store.clone(), port.clone(), Inbox::new(), progress.clone());
    let (ended, _) = run_both(sending, async {});
    assert!(ended.is_none(), "it waits");
    let entries: usize = port
        .0
        .lock()
        .unwrap()
        .iter()
        .map(|body| match body {
            Body::Changes { entries, .. } => entries.len(),
            _ => 0,
        })
        .sum();
    assert_eq!(entries, WINDOW_ENTRIES);
    assert_eq!(progress.sample().bytes_done, 0);
}

#[test]
fn a_target_that_does_not_hold_the_common_point_says_so() {
    for (at, touched, holds) in [
        (11, None, true),
        (12, None, false),
        (10, None, false),
        (10, Some(Touched::new(Index(11))), true),
        (10, Some(Touched::new(Index(20))), true),
        (10, Some(Touched::new(Index(10))), false),
        (12, Some(Touched::new(Index(20))), false),
    ] {
        let (mut source, mut target) = (small(), Pod::new(1_000_000));
        Round::from_nothing().run_well(&mut source, &mut target);
        assert_eq!(target.applied, 11);
        let from = Round::from(at, source.freeze(), touched);
        let ended = from.run(&mut source, &mut target);
        assert_eq!(matches!(ended.target, Some(Ok(_))), holds);
        if !holds {
            assert!(matches!(ended.target, Some(Err(TransferError::MissingBase { target: None }))));
            assert!(matches!(ended.source, Some(Err(TransferError::Aborted(AbortReason::MissingBase)))));
        }
    }
}

#[test]
fn a_target_without_a_volume_or_snapshot_of_the_common_point_says_so() {
    let mut source = small();
    source.apply(&Op::Snapshot(1));
    let image = source.freeze();
    let common = Common { at: position(source.applied), image: image.clone(), touched: None };
    let begin = Begin::plan(POD, 5, Some(&common), (position(source.applied), &image)).unwrap();
    for drop_volume in [true, false] {
        let target = Pod::new(1_000_000);
        let mut held = image.clone();
        if drop_volume {
            held.volumes.clear();
        } else {
            held.snapshots.clear();
        }
        let port = Arc::new(Log::default());
        let receiving = receive_round(
            begin.clone(),
            Some(crate::transfer::Held { at: common.at, image: held }),
            target.layer_ids.clone(),
            target.store.clone(),
            port.clone(),
            Inbox::new(),
            Arc::new(Progress::new()),
            Building::default(),
        );
        let (ended, _) = run_both(receiving, async {});
        assert!(matches!(ended, Some(Err(TransferError::MissingBase { target: Some(_) }))));
        assert_eq!(*port.0.lock().unwrap(), [Body::Abort(AbortReason::MissingBase)]);
    }
}

#[test]
fn an_inbox_takes_only_a_window_and_nothing_after_its_end() {
    let inbox = Inbox::new();
    let done = || Message { round: 5, body: Body::Done { seq: 1 } };
    for _ in 0..INBOX_MESSAGES_MAX {
        assert_eq!(inbox.push(done()), Ok(()));
    }
    assert_eq!(inbox.push(done()), Err(Overflow));
    assert_eq!(inbox.take(), Some(done()));
    assert_eq!(inbox.push(done()), Ok(()));
    inbox.close();
    assert_eq!(inbox.push(done()), Ok(()));
    assert_eq!(super::rig::run(inbox.next()), None);
}
