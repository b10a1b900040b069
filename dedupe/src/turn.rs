//! Taking turns between flows, and waiting for several at once, without a runtime.
//!
//! [`Turn`] owns what only the flow whose turn it is may touch; flows are served in the order in which they asked.
//!
//! - T1: at most one guard exists at a time; while it does, the value is inside it.
//! - T2: a flow that is dropped while waiting leaves the queue; if it was next, the one behind it is woken.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A value that flows use one after another, also across awaits.
pub(crate) struct Turn<T> {
    queue: Mutex<Queue<T>>,
}

struct Queue<T> {
    /// Away while somebody has his turn.
    value: Option<T>,
    waiting: VecDeque<(u64, Option<Waker>)>,
    next_ticket: u64,
}

impl<T> Turn<T> {
    pub(crate) fn new(value: T) -> Turn<T> {
        Turn { queue: Mutex::new(Queue { value: Some(value), waiting: VecDeque::new(), next_ticket: 0 }) }
    }

    /// Waits for its turn.
    pub(crate) fn take(&self) -> Take<'_, T> {
        Take { turn: self, ticket: None }
    }

    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waiting for a turn.
pub(crate) struct Take<'a, T> {
    turn: &'a Turn<T>,
    ticket: Option<u64>,
}

impl<'a, T> Future for Take<'a, T> {
    type Output = Guard<'a, T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Guard<'a, T>> {
        let turn = self.turn;
        let mut queue = turn.lock();
        let ticket = match self.ticket {
            Some(ticket) => ticket,
            None => {
                let ticket = queue.next_ticket;
                queue.next_ticket += 1;
                queue.waiting.push_back((ticket, None));
                self.ticket = Some(ticket);
                ticket
            }
        };
        let is_next = queue.waiting.front().is_some_and(|first| first.0 == ticket);
        if is_next && let Some(value) = queue.value.take() {
            queue.waiting.pop_front();
            self.ticket = None;
            return Poll::Ready(Guard { turn, value: Some(value) });
        }
        if let Some(waiting) = queue.waiting.iter_mut().find(|waiting| waiting.0 == ticket) {
            waiting.1 = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl<T> Drop for Take<'_, T> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut queue = self.turn.lock();
        queue.waiting.retain(|waiting| waiting.0 != ticket);
        wake_next(queue);
    }
}

/// One flow's turn.
pub(crate) struct Guard<'a, T> {
    turn: &'a Turn<T>,
    value: Option<T>,
}

impl<T> std::ops::Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.value.as_ref().expect("the value leaves a guard only when it is dropped")
    }
}

impl<T> std::ops::DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("the value leaves a guard only when it is dropped")
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        let mut queue = self.turn.lock();
        queue.value = self.value.take();
        wake_next(queue);
    }
}

fn wake_next<T>(mut queue: MutexGuard<'_, Queue<T>>) {
    let waker = match queue.value.is_some() {
        true => queue.waiting.front_mut().and_then(|next| next.1.take()),
        false => None,
    };
    drop(queue);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Runs all `flows` together and gives their outputs in order. Callers bound their number.
pub(crate) async fn join_all<F: Future>(flows: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut flows: Vec<Joined<F>> = flows.into_iter().map(|flow| Joined::Running(Box::pin(flow))).collect();
    std::future::poll_fn(|context| {
        let mut all_ready = true;
        for joined in &mut flows {
            if let Joined::Running(flow) = joined {
                match flow.as_mut().poll(context) {
                    Poll::Ready(output) => *joined = Joined::Ready(output),
                    Poll::Pending => all_ready = false,
                }
            }
        }
        if all_ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    let outputs = flows.into_iter().map(|joined| match joined {
        Joined::Ready(output) => output,
        Joined::Running(_) => unreachable!("every flow was polled until it was ready"),
    });
    outputs.collect()
}

enum Joined<F: Future> {
    Running(Pin<Box<F>>),
    Ready(F::Output),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    fn poll<F: Future>(flow: Pin<&mut F>) -> Poll<F::Output> {
        flow.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn turns_are_given_in_the_order_of_asking() {
        let turn = Turn::new(0);
        let Poll::Ready(first) = poll(pin!(turn.take())) else { panic!("nobody holds it") };
        let (mut second, mut third) = (Box::pin(turn.take()), Box::pin(turn.take()));
        assert!(poll(second.as_mut()).is_pending());
        assert!(poll(third.as_mut()).is_pending());
        drop(first);
        assert!(poll(third.as_mut()).is_pending(), "the second asked before");
        let Poll::Ready(mut guard) = poll(second.as_mut()) else { panic!("it is the second's turn") };
        *guard += 1;
        drop(guard);
        let Poll::Ready(guard) = poll(third.as_mut()) else { panic!("it is the third's turn") };
        assert_eq!(*guard, 1);
    }

    #[test]
    fn a_flow_dropped_while_waiting_does_not_block_the_others() {
        let turn = Turn::new(());
        let Poll::Ready(first) = poll(pin!(turn.take())) else { panic!("nobody holds it") };
        let (mut second, mut third) = (Box::pin(turn.take()), Box::pin(turn.take()));
        assert!(poll(second.as_mut()).is_pending());
        assert!(poll(third.as_mut()).is_pending());
        drop(second);
        drop(first);
        assert!(poll(third.as_mut()).is_ready());
    }
}
