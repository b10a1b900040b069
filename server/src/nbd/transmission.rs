//! The transmission phase of one connection: requests in, as many in flight as the limits allow, replies out.
//!
//! Three parties: the receiving loop here, one task per request that did not answer at once, one task that sends.
//!
//! - T1: a request holds a slot, and its payload's bytes, from before its payload is read until its reply is
//!   written; a client that has used up its limits is not read from.
//! - T2: the client's leaving is noticed even while it is not read from; its unanswered requests are dropped then.
//! - T3: after an answer of `ESHUTDOWN` nothing more is read; what is in flight may still answer for a moment, then
//!   the connection is closed in a way that lets the replies arrive.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::Interest;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::execute::execute;
use super::handshake::Session;
use super::receive::Receiver;
use super::reply::{Answer, Held, Reply, send_replies};
use super::request::{self, Command};
use super::serve::Limits;
use super::volume::Volume;
use super::wire::{Errno, Form, PAYLOAD_BYTES_MAX, Request, command};

/// How long requests that are in flight may still answer once the client has said goodbye.
const GOODBYE_GRACE: Duration = Duration::from_secs(5);
/// How long they may once the volume or the server goes away.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(250);
/// How long the client may take to fetch the last replies.
const LINGER: Duration = Duration::from_secs(1);
/// Longest payload that is skipped so that the client can be told; beyond it the client is dropped.
const SKIP_BYTES_MAX: u64 = 2 * PAYLOAD_BYTES_MAX as u64;

/// How a transmission ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The client said goodbye.
    Goodbye,
    /// The client closed its side without a word, or can no longer be written to.
    HungUp,
    /// The volume is no longer served here, or a request met a bug.
    Shutdown,
    /// The server stops.
    Stopped,
}

/// Why a transmission was broken off.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransmissionError {
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("{magic:#010x} where a request should begin")]
    NotARequest { magic: u32 },
    #[error("a payload of {length} bytes")]
    AbsurdPayload { length: u64 },
}

/// Serves `session` until it ends, and sees its requests off.
pub(super) async fn transmit<V: Volume>(
    session: Session<V>,
    mut receiver: Receiver<OwnedReadHalf>,
    stream: OwnedWriteHalf,
    limits: &Limits,
    mut stop: watch::Receiver<bool>,
) -> Result<End, TransmissionError> {
    let form = session.rules.form;
    let (replies, queue) = mpsc::channel(limits.requests_in_flight());
    let mut sender = JoinSet::new();
    sender.spawn(send_replies(stream, queue, form));
    let mut connection = Connection {
        shared: Arc::new(Shared { session, replies, closing: Notify::new() }),
        slots: Arc::new(Semaphore::new(limits.requests_in_flight())),
        bytes: Arc::new(Semaphore::new(limits.bytes_in_flight())),
        in_flight: JoinSet::new(),
    };
    let shared = connection.shared.clone();
    let end = tokio::select! {
        end = connection.receive(&mut receiver) => end,
        () = shared.closing.notified() => Ok(End::Shutdown),
        _ = stop.wait_for(|stop| *stop) => Ok(End::Stopped),
        _ = sender.join_next() => Ok(End::HungUp),
    };
    drop(shared);
    let grace = match end {
        Ok(End::Goodbye) => GOODBYE_GRACE,
        Ok(End::Shutdown | End::Stopped) => SHUTDOWN_GRACE,
        Ok(End::HungUp) | Err(_) => Duration::ZERO,
    };
    connection.finish(grace).await;
    if grace > Duration::ZERO {
        // The sender ends when the last reply is out. Closing with unread input would discard what the client has
        // not fetched yet, so that input is read first.
        let _ =
            timeout(grace.max(LINGER), async { tokio::join!(sender.join_next(), receiver.discard_all()) })
                .await;
    }
    end
}

/// What requests in flight share.
struct Shared<V> {
    session: Session<V>,
    replies: mpsc::Sender<Reply>,
    /// A request found that the connection must close.
    closing: Notify,
}

struct Connection<V> {
    shared: Arc<Shared<V>>,
    slots: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    in_flight: JoinSet<()>,
}

impl<V: Volume> Connection<V> {
    /// Receives requests until the client ends the connection or breaks the protocol.
    async fn receive(&mut self, receiver: &mut Receiver<OwnedReadHalf>) -> Result<End, TransmissionError> {
        let rules = self.shared.session.rules;
        loop {
            let Some(request) = next_request(receiver, rules.form).await? else { return Ok(End::HungUp) };
            if request.kind == command::DISC {
                return Ok(End::Goodbye);
            }
            let Some(slot) = acquire(&self.slots, 1, receiver).await? else { return Ok(End::HungUp) };
            let mut held = Held { _slot: slot, _bytes: None };
            let payload_bytes = request::payload_bytes(&request, rules.form);
            match request::check(&request, &rules) {
                Ok(command) => {
                    if command.held_bytes() > 0 {
                        held._bytes = acquire(&self.bytes, command.held_bytes(), receiver).await?;
                        if held._bytes.is_none() {
                            return Ok(End::HungUp);
                        }
                    }
                    let payload = receiver.payload(payload_bytes as usize).await?;
                    self.begin(&request, command, payload, held).await;
                }
                Err(error) => {
                    if payload_bytes > skip_bytes_max(rules.form) {
                        return Err(TransmissionError::AbsurdPayload { length: payload_bytes });
                    }
                    receiver.discard(payload_bytes).await?;
                    self.shared.reply(&request, Answer::Failed(error), held).await;
                }
            }
        }
    }

    /// Hands a command to the volume, in the order of arrival; what does not answer at once goes on by itself.
    async fn begin(&mut self, request: &Request, command: Command, payload: Bytes, held: Held) {
        self.reap();
        let mut task = Box::pin(carry_out(self.shared.clone(), *request, command, payload, held));
        if poll_once(task.as_mut()).await.is_none() {
            self.in_flight.spawn(task);
        }
    }

    /// Forgets tasks that have ended.
    fn reap(&mut self) {
        while let Some(ended) = self.in_flight.try_join_next() {
            report_bug(ended);
        }
    }

    /// Lets what is in flight answer for a while, then drops it. The last reply sender goes with it.
    async fn finish(mut self, grace: Duration) {
        let _ = timeout(grace, async {
            while let Some(ended) = self.in_flight.join_next().await {
                report_bug(ended);
            }
        })
        .await;
        self.in_flight.shutdown().await;
    }
}

impl<V> Shared<V> {
    async fn reply(&self, request: &Request, answer: Answer, held: Held) {
        let reply = Reply { cookie: request.cookie, offset: request.offset, answer, _held: held };
        // The queue has room for every slot. It is closed only when the connection is at its end.
        let _ = self.replies.send(reply).await;
    }
}

async fn carry_out<V: Volume>(
    shared: Arc<Shared<V>>,
    request: Request,
    command: Command,
    payload: Bytes,
    held: Held,
) {
    let alarm = Alarm(&shared.closing);
    let wide = shared.session.rules.form == Form::Extended;
    let answer = execute(&*shared.session.volume, command, payload, wide).await;
    let gone = answer == Answer::Failed(Errno::Shutdown);
    shared.reply(&request, answer, held).await;
    if gone {
        shared.closing.notify_one();
    }
    drop(alarm);
}

/// Closes the connection when a request panics: its client would wait for ever.
struct Alarm<'a>(&'a Notify);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.notify_one();
        }
    }
}

fn report_bug(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a request met a bug; its connection is closed");
    }
}

async fn next_request(
    receiver: &mut Receiver<OwnedReadHalf>,
    form: Form,
) -> Result<Option<Request>, TransmissionError> {
    let request = match form {
        Form::Extended => match receiver.header().await? {
            Some(header) => Request::from_extended(&header),
            None => return Ok(None),
        },
        Form::Simple | Form::Structured => match receiver.header().await? {
            Some(header) => Request::from_compact(&header),
            None => return Ok(None),
        },
    };
    request.map(Some).map_err(|magic| TransmissionError::NotARequest { magic })
}

fn skip_bytes_max(form: Form) -> u64 {
    match form {
        // A client that knows extended headers knows the limit too.
        Form::Extended => u64::from(PAYLOAD_BYTES_MAX),
        Form::Simple | Form::Structured => SKIP_BYTES_MAX,
    }
}

/// Takes `count` permits, waiting for them as long as the client is there; `None` when it has left.
async fn acquire(
    semaphore: &Arc<Semaphore>,
    count: u32,
    receiver: &Receiver<OwnedReadHalf>,
) -> io::Result<Option<OwnedSemaphorePermit>> {
    if let Ok(permit) = semaphore.clone().try_acquire_many_owned(count) {
        return Ok(Some(permit));
    }
    tokio::select! {
        permit = semaphore.clone().acquire_many_owned(count) => {
            Ok(Some(permit.expect("the semaphore is never closed")))
        }
        closed = hang_up(receiver.stream()) => closed.map(|()| None),
    }
}

/// Waits until the peer has closed its sending side, whatever input is still unread.
async fn hang_up(stream: &OwnedReadHalf) -> io::Result<()> {
    // Of the two things this interest stands for, urgent data and a closed side, only the second is ever reported:
    // the socket is not registered for the first.
    stream.ready(Interest::PRIORITY).await.map(|_| ())
}

async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}
