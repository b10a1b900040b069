//! Pre-election: what holds when both arrays have lost the mediator. Names are those of the rows of docs/faults.md.

mod support;

use metropod_protocol::*;
use support::story::*;
use support::{Direction, IDS, World, ms};

fn lose_mediator(world: &mut World) {
    for array in 0..2 {
        world.mediator_path[array] = false;
        world.disconnect_mediator(array);
    }
}

fn reach_mediator(world: &mut World, array: usize) {
    world.mediator_path[array] = true;
    world.connect_mediator(array);
}

fn pre_elected(world: &World) -> Option<ArrayId> {
    let of = |array: usize| world.status(array).and_then(|status| status.pre_elected);
    of(0).filter(|holder| of(1) == Some(*holder))
}

/// A pod that prefers `preferred`, or none, and is pre-elected by now.
fn elected(seed: u64, preferred: Option<usize>) -> World {
    let mut world = World::stretched_with(seed, |world| world.preferred = preferred.map(|array| IDS[array]));
    world.run_for(ms(300));
    lose_mediator(&mut world);
    assert!(world.run_until(ms(1_500), |world| pre_elected(world).is_some()), "{}", world.describe());
    world.run_for(ms(100));
    world
}

#[test]
fn f07_both_go_on_pre_elected_and_the_right_goes_back() {
    for preferred in [None, Some(0), Some(1)] {
        let mut world = elected(7, preferred);
        assert!(world.is_online(0) && world.is_online(1), "{}", world.describe());
        let holder = pre_elected(&world).unwrap();
        assert!(preferred.is_none_or(|preferred| holder == IDS[preferred]), "{}", world.describe());
        let op = world.submit(1).unwrap();
        world.run_for(ms(50));
        assert!(committed(&world, op).is_some());
        for by in 0..2 {
            // Either way to the mediator will do.
            let mut world = elected(7, preferred);
            reach_mediator(&mut world, by);
            becomes_whole(&mut world);
        }
    }
}

#[test]
fn f08_f09_one_array_without_the_mediator_changes_nothing() {
    for array in 0..2 {
        let mut world = World::stretched(8);
        let before = world.newest(0).unwrap();
        world.mediator_path[array] = false;
        world.disconnect_mediator(array);
        world.run_for(ms(5_000));
        assert_eq!(world.newest(0), Some(before));
    }
}

#[test]
fn a_mediator_that_comes_and_goes_does_not_move_the_right() {
    let mut world = World::stretched(9);
    let before = world.newest(0).unwrap();
    for _ in 0..20 {
        lose_mediator(&mut world);
        world.run_for(ms(700));
        reach_mediator(&mut world, 0);
        reach_mediator(&mut world, 1);
        world.run_for(ms(100));
    }
    assert_eq!(world.newest(0), Some(before));
}

#[test]
fn f20_the_pre_elected_array_goes_on_when_the_link_is_lost() {
    for preferred in 0..2 {
        for seed in 0..10 {
            let mut world = elected(seed, Some(preferred));
            let cut_at = world.now;
            world.cut(Direction::Both);
            assert!(world.run_until(ms(1_000), |world| world.is_alone(preferred)), "{}", world.describe());
            assert!(world.now - cut_at < ms(800), "{} ms", (world.now - cut_at) / ms(1));
            let op = world.submit(preferred).unwrap();
            world.run_for(ms(1_000));
            assert!(committed(&world, op).is_some());
            assert_eq!(world.serving(1 - preferred), Some(Serving::Off));
            reach_mediator(&mut world, 0);
            reach_mediator(&mut world, 1);
            world.run_for(ms(1_000));
            assert_eq!(world.serving(1 - preferred), Some(Serving::Off), "whatever the mediator says");
            world.mend();
            becomes_whole(&mut world);
        }
    }
}

#[test]
fn f21_the_pre_elected_array_goes_on_when_its_peer_dies() {
    let mut world = elected(21, Some(0));
    world.crash(1);
    assert!(world.run_until(ms(1_000), |world| world.is_alone(0)), "{}", world.describe());
    world.restart(1);
    // Without a mediator the pod stays pre-elected.
    assert!(world.run_until(ms(6_000), |world| world.is_online(0) && world.is_online(1)));
    world.run_for(ms(3_000));
    assert_eq!(pre_elected(&world), Some(IDS[0]));
    reach_mediator(&mut world, 1);
    becomes_whole(&mut world);
}

#[test]
fn f22_nobody_goes_on_when_the_pre_elected_array_dies() {
    let mut world = elected(22, Some(0));
    world.crash(0);
    world.run_for(ms(3_000));
    assert_eq!(world.serving(1), Some(Serving::Off));
    // F51: its own record says that it may not ask.
    reach_mediator(&mut world, 1);
    world.run_for(ms(3_000));
    assert_eq!(world.serving(1), Some(Serving::Off));
    world.restart(0);
    world.mediator_path[0] = true;
    becomes_whole(&mut world);
}

#[test]
fn f40_a_pod_whose_mediator_is_lost_during_a_resync_stays_at_the_survivor() {
    for preferred in IDS {
        let mut world = zero_alone(40);
        world.submit(0);
        world.run_for(ms(20));
        lose_mediator(&mut world);
        for array in 0..2 {
            world.step(array, Input::SetPreference(Some(preferred)));
        }
        world.mend();
        assert!(world.run_until(ms(4_000), |world| world.is_online(0) && world.is_online(1)));
        world.run_for(ms(3_000));
        // Unless the other is preferred, and level by now.
        assert_eq!(pre_elected(&world), Some(preferred));
    }
}

/// An array that has not met the mediator since its own start knows from its log where the right is to go.
#[test]
fn f07_the_right_goes_back_by_one_array_though_the_other_has_not_met_the_mediator() {
    for reaches in 0..2 {
        let other = 1 - reaches;
        let mut world = World::stretched_with(77, |world| world.preferred = Some(IDS[other]));
        world.run_for(ms(300));
        world.mediator_path[other] = false;
        world.disconnect_mediator(other);
        world.crash(other);
        world.run_for(ms(20));
        world.restart(other);
        assert!(world.run_until(ms(6_000), |world| world.is_online(0) && world.is_online(1)));
        lose_mediator(&mut world);
        assert!(world.run_until(ms(20_000), |world| pre_elected(world).is_some()), "{}", world.describe());
        world.run_for(ms(100));
        reach_mediator(&mut world, reaches);
        becomes_whole(&mut world);
    }
}

#[test]
fn a_mediator_that_comes_and_goes_slowly_moves_the_right_now_and_then() {
    let mut world = World::stretched(10);
    let before = world.machine(0).history().len();
    for _ in 0..30 {
        lose_mediator(&mut world);
        world.run_for(ms(1_500));
        reach_mediator(&mut world, 0);
        reach_mediator(&mut world, 1);
        world.run_for(ms(500));
    }
    let moves = world.machine(0).history().len() - before;
    println!("{moves} moves in a minute");
    assert!((2..=10).contains(&moves), "{moves}");
}

/// Story 17: the link is lost at any instant of the pre-election. Nobody is alone beside the other (the oracle looks), and
/// once one of both reaches the mediator, somebody goes on unless the right is the other's.
#[test]
fn story_17_a_cut_within_a_pre_election_leaves_at_most_one() {
    let mut ended = [0; 3];
    for seed in 0..4 {
        for step in 0..60 {
            let mut world =
                World::stretched_with(seed, |world| world.preferred = Some(IDS[(seed % 2) as usize]));
            world.run_for(ms(300));
            lose_mediator(&mut world);
            let proposed =
                |world: &World| (0..2).any(|array| world.newest(array).unwrap().pre_elected().is_some());
            assert!(world.run_until(ms(1_500), proposed));
            for _ in 0..step {
                world.run_one();
            }
            world.cut(Direction::Both);
            world.run_for(ms(1_500));
            assert!(!(world.is_online(0) && world.is_online(1)), "{}", world.describe());
            ended[(0..2).position(|array| world.is_alone(array)).unwrap_or(2)] += 1;
            reach_mediator(&mut world, 0);
            reach_mediator(&mut world, 1);
            assert!(
                world.run_until(ms(3_000), |world| world.is_alone(0) || world.is_alone(1)),
                "seed {seed}, step {step}: {}",
                world.describe()
            );
            world.mend();
            becomes_whole(&mut world);
        }
    }
    println!("alone without a mediator: {}, {}; held: {}", ended[0], ended[1], ended[2]);
    assert!(ended.iter().all(|count| *count > 0));
}

#[test]
fn f50_f51_a_mediator_that_only_the_other_array_reaches_does_not_matter_before_the_right_is_given_up() {
    let mut went_on = [0; 2];
    for step in 0..150 {
        let mut world = elected(50, Some(0));
        reach_mediator(&mut world, 1);
        for _ in 0..step {
            world.run_one();
        }
        let handed_back = world.newest(0).unwrap().pre_elected().is_none();
        world.cut(Direction::Both);
        world.run_for(ms(3_000));
        if !handed_back {
            assert!(!world.is_online(1), "step {step}: {}", world.describe());
        }
        went_on[0] += u32::from(world.is_alone(0));
        went_on[1] += u32::from(world.is_alone(1));
        world.mend();
        reach_mediator(&mut world, 0);
        becomes_whole(&mut world);
    }
    println!("array 0 went on {} times, array 1 {} times", went_on[0], went_on[1]);
    assert!(went_on.iter().all(|count| *count > 0));
}

#[test]
fn f53_another_preference_moves_the_right_without_a_mediator() {
    let mut held = 0;
    for step in (0..400).step_by(4) {
        let mut world = elected(53, Some(0));
        assert_eq!(pre_elected(&world), Some(IDS[0]));
        world.preferred = Some(IDS[1]);
        for array in 0..2 {
            world.step(array, Input::SetPreference(Some(IDS[1])));
        }
        for _ in 0..step {
            world.run_one();
        }
        world.cut(Direction::Both);
        world.run_for(ms(1_500));
        let one = world.is_alone(0) || world.is_alone(1);
        held += u32::from(!one);
        assert!(!(world.is_online(0) && world.is_online(1)), "{}", world.describe());
        world.mend();
        let both = world.run_until(ms(6_000), |world| world.is_online(0) && world.is_online(1));
        assert!(both, "step {step}: {}", world.describe());
    }
    println!("nobody was entitled after {held} of 100 cuts");
    assert!(held < 30);
    let mut world = elected(53, Some(0));
    world.preferred = Some(IDS[1]);
    for array in 0..2 {
        world.step(array, Input::SetPreference(Some(IDS[1])));
    }
    assert!(world.run_until(ms(2_000), |world| pre_elected(world) == Some(IDS[1])), "{}", world.describe());
    world.run_for(ms(100));
    world.cut(Direction::Both);
    assert!(world.run_until(ms(1_000), |world| world.is_alone(1)), "{}", world.describe());
}

/// Story 9 from the other end: changes that overlap leave states in which nobody is entitled.
#[test]
fn the_right_moves_on_only_when_both_know_where_it_is() {
    let mut world = World::stretched_with(90, |world| {
        world.preferred = Some(IDS[1]);
        world.settings.pre_elect = Span::millis(100);
    });
    world.run_for(ms(300));
    lose_mediator(&mut world);
    let holds = |world: &World| {
        let follower = world.machine(1);
        world.newest(1).unwrap().pre_elected() == Some(IDS[1]) && follower.durable() == follower.log_end()
    };
    assert!(world.run_until(ms(500), holds), "{}", world.describe());
    // The follower holds the entry; that it knows it committed does not get to its disk.
    world.arrays[1].stalled = true;
    world.preferred = Some(IDS[0]);
    for array in 0..2 {
        world.step(array, Input::SetPreference(Some(IDS[0])));
    }
    world.run_for(ms(700));
    assert_eq!(world.newest(0).unwrap().pre_elected(), Some(IDS[1]), "{}", world.describe());
    world.arrays[1].stalled = false;
    world.sync(1);
    assert!(world.run_until(ms(500), |world| pre_elected(world) == Some(IDS[0])), "{}", world.describe());
}

/// Story 20: the right goes from one mediator to another by an array, never directly. With the link lost at any instant, at
/// most one goes on (the oracle looks), and once the link is back the pod has the new mediator.
#[test]
fn story_20_arrays_that_are_given_another_mediator_take_the_right_there() {
    let new = MediatorId([8; 16]);
    for step in (0..400).step_by(8) {
        let mut world = World::stretched(20);
        world.run_for(ms(300));
        world.stop_mediator();
        world.mediator_id = new;
        world.registers.clear();
        world.start_mediator(true);
        for array in 0..2 {
            world.step(array, Input::SetMediator(Some(new)));
            reach_mediator(&mut world, array);
        }
        if step > 0 {
            world.run_for(ms(950));
            for _ in 0..step {
                world.run_one();
            }
            world.cut(Direction::Both);
            world.run_for(ms(2_000));
            world.mend();
        }
        becomes_whole(&mut world);
        let right = world.newest(0).unwrap().right;
        assert!(matches!(right, Right::Mediator { mediator, .. } if mediator == new), "{right:?}");
    }
}
