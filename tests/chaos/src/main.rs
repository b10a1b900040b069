//! `metropod-chaos`: makes the network, runs a child of itself where the hosts are, removes the network.
//!
//! The binary under test is `METROPOD_BIN`, else `metropod` beside this program. Exit status: 0 no violation, 1 a
//! violation or a run that could not be made, 2 usage.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use metropod_chaos::network::{Made, Network, TOOLS, can_have_namespaces, remove_abandoned};
use metropod_chaos::run::{Options, run};
use metropod_e2e::Valve;

/// Random faults against two arrays and a mediator under load, and a check of every answer.
#[derive(Debug, Parser)]
#[command(name = "metropod-chaos")]
struct Arguments {
    /// For how long.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Which faults, and what hosts do.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Instead of random faults: the rows of the failure table that real processes can be put through, so many times.
    #[arg(long, value_name = "TIMES")]
    rows: Option<u32>,
    /// Hosts at each array.
    #[arg(long, default_value_t = 4)]
    hosts: usize,
    /// Where the processes keep their files, on a disk with direct I/O; removed when nothing was found.
    #[arg(long, default_value = "metropod-chaos.data")]
    data: PathBuf,
    /// Where links and faults of links are.
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    network: Choice,
    /// Prints the summary as one JSON document, as the last line.
    #[arg(long)]
    json: bool,
    /// Set for the child: the process that made its network, 0 on loopback.
    #[arg(long, hide = true)]
    inside: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// Namespaces where they are possible, else loopback.
    Auto,
    /// Network namespaces; takes root.
    Namespaces,
    /// Loopback, with proxies for the links.
    Loopback,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.inside {
        Some(maker) => Ok(inside(&arguments, maker)),
        None => outside(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(said) => {
            eprintln!("{said}");
            ExitCode::FAILURE
        }
    }
}

/// Runs where the hosts are.
fn inside(arguments: &Arguments, maker: u32) -> bool {
    let parent = rustix::process::getppid();
    let network = match maker {
        0 => Network::Loopback { mirror: Valve::default(), mediator: Default::default() },
        maker => Network::Namespaces(maker),
    };
    let lasts = Duration::from_secs_f64(arguments.minutes.clamp(0.0, 60.0 * 24.0 * 7.0) * 60.0);
    let options =
        Options { seed: arguments.seed, lasts, hosts: arguments.hosts.clamp(1, 64), times: arguments.rows };
    // Who made the network may be killed: then there is nobody to tell.
    let summary = run(&arguments.data, network, options, || rustix::process::getppid() == parent);
    println!("{}", summary.text());
    if arguments.json {
        println!("{}", summary.json());
    }
    remove_abandoned();
    summary.is_clean()
}

/// Makes the network and the directory, runs the child, removes them.
fn outside(arguments: &Arguments) -> Result<bool, String> {
    let made = network(arguments.network)?;
    let owner = made.as_ref().map_or(0, |_| std::process::id());
    let data = arguments.data.join(format!("seed-{}-{}", arguments.seed, std::process::id()));
    std::fs::create_dir_all(&data).map_err(|error| format!("cannot make {}: {error}", data.display()))?;
    let data = std::path::absolute(&data).map_err(|error| format!("{}: {error}", data.display()))?;
    let this = std::env::current_exe().map_err(|error| format!("this program has no path: {error}"))?;
    println!("seed {}, files in {}", arguments.seed, data.display());
    let mut command = match &made {
        None => Command::new(&this),
        Some(made) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &made.hosts()]).arg(&this);
            command
        }
    };
    command.env("METROPOD_BIN", binary(&this)?).arg("--data").arg(&data);
    command.args(["--inside", &owner.to_string(), "--minutes", &arguments.minutes.to_string()]);
    command.args(["--seed", &arguments.seed.to_string(), "--hosts", &arguments.hosts.to_string()]);
    if arguments.json {
        command.arg("--json");
    }
    if let Some(times) = arguments.rows {
        command.args(["--rows", &times.to_string()]);
    }
    let status = command.status().map_err(|error| format!("cannot run {}: {error}", this.display()))?;
    if status.success() {
        std::fs::remove_dir_all(&data)
            .map_err(|error| format!("cannot remove {}: {error}", data.display()))?;
        // Others may run beside this one.
        let _removed = std::fs::remove_dir(&arguments.data);
    } else {
        eprintln!("seed {}: {status}; the files stay in {}", arguments.seed, data.display());
    }
    Ok(status.success())
}

/// Decides where links are; `None` is loopback.
fn network(choice: Choice) -> Result<Option<Made>, String> {
    if choice == Choice::Loopback {
        return Ok(None);
    }
    let root = rustix::process::geteuid().is_root();
    let missing: Vec<&str> =
        TOOLS.iter().filter(|(tool, _)| !is_there(tool)).map(|(tool, _)| *tool).collect();
    if root && !missing.is_empty() {
        let package = TOOLS[0].1;
        return Err(format!(
            "missing tools: {missing:?}; install the Debian package {package}, or run with --network loopback"
        ));
    }
    match can_have_namespaces() {
        Ok(()) => {
            remove_abandoned();
            Made::new(std::process::id()).map(Some)
        }
        Err(said) if choice == Choice::Auto => {
            println!("no network namespaces ({said}): on loopback instead");
            Ok(None)
        }
        Err(said) => Err(format!("no network namespaces: {said}; run as root, or with --network loopback")),
    }
}

fn binary(this: &Path) -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("METROPOD_BIN") {
        return Ok(path.into());
    }
    let beside = this.with_file_name("metropod");
    let build = "run `cargo build --release -p metropod-server`, or set METROPOD_BIN";
    if beside.is_file() { Ok(beside) } else { Err(format!("no {}; {build}", beside.display())) }
}

fn is_there(tool: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin").split(':').any(|directory| Path::new(directory).join(tool).is_file())
}
