//! Two and more faults: who goes on, and who comes back.

use super::one::SOON;
use super::{Row, row};
use crate::pair::Shown::{Dead, Held, Off, On, Resyncing};
use crate::pair::{Pair, SiteFault, ms};

pub(super) const ROWS: &[Row] = &[
    row("F20", "M lost → A pre-elected → L lost", ["on", "off"], f20, &[]),
    row("F21", "M lost → A pre-elected → B dies", ["on", "–"], f21, &[]),
    row("F22", "M lost → A pre-elected → A dies", ["–", "off"], f22, &[]),
    row("F23", "M and L lost", ["held", "held"], f23, &[]),
    row("F24", "M and L lost → L back", ["on", "on"], f24, &[]),
    row("F26", "MA lost → L lost", ["held, off when it hears of B", "on"], f26, &[]),
    row("F27", "MB lost → L lost", ["on", "held, off when it hears of A"], f27, &[]),
    row("F28", "MA lost → B dies", ["held, on when M answers", "–"], f28, &[]),
    row("F29", "MA lost → A dies", ["–", "on"], f29, &[]),
    row("F30", "L lost → A won → A dies", ["–", "off"], f30, &[]),
    row("F31", "L lost → A won → A dies → A returns", ["on", "RS, on"], f31, &[]),
    row("F32", "L lost → A won → M lost", ["on", "off"], f32, &[]),
    row("F36", "A, B and M lose power → all back", ["on", "on"], f36, &[]),
    row("F37", "L lost, A dies at any instant of the race", ["–", "on; off if A was granted it"], f37, &[]),
    row("F38", "L lost → A won → L back, B RS → L lost", ["on", "off"], f38, &[]),
    row("F39", "B RS → A dies", ["–", "off"], f39, &[]),
    row("F40", "B RS → M lost", ["on", "RS, on"], f40, &[]),
    row("F41", "the step that ends RS races with L lost", ["on", "off; or the other way round"], f41, &[]),
    row("F60", "A frozen longer than its lease, B wins, A thaws", ["off", "on"], f60, &[]),
    row("F61", "clocks drift within the bound", ["on", "off"], f61, &[]),
    row("F90", "B restarts within A's lease and wins", ["held", "on"], f90, &[]),
    row("F91", "the sequencer restarts, the follower's log is longer", ["on", "on"], f91, &[]),
];

/// M is lost, and A is pre-elected.
pub(super) fn elect(pair: &mut Pair) {
    pair.lose_mediator();
    pair.until("A is pre-elected", SOON, |pair| pair.have_elected(0));
    pair.some_time(ms(400));
}

/// L is lost, and A goes on.
pub(super) fn part(pair: &mut Pair) {
    pair.cut_link();
    pair.expect([On, Off], SOON);
    pair.some_time(ms(400));
}

/// L is back, and B is being brought level.
fn resync(pair: &mut Pair) {
    part(pair);
    pair.mend_link();
    pair.until("B catches up", SOON, |pair| pair.shown(1) == Resyncing);
}

fn f20(pair: &mut Pair) {
    elect(pair);
    pair.cut_link();
    pair.expect([On, Off], SOON);
    pair.expect_for([On, Off], ms(1_000));
}

fn f21(pair: &mut Pair) {
    elect(pair);
    pair.kill(1);
    pair.expect([On, Dead], SOON);
    pair.expect_for([On, Dead], ms(1_000));
}

fn f22(pair: &mut Pair) {
    elect(pair);
    pair.kill(0);
    pair.expect([Dead, Off], SOON);
    // M does not matter then.
    pair.restore_mediator();
    pair.expect_for([Dead, Off], ms(3_000));
}

fn f23(pair: &mut Pair) {
    let restart = pair.chance(50);
    pair.lose_mediator();
    pair.some_time(ms(150));
    pair.cut_link();
    pair.expect([Held, Held], SOON);
    pair.expect_for([Held, Held], ms(3_000));
    if restart {
        // Who reaches it first goes on.
        pair.restore_mediator();
        pair.expect_one(SOON);
    }
}

fn f24(pair: &mut Pair) {
    let before = pair.counts();
    pair.lose_mediator();
    pair.some_time(ms(150));
    pair.cut_link();
    pair.expect([Held, Held], SOON);
    pair.some_time(ms(3_000));
    pair.mend_link();
    pair.expect([On, On], SOON);
    let after = pair.counts();
    assert_eq!((after.alone, after.behind), (before.alone, before.behind), "no race, no resync");
}

fn f26(pair: &mut Pair) {
    pair.set_mediator_path(0, false);
    pair.some_time(ms(800));
    pair.cut_link();
    pair.expect([Held, On], SOON);
    pair.expect_for([Held, On], ms(1_000));
    pair.set_mediator_path(0, true);
    pair.expect([Off, On], SOON);
}

fn f27(pair: &mut Pair) {
    pair.set_mediator_path(1, false);
    pair.some_time(ms(800));
    pair.cut_link();
    pair.expect([On, Held], SOON);
    pair.expect_for([On, Held], ms(1_000));
    pair.set_mediator_path(1, true);
    pair.expect([On, Off], SOON);
}

fn f28(pair: &mut Pair) {
    pair.set_mediator_path(0, false);
    pair.some_time(ms(800));
    pair.kill(1);
    pair.expect([Held, Dead], SOON);
    pair.expect_for([Held, Dead], ms(1_500));
    pair.set_mediator_path(0, true);
    pair.expect([On, Dead], SOON);
}

fn f29(pair: &mut Pair) {
    pair.set_mediator_path(0, false);
    pair.some_time(ms(800));
    pair.kill(0);
    pair.expect([Dead, On], SOON);
    pair.expect_for([Dead, On], ms(500));
}

fn f30(pair: &mut Pair) {
    part(pair);
    pair.kill(0);
    if pair.chance(50) {
        pair.mend_link();
    }
    pair.expect_for([Dead, Off], ms(4_000));
}

fn f31(pair: &mut Pair) {
    part(pair);
    pair.kill(0);
    pair.some_time(ms(1_500));
    pair.revive(0);
    pair.expect([On, Off], SOON);
    pair.some_time(ms(500));
    pair.mend_link();
    pair.expect([On, On], ms(20_000));
}

fn f32(pair: &mut Pair) {
    part(pair);
    pair.lose_mediator();
    pair.expect_for([On, Off], ms(2_000));
}

fn f36(pair: &mut Pair) {
    let before = pair.counts();
    pair.hurt(0, SiteFault::Power, ms(600_000));
    pair.hurt(1, SiteFault::Power, ms(600_000));
    pair.lose_mediator();
    pair.some_time(ms(500));
    pair.restore_mediator();
    let (first, within) = (pair.some_site(), pair.chance(60));
    pair.revive(first);
    if within {
        pair.some_time(ms(1_200));
        pair.revive(1 - first);
        pair.expect([On, On], ms(10_000));
        let after = pair.counts();
        assert_eq!((after.alone, after.behind), (before.alone, before.behind), "no race, no resync");
    } else {
        pair.until("the first goes on", ms(10_000), |pair| pair.shown(first) == On);
        pair.revive(1 - first);
        pair.expect([On, On], ms(20_000));
    }
}

fn f37(pair: &mut Pair) {
    pair.cut_link();
    pair.some_time(ms(900));
    let reachable = pair.chance(70);
    if !reachable {
        pair.set_mediator_path(1, false);
    }
    pair.kill(0);
    pair.run_for(ms(100));
    let granted = pair.is_granted(0);
    let shown = match (granted, reachable) {
        (false, true) => On,
        (true, true) => Off,
        (_, false) => Held,
    };
    if reachable {
        pair.expect([Dead, shown], SOON);
    } else {
        // It may have heard of the grant, or gone on, before its way was cut.
        pair.until("B knows", SOON, |pair| pair.shown(1) != On || pair.is_granted(1));
        return;
    }
    pair.expect_for([Dead, shown], ms(1_000));
}

fn f38(pair: &mut Pair) {
    resync(pair);
    pair.some_time(ms(15));
    if pair.shown(1) == Resyncing {
        pair.cut_link();
        pair.expect([On, Off], SOON);
        pair.expect_for([On, Off], ms(1_000));
    }
}

fn f39(pair: &mut Pair) {
    resync(pair);
    pair.some_time(ms(15));
    if pair.shown(1) == Resyncing {
        pair.kill(0);
        pair.expect([Dead, Off], SOON);
        pair.expect_for([Dead, Off], ms(3_000));
    }
}

fn f40(pair: &mut Pair) {
    resync(pair);
    pair.some_time(ms(15));
    pair.lose_mediator();
    pair.expect([On, On], ms(20_000));
    pair.until("A is pre-elected", SOON, |pair| pair.have_elected(0));
}

fn f41(pair: &mut Pair) {
    resync(pair);
    if pair.chance(50) {
        pair.until("B is level", ms(20_000), |pair| pair.shown(1) != Resyncing);
        pair.some_time(ms(20));
    } else {
        pair.some_time(ms(60));
    }
    pair.cut_link();
    pair.expect_one(SOON);
}

fn f60(pair: &mut Pair) {
    let cut = pair.chance(50);
    if cut {
        pair.cut_link();
    }
    pair.hurt(0, SiteFault::Freeze, ms(600_000));
    pair.until("B goes on", SOON, |pair| pair.shown(1) == On && pair.survivor() == Some(1));
    pair.some_time(ms(1_000));
    pair.wake(0);
    pair.until("A knows", SOON, |pair| pair.shown(0) != On);
    if cut {
        pair.expect([Off, On], SOON);
    } else {
        pair.expect([On, On], ms(20_000));
    }
}

fn f61(pair: &mut Pair) {
    pair.drift_apart();
    pair.some_time(ms(1_000));
    pair.expect([On, On], ms(2_000));
    part(pair);
    pair.expect_for([On, Off], ms(500));
}

fn f90(pair: &mut Pair) {
    pair.cut_link();
    pair.set_mediator_path(0, false);
    pair.some_time(ms(20));
    pair.kill(1);
    pair.some_time(ms(200));
    pair.revive(1);
    pair.until("B goes on", ms(10_000), |pair| pair.survivor() == Some(1));
    pair.expect([Held, On], SOON);
}

fn f91(pair: &mut Pair) {
    let Some(sequencer) = pair.sequencer(0) else { return };
    pair.hosts(ms(3));
    pair.some_time(ms(300));
    pair.kill(sequencer);
    pair.some_time(ms(400));
    pair.revive(sequencer);
    pair.expect([On, On], ms(20_000));
}
