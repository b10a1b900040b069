//! The table as a document: every row, what was tried of it, and what came of it.

use std::collections::BTreeMap;

use super::{By, Row, rows};
use crate::pair::Counts;

/// What was tried of a row.
#[derive(Debug, Default)]
pub struct Tried {
    /// Seeds that were run.
    pub seeds: u64,
    /// What happened in those that passed.
    pub counts: Counts,
    /// Seeds that failed.
    pub failed: Vec<u64>,
    /// Runs with real processes.
    pub real: u64,
}

/// The columns of a row that no run changes.
pub fn fixed_columns(row: &Row) -> String {
    format!("| {} | {} | {} | {} |", row.id, row.event, row.a, row.b)
}

/// The document's table.
pub fn table(tried: &BTreeMap<&str, Tried>) -> String {
    let mut lines = vec![
        "| | event | A | B | simulated | real processes | result |".to_owned(),
        "|---|---|---|---|---|---|---|".to_owned(),
    ];
    for row in rows() {
        let none = Tried::default();
        let of = tried.get(row.id).unwrap_or(&none);
        lines.push(format!(
            "{} {} | {} | {} |",
            fixed_columns(row),
            simulated(row, of),
            real(row, of),
            result(row, of)
        ));
    }
    lines.join("\n")
}

fn simulated(row: &Row, of: &Tried) -> String {
    match row.shown {
        By::Scenario(..) => {
            let Counts { events, acknowledged, reads, .. } = of.counts;
            format!("{} seeds: {events} events, {} requests checked", of.seeds, acknowledged + reads)
        }
        By::Tests(tests) => short(tests),
        By::Open(_) => "–".to_owned(),
    }
}

fn real(row: &Row, of: &Tried) -> String {
    let runs = (of.real > 0).then(|| format!("{} runs", of.real));
    let tests = (!row.real.is_empty()).then(|| short(row.real));
    let all: Vec<String> = runs.into_iter().chain(tests).collect();
    if all.is_empty() { "–".to_owned() } else { all.join("; ") }
}

fn result(row: &Row, of: &Tried) -> String {
    match row.shown {
        By::Open(missing) => format!("not built: {missing}"),
        By::Scenario(..) if of.seeds == 0 => "not run".to_owned(),
        _ if of.failed.is_empty() => "as it has to be".to_owned(),
        _ => format!("FAILS with seeds {:?}", of.failed),
    }
}

/// Tests by the end of their file's name and the beginning of their own.
fn short(tests: &[&str]) -> String {
    let one = |test: &&str| {
        let (file, function) = test.split_once("::").unwrap_or((test, ""));
        let file = file.rsplit('/').next().unwrap_or(file).trim_end_matches(".rs");
        let words: Vec<&str> = function.split('_').take(6).collect();
        format!("`{file}::{}…`", words.join("_"))
    };
    tests.iter().map(one).collect::<Vec<_>>().join(", ")
}
