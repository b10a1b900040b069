//! The writing end on healthy media: group commit, order, segments, budget, poison.

mod common;

use bytes::Bytes;
use common::{SEGMENT_BYTES, block_on, config, drain, io, open_journal, random_record, write};
use metropod_journal::media::sim::{Fault, Operation, SimMedia, SplitMix};
use metropod_journal::media::{Cause, DIRECT_ALIGN_BYTES, Doing, MediaError};
use metropod_journal::{FRAME_BYTES_MAX, Lsn, RECORD_BYTES_MAX, Record, StreamId};

const FAILED: MediaError = MediaError { doing: Doing::Write, cause: Cause::Device(5) };

fn record(length: usize) -> Record {
    let body = Bytes::from(vec![7; length]);
    Record { stream: StreamId([1; 16]), index: length as u64, body, attachment: Bytes::new() }
}

#[test]
fn one_small_record_is_one_block_and_all_queued_records_are_one_append() {
    let media = SimMedia::new();
    let (mut writer, _) = open_journal(&media, config(1)).unwrap();
    assert!(writer.next_append().is_none(), "nothing is queued");
    writer.push(record(2112));
    let append = writer.next_append().unwrap();
    assert_eq!(append.data.len(), 4096);
    assert!(append.data.as_ptr().addr().is_multiple_of(DIRECT_ALIGN_BYTES));
    for _ in 0..5 {
        writer.push(record(1000));
    }
    assert!(writer.next_append().is_none(), "one append under way at a time");
    write(&media, &append).unwrap();
    assert_eq!(writer.completed(append.id, Ok(())), Ok(Lsn(1)));
    let append = writer.next_append().unwrap();
    assert_eq!(append.data.len(), 8192);
    assert_eq!((writer.queued_bytes(), writer.queued_records()), (0, 0));
    write(&media, &append).unwrap();
    assert_eq!(writer.completed(append.id, Ok(())), Ok(Lsn(6)));
}

#[test]
fn frames_and_records_reach_their_limits_and_no_further() {
    let media = SimMedia::new();
    let mut config = config(1);
    config.segment_bytes = 32 << 20;
    config.budget_bytes = 128 << 20;
    let (mut writer, _) = open_journal(&media, config.clone()).unwrap();
    assert_eq!(writer.record_bytes_max(), RECORD_BYTES_MAX);
    for _ in 0..5 {
        writer.push(record(RECORD_BYTES_MAX));
    }
    for _ in 0..1000 {
        writer.push(record(2112));
    }
    let mut appends = 0;
    while let Some(append) = writer.next_append() {
        assert!(append.data.len() <= FRAME_BYTES_MAX);
        write(&media, &append).unwrap();
        writer.completed(append.id, Ok(())).unwrap();
        appends += 1;
    }
    assert_eq!(appends, 6, "one large record each but the last, then all the small ones");
    media.kill();
    let (_, visited) = open_journal(&media, config).unwrap();
    assert_eq!(visited.len(), 1005);
}

#[test]
fn appends_under_way_become_durable_in_order_whatever_order_they_complete_in() {
    let media = SimMedia::new();
    let mut config = config(1);
    config.frames_in_flight = 3;
    let (mut writer, _) = open_journal(&media, config).unwrap();
    let appends: Vec<_> = (0..3)
        .map(|_| {
            writer.push(record(10));
            writer.next_append().unwrap()
        })
        .collect();
    writer.push(record(10));
    assert!(writer.next_append().is_none());
    assert_eq!(writer.completed(appends[2].id, Ok(())), Ok(Lsn(0)));
    assert_eq!(writer.completed(appends[0].id, Ok(())), Ok(Lsn(1)));
    assert_eq!(writer.completed(appends[1].id, Ok(())), Ok(Lsn(3)));
}

#[test]
fn a_failed_append_stops_the_journal_for_good() {
    let media = SimMedia::new();
    let mut config = config(1);
    config.frames_in_flight = 2;
    let (mut writer, _) = open_journal(&media, config).unwrap();
    writer.push(record(10));
    let first = writer.next_append().unwrap();
    writer.push(record(10));
    let second = writer.next_append().unwrap();
    assert_eq!(writer.completed(first.id, Err(FAILED)).unwrap_err().source, FAILED);
    assert_eq!(writer.completed(second.id, Ok(())).unwrap_err().source, FAILED);
    for _ in 0..1000 {
        writer.push(record(1000));
    }
    assert_eq!(writer.queued_bytes(), 0, "nothing piles up");
    writer.push_closing();
    assert!(writer.next_append().is_none() && !writer.wants_segment());
    assert_eq!(writer.durable(), Lsn(0));
}

#[test]
fn without_a_segment_appends_wait_until_a_trim_has_freed_one() {
    let media = SimMedia::new();
    let (mut writer, _) = open_journal(&media, config(1)).unwrap();
    let mut pushed = 0;
    while writer.queued_bytes() == 0 {
        pushed = writer.push(record(3000)).0;
        drain(&media, &mut writer);
    }
    assert!(!writer.wants_segment(), "the budget is used up");
    assert_eq!(writer.used_bytes(), writer.budget_bytes());
    assert_eq!(writer.durable(), Lsn(pushed - 1));
    writer.trim(Lsn(6));
    assert!(!writer.wants_segment(), "the first segment holds six records");
    writer.trim(Lsn(7));
    assert_eq!(writer.oldest(), Lsn(7));
    assert!(writer.wants_segment() && writer.next_append().is_none());
    let created = media.counters().count(Operation::Create);
    drain(&media, &mut writer);
    assert_eq!(writer.durable(), Lsn(pushed));
    assert_eq!(media.counters().count(Operation::Create), created, "the file was recycled");
    assert_eq!(media.used_bytes(), writer.budget_bytes());
}

#[test]
fn a_journal_turned_over_many_times_stays_within_its_budget() {
    let media = SimMedia::new();
    let (mut writer, _) = open_journal(&media, config(1)).unwrap();
    let mut random = SplitMix::new(5);
    let mut log = Vec::new();
    for round in 0..1000 {
        log.push(random_record(&mut random));
        let lsn = writer.push(log[round].clone());
        drain(&media, &mut writer);
        assert_eq!(writer.durable(), lsn);
        writer.trim(Lsn(lsn.0.saturating_sub(3)));
    }
    assert!(media.used_bytes() <= writer.budget_bytes());
    assert!(media.counters().bytes_written > 20 * writer.budget_bytes());
    let mut config = config(2);
    config.needed_from = Lsn(997);
    media.crash(1);
    let (writer, visited) = open_journal(&media, config).unwrap();
    assert!(visited.iter().map(|(_, record)| record).eq(&log[996..]));
    assert!(writer.recovery().bytes_read < 30 * SEGMENT_BYTES);
}

#[test]
fn a_segment_that_could_not_be_prepared_is_prepared_again_from_the_same_recipe() {
    let media = SimMedia::new();
    let (mut writer, _) = open_journal(&media, config(1)).unwrap();
    let recipe = writer.segment_recipe();
    assert!(!writer.wants_segment(), "one at a time");
    for nth in 2..20 {
        media.fail_nth(None, nth, Fault::Fail(Cause::NoSpace));
        match block_on(recipe.prepare(&io(&media))) {
            Err(error) => assert_eq!(error.source.cause, Cause::NoSpace),
            Ok(spare) => {
                assert_eq!(nth, 9, "each of the eight steps was made to fail");
                media.heal();
                writer.add_spare(spare);
                for _ in 0..9 {
                    writer.push(record(3000));
                    drain(&media, &mut writer);
                }
                media.crash(4);
                assert_eq!(open_journal(&media, config(2)).unwrap().1.len(), 9);
                return;
            }
        }
    }
    panic!("a preparation takes fewer than twenty effects");
}

#[test]
fn restarts_that_write_nothing_take_no_space_even_in_a_full_journal() {
    let media = SimMedia::new();
    let (mut writer, _) = open_journal(&media, config(1)).unwrap();
    while writer.queued_bytes() == 0 {
        writer.push(record(3000));
        drain(&media, &mut writer);
    }
    let durable = writer.durable();
    for life in 0..50 {
        media.crash(life);
        let (mut writer, _) = open_journal(&media, config(life)).unwrap();
        assert_eq!(writer.durable(), durable);
        writer.push(record(3000));
        assert!(writer.next_append().is_none(), "no room is left for records");
        assert!(media.used_bytes() <= writer.budget_bytes() + SEGMENT_BYTES);
        if life == 49 {
            writer.trim(Lsn(30));
            drain(&media, &mut writer);
            assert_eq!(writer.durable(), Lsn(durable.0 + 1));
        }
    }
}
