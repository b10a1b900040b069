//! Runs flows deterministically: a woken flow goes on the ready list, chance picks the next one to poll.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::random::Random;

type Flow<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Flows of one array.
pub struct Executor<T> {
    flows: BTreeMap<u64, Flow<T>>,
    ready: Arc<Mutex<BTreeSet<u64>>>,
    next: u64,
}

struct FlowWaker {
    flow: u64,
    ready: Arc<Mutex<BTreeSet<u64>>>,
}

impl Wake for FlowWaker {
    fn wake(self: Arc<Self>) {
        lock(&self.ready).insert(self.flow);
    }
}

impl<T> Default for Executor<T> {
    fn default() -> Executor<T> {
        Executor { flows: BTreeMap::new(), ready: Arc::default(), next: 0 }
    }
}

impl<T> Executor<T> {
    /// Takes a flow; it is ready at once.
    pub fn spawn(&mut self, flow: impl Future<Output = T> + Send + 'static) {
        self.next += 1;
        self.flows.insert(self.next, Box::pin(flow));
        lock(&self.ready).insert(self.next);
    }

    /// Whether a flow can go on.
    pub fn has_ready(&self) -> bool {
        !lock(&self.ready).is_empty()
    }

    /// Number of flows that have not ended.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Polls one ready flow once; its result if that ended it.
    pub fn poll_one(&mut self, random: &mut Random) -> Option<T> {
        let flow = {
            let mut ready = lock(&self.ready);
            let at = random.below(ready.len().max(1) as u64) as usize;
            let flow = ready.iter().nth(at).copied()?;
            ready.remove(&flow);
            flow
        };
        let future = self.flows.get_mut(&flow)?;
        let waker = Waker::from(Arc::new(FlowWaker { flow, ready: self.ready.clone() }));
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => {
                self.flows.remove(&flow);
                Some(value)
            }
            Poll::Pending => None,
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a flow whose leaves answer at once.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    let mut future = std::pin::pin!(future);
    for _ in 0..1_000_000 {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
    panic!("a flow on inline media ends");
}
