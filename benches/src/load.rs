//! A host under load whose memory survives it: every acknowledgement is in a file before the next write is issued.
//!
//! - H1: thread `t` writes blocks that no other thread writes, one at a time, in a seeded order. So after any end, a block holds
//!   its last acknowledged write or the one write that was under way.
//! - H2: an acknowledgement is one record (time of the end, duration; both nanoseconds, u64) at the end of the thread's file.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use metropod::Volume;

use crate::chance::{Chance, mix};
use crate::clock::now_ns;
use crate::contents::{self, BLOCK_BYTES};

/// Bytes of a record.
const RECORD_BYTES: usize = 16;

/// What a host writes.
#[derive(Debug, Clone)]
pub struct Hosts {
    /// Decides blocks and contents.
    pub seed: u64,
    /// Writers.
    pub threads: u64,
    /// First block of the first writer.
    pub first_block: u64,
    /// Blocks of each writer.
    pub blocks_per_thread: u64,
    /// Directory and beginning of the name of the files.
    pub log: PathBuf,
}

/// An acknowledged write.
#[derive(Debug, Clone, Copy)]
pub struct Completion {
    /// When it ended.
    pub end_ns: u64,
    /// How long it took.
    pub duration_ns: u64,
}

impl Hosts {
    fn log_path(&self, thread: u64) -> PathBuf {
        let mut name = self.log.clone().into_os_string();
        name.push(format!("-{thread}"));
        name.into()
    }

    /// Block and content of a thread's writes, without end.
    fn writes(&self, thread: u64) -> impl Iterator<Item = (u64, u64)> + use<> {
        let seed = mix(self.seed ^ mix(thread + 1));
        let mut chance = Chance::new(seed);
        let (first, blocks) = (self.first_block + thread * self.blocks_per_thread, self.blocks_per_thread);
        (0..).map(move |at| (first + chance.below(blocks), mix(seed.wrapping_add(mix(at))).max(1)))
    }

    /// What the files tell, by thread.
    pub fn completions(&self) -> io::Result<Vec<Vec<Completion>>> {
        (0..self.threads).map(|thread| read_log(&self.log_path(thread))).collect()
    }

    /// Brings what blocks may hold up to date with this run.
    pub fn update(&self, expected: &mut Expected) -> io::Result<u64> {
        let mut acknowledged = 0;
        for (thread, completions) in self.completions()?.into_iter().enumerate() {
            let count = completions.len();
            acknowledged += count as u64;
            for (at, (block, content)) in self.writes(thread as u64).take(count + 1).enumerate() {
                let may_hold = expected.blocks.entry(block).or_insert_with(|| vec![0]);
                if at < count {
                    *may_hold = vec![content];
                } else {
                    may_hold.push(content);
                }
            }
        }
        Ok(acknowledged)
    }
}

/// What each block may hold, all writes of all runs considered.
#[derive(Debug, Default)]
pub struct Expected {
    blocks: BTreeMap<u64, Vec<u64>>,
}

impl Expected {
    /// As lines: block, contents.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let mut text = String::new();
        for (block, contents) in &self.blocks {
            text.push_str(&block.to_string());
            for content in contents {
                text.push_str(&format!(" {content}"));
            }
            text.push('\n');
        }
        fs::write(path, text)
    }

    /// Reads what [`Expected::save`] wrote.
    pub fn load(path: &Path) -> io::Result<Expected> {
        let mut blocks = BTreeMap::new();
        for line in fs::read_to_string(path)?.lines() {
            let numbers: Result<Vec<u64>, _> = line.split(' ').map(str::parse).collect();
            let numbers = numbers.map_err(io::Error::other)?;
            if let Some((block, contents)) = numbers.split_first() {
                blocks.insert(*block, contents.to_vec());
            }
        }
        Ok(Expected { blocks })
    }

    /// Reads all these blocks; gives how many hold nothing that they may hold, and how many there are.
    pub fn check(&self, volume: &Volume) -> io::Result<(u64, u64)> {
        let mut wrong = 0;
        for (block, contents) in &self.blocks {
            let offset = block * BLOCK_BYTES as u64;
            let found = volume.read_blocking(offset, BLOCK_BYTES as u64).map_err(io::Error::other)?;
            wrong += u64::from(!contents.iter().any(|content| found[..] == contents::block(*content)[..]));
        }
        Ok((wrong, self.blocks.len() as u64))
    }
}

/// Writers at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<(), String>>>,
}

impl Load {
    /// Starts the writers.
    pub fn start(hosts: &Hosts, volume: &Volume) -> io::Result<Load> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for thread in 0..hosts.threads {
            let log = File::create(hosts.log_path(thread))?;
            let (writes, volume, stop) = (hosts.writes(thread), volume.clone(), stop.clone());
            threads.push(thread::spawn(move || write_until(writes, &volume, &stop, log)));
        }
        Ok(Load { stop, threads })
    }

    /// Waits for the writers; gives the errors that ended some of them.
    pub fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Release);
        let ends = self.threads.into_iter().map(|thread| match thread.join() {
            Ok(end) => end.err(),
            Err(_) => Some("panicked".to_owned()),
        });
        ends.flatten().collect()
    }
}

fn write_until(
    writes: impl Iterator<Item = (u64, u64)>,
    volume: &Volume,
    stop: &AtomicBool,
    mut log: File,
) -> Result<(), String> {
    for (block, content) in writes {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let data = Bytes::from(contents::block(content));
        let began = now_ns();
        volume.write_blocking(block * BLOCK_BYTES as u64, &data).map_err(|error| error.to_string())?;
        let end = now_ns();
        let mut record = [0; RECORD_BYTES];
        record[..8].copy_from_slice(&end.to_le_bytes());
        record[8..].copy_from_slice(&(end - began).to_le_bytes());
        log.write_all(&record).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn read_log(path: &Path) -> io::Result<Vec<Completion>> {
    let bytes = fs::read(path)?;
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("a slice of eight bytes"));
    Ok(bytes
        .chunks_exact(RECORD_BYTES)
        .map(|record| Completion { end_ns: word(&record[..8]), duration_ns: word(&record[8..]) })
        .collect())
}
