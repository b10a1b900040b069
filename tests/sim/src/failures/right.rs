//! Where the right to go on alone is: pre-election, grants, what the mediator remembers.

use metropod_core::operation::Manage;
use metropod_protocol::MediatorStatus;

use super::apart::{elect, part};
use super::one::SOON;
use super::{Row, elsewhere, row};
use crate::pair::Shown::{Dead, Held, Off, On};
use crate::pair::{IDS, NEIGHBOUR, Pair, ms};

pub(super) const ROWS: &[Row] = &[
    row(
        "F50",
        "A pre-elected, M back for B only, L lost before A hears",
        ["on; off once it gave the right up", "off; on after that"],
        f50,
        &[],
    ),
    row("F51", "A pre-elected → L lost → A on → M back, B reaches it first", ["on", "off"], f51, &[]),
    row("F53", "A pre-elected, B preferred while M is away", ["on", "on, pre-elected"], f53, &[]),
    row("F54", "M grants A, the reply is lost, A asks again", ["on", "off"], f54, &[]),
    row("F55", "M grants A and crashes, B asks after its restart", ["on", "off"], f55, &[]),
    row(
        "F56",
        "M rolled back to an earlier state; A, which knows more, reaches it first",
        ["on", "off"],
        f56,
        &[],
    ),
    row(
        "F58",
        "M and L lost, both arrays given another mediator",
        ["held, says why", "held, says why"],
        f58,
        &["server/tests/cli.rs::refusals_say_why_in_one_line"],
    ),
    elsewhere(
        "F59",
        "M answers later than 300 ms → L lost",
        ["on, pre-elected before", "off"],
        &["tests/chaos/tests/rows.rs::each_row_of_the_failure_table_is_as_it_has_to_be"],
    ),
    row(
        "F63",
        "two pods with different preferences, one cut of L",
        ["by its own preference", "by its own preference"],
        f63,
        &[],
    ),
    row("F88", "L lost, a grant of A that nobody heard → L back → A dies", ["–", "on"], f88, &[]),
    elsewhere(
        "F92",
        "the mediator is being changed, L lost at any instant",
        ["never both on", "never both on"],
        &[
            "engine/protocol/tests/stories_elect.rs::story_20_arrays_that_are_given_another_mediator_take_the_right_there",
            "engine/tests/pair.rs::a_pod_goes_to_another_mediator_when_both_arrays_are_given_it",
        ],
    ),
    row(
        "F94",
        "L lost between any two steps of pre-election, hand back, switch",
        ["at most one on", "the entitled one"],
        f94,
        &[],
    ),
];

fn f50(pair: &mut Pair) {
    elect(pair);
    pair.set_mediator_path(0, false);
    pair.run_for(ms(400));
    pair.restore_mediator();
    pair.some_time(ms(1_200));
    pair.cut_link();
    pair.expect_one(SOON);
}

fn f51(pair: &mut Pair) {
    elect(pair);
    pair.cut_link();
    pair.expect([On, Off], SOON);
    pair.set_mediator_path(0, false);
    pair.restore_mediator();
    pair.expect_for([On, Off], ms(3_000));
}

fn f53(pair: &mut Pair) {
    elect(pair);
    if pair.chance(50) {
        let site = pair.some_site();
        pair.change(site, Manage::SetPreference(Some(IDS[1])));
        pair.until("B is pre-elected", SOON, |pair| pair.have_elected(1));
        pair.expect_for([On, On], ms(500));
    } else {
        // L is lost meanwhile: at most one is on, which every event is looked at for.
        pair.begin_change(0, Manage::SetPreference(Some(IDS[1])));
        pair.some_time(ms(300));
        pair.cut_link();
        pair.run_for(ms(2_000));
        assert_ne!([pair.shown(0), pair.shown(1)], [On, On]);
    }
}

fn f54(pair: &mut Pair) {
    pair.cut_link();
    pair.until("A is granted the right", SOON, |pair| pair.is_granted(0));
    pair.set_mediator_path(0, false);
    pair.expect_at(1, Off, SOON);
    pair.some_time(ms(1_000));
    pair.set_mediator_path(0, true);
    pair.expect([On, Off], SOON);
}

fn f55(pair: &mut Pair) {
    pair.cut_link();
    pair.until("A is granted the right", SOON, |pair| pair.is_granted(0));
    pair.lose_mediator();
    pair.some_time(ms(800));
    pair.restore_mediator();
    pair.expect([On, Off], SOON);
    pair.expect_for([On, Off], ms(1_000));
}

fn f56(pair: &mut Pair) {
    let before = pair.register();
    part(pair);
    pair.set_mediator_path(1, false);
    pair.roll_mediator_back(before);
    pair.some_time(ms(2_000));
    pair.run_for(ms(1_000));
    pair.set_mediator_path(1, true);
    pair.expect_for([On, Off], ms(3_000));
}

fn f58(pair: &mut Pair) {
    pair.lose_mediator();
    pair.some_time(ms(150));
    pair.cut_link();
    pair.expect([Held, Held], SOON);
    (0..2).for_each(|site| pair.set_wrong_mediator(site, true));
    pair.restore_mediator();
    let wrong = Some(MediatorStatus::Wrong);
    pair.until("both say so", SOON, |pair| (0..2).all(|site| pair.sees_mediator(site) == wrong));
    pair.expect_for([Held, Held], ms(2_000));
    (0..2).for_each(|site| pair.set_wrong_mediator(site, false));
    pair.expect_one(SOON);
}

fn f63(pair: &mut Pair) {
    pair.add_neighbour(Some(1));
    pair.cut_link();
    pair.expect([On, Off], SOON);
    pair.until("the other pod goes on at B", SOON, |pair| {
        [0, 1].map(|site| pair.shown_of(site, NEIGHBOUR)) == [Off, On]
    });
    pair.neighbour_writes(1, 5, ms(2_000));
}

fn f88(pair: &mut Pair) {
    pair.cut_link();
    pair.until("A is granted the right", SOON, |pair| pair.is_granted(0));
    pair.set_mediator_path(0, false);
    pair.mend_link();
    pair.expect([On, On], ms(20_000));
    pair.until("the register is healed", ms(10_000), |pair| !pair.is_granted(0));
    pair.some_time(ms(500));
    pair.run_for(ms(500));
    pair.kill(0);
    pair.expect([Dead, On], SOON);
}

fn f94(pair: &mut Pair) {
    let step = pair.chance(50);
    match (step, pair.chance(50)) {
        (true, true) => {
            pair.lose_mediator();
            pair.run_for(ms(900));
        }
        (true, false) => {
            elect(pair);
            pair.restore_mediator();
        }
        (false, _) => {
            let Some(sequencer) = pair.sequencer(0) else { return };
            let asked = pair.some_site();
            pair.begin_switch(asked, 1 - sequencer);
        }
    }
    pair.some_time(ms(500));
    pair.cut_link();
    pair.run_for(ms(3_000));
    assert_ne!([pair.shown(0), pair.shown(1)], [On, On]);
}
