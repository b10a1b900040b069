//! The array whose reads are measured, in a process of its own: starting it anew leaves nothing in memory.

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use metropod::{Array, JOURNAL_BYTES_MIN, Options, Volume};
use metropod_benches::chance::{Chance, mix};
use metropod_benches::cold::forget;
use metropod_benches::contents::{self, BLOCK_BYTES};
use metropod_benches::figures::quantile;
use metropod_benches::memory;
use metropod_benches::park::block_on;
use metropod_benches::process::Process;

const AS_SITE: &str = "--as-site";
const VOLUME: &str = "pod1::vol1";
const BLOCK: u64 = BLOCK_BYTES as u64;
/// Bytes of a sequential read or of a write of the first fill.
const LONG_BYTES: u64 = 256 << 10;
const LONG_BLOCKS: usize = LONG_BYTES as usize / BLOCK_BYTES;
/// Threads that overwrite.
const WRITERS: usize = 32;
/// How long an array may take to come back.
const PATIENCE: Duration = Duration::from_secs(60);

/// A handle on the process.
pub struct Remote {
    process: Process,
    directory: PathBuf,
    blocks: u64,
    is_overwritten: bool,
}

impl Remote {
    /// Starts an array; makes its volume if it has none.
    pub fn start(directory: &Path, blocks: u64) -> io::Result<Remote> {
        let process = start(directory, blocks, false)?;
        Ok(Remote { process, directory: directory.to_owned(), blocks, is_overwritten: false })
    }

    /// Ends the process in good order and starts it again, with nothing in the page cache.
    pub fn restart(&mut self) -> io::Result<()> {
        self.ask("close")?;
        self.process.kill()?;
        self.process = start(&self.directory, self.blocks, self.is_overwritten)?;
        forget(&self.directory)
    }

    /// From now on the volume holds what the second fill wrote.
    pub fn overwritten(&mut self) -> io::Result<()> {
        self.is_overwritten = true;
        self.restart()
    }

    pub fn ask(&mut self, command: &str) -> io::Result<String> {
        self.process.ask(command)
    }

    pub fn number(&mut self, command: &str) -> io::Result<f64> {
        self.ask(command)?.parse().map_err(io::Error::other)
    }

    pub fn pair(&mut self, command: &str) -> io::Result<(f64, f64)> {
        let answer = self.ask(command)?;
        let (one, other) = answer.split_once(' ').unwrap_or((&answer, ""));
        Ok((one.parse().map_err(io::Error::other)?, other.parse().map_err(io::Error::other)?))
    }
}

fn start(directory: &Path, blocks: u64, is_overwritten: bool) -> io::Result<Process> {
    let directory = directory.to_string_lossy();
    let arguments = [AS_SITE, &directory, &blocks.to_string(), &is_overwritten.to_string()];
    Ok(Process::start(arguments)?.0)
}

/// If this process was started as the array, is that until its input ends; `true`: it was.
pub fn main_if_asked() -> io::Result<bool> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [AS_SITE, directory, blocks, is_overwritten] = words[..] else { return Ok(false) };
    let site = Site::open(
        Path::new(directory),
        blocks.parse().map_err(io::Error::other)?,
        is_overwritten == "true",
    )?;
    println!("ok ready");
    for line in io::stdin().lock().lines() {
        let line = line?;
        match site.command(&line.split(' ').collect::<Vec<_>>()) {
            Ok(answer) => println!("ok {answer}"),
            Err(error) => println!("error {error}"),
        }
        io::stdout().flush()?;
    }
    Ok(true)
}

struct Site {
    directory: PathBuf,
    array: Array,
    volume: Volume,
    /// By block.
    contents: Vec<u64>,
}

impl Site {
    fn open(directory: &Path, blocks: u64, is_overwritten: bool) -> io::Result<Site> {
        // Several checkpoints and folds happen while the volume is filled.
        let options = Options { journal_bytes: JOURNAL_BYTES_MIN, ..Options::new("A", directory) };
        let until = Instant::now() + PATIENCE;
        let array = loop {
            match Array::open(options.clone()) {
                Ok(array) => break array,
                Err(error) if Instant::now() > until => return Err(io::Error::other(error)),
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        };
        if array.volume(VOLUME).is_err() {
            block_on(array.create_pod("pod1")).map_err(io::Error::other)?;
            block_on(array.create_volume(VOLUME, blocks * BLOCK)).map_err(io::Error::other)?;
        }
        let volume = loop {
            match array.volume(VOLUME) {
                Ok(volume) if volume.flush_blocking().is_ok() => break volume,
                _ if Instant::now() > until => return Err(io::Error::other("the volume does not come back")),
                _ => thread::sleep(Duration::from_millis(20)),
            }
        };
        let contents = match is_overwritten {
            true => second_fill(blocks).1,
            false => (0..blocks).map(|block| mix(block + 1).max(1)).collect(),
        };
        Ok(Site { directory: directory.to_owned(), array, volume, contents })
    }

    fn command(&self, words: &[&str]) -> io::Result<String> {
        let number = |word: &str| word.parse::<u64>().map_err(io::Error::other);
        match *words {
            ["fill"] => self.fill().map(|()| "done".to_owned()),
            ["overwrite"] => self.overwrite().map(|()| "done".to_owned()),
            ["close"] => {
                self.array.close();
                Ok("done".to_owned())
            }
            ["memory"] => Ok(memory::resident_bytes().to_string()),
            ["pass", threads] => Ok(self.pass(number(threads)?)?.to_string()),
            ["random", seed, threads, reads, api] => {
                let (p50_us, rate) =
                    self.random(number(seed)?, number(threads)?, number(reads)?, api == "async")?;
                Ok(format!("{p50_us} {rate}"))
            }
            _ => Err(io::Error::other("no such command")),
        }
    }

    fn fill(&self) -> io::Result<()> {
        for (at, contents) in self.contents.chunks(LONG_BLOCKS).enumerate() {
            let mut data = vec![0; contents.len() * BLOCK_BYTES];
            for (block, content) in data.chunks_exact_mut(BLOCK_BYTES).zip(contents) {
                contents::fill(*content, block);
            }
            let offset = at as u64 * LONG_BYTES;
            self.volume.write_blocking(offset, &Bytes::from(data)).map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn overwrite(&self) -> io::Result<()> {
        let (order, contents) = second_fill(self.contents.len() as u64);
        let contents = contents.as_slice();
        let parts = order.chunks(order.len().div_ceil(WRITERS));
        together(parts.map(|part| {
            move || {
                for block in part {
                    let data = Bytes::from(contents::block(contents[*block as usize]));
                    self.volume.write_blocking(block * BLOCK, &data).map_err(io::Error::other)?;
                }
                Ok(())
            }
        }))?;
        Ok(())
    }

    /// Rate of a sequential pass over the whole volume, in MB/s.
    fn pass(&self, threads: u64) -> io::Result<f64> {
        let began = Instant::now();
        let blocks = self.contents.len() as u64;
        let share = blocks / threads;
        together((0..threads).map(|thread| {
            move || {
                for first in (thread * share..(thread + 1) * share).step_by(LONG_BLOCKS) {
                    let data =
                        self.volume.read_blocking(first * BLOCK, LONG_BYTES).map_err(io::Error::other)?;
                    let at = first as usize % LONG_BLOCKS / 16 * BLOCK_BYTES;
                    compare(&data[at..at + BLOCK_BYTES], self.contents[first as usize + at / BLOCK_BYTES])?;
                }
                Ok(())
            }
        }))?;
        Ok((blocks * BLOCK) as f64 / 1e6 / began.elapsed().as_secs_f64())
    }

    /// Random reads from so many threads; median latency in microseconds, and rate per second.
    fn random(&self, seed: u64, threads: u64, reads: u64, is_async: bool) -> io::Result<(f64, f64)> {
        forget(&self.directory)?;
        let began = Instant::now();
        let latencies = together((0..threads).map(|thread| {
            let mut chance = Chance::new(mix(seed ^ mix(thread)));
            move || {
                let mut latencies = Vec::with_capacity(reads as usize);
                for at in 0..reads {
                    let block = chance.below(self.contents.len() as u64);
                    let began = Instant::now();
                    let data = match is_async {
                        false => self.volume.read_blocking(block * BLOCK, BLOCK),
                        true => block_on(self.volume.read(block * BLOCK, BLOCK)),
                    };
                    latencies.push(began.elapsed().as_nanos() as u64);
                    if at % 16 == 0 {
                        compare(&data.map_err(io::Error::other)?, self.contents[block as usize])?;
                    }
                }
                Ok(latencies)
            }
        }))?;
        let elapsed = began.elapsed().as_secs_f64();
        Ok((quantile(&latencies.concat(), 0.5) / 1e3, (threads * reads) as f64 / elapsed))
    }
}

/// Order and contents of the second fill: every block once, three of ten with content that was written before.
fn second_fill(blocks: u64) -> (Vec<u64>, Vec<u64>) {
    let mut order: Vec<u64> = (0..blocks).collect();
    let mut chance = Chance::new(20);
    for at in (1..order.len()).rev() {
        order.swap(at, chance.below(at as u64 + 1) as usize);
    }
    let mut contents = vec![0; order.len()];
    for (at, block) in order.iter().enumerate() {
        contents[*block as usize] = match chance.below(10) {
            0..3 if at > 0 => contents[order[chance.below(at as u64) as usize] as usize],
            _ => chance.bits().max(1),
        };
    }
    (order, contents)
}

fn compare(data: &[u8], content: u64) -> io::Result<()> {
    match *data == *contents::block(content) {
        true => Ok(()),
        false => Err(io::Error::other("a block does not hold its last write")),
    }
}

/// Runs all of them at once.
pub fn together<T: Send, W: FnOnce() -> io::Result<T> + Send>(
    work: impl Iterator<Item = W>,
) -> io::Result<Vec<T>> {
    thread::scope(|scope| {
        let threads: Vec<_> = work.map(|work| scope.spawn(work)).collect();
        let ends = threads.into_iter().map(|thread| thread.join());
        ends.map(|end| end.unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))).collect()
    })
}
