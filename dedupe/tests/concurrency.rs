//! Many flows at once over media that answer late and in any order, and flows that are dropped half-way.

mod common;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use common::*;
use metropod_dedupe::{ReadError, Store, WriteError};
use metropod_journal::media::sim::{Fault, Operation, SimMedia, SplitMix};
use metropod_journal::media::{Cause, Io};

type Flow<T> = Pin<Box<dyn Future<Output = T> + Send>>;

enum Task {
    Get(u64, Flow<Result<Bytes, ReadError>>),
    Destage(Flow<Result<(), WriteError>>),
    Tidy(Flow<Result<bool, WriteError>>),
    Flush(BTreeSet<u64>, Flow<Result<Bytes, WriteError>>),
}

/// Polls a task; `true` when it has ended.
fn poll(task: &mut Task, kept: &mut Option<(Bytes, BTreeSet<u64>)>) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    match task {
        Task::Get(n, flow) => match flow.as_mut().poll(&mut context) {
            Poll::Ready(read) => {
                assert_eq!(read.unwrap_or_else(|error| panic!("chunk {n}: {error:?}")), content(*n));
                true
            }
            Poll::Pending => false,
        },
        Task::Destage(flow) => flow.as_mut().poll(&mut context).is_ready(),
        Task::Tidy(flow) => flow.as_mut().poll(&mut context).is_ready(),
        Task::Flush(staged, flow) => match flow.as_mut().poll(&mut context) {
            Poll::Ready(Ok(state)) => {
                // Turns are served in order, so a later answer covers more.
                *kept = Some((state, std::mem::take(staged)));
                true
            }
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        },
    }
}

fn start(store: &Store, staged: &BTreeSet<u64>, random: &mut SplitMix) -> Task {
    let store = store.clone();
    match random.below(7) {
        6 => Task::Tidy(Box::pin(async move { store.tidy_index().await })),
        0 => Task::Destage(Box::pin(async move { store.destage().await })),
        1 => Task::Flush(staged.clone(), Box::pin(async move { store.flush().await })),
        _ => {
            let n = *staged
                .iter()
                .nth(random.below(staged.len() as u64) as usize)
                .expect("chunk 0 is always staged");
            let name = name(n);
            Task::Get(n, Box::pin(async move { store.get(domain(n), &name, None).await }))
        }
    }
}

fn run(seed: u64, with_faults: bool) {
    let mut random = SplitMix::new(seed);
    let (media, queue) = (SimMedia::new(), Later::default());
    let mut opening = Box::pin(Store::open(Io::new(Arc::new(queue.clone())), small(), None));
    let store = loop {
        match opening.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(store) => break store.expect("the media is healthy"),
            Poll::Pending => assert!(queue.answer(&media, &mut random)),
        }
    };
    let (mut staged, mut tasks, mut kept) = (BTreeSet::from([0]), Vec::new(), None);
    stage(&store, 0);
    for step in 0..400 {
        match random.below(10) {
            0..2 => {
                for _ in 0..random.below(12) {
                    let n = random.below(300);
                    stage(&store, n);
                    staged.insert(n);
                }
            }
            2..4 if tasks.len() < 12 => tasks.push(start(&store, &staged, &mut random)),
            4 if !tasks.is_empty() && random.below(6) == 0 => {
                drop(tasks.remove(random.below(tasks.len() as u64) as usize));
            }
            5 if with_faults && random.below(3) == 0 => {
                let operation =
                    [Operation::Write, Operation::Sync, Operation::SyncDir, Operation::Create][step % 4];
                media.fail_nth(Some(operation), 1 + random.below(3), Fault::Fail(Cause::NoSpace));
            }
            _ => drop(queue.answer(&media, &mut random)),
        }
        // In order of their beginning, as an executor with a fair queue would: a flush that began later ends later.
        tasks.retain_mut(|task| !poll(task, &mut kept));
    }
    media.heal();
    tasks.push(Task::Flush(staged.clone(), {
        let store = store.clone();
        Box::pin(async move { store.flush().await })
    }));
    while !tasks.is_empty() {
        tasks.retain_mut(|task| !poll(task, &mut kept));
        assert!(
            tasks.is_empty() || queue.answer(&media, &mut random),
            "seed {seed}: a flow waits for nothing"
        );
    }
    let (state, covered) = kept.expect("the last flush met no fault");
    assert_eq!(covered, staged, "seed {seed}");
    assert_eq!(store.stats().chunks, staged.len() as u64, "seed {seed}");
    media.crash(seed);
    let store = open(&media, Some(&state));
    assert_eq!(store.stats().chunks, staged.len() as u64, "seed {seed}");
    check_all(&store, staged);
}

#[test]
fn flows_that_run_at_once_or_are_dropped_half_way_lose_nothing() {
    seeds(150).for_each(|seed| run(seed, false));
}

#[test]
fn nor_do_they_when_calls_fail() {
    seeds(150).for_each(|seed| run(seed + 10_000, true));
}

#[test]
fn the_store_and_its_flows_may_move_between_threads() {
    fn movable<T: Send>(_: &T) {}
    let store = open(&SimMedia::new(), None);
    movable(&store);
    movable(&store.flush());
    movable(&store.destage());
    movable(&store.get(domain(0), &name(0), None));
    movable(&store.have(&[]));
    movable(&Store::open(io(&SimMedia::new()), small(), None));
}
