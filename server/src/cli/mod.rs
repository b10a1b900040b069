//! The command line: what users type, and what they see.
//!
//! - C1: exit status 0 done, 1 refused or failed, 2 usage.
//! - C2: a failure is one line on stderr: what, why, what to do.
//! - C3: with `--json`, stdout holds one JSON document and nothing else.

mod address;
mod arguments;
mod array;
mod bench_options;
mod outlook;
mod output;
mod pod;
mod progress;
mod scrub;
mod size;
mod snapshot;
mod space;
mod span;
mod table;
mod volume;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;

pub use arguments::{
    Arguments, ArrayVerb, Command, DemoOptions, Group, InspectOptions, MediatorOptions, PodVerb, Remote,
    ScrubVerb, ServeOptions, SnapshotVerb, VolumeVerb,
};
pub use bench_options::BenchOptions;
pub use output::{Failure, Output, print_json, print_text};
pub use progress::Bar;
pub use size::{BadSize, SizeBytes};
pub use span::{BadSpan, SpanMs};
pub use table::Table;

/// Filter of log lines when `METROPOD_LOG` is not set.
const LOG_DEFAULT: &str = "info";

/// Carries out the process's own command line.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    match carry_out(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("metropod: {}", failure.line());
            ExitCode::from(1)
        }
    }
}

fn carry_out(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(options) => {
            start_log();
            crate::serve::array(options)
        }
        Command::Mediator(options) => {
            start_log();
            crate::serve::mediator(options)
        }
        Command::Demo(options) => crate::demo::run(options),
        Command::Bench(options) => crate::bench::run(&options),
        Command::BenchPart { words } => Ok(metropod_benches::array_process::run(&words)?),
        Command::Inspect(options) => crate::inspect::run(&options),
        Command::Array(group) => array::run(&group),
        Command::Scrub(group) => scrub::run(&group),
        Command::Pod(group) => pod::run(&group),
        Command::Volume(group) => volume::run(&group),
        Command::Snapshot(group) => snapshot::run(&group),
    }
}

/// Log lines go to stderr: stdout belongs to what a command answers.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("METROPOD_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(LOG_DEFAULT));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
