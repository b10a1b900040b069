//! The failure table: each row under many seeds.

use metropod_sim::failures::table::fixed_columns;
use metropod_sim::failures::{By, Row, rows, run};
use metropod_sim::pair::Counts;

#[allow(clippy::disallowed_methods, reason = "knobs of the person who runs the test")]
fn knob(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn row(name: &str) -> &'static Row {
    rows().find(|row| row.id.eq_ignore_ascii_case(name)).expect("a row of the table")
}

fn runs(name: &str) {
    let first = knob("METROPOD_SEED").unwrap_or(0);
    let seeds = knob("METROPOD_SEEDS").unwrap_or(if first > 0 { 1 } else { 20 });
    let mut total = Counts::default();
    for seed in first..first + seeds {
        let ran = std::panic::catch_unwind(|| run(row(name), seed, knob("METROPOD_VERBOSE").is_some()));
        match ran {
            Ok(Some((counts, _))) => total += counts,
            Ok(None) => panic!("{name} has a scenario"),
            Err(panic) => {
                eprintln!("{name}: seed {seed} fails");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{name}: {seeds} seeds: {total:?}");
    assert!(total.acknowledged > 5 * seeds, "hosts do something: {total:?}");
}

macro_rules! scenarios {
    ($($name:ident)*) => {
        $(#[test] fn $name() { runs(stringify!($name)); })*
        const SCENARIOS: &[&str] = &[$(stringify!($name)),*];
    };
}

scenarios! {
    f01 f02 f04 f05 f06 f07 f08 f09 f10 f12 f14 f16 f17 f18
    f20 f21 f22 f23 f24 f26 f27 f28 f29 f30 f31 f32 f36 f37 f38 f39 f40 f41
    f50 f51 f53 f54 f55 f56 f58 f60 f61 f63
    f70 f71 f72 f73 f76 f86 f87 f88 f89 f90 f91 f93 f94
}

#[test]
fn every_scenario_of_the_table_runs_here() {
    let of_table: Vec<String> =
        rows().filter(|row| matches!(row.shown, By::Scenario(..))).map(|row| row.id.to_lowercase()).collect();
    assert_eq!(SCENARIOS, of_table);
}

/// The repository.
fn home() -> &'static std::path::Path {
    std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[test]
fn the_document_has_every_row_and_no_other() {
    let document =
        std::fs::read_to_string(home().join("docs/faults-matrix.md")).expect("the document is there");
    let lines: Vec<&str> = document.lines().filter(|line| line.starts_with("| F")).collect();
    let rows: Vec<String> = rows().map(fixed_columns).collect();
    assert_eq!(lines.len(), rows.len());
    for (line, row) in lines.iter().zip(rows) {
        assert!(line.starts_with(&row), "the document is made anew when a row changes: {line}");
        assert!(!line.contains("FAILS") && !line.contains("not run"), "{line}");
    }
}

#[test]
fn the_tests_that_rows_name_are_there() {
    let named = rows().flat_map(|row| {
        let tests: &[&str] = if let By::Tests(tests) = row.shown { tests } else { &[] };
        tests.iter().chain(row.real)
    });
    for test in named {
        let (file, function) = test.split_once("::").expect("file and function");
        let text = std::fs::read_to_string(home().join(file)).unwrap_or_default();
        assert!(text.contains(&format!("fn {function}(")), "{test}");
    }
}

#[test]
fn one_seed_gives_one_trace() {
    for name in ["f41", "f93"] {
        assert_eq!(run(row(name), 5, false), run(row(name), 5, false));
    }
}
