//! The works of the load generator, `metropod bench WORK`: what is measured, against what, and how it is checked.
//!
//! - B1: arrays under test are processes of their own: this program again, with [`array_process`]'s arguments.
//! - B2: what is compared takes turns within a run (see [`rounds`]); every work reads back what it wrote.

mod failover;
mod idle;
mod index;
mod map;
mod mark;
mod mirror;
mod overwrite;
mod read;
mod recover;
mod resync;
mod rounds;
mod site;
mod snapshot;
mod switch;
mod write;

use std::io;
use std::path::PathBuf;

use crate::report::Document;
use crate::setting;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Durable writes: depth 1, depth 32, sequential, small and misaligned; steady with its setting.
    Write,
    /// Reads: random with the map warm and cold, sequential.
    Read,
    /// What a snapshot or clone costs while hosts write.
    Snapshot,
    /// Opening after `kill -9` with a full journal.
    Recover,
    /// The chunk index: memory and time of a lookup.
    Index,
    /// A mark pass.
    Mark,
    /// What the map costs in bytes written and in memory.
    Map,
    /// Overwriting for long at a given share of full.
    Overwrite,
    /// What idle pods cost.
    Idle,
    /// A stretched pod at depth 1 and at depth 32.
    Mirror,
    /// Resync after an outage.
    Resync,
    /// Pause and losses when an array or the link fails.
    Failover,
    /// Pause when the other array is to order.
    Switch,
}

/// All works, with their words on the command line.
pub const WORKS: [(&str, Work); 13] = [
    ("write", Work::Write),
    ("read", Work::Read),
    ("snapshot", Work::Snapshot),
    ("recover", Work::Recover),
    ("index", Work::Index),
    ("mark", Work::Mark),
    ("map", Work::Map),
    ("overwrite", Work::Overwrite),
    ("idle", Work::Idle),
    ("mirror", Work::Mirror),
    ("resync", Work::Resync),
    ("failover", Work::Failover),
    ("switch", Work::Switch),
];

/// Rounds below which a median says little.
const ROUNDS_MIN: u64 = 5;

/// How a work is done; what is `None` is the work's own choice.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// A few seconds: shows that it works, its figures mean nothing.
    pub quick: bool,
    /// Rounds that are kept.
    pub rounds: Option<u64>,
    /// Where the work's directory is made; the current directory otherwise.
    pub directory: Option<PathBuf>,
    /// Requests under way at a time.
    pub depth: Option<u64>,
    /// Size of the volume or of the set, in bytes.
    pub size_bytes: Option<u64>,
    /// What an array may use, in bytes.
    pub capacity_bytes: Option<u64>,
    /// Writes.
    pub writes: Option<u64>,
    /// Chunks, references or pods.
    pub count: Option<u64>,
    /// Seconds of a round.
    pub seconds: Option<u64>,
    /// Requests that are due in a second, whether earlier ones have ended or not.
    pub rate: Option<u64>,
    /// Writes go on until every stage of the array turns.
    pub steady: bool,
    /// One of the work's cases, by name.
    pub case: Option<String>,
}

impl Settings {
    /// Rounds that are kept: what was asked for, or 5, or 2 when it is to be quick.
    fn rounds(&self) -> u64 {
        self.rounds.unwrap_or(if self.quick { 2 } else { ROUNDS_MIN }).max(1)
    }

    /// One value for quick runs, another one for those that count.
    fn pick<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }

    /// A temporary directory on a real disk.
    fn home(&self) -> io::Result<tempfile::TempDir> {
        let parent = match &self.directory {
            Some(directory) => directory.clone(),
            None => std::env::current_dir()?,
        };
        tempfile::Builder::new().prefix("metropod-bench-").tempdir_in(parent)
    }
}

/// Does a work. Progress goes to stderr.
pub fn run(work: Work, settings: &Settings) -> io::Result<Document> {
    let mut document = match work {
        Work::Write => write::run(settings),
        Work::Read => read::run(settings),
        Work::Snapshot => snapshot::run(settings),
        Work::Recover => recover::run(settings),
        Work::Index => index::run(settings),
        Work::Mark => mark::run(settings),
        Work::Map => map::run(settings),
        Work::Overwrite => overwrite::run(settings),
        Work::Idle => idle::run(settings),
        Work::Mirror => mirror::run(settings),
        Work::Resync => resync::run(settings),
        Work::Failover => failover::run(settings),
        Work::Switch => switch::run(settings),
    }?;
    document.context("rounds", settings.rounds());
    if settings.quick {
        document.context("quick", "sizes and times are too small: these figures mean nothing");
    } else if settings.rounds() < ROUNDS_MIN {
        document.context("few_rounds", "medians of fewer than five rounds say little");
    }
    Ok(document)
}

/// Tells people how far it is.
fn progress(what: std::fmt::Arguments<'_>) {
    eprintln!("{what}, load {}", setting::load_average());
}
