//! A peer that breaks the protocol: nothing it sends makes a machine panic.

mod support;

use support::{Event, World, ms};

#[test]
fn damaged_frames_never_make_a_machine_panic() {
    for seed in 0..40 {
        let mut world = World::stretched_with(seed, |world| world.hostile = true);
        world.hosts = true;
        world.faults_until = world.now + ms(1_500);
        for _ in 0..3 {
            world.next_host();
        }
        world.after(0, Event::Strike);
        world.run_for(ms(1_500));
        world.end_faults();
        world.run_until(ms(4_000), World::is_whole);
    }
}
