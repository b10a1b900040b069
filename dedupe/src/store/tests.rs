//! Claims about the store on quiet media.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use metropod_journal::media::Io;
use metropod_journal::media::sim::SimMedia;

use super::*;
use crate::{Compression, digest, pack};

pub(super) const ARRAY: [u8; 16] = *b"an array of 16 B";

pub(super) fn small() -> StoreConfig {
    StoreConfig {
        segment_bytes: SEGMENT_BYTES_MIN,
        write_bytes: 16 << 10,
        recent_entries_max: 40,
        unsynced_bytes_max: 256 << 10,
        cached_pages_max: 2,
        open_segments_max: 2,
        ..StoreConfig::new(ARRAY)
    }
}

/// Runs a flow on media that answer at once.
pub(super) fn now<F: Future>(flow: F) -> F::Output {
    match pin!(flow).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("inline media answer at once"),
    }
}

pub(super) fn io(media: &SimMedia) -> Io {
    Io::inline(Arc::new(media.clone()))
}

pub(super) fn open(media: &SimMedia, state: Option<&[u8]>) -> Store {
    now(Store::open(io(media), small(), state)).unwrap()
}

/// Content number `n`: of varying length and compressibility.
pub(super) fn content(domain: Domain, n: u64) -> Vec<u8> {
    let length = match domain {
        Domain::Data => 4096,
        _ => 100 + (n as usize * 37) % 9000,
    };
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(&n.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes[..length / (1 + n as usize % 4)]);
    bytes
}

pub(super) fn domain(n: u64) -> Domain {
    if n % 5 == 4 { Domain::Node { level: (n % 3) as u8 } } else { Domain::Data }
}

pub(super) fn stage(store: &Store, n: u64) -> Digest {
    let (domain, content) = (domain(n), content(domain(n), n));
    let name = digest(domain, &content);
    store.stage(domain, name, pack(&content, Compression::WhenItPays));
    name
}

pub(super) fn stage_all(store: &Store, numbers: std::ops::Range<u64>) {
    for n in numbers {
        stage(store, n);
    }
}

pub(super) fn check(store: &Store, n: u64) {
    let (domain, content) = (domain(n), content(domain(n), n));
    let name = digest(domain, &content);
    assert_eq!(now(store.get(domain, &name, None)).unwrap(), content, "chunk {n}");
}

#[test]
fn what_was_flushed_is_there_after_reopening_and_nothing_else() {
    let media = SimMedia::new();
    let mut state = None;
    for round in 0..20u64 {
        let store = open(&media, state.as_deref());
        assert_eq!(store.stats().chunks, round * 100);
        (0..round * 100).for_each(|n| check(&store, n));
        stage_all(&store, round * 100..round * 100 + 100);
        let kept = now(store.flush()).unwrap();
        store.committed(&kept);
        (0..round * 100 + 100).for_each(|n| check(&store, n));
        stage_all(&store, 10_000..10_100);
        now(store.destage()).unwrap();
        state = Some(kept);
    }
    let store = open(&media, state.as_deref());
    let name = digest(domain(10_001), &content(domain(10_001), 10_001));
    assert_eq!(now(store.get(domain(10_001), &name, None)), Err(ReadError::Missing { digest: name }));
    assert!(store.stats().runs <= 10);
    assert_eq!(store.stats().damaged, 0);
}
