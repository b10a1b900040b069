//! Two arrays and their mediator under random hosts and faults.

use metropod_sim::pair::{Counts, Pair};

/// Seeds that once failed; each stays here.
const REGRESSIONS: &str = include_str!("pair-regressions.txt");

/// The same of runs with managers.
const MANAGED_REGRESSIONS: &str = include_str!("pair-managed-regressions.txt");

/// The same of runs in which the space is counted.
const ACCOUNTED_REGRESSIONS: &str = include_str!("pair-accounted-regressions.txt");

#[allow(clippy::disallowed_methods, reason = "knobs of the person who runs the test")]
fn knob(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn run(seed: u64) -> (Counts, u64) {
    run_pair(seed, |pair| pair)
}

fn run_managed(seed: u64) -> Counts {
    run_pair(seed, Pair::managed).0
}

fn run_pair(seed: u64, prepared: fn(Pair) -> Pair) -> (Counts, u64) {
    let run = std::panic::catch_unwind(|| {
        let mut pair = prepared(Pair::new(seed).verbose(knob("METROPOD_VERBOSE").is_some()));
        (pair.run(), pair.trace())
    });
    match run {
        Ok(done) => done,
        Err(panic) => {
            eprintln!("seed {seed} fails");
            std::panic::resume_unwind(panic);
        }
    }
}

fn seeds_in(text: &str) -> impl Iterator<Item = u64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_whitespace().next()?.parse().ok())
}

#[test]
fn two_arrays_are_one_linearizable_volume_under_random_faults_and_heal() {
    let mut total = Counts::default();
    let first = knob("METROPOD_SEED").unwrap_or(0);
    let seeds = knob("METROPOD_SEEDS").unwrap_or(if first > 0 { 1 } else { 300 });
    let mut failed = Vec::new();
    let keep_going = knob("METROPOD_KEEP_GOING").is_some();
    for seed in first..first + seeds {
        if keep_going {
            match std::panic::catch_unwind(|| run(seed)) {
                Ok((counts, _)) => total += counts,
                Err(_) => failed.push(seed),
            }
        } else {
            total += run(seed).0;
        }
    }
    println!("{seeds} seeds: {total:?}");
    assert!(failed.is_empty(), "{} seeds fail: {failed:?}", failed.len());
    if seeds >= 100 {
        assert!(total.alone > seeds && total.behind > seeds, "the runs do something: {total:?}");
        assert!(total.collected_in_rounds > seeds, "space is collected during rounds: {total:?}");
    }
}

#[test]
fn what_managers_do_is_done_alike_on_both_arrays_under_faults() {
    let mut total = Counts::default();
    let first = knob("METROPOD_SEED").unwrap_or(0);
    let seeds = knob("METROPOD_SEEDS").unwrap_or(if first > 0 { 1 } else { 150 });
    for seed in first..first + seeds {
        total += run_managed(seed);
    }
    println!("{seeds} seeds: {total:?}");
    assert!(total.managed > 10 * seeds, "managers do something: {total:?}");
}

#[test]
fn a_pod_that_is_stretched_right_after_a_volume_came_to_it_is_one_volume_under_random_faults() {
    let mut total = Counts::default();
    let first = knob("METROPOD_SEED").unwrap_or(0);
    let seeds = knob("METROPOD_SEEDS").unwrap_or(if first > 0 { 1 } else { 60 });
    for seed in first..first + seeds {
        total += run_pair(seed, |pair| pair.managed().moved()).0;
    }
    println!("{seeds} seeds: {total:?}");
    let refused = total.moves_or_stretches_refused;
    assert!(seeds < 30 || (refused > seeds / 10 && refused < seeds), "some come first: {total:?}");
    assert!(total.acknowledged > 20 * seeds && total.snapshots > seeds, "the runs do something: {total:?}");
}

#[test]
fn whose_the_space_is_adds_up_whatever_goes_on_while_it_is_counted() {
    let mut total = Counts::default();
    let first = knob("METROPOD_SEED").unwrap_or(0);
    let seeds = knob("METROPOD_SEEDS").unwrap_or(if first > 0 { 1 } else { 60 });
    for seed in first..first + seeds {
        total += run_pair(seed, |pair| pair.managed().accounting()).0;
    }
    println!("{seeds} seeds: {total:?}");
    assert!(total.accounts > 10 * seeds && total.accounts_with_held > seeds, "the runs count: {total:?}");
}

#[test]
fn seeds_that_once_failed_pass() {
    for seed in seeds_in(REGRESSIONS) {
        run(seed);
    }
    for seed in seeds_in(MANAGED_REGRESSIONS) {
        run_managed(seed);
    }
    for seed in seeds_in(ACCOUNTED_REGRESSIONS) {
        run_pair(seed, |pair| pair.managed().accounting());
    }
}

#[test]
fn one_seed_gives_one_trace() {
    for seed in [1, 2, 3] {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
