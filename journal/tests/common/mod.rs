//! Helpers of the journal's tests.
#![allow(dead_code)]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use metropod_journal::media::sim::{SimMedia, SplitMix};
use metropod_journal::media::{Durability, Io, Media};
use metropod_journal::{Append, JournalConfig, Lsn, OpenError, Record, StreamId, Writer, open};

pub const DIR: &str = "journal";
pub const ARRAY: [u8; 16] = [0xA5; 16];
/// A header block and seven blocks of frames.
pub const SEGMENT_BYTES: u64 = 8 * 4096;

/// Runs a future whose requests are answered at once.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("an inline queue answers at once"),
    }
}

pub fn config(salt: u64) -> JournalConfig {
    let mut config = JournalConfig::new(ARRAY, salt);
    config.segment_bytes = SEGMENT_BYTES;
    config.budget_bytes = 6 * SEGMENT_BYTES;
    config
}

pub fn io(media: &SimMedia) -> Io {
    Io::inline(Arc::new(media.clone()))
}

pub type Visited = Vec<(Lsn, Record)>;

pub fn open_journal(media: &SimMedia, config: JournalConfig) -> Result<(Writer, Visited), OpenError> {
    let mut visited = Vec::new();
    let writer = block_on(open(&io(media), DIR, config, &mut |lsn, record| visited.push((lsn, record))))?;
    Ok((writer, visited))
}

pub fn write(media: &dyn Media, append: &Append) -> Result<(), metropod_journal::media::MediaError> {
    media.write(append.file, append.offset, &[&append.data], Durability::Durable)
}

/// Makes segments ready and writes until nothing is queued or no segment can be had.
pub fn drain(media: &SimMedia, writer: &mut Writer) {
    loop {
        if writer.wants_segment() {
            let recipe = writer.segment_recipe();
            let spare = block_on(recipe.prepare(&io(media))).expect("healthy media");
            writer.add_spare(spare);
        }
        let Some(append) = writer.next_append() else { break };
        let result = write(media, &append);
        writer.completed(append.id, result).expect("healthy media");
    }
}

pub fn random_bytes(random: &mut SplitMix, length: u64) -> Bytes {
    (0..length).map(|_| random.next_u64() as u8).collect()
}

pub fn random_record(random: &mut SplitMix) -> Record {
    let mut stream = [0; 16];
    stream[0] = random.below(3) as u8;
    let body = random.below(120);
    let attachment = match random.below(8) {
        0 => 0,
        1 => random.below(9000),
        _ => random.below(2500),
    };
    Record {
        stream: StreamId(stream),
        index: random.next_u64(),
        body: random_bytes(random, body),
        attachment: random_bytes(random, attachment),
    }
}
