//! Journal: durable appends on a real disk, one record and groups.
//!
//! Every append must make all its records durable; at the end the journal is opened again and each record compared.
#![allow(clippy::unwrap_used, reason = "a benchmark may fail anywhere")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use metropod_benches::park::block_on;
use metropod_journal::media::real::RealMedia;
use metropod_journal::media::{Durability, Io, Media};
use metropod_journal::{JournalConfig, Lsn, Record, StreamId, Writer, open};

const ARRAY: [u8; 16] = [1; 16];
/// A block of 4 KiB at the reference ratio, with its descriptor.
const RECORD_BYTES: usize = 2176;

struct Journal {
    media: Arc<RealMedia>,
    io: Io,
    writer: Writer,
}

impl Journal {
    fn open(directory: &Path, needed_from: Lsn, visit: &mut (dyn FnMut(Lsn, Record) + Send)) -> Journal {
        let media = Arc::new(RealMedia::open(directory).unwrap());
        let io = Io::inline(media.clone());
        let config = JournalConfig { budget_bytes: 128 << 20, needed_from, ..JournalConfig::new(ARRAY, 7) };
        let writer = block_on(open(&io, "journal", config, visit)).unwrap();
        Journal { media, io, writer }
    }

    fn append(&mut self, records: u64) {
        let mut last = Lsn(0);
        for _ in 0..records {
            last = self.writer.push(record(self.writer.next_lsn()));
        }
        while self.writer.durable() < last {
            if self.writer.wants_segment() {
                let spare = block_on(self.writer.segment_recipe().prepare(&self.io)).unwrap();
                self.writer.add_spare(spare);
            }
            let append = self.writer.next_append().unwrap();
            let written = self.media.write(append.file, append.offset, &[&append.data], Durability::Durable);
            self.writer.completed(append.id, written).unwrap();
        }
        assert_eq!(self.writer.durable(), last);
        self.writer.trim(Lsn(last.0.saturating_sub(1000).max(1)));
    }
}

fn record(lsn: Lsn) -> Record {
    let body = Bytes::from(vec![lsn.0 as u8; RECORD_BYTES]);
    Record { stream: StreamId(ARRAY), index: lsn.0, body, attachment: Bytes::new() }
}

fn main() {
    let mut criterion =
        Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2)).configure_from_args();
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut journal = Journal::open(directory.path(), Lsn(1), &mut |_, _| {});
    let mut group = criterion.benchmark_group("journal append");
    for records in [1, 8, 32, 128] {
        group.throughput(Throughput::Elements(records));
        group.bench_function(BenchmarkId::new("records", records), |bencher| {
            bencher.iter(|| journal.append(black_box(records)));
        });
    }
    group.finish();

    let (oldest, durable) = (journal.writer.oldest(), journal.writer.durable());
    drop(journal);
    let mut next = oldest.0;
    Journal::open(directory.path(), oldest, &mut |lsn, found| {
        assert_eq!((lsn, found), (Lsn(next), record(Lsn(next))));
        next += 1;
    });
    assert_eq!(next, durable.0 + 1);
    criterion.final_summary();
}
