//! The plain peer of a durable write: 4 KiB appends to a prewritten file with `O_DIRECT | O_DSYNC`, as fio does them.
//!
//! - T1: every slot was written before the first append, so an append changes no metadata that a data sync must commit.
//! - T2: `verify` reads around the page cache: a figure whose bytes are not there is refused.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use metropod_journal::media::AlignedBuf;
use rustix::fs::OFlags;

use crate::clock::process_cpu_ns;
use crate::contents::{self, BLOCK_BYTES};

/// Slots of a tape: 64 MiB.
pub const TAPE_SLOTS: u64 = 16_384;
/// `O_DSYNC`; rustix's `OFlags::DSYNC` is `O_SYNC` on its Linux backend (decision 0001).
const O_DSYNC: i32 = 0o10_000;

/// A prewritten file.
#[derive(Debug)]
pub struct Tape {
    file: File,
    sequence: u64,
    buffer: AlignedBuf,
}

impl Tape {
    /// Makes the file and writes every slot once.
    pub fn create(path: &Path) -> io::Result<Tape> {
        let direct = OFlags::DIRECT.bits() as i32;
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).custom_flags(direct).open(path)?;
        let chunk = AlignedBuf::zeroed(1 << 20);
        for at in 0..TAPE_SLOTS * BLOCK_BYTES as u64 / chunk.len() as u64 {
            file.write_all_at(chunk.as_slice(), at * chunk.len() as u64)?;
        }
        file.sync_all()?;
        let file = OpenOptions::new().read(true).write(true).custom_flags(direct | O_DSYNC).open(path)?;
        Ok(Tape { file, sequence: 0, buffer: AlignedBuf::zeroed(BLOCK_BYTES) })
    }

    /// Appends `count` frames one after the other, reads them back; gives the time of each and the CPU time, in nanoseconds.
    pub fn run(&mut self, count: u64, think: Duration) -> io::Result<(Vec<u64>, u64)> {
        let mut latencies = Vec::with_capacity(count as usize);
        let cpu = process_cpu_ns();
        for _ in 0..count {
            self.prepare();
            if !think.is_zero() {
                thread::sleep(think);
            }
            let began = Instant::now();
            self.append()?;
            latencies.push(began.elapsed().as_nanos() as u64);
        }
        let cpu = process_cpu_ns() - cpu;
        self.verify(count)?;
        Ok((latencies, cpu))
    }

    /// Fills the next frame; not part of an append's time.
    pub fn prepare(&mut self) {
        self.sequence += 1;
        contents::fill(self.sequence, self.buffer.as_mut_slice());
    }

    /// Returns when the prepared frame is durable.
    pub fn append(&self) -> io::Result<()> {
        self.file.write_all_at(self.buffer.as_slice(), offset(self.sequence))
    }

    /// As [`Tape::verify`] when one more frame was prepared and not appended.
    pub fn verify_before(&mut self, count: u64) -> io::Result<()> {
        self.sequence -= 1;
        self.verify(count)
    }

    /// Reads the newest `count` frames back.
    pub fn verify(&mut self, count: u64) -> io::Result<()> {
        for sequence in self.sequence + 1 - count.min(TAPE_SLOTS).min(self.sequence)..=self.sequence {
            self.file.read_exact_at(self.buffer.as_mut_slice(), offset(sequence))?;
            if self.buffer.as_slice() != contents::block(sequence) {
                return Err(io::Error::other(format!("frame {sequence} of the plain file is not there")));
            }
        }
        Ok(())
    }
}

fn offset(sequence: u64) -> u64 {
    sequence % TAPE_SLOTS * BLOCK_BYTES as u64
}
