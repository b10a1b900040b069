//! Depth-1 loop: how a durable 4 KiB write, alone and mirrored, should be divided between threads.
//!
//! `depth1 [DIRECTORY] [--rounds N] [--writes N] [--json] [--pin] [--pretend-disk-us N]`. Starts itself once more as the peer, over loopback TCP.
//! No engine: sector frames appended to prewritten files, O_DIRECT and durable, one in flight. All variants run once per
//! round, in alternating order, so that a busy machine hurts all alike. DIRECTORY must not be a tmpfs.

mod appender;
mod disk;
mod follower;
mod leader;
mod reactor;
mod report;
mod wire;

use std::io::{self, BufRead, BufReader};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use disk::{Disk, Durability, Tape};
use follower::Mode;
use leader::{Bench, Role, Variant};
use report::Series;
use rustix::thread::{CpuSet, sched_setaffinity, set_current_timer_slack};
use serde_json::json;
use wire::Spin;

const SPINS: [Spin; 5] = [
    Spin::NONE,
    Spin { us: 50, yields: false },
    Spin { us: 100, yields: false },
    Spin { us: 50, yields: true },
    Spin { us: 100, yields: true },
];
const IDLE_THINK_US: u64 = 1000;
/// The baseline is repeated after this many variants of a round.
const BASE_EVERY: usize = 8;

struct Arguments {
    directory: Option<PathBuf>,
    rounds: usize,
    writes: u64,
    json: bool,
    peer: Option<PathBuf>,
    pin: bool,
    disk: Disk,
}

fn main() -> io::Result<()> {
    let arguments = parse(std::env::args().skip(1))?;
    settle_thread(&arguments)?;
    if let Some(path) = &arguments.peer {
        return follower::main(path, arguments.disk);
    }
    let directory = match &arguments.directory {
        Some(directory) => tempfile::tempdir_in(directory)?,
        None => tempfile::tempdir_in(std::env::current_dir()?)?,
    };
    let load_before = report::load_average();
    let (mut bench, mut peer) = start(directory.path(), &arguments)?;
    let mut all: Vec<Series> = variants().into_iter().map(Series::new).collect();
    let base = all.iter().position(|series| series.variant.role == Role::Base).expect("listed first");
    for round in 0..arguments.rounds {
        let mut order: Vec<usize> = (0..all.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for (at, index) in order.into_iter().enumerate() {
            if at % BASE_EVERY == BASE_EVERY - 1 {
                let run = bench.run(all[base].variant, arguments.writes)?;
                all[base].add(round, run);
            }
            let run = bench.run(all[index].variant, arguments.writes)?;
            all[index].add(round, run);
        }
        eprintln!("round {} of {}, load {}", round + 1, arguments.rounds, report::load_average());
    }
    let mut heartbeats = Vec::new();
    for mode in [Mode::Inline, Mode::Hop, Mode::HopReply, Mode::Handover, Mode::Standby] {
        let slowest = bench.slowest_heartbeat(mode, Spin { us: 50, yields: true })?;
        heartbeats.push((mode.name(), slowest.as_secs_f64() * 1e3));
    }
    bench.stop_peer()?;
    if !peer.wait()?.success() {
        return Err(io::Error::other("the peer process failed"));
    }
    if arguments.json {
        let context = json!({
            "pinned": arguments.pin, "disk": format!("{:?}", arguments.disk), "rounds": arguments.rounds, "writes_per_round": arguments.writes, "block_bytes": disk::FRAME_BYTES,
            "cores": std::thread::available_parallelism()?.get(),
            "load_before": load_before, "load_after": report::load_average(),
        });
        println!("{:#}", report::as_json(&all, &heartbeats, context));
    } else {
        report::print_table(&all);
        println!(
            "\nslowest heartbeat answer while the peer's append takes {} ms:",
            follower::STALL.as_millis()
        );
        for (mode, slowest_ms) in heartbeats {
            println!("  {mode:<10}{slowest_ms:>8.2} ms");
        }
        println!("load before {load_before}, after {}", report::load_average());
    }
    Ok(())
}

/// Puts each process on a core of its own where asked, and lets a pretended disk answer on time.
fn settle_thread(arguments: &Arguments) -> io::Result<()> {
    if arguments.pin {
        let mut cores = CpuSet::new();
        cores.set(usize::from(arguments.peer.is_some()));
        sched_setaffinity(None, &cores)?;
    }
    if arguments.disk != Disk::Real {
        set_current_timer_slack(NonZeroU64::new(1))?;
    }
    Ok(())
}

fn start(directory: &Path, arguments: &Arguments) -> io::Result<(Bench, Child)> {
    let [own, base, twin, peers] =
        ["own", "base", "twin", "peer"].map(|name| directory.join(format!("{name}.tape")));
    for path in [&own, &base, &twin, &peers] {
        Tape::create(path)?;
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--peer").arg(&peers).stdout(Stdio::piped());
    if arguments.pin {
        command.arg("--pin");
    }
    if let Disk::Pretended(time) = arguments.disk {
        command.arg("--pretend-disk-us").arg(time.as_micros().to_string());
    }
    let mut peer = command.spawn()?;
    let mut line = String::new();
    let output = peer.stdout.take().expect("the peer's output is piped");
    BufReader::new(output).read_line(&mut line)?;
    let bench = Bench {
        tape: Arc::new(Tape::open(&own, Durability::PerCall, arguments.disk)?),
        base: Tape::open(&base, Durability::OpenDsync, arguments.disk)?,
        base_osync: Tape::open(&base, Durability::OpenSync, arguments.disk)?,
        base_nosync: Tape::open(&base, Durability::Unsynced, arguments.disk)?,
        twin: Tape::open(&twin, Durability::PerCall, arguments.disk)?,
        peer_port: line.trim().parse().map_err(io::Error::other)?,
        next_sequence: 1,
    };
    Ok((bench, peer))
}

fn variants() -> Vec<Variant> {
    let one = |role, follower, spin| Variant { role, follower, spin, think_us: 0 };
    let mut list: Vec<Variant> = [Role::Base, Role::BaseOsync, Role::BaseNosync, Role::Pair, Role::AloneWait]
        .map(|role| one(role, None, Spin::NONE))
        .into();
    for spin in SPINS {
        list.push(one(Role::AloneThread, None, spin));
        list.push(one(Role::Net, Some(Mode::Echo), spin));
        for mode in [Mode::Inline, Mode::Hop, Mode::HopReply, Mode::Handover, Mode::Standby] {
            list.push(one(Role::Wait, Some(mode), spin));
        }
        list.push(one(Role::Steal, Some(Mode::Inline), spin));
        list.push(one(Role::Drive, Some(Mode::Inline), spin));
        list.push(one(Role::Drive, Some(Mode::Standby), spin));
        list.push(one(Role::Reactor, Some(Mode::Inline), spin));
        list.push(one(Role::Thread, Some(Mode::Inline), spin));
        list.push(one(Role::Thread, Some(Mode::Hop), spin));
    }
    let idle = [
        (Role::Base, None),
        (Role::AloneWait, None),
        (Role::AloneThread, None),
        (Role::Wait, Some(Mode::Inline)),
        (Role::Wait, Some(Mode::Standby)),
        (Role::Wait, Some(Mode::Handover)),
        (Role::Steal, Some(Mode::Standby)),
        (Role::Drive, Some(Mode::Standby)),
        (Role::Thread, Some(Mode::Hop)),
    ];
    list.extend(idle.map(|(role, follower)| Variant {
        role,
        follower,
        spin: Spin { us: 50, yields: true },
        think_us: IDLE_THINK_US,
    }));
    list
}

fn parse(mut words: impl Iterator<Item = String>) -> io::Result<Arguments> {
    let mut arguments = Arguments {
        directory: None,
        rounds: 7,
        writes: 400,
        json: false,
        peer: None,
        pin: false,
        disk: Disk::Real,
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| io::Error::other(format!("{word} needs a value")));
        match word.as_str() {
            "--rounds" => arguments.rounds = value()?.parse().map_err(io::Error::other)?,
            "--writes" => arguments.writes = value()?.parse().map_err(io::Error::other)?,
            "--peer" => arguments.peer = Some(value()?.into()),
            "--pin" => arguments.pin = true,
            "--pretend-disk-us" => {
                arguments.disk =
                    Disk::Pretended(Duration::from_micros(value()?.parse().map_err(io::Error::other)?));
            }
            "--json" => arguments.json = true,
            "--bench" => {} // cargo adds it
            _ if word.starts_with("--") => return Err(io::Error::other(format!("unknown option {word}"))),
            _ => arguments.directory = Some(word.into()),
        }
    }
    if arguments.rounds == 0 || !(1..=disk::TAPE_SLOTS).contains(&arguments.writes) {
        return Err(io::Error::other("rounds must be at least 1 and writes fit the tape"));
    }
    Ok(arguments)
}
