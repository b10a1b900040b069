//! A chunk store with a great many small chunks on a real disk, for the cost of its index.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use metropod_dedupe::{Compression, Digest, Domain, Payload, Store, StoreConfig, pack};
use metropod_journal::media::Io;
use metropod_journal::media::real::RealMedia;

use crate::filters::key;
use crate::park::block_on;

const ARRAY: [u8; 16] = [0xe4; 16];
/// Content of every chunk: a record of 64 bytes. The store does not compute digests of what it is given.
const CONTENT: [u8; 16] = [0x5a; 16];
/// Chunks between two destages.
const BATCH: u64 = 1 << 15;
/// Chunks after which a store of real ones, of 2 KiB, would sync: the recent table does not grow beyond its bound.
const UNSYNCED: u64 = 1 << 15;
/// Chunks between two flushes.
const FLUSH: u64 = 1 << 20;

/// The name of chunk `number`.
pub fn name(number: u64) -> Digest {
    let mut digest = Digest::ZERO;
    for (bytes, word) in digest.0.chunks_exact_mut(8).zip(key(number)) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    digest
}

/// An empty store in `directory`, which must exist.
pub fn create(directory: &Path) -> io::Result<Store> {
    let media = RealMedia::open(directory).map_err(io::Error::other)?;
    let io = Io::inline(Arc::new(media));
    let unsynced_bytes_max = UNSYNCED * CONTENT.len() as u64;
    let config = StoreConfig { unsynced_bytes_max, ..StoreConfig::new(ARRAY) };
    block_on(Store::open(io, config, None)).map_err(io::Error::other)
}

/// Stores the chunks of these numbers, durably.
pub fn store(store: &Store, numbers: std::ops::Range<u64>) -> io::Result<()> {
    let payload: Payload = pack(&CONTENT, Compression::Never);
    for number in numbers.clone() {
        store.stage(Domain::Data, name(number), payload.clone());
        if number % BATCH == BATCH - 1 {
            block_on(store.destage()).map_err(io::Error::other)?;
        }
        if number % FLUSH == FLUSH - 1 {
            flush(store)?;
        }
    }
    flush(store)
}

/// Makes everything durable.
pub fn flush(store: &Store) -> io::Result<()> {
    let state: Bytes = block_on(store.flush()).map_err(io::Error::other)?;
    store.committed(&state);
    Ok(())
}
