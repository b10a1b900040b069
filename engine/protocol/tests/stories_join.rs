//! The stories about restart, rejoin, join and moving the right back. Numbers are those of the specification's stories.

mod support;

use metropod_protocol::*;
use support::story::*;
use support::{Direction, IDS, World, ms};

#[test]
fn story_9_a_link_lost_at_any_instant_of_join_and_hand_back_leaves_exactly_one_serving() {
    for events in 0..220 {
        let mut world = zero_alone(10);
        world.mend();
        for _ in 0..events {
            world.run_one();
        }
        world.cut(Direction::Both);
        let one = world.run_until(ms(4_000), |world| world.is_alone(0) || world.is_alone(1));
        assert!(one, "after {events} events: {}", world.describe());
        world.run_for(ms(1_000));
        assert!(world.is_online(0) != world.is_online(1), "after {events} events: {}", world.describe());
        world.mend();
        becomes_whole(&mut world);
    }
}

#[test]
fn story_10_a_grant_that_nobody_heard_is_healed() {
    let mut world = World::stretched(11);
    let before = world.registers[&support::POD].record().unwrap();
    world.hold_grants = true;
    world.cut(Direction::Both);
    let stored =
        world.run_until(ms(2_000), |world| world.registers[&support::POD].record().unwrap().id != before.id);
    assert!(stored, "{}", world.describe());
    let winner = world.registers[&support::POD].record().unwrap().members.sole().unwrap();
    world.mend();
    world.run_for(ms(20));
    // The grant comes late and counts for nothing (story 11).
    world.hold_grants = false;
    becomes_whole(&mut world);
    // The winner of that race dies: the other goes on all the same.
    let winner = IDS.iter().position(|id| *id == winner).unwrap();
    world.crash(winner);
    assert!(world.run_until(ms(2_000), |world| world.is_alone(1 - winner)), "{}", world.describe());
}

#[test]
fn story_17_a_link_lost_at_any_instant_of_healing_leaves_exactly_one_serving() {
    for preferred in [0, 1] {
        for events in 0..160 {
            let mut world = World::stretched_with(17, |world| world.preferred = Some(IDS[preferred]));
            let before = world.registers[&support::POD].record().unwrap();
            world.hold_grants = true;
            world.cut(Direction::Both);
            let unheard = |world: &World| world.registers[&support::POD].record().unwrap().id != before.id;
            assert!(world.run_until(ms(2_000), unheard), "{}", world.describe());
            world.hold_grants = false;
            // The reply is lost with the mediator session.
            world.disconnect_mediator(0);
            world.disconnect_mediator(1);
            world.mend();
            world.connect_mediator(0);
            world.connect_mediator(1);
            for _ in 0..events {
                world.run_one();
            }
            world.cut(Direction::Both);
            let one = world.run_until(ms(4_000), |world| world.is_alone(0) || world.is_alone(1));
            assert!(one, "after {events} events: {}", world.describe());
            world.run_for(ms(1_000));
            assert!(world.is_online(0) != world.is_online(1), "after {events} events: {}", world.describe());
            world.mend();
            becomes_whole(&mut world);
        }
    }
}

#[test]
fn story_14_join_durable_at_the_joiner_only_is_cut_when_the_survivor_comes_back_alone() {
    let mut world = zero_alone(14);
    world.submit(0);
    world.run_for(ms(20));
    world.mend();
    let joining = |world: &World| {
        let pair = |array: usize| world.newest(array).is_some_and(|newest| newest.members.is_pair());
        pair(0) && world.machine(0).durable() < world.machine(0).log_end()
    };
    assert!(world.run_until(ms(3_000), joining), "{}", world.describe());
    world.arrays[0].stalled = true;
    world.run_for(ms(6));
    assert!(world.newest(1).unwrap().members.is_pair(), "{}", world.describe());
    assert_eq!(world.machine(1).durable(), world.machine(1).log_end());
    world.crash_keeping(0, 0);
    world.cut(Direction::Both);
    world.run_for(ms(10));
    world.restart(0);
    assert!(world.run_until(ms(2_000), |world| world.is_alone(0)), "{}", world.describe());
    assert_ne!(world.serving(1), Some(Serving::Yes));
    world.submit(0);
    world.run_for(ms(20));
    world.mend();
    becomes_whole(&mut world);
}

#[test]
fn story_15_join_known_to_the_joiner_only_leaves_the_survivor_entitled() {
    let mut world = zero_alone(15);
    world.mend();
    world.mediator_path = [false; 2];
    world.disconnect_mediator(0);
    world.disconnect_mediator(1);
    assert!(world.run_until(ms(3_000), |world| world.newest(0).unwrap().members.is_pair()));
    world.cut(Direction::From(1));
    assert!(
        world.run_until(ms(100), |world| world.machine(1).out_of_sync().is_none()),
        "{}",
        world.describe()
    );
    world.cut(Direction::Both);
    assert!(world.run_until(ms(2_000), |world| world.is_alone(0)), "{}", world.describe());
    world.run_for(ms(1_000));
    assert!(!world.is_online(1));
    world.mediator_path = [true; 2];
    world.connect_mediator(0);
    world.connect_mediator(1);
    world.mend();
    becomes_whole(&mut world);
}

#[test]
fn story_16_a_joiner_without_the_right_does_not_go_on_when_the_survivor_dies() {
    let mut world = zero_alone(16);
    world.mediator_path = [false; 2];
    world.disconnect_mediator(0);
    world.disconnect_mediator(1);
    world.mend();
    assert!(
        world.run_until(ms(3_000), |world| world.is_online(0) && world.is_online(1)),
        "{}",
        world.describe()
    );
    assert_eq!(world.status(1).unwrap().pre_elected, Some(IDS[0]));
    world.crash(0);
    world.run_for(ms(3_000));
    assert_eq!(world.serving(1), Some(Serving::Off));
    world.mediator_path = [true; 2];
    world.connect_mediator(1);
    world.run_for(ms(2_000));
    assert_eq!(world.serving(1), Some(Serving::Off), "nothing M could say matters (story 19)");
    world.restart(0);
    becomes_whole(&mut world);
}

#[test]
fn the_right_goes_back_by_the_follower_when_only_it_reaches_the_mediator() {
    let mut world = zero_alone(17);
    world.mediator_path[0] = false;
    world.disconnect_mediator(0);
    world.mend();
    let back =
        |world: &World| matches!(world.newest(0).map(|newest| newest.right), Some(Right::Mediator { .. }));
    assert!(world.run_until(ms(4_000), back), "{}", world.describe());
    world.run_for(ms(200));
    assert!(world.is_online(0) && world.is_online(1));
    // Now array 0 dies: array 1, which reaches the mediator, goes on.
    world.crash(0);
    assert!(world.run_until(ms(1_000), |world| world.is_alone(1)), "{}", world.describe());
}

#[test]
fn a_survivor_that_trimmed_what_its_joiner_lacks_before_join_goes_alone_again() {
    let mut world = zero_alone(19);
    for _ in 0..20 {
        world.submit(0);
    }
    world.run_for(ms(20));
    world.hold_catch_up = true;
    world.mend();
    assert!(world.run_until(ms(1_000), |world| world.machine(1).out_of_sync().is_some()));
    world.run_for(ms(5));
    world.arrays[1].stalled = true;
    world.step(0, Input::SuffixPossible { after: Index(0) });
    let joining = |world: &World| world.newest(0).is_some_and(|newest| newest.members.is_pair());
    world.run_for(ms(20));
    if !joining(&world) {
        world.arrays[1].stalled = false;
        world.sync(1);
        assert!(world.run_until(ms(100), joining), "{}", world.describe());
        world.arrays[1].stalled = true;
    }
    world.disconnect();
    world.run_for(ms(10));
    world.checkpoint(0);
    world.run_for(ms(10));
    world.crash_keeping(1, 0);
    world.restart(1);
    world.hold_catch_up = false;
    becomes_whole(&mut world);
}

#[test]
fn story_18_a_crash_of_either_at_any_instant_of_join_and_hand_back_ends_whole() {
    for array in 0..2 {
        for events in (0..220).step_by(2) {
            let mut world = zero_alone(18);
            world.submit(0);
            world.mend();
            for _ in 0..events {
                world.run_one();
            }
            world.crash(array);
            world.run_for(ms(700));
            world.restart(array);
            becomes_whole(&mut world);
        }
    }
}

#[test]
fn story_24_both_back_in_different_epochs_only_the_newer_goes_on() {
    let mut world = zero_alone(24);
    let op = world.submit(0).unwrap();
    world.run_for(ms(50));
    world.crash(0);
    world.crash(1);
    world.run_for(ms(100));
    world.restart(1);
    world.restart(0);
    assert!(world.run_until(ms(1_000), |world| world.is_alone(0)));
    world.run_for(ms(4_000));
    assert_eq!(world.serving(1), Some(Serving::Off), "{}", world.describe());
    world.mend();
    becomes_whole(&mut world);
    assert!(holds(&world, 0, op));
}

#[test]
fn story_25_a_restart_remembers_that_the_hand_back_is_known() {
    let mut world = World::stretched(25);
    world.crash(0);
    world.crash(1);
    world.restart(1);
    assert!(world.run_until(ms(4_000), |world| world.is_alone(1)), "{}", world.describe());
}

#[test]
fn story_34_a_joiner_is_in_sync_by_a_join_after_the_survivors_configuration_only() {
    for seed in 0..30 {
        let mut world = zero_alone(340 + seed);
        world.mend();
        let joined = world
            .run_until(ms(3_000), |world| world.machine(1).out_of_sync().is_none() && world.is_online(1));
        // It was in sync all the time before it heard of array 0 going alone; wait for the whole way.
        assert!(joined || !world.is_online(1));
        becomes_whole(&mut world);
        let machine = world.machine(1);
        let alone =
            machine.history().iter().rev().find(|item| item.configuration.members.is_only(IDS[0])).unwrap();
        assert!(machine.committed() > alone.first);
    }
}

#[test]
fn f36_a_common_power_loss_ends_without_race_and_resync() {
    let mut world = World::stretched(36);
    let op = world.submit(0).unwrap();
    world.run_for(ms(20));
    let config = world.newest(0).unwrap();
    world.crash(0);
    world.crash(1);
    world.stop_mediator();
    world.run_for(ms(50));
    world.restart(1);
    world.run_for(ms(800));
    world.restart(0);
    world.start_mediator(false);
    world.connect_mediator(0);
    world.connect_mediator(1);
    becomes_whole(&mut world);
    assert_eq!(world.newest(0), Some(config), "the same configuration goes on");
    assert!(!world.oracle.resynced && holds(&world, 0, op));
}
