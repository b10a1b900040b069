//! The failure table, row by row: what is lost, what both arrays then show, and a scenario of two whole arrays that shows it.
//!
//! A scenario runs under any seed. The seed decides the delays of disks, links and the mediator, what hosts write and where,
//! how long each step lasts, and which form of the row it is; the oracles of [`crate::pair`] look at every event of it, and in
//! the end everything heals and both arrays are compared.
//!
//! - F1: each row is in [`ROWS`] once, in order; what is not run here says where it is shown, or that it is not built.

mod apart;
mod one;
mod operations;
mod right;
pub mod table;

use crate::pair::{Counts, Pair, ms};

/// A row of the table.
pub struct Row {
    /// Its name, which tests and documents use.
    pub id: &'static str,
    /// What happens.
    pub event: &'static str,
    /// What A shows.
    pub a: &'static str,
    /// What B shows.
    pub b: &'static str,
    /// How it is shown.
    pub shown: By,
    /// Tests with real processes, disks and sockets: file and function.
    pub real: &'static [&'static str],
}

/// How a row is shown.
pub enum By {
    /// By a scenario, with the preferred site.
    Scenario(Option<usize>, fn(&mut Pair)),
    /// By tests of its own: file and function.
    Tests(&'static [&'static str]),
    /// Not yet: what is missing.
    Open(&'static str),
}

/// Every row, in order.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    let mut rows: Vec<&Row> =
        [one::ROWS, apart::ROWS, right::ROWS, operations::ROWS].into_iter().flatten().collect();
    rows.sort_by_key(|row| row.id);
    rows.into_iter()
}

/// Runs a row's scenario from a seed, to the end where all is mended and compared. `None`: it has none.
pub fn run(row: &Row, seed: u64, verbose: bool) -> Option<(Counts, u64)> {
    let By::Scenario(preferred, story) = row.shown else { return None };
    let mut pair = Pair::new(seed).verbose(verbose);
    pair.stretch(preferred, false);
    let busy = if pair.chance(30) { ms(4) } else { ms(25) };
    pair.hosts(busy);
    pair.some_time(ms(300));
    story(&mut pair);
    Some((pair.finish(), pair.trace()))
}

/// A row that a scenario with A preferred shows.
const fn row(
    id: &'static str,
    event: &'static str,
    [a, b]: [&'static str; 2],
    story: fn(&mut Pair),
    real: &'static [&'static str],
) -> Row {
    Row { id, event, a, b, shown: By::Scenario(Some(0), story), real }
}

/// The same without a preference.
const fn no_preference(row: Row) -> Row {
    match row.shown {
        By::Scenario(_, story) => Row { shown: By::Scenario(None, story), ..row },
        _ => row,
    }
}

/// A row that has tests of its own.
const fn elsewhere(
    id: &'static str,
    event: &'static str,
    [a, b]: [&'static str; 2],
    tests: &'static [&'static str],
) -> Row {
    Row { id, event, a, b, shown: By::Tests(tests), real: &[] }
}

/// A row that is not built.
const fn open(
    id: &'static str,
    event: &'static str,
    [a, b]: [&'static str; 2],
    missing: &'static str,
) -> Row {
    Row { id, event, a, b, shown: By::Open(missing), real: &[] }
}
