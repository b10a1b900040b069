//! One array under random hosts and power cuts.

use metropod_core::namespace::Limits;
use metropod_core::{ManageError, Managed};
use metropod_protocol::Span;
use metropod_sim::solo::{Counts, OVERLAY_ENTRIES, Solo};

/// Steps of one run.
const STEPS: u64 = 300;

#[allow(clippy::disallowed_methods, reason = "which seeds are run is a knob of the person who runs the test")]
fn knob(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn seeds(default: u64) -> u64 {
    knob("METROPOD_SEEDS").unwrap_or(default)
}

#[test]
fn acknowledged_writes_and_snapshots_survive_power_cuts_at_any_effect() {
    let total = run(seeds(1_000), Solo::new);
    assert_eq!(total.churned, 0);
}

#[test]
fn what_managers_did_survives_power_cuts_and_ends_in_its_time() {
    let seeds = seeds(300);
    let total = run(seeds, |seed| Solo::new(seed).churning());
    assert!(total.churned > 5 * seeds, "managers do something: {total:?}");
}

#[test]
fn a_volume_that_moves_between_pods_keeps_what_was_acknowledged_and_is_in_one_place() {
    let seeds = seeds(300);
    let total = run(seeds, |seed| Solo::new(seed).moving());
    assert!(total.moves > 2 * seeds && total.turned_back > seeds / 10, "it moves: {total:?}");
    assert!(total.snapshots > seeds, "with snapshots: {total:?}");
}

#[test]
fn a_volume_moves_while_managers_collector_scrub_and_accounts_go_on() {
    let seeds = seeds(300);
    let total = run(seeds, |seed| {
        let solo = Solo::new(seed).moving();
        // Every mixture of what else goes on.
        match seed / 2 % 3 {
            0 => solo.collecting().churning(),
            1 => solo.collecting(),
            _ => solo.churning(),
        }
    });
    assert!(total.moves > seeds && total.turned_back > seeds / 20, "it moves: {total:?}");
    assert!(total.recounts >= seeds / 3 && total.dead_chunks > seeds / 2, "space comes back: {total:?}");
    assert!(total.scrubbed > seeds / 2 && total.accounts > seeds && total.churned > seeds, "{total:?}");
}

#[test]
fn what_the_collector_leaves_is_what_a_recount_finds_whatever_happened_meanwhile() {
    let seeds = seeds(300);
    let total = run(seeds, |seed| Solo::new(seed).collecting().churning());
    assert!(total.recounts == seeds && total.dead_chunks > seeds, "the collector does something: {total:?}");
    assert!(total.scrubbed > seeds, "and so does the scrub: {total:?}");
    assert!(total.accounts > 2 * seeds, "and whose the space is is counted meanwhile: {total:?}");
}

#[test]
fn a_bounded_array_loses_nothing_and_gives_back_what_nobody_names() {
    let seeds = seeds(100);
    // From less than the volume takes to enough for some snapshots.
    let make = |seed| Solo::new(seed).within((9 + seed % 8) << 17).churning();
    let total = run_for(4 * STEPS, seeds, make);
    assert!(total.recounts == seeds && total.dead_chunks > seeds, "the collector does something: {total:?}");
    assert!(total.moved_bytes > seeds << 10, "and so does cleaning: {total:?}");
    assert!(total.refused > seeds && total.acknowledged > seeds, "it is full at times: {total:?}");
}

#[test]
fn what_waited_once_is_not_eradicated_when_it_is_destroyed_again() {
    let came_to = Solo::new(1).churning().eradications_that_come_late();
    assert_eq!(came_to, [Err(ManageError::NotDestroyed), Ok(Managed::Done)]);
}

#[test]
fn destroyed_snapshots_that_move_end_no_earlier_and_at_last() {
    let waited = Solo::new(1).churning().moving().destroyed_snapshots_move();
    for span in waited {
        let ms = span.0 / 1_000_000;
        assert!((400_000..1_000_000).contains(&ms), "{ms} ms of at least 400,000");
    }
}

#[test]
fn hosts_get_the_rate_that_a_volume_is_limited_to() {
    let mut solo = Solo::new(1);
    let ms = |span: Span| span.0 / 1_000_000;
    assert!(ms(solo.time_of(Limits { iops: 0, bytes_per_s: 0 }, 200)) < 100);
    let iops = ms(solo.time_of(Limits { iops: 100, bytes_per_s: 0 }, 200));
    assert!((3_900..=4_000).contains(&iops), "400 requests at 100 a second: {iops} ms");
    let bytes = ms(solo.time_of(Limits { iops: 0, bytes_per_s: 1 << 20 }, 200));
    assert!((1_480..=1_570).contains(&bytes), "1600 KiB at 1 MiB a second: {bytes} ms");
    assert!(ms(solo.time_of(Limits { iops: 0, bytes_per_s: 0 }, 200)) < 100);
}

#[test]
fn layers_of_many_snapshots_stay_within_their_budget() {
    for seed in [0, 2, 4, 6] {
        let mut solo = Solo::new(seed);
        let (entries, layers) = solo.many_snapshots(150);
        println!("seed {seed}: {entries} entries, {layers} layers at most");
        assert!(entries <= OVERLAY_ENTRIES + 40, "seed {seed}: {entries} entries");
        assert!(layers <= 8, "seed {seed}: {layers} layers");
        let counts = solo.run(100);
        assert!(counts.folds > 50, "seed {seed}: {counts:?}");
    }
}

fn run(seeds: u64, make: impl Fn(u64) -> Solo + std::panic::RefUnwindSafe) -> Counts {
    run_for(STEPS, seeds, make)
}

fn run_for(steps: u64, seeds: u64, make: impl Fn(u64) -> Solo + std::panic::RefUnwindSafe) -> Counts {
    let mut total = Counts::default();
    let first = knob("METROPOD_SEED").unwrap_or(0);
    for seed in first..first + seeds {
        let counts = match std::panic::catch_unwind(|| make(seed).run(steps)) {
            Ok(counts) => counts,
            Err(panic) => {
                eprintln!("seed {seed} fails");
                std::panic::resume_unwind(panic);
            }
        };
        total.merges += counts.merges;
        total.folds += counts.folds;
        total.acknowledged += counts.acknowledged;
        total.crashes += counts.crashes;
        total.snapshots += counts.snapshots;
        total.flows += counts.flows;
        total.checked_bytes += counts.checked_bytes;
        total.churned += counts.churned;
        total.moves += counts.moves;
        total.turned_back += counts.turned_back;
        total.collected += counts.collected;
        total.dead_chunks += counts.dead_chunks;
        total.recounts += counts.recounts;
        total.scrubbed += counts.scrubbed;
        total.accounts += counts.accounts;
        total.refused += counts.refused;
        total.moved_bytes += counts.moved_bytes;
    }
    assert!(total.merges > seeds && total.folds > seeds, "layers are merged and folded: {total:?}");
    println!("{seeds} seeds: {total:?}");
    assert!(total.acknowledged > seeds && total.crashes > seeds, "the runs do something: {total:?}");
    total
}

#[test]
fn one_seed_gives_one_trace() {
    for seed in [1, 2, 3] {
        let mut one = Solo::new(seed);
        let mut other = Solo::new(seed);
        assert_eq!(one.run(STEPS), other.run(STEPS));
        assert_eq!(one.trace(), other.trace(), "seed {seed}");
    }
}
