//! The plain peer of a read: `O_DIRECT` reads of a file that was written before, one thread per outstanding read.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use metropod_journal::media::AlignedBuf;
use rustix::fs::OFlags;

use crate::contents::{self, BLOCK_BYTES};

/// Bytes of a write while the file is made.
const STEP_BYTES: usize = 1 << 20;

/// A file of so many blocks, each with the content of its number + 1.
#[derive(Debug)]
pub struct PlainFile {
    file: File,
}

impl PlainFile {
    /// Writes the file.
    pub fn create(path: &Path, blocks: u64) -> io::Result<PlainFile> {
        let direct = OFlags::DIRECT.bits() as i32;
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(true).custom_flags(direct).open(path)?;
        let mut buffer = AlignedBuf::zeroed(STEP_BYTES);
        let step = (STEP_BYTES / BLOCK_BYTES) as u64;
        for first in (0..blocks).step_by(step as usize) {
            for (at, block) in buffer.as_mut_slice().chunks_exact_mut(BLOCK_BYTES).enumerate() {
                contents::fill(first + at as u64 + 1, block);
            }
            file.write_all_at(buffer.as_slice(), first * BLOCK_BYTES as u64)?;
        }
        file.sync_all()?;
        Ok(PlainFile { file })
    }

    /// Reads one block into `buffer`, which is aligned and of a block's length.
    pub fn read(&self, block: u64, buffer: &mut AlignedBuf) -> io::Result<()> {
        self.file.read_exact_at(buffer.as_mut_slice(), block * BLOCK_BYTES as u64)
    }
}
