//! Does a plan's requests through the crate's interface and times each of them.
//!
//! - T1: data are made before a request's time begins.
//! - T2: with a rate, a request's time begins when it was due, if all requesters were busy then: what waits is counted.
//! - T3: async requesters share as many threads as there are cores; each thread polls the requesters that were woken, as
//!   an event loop does. Blocking requesters have a thread each.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use bytes::Bytes;
use metropod::Volume;
use serde_json::{Value, json};

use crate::clock::process_cpu_ns;
use crate::contents;
use crate::latency::Latency;
use crate::ledger::Ledger;
use crate::plan::{Api, Kind, Plan, Request, Stop};

/// Data made before the first request begins, all requesters together, in bytes; what is more is made between requests.
const PREPARED_BYTES: u64 = 256 << 20;
/// One in so many reads is compared.
const COMPARED: u64 = 16;

/// What a run gave.
#[derive(Debug)]
pub struct Driven {
    /// Of every request.
    pub latency: Latency,
    /// From the first request to the end of the last one, in nanoseconds.
    pub elapsed_ns: u64,
    /// CPU time of the array's process meanwhile, which also holds the host, in nanoseconds.
    pub cpu_ns: u64,
    /// Requests completed, by requester.
    pub completed: Vec<u64>,
    /// Requests completed in each step of the plan's length.
    pub steps: Vec<u64>,
    /// Longest time without a completion, in nanoseconds.
    pub stall_ns: u64,
    /// Reads compared with what was written.
    pub compared: u64,
}

impl Driven {
    /// Requests completed.
    pub fn requests(&self) -> u64 {
        self.completed.iter().sum()
    }

    /// Requests per second.
    pub fn rate(&self) -> f64 {
        self.requests() as f64 * 1e9 / self.elapsed_ns.max(1) as f64
    }

    /// CPU time of a request, in microseconds.
    pub fn cpu_us(&self) -> f64 {
        self.cpu_ns as f64 / 1e3 / self.requests().max(1) as f64
    }

    /// For the process that asked.
    pub fn encode(&self) -> Value {
        json!({
            "latency": self.latency.encode(), "elapsed_ns": self.elapsed_ns, "cpu_ns": self.cpu_ns,
            "completed": self.completed, "steps": self.steps, "stall_ns": self.stall_ns, "compared": self.compared,
        })
    }

    /// What [`Driven::encode`] gave.
    pub fn decode(text: &str) -> io::Result<Driven> {
        let value: Value = serde_json::from_str(text)?;
        let number = |name: &str| value[name].as_u64().unwrap_or(0);
        let numbers =
            |name: &str| value[name].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
        Ok(Driven {
            latency: Latency::decode(&value["latency"])?,
            elapsed_ns: number("elapsed_ns"),
            cpu_ns: number("cpu_ns"),
            completed: numbers("completed"),
            steps: numbers("steps"),
            stall_ns: number("stall_ns"),
            compared: number("compared"),
        })
    }
}

/// Does the plan.
pub fn drive(plan: &Plan, volume: &Volume) -> io::Result<Driven> {
    let ledger = plan.ledger.as_deref().map(Ledger::load).transpose()?;
    let each = PREPARED_BYTES / plan.depth.max(1) / plan.request_bytes().max(1);
    let mut requesters: Vec<Requester> = (0..plan.depth)
        .map(|number| {
            let mut requests: Box<dyn Iterator<Item = Request> + Send> = Box::new(plan.requests(number));
            let most = plan.most_requests(number);
            let prepared = match plan.kind {
                Kind::Write if plan.prepare => each.min(most),
                Kind::Write | Kind::Read => 0,
            };
            let prepared = requests.by_ref().take(prepared as usize).map(|request| Ready::new(plan, request));
            Requester { prepared: prepared.collect(), requests, most, done: Done::default() }
        })
        .collect();
    let shared = Shared::new(plan, volume, ledger.as_ref());
    let cpu = process_cpu_ns();
    match plan.api {
        Api::Blocking => shared.run_blocking(&mut requesters)?,
        Api::Async => shared.run_async(&mut requesters)?,
    }
    let elapsed_ns = shared.began.elapsed().as_nanos() as u64;
    let mut driven = Driven {
        latency: Latency::default(),
        elapsed_ns,
        cpu_ns: process_cpu_ns() - cpu,
        completed: Vec::new(),
        steps: Vec::new(),
        stall_ns: shared.stall_ns.load(Ordering::Relaxed),
        compared: 0,
    };
    for requester in requesters {
        let done = requester.done;
        driven.latency.add(&done.latency);
        driven.completed.push(done.completed);
        driven.compared += done.compared;
        let length = driven.steps.len().max(done.steps.len());
        driven.steps.resize(length, 0);
        driven.steps.iter_mut().zip(&done.steps).for_each(|(all, mine)| *all += mine);
    }
    Ok(driven)
}

/// A request with its data.
struct Ready {
    request: Request,
    data: Bytes,
}

impl Ready {
    fn new(plan: &Plan, request: Request) -> Ready {
        let mut data = vec![0; request.contents.len() * plan.unit_bytes as usize];
        for (content, unit) in request.contents.iter().zip(data.chunks_exact_mut(plan.unit_bytes as usize)) {
            contents::fill_part(*content, unit);
        }
        Ready { request, data: Bytes::from(data) }
    }
}

struct Requester {
    prepared: VecDeque<Ready>,
    requests: Box<dyn Iterator<Item = Request> + Send>,
    most: u64,
    done: Done,
}

#[derive(Default)]
struct Done {
    latency: Latency,
    completed: u64,
    compared: u64,
    steps: Vec<u64>,
}

struct Shared<'a> {
    plan: &'a Plan,
    volume: &'a Volume,
    ledger: Option<&'a Ledger>,
    began: Instant,
    until: Option<Instant>,
    last_ns: AtomicU64,
    stall_ns: AtomicU64,
}

impl<'a> Shared<'a> {
    fn new(plan: &'a Plan, volume: &'a Volume, ledger: Option<&'a Ledger>) -> Shared<'a> {
        let began = Instant::now();
        let until = match plan.stop {
            Stop::Millis(millis) => Some(began + Duration::from_millis(millis)),
            Stop::Requests(_) => None,
        };
        let (last_ns, stall_ns) = (AtomicU64::new(0), AtomicU64::new(0));
        Shared { plan, volume, ledger, began, until, last_ns, stall_ns }
    }

    fn run_blocking(&self, requesters: &mut [Requester]) -> io::Result<()> {
        thread::scope(|scope| {
            let spawn = |(number, requester)| scope.spawn(move || self.requests_blocking(number, requester));
            let threads: Vec<_> = (0..).zip(requesters.iter_mut()).map(spawn).collect();
            threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(panicked())))
        })
    }

    fn requests_blocking(&self, number: u64, requester: &mut Requester) -> io::Result<()> {
        while let Some(ready) = self.next(requester) {
            let began = self.wait_until_due(number, requester.done.completed);
            let (offset, length) = self.place(&ready);
            let found = match self.plan.kind {
                Kind::Write => self.volume.write_blocking(offset, &ready.data).map(|()| Bytes::new()),
                Kind::Read => self.volume.read_blocking(offset, length),
            };
            self.finished(requester, &ready, began, &found.map_err(io::Error::other)?)?;
        }
        Ok(())
    }

    /// Waits until a requester's request is due; gives when its time begins.
    fn wait_until_due(&self, requester: u64, completed: u64) -> Instant {
        let now = Instant::now();
        let Some(rate) = self.plan.rate else { return now };
        let before = completed * self.plan.depth + requester;
        let due = self.began + Duration::from_secs_f64(before as f64 / rate as f64);
        if now >= due {
            return due;
        }
        thread::sleep(due - now);
        Instant::now()
    }

    fn run_async(&self, requesters: &mut [Requester]) -> io::Result<()> {
        let threads = thread::available_parallelism().map_or(1, usize::from).min(requesters.len()).max(1);
        let each = requesters.len().div_ceil(threads);
        thread::scope(|scope| {
            let threads: Vec<_> = requesters
                .chunks_mut(each)
                .map(|requesters| {
                    scope.spawn(move || poll_all(requesters.iter_mut().map(|one| self.requests_async(one))))
                })
                .collect();
            threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(panicked())))
        })
    }

    async fn requests_async(&self, requester: &mut Requester) -> io::Result<()> {
        while let Some(ready) = self.next(requester) {
            let began = Instant::now();
            let (offset, length) = self.place(&ready);
            let found = match self.plan.kind {
                Kind::Write => self.volume.write(offset, ready.data.clone()).await.map(|()| Bytes::new()),
                Kind::Read => self.volume.read(offset, length).await,
            };
            self.finished(requester, &ready, began, &found.map_err(io::Error::other)?)?;
        }
        Ok(())
    }

    fn place(&self, ready: &Ready) -> (u64, u64) {
        (ready.request.first * self.plan.unit_bytes, self.plan.request_bytes())
    }

    /// The requester's next request, unless it is to end.
    fn next(&self, requester: &mut Requester) -> Option<Ready> {
        if requester.done.completed == requester.most
            || self.until.is_some_and(|until| Instant::now() >= until)
        {
            return None;
        }
        let ready = requester.prepared.pop_front();
        let ready = ready.or_else(|| requester.requests.next().map(|request| Ready::new(self.plan, request)));
        if self.plan.pause_us > 0 {
            thread::sleep(Duration::from_micros(self.plan.pause_us));
        }
        ready
    }

    fn finished(
        &self,
        requester: &mut Requester,
        ready: &Ready,
        began: Instant,
        found: &Bytes,
    ) -> io::Result<()> {
        let ended = Instant::now();
        let done = &mut requester.done;
        done.latency.record((ended - began).as_nanos() as u64);
        done.completed += 1;
        let now_ns = (ended - self.began).as_nanos() as u64;
        let step = (now_ns / 1_000_000 / self.plan.step_ms.max(1)) as usize;
        if done.steps.len() <= step {
            done.steps.resize(step + 1, 0);
        }
        done.steps[step] += 1;
        let last = self.last_ns.fetch_max(now_ns, Ordering::Relaxed);
        self.stall_ns.fetch_max(now_ns.saturating_sub(last), Ordering::Relaxed);
        match self.ledger {
            Some(ledger) if self.plan.kind == Kind::Read && done.completed % COMPARED == 1 => {
                done.compared += self.plan.length;
                if found[..] == ledger.bytes(ready.request.first, self.plan.length)[..] {
                    Ok(())
                } else {
                    Err(io::Error::other(format!("unit {} is not what was written", ready.request.first)))
                }
            }
            _ => Ok(()),
        }
    }
}

fn panicked() -> io::Error {
    io::Error::other("a requester panicked")
}

/// Futures that were woken, for the thread that polls them.
struct Woken {
    numbers: Mutex<VecDeque<usize>>,
    thread: Thread,
}

struct WakeOne {
    woken: Arc<Woken>,
    number: usize,
}

impl Wake for WakeOne {
    fn wake(self: Arc<Self>) {
        self.woken.numbers.lock().unwrap_or_else(PoisonError::into_inner).push_back(self.number);
        self.woken.thread.unpark();
    }
}

/// Polls all of them on this thread until the last one ends or one fails.
fn poll_all<'f, F: Future<Output = io::Result<()>> + 'f>(futures: impl Iterator<Item = F>) -> io::Result<()> {
    type Boxed<'f> = Pin<Box<dyn Future<Output = io::Result<()>> + 'f>>;
    let mut futures: Vec<Option<Boxed<'f>>> =
        futures.map(|future| Some(Box::pin(future) as Boxed<'f>)).collect();
    let woken =
        Arc::new(Woken { numbers: Mutex::new((0..futures.len()).collect()), thread: thread::current() });
    let waker = |number| Waker::from(Arc::new(WakeOne { woken: woken.clone(), number }));
    let wakers: Vec<Waker> = (0..futures.len()).map(waker).collect();
    let mut left = futures.len();
    while left > 0 {
        let next = woken.numbers.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(number) = next else {
            thread::park();
            continue;
        };
        let Some(future) = futures[number].as_mut() else { continue };
        if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(&wakers[number])) {
            futures[number] = None;
            left -= 1;
            result?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use metropod::{Array, Options};

    use super::*;
    use crate::contents::BLOCK_BYTES;
    use crate::ledger::check_plans;
    use crate::park::block_on;

    /// An array of its own directory with a volume of 1 MiB.
    fn with_volume(test: impl FnOnce(&std::path::Path, &Volume)) {
        let home = tempfile::tempdir_in(".").unwrap();
        let options = Options::new("A", home.path().join("a"));
        let array = Array::open(Options { journal_bytes: 128 << 20, ..options }).unwrap();
        block_on(array.create_pod("p")).unwrap();
        let volume = block_on(array.create_volume("p::v", 1 << 20)).unwrap();
        test(home.path(), &volume);
        array.close();
    }

    #[test]
    fn what_was_driven_is_compared_and_a_block_that_differs_is_told() {
        with_volume(|home, volume| {
            let mut ledger = Ledger::new(BLOCK_BYTES as u64, 256);
            let mut done = Vec::new();
            for (seed, api) in [(1, Api::Async), (2, Api::Blocking)] {
                let plan = Plan::random_writes("p::v", seed, 256, 7, Stop::Requests(100));
                let driven = drive(&Plan { api, ..plan.clone() }, volume).unwrap();
                assert_eq!((driven.requests(), driven.latency.count()), (100, 100));
                assert_eq!(driven.steps.iter().sum::<u64>(), 100);
                ledger.apply(&plan, &driven.completed);
                done.push((plan, driven.completed));
            }
            assert_eq!(ledger.check(volume).unwrap(), 256);
            let written = check_plans(volume, &done).unwrap();
            let path = home.join("ledger");
            ledger.save(&path).unwrap();
            let read = Plan { kind: Kind::Read, ledger: Some(path), ..done[1].0.clone() };
            assert!(drive(&read, volume).unwrap().compared > 0);

            // One byte in every block: any comparison must tell.
            for block in 0..256 {
                let mut bytes = volume.read_blocking(block * 4096, 4096).unwrap().to_vec();
                bytes[4095] ^= 1;
                volume.write_blocking(block * 4096, &Bytes::from(bytes)).unwrap();
            }
            assert!(ledger.check(volume).is_err());
            assert!(check_plans(volume, &done).is_err(), "{written} units were right before");
            assert!(drive(&read, volume).is_err());
        });
    }
}
