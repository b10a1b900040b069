//! One array is killed again and again under load: nothing acknowledged is lost, and nothing is repaired by hand.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::sync::Arc;
use std::time::Duration;

use metropod_e2e::{Array, Dice, Load, LoadOptions, Oracle, SECTOR_BYTES, Target, scratch, setting};

const VOLUME_BYTES: u64 = 32 << 20;
const WRITERS: u64 = 2;

/// Rounds: `METROPOD_ROUNDS`.
#[test]
fn no_acknowledged_write_is_lost_by_killing_an_array_under_load() {
    let scratch = scratch!("kill-single");
    let mut array = Array::single("A", scratch.path());
    array.make_pod("pod1", &["vol1"], VOLUME_BYTES);
    let oracle = Arc::new(Oracle::new(VOLUME_BYTES));
    let mut dice = Dice::new(1);
    let mut acknowledged = 0;
    let rounds = setting("METROPOD_ROUNDS", 20);
    for round in 0..rounds {
        let loads = start(&array, &oracle, round);
        loads[0].wait_for(1, Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20 + dice.below(400)));
        array.kill9();
        acknowledged += loads.into_iter().map(Load::stop).sum::<u64>();
        array.restart();
        oracle.verify(&mut array.open("pod1::vol1"), &format!("round {round}"));
    }
    println!("{rounds} rounds, {acknowledged} acknowledged writes, none lost");
    array.stop();
    array.restart();
    oracle.verify(&mut array.open("pod1::vol1"), "after an orderly end");
}

fn start(array: &Array, oracle: &Arc<Oracle>, round: u64) -> Vec<Load> {
    let part = VOLUME_BYTES / SECTOR_BYTES as u64 / WRITERS;
    let options = |writer: u64| LoadOptions {
        target: Target { address: array.options().nbd, volume: "pod1::vol1".to_owned() },
        sectors: writer * part..(writer + 1) * part,
        depth: 8,
        sectors_max: 128,
        zeroes: true,
        seed: round * WRITERS + writer,
    };
    (0..WRITERS).map(|writer| Load::start(oracle, options(writer))).collect()
}
