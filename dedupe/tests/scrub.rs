//! Scrubbing finds each thing that is rotten once, and nothing where nothing is.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod common;

use common::*;
use metropod_dedupe::{Finding, Rot, SCRUB_LISTED_MAX, SegmentId, Store, StoreConfig, segment_path};
use metropod_journal::media::sim::{Fault, Operation, SimMedia};
use metropod_journal::media::{Cause, Create, Media, Open};

const CHUNKS: u64 = 300;

fn length(media: &SimMedia, segment: SegmentId) -> u64 {
    let file = media.open(&segment_path(segment), Open { create: Create::Never, direct: false }).unwrap();
    media.len(file).unwrap()
}

/// A store of some segments, the first of them sealed; what is in the last has no footer.
fn filled() -> (SimMedia, Store) {
    let media = SimMedia::new();
    let config = StoreConfig { hints_max: 0, ..small() };
    let store = now(Store::open(io(&media), config, None)).unwrap();
    stage_all(&store, 0..CHUNKS);
    now(store.flush()).unwrap();
    (media, store)
}

/// Scrubs everything; gives bytes, records and findings.
fn scrub(store: &Store) -> (u64, u64, Vec<Finding>) {
    let (end, mut from) = (store.scrub_end(), SegmentId(0));
    let (mut bytes, mut records, mut findings) = (0, 0, Vec::new());
    while let Some(scrubbed) = now(store.scrub(from, end)).unwrap() {
        assert!(scrubbed.segment >= from, "segments come in order");
        assert_eq!(scrubbed.findings, scrubbed.listed.len() as u64);
        from = SegmentId(scrubbed.segment.0 + 1);
        bytes += scrubbed.bytes;
        records += scrubbed.records;
        findings.extend(scrubbed.listed);
    }
    assert_eq!(store.scrub_left(from, end).segments, 0);
    (bytes, records, findings)
}

fn findings_in(store: &Store, segment: SegmentId) -> Vec<Rot> {
    let scrubbed = now(store.scrub(segment, SegmentId(segment.0 + 1))).unwrap().expect("it is there");
    scrubbed.listed.into_iter().map(|finding| finding.rot).collect()
}

fn segments_of(store: &Store) -> Vec<SegmentId> {
    let places = (0..CHUNKS).map(|n| now(store.locate(&name(n))).unwrap().unwrap());
    let mut segments: Vec<SegmentId> = places.map(|place| place.segment()).collect();
    segments.sort();
    segments.dedup();
    segments
}

#[test]
fn a_sound_store_is_read_whole_and_nothing_is_found() {
    let (_, store) = filled();
    let (bytes, records, findings) = scrub(&store);
    assert_eq!((bytes, records), (store.stats().segment_bytes, CHUNKS));
    assert_eq!(findings, []);
    assert_eq!(store.scrub_left(SegmentId(0), store.scrub_end()).bytes, bytes);
}

#[test]
fn a_flipped_bit_anywhere_is_found_once_and_names_the_chunk_that_it_costs() {
    let (media, store) = filled();
    let segments = segments_of(&store);
    assert!(segments.len() >= 4);
    let (mut headers, mut footers, mut chunks, mut stretches, mut costless) = (0, 0, 0, 0, 0);
    for segment in segments {
        let (path, length) = (segment_path(segment), length(&media, segment));
        // Each byte of the header, of the beginning of the first record and of the end, and some of the rest.
        let dense = (0..130).chain(length - 80..length);
        for offset in dense.chain((130..length - 80).step_by(997)) {
            let bit = (offset % 8) as u8;
            media.rot(&path, offset, bit).unwrap();
            let found = findings_in(&store, segment);
            assert!(found.len() <= 1, "{segment:?}+{offset}: {found:?}");
            let lost: Vec<u64> =
                (0..CHUNKS).filter(|n| now(store.get(domain(*n), &name(*n), None)).is_err()).collect();
            match (found.first(), lost.as_slice()) {
                (Some(Rot::Header), []) => headers += u64::from(offset < 64),
                (Some(Rot::Footer), []) => footers += 1,
                (Some(Rot::Chunk(digest)), [lost]) if *digest == name(*lost) => chunks += 1,
                (Some(Rot::Stretch), [] | [_]) => stretches += 1,
                (None, []) => costless += 1,
                other => panic!("{segment:?}+{offset}: {other:?}"),
            }
            assert_eq!(offset < 64, matches!(found.first(), Some(Rot::Header)), "{offset}");
            media.rot(&path, offset, bit).unwrap();
        }
        assert_eq!(findings_in(&store, segment), []);
    }
    println!(
        "{headers} headers, {footers} footers, {chunks} chunks, {stretches} stretches, {costless} nothing"
    );
    assert!(headers >= 4 * 64 && footers > 150 && chunks > 500 && stretches > 48);
    assert!(costless < chunks / 10, "only padding may rot unseen");
}

#[test]
fn many_things_are_each_found_once_and_listed_to_a_bound() {
    let (media, store) = filled();
    let mut expected = Vec::new();
    for n in (0..CHUNKS).step_by(3) {
        let place = now(store.locate(&name(n))).unwrap().unwrap();
        media.rot(&segment_path(place.segment()), u64::from(place.offset()) + 50, 2).unwrap();
        expected.push((place.segment(), name(n)));
    }
    let mut found = Vec::new();
    let (mut from, end) = (SegmentId(0), store.scrub_end());
    while let Some(scrubbed) = now(store.scrub(from, end)).unwrap() {
        let there = expected.iter().filter(|(segment, _)| *segment == scrubbed.segment).count();
        assert_eq!(scrubbed.findings, there as u64);
        assert_eq!(scrubbed.listed.len(), there.min(SCRUB_LISTED_MAX));
        found.extend(scrubbed.listed.iter().filter_map(|finding| match finding.rot {
            Rot::Chunk(digest) => Some((finding.segment, digest)),
            _ => None,
        }));
        from = SegmentId(scrubbed.segment.0 + 1);
    }
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    // What is healed is no finding any more, though the rotten copy lies there still.
    (0..CHUNKS).step_by(3).for_each(|n| replace(&store, n));
    now(store.flush()).unwrap();
    let (_, _, findings) = scrub(&store);
    assert_eq!(findings, []);
}

#[test]
fn a_file_that_is_gone_is_one_finding() {
    let (media, store) = filled();
    let first = now(store.locate(&name(0))).unwrap().unwrap().segment();
    media.remove(&segment_path(first)).unwrap();
    let (bytes, _, findings) = scrub(&store);
    assert_eq!(findings, [Finding { segment: first, rot: Rot::File }]);
    assert_eq!(bytes, store.stats().segment_bytes, "it counts as looked at");
}

#[test]
fn a_device_that_fails_for_a_moment_has_lost_nothing() {
    let (media, store) = filled();
    for nth in 1..8 {
        media.fail_nth(Some(Operation::Read), nth, Fault::Fail(Cause::Device(5)));
        let (_, records, findings) = scrub(&store);
        assert_eq!((records, findings), (CHUNKS, vec![]), "read {nth}");
        media.heal();
    }
}
