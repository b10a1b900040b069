//! `failure-table SEEDS [REAL]`: runs every row of the failure table from that many seeds and prints the document.
//!
//! REAL is the output of `metropod-chaos --rows N --json`: its last line says how often which row was put to real processes.
//! Exit status 1 when a seed fails.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use metropod_sim::failures::table::{Tried, table};
use metropod_sim::failures::{Row, rows, run};

const TITLE: &str = "# Every failure, tried

Made by `cargo run --release -p metropod-sim --bin failure-table -- SEEDS REAL`, where REAL is what `metropod-chaos --rows N --json`
printed; a test compares its rows with those of the scenarios (`tests/sim/src/failures`). What is meant by A, B, M, L, *on*, *held*
and *off* is in [faults.md](faults.md). A is preferred unless a row says otherwise. *Simulated*: two whole arrays, their mediator
and hosts on simulated media, links and clocks, another interleaving with each seed; after each event nobody may be on that must
not be, every answer is checked, and in the end both arrays are whole and hold the same. *Real processes*: the same done to
processes in network namespaces, under hosts whose answers are checked.
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(Ok(seeds)) = arguments.next().map(|text| text.parse::<u64>()) else {
        eprintln!("usage: failure-table SEEDS [REAL]");
        return ExitCode::from(2);
    };
    let real = match arguments.next().map(std::fs::read_to_string).transpose() {
        Ok(text) => real_runs(&text.unwrap_or_default()),
        Err(error) => {
            eprintln!("the file of real runs cannot be read: {error}");
            return ExitCode::from(2);
        }
    };
    std::panic::set_hook(Box::new(|_| {}));
    let rows: Vec<&Row> = rows().collect();
    let (next, tried) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let of = Tried { real: real.get(row.id).copied().unwrap_or(0), ..try_row(row, seeds) };
                    eprintln!("{}: {} seeds, failed {:?}", row.id, of.seeds, of.failed);
                    tried.lock().expect("no thread panics here").insert(row.id, of);
                }
            });
        }
    });
    let tried = tried.into_inner().expect("no thread panics here");
    println!("{TITLE}\n{}", table(&tried));
    let failed = tried.values().any(|of| !of.failed.is_empty());
    ExitCode::from(u8::from(failed))
}

fn try_row(row: &Row, seeds: u64) -> Tried {
    let mut of = Tried::default();
    for seed in 0..seeds {
        match std::panic::catch_unwind(|| run(row, seed, false)) {
            Ok(None) => break,
            Ok(Some((counts, _))) => of.counts += counts,
            Err(_) => of.failed.push(seed),
        }
        of.seeds += 1;
    }
    of
}

fn real_runs(text: &str) -> BTreeMap<String, u64> {
    let last: serde_json::Value =
        text.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    let rows = last["rows"].as_object().cloned().unwrap_or_default();
    rows.into_iter().filter_map(|(id, count)| Some((id, count.as_u64()?))).collect()
}
