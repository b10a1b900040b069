//! What the demo's hosts write: real files, copies of parts of them, zeroes, and noise.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::oracle::BLOCK_BYTES;

/// Where files are looked for, in this order; then comes this program itself.
const PLACES: [&str; 4] = ["/usr/share", "/usr/lib", "/usr/bin", "/usr"];
/// Files below this size are passed over.
const FILE_BYTES_MIN: u64 = 16 << 10;
/// Directories looked into at most.
const DIRECTORIES_MAX: usize = 20_000;

/// Real data, whole blocks.
#[derive(Debug)]
pub(super) struct Content {
    bytes: Vec<u8>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum ContentError {
    #[error("cannot read {path}: {source}; give another file with --image")]
    Image { path: PathBuf, source: io::Error },
    #[error("{path} holds less than one block; give a larger file with --image")]
    TooShort { path: PathBuf },
    #[error("no files were found on this machine; give one with --image")]
    Nothing,
}

impl Content {
    /// Up to `bytes_max` of `image`, or of files found on the machine.
    pub(super) fn gather(image: Option<&Path>, bytes_max: u64) -> Result<Content, ContentError> {
        let mut bytes = Vec::new();
        match image {
            Some(path) => {
                let read = File::open(path).and_then(|file| file.take(bytes_max).read_to_end(&mut bytes));
                read.map_err(|source| ContentError::Image { path: path.to_owned(), source })?;
                if bytes.len() < BLOCK_BYTES {
                    return Err(ContentError::TooShort { path: path.to_owned() });
                }
            }
            None => {
                for place in PLACES {
                    collect(Path::new(place), bytes_max, &mut bytes);
                }
                if let Ok(program) = std::env::current_exe() {
                    append(&program, bytes_max, &mut bytes);
                }
            }
        }
        bytes.truncate(bytes.len() / BLOCK_BYTES * BLOCK_BYTES);
        if bytes.is_empty() { Err(ContentError::Nothing) } else { Ok(Content { bytes }) }
    }

    /// Bytes from `offset` on, as many as `into` takes; starts again at the end.
    pub(super) fn copy(&self, offset: u64, into: &mut [u8]) {
        let mut at = (offset % self.bytes.len() as u64) as usize;
        let mut rest = into;
        while !rest.is_empty() {
            let count = rest.len().min(self.bytes.len() - at);
            let (head, tail) = rest.split_at_mut(count);
            head.copy_from_slice(&self.bytes[at..at + count]);
            (rest, at) = (tail, 0);
        }
    }

    /// One block as hosts write them, and which one is chosen by `dice`.
    pub(super) fn compose(&self, dice: &mut Dice, stamp: u64, into: &mut [u8]) {
        let place = dice.below(self.bytes.len() as u64 / BLOCK_BYTES as u64) * BLOCK_BYTES as u64;
        match dice.below(20) {
            // New, of the kind that is there already.
            0..9 => {
                self.copy(place, into);
                into[..8].copy_from_slice(&stamp.to_le_bytes());
            }
            // A copy of what is there.
            9..14 => self.copy(place, into),
            14..16 => into.fill(0),
            // New, and not compressible.
            _ => into
                .chunks_mut(8)
                .for_each(|word| word.copy_from_slice(&dice.next().to_le_bytes()[..word.len()])),
        }
    }
}

/// Appends files below `place` until there are `bytes_max`.
fn collect(place: &Path, bytes_max: u64, bytes: &mut Vec<u8>) {
    let mut directories = vec![place.to_owned()];
    let mut seen = 0;
    while let Some(directory) = directories.pop() {
        seen += 1;
        if seen > DIRECTORIES_MAX {
            return;
        }
        // What cannot be listed is passed over.
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            if bytes.len() as u64 >= bytes_max {
                return;
            }
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => directories.push(entry.path()),
                Ok(metadata) if metadata.is_file() && metadata.len() >= FILE_BYTES_MIN => {
                    append(&entry.path(), bytes_max, bytes);
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
}

fn append(path: &Path, bytes_max: u64, bytes: &mut Vec<u8>) {
    let room = bytes_max.saturating_sub(bytes.len() as u64);
    let before = bytes.len();
    let read = File::open(path).and_then(|file| file.take(room).read_to_end(bytes));
    // Half a file is as good as a whole one; files begin on blocks, as they do on file systems.
    let whole = bytes.len().next_multiple_of(BLOCK_BYTES).min(room as usize + before);
    bytes.resize(if read.is_ok() { whole } else { before }, 0);
}

/// Repeatable chance.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// Splitmix64.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not zero.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_repeated_where_it_is_too_short_for_the_volumes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        let data: Vec<u8> = (0..3 * BLOCK_BYTES + 5).map(|at| (at / BLOCK_BYTES) as u8 + 1).collect();
        std::fs::write(&path, data).unwrap();
        let content = Content::gather(Some(&path), 1 << 20).unwrap();
        let mut got = vec![0; 4 * BLOCK_BYTES];
        content.copy(BLOCK_BYTES as u64, &mut got);
        let firsts: Vec<u8> = got.iter().step_by(BLOCK_BYTES).copied().collect();
        assert_eq!(firsts, [2, 3, 1, 2]);
        std::fs::write(&path, b"short").unwrap();
        assert!(matches!(Content::gather(Some(&path), 1 << 20), Err(ContentError::TooShort { .. })));
    }
}
