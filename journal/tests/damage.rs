//! Rot, missing and foreign files: reported with the file and what to do, never repaired by forgetting.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use bytes::Bytes;
use common::{ARRAY, DIR, SEGMENT_BYTES, config, drain, open_journal, random_record, write};
use metropod_journal::media::sim::{SimMedia, SplitMix};
use metropod_journal::media::{Create, Durability, Media, Open};
use metropod_journal::{Lsn, OpenError, Record, SegmentFile, StreamId, Writer};

/// A journal with `records` records in frames of their own, closed, in several segments.
fn journal(records: u64) -> (SimMedia, Writer, Vec<Record>) {
    let media = SimMedia::new();
    let (mut writer, _) = open_journal(&media, config(1)).unwrap();
    let mut random = SplitMix::new(records);
    let log: Vec<Record> = (0..records).map(|_| random_record(&mut random)).collect();
    for record in &log {
        writer.push(record.clone());
        drain(&media, &mut writer);
    }
    writer.push_closing();
    drain(&media, &mut writer);
    assert_eq!(writer.durable(), Lsn(records));
    media.kill();
    (media, writer, log)
}

fn path(file: SegmentFile) -> String {
    format!("{DIR}/{file}")
}

fn overwrite(media: &SimMedia, path: &str, offset: u64, data: &[u8]) {
    let file = media.open(path, Open { create: Create::IfMissing, direct: false }).unwrap();
    media.write(file, offset, &[data], Durability::Durable).unwrap();
    media.sync_dir(DIR).unwrap();
    media.close(file);
}

fn content(media: &SimMedia, path: &str) -> Vec<u8> {
    let file = media.open(path, Open { create: Create::Never, direct: false }).unwrap();
    let mut data = vec![0; media.len(file).unwrap() as usize];
    media.read(file, 0, &mut data).unwrap();
    media.close(file);
    data
}

fn refused(media: &SimMedia) -> OpenError {
    let before = media.effects();
    let error = open_journal(media, config(2)).err().expect("refused");
    assert_eq!(media.effects(), before, "a refused open has changed nothing");
    error
}

#[test]
fn a_flipped_bit_anywhere_is_reported_or_harmless_and_never_truncates() {
    let (media, _, log) = journal(14);
    let mut random = SplitMix::new(1);
    let files = media.list(DIR).unwrap();
    let (mut reported, mut harmless) = (0, 0);
    for _ in 0..3000 {
        let copy = media.deep_copy();
        let name = &files[random.below(files.len() as u64) as usize];
        let offset = random.below(SEGMENT_BYTES);
        copy.rot(&format!("{DIR}/{name}"), offset, random.below(8) as u8).unwrap();
        match open_journal(&copy, config(2)) {
            Ok((_, visited)) => {
                assert!(visited.into_iter().map(|(_, record)| record).eq(log.iter().cloned()));
                harmless += 1;
            }
            Err(OpenError::DamagedBelowTail { at, file, offset: place, durable_to }) => {
                assert_eq!(file.to_string(), *name);
                assert!(place <= offset && at.0 <= 14 && durable_to.0 == 14, "{at} {durable_to}");
                reported += 1;
            }
            Err(OpenError::DamagedHeader { file } | OpenError::NotASegment { file }) => {
                assert_eq!(file.to_string(), *name);
                reported += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(reported > 500 && harmless > 100, "{reported} {harmless}");
}

#[test]
fn rot_in_the_last_frame_is_reported_once_a_closing_frame_vouches_for_it() {
    for closing in [false, true] {
        let media = SimMedia::new();
        let (mut writer, _) = open_journal(&media, config(1)).unwrap();
        writer.push(random_record(&mut SplitMix::new(3)));
        drain(&media, &mut writer);
        if closing {
            writer.push_closing();
            drain(&media, &mut writer);
            writer.push_closing();
            assert!(writer.next_append().is_none(), "one closing frame is enough");
        }
        media.kill();
        // Header block, opening frame, then the record's frame.
        media.rot(&path(SegmentFile(1)), 2 * 4096 + 100, 0).unwrap();
        let opened = open_journal(&media, config(2));
        if closing {
            let expected = OpenError::DamagedBelowTail {
                at: Lsn(1),
                file: SegmentFile(1),
                offset: 2 * 4096,
                durable_to: Lsn(1),
            };
            assert_eq!(opened.err(), Some(expected));
        } else {
            assert!(opened.unwrap().1.is_empty());
        }
    }
}

#[test]
fn damage_in_records_that_are_no_longer_needed_is_no_damage() {
    let (media, writer, log) = journal(14);
    media.rot(&path(SegmentFile(1)), 4096 + 8, 0).unwrap();
    assert!(matches!(refused(&media), OpenError::DamagedBelowTail { .. }));
    let mut config = config(2);
    config.needed_from = Lsn(14);
    let (again, visited) = open_journal(&media, config).unwrap();
    assert_eq!(visited, [(Lsn(14), log[13].clone())]);
    assert!(again.recovery().segments < 3 && again.oldest() <= Lsn(14));
    assert_eq!(again.next_lsn(), writer.next_lsn());
}

#[test]
fn missing_foreign_copied_cut_and_unknown_files_are_told_apart() {
    let (media, ..) = journal(14);
    assert!(media.list(DIR).unwrap().len() >= 4);

    let copy = media.deep_copy();
    copy.remove(&path(SegmentFile(2))).unwrap();
    assert_eq!(refused(&copy), OpenError::MissingSegment { number: 2, next: SegmentFile(3) });

    let copy = media.deep_copy();
    overwrite(&copy, &path(SegmentFile(9)), 0, &content(&media, &path(SegmentFile(2))));
    let (first, second) = (SegmentFile(2), SegmentFile(9));
    assert_eq!(refused(&copy), OpenError::DuplicateSegment { number: 2, first, second });

    let copy = media.deep_copy();
    overwrite(&copy, &path(SegmentFile(3)), SEGMENT_BYTES, &[0; 4096]);
    let (found, expected) = (SEGMENT_BYTES + 4096, SEGMENT_BYTES);
    assert_eq!(refused(&copy), OpenError::WrongLength { file: SegmentFile(3), found, expected });

    let copy = media.deep_copy();
    overwrite(&copy, &path(SegmentFile(9)), 0, b"short");
    assert!(matches!(refused(&copy), OpenError::WrongLength { found: 5, .. }));

    let copy = media.deep_copy();
    overwrite(&copy, &path(SegmentFile(3)), 0, b"MPOD no segment");
    assert_eq!(refused(&copy), OpenError::NotASegment { file: SegmentFile(3) });

    let copy = media.deep_copy();
    let mut header = content(&media, &path(SegmentFile(3)))[..64].to_vec();
    header[8] = 2;
    let crc = crc32c::crc32c(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    overwrite(&copy, &path(SegmentFile(3)), 0, &header);
    assert_eq!(refused(&copy), OpenError::UnknownVersion { file: SegmentFile(3), version: 2, known: 1 });

    let mut foreign = config(2);
    foreign.array = [9; 16];
    let error = open_journal(&media, foreign).err().unwrap();
    assert_eq!(error, OpenError::ForeignArray { file: SegmentFile(1), found: ARRAY, expected: [9; 16] });
    assert!(error.to_string().contains("a5a5a5a5"));
}

#[test]
fn a_journal_that_does_not_reach_what_the_manifest_needs_is_refused() {
    let (media, ..) = journal(14);
    let needing = |lsn| {
        let mut config = config(2);
        config.needed_from = Lsn(lsn);
        config
    };
    let error = open_journal(&media, needing(16)).err().unwrap();
    assert_eq!(error, OpenError::EndsBeforeNeeded { last: Lsn(14), needed: Lsn(16) });
    let error = open_journal(&SimMedia::new(), needing(2)).err().unwrap();
    assert_eq!(error, OpenError::EndsBeforeNeeded { last: Lsn(0), needed: Lsn(2) });
    media.remove(&path(SegmentFile(1))).unwrap();
    let error = open_journal(&media, needing(1)).err().unwrap();
    assert!(matches!(error, OpenError::BeginsAfterNeeded { needed: Lsn(1), .. }), "{error}");
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let mut small = config(1);
    small.budget_bytes = 2 * SEGMENT_BYTES;
    let error = open_journal(&SimMedia::new(), small).err().unwrap();
    assert!(
        matches!(error, OpenError::BudgetTooSmall { needed_bytes, .. } if needed_bytes == 3 * SEGMENT_BYTES)
    );
    for segment_bytes in [0, 8192, 5000, 65537] {
        let mut odd = config(1);
        odd.segment_bytes = segment_bytes;
        let error = open_journal(&SimMedia::new(), odd).err().unwrap();
        assert_eq!(error, OpenError::SegmentLength { segment_bytes });
    }
    // An existing journal keeps the length it was made with.
    let (media, ..) = journal(5);
    let mut larger = config(2);
    larger.segment_bytes = 2 * SEGMENT_BYTES;
    assert_eq!(open_journal(&media, larger).unwrap().1.len(), 5);
}

#[test]
fn frames_that_a_host_writes_as_data_are_not_taken_for_frames() {
    // With the salt the forgery would pass; hosts do not know it.
    for (salt, passes) in [(0u64, false), (1, true)] {
        let media = SimMedia::new();
        let (mut writer, _) = open_journal(&media, config(1)).unwrap();
        let small =
            Record { stream: StreamId::default(), index: 0, body: Bytes::new(), attachment: Bytes::new() };
        writer.push(small.clone());
        drain(&media, &mut writer);
        media.kill();
        let mut forged = content(&media, &path(SegmentFile(1)))[4096..8192].to_vec();
        forged[16..24].copy_from_slice(&salt.to_le_bytes());
        forged[24..32].copy_from_slice(&1001u64.to_le_bytes()); // frame
        forged[48..56].copy_from_slice(&1000u64.to_le_bytes()); // durable_frame
        let crc = crc32c::crc32c(&forged[..92]);
        forged[92..96].copy_from_slice(&crc.to_le_bytes());
        // The data puts the forgery on a block boundary of an append that a crash tears.
        let body = Bytes::from([vec![0; 4096 - 96 - 32], forged].concat());
        let (mut writer, _) = open_journal(&media, config(2)).unwrap();
        writer.push(Record { body, ..small.clone() });
        let append = writer.next_append().unwrap();
        write(&media, &append).unwrap();
        media.kill();
        media.rot(&path(SegmentFile(1)), append.offset, 0).unwrap();
        match open_journal(&media, config(3)) {
            Ok((_, visited)) => assert!(!passes && visited == [(Lsn(1), small)]),
            Err(error) => assert!(passes, "{error}"),
        }
    }
}
