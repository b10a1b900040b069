//! Options of `metropod bench`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use metropod_benches::work::{Settings, WORKS, Work};

use super::size::SizeBytes;

/// Options of `bench`. A work takes those that concern it.
#[derive(Debug, Args)]
pub struct BenchOptions {
    /// What is measured
    #[arg(value_parser = PossibleValuesParser::new(WORKS.map(|(word, _)| word)).map(|word| work(&word)))]
    pub work: Work,
    /// A few seconds: shows that it works; the figures mean nothing
    #[arg(long)]
    pub quick: bool,
    /// Prints one JSON document
    #[arg(long)]
    pub json: bool,
    /// Writes samples and percentiles to this file, comma-separated
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Draws latencies, rates over time and medians into this file, as SVG
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Where a directory for the run is made, on the disk that is measured; it is removed afterwards [default: here]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Rounds; medians of fewer than five say little [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub rounds: Option<u64>,
    /// Requests under way at a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub depth: Option<u64>,
    /// Size of the volume, set or image
    #[arg(long, value_name = "SIZE")]
    pub size: Option<SizeBytes>,
    /// overwrite: the capacity of the array, at least 256M
    #[arg(long, value_name = "SIZE")]
    pub capacity: Option<SizeBytes>,
    /// Requests of a round; overwrite: of all rounds together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub writes: Option<u64>,
    /// Chunks (index, recover), references (mark), pods (idle), trials (failover, switch)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Seconds of a round (idle, snapshot)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: Option<u64>,
    /// write: so many a second are due, whether earlier ones have ended or not; what waits is counted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000), conflicts_with = "steady")]
    pub rate: Option<u64>,
    /// write: until every stage of the array turns
    #[arg(long)]
    pub steady: bool,
    /// map: full-100g, full-1t, sparse-1t or skewed-1t; failover: kill, cut or freeze
    #[arg(long, value_name = "NAME")]
    pub case: Option<String>,
}

impl BenchOptions {
    /// The same for the load generator.
    pub fn settings(&self) -> Settings {
        Settings {
            quick: self.quick,
            rounds: self.rounds,
            directory: self.dir.clone(),
            depth: self.depth,
            size_bytes: self.size.map(|size| size.0),
            capacity_bytes: self.capacity.map(|size| size.0),
            writes: self.writes,
            count: self.count,
            seconds: self.seconds,
            rate: self.rate,
            steady: self.steady,
            case: self.case.clone(),
        }
    }
}

/// The work of a word that is one of them.
fn work(word: &str) -> Work {
    let found = WORKS.into_iter().find(|(known, _)| *known == word);
    found.expect("the parser lets only works pass").1
}
