//! What the claims about the store share: contents by number, small stores, flows that are run by hand.

#![allow(dead_code)]

use std::future::Future;
use std::ops::Range;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use metropod_dedupe::{
    Compression, Digest, Domain, SEGMENT_BYTES_MIN, Store, StoreConfig, StoreStats, digest, pack,
};
use metropod_journal::media::sim::{SimMedia, SplitMix};
use metropod_journal::media::{Completion, Io, IoQueue, IoReply, IoRequest};

pub const ARRAY: [u8; 16] = *b"an array of 16 B";

/// Sizes at which a few hundred chunks fill segments, spill the table and merge runs.
pub fn small() -> StoreConfig {
    StoreConfig {
        segment_bytes: SEGMENT_BYTES_MIN,
        write_bytes: 16 << 10,
        recent_entries_max: 20,
        unsynced_bytes_max: 64 << 10,
        cached_pages_max: 2,
        hints_max: 64,
        open_segments_max: 2,
        ..StoreConfig::new(ARRAY)
    }
}

/// Runs a flow on media that answer at once.
pub fn now<F: Future>(flow: F) -> F::Output {
    match pin!(flow).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("inline media answer at once"),
    }
}

pub fn io(media: &SimMedia) -> Io {
    Io::inline(Arc::new(media.clone()))
}

pub fn open(media: &SimMedia, state: Option<&[u8]>) -> Store {
    now(Store::open(io(media), small(), state)).expect("the media is healthy")
}

/// Every fifth chunk is a node.
pub fn domain(n: u64) -> Domain {
    if n % 5 == 4 { Domain::Node { level: (n % 3) as u8 } } else { Domain::Data }
}

/// Content number `n`: of varying compressibility, nodes also of varying length.
pub fn content(n: u64) -> Vec<u8> {
    let length = match domain(n) {
        Domain::Data => 4096,
        _ => 100 + (n as usize * 37) % 9000,
    };
    let mut bytes = vec![0; length];
    let noise = length / (1 + n as usize % 8);
    blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(&mut bytes[..noise]);
    bytes
}

pub fn name(n: u64) -> Digest {
    digest(domain(n), &content(n))
}

pub fn stage(store: &Store, n: u64) {
    let content = content(n);
    store.stage(domain(n), digest(domain(n), &content), pack(&content, Compression::WhenItPays));
}

pub fn replace(store: &Store, n: u64) {
    let content = content(n);
    store.replace(domain(n), digest(domain(n), &content), pack(&content, Compression::WhenItPays));
}

pub fn stage_all(store: &Store, numbers: Range<u64>) {
    numbers.for_each(|n| stage(store, n));
}

/// Chunk `n` is there and is itself.
pub fn check(store: &Store, n: u64) {
    let content = content(n);
    match now(store.get(domain(n), &digest(domain(n), &content), None)) {
        Ok(read) => assert_eq!(read, content, "chunk {n}"),
        Err(error) => panic!("chunk {n}: {error:?}"),
    }
}

pub fn check_all(store: &Store, numbers: impl IntoIterator<Item = u64>) {
    numbers.into_iter().for_each(|n| check(store, n));
}

/// Stats without what depends on what happens to be in memory.
pub fn stored(stats: StoreStats) -> (u64, u64, u64) {
    (stats.chunks, stats.logical_bytes, stats.stored_bytes)
}

/// Seeds of a test, more of them where `METROPOD_SEEDS` says so at compile time.
pub fn seeds(default: u64) -> Range<u64> {
    let count = option_env!("METROPOD_SEEDS").and_then(|count| count.parse().ok()).unwrap_or(default);
    0..count
}

/// Keeps requests until the test answers them.
#[derive(Clone, Default)]
pub struct Later(Arc<Mutex<Vec<(IoRequest, Completion)>>>);

impl IoQueue for Later {
    fn submit(&self, request: IoRequest, completion: Completion) {
        if matches!(request, IoRequest::WillNeed { .. }) {
            return completion.complete(Ok(IoReply::Done));
        }
        self.0.lock().expect("no flow panicked").push((request, completion));
    }
}

impl Later {
    /// Answers one waiting request, any of them; `false` if there is none.
    pub fn answer(&self, media: &SimMedia, random: &mut SplitMix) -> bool {
        let mut waiting = self.0.lock().expect("no flow panicked");
        if waiting.is_empty() {
            return false;
        }
        let index = random.below(waiting.len() as u64) as usize;
        let (request, completion) = waiting.swap_remove(index);
        drop(waiting);
        completion.complete(request.run(media));
        true
    }
}
