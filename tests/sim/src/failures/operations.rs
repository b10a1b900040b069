//! What hosts and managers do while something fails.

use metropod_core::operation::{Manage, Target};

use super::apart::part;
use super::one::SOON;
use super::{Row, elsewhere, open, row};
use crate::pair::Shown::{Off, On, Resyncing};
use crate::pair::{Pair, ms};

pub(super) const ROWS: &[Row] = &[
    row(
        "F70",
        "both sides write the same blocks, either crashes at any instant",
        ["one order", "the same"],
        f70,
        &["tests/chaos/tests/minute.rs::most_of_a_minute_of_chaos_finds_nothing_wrong"],
    ),
    row(
        "F71",
        "a read at B after a write at A was acknowledged, across a failover too",
        ["–", "sees it"],
        f71,
        &["tests/chaos/tests/minute.rs::most_of_a_minute_of_chaos_finds_nothing_wrong"],
    ),
    row(
        "F72",
        "a snapshot of the pod at the instant L is lost",
        ["the same or none", "the same or none"],
        f72,
        &[],
    ),
    row(
        "F73",
        "volumes made, resized, destroyed while B is off",
        ["on", "has it all after rejoining"],
        f73,
        &[],
    ),
    elsewhere(
        "F75",
        "stretching interrupted, resumed",
        ["on", "what arrived is not sent again"],
        &["engine/core/src/transfer/tests/faults.rs::an_interrupted_round_ships_nothing_twice_that_arrived"],
    ),
    row(
        "F76",
        "unstretched, stretched again",
        ["on", "takes what it lacks"],
        f76,
        &["engine/tests/pair.rs::an_array_leaves_keeps_a_copy_and_is_given_the_pod_again"],
    ),
    open("F78", "async leg to C while A dies", ["–", "goes on with C"], "there is no async leg"),
    open("F79", "C away for days", ["on", "on"], "there is no async leg"),
    open("F80", "an async pod becomes sync", ["on", "on"], "there is no async leg"),
    open("F81", "a replica is promoted for a test", ["–", "–"], "there is no async leg"),
    open("F82", "promote while baselining", ["–", "–"], "there is no async leg"),
    open("F83", "demote with quiesce while the link is down", ["–", "–"], "there is no async leg"),
    open("F84", "rolling upgrade", ["every row", "every row"], "there is one version"),
    elsewhere(
        "F85",
        "a chunk damaged on the wire or at its source",
        ["on", "never stored"],
        &[
            "engine/core/src/transfer/tests/faults.rs::a_damaged_chunk_is_asked_for_again",
            "tests/sim/tests/window.rs::a_pod_whose_entry_is_damaged_leaves_its_peer_and_is_brought_level",
        ],
    ),
    row("F86", "resync under constant writes", ["on, not starved", "RS, on"], f86, &[]),
    row("F87", "both came apart, neither wrote", ["on", "RS, on; no alarm"], f87, &[]),
    row(
        "F89",
        "a host gives a write up and writes the same block by the other side",
        ["the first never appears later", "the same"],
        f89,
        &["tests/chaos/tests/minute.rs::most_of_a_minute_of_chaos_finds_nothing_wrong"],
    ),
    row("F93", "JOIN interrupted by a crash of either at any effect", ["on", "off or RS"], f93, &[]),
];

fn f70(pair: &mut Pair) {
    pair.hosts(ms(2));
    pair.some_time(ms(200));
    let site = pair.some_site();
    pair.kill(site);
    pair.until("the other goes on", SOON, |pair| pair.shown(1 - site) == On);
    pair.some_time(ms(300));
}

fn f71(pair: &mut Pair) {
    pair.hosts(ms(4));
    for _ in 0..4 {
        let first = pair.some_block();
        if let Some((_, number)) = pair.write(0, first..first + 8, false) {
            pair.until("the write is answered", SOON, |pair| !pair.is_under_way(0, number));
        }
        match pair.chance(20) {
            true => pair.cut_link(),
            false => pair.some_time(ms(20)),
        }
        pair.read(1, first..first + 8);
    }
    pair.cut_link();
    let site = pair.some_site();
    pair.kill(site);
    pair.some_time(ms(1_500));
}

fn f72(pair: &mut Pair) {
    for _ in 0..2 {
        let site = pair.some_site();
        pair.snapshot(site);
        pair.some_time(ms(8));
    }
    pair.cut_link();
    pair.expect([On, Off], SOON);
    pair.snapshot(0);
    pair.some_time(ms(300));
}

fn f73(pair: &mut Pair) {
    let kept = pair.make_volume(0, "kept", 1 << 20);
    let gone = pair.make_volume(0, "gone", 1 << 20);
    part(pair);
    let made = pair.make_volume(0, "made", 2 << 20);
    pair.change(0, Manage::Resize { volume: kept, size_bytes: 3 << 20, truncate: false });
    pair.change(0, Manage::Destroy { target: Target::Volume(gone), contents: true, delay_ms: 600_000 });
    pair.some_time(ms(500));
    pair.mend_link();
    pair.expect([On, On], ms(20_000));
    let held = [made, kept].map(|volume| pair.holds(1, volume));
    assert_eq!(held, [Some(2 << 20), Some(3 << 20)], "B has it all");
}

fn f76(pair: &mut Pair) {
    let leaver = pair.some_site();
    let asked = pair.some_site();
    pair.unstretch(asked, leaver, false);
    pair.expect_parted(leaver, ms(10_000));
    pair.some_time(ms(1_000));
    pair.restretch(leaver);
}

fn f86(pair: &mut Pair) {
    part(pair);
    pair.hosts(ms(2));
    pair.some_time(ms(1_000));
    let before = pair.counts().acknowledged;
    pair.mend_link();
    pair.expect([On, On], ms(20_000));
    assert!(pair.counts().acknowledged > before, "hosts are served meanwhile");
}

fn f87(pair: &mut Pair) {
    pair.hosts(0);
    pair.run_for(ms(500));
    part(pair);
    pair.some_time(ms(3_000));
    pair.mend_link();
    pair.expect([On, On], ms(20_000));
}

fn f89(pair: &mut Pair) {
    let site = pair.some_site();
    let first = pair.some_block();
    if pair.chance(50) {
        pair.cut_link();
    }
    let Some((request, _)) = pair.write(site, first..first + 8, false) else { return };
    pair.some_time(ms(3));
    pair.give_up(site, request);
    pair.some_time(ms(3));
    pair.write(1 - site, first..first + 8, false);
    pair.some_time(ms(600));
    pair.mend_link();
    pair.some_time(ms(1_000));
    for at in 0..2 {
        pair.read(at, first..first + 8);
    }
}

fn f93(pair: &mut Pair) {
    part(pair);
    pair.hosts(ms(4));
    pair.some_time(ms(500));
    pair.mend_link();
    if pair.chance(80) {
        pair.until("B catches up", SOON, |pair| pair.shown(1) == Resyncing);
    }
    let site = pair.some_site();
    pair.cut_power_at_some_effect(site, 60);
    pair.some_time(ms(800));
    pair.kill(site);
    if site == 1 {
        pair.until("A goes on", SOON, |pair| pair.shown(0) == On);
    }
    pair.some_time(ms(300));
    pair.revive(site);
    pair.expect([On, On], ms(20_000));
}
