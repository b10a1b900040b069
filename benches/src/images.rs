//! Whole images into a volume and out of it, by runs of blocks that a file holds.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;
use metropod::Volume;

use crate::contents::{self, BLOCK_BYTES};

/// Blocks written or read at once.
const STRIDE_BLOCKS: usize = 256;
/// Threads for that.
const IMAGE_THREADS: usize = 4;

/// Writes runs of blocks as a host does: single blocks at random, long runs in strides, zero strides as trims.
pub fn apply(volume: &Volume, path: &Path) -> io::Result<()> {
    let runs = read_runs(path)?;
    let mut at = 0;
    while at < runs.len() {
        let singles = runs[at..].iter().take_while(|(_, contents)| contents.len() == 1).count();
        if singles > 0 {
            in_parallel(&runs[at..at + singles], |(block, contents)| write_run(volume, *block, contents))?;
            at += singles;
        } else {
            let (first, contents) = &runs[at];
            let strides: Vec<(u64, &[u64])> = contents
                .chunks(STRIDE_BLOCKS)
                .enumerate()
                .map(|(index, contents)| (first + (index * STRIDE_BLOCKS) as u64, contents))
                .collect();
            in_parallel(&strides, |(block, contents)| write_run(volume, *block, contents))?;
            at += 1;
        }
    }
    Ok(())
}

fn write_run(volume: &Volume, block: u64, contents: &[u64]) -> io::Result<()> {
    let offset = block * BLOCK_BYTES as u64;
    if contents.iter().all(|content| *content == 0) {
        return volume
            .write_zeroes_blocking(offset, (contents.len() * BLOCK_BYTES) as u64)
            .map_err(io::Error::other);
    }
    volume.write_blocking(offset, &Bytes::from(expand(contents))).map_err(io::Error::other)
}

/// Compares a volume with runs of blocks; gives their number.
pub fn check_image(volume: &Volume, path: &Path) -> io::Result<u64> {
    let runs = read_runs(path)?;
    let strides: Vec<(u64, &[u64])> = runs
        .iter()
        .flat_map(|(first, contents)| {
            contents
                .chunks(STRIDE_BLOCKS)
                .enumerate()
                .map(move |(index, contents)| (first + (index * STRIDE_BLOCKS) as u64, contents))
        })
        .collect();
    in_parallel(&strides, |(block, contents)| {
        let length = (contents.len() * BLOCK_BYTES) as u64;
        let found = volume.read_blocking(block * BLOCK_BYTES as u64, length).map_err(io::Error::other)?;
        if found[..] == expand(contents)[..] {
            Ok(())
        } else {
            Err(io::Error::other(format!("the {} blocks from {block} differ", contents.len())))
        }
    })?;
    Ok(strides.iter().map(|(_, contents)| contents.len() as u64).sum())
}

/// BLAKE3 of all of a volume.
pub fn digest(volume: &Volume) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut offset = 0;
    while offset < volume.size_bytes() {
        let length = (volume.size_bytes() - offset).min((STRIDE_BLOCKS * BLOCK_BYTES) as u64);
        hasher.update(&volume.read_blocking(offset, length).map_err(io::Error::other)?);
        offset += length;
    }
    Ok(hasher.finalize().to_hex().to_string())
}

fn expand(contents: &[u64]) -> Vec<u8> {
    let mut bytes = vec![0; contents.len() * BLOCK_BYTES];
    for (content, block) in contents.iter().zip(bytes.chunks_exact_mut(BLOCK_BYTES)) {
        contents::fill(*content, block);
    }
    bytes
}

/// Does the work for every item, on a few threads.
pub fn in_parallel<T: Sync>(items: &[T], work: impl Fn(&T) -> io::Result<()> + Sync) -> io::Result<()> {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..IMAGE_THREADS)
            .map(|_| {
                scope.spawn(|| {
                    while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                        work(item)?;
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a writer does not panic"))
    })
}

/// Saves runs of blocks (first block, contents) for another process.
pub fn save_runs(path: &Path, runs: &[(u64, Vec<u64>)]) -> io::Result<()> {
    let mut bytes = Vec::new();
    for (first, contents) in runs {
        for word in [*first, contents.len() as u64].iter().chain(contents) {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
    }
    std::fs::write(path, bytes)
}

fn read_runs(path: &Path) -> io::Result<Vec<(u64, Vec<u64>)>> {
    let bytes = std::fs::read(path)?;
    let mut words = bytes
        .chunks_exact(8)
        .map(|word| u64::from_le_bytes(word.try_into().expect("a slice of eight bytes")));
    let mut runs = Vec::new();
    while let (Some(first), Some(count)) = (words.next(), words.next()) {
        runs.push((first, words.by_ref().take(count as usize).collect()));
    }
    Ok(runs)
}
