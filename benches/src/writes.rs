//! A seeded sequence of 4 KiB writes to random blocks, timed one by one, and what a volume holds after several of them.

use std::collections::BTreeMap;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use metropod::Volume;
use serde_json::Value;

use crate::chance::{Chance, mix};
use crate::contents::{self, BLOCK_BYTES};
use crate::park::block_on;
use crate::process::Process;

/// How a write is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// The blocking twin.
    Blocking,
    /// The future, on a thread that parks.
    Async,
}

impl Api {
    /// Its word in commands.
    pub fn word(self) -> &'static str {
        match self {
            Api::Blocking => "blocking",
            Api::Async => "async",
        }
    }
}

/// A sequence of writes at depth 1.
#[derive(Debug, Clone, Copy)]
pub struct Sequence {
    /// Decides blocks and contents.
    pub seed: u64,
    /// Number of writes.
    pub count: u64,
    /// Blocks of the volume.
    pub blocks: u64,
}

impl Sequence {
    /// Block and content of each write, in order.
    pub fn writes(self) -> impl Iterator<Item = (u64, u64)> {
        let mut chance = Chance::new(mix(self.seed));
        (0..self.count).map(move |at| (chance.below(self.blocks), mix(mix(self.seed) ^ at).max(1)))
    }

    /// Does the writes one after the other; gives the time of each, in nanoseconds.
    pub fn run(self, volume: &Volume, api: Api, think: Duration) -> io::Result<Vec<u64>> {
        let mut latencies = Vec::with_capacity(self.count as usize);
        for (block, content) in self.writes() {
            let data = Bytes::from(contents::block(content));
            if !think.is_zero() {
                thread::sleep(think);
            }
            let offset = block * BLOCK_BYTES as u64;
            let began = Instant::now();
            match api {
                Api::Blocking => volume.write_blocking(offset, &data),
                Api::Async => block_on(volume.write(offset, data)),
            }
            .map_err(io::Error::other)?;
            latencies.push(began.elapsed().as_nanos() as u64);
        }
        Ok(latencies)
    }
}

/// Lets an array's process do a sequence; gives the time of each write and the process's CPU time, in nanoseconds.
pub fn measure(
    array: &mut Process,
    volume: &str,
    api: Api,
    sequence: Sequence,
    think: Duration,
) -> io::Result<(Vec<u64>, u64)> {
    let Sequence { seed, count, blocks } = sequence;
    let think_us = think.as_micros();
    let command = format!("measure {volume} {} {seed} {count} {blocks} {think_us}", api.word());
    let answer: Value = serde_json::from_str(&array.ask(&command)?)?;
    let latencies = answer["latencies_ns"].as_array().into_iter().flatten().filter_map(Value::as_u64);
    Ok((latencies.collect(), answer["cpu_ns"].as_u64().unwrap_or(0)))
}

/// Reads every block that the sequences wrote, in this order, and fails unless each holds its last write.
pub fn check(volume: &Volume, sequences: &[Sequence]) -> io::Result<u64> {
    let expected: BTreeMap<u64, u64> = sequences.iter().flat_map(|sequence| sequence.writes()).collect();
    for (block, content) in &expected {
        let offset = block * BLOCK_BYTES as u64;
        let found = volume.read_blocking(offset, BLOCK_BYTES as u64).map_err(io::Error::other)?;
        if found[..] != contents::block(*content)[..] {
            return Err(io::Error::other(format!("block {block} does not hold its last write")));
        }
    }
    Ok(expected.len() as u64)
}
