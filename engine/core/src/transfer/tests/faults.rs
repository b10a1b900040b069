//! Interruptions and damage on the way.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use metropod_dedupe::{Digest, Form};

use super::model::{MIB, Op, Pod, assert_equal, block, name_of};
use super::rig::Round;
use crate::transfer::{ASKS_MAX, AbortReason, BATCH_ENTRIES, Body, TransferError};

fn filled() -> Pod {
    let mut source = Pod::new(1);
    source.apply_all(&[Op::Create { size_bytes: 32 * MIB }, Op::Create { size_bytes: MIB }]);
    let blocks = 3 * BATCH_ENTRIES as u64 / 2;
    (0..blocks).for_each(|at| source.apply(&Op::Write { volume: 1, block: at * 3, content: at + 1 }));
    (0..50).for_each(|at| source.apply(&Op::Write { volume: 2, block: at, content: at + 10_000 }));
    source.apply(&Op::Snapshot(2));
    source
}

/// The link is cut after every possible number of messages; the next attempt starts from scratch.
#[test]
fn an_interrupted_round_ships_nothing_twice_that_arrived() {
    let mut source = filled();
    let (_, whole) = Round::from_nothing().run_well(&mut source, &mut Pod::new(1_000_000));
    let mut resumed = 0;
    for messages_max in 0..whole.messages() {
        let mut target = Pod::new(1_000_000);
        let cut = Round { messages_max, ..Round::from_nothing() }.run(&mut source, &mut target);
        assert!(matches!(cut.source, Some(Err(TransferError::Closed))), "{:?}", cut.source);
        let flipped = matches!(cut.target, Some(Ok(_)));
        assert!(flipped || matches!(cut.target, Some(Err(TransferError::Closed))), "{:?}", cut.target);
        let (_, rest) = Round::from_nothing().run_well(&mut source, &mut target);
        assert_equal(&mut source, &mut target);
        let first: BTreeSet<Bytes> = cut.link.lock().unwrap().chunks.iter().cloned().collect();
        let second: BTreeSet<Bytes> = rest.link.lock().unwrap().chunks.iter().cloned().collect();
        assert_eq!(first.len() + second.len(), whole.chunks(), "cut after {messages_max} messages");
        assert!(first.is_disjoint(&second));
        resumed += usize::from(!first.is_empty());
    }
    assert!(resumed > 0, "no cut left chunks behind");
}

/// Damages the first `times` chunk messages that carry the chunk of `content`.
fn damage(
    content: u64,
    times: usize,
) -> Box<dyn FnMut(crate::transfer::Message) -> Option<crate::transfer::Message> + Send> {
    let mut left = times;
    Box::new(move |mut message| {
        if let Body::Chunks { payloads, .. } = &mut message.body {
            for payload in payloads {
                let hit = metropod_dedupe::expand(payload).is_ok_and(|raw| raw == block(content));
                if hit && left > 0 {
                    left -= 1;
                    let mut bytes = payload.bytes.to_vec();
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 0x10;
                    payload.bytes = Bytes::from(bytes);
                }
            }
        }
        Some(message)
    })
}

#[test]
fn a_damaged_chunk_is_asked_for_again() {
    for content in [3, 4] {
        let (mut source, mut target) = (filled(), Pod::new(1_000_000));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        let round = Round {
            to_target: damage(content, usize::from(ASKS_MAX) - 1),
            to_source: Box::new(move |message| {
                if let Body::Need { seq: 1, lacking } = &message.body {
                    log.lock().unwrap().push(lacking.iter().filter(|lacking| **lacking).count());
                }
                Some(message)
            }),
            ..Round::from_nothing()
        };
        let (sent, ended) = round.run_well(&mut source, &mut target);
        assert_eq!(*asked.lock().unwrap(), [BATCH_ENTRIES, 1, 1, 1]);
        assert_eq!(sent.chunks as usize, ended.chunks());
        assert_equal(&mut source, &mut target);
    }
}

#[test]
fn a_chunk_that_is_always_damaged_ends_the_round_and_is_never_stored() {
    let (mut source, mut target) = (filled(), Pod::new(1_000_000));
    let round = Round { to_target: damage(3, usize::MAX), ..Round::from_nothing() };
    let ended = round.run(&mut source, &mut target);
    let bad = name_of(3);
    assert!(matches!(ended.target, Some(Err(TransferError::Corrupt { digest })) if digest == bad));
    assert!(matches!(ended.source, Some(Err(TransferError::Aborted(AbortReason::Corrupt)))));
    assert_eq!(super::rig::run(target.store.have(&[bad, name_of(4)])).unwrap(), [false, true]);
}

#[test]
fn a_chunk_under_another_chunks_name_is_refused() {
    let (mut source, mut target) = (filled(), Pod::new(1_000_000));
    let swap = |mut message: crate::transfer::Message| {
        if let Body::Chunks { payloads, .. } = &mut message.body
            && payloads.len() > 2
        {
            payloads.swap(0, 1);
        }
        Some(message)
    };
    let (sent, _) =
        Round { to_target: Box::new(swap), ..Round::from_nothing() }.run_well(&mut source, &mut target);
    assert_equal(&mut source, &mut target);
    assert!(sent.chunks as usize > source.names().len());
}

#[test]
fn a_chunk_that_the_source_lost_ends_the_round_at_both_ends() {
    let (mut source, mut target) = (filled(), Pod::new(1_000_000));
    let lost = metropod_snapshots::Slot::Data(Digest([9; 32]));
    source.maps.get_mut(&crate::names::VolumeId(2)).unwrap().set(200, lost);
    let ended = Round::from_nothing().run(&mut source, &mut target);
    assert!(matches!(ended.source, Some(Err(TransferError::Read(_)))));
    assert!(matches!(ended.target, Some(Err(TransferError::Aborted(AbortReason::Storage)))));
}

#[test]
fn chunks_travel_in_the_form_in_which_they_are_stored() {
    let (mut source, mut target) = (filled(), Pod::new(1_000_000));
    let forms = Arc::new(Mutex::new(Vec::new()));
    let log = forms.clone();
    let watch = move |message: crate::transfer::Message| {
        if let Body::Chunks { payloads, .. } = &message.body {
            log.lock().unwrap().extend(payloads.iter().map(|payload| payload.form));
        }
        Some(message)
    };
    let (_, ended) =
        Round { to_target: Box::new(watch), ..Round::from_nothing() }.run_well(&mut source, &mut target);
    let forms = forms.lock().unwrap();
    assert!(forms.contains(&Form::Raw) && forms.contains(&Form::Lz4));
    let counters = ended.source_progress.sample();
    assert!(counters.bytes_compressed < counters.bytes_logical / 2);
    assert!(counters.bytes_wire > counters.bytes_compressed);
}
