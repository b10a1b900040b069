//! An array leaves a stretched pod under load, whatever fails meanwhile; its copy becomes a pod of its own; and it can be given
//! the pod again.

use metropod_sim::pair::{Counts, Pair, Shown, SiteFault, ms};

#[allow(clippy::disallowed_methods, reason = "knobs of the person who runs the test")]
fn knob(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn seeds(most: u64) -> std::ops::Range<u64> {
    let first = knob("METROPOD_SEED").unwrap_or(0);
    first..first + knob("METROPOD_SEEDS").unwrap_or(if first > 0 { 1 } else { most })
}

fn stretched(seed: u64) -> Pair {
    let mut pair = Pair::new(seed).verbose(knob("METROPOD_VERBOSE").is_some());
    pair.stretch([None, Some(0), Some(1)][seed as usize % 3], false);
    pair
}

fn ends(mut pair: Pair) -> Counts {
    pair.finish()
}

#[test]
fn an_array_leaves_at_rest_and_its_copy_is_whole() {
    for seed in seeds(20) {
        let mut pair = stretched(seed);
        let leaver = seed as usize % 2;
        pair.hosts(ms(20));
        pair.some_time(ms(300));
        pair.hosts(0);
        pair.run_for(ms(300));
        pair.unstretch((seed / 2) as usize % 2, leaver, false);
        pair.expect_parted(leaver, ms(3_000));
        pair.compare_copy(leaver);
        pair.hosts(ms(20));
        pair.run_for(ms(500));
        pair.restretch(leaver);
        ends(pair);
    }
}

#[test]
fn an_array_leaves_whatever_fails_at_whichever_instant() {
    let mut total = Counts::default();
    let count = seeds(120).end - seeds(120).start;
    for seed in seeds(120) {
        let mut pair = stretched(seed);
        let leaver = seed as usize % 2;
        pair.hosts(ms(10));
        pair.some_time(ms(200));
        let asked = usize::from(pair.chance(50));
        pair.begin_unstretch(asked, leaver);
        pair.some_time(ms(700));
        match seed % 7 {
            0 => pair.cut_link(),
            1 => pair.cut_way_from(leaver),
            2 => pair.kill(leaver),
            3 => pair.kill(1 - leaver),
            4 => pair.lose_mediator(),
            5 => (0..2).for_each(|site| pair.kill(site)),
            _ => pair.faults_for(ms(2_000)),
        }
        pair.some_time(ms(4_000));
        pair.end_faults();
        // If the wish was lost with whoever had heard it, it is said again.
        if !pair.has_parted(leaver) {
            pair.unstretch(1 - leaver, leaver, true);
        }
        pair.expect_parted(leaver, ms(60_000));
        pair.run_for(ms(300));
        if pair.chance(50) {
            // What became of both is on their disks.
            (0..2).for_each(|site| pair.kill(site));
            pair.some_time(ms(100));
            (0..2).for_each(|site| pair.revive(site));
            pair.expect_parted(leaver, ms(10_000));
        }
        pair.restretch(leaver);
        if pair.chance(30) {
            pair.faults_for(ms(2_000));
        }
        total += ends(pair);
    }
    println!("{total:?}");
    assert!(total.acknowledged > 10 * count && total.alone >= count);
}

#[test]
fn an_array_that_is_gone_is_let_go_and_hears_of_it_when_it_is_back() {
    for seed in seeds(20) {
        let mut pair = stretched(seed);
        let leaver = seed as usize % 2;
        pair.hosts(ms(20));
        if pair.chance(50) {
            pair.kill(leaver);
        } else {
            pair.cut_link();
        }
        pair.run_for(ms(2_000));
        if pair.shown(1 - leaver) != Shown::On {
            // The link was cut and the other one won: that one stays.
            continue;
        }
        pair.unstretch(1 - leaver, leaver, true);
        pair.run_for(ms(500));
        assert!(pair.array(1 - leaver).unwrap().pods().all(|pod| pod.peer().is_none()));
        pair.end_faults();
        pair.expect_parted(leaver, ms(5_000));
        pair.restretch(leaver);
        pair.hurt(leaver, SiteFault::Power, ms(20));
        pair.run_for(ms(500));
        ends(pair);
    }
}
