//! The planned switch of the array that orders, whatever is lost meanwhile (row F94 of docs/faults.md).

mod support;

use metropod_protocol::*;
use support::story::*;
use support::{Direction, IDS, World, ms};

fn sequencer(world: &World) -> Option<usize> {
    let of = |array: usize| world.status(array).and_then(|status| status.sequencer);
    let one = of(0).filter(|array| of(1) == Some(*array))?;
    IDS.iter().position(|id| *id == one)
}

fn busy(seed: u64) -> World {
    let mut world = World::stretched(seed);
    world.hosts = true;
    world.next_host();
    world.run_for(ms(100));
    world
}

fn comes_to_rest(world: &mut World) {
    world.hosts = false;
    becomes_whole(world);
}

#[test]
fn the_other_orders_right_and_register_stay_and_hosts_hardly_wait() {
    for seed in 0..20 {
        let mut world = busy(seed);
        let before = world.newest(0).unwrap();
        let from = sequencer(&world).unwrap();
        world.switch(1 - from);
        let op = world.submit(from).unwrap();
        // What was forwarded before the other knew goes again with its next heartbeat.
        world.run_for(ms(100));
        assert_eq!(sequencer(&world), Some(1 - from), "{}", world.describe());
        assert!(committed(&world, op).is_some(), "{}", world.describe());
        let after = world.newest(0).unwrap();
        assert_eq!((after.right, after.members), (before.right, before.members));
        assert!(matches!(world.machine(0).decisions(1)[0].decided, Decided::Switched(_)));
        // And nobody asked the mediator for anything: the register still lets one go on alone.
        world.cut(Direction::Both);
        let one = world.run_until(ms(2_000), |world| world.is_alone(0) || world.is_alone(1));
        assert!(one, "{}", world.describe());
        world.mend();
        comes_to_rest(&mut world);
    }
}

#[test]
fn who_orders_already_goes_on_and_a_wish_does_not_outlive_its_session() {
    let mut world = busy(3);
    let from = sequencer(&world).unwrap();
    let before = world.newest(0).unwrap();
    world.switch(from);
    world.run_for(ms(200));
    assert_eq!(world.newest(0), Some(before));
    world.cut(Direction::Both);
    world.run_for(ms(400));
    world.switch(0);
    world.switch(1);
    world.mend();
    comes_to_rest(&mut world);
    let orders = sequencer(&world);
    world.run_for(ms(2_000));
    assert_eq!(sequencer(&world), orders);
}

#[test]
fn f94_whatever_is_lost_while_the_order_moves_at_most_one_orders() {
    for step in 0..60 {
        for (what, seed) in (0..4).zip(step * 4..) {
            let mut world = busy(seed);
            let from = sequencer(&world).unwrap();
            world.switch(1 - from);
            world.run_for(ms(1) / 4 * step);
            match what {
                0 => world.cut(Direction::Both),
                1 => world.cut(Direction::From(from)),
                2 => world.crash(from),
                _ => world.crash(1 - from),
            }
            world.run_for(ms(1_500));
            for array in 0..2 {
                if world.arrays[array].machine.is_none() {
                    world.restart(array);
                }
            }
            world.mend();
            comes_to_rest(&mut world);
        }
    }
}
