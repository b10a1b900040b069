//! A bounded queue of messages from the other end.
//!
//! - Q1: within [`INBOX_MESSAGES_MAX`] and [`INBOX_BYTES_MAX`]; a peer that keeps to the window never meets them.
//! - Q2: after [`Inbox::close`] nothing is taken in, and what waited is dropped: the session it came from is over.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use super::message::Message;
use super::{INBOX_BYTES_MAX, INBOX_MESSAGES_MAX};

/// See the module's text. Clones share the queue; one flow takes from it.
#[derive(Clone, Default)]
pub struct Inbox {
    queue: Arc<Mutex<Queue>>,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Message>,
    bytes: usize,
    closed: bool,
    waker: Option<Waker>,
}

/// The peer sent more than its window allows: end the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer sent more than the window of a transfer allows")]
pub struct Overflow;

impl Inbox {
    /// An empty, open queue.
    pub fn new() -> Inbox {
        Inbox::default()
    }

    /// Adds a message; dropped when the inbox is closed.
    pub fn push(&self, message: Message) -> Result<(), Overflow> {
        let waker = {
            let mut queue = self.lock();
            if queue.closed {
                return Ok(());
            }
            let bytes = message.memory_bytes();
            if queue.messages.len() >= INBOX_MESSAGES_MAX || queue.bytes + bytes > INBOX_BYTES_MAX {
                return Err(Overflow);
            }
            queue.bytes += bytes;
            queue.messages.push_back(message);
            queue.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Ends the flow that takes from this inbox: [`Inbox::next`] gives `None` from now on.
    pub fn close(&self) {
        let waker = {
            let mut queue = self.lock();
            queue.closed = true;
            queue.messages.clear();
            queue.bytes = 0;
            queue.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next message; `None` when closed.
    pub async fn next(&self) -> Option<Message> {
        poll_fn(|context| {
            let mut queue = self.lock();
            match queue.take() {
                Some(message) => Poll::Ready(Some(message)),
                None if queue.closed => Poll::Ready(None),
                None => {
                    queue.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// A message that waits already.
    pub fn take(&self) -> Option<Message> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn take(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.memory_bytes();
        Some(message)
    }
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let queue = self.lock();
        write!(f, "Inbox({} messages, {} bytes", queue.messages.len(), queue.bytes)?;
        f.write_str(if queue.closed { ", closed)" } else { ")" })
    }
}
