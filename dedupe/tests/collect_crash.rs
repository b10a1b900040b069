//! Passes and cleaning among everything else, with the power failing at any operation: what is referred to is never lost,
//! and a quiet pass brings the space back to what a recount says.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod common;

use std::collections::BTreeSet;

use bytes::Bytes;
use common::*;
use metropod_dedupe::{Digest, Pass, PassError, Pin, ReadError, Store, WriteError};
use metropod_journal::media::Media;
use metropod_journal::media::sim::{SimMedia, SplitMix};

/// Chunks that come and go.
const NUMBERS: u64 = 250;

/// What the manifest holds: a state, and what was referred to when it was captured.
#[derive(Clone, Default)]
struct Kept {
    state: Option<Bytes>,
    refs: BTreeSet<u64>,
}

/// The power went, or would have.
#[derive(Debug)]
struct Cut;

impl From<WriteError> for Cut {
    fn from(_: WriteError) -> Cut {
        Cut
    }
}

impl From<ReadError> for Cut {
    fn from(error: ReadError) -> Cut {
        assert!(matches!(error, ReadError::Media { .. }), "{error:?}");
        Cut
    }
}

impl From<PassError> for Cut {
    fn from(_: PassError) -> Cut {
        Cut
    }
}

/// One life of a process.
struct Life<'a> {
    store: Store,
    kept: &'a mut Kept,
    /// What is referred to now.
    refs: BTreeSet<u64>,
    pass: Option<Pass>,
    /// What the pass has still to mark.
    unmarked: Vec<u64>,
    readers: Vec<(Pin, u64)>,
    passes: u64,
}

impl Life<'_> {
    fn new(store: Store, kept: &mut Kept) -> Life<'_> {
        let refs = kept.refs.clone();
        Life { store, kept, refs, pass: None, unmarked: Vec::new(), readers: Vec::new(), passes: 0 }
    }

    fn run(&mut self, random: &mut SplitMix, steps: u64) -> Result<(), Cut> {
        for _ in 0..steps {
            self.step(random)?;
        }
        Ok(())
    }

    fn step(&mut self, random: &mut SplitMix) -> Result<(), Cut> {
        match random.below(20) {
            0..3 => {
                for _ in 0..random.below(20) {
                    let n = random.below(NUMBERS);
                    match random.below(8) {
                        0 => replace(&self.store, n),
                        _ => stage(&self.store, n),
                    }
                    self.refs.insert(n);
                }
            }
            3..5 => {
                let keep_above = random.below(256);
                self.refs.retain(|_| random.below(256) >= keep_above / 2);
            }
            5 => {
                let asked: Vec<u64> = (0..random.below(40)).map(|_| random.below(NUMBERS)).collect();
                let names: Vec<Digest> = asked.iter().map(|n| name(*n)).collect();
                let have = now(self.store.have(&names))?;
                self.refs.extend(asked.iter().zip(have).filter(|(_, have)| *have).map(|(n, _)| *n));
            }
            6 => now(self.store.destage())?,
            7..10 => self.flush(random)?,
            10 => {
                if let Some(state) = &self.kept.state {
                    self.store.committed(state);
                }
            }
            11..13 => self.begin(),
            13..16 => self.mark(random)?,
            16 => drop(now(self.store.clean(60, random.below(200_000)))?),
            17 => {
                let count = self.refs.len() as u64;
                if let Some(n) = (count > 0).then(|| self.refs.iter().nth(random.below(count) as usize)) {
                    let n = *n.expect("within the count");
                    self.readers.push((self.store.pin(), n));
                }
            }
            18 => {
                for (_pin, n) in self.readers.drain(..) {
                    read(&self.store, n)?;
                }
            }
            _ => {
                for n in &self.refs {
                    read(&self.store, *n)?;
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self, random: &mut SplitMix) -> Result<(), Cut> {
        let state = now(self.store.flush())?;
        // The process may also die between the flush and the manifest.
        if random.below(4) > 0 {
            *self.kept = Kept { state: Some(state), refs: self.refs.clone() };
        }
        Ok(())
    }

    fn begin(&mut self) {
        if let Some(pass) = self.store.begin_pass() {
            self.unmarked = self.refs.iter().copied().collect();
            self.pass = Some(pass);
        }
    }

    fn mark(&mut self, random: &mut SplitMix) -> Result<(), Cut> {
        let Some(pass) = &self.pass else { return Ok(()) };
        let some = self.unmarked.len() - random.below(self.unmarked.len() as u64 + 1) as usize;
        let names: Vec<Digest> = self.unmarked.drain(some..).map(name).collect();
        // A node is visited, which marks it and tells whether it is met for the first time.
        let (nodes, data): (Vec<Digest>, Vec<Digest>) = names.iter().partition(|name| name.0[0] % 2 == 0);
        now(pass.mark(&data))?;
        assert!(now(pass.visit(&nodes))?.iter().all(|first| *first));
        assert!(now(pass.visit(&nodes))?.iter().all(|first| !*first));
        if self.unmarked.is_empty() && pass.is_drained() {
            let collected = now(self.pass.take().expect("looked at above").finish())?;
            assert_eq!(collected.missing_chunks, 0, "what is referred to is stored");
            self.passes += 1;
        }
        Ok(())
    }
}

fn read(store: &Store, n: u64) -> Result<(), Cut> {
    let read = now(store.get(domain(n), &name(n), None))?;
    assert_eq!(read, content(n), "chunk {n}");
    Ok(())
}

fn reopen_and_check(media: &SimMedia, kept: &Kept, seed: u64) -> Store {
    let store = open(media, kept.state.as_deref());
    assert_eq!(store.stats().damaged, 0, "seed {seed}");
    check_all(&store, kept.refs.iter().copied());
    store
}

/// Collects what is not referred to, and recounts.
fn settle(media: &SimMedia, store: &Store, refs: &BTreeSet<u64>, seed: u64) -> Bytes {
    let pass = store.begin_pass().expect("none is under way");
    let names: Vec<Digest> = refs.iter().map(|n| name(*n)).collect();
    now(pass.mark(&names)).unwrap();
    now(pass.finish()).unwrap();
    while now(store.clean(60, 50_000)).unwrap().more {}
    let state = now(store.flush()).unwrap();
    store.committed(&state);
    let stats = store.stats();
    assert_eq!(stats.chunks, refs.len() as u64, "seed {seed}");
    assert_eq!(stats.logical_bytes, refs.iter().map(|n| content(*n).len() as u64).sum::<u64>());
    assert_eq!(media.list("segments").unwrap().len() as u64, stats.segments, "seed {seed}");
    // Every segment that nothing is written to any more is worth its space.
    let store = open(media, Some(&state));
    let cleaned = now(store.clean(60, u64::MAX)).unwrap();
    assert_eq!(cleaned.unreadable, 0);
    let state = now(store.flush()).unwrap();
    store.committed(&state);
    let stats = store.stats();
    assert!(
        stats.segment_bytes * 60 <= stats.stored_bytes * 100 + 60 * 4 * u64::from(small().segment_bytes),
        "seed {seed}: {stats:?}"
    );
    assert_eq!(media.list("segments").unwrap().len() as u64, stats.segments, "seed {seed}");
    let all: Vec<Digest> = (0..NUMBERS).map(name).collect();
    let have = now(store.have(&all)).unwrap();
    assert!((0..NUMBERS).zip(have).all(|(n, have)| have == refs.contains(&n)), "seed {seed}");
    check_all(&store, refs.iter().copied());
    state
}

#[test]
fn what_is_referred_to_survives_passes_and_power_cuts_and_the_rest_goes() {
    let mut passes = 0;
    for seed in seeds(1000) {
        let mut random = SplitMix::new(seed);
        let (media, mut kept) = (SimMedia::new(), Kept::default());
        for _ in 0..4 {
            let store = reopen_and_check(&media, &kept, seed);
            if random.below(4) > 0 {
                media.cut_power_after(random.below(150));
            }
            let steps = 10 + random.below(60);
            let mut life = Life::new(store, &mut kept);
            let _cut = life.run(&mut random, steps);
            passes += life.passes;
            drop(life);
            if random.below(4) == 0 {
                media.kill()
            } else {
                media.crash(random.next_u64())
            }
            media.heal();
        }
        let store = reopen_and_check(&media, &kept, seed);
        settle(&media, &store, &kept.refs, seed);
    }
    assert!(passes > seeds(1000).end / 2, "{passes} passes were finished");
}

#[test]
fn what_is_referred_to_survives_a_power_cut_at_every_operation_of_a_run_with_passes() {
    for script in 0..4 {
        let run = |cut: Option<u64>| {
            let mut random = SplitMix::new(script);
            let (media, mut kept) = (SimMedia::new(), Kept::default());
            let store = open(&media, None);
            cut.inspect(|effects| media.cut_power_after(*effects));
            let mut life = Life::new(store, &mut kept);
            let _cut = life.run(&mut random, 90);
            let passes = life.passes;
            drop(life);
            (media, kept, passes)
        };
        let (whole, _, passes) = run(None);
        assert!(passes > 0, "script {script} finishes a pass");
        for cut in 0..whole.effects() {
            let (media, kept, _) = run(Some(cut));
            assert!(media.is_dark());
            for seed in 0..2 {
                let media = media.deep_copy();
                media.crash(cut * 31 + seed);
                let store = reopen_and_check(&media, &kept, cut);
                settle(&media, &store, &kept.refs, cut);
            }
        }
    }
}
