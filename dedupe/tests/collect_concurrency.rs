//! Passes and cleaning beside every other flow, over media that answer late and in any order, with flows that fail or are
//! dropped half-way.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod common;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use common::*;
use metropod_dedupe::{
    Cleaned, Collected, Digest, Pass, PassError, Pin as Reader, ReadError, Scrubbed, SegmentId, Store,
    WriteError,
};
use metropod_journal::media::sim::{Fault, Operation, SimMedia, SplitMix};
use metropod_journal::media::{Cause, Io, MediaError};

/// Chunks that come and go.
const NUMBERS: u64 = 200;

type Flow<T> = Pin<Box<dyn Future<Output = T> + Send>>;

enum Task {
    Get(u64, #[allow(dead_code, reason = "held while the flow runs")] Reader, Flow<Result<Bytes, ReadError>>),
    /// Chunks that nobody dropped while the question was under way are referred to if they are there.
    Have(Vec<u64>, Flow<Result<Vec<bool>, ReadError>>),
    Destage(Flow<Result<(), WriteError>>),
    Tidy(Flow<Result<bool, WriteError>>),
    Flush(BTreeSet<u64>, Flow<Result<Bytes, WriteError>>),
    Mark(Flow<Result<Pass, PassError>>),
    Finish(Flow<Result<Collected, PassError>>),
    Clean(Flow<Result<Cleaned, WriteError>>),
    /// One segment after another, from the first to the last of its beginning.
    Scrub(SegmentId, Flow<Result<Option<Scrubbed>, MediaError>>),
}

struct World {
    random: SplitMix,
    media: SimMedia,
    queue: Later,
    store: Store,
    tasks: Vec<Task>,
    refs: BTreeSet<u64>,
    marked: Option<Pass>,
    kept: Option<(Bytes, BTreeSet<u64>)>,
    collected: Collected,
    /// Segments scrubbed.
    scrubbed: u64,
    tidied: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = SplitMix::new(seed);
        let (media, queue) = (SimMedia::new(), Later::default());
        let mut opening = Box::pin(Store::open(Io::new(Arc::new(queue.clone())), small(), None));
        let store = loop {
            match opening.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(store) => break store.expect("the media is healthy"),
                Poll::Pending => assert!(queue.answer(&media, &mut random)),
            }
        };
        let (tasks, refs, collected) = (Vec::new(), BTreeSet::new(), Collected::default());
        World {
            random,
            media,
            queue,
            store,
            tasks,
            refs,
            marked: None,
            kept: None,
            collected,
            scrubbed: 0,
            tidied: 0,
        }
    }

    fn step(&mut self, with_faults: bool) {
        match self.random.below(16) {
            0..2 => {
                for _ in 0..self.random.below(12) {
                    let n = self.random.below(NUMBERS);
                    match self.random.below(8) {
                        0 => replace(&self.store, n),
                        _ => stage(&self.store, n),
                    }
                    self.refs.insert(n);
                }
            }
            2 => {
                let share = self.random.below(128);
                self.refs.retain(|_| self.random.below(256) >= share);
            }
            3..6 if self.tasks.len() < 12 => self.start(),
            6 if self.is(|task| matches!(task, Task::Mark(_) | Task::Finish(_))) => {}
            6 => self.collect(),
            7 if !self.tasks.is_empty() && self.random.below(8) == 0 => {
                let at = self.random.below(self.tasks.len() as u64) as usize;
                drop(self.tasks.remove(at));
            }
            8 if with_faults && self.random.below(4) == 0 => {
                let operations = [
                    Operation::Write,
                    Operation::Sync,
                    Operation::SyncDir,
                    Operation::Create,
                    Operation::Read,
                ];
                let operation = operations[self.random.below(5) as usize];
                let nth = 1 + self.random.below(3);
                self.media.fail_nth(Some(operation), nth, Fault::Fail(Cause::NoSpace));
            }
            _ => drop(self.queue.answer(&self.media, &mut self.random)),
        }
        self.poll(with_faults);
    }

    fn is(&self, kind: impl Fn(&Task) -> bool) -> bool {
        self.tasks.iter().any(kind)
    }

    fn start(&mut self) {
        let store = self.store.clone();
        self.tasks.push(match self.random.below(10) {
            9 => Task::Tidy(Box::pin(async move { store.tidy_index().await })),
            0 => Task::Destage(Box::pin(async move { store.destage().await })),
            1 => Task::Flush(self.refs.clone(), Box::pin(async move { store.flush().await })),
            2 => Task::Clean(Box::pin(async move { store.clean(60, 50_000).await })),
            3..5 => {
                let asked: Vec<u64> = (0..20).map(|_| self.random.below(NUMBERS)).collect();
                let names: Vec<Digest> = asked.iter().map(|n| name(*n)).collect();
                Task::Have(asked, Box::pin(async move { store.have(&names).await }))
            }
            5 if self.random.below(2) == 0 && !self.is(|task| matches!(task, Task::Scrub(..))) => {
                let end = store.scrub_end();
                Task::Scrub(end, Box::pin(async move { store.scrub(SegmentId(0), end).await }))
            }
            _ => {
                let count = self.refs.len() as u64;
                let at = self.random.below(count.max(1)) as usize;
                let Some(n) = self.refs.iter().nth(at).copied() else { return };
                let (reader, name) = (self.store.pin(), name(n));
                Task::Get(n, reader, Box::pin(async move { store.get(domain(n), &name, None).await }))
            }
        });
    }

    /// Begins a pass, or ends one. As in an array, none begins while a state captured before is on its way.
    fn collect(&mut self) {
        if let Some(pass) = self.marked.take_if(|pass| pass.is_drained()) {
            return self.tasks.push(Task::Finish(Box::pin(pass.finish())));
        }
        if self.is(|task| matches!(task, Task::Flush(..) | Task::Have(..))) {
            return;
        }
        if let Some(pass) = self.store.begin_pass() {
            let names: Vec<Digest> = self.refs.iter().map(|n| name(*n)).collect();
            self.tasks.push(Task::Mark(Box::pin(async move {
                pass.mark(&names).await?;
                Ok(pass)
            })));
        }
    }

    /// Polls all tasks in order of their beginning, as an executor with a fair queue would.
    fn poll(&mut self, with_faults: bool) {
        let mut tasks = std::mem::take(&mut self.tasks);
        tasks.retain_mut(|task| !self.poll_one(task, with_faults));
        self.tasks.extend(tasks);
    }

    /// `true` when it has ended.
    fn poll_one(&mut self, task: &mut Task, with_faults: bool) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        match task {
            Task::Get(n, _, flow) => match flow.as_mut().poll(&mut context) {
                Poll::Ready(Ok(read)) => assert_eq!(read, content(*n)),
                Poll::Ready(Err(ReadError::Media { .. })) if with_faults => {}
                Poll::Ready(Err(error)) => panic!("chunk {n}: {error:?}"),
                Poll::Pending => return false,
            },
            Task::Have(asked, flow) => match flow.as_mut().poll(&mut context) {
                Poll::Ready(Ok(have)) => {
                    let there = asked.iter().zip(have).filter(|(_, have)| *have);
                    self.refs.extend(there.map(|(n, _)| *n));
                }
                Poll::Ready(Err(error)) => assert!(with_faults, "{error:?}"),
                Poll::Pending => return false,
            },
            Task::Destage(flow) => return flow.as_mut().poll(&mut context).is_ready(),
            Task::Tidy(flow) => match flow.as_mut().poll(&mut context) {
                Poll::Ready(tidied) => self.tidied += u64::from(tidied.unwrap_or(false)),
                Poll::Pending => return false,
            },
            Task::Clean(flow) => return flow.as_mut().poll(&mut context).is_ready(),
            Task::Scrub(end, flow) => match flow.as_mut().poll(&mut context) {
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Ok(Some(scrubbed))) => {
                    assert_eq!(scrubbed.findings, 0, "nothing rots here: {scrubbed:?}");
                    self.scrubbed += 1;
                    let (store, from, end) = (self.store.clone(), SegmentId(scrubbed.segment.0 + 1), *end);
                    *flow = Box::pin(async move { store.scrub(from, end).await });
                    return false;
                }
                Poll::Ready(Err(error)) => assert!(with_faults, "{error:?}"),
                Poll::Pending => return false,
            },
            Task::Flush(covered, flow) => match flow.as_mut().poll(&mut context) {
                Poll::Ready(Ok(state)) => {
                    self.store.committed(&state);
                    self.kept = Some((state, std::mem::take(covered)));
                }
                Poll::Ready(Err(_)) => {}
                Poll::Pending => return false,
            },
            Task::Mark(flow) => match flow.as_mut().poll(&mut context) {
                Poll::Ready(Ok(pass)) => self.marked = Some(pass),
                Poll::Ready(Err(error)) => assert!(with_faults, "{error:?}"),
                Poll::Pending => return false,
            },
            Task::Finish(flow) => match flow.as_mut().poll(&mut context) {
                Poll::Ready(Ok(collected)) => {
                    self.collected.dead_chunks += collected.dead_chunks;
                    self.collected.freed_segments += collected.freed_segments;
                }
                Poll::Ready(Err(error)) => assert!(with_faults, "{error:?}"),
                Poll::Pending => return false,
            },
        }
        true
    }

    fn settle(&mut self, seed: u64) {
        self.media.heal();
        while !self.tasks.is_empty() {
            // The turn may go from a later task to an earlier one, and a task may take it a few times without I/O.
            (0..=4 * self.tasks.len()).for_each(|_| self.poll(true));
            let goes_on = self.tasks.is_empty() || self.queue.answer(&self.media, &mut self.random);
            assert!(goes_on, "seed {seed}: a flow waits for nothing");
        }
        self.marked = None;
    }
}

fn run(seed: u64, with_faults: bool) -> (Collected, u64, u64) {
    let mut world = World::new(seed);
    for _ in 0..900 {
        world.step(with_faults);
    }
    world.settle(seed);
    if let Some((state, covered)) = &world.kept {
        let media = world.media.deep_copy();
        media.crash(seed);
        check_all(&open(&media, Some(state)), covered.iter().copied());
    }
    // A quiet pass, and what a recount says.
    let (store, refs) = (world.store.clone(), world.refs.clone());
    let names: Vec<Digest> = refs.iter().map(|n| name(*n)).collect();
    world.tasks.push(Task::Flush(
        refs.clone(),
        Box::pin(async move {
            if !with_faults {
                // However a chunk was moved, replaced or written again: one copy counts.
                store.flush().await?;
                let all: Vec<Digest> = (0..NUMBERS).map(name).collect();
                let have = store.have(&all).await.expect("the media is healthy");
                let have = have.into_iter().filter(|have| *have).count() as u64;
                assert_eq!(store.stats().chunks, have, "seed {seed}");
            }
            // What is still staged would be born during the pass.
            store.flush().await?;
            let pass = store.begin_pass().expect("none is under way");
            pass.mark(&names).await.unwrap();
            let collected = pass.finish().await.expect("the media is healthy");
            assert_eq!(collected.missing_chunks, 0, "what is referred to is stored");
            store.clean(60, u64::MAX).await?;
            store.flush().await
        }),
    ));
    world.settle(seed);
    assert_eq!(world.store.stats().chunks, refs.len() as u64, "seed {seed}");
    let (state, covered) = world.kept.expect("the last flush met no fault");
    assert_eq!(covered, refs, "seed {seed}");
    world.media.crash(seed);
    let store = open(&world.media, Some(&state));
    assert_eq!((store.stats().chunks, store.stats().damaged), (refs.len() as u64, 0), "seed {seed}");
    check_all(&store, refs);
    (world.collected, world.scrubbed, world.tidied)
}

fn runs(first: u64, with_faults: bool) {
    let (mut all, mut all_scrubbed, mut all_tidied) = (Collected::default(), 0, 0);
    for seed in seeds(300) {
        let (collected, scrubbed, tidied) = run(first + seed, with_faults);
        all_scrubbed += scrubbed;
        all_tidied += tidied;
        all.dead_chunks += collected.dead_chunks;
        all.freed_segments += collected.freed_segments;
    }
    assert!(all.dead_chunks > 0 && all.freed_segments > 0 && all_scrubbed > 0, "{all:?}, {all_scrubbed}");
    println!("{all_tidied} merges beside everything else");
    assert!(all_tidied > 100);
}

#[test]
fn passes_beside_other_flows_take_nothing_that_is_referred_to() {
    runs(0, false);
}

#[test]
fn nor_do_they_when_calls_fail() {
    runs(10_000, true);
}

#[test]
fn a_pass_and_its_flows_may_move_between_threads() {
    fn movable<T: Send>(_: &T) {}
    let store = open(&SimMedia::new(), None);
    let pass = store.begin_pass().expect("none is under way");
    movable(&pass.mark(&[]));
    movable(&pass.visit(&[]));
    movable(&store.clean(60, 0));
    movable(&store.scrub(SegmentId(0), SegmentId(1)));
    movable(&store.pin());
    movable(&store.tidy_index());
    movable(&pass.finish());
}
