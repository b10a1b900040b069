//! One fault.

use metropod_protocol::MediatorStatus;

use super::{Row, elsewhere, no_preference, open, row};
use crate::pair::Shown::{Dead, Held, Off, On};
use crate::pair::{Pair, SiteFault, ms};

/// How long an array may take to go on alone, or to be told that it must not.
pub(super) const SOON: u64 = ms(4_000);

pub(super) const ROWS: &[Row] = &[
    no_preference(row("F01", "L lost, no preference", ["on or off", "the other"], f01, &[])),
    row("F02", "L lost", ["on", "off"], f02, &[]),
    open("F03", "one of several paths of L lost", ["on", "on"], "arrays have one path to each other"),
    row("F04", "L flaps shorter than detection", ["on", "on"], f04, &[]),
    row(
        "F05",
        "A dies",
        ["–", "on"],
        f05,
        &["engine/tests/pair.rs::the_survivor_goes_on_and_the_lost_array_comes_back_level"],
    ),
    row("F06", "site A lost: array, hosts, MA", ["–", "on"], f06, &[]),
    row(
        "F07",
        "M lost",
        ["on, pre-elected", "on"],
        f07,
        &["engine/tests/pair.rs::without_a_mediator_the_pre_elected_array_goes_on"],
    ),
    row("F08", "MA lost", ["on", "on"], |pair| one_path(pair, 0), &[]),
    row("F09", "MB lost", ["on", "on"], |pair| one_path(pair, 1), &[]),
    row("F10", "A reaches a wrong mediator", ["on, says so", "on"], f10, &[]),
    open(
        "F11",
        "latency of L above its bound, sustained",
        ["on", "off"],
        "latency alone does not count as a loss",
    ),
    row("F12", "L works in one direction only", ["on", "off"], f12, &[]),
    open("F13", "an unstable path", ["on", "on"], "arrays have one path to each other"),
    row("F14", "hosts lose their paths to A", ["on", "on"], f14, &[]),
    row(
        "F16",
        "bits of B's disk turn over",
        ["on", "on, repaired from A"],
        f16,
        &["engine/tests/pair.rs::chunks_that_rot_at_one_array_are_repaired_from_the_other_while_it_serves"],
    ),
    row("F17", "B out of space", ["on", "off"], f17, &[]),
    row("F18", "B's disk is stuck, B answers", ["on", "off"], f18, &[]),
    elsewhere(
        "F65",
        "a stranger asks M in B's name",
        ["–", "–"],
        &[
            "engine/tests/mediator.rs::nobody_creates_or_takes_a_register_with_a_forged_consent",
            "engine/tests/mediator.rs::strangers_who_send_noise_harm_nobody",
        ],
    ),
];

fn f01(pair: &mut Pair) {
    pair.cut_link();
    pair.expect_one(SOON);
}

fn f02(pair: &mut Pair) {
    pair.cut_link();
    pair.expect([On, Off], SOON);
    pair.expect_for([On, Off], ms(1_000));
}

fn f04(pair: &mut Pair) {
    let before = pair.counts();
    for _ in 0..6 {
        pair.cut_link();
        pair.some_time(ms(90));
        pair.mend_link();
        pair.expect([On, On], ms(1_000));
        pair.some_time(ms(400));
    }
    let after = pair.counts();
    assert_eq!((after.alone, after.behind), (before.alone, before.behind), "no resync");
}

fn f05(pair: &mut Pair) {
    pair.kill(0);
    pair.expect([Dead, On], SOON);
    pair.expect_for([Dead, On], ms(1_000));
}

fn f06(pair: &mut Pair) {
    if pair.chance(50) {
        pair.kill(0);
        pair.set_mediator_path(0, false);
    } else {
        pair.set_mediator_path(0, false);
        pair.some_time(ms(100));
        pair.kill(0);
    }
    pair.expect([Dead, On], SOON);
    pair.expect_for([Dead, On], ms(500));
}

fn f07(pair: &mut Pair) {
    pair.lose_mediator();
    pair.until("A is pre-elected", SOON, |pair| pair.have_elected(0));
    pair.expect_for([On, On], ms(1_000));
    pair.restore_mediator();
    pair.until("the right goes back", SOON, |pair| pair.is_healed());
}

fn one_path(pair: &mut Pair, site: usize) {
    pair.set_mediator_path(site, false);
    let until = pair.now() + ms(3_000);
    while pair.now() < until {
        assert_eq!((pair.pre_elected(0), pair.pre_elected(1)), (None, None), "no pre-election");
        pair.expect_for([On, On], ms(50));
    }
}

fn f10(pair: &mut Pair) {
    pair.set_wrong_mediator(0, true);
    pair.until("A says so", SOON, |pair| pair.sees_mediator(0) == Some(MediatorStatus::Wrong));
    pair.expect_for([On, On], ms(1_500));
    if pair.chance(50) {
        // It is as good as lost to A.
        pair.cut_link();
        pair.expect([Held, On], SOON);
    }
    pair.set_wrong_mediator(0, false);
}

fn f12(pair: &mut Pair) {
    let site = pair.some_site();
    pair.cut_way_from(site);
    pair.expect([On, Off], SOON);
    pair.expect_for([On, Off], ms(500));
}

fn f14(pair: &mut Pair) {
    pair.hosts_only_at(1);
    pair.expect_for([On, On], ms(1_000));
}

fn f16(pair: &mut Pair) {
    pair.run_for(ms(300));
    for _ in 0..3 {
        pair.rot(1, 40);
        pair.some_time(ms(300));
        // B comes back, or is brought level, on what is rotten.
        if pair.chance(20) {
            pair.kill(1);
            pair.some_time(ms(600));
            pair.revive(1);
        } else if pair.chance(20) {
            pair.cut_link();
            pair.expect([On, Off], SOON);
            pair.some_time(ms(600));
            pair.mend_link();
        }
    }
    pair.expect([On, On], ms(20_000));
    pair.run_for(ms(6_000));
    if !pair.scrub(1) {
        // A piece of a map that A, which has folded its own at other times, has no equal of.
        pair.unstretch(0, 1, false);
        pair.expect_parted(1, ms(20_000));
        pair.restretch(1);
    }
}

fn f17(pair: &mut Pair) {
    pair.add_neighbour(Some(0));
    pair.leave_room(1, Some(1 << 20));
    pair.neighbour_writes(0, 200, ms(4_000));
    pair.expect([On, Off], ms(20_000));
    pair.neighbour_writes(0, 20, ms(2_000));
    pair.leave_room(1, None);
    pair.expect([On, On], ms(20_000));
}

fn f18(pair: &mut Pair) {
    if pair.chance(50) {
        pair.hurt(1, SiteFault::Stuck, ms(8_000));
        pair.expect([On, Off], SOON);
        return;
    }
    // M lost, and B is pre-elected: it alone may go on, and cannot write.
    pair.change(0, metropod_core::operation::Manage::SetPreference(Some(crate::pair::IDS[1])));
    pair.lose_mediator();
    pair.until("B is pre-elected", SOON, |pair| pair.have_elected(1));
    pair.some_time(ms(300));
    pair.hurt(1, SiteFault::Stuck, ms(4_000));
    // What was durable there may still be acknowledged.
    pair.run_for(ms(200));
    let before = pair.counts().acknowledged;
    let until = pair.now() + ms(3_500);
    while pair.now() < until {
        assert!([0, 1].into_iter().all(|site| [On, Held].contains(&pair.shown(site))));
        pair.run_for(ms(20));
    }
    assert_eq!(pair.counts().acknowledged, before, "writes wait");
    pair.expect([On, On], SOON);
}
