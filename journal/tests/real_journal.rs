//! The journal on a real file system, with direct durable writes.

mod common;

use std::sync::Arc;

use common::{ARRAY, DIR, block_on, random_bytes, write};
use metropod_journal::media::real::RealMedia;
use metropod_journal::media::sim::SplitMix;
use metropod_journal::media::{Io, Media};
use metropod_journal::{JournalConfig, Lsn, Record, StreamId, Writer, open};

fn open_real(media: &Arc<RealMedia>, needed: u64) -> (Writer, Vec<(Lsn, Record)>) {
    let mut config = JournalConfig::new(ARRAY, 42);
    config.segment_bytes = 5 << 20;
    config.budget_bytes = 20 << 20;
    config.needed_from = Lsn(needed);
    let mut visited = Vec::new();
    let io = Io::inline(media.clone());
    let opened = block_on(open(&io, DIR, config, &mut |lsn, record| visited.push((lsn, record))));
    (opened.expect("a healthy journal"), visited)
}

#[test]
fn records_of_all_sizes_come_back_after_the_segments_have_been_recycled() {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut random = SplitMix::new(1);
    let mut log = Vec::new();
    let mut needed = 1;
    for life in 0..3 {
        let media = Arc::new(RealMedia::open(home.path()).unwrap());
        let io = Io::inline(media.clone());
        let (mut writer, visited) = open_real(&media, needed);
        assert!(visited.iter().map(|(_, record)| record).eq(&log[needed as usize - 1..]), "life {life}");
        for _ in 0..60 {
            for _ in 0..random.below(6) {
                let length = [100, 2000, 40_000, 1_100_000][random.below(4) as usize];
                let (body, attachment) = (random_bytes(&mut random, 64), random_bytes(&mut random, length));
                let record = Record { stream: StreamId([2; 16]), index: log.len() as u64, body, attachment };
                writer.push(record.clone());
                log.push(record);
            }
            loop {
                if writer.wants_segment() {
                    let spare = block_on(writer.segment_recipe().prepare(&io)).unwrap();
                    writer.add_spare(spare);
                }
                let Some(append) = writer.next_append() else { break };
                let result = write(media.as_ref(), &append);
                writer.completed(append.id, result).unwrap();
            }
            assert_eq!(writer.durable().0, log.len() as u64);
            needed = (log.len() as u64).saturating_sub(3).max(1);
            writer.trim(Lsn(needed));
        }
        assert!(media.list(DIR).unwrap().len() <= 4);
    }
    assert!(log.iter().map(Record::content_bytes).sum::<usize>() > 40 << 20);
}
