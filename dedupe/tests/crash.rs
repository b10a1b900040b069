//! The power fails at any operation: what a kept state covers is there and verifies; nothing else matters.

mod common;

use std::collections::BTreeSet;

use bytes::Bytes;
use common::*;
use metropod_dedupe::{Store, WriteError};
use metropod_journal::media::sim::{SimMedia, SplitMix};

/// What the manifest holds: a state, and the chunks that were staged before the flush that returned it.
#[derive(Clone, Default)]
struct Kept {
    state: Option<Bytes>,
    chunks: BTreeSet<u64>,
    /// Runs of the index and entries in them: what opening finds again, unless it had to rebuild the index.
    runs: (u64, u64),
}

/// One life of a process: random staging, destaging, flushing, until an error or the end of the script.
fn live(store: &Store, kept: &mut Kept, random: &mut SplitMix, steps: u64) -> Result<(), WriteError> {
    let mut staged = kept.chunks.clone();
    for _ in 0..steps {
        match random.below(9) {
            0..4 => {
                for _ in 0..random.below(20) {
                    let n = random.below(400);
                    stage(store, n);
                    staged.insert(n);
                }
            }
            4..6 => now(store.destage())?,
            6 => {
                // Later states may have been returned since, but none of them is kept.
                if let Some(state) = &kept.state {
                    store.committed(state);
                }
            }
            _ => {
                let state = now(store.flush())?;
                // The process may also die between the flush and the manifest.
                if random.below(4) > 0 {
                    let stats = store.stats();
                    let runs = (stats.runs, stats.run_entries);
                    *kept = Kept { state: Some(state), chunks: staged.clone(), runs };
                }
            }
        }
    }
    Ok(())
}

fn reopen_and_check(media: &SimMedia, kept: &Kept, seed: u64) -> Store {
    let store = open(media, kept.state.as_deref());
    let stats = store.stats();
    assert_eq!(stats.chunks, kept.chunks.len() as u64, "seed {seed}");
    assert_eq!(stats.logical_bytes, kept.chunks.iter().map(|n| content(*n).len() as u64).sum::<u64>());
    assert_eq!(stats.damaged, 0, "seed {seed}");
    assert_eq!((stats.runs, stats.run_entries), kept.runs, "seed {seed}: the index was not rebuilt");
    check_all(&store, kept.chunks.iter().copied());
    store
}

#[test]
fn what_a_kept_state_covers_survives_power_cuts_at_random_operations() {
    for seed in seeds(1000) {
        let mut random = SplitMix::new(seed);
        let (media, mut kept) = (SimMedia::new(), Kept::default());
        for _ in 0..3 {
            let store = reopen_and_check(&media, &kept, seed);
            media.cut_power_after(random.below(60));
            let steps = 4 + random.below(16);
            let _cut = live(&store, &mut kept, &mut random, steps);
            drop(store);
            if random.below(4) == 0 {
                media.kill()
            } else {
                media.crash(random.next_u64())
            }
            media.heal();
        }
        reopen_and_check(&media, &kept, seed);
    }
}

#[test]
fn what_a_kept_state_covers_survives_a_power_cut_at_every_operation_of_a_run() {
    for script in 0..3 {
        let run = |cut: Option<u64>| {
            let mut random = SplitMix::new(script);
            let (media, mut kept) = (SimMedia::new(), Kept::default());
            let store = open(&media, None);
            cut.inspect(|effects| media.cut_power_after(*effects));
            let _cut = live(&store, &mut kept, &mut random, 40);
            (media, kept)
        };
        let effects = run(None).0.effects();
        for cut in 0..effects {
            let (media, kept) = run(Some(cut));
            assert!(media.is_dark());
            for seed in 0..2 {
                let media = media.deep_copy();
                media.crash(cut * 31 + seed);
                let store = reopen_and_check(&media, &kept, cut);
                stage_all(&store, 500..510);
                let state = now(store.flush()).unwrap();
                check_all(&open(&media, Some(&state)), kept.chunks.iter().copied().chain(500..510));
            }
        }
    }
}
