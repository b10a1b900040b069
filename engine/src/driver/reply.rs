//! The answer to one request, waited for by a thread or a future.
//!
//! - R1: given at most once; taken at most once.
//! - R2: a waiter spins for a short while before it sleeps: a wake-up of an idle thread costs more than most answers.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use metropod_core::{Fetch, HostError, ManageError, Managed};
use metropod_protocol::RequestId;

/// How long a waiting thread spins before it sleeps.
const SPIN: Duration = Duration::from_micros(30);

/// What the core answered.
pub(crate) enum Answer {
    /// A read's place is settled.
    Fetch(Box<Fetch>),
    /// A host operation ended.
    Host(Result<(), HostError>),
    /// A management request ended.
    Managed(Result<Managed, ManageError>),
    /// The array was closed: what was asked may have happened or not.
    Closed,
}

/// Requests that wait for an answer.
#[derive(Default)]
pub(crate) struct Pending {
    replies: HashMap<RequestId, Arc<Reply>>,
}

impl Pending {
    pub(crate) fn insert(&mut self, request: RequestId, reply: Arc<Reply>) {
        self.replies.insert(request, reply);
    }

    pub(crate) fn take_all(&mut self) -> Vec<Arc<Reply>> {
        self.replies.drain().map(|(_, reply)| reply).collect()
    }

    pub(crate) fn take(&mut self, request: RequestId) -> Option<Arc<Reply>> {
        self.replies.remove(&request)
    }
}

/// See the module's text.
pub(crate) struct Reply {
    given: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    answer: Option<Answer>,
    waker: Option<Waker>,
    sleeping: bool,
}

impl Reply {
    pub(crate) fn new() -> Reply {
        Reply { given: AtomicBool::new(false), state: Mutex::new(State::default()), changed: Condvar::new() }
    }

    pub(crate) fn give(&self, answer: Answer) {
        let (waker, sleeping) = {
            let mut state = self.lock();
            state.answer = Some(answer);
            self.given.store(true, Ordering::Release);
            (state.waker.take(), state.sleeping)
        };
        if sleeping {
            self.changed.notify_all();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn is_given(&self) -> bool {
        self.given.load(Ordering::Acquire)
    }

    /// Blocks until the answer is there.
    pub(crate) fn wait(&self) -> Answer {
        let began = Instant::now();
        while !self.is_given() && began.elapsed() < SPIN {
            // A spinner that does not yield keeps the thread it waits for off the core (decision 0001).
            rustix::thread::sched_yield();
        }
        let mut state = self.lock();
        loop {
            if let Some(answer) = state.answer.take() {
                return answer;
            }
            state.sleeping = true;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Blocks until the answer is there or `limit` has passed.
    pub(crate) fn wait_for(&self, limit: Duration) -> Option<Answer> {
        let end = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if let Some(answer) = state.answer.take() {
                return Some(answer);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state.sleeping = true;
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for a reply as a future.
pub(crate) struct Wait<'a>(pub(crate) &'a Reply);

impl Future for Wait<'_> {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        let mut state = self.0.lock();
        match state.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
