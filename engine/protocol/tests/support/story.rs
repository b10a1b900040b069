//! Words that the stories share.

use super::*;

pub fn committed(world: &World, op: u64) -> Option<Index> {
    match world.oracle.outcome(op) {
        Some(Outcome::Committed(index)) => Some(index),
        _ => None,
    }
}

/// Whether an array's log holds an operation.
pub fn holds(world: &World, array: usize, op: u64) -> bool {
    let machine = world.machine(array);
    (machine.base().index.0 + 1..=machine.log_end().0).any(|index| {
        match &machine.entry(Index(index)).expect("a held entry").body {
            Body::Operation { descriptor, .. } => descriptor[..] == op.to_le_bytes(),
            _ => false,
        }
    })
}

pub fn becomes_whole(world: &mut World) {
    let whole = world.run_until(ms(12_000), |world| world.is_whole());
    assert!(whole, "both serve again, mirrored: {}", world.describe());
    world.run_for(ms(100));
    assert_eq!(world.arrays[0].chains, world.arrays[1].chains, "both logs are the same");
}

/// A pod whose array 0 went on alone while array 1 is off; the link is cut.
pub fn zero_alone(seed: u64) -> World {
    let mut world = World::stretched_with(seed, |world| world.preferred = Some(IDS[0]));
    world.cut(Direction::Both);
    assert!(world.run_until(ms(2_000), |world| world.is_alone(0)), "{}", world.describe());
    world
}
