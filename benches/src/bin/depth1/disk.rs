//! A prewritten file and the durable append of one sector frame.
//!
//! In: a sealed [`Frame`]; out: it is on stable media at the slot its sequence number names.
//! - D1: every slot was written before the first append, so an append changes no metadata that a data sync must commit.
//! - D2: `verify` reads around the page cache and checks number and CRC: a figure whose frames are not there is refused.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use metropod_journal::media::AlignedBuf;
use rustix::fs::OFlags;
use rustix::io::{Errno, ReadWriteFlags};

/// One frame: a 4 KiB sector.
pub const FRAME_BYTES: usize = 4096;
/// Slots of a tape (64 MiB), far more than one variant appends in a round.
pub const TAPE_SLOTS: u64 = 16_384;
/// `O_DSYNC` of this platform. rustix's `OFlags::DSYNC` is `O_SYNC` on its Linux backend, hence the constant.
const O_DSYNC: i32 = 0o10_000;

/// One 4 KiB sector: sequence number, CRC32C over the rest, content.
pub struct Frame(AlignedBuf);

impl Frame {
    /// A frame with incompressible content, not yet sealed.
    pub fn new() -> Frame {
        let mut buffer = AlignedBuf::zeroed(FRAME_BYTES);
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for word in buffer.as_mut_slice().chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        Frame(buffer)
    }

    /// Numbers the frame and computes its check, as an array does for each write.
    pub fn seal(&mut self, sequence: u64) {
        let bytes = self.0.as_mut_slice();
        bytes[..8].copy_from_slice(&sequence.to_le_bytes());
        bytes[16..24].copy_from_slice(&sequence.to_le_bytes());
        let check = crc32c::crc32c(&bytes[16..]);
        bytes[8..12].copy_from_slice(&check.to_le_bytes());
    }

    /// The number, if the content agrees with the check.
    pub fn checked_sequence(&self) -> Option<u64> {
        let bytes = self.0.as_slice();
        let word = |at: usize| -> u64 {
            u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a slice of eight bytes"))
        };
        let stored = u32::from_le_bytes(bytes[8..12].try_into().expect("a slice of four bytes"));
        (crc32c::crc32c(&bytes[16..]) == stored && word(0) == word(16)).then(|| word(0))
    }

    pub fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.as_mut_slice()
    }
}

/// How an append is made durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// `pwritev2(RWF_DSYNC)` on a file opened with `O_DIRECT`: what the engine does.
    PerCall,
    /// `pwrite` on a file opened with `O_DIRECT | O_DSYNC`: what fio does with `--direct=1 --sync=dsync`.
    OpenDsync,
    /// The same with `O_SYNC`, for the price of the wrong flag.
    OpenSync,
    /// Only `O_DIRECT`: not durable, shows what the flush costs.
    Unsynced,
}

/// Where appends go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disk {
    /// The file system.
    Real,
    /// A sleep of this length: stands for a disk of its own on each side when both sides share one in truth.
    Pretended(Duration),
}

/// A prewritten file of [`TAPE_SLOTS`] frames.
pub struct Tape {
    file: File,
    disk: Disk,
    durability: Durability,
}

impl Tape {
    /// Writes every slot once and syncs file and length.
    pub fn create(path: &Path) -> io::Result<()> {
        let direct = OFlags::DIRECT.bits() as i32;
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).custom_flags(direct).open(path)?;
        let chunk = AlignedBuf::zeroed(1 << 20);
        let chunks = TAPE_SLOTS * FRAME_BYTES as u64 / chunk.len() as u64;
        for at in 0..chunks {
            file.write_all_at(chunk.as_slice(), at * chunk.len() as u64)?;
        }
        file.sync_all()
    }

    pub fn open(path: &Path, durability: Durability, disk: Disk) -> io::Result<Tape> {
        let sync = match durability {
            Durability::PerCall | Durability::Unsynced => 0,
            Durability::OpenDsync => O_DSYNC,
            Durability::OpenSync => OFlags::SYNC.bits() as i32,
        };
        let flags = OFlags::DIRECT.bits() as i32 | sync;
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
        Ok(Tape { file, disk, durability })
    }

    /// Returns when the frame is on stable media in its slot.
    pub fn append(&self, frame: &Frame, sequence: u64) -> io::Result<()> {
        if let Disk::Pretended(time) = self.disk {
            std::thread::sleep(time);
            return Ok(());
        }
        let offset = sequence % TAPE_SLOTS * FRAME_BYTES as u64;
        if self.durability != Durability::PerCall {
            return self.file.write_all_at(frame.bytes(), offset);
        }
        let written = loop {
            match rustix::io::pwritev2(
                &self.file,
                &[IoSlice::new(frame.bytes())],
                offset,
                ReadWriteFlags::DSYNC,
            ) {
                Err(Errno::INTR) => continue,
                result => break result?,
            }
        };
        if written == FRAME_BYTES { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Reads back `count` frames from `first` on and fails unless each is whole and in its place.
    pub fn verify(&self, first: u64, count: u64) -> io::Result<()> {
        if self.disk != Disk::Real {
            return Ok(());
        }
        let mut frame = Frame::new();
        for sequence in first..first + count {
            self.file.read_exact_at(frame.bytes_mut(), sequence % TAPE_SLOTS * FRAME_BYTES as u64)?;
            if frame.checked_sequence() != Some(sequence) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("frame {sequence} is not there"),
                ));
            }
        }
        Ok(())
    }
}
