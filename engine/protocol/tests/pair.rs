//! Random faults on a pair, many seeds: nothing acknowledged is lost, nobody is alone beside the other, and once the faults end both
//! serve again, mirrored, with the right at the mediator.

mod support;

use support::{Event, Random, World, ms};

#[derive(Default)]
struct Tally {
    acked: u64,
    reads: u64,
    alone: [u64; 2],
    resynced: u64,
    pre_elected: u64,
    leaving: u64,
    switched: u64,
}

fn run(seed: u64, tally: &mut Tally) {
    let prepare = |world: &mut World| {
        if seed.is_multiple_of(3) {
            // Without the grace a restarted array races while its promise still binds.
            world.settings.boot_grace = metropod_protocol::Span(0);
        }
        if seed % 4 == 1 {
            // The right moves to an array at each short absence of the mediator, and back.
            world.settings.pre_elect = metropod_protocol::Span::millis(seed % 100);
        }
    };
    let mut world = if seed % 5 == 4 {
        // Faults while the pod is being stretched.
        let mut world = World::stretching_with(seed, prepare);
        world.run_for(ms(3));
        world
    } else {
        World::stretched_with(seed, prepare)
    };
    world.chaos = seed.is_multiple_of(2);
    if world.random.chance(25) {
        world.net.delay = [world.random.below(ms(12)), world.random.below(ms(12))];
    }
    world.hosts = true;
    if Random::new(seed ^ 77).chance(50) {
        world.preferred = Some(support::IDS[(seed % 2) as usize]);
    }
    let span = ms(500) + world.random.below(ms(3_500));
    world.faults_until = world.now + span;
    for _ in 0..3 {
        world.next_host();
    }
    if seed % 7 == 3 {
        // One is to leave, or the other, or after all neither.
        let mut whims = Random::new(seed ^ 99);
        for _ in 0..3 {
            let leaver = [None, Some(0), Some(1)][whims.below(3) as usize];
            world.after(whims.below(span), Event::Leave { leaver });
        }
        tally.leaving += 1;
    }
    if seed % 5 == 2 {
        let mut whims = Random::new(seed ^ 55);
        for _ in 0..4 {
            world.after(whims.below(span), Event::Switch { to: whims.below(2) as usize });
        }
    }
    world.after(0, Event::Strike);
    world.run_for(span);
    world.leave(None);
    world.end_faults();
    let settled = world.run_until(ms(12_000), |world| world.is_whole());
    assert!(settled, "both serve mirrored once the faults are over: {}", world.describe());
    world.hosts = false;
    let finished = world.run_until(ms(6_000), |world| world.is_whole() && world.oracle.open_ops() == 0);
    assert!(finished, "every request ends: {}", world.describe());
    world.run_for(ms(700));
    assert_eq!(world.oracle.open_ops(), 0, "every request ends: {}", world.describe());
    assert!(world.is_whole(), "the pod stays whole: {}", world.describe());
    assert_eq!(world.arrays[0].chains, world.arrays[1].chains, "both logs are the same");
    for array in 0..2 {
        let op = world.submit(array).expect("up");
        world.run_for(ms(200));
        assert!(matches!(world.oracle.outcome(op), Some(metropod_protocol::Outcome::Committed(_))));
    }
    tally.acked += world.oracle.acked;
    tally.reads += world.oracle.reads_done;
    for array in 0..2 {
        tally.alone[array] += u64::from(world.oracle.alone_seen[array]);
    }
    let histories = [0, 1].map(|array| world.machine(array).decisions(usize::MAX));
    let switched = |decision: &metropod_protocol::Decision| {
        matches!(decision.decided, metropod_protocol::Decided::Switched(_))
    };
    tally.switched += histories[0].iter().filter(|decision| switched(decision)).count() as u64;
    tally.resynced += u64::from(world.oracle.resynced);
    tally.pre_elected += u64::from(world.oracle.pre_elected);
}

#[allow(clippy::disallowed_methods, reason = "a test chooses how many seeds it runs")]
fn seeds() -> std::ops::Range<u64> {
    let knob = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let first = knob("METROPOD_SEED");
    let count = knob("METROPOD_SEEDS").unwrap_or(if first.is_some() { 1 } else { 2_000 });
    let first = first.unwrap_or(0);
    first..first + count
}

fn run_residue(residue: u64) {
    let mut tally = Tally::default();
    for seed in seeds().filter(|seed| seed % 2 == residue || seeds().end - seeds().start == 1) {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed, &mut tally)));
        if let Err(panic) = result {
            eprintln!("seed {seed} failed");
            std::panic::resume_unwind(panic);
        }
    }
    println!(
        "acknowledged {} read {} alone {:?} resynced {} pre-elected for want of a mediator {}, leaving {}, switched {}",
        tally.acked,
        tally.reads,
        tally.alone,
        tally.resynced,
        tally.pre_elected,
        tally.leaving,
        tally.switched
    );
}

/// Seeds that once failed, with what they showed; each stays here.
const REGRESSIONS: &[u64] = &[
    // What a joiner flipped to lay within its log, of which only a part was durable when it said so: nothing was sent to it ever after.
    103_708,
];

#[test]
fn seeds_that_once_failed_pass() {
    let mut tally = Tally::default();
    REGRESSIONS.iter().for_each(|seed| run(*seed, &mut tally));
}

#[test]
fn a_pair_survives_random_faults_with_an_unruly_link() {
    run_residue(0);
}

#[test]
fn a_pair_survives_random_faults() {
    run_residue(1);
}
