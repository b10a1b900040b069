//! Random histories: a common log, a fork, a survivor that goes on, and rounds that bring the other level.

use metropod_protocol::Index;

use super::model::{MIB, Op, Pod, assert_equal};
use super::rig::Round;
use crate::transfer::Touched;

const SEEDS_DEFAULT: u64 = 150;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// An operation that the pod can take next.
fn any_op(random: &mut Random, pod: &Pod) -> Op {
    let volumes: Vec<u64> = pod.namespace.volumes.keys().map(|id| id.0).collect();
    let snapshots: Vec<_> = pod.namespace.snapshots.keys().copied().collect();
    if volumes.is_empty() || (volumes.len() < 4 && random.below(30) == 0) {
        return Op::Create { size_bytes: MIB + 512 * random.below(4096) };
    }
    let volume = volumes[random.below(volumes.len() as u64) as usize];
    let blocks = pod.maps[&crate::names::VolumeId(volume)].size_blocks();
    match random.below(40) {
        0 if volumes.len() > 1 => Op::Destroy(volume),
        1..=3 => Op::Snapshot(volume),
        4 if !snapshots.is_empty() => {
            let snapshot = snapshots[random.below(snapshots.len() as u64) as usize];
            Op::DropSnapshot { volume: snapshot.volume.0, taken_at: snapshot.taken_at }
        }
        5 | 6 => Op::Resize { volume, size_bytes: MIB + 512 * random.below(4096) },
        7..=10 => {
            let start = random.below(blocks);
            Op::Zero { volume, blocks: start..start + 1 + random.below(40) }
        }
        // Few blocks and few contents, so that blocks are changed back.
        _ => Op::Write {
            volume,
            block: random.below(blocks.min(24)) * (blocks / 24),
            content: 1 + random.below(12),
        },
    }
}

fn maybe_fold(random: &mut Random, pod: &mut Pod) {
    if random.below(4) == 0 {
        pod.fold();
    }
}

fn history(seed: u64) {
    let mut random = Random(seed);
    let (mut source, mut target) = (Pod::new(1), Pod::new(1_000_000));
    for _ in 0..random.below(120) {
        let op = any_op(&mut random, &source);
        source.apply(&op);
    }
    maybe_fold(&mut random, &mut source);
    Round { fold_entries: 1 + random.below(200) as usize, ..Round::from_nothing() }
        .run_well(&mut source, &mut target);
    assert_equal(&mut source, &mut target);
    for _ in 0..3 {
        // The freeze, then what both logs have and the target may have applied, then the survivor alone.
        let (mut at, mut from) = (source.applied, source.freeze());
        let common = random.below(20);
        let reached = random.below(common + 1);
        let mut touched = Touched::new(Index(source.applied + common));
        for number in 0..common {
            let op = any_op(&mut random, &source);
            source.note(&op, &mut touched);
            source.apply(&op);
            if number < reached {
                target.apply(&op);
            }
        }
        let mut touched = Some(touched);
        for _ in 0..1 + random.below(3) {
            for _ in 0..random.below(60) {
                let op = any_op(&mut random, &source);
                source.apply(&op);
                if random.below(30) == 0 {
                    maybe_fold(&mut random, &mut source);
                }
            }
            let next = source.freeze();
            let round = Round::from(at, from, touched);
            Round { fold_entries: 1 + random.below(200) as usize, ..round }
                .run_well(&mut source, &mut target);
            assert_equal(&mut source, &mut target);
            (at, from, touched) = (source.applied, next, None);
        }
        maybe_fold(&mut random, &mut target);
    }
}

#[test]
fn any_history_is_brought_level_by_rounds() {
    #[allow(clippy::disallowed_methods, reason = "the number of seeds is the one thing a test run is told")]
    let seeds =
        std::env::var("METROPOD_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS_DEFAULT);
    for seed in 0..seeds {
        println!("seed {seed}");
        history(seed);
    }
}
