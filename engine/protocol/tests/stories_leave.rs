//! Parting: one array of a pair leaves, whatever else happens (row F94 of docs/faults.md).

mod support;

use metropod_protocol::*;
use support::story::*;
use support::{Direction, IDS, World, ms};

/// Until the one that stays serves alone and the other does not.
fn parts(world: &mut World, leaver: usize) {
    let stayer = 1 - leaver;
    let parted = world.run_until(ms(12_000), |world| world.is_alone(stayer) && world.is_online(stayer));
    assert!(parted, "{stayer} serves alone: {}", world.describe());
    world.run_for(ms(2_000));
    assert!(world.is_alone(stayer) && !world.is_online(leaver), "{}", world.describe());
    assert!(!world.machine(stayer).is_in_session(), "nothing is said to who left");
    let op = world.submit(stayer).expect("it runs");
    world.run_for(ms(200));
    assert!(committed(world, op).is_some(), "{}", world.describe());
}

fn comes_to_rest(world: &mut World) {
    world.hosts = false;
    becomes_whole(world);
}

/// A whole pod with hosts at both arrays, that prefers one or none.
fn busy(seed: u64) -> World {
    let preferred = [None, Some(IDS[0]), Some(IDS[1])][seed as usize % 3];
    let mut world = World::stretched_with(seed, |world| world.preferred = preferred);
    world.hosts = true;
    world.next_host();
    world.run_for(ms(100));
    world
}

#[test]
fn who_stays_goes_on_within_a_lease_and_who_leaves_is_off() {
    for seed in 0..30 {
        let leaver = seed as usize % 2;
        let mut world = busy(seed);
        world.leave(Some(leaver));
        let told_at = world.now;
        assert!(world.run_until(ms(1_500), |world| world.is_alone(1 - leaver)), "{}", world.describe());
        let took = world.now - told_at;
        assert!(took < ms(700), "{} ms", took / ms(1));
        assert!(world.run_until(ms(1_000), |world| world.serving(leaver) == Some(Serving::Off)));
        assert!(world.machine(leaver).is_left_out());
        parts(&mut world, leaver);
    }
}

#[test]
fn f94_whatever_is_lost_at_whichever_instant_the_entitled_one_goes_on() {
    for step in 0..60 {
        for (what, seed) in (0..5).zip(step * 5..) {
            let leaver = seed as usize % 2;
            let mut world = busy(seed);
            world.leave(Some(leaver));
            world.run_for(ms(10) * step);
            match what {
                0 => world.cut(Direction::Both),
                1 => world.cut(Direction::From(leaver)),
                2 => world.crash(leaver),
                3 => world.crash(1 - leaver),
                _ => {
                    world.disconnect_mediator(0);
                    world.disconnect_mediator(1);
                    world.cut(Direction::Both);
                }
            }
            world.run_for(ms(3_000));
            for array in 0..2 {
                if world.arrays[array].machine.is_none() {
                    world.restart(array);
                }
                world.connect_mediator(array);
            }
            world.mend();
            // Also where the one to leave had gone on alone: the other is brought level first.
            parts(&mut world, leaver);
        }
    }
}

#[test]
fn who_left_gains_nothing_by_the_mediator_or_by_a_restart() {
    for seed in 0..20 {
        let leaver = seed as usize % 2;
        let mut world = busy(seed);
        world.leave(Some(leaver));
        parts(&mut world, leaver);
        world.crash(1 - leaver);
        world.crash(leaver);
        world.restart(leaver);
        world.run_for(ms(5_000));
        assert!(!world.is_online(leaver), "{}", world.describe());
        world.restart(1 - leaver);
        parts(&mut world, leaver);
    }
}

#[test]
fn who_changes_his_mind_in_time_keeps_both() {
    let mut world = busy(4);
    world.leave(Some(1));
    world.run_for(ms(1));
    world.leave(None);
    comes_to_rest(&mut world);
    // And later, who left is brought level like any other.
    world.leave(Some(1));
    parts(&mut world, 1);
    world.leave(None);
    comes_to_rest(&mut world);
}

#[test]
fn a_forgotten_peer_is_gone_and_another_can_be_invited() {
    let mut world = busy(6);
    world.leave(Some(1));
    parts(&mut world, 1);
    world.step(0, Input::ForgetPeer);
    assert_eq!(world.machine(0).setup().peer, None);
    assert_eq!(world.status(0).unwrap().peer, None);
    let op = world.submit(0).unwrap();
    world.run_for(ms(2_000));
    assert!(committed(&world, op).is_some() && world.is_online(0));
    // The same array, as one of many that may be invited.
    world.leave(None);
    world.step(0, Input::Invite { peer: IDS[1] });
    world.connect();
    comes_to_rest(&mut world);
}

#[test]
fn a_pair_forgets_nobody() {
    let mut world = busy(7);
    world.step(0, Input::ForgetPeer);
    assert_eq!(world.machine(0).setup().peer, Some(IDS[1]));
    comes_to_rest(&mut world);
}

#[test]
fn a_pod_begins_with_what_another_left_behind() {
    let setup = Setup {
        me: IDS[0],
        pod: PodId([3; 16]),
        peer: None,
        mediator: None,
        preferred: None,
        settings: Settings::default(),
        seed: [5; 32],
    };
    let mut machine = Machine::found_at(setup, Index(40), Time(ms(1)));
    let mut first = None;
    let mut ticket = Ticket(0);
    while let Some(effect) = machine.next_effect() {
        match effect {
            Effect::Append { ticket: at, entry } => (first, ticket) = (Some(entry.index), at),
            Effect::Record { ticket: at, .. } => ticket = at,
            _ => {}
        }
    }
    assert_eq!(first, Some(Index(41)));
    machine.step(Time(ms(2)), Input::Durable { through: ticket });
    while let Some(effect) = machine.next_effect() {
        assert!(!matches!(effect, Effect::ForkFreeze { .. }), "there is nobody to come apart from");
        if let Effect::Record { ticket: at, .. } = effect {
            ticket = at;
        }
    }
    machine.step(Time(ms(3)), Input::Durable { through: ticket });
    assert_eq!(machine.serving(Time(ms(3))), Serving::Yes);
    assert_eq!((machine.base().index, machine.committed()), (Index(40), Index(41)));
    assert_eq!(machine.decisions(5).len(), 1);
    assert!(matches!(machine.decisions(5)[0].decided, Decided::Founded(_)));
}
