//! An array or a mediator as a process of its own, answering the benchmark's commands, one line each.
//!
//! In: lines on standard input; out: `ok …` or `error …` on standard output. Only benchmarks use this; hosts use the server.

use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use metropod::mediator::{MediatorConfig, serve};
use metropod::{Array, Options, SideStatus, Volume};
use serde_json::json;

use crate::clock::{now_ns, process_cpu_ns};
use crate::contents::{self, BLOCK_BYTES};
use crate::load::{Expected, Load, Plan};
use crate::park::block_on;
use crate::writes::{Api, Sequence};

/// First argument of an array process.
pub const AS_ARRAY: &str = "--as-array";
/// First argument of a mediator process.
pub const AS_MEDIATOR: &str = "--as-mediator";

/// Blocks written or read at once when whole images go in or out.
const STRIDE_BLOCKS: usize = 256;
/// Threads for that.
const IMAGE_THREADS: usize = 4;

/// If this process was started as a part of a benchmark, does that part until its input ends; `true`: it did.
pub fn main_if_asked() -> io::Result<bool> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [AS_MEDIATOR, directory] => {
            let listen = SocketAddr::from(([127, 0, 0, 1], 0));
            let config = MediatorConfig { listen, ..MediatorConfig::new(Path::new(directory)) };
            let mut server = serve(config).map_err(io::Error::other)?;
            println!("ok {}", server.address());
            for line in io::stdin().lock().lines() {
                line?;
            }
            server.stop();
        }
        [AS_ARRAY, name, directory, listen, advertise, mediator, journal_mib] => {
            let address = |text: &str| text.parse::<SocketAddr>().map_err(io::Error::other);
            let options = Options {
                listen: address(listen)?,
                advertise: if advertise == "-" { None } else { Some(address(advertise)?) },
                mediator: if mediator == "-" { None } else { Some(address(mediator)?) },
                journal_bytes: journal_mib.parse::<u64>().map_err(io::Error::other)? << 20,
                ..Options::new(name, directory)
            };
            answer_commands(open(options)?)?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// A killed process's directory and port are free a moment later.
fn open(options: Options) -> io::Result<Array> {
    let began = Instant::now();
    loop {
        match Array::open(options.clone()) {
            Ok(array) => return Ok(array),
            Err(error) if began.elapsed() > Duration::from_secs(10) => return Err(io::Error::other(error)),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn answer_commands(array: Array) -> io::Result<()> {
    println!("ok {}", array.address());
    let mut site = Site { array, load: None };
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        match site.command(&words) {
            Ok(answer) => println!("ok {answer}"),
            Err(error) => println!("error {error}"),
        }
        io::stdout().flush()?;
    }
    Ok(())
}

struct Site {
    array: Array,
    load: Option<Load>,
}

impl Site {
    fn command(&mut self, words: &[&str]) -> io::Result<String> {
        let array = &self.array;
        match *words {
            ["key"] => array.connection_key().map_err(io::Error::other),
            ["connect", address, key] => {
                array.connect(address.parse().map_err(io::Error::other)?, key).map_err(io::Error::other)
            }
            ["linked"] => Ok(array.connections().iter().any(|peer| peer.sync_up && peer.bulk_up).to_string()),
            ["create-pod", pod] => done(block_on(array.create_pod(pod))),
            ["create-volume", volume, blocks] => {
                let bytes = number(blocks)? * BLOCK_BYTES as u64;
                done(block_on(array.create_volume(volume, bytes)).map(drop))
            }
            ["stretch", pod, to] => done(block_on(array.stretch(pod, to))),
            ["prefer", pod, name] => done(block_on(array.set_preference(pod, Some(name)))),
            ["status", pod] => Ok(self.status(pod)),
            ["until", pod, state, limit_ms] => self.until(pod, state, number(limit_ms)?),
            ["measure", volume, api, seed, count, blocks, think_us] => {
                let sequence =
                    Sequence { seed: number(seed)?, count: number(count)?, blocks: number(blocks)? };
                let api = if api == Api::Async.word() { Api::Async } else { Api::Blocking };
                let think = Duration::from_micros(number(think_us)?);
                let volume = self.volume(volume)?;
                let cpu = process_cpu_ns();
                let latencies = sequence.run(&volume, api, think)?;
                Ok(json!({"latencies_ns": latencies, "cpu_ns": process_cpu_ns() - cpu}).to_string())
            }
            ["check-writes", volume, blocks, ref sequences @ ..] => {
                let blocks = number(blocks)?;
                let sequences: io::Result<Vec<Sequence>> = sequences
                    .iter()
                    .map(|text| {
                        let (seed, count) = text.split_once(':').unwrap_or((text, "0"));
                        Ok(Sequence { seed: number(seed)?, count: number(count)?, blocks })
                    })
                    .collect();
                Ok(crate::writes::check(&self.volume(volume)?, &sequences?)?.to_string())
            }
            ["apply", volume, path] => done(apply(&self.volume(volume)?, Path::new(path))),
            ["check-image", volume, path] => {
                Ok(check_image(&self.volume(volume)?, Path::new(path))?.to_string())
            }
            ["digest", volume] => digest(&self.volume(volume)?),
            ["load", volume, seed, threads, first, per_thread, log] => {
                let plan = Plan {
                    seed: number(seed)?,
                    threads: number(threads)?,
                    first_block: number(first)?,
                    blocks_per_thread: number(per_thread)?,
                    log: log.into(),
                };
                self.load = Some(Load::start(&plan, &self.volume(volume)?)?);
                Ok("started".to_owned())
            }
            ["load-stop"] => Ok(json!(self.load.take().map_or_else(Vec::new, Load::stop)).to_string()),
            ["check-load", volume, path] => {
                let (wrong, checked) = Expected::load(Path::new(path))?.check(&self.volume(volume)?)?;
                Ok(format!("{wrong} {checked}"))
            }
            ["close"] => {
                array.close();
                Ok("closed".to_owned())
            }
            _ => Err(io::Error::other("no such command")),
        }
    }

    fn volume(&self, name: &str) -> io::Result<Volume> {
        self.array.volume(name).map_err(io::Error::other)
    }

    fn status(&self, pod: &str) -> String {
        let array = self.array.status();
        let pod = self.array.pod(pod);
        let sides: Vec<_> = pod
            .iter()
            .flat_map(|pod| &pod.arrays)
            .map(|side| {
                json!({
                    "name": side.name, "status": side.status.word(), "sequencer": side.sequencer,
                    "pre_elected": side.pre_elected, "resync": side.resync.map(|resync| format!("{resync:?}")),
                })
            })
            .collect();
        json!({
            "sides": sides, "journal_bytes": array.journal_bytes, "chunks": array.chunks,
            "stored_bytes": array.stored_bytes, "alarms": self.array.alarms(),
        })
        .to_string()
    }

    /// Looks every millisecond until the pod is `level` (both sides online, the right at the mediator) or this side serves
    /// alone (`alone`) or has a peer that is not there (`parted`); gives the time it was seen.
    fn until(&self, pod: &str, state: &str, limit_ms: u64) -> io::Result<String> {
        let began = Instant::now();
        loop {
            let status = self.array.pod(pod);
            let online = |at: usize| {
                status
                    .as_ref()
                    .and_then(|pod| pod.arrays.get(at))
                    .map(|side| side.status == SideStatus::Online)
            };
            let reached = match state {
                "online" => online(0) == Some(true) && online(1) == Some(true),
                "level" => {
                    let right_away =
                        |pod: &metropod::PodStatus| pod.arrays.iter().any(|side| side.pre_elected);
                    online(0) == Some(true)
                        && online(1) == Some(true)
                        && !status.as_ref().is_some_and(right_away)
                }
                "alone" => online(0) == Some(true) && online(1) == Some(false),
                _ => return Err(io::Error::other("no such state")),
            };
            if reached {
                return Ok(now_ns().to_string());
            }
            if began.elapsed() > Duration::from_millis(limit_ms) {
                return Err(io::Error::other(format!(
                    "not {state} after {limit_ms} ms: {}",
                    self.status(pod)
                )));
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn done<E: std::error::Error + Send + Sync + 'static>(result: Result<(), E>) -> io::Result<String> {
    result.map(|()| "done".to_owned()).map_err(io::Error::other)
}

fn number(text: &str) -> io::Result<u64> {
    text.parse().map_err(io::Error::other)
}

/// Writes runs of blocks as a host does: single blocks at random, long runs in strides, zero strides as trims.
fn apply(volume: &Volume, path: &Path) -> io::Result<()> {
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

fn check_image(volume: &Volume, path: &Path) -> io::Result<u64> {
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

fn digest(volume: &Volume) -> io::Result<String> {
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

fn in_parallel<T: Sync>(items: &[T], work: impl Fn(&T) -> io::Result<()> + Sync) -> io::Result<()> {
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
