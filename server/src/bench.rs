//! `metropod bench`: the load generator of `metropod-benches`, run by users from the one binary.

use std::fs;

use crate::cli::{BenchOptions, Failure, print_json, print_text};

/// Carries out `metropod bench`. Files are written before anything is printed, so what is printed is complete.
pub fn run(options: &BenchOptions) -> Result<(), Failure> {
    let document = metropod_benches::work::run(options.work, &options.settings())?;
    if let Some(path) = &options.csv {
        fs::write(path, document.csv()?).map_err(|error| cannot_write(path, &error))?;
    }
    if let Some(path) = &options.plot {
        fs::write(path, document.svg()?).map_err(|error| cannot_write(path, &error))?;
    }
    if options.json { print_json(&document.json()?) } else { print_text(&document.text()?) }
}

fn cannot_write(path: &std::path::Path, error: &std::io::Error) -> Failure {
    Failure::new(format_args!("cannot write {}: {error}; give another file", path.display()))
}
