//! An array or a mediator as a process of its own, answering the benchmark's commands, one line each.
//!
//! In: lines on standard input; out: `ok …` or `error …` on standard output. Only benchmarks use this; hosts use the server.

use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use metropod::mediator::{MediatorConfig, serve};
use metropod::{Array, Options, SideStatus, Volume};
use serde_json::json;

use crate::clock::now_ns;
use crate::contents::BLOCK_BYTES;
use crate::drive::{Driven, drive};
use crate::images::{apply, check_image, digest};
use crate::ledger::{Ledger, check_plans};
use crate::load::{Expected, Hosts, Load};
use crate::park::block_on;
use crate::plan::Plan;
use crate::usage;

/// First word of an array process.
pub const AS_ARRAY: &str = "--as-array";
/// First word of a mediator process.
pub const AS_MEDIATOR: &str = "--as-mediator";

/// How long after its opening an array may not know its volumes.
const VOLUME_WITHIN: Duration = Duration::from_secs(60);

/// Does a part of a benchmark until this process's input ends; the words are what [`Process::start`] was given.
///
/// [`Process::start`]: crate::process::Process::start
pub fn run(words: &[String]) -> io::Result<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
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
        [AS_ARRAY, name, directory, listen, advertise, mediator, journal_mib, ref capacity @ ..] => {
            let address = |text: &str| text.parse::<SocketAddr>().map_err(io::Error::other);
            let options = Options {
                listen: address(listen)?,
                advertise: if advertise == "-" { None } else { Some(address(advertise)?) },
                mediator: if mediator == "-" { None } else { Some(address(mediator)?) },
                journal_bytes: journal_mib.parse::<u64>().map_err(io::Error::other)? << 20,
                capacity_bytes: match capacity {
                    [bytes] => Some(bytes.parse().map_err(io::Error::other)?),
                    _ => None,
                },
                ..Options::new(name, directory)
            };
            answer_commands(open(options)?)?;
        }
        _ => return Err(io::Error::other("no such part; use `metropod bench`")),
    }
    Ok(())
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
    let mut site = Site { array, load: None, beside: None };
    for line in io::stdin().lock().lines() {
        let line = line?;
        match site.line(&line) {
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
    /// A plan that is driven while commands are answered.
    beside: Option<JoinHandle<io::Result<Driven>>>,
}

impl Site {
    fn line(&mut self, line: &str) -> io::Result<String> {
        if let Some(plan) = line.strip_prefix("drive ") {
            let plan: Plan = serde_json::from_str(plan)?;
            return Ok(drive(&plan, &self.volume(&plan.volume)?)?.encode().to_string());
        }
        if let Some(done) = line.strip_prefix("check-plans ") {
            let done: Vec<(Plan, Vec<u64>)> = serde_json::from_str(done)?;
            let Some((first, _)) = done.first() else { return Ok("0".to_owned()) };
            return Ok(check_plans(&self.volume(&first.volume)?, &done)?.to_string());
        }
        if let Some(plan) = line.strip_prefix("drive-beside ") {
            let plan: Plan = serde_json::from_str(plan)?;
            let volume = self.volume(&plan.volume)?;
            self.beside = Some(thread::spawn(move || drive(&plan, &volume)));
            return Ok("started".to_owned());
        }
        self.command(&line.split(' ').collect::<Vec<&str>>())
    }

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
            ["switch", pod, to] => done(block_on(array.switch(pod, to))),
            ["stretch", pod, to] => done(block_on(array.stretch(pod, to))),
            ["prefer", pod, name] => done(block_on(array.set_preference(pod, Some(name)))),
            ["status", pod] => Ok(self.status(pod)),
            ["until", pod, state, limit_ms] => self.until(pod, state, number(limit_ms)?),
            ["apply", volume, path] => done(apply(&self.volume(volume)?, Path::new(path))),
            ["check-image", volume, path] => {
                Ok(check_image(&self.volume(volume)?, Path::new(path))?.to_string())
            }
            ["digest", volume] => digest(&self.volume(volume)?),
            ["load", volume, seed, threads, first, per_thread, log] => {
                let hosts = Hosts {
                    seed: number(seed)?,
                    threads: number(threads)?,
                    first_block: number(first)?,
                    blocks_per_thread: number(per_thread)?,
                    log: log.into(),
                };
                self.load = Some(Load::start(&hosts, &self.volume(volume)?)?);
                Ok("started".to_owned())
            }
            ["load-stop"] => Ok(json!(self.load.take().map_or_else(Vec::new, Load::stop)).to_string()),
            ["check-load", volume, path] => {
                let (wrong, checked) = Expected::load(Path::new(path))?.check(&self.volume(volume)?)?;
                Ok(format!("{wrong} {checked}"))
            }
            ["check-ledger", volume, path] => {
                Ok(Ledger::load(Path::new(path))?.check(&self.volume(volume)?)?.to_string())
            }
            ["snapshot", volume, suffix] => timed(|| block_on(array.create_snapshot(volume, Some(suffix)))),
            ["clone", source, name] => timed(|| block_on(array.clone_volume(source, name))),
            ["is-driven"] => Ok(self.beside.as_ref().is_none_or(JoinHandle::is_finished).to_string()),
            ["driven"] => {
                let beside = self.beside.take().ok_or_else(|| io::Error::other("nothing was begun"))?;
                let driven = beside.join().map_err(|_| io::Error::other("the host panicked"))??;
                Ok(driven.encode().to_string())
            }
            ["usage"] => Ok(self.usage()?.to_string()),
            ["close"] => {
                array.close();
                Ok("closed".to_owned())
            }
            _ => Err(io::Error::other("no such command")),
        }
    }

    /// The volume; waits for it a while: an array that was just opened may not have applied its log that far.
    fn volume(&self, name: &str) -> io::Result<Volume> {
        let began = Instant::now();
        loop {
            match self.array.volume(name) {
                Ok(volume) => return Ok(volume),
                Err(error) if began.elapsed() > VOLUME_WITHIN => return Err(io::Error::other(error)),
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// What the process has used so far, and what the array holds.
    fn usage(&self) -> io::Result<serde_json::Value> {
        let array = self.array.status();
        let mut usage = usage::of_this_process()?;
        usage["journal_bytes"] = json!(array.journal_bytes);
        usage["chunks"] = json!(array.chunks);
        usage["logical_bytes"] = json!(array.logical_bytes);
        usage["stored_bytes"] = json!(array.stored_bytes);
        usage["space_used_bytes"] = json!(array.space.used_bytes);
        usage["space_free_bytes"] = json!(array.space.free_bytes);
        usage["passes"] = json!(array.collection.passes);
        usage["moved_bytes"] = json!(array.collection.moved_bytes);
        usage["alarms"] = json!(self.array.alarms());
        Ok(usage)
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

/// Nanoseconds that it took.
fn timed<T, E: std::error::Error + Send + Sync + 'static>(
    what: impl FnOnce() -> Result<T, E>,
) -> io::Result<String> {
    let began = Instant::now();
    what().map_err(io::Error::other)?;
    Ok(began.elapsed().as_nanos().to_string())
}
