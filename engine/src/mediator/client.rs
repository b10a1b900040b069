//! An array's session with its mediator: kept open, checked every 100 ms, opened again when it dies.
//!
//! - C1: requests are put into the session that was open when they were made. If it is gone they are lost, never sent in a
//!   later one (the protocol asks again).
//! - C2: `Up` and `Down` alternate, and a reply comes between the `Up` and the `Down` of the session it belongs to.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use metropod_protocol::{ArrayId, Incarnation, MediatorId, MediatorReply, MediatorRequest};

use super::{BUFFER_BYTES, DEAD, KIND_ALIVE, KIND_REPLY, KIND_REQUEST, PAYLOAD_MAX, PERIOD, UNSENT_MAX};
use crate::identity::Identity;
use crate::link::{
    Closed, ConnectionNumber, Dial, HandshakeError, Link, Local, OPENING_BYTES_MAX, RETRY, Reader, Role,
    connect, introduce, lock, open,
};
use crate::wire::{Decoder, Frame};

/// What a client needs to know.
#[derive(Debug)]
pub struct MediatorClientConfig {
    /// The array's key.
    pub identity: Arc<Identity>,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Its name.
    pub name: String,
    /// Where the mediator is, `host:port`.
    pub address: String,
}

/// What happens to a session.
#[derive(Clone, Debug)]
pub enum MediatorEvent {
    /// A session is open.
    Up {
        /// With whom; the key it holds proves it.
        mediator: MediatorId,
        /// To ask in, until it is down.
        session: MediatorSession,
    },
    /// It is closed or dead.
    Down,
    /// A reply in the open session.
    Reply(MediatorReply),
}

/// One session; clones are the same. What is asked in it leaves in the order of [`MediatorSession::queue`], or not at all.
#[derive(Clone, Debug)]
pub struct MediatorSession {
    link: Link,
}

impl MediatorSession {
    /// Queues a request; lost if the session is over. Nothing is written before [`MediatorSession::flush`].
    pub fn queue(&self, request: &MediatorRequest) {
        // Closed meanwhile: lost, as are those that it took and did not send.
        let _ = self.link.queue(KIND_REQUEST, 0, request.encode(), Bytes::new());
    }

    /// Writes what is queued; never waits.
    pub fn flush(&self) {
        self.link.flush();
    }
}

/// Takes events, in order, on the client's thread: it must not block (push into an inbox).
pub type MediatorSink = Box<dyn Fn(MediatorEvent) + Send + Sync>;

#[derive(Default)]
struct State {
    /// The connection, opening or open.
    link: Option<Link>,
    /// It is open.
    up: bool,
    stopping: bool,
    /// Why the last attempt failed.
    last_failure: Option<String>,
}

struct Shared {
    local: Local,
    address: String,
    sink: MediatorSink,
    fit: AtomicBool,
    state: Mutex<State>,
    stopped: Condvar,
}

/// Keeps a session with one mediator. Dropping it ends the session.
pub struct MediatorClient {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl MediatorClient {
    /// Begins to dial.
    pub fn start(config: MediatorClientConfig, sink: MediatorSink) -> io::Result<MediatorClient> {
        let shared = Arc::new(Shared {
            local: Local {
                identity: config.identity,
                incarnation: config.incarnation,
                name: config.name,
                advertised: String::new(),
                listen_port: 0,
            },
            address: config.address,
            sink,
            fit: AtomicBool::new(true),
            state: Mutex::default(),
            stopped: Condvar::new(),
        });
        let running = shared.clone();
        let thread =
            thread::Builder::new().name("mediator-client".to_owned()).spawn(move || run(&running))?;
        Ok(MediatorClient { shared, thread: Some(thread) })
    }

    /// Whether this array's disk is fit to take over; told at once and with every sign of life.
    pub fn set_fit(&self, fit: bool) {
        if self.shared.fit.swap(fit, Ordering::Relaxed) != fit
            && let Some(link) = self.shared.open_link()
        {
            // Closed meanwhile: the next session begins with it.
            let _ = self.shared.alive(&link);
        }
    }

    /// Whether a session is open.
    pub fn is_up(&self) -> bool {
        lock(&self.shared.state).up
    }

    /// Why the last attempt failed, in words.
    pub fn last_failure(&self) -> Option<String> {
        lock(&self.shared.state).last_failure.clone()
    }

    /// Ends the session and waits for the thread.
    pub fn stop(&mut self) {
        let link = {
            let mut state = lock(&self.shared.state);
            state.stopping = true;
            state.link.take()
        };
        self.shared.stopped.notify_all();
        if let Some(link) = link {
            link.close();
        }
        if let Some(thread) = self.thread.take() {
            // A panicked thread has ended as well.
            let _ = thread.join();
        }
    }
}

impl Drop for MediatorClient {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn open_link(&self) -> Option<Link> {
        let state = lock(&self.state);
        if state.up { state.link.clone() } else { None }
    }

    fn alive(&self, link: &Link) -> Result<(), Closed> {
        let fit: &[u8] = if self.fit.load(Ordering::Relaxed) { &[1] } else { &[0] };
        link.send(KIND_ALIVE, 0, Bytes::from_static(fit), Bytes::new())
    }
}

fn run(shared: &Shared) {
    loop {
        let began = Instant::now();
        let failure = match meet(shared) {
            Ok((mediator, mut reader)) => {
                session(shared, MediatorId(mediator.0), &mut reader);
                None
            }
            Err(error) => Some(error.to_string()),
        };
        let mut state = lock(&shared.state);
        state.link = None;
        if state.last_failure != failure {
            if let Some(failure) = &failure {
                tracing::warn!(
                    address = shared.address,
                    reason = failure,
                    "cannot reach the mediator; trying on"
                );
            }
            state.last_failure = failure;
        }
        while !state.stopping && began.elapsed() < RETRY {
            let left = RETRY.saturating_sub(began.elapsed());
            state = shared.stopped.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.stopping {
            return;
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum MeetError {
    #[error("cannot reach it: {0}")]
    Unreachable(#[from] io::Error),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("stopping")]
    Stopping,
}

fn meet(shared: &Shared) -> Result<(ArrayId, Reader), MeetError> {
    let stream = connect(&shared.address)?;
    let decoder = Decoder::new(BUFFER_BYTES, OPENING_BYTES_MAX);
    let (link, mut reader) = open(stream, ConnectionNumber(0), UNSENT_MAX, decoder, Box::new(|_, _| {}))?;
    {
        let mut state = lock(&shared.state);
        if state.stopping {
            return Err(MeetError::Stopping);
        }
        state.link = Some(link);
    }
    // Which mediator it is, is the protocol's to judge: it knows whose register it needs.
    let dial = Dial { role: Role::MediatorClient, expected: None, secret: None };
    let hello = introduce(&shared.local, &mut reader, &dial, &|_| Ok(()))?;
    reader.set_limit(PAYLOAD_MAX);
    Ok((hello.id, reader))
}

fn session(shared: &Shared, mediator: MediatorId, reader: &mut Reader) {
    let link = reader.link().clone();
    // The first word, before any request.
    if shared.alive(&link).is_err() {
        return;
    }
    lock(&shared.state).up = true;
    (shared.sink)(MediatorEvent::Up { mediator, session: MediatorSession { link: link.clone() } });
    let mut alive_at = Instant::now() + PERIOD;
    let mut dead_at = Instant::now() + DEAD;
    loop {
        match reader.read_frame_until(Duration::ZERO, alive_at.min(dead_at)) {
            Err(_) => break,
            Ok(Some(frame)) => {
                dead_at = Instant::now() + DEAD;
                if !heard(shared, frame) {
                    break;
                }
            }
            Ok(None) => {}
        }
        let now = Instant::now();
        if now >= dead_at || (now >= alive_at && shared.alive(&link).is_err()) {
            break;
        }
        if now >= alive_at {
            alive_at = now + PERIOD;
        }
    }
    lock(&shared.state).up = false;
    link.close();
    (shared.sink)(MediatorEvent::Down);
}

/// Takes a frame of the mediator; `false`: it makes no sense.
fn heard(shared: &Shared, frame: Frame) -> bool {
    match frame.kind {
        KIND_ALIVE => true,
        KIND_REPLY => match MediatorReply::decode(frame.payload) {
            Ok(reply) => {
                (shared.sink)(MediatorEvent::Reply(reply));
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the mediator's reply makes no sense");
                false
            }
        },
        kind => {
            tracing::warn!(kind, "the mediator's frame makes no sense");
            false
        }
    }
}
