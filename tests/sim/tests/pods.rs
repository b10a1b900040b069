//! Pods that share their arrays do not share their fate.

use metropod_sim::pair::{NEIGHBOUR, Pair, Shown, ms};

/// Writes of 128 KiB that turn a journal of 20 MiB over several times.
const WRITES: u64 = 800;

/// F63; finding of a review: the records of a pod that is off pinned the journal that the other needs.
#[test]
fn a_pod_that_is_off_does_not_hold_up_the_writes_of_another() {
    for seed in 0..8 {
        let mut pair = Pair::new(seed);
        pair.stretch(Some(0), false);
        pair.add_neighbour(Some(1));
        pair.hosts(ms(3));
        pair.some_time(ms(500));
        pair.cut_link();
        pair.expect([Shown::On, Shown::Off], ms(3_000));
        pair.run_for(ms(1_000));
        assert_eq!([0, 1].map(|site| pair.shown_of(site, NEIGHBOUR)), [Shown::Off, Shown::On]);
        pair.neighbour_writes(1, WRITES, ms(2_000));
        pair.mend_link();
        pair.finish();
    }
}
