//! The mediator daemon: one thread that polls the listener and all sessions, and the registers behind it.
//!
//! - M1: a register's change is on disk before its reply is sent; a failed write is tried again and the reply waits.
//! - M2: a session of an array ends the array's earlier ones, whose frames are not looked at any more.
//! - M3: everything is bounded: sessions, registers, frames per turn, bytes unsent; garbage ends the session that sent it and nothing else.
//! - M4: one process serves a directory: two would grant twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use metropod_protocol::mediator::{
    Register, Service, ServiceEffect, ServiceInput, ServiceSettings, SessionNumber,
};
use metropod_protocol::{ArrayId, Ask, Incarnation, MediatorId, MediatorRequest, PodId, Ticket};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{FlockOperation, flock};

use super::directory::DirectoryError;
use super::door::{ARRAYS_MAX, Arrival, Door};
use super::store::{Store, StoreError};
use super::{KIND_ALIVE, KIND_REPLY, KIND_REQUEST, clock, consent};
use crate::identity::{Identity, IdentityError, Peers, PeersError, file, is_name};
use crate::link::{Local, Reader, Refusal, lock, refuse, timespec, welcome};
use crate::wire::Frame;

/// Sessions at once.
const SESSIONS_MAX: usize = 256;
/// Registers kept.
const REGISTERS_MAX: usize = 65_536;
/// Frames taken from one session before the others have their turn.
const FRAMES_PER_TURN: usize = 32;
/// Silence after which a session is closed. (For the head start it is dead earlier.)
const SILENCE: Duration = Duration::from_secs(1);
/// Before a failed write or accept is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// What a mediator needs to know.
#[derive(Clone, Debug)]
pub struct MediatorConfig {
    /// Its data directory; made if it is missing.
    pub directory: PathBuf,
    /// Where to listen; port 0 takes any.
    pub listen: SocketAddr,
    /// Its name, for people.
    pub name: String,
    /// Its timers.
    pub settings: ServiceSettings,
}

impl MediatorConfig {
    /// The usual settings: port 7760 on every address.
    pub fn new(directory: &Path) -> MediatorConfig {
        MediatorConfig {
            directory: directory.to_owned(),
            listen: SocketAddr::from(([0, 0, 0, 0], 7760)),
            name: "mediator".to_owned(),
            settings: ServiceSettings::default(),
        }
    }
}

/// Why a mediator could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The name breaks the rules.
    #[error("a name is 1-63 letters, digits and '-'")]
    Name,
    /// The directory cannot be used.
    #[error(
        "cannot use {path} as the mediator's directory: {source}; give another one with --data, or make it writable"
    )]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The directory is not a mediator's.
    #[error(transparent)]
    Foreign(#[from] DirectoryError),
    /// Another process serves it.
    #[error("{path} is in use by another process; stop it first")]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// The identity cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The list of enrolled arrays cannot be used.
    #[error(transparent)]
    Arrays(#[from] PeersError),
    /// The registers cannot be used.
    #[error(transparent)]
    Registers(#[from] StoreError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The system gave no thread.
    #[error("no thread for the mediator")]
    Thread(#[source] io::Error),
}

/// A running mediator. Dropping it stops it.
pub struct MediatorServer {
    door: Arc<Door>,
    address: SocketAddr,
    id: MediatorId,
    thread: Option<JoinHandle<()>>,
}

/// Starts a mediator.
pub fn serve(config: MediatorConfig) -> Result<MediatorServer, ServeError> {
    if !is_name(&config.name) {
        return Err(ServeError::Name);
    }
    let directory = config.directory;
    let unusable = |source| ServeError::Directory { path: directory.clone(), source };
    super::directory::check(&directory)?;
    fs::create_dir_all(&directory).and_then(|()| file::sync_directory(&directory)).map_err(unusable)?;
    let held = File::create(directory.join("lock")).map_err(unusable)?;
    flock(&held, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
        rustix::io::Errno::WOULDBLOCK => ServeError::InUse { path: directory.clone() },
        error => unusable(error.into()),
    })?;
    let identity = Arc::new(Identity::open_or_create(&directory)?);
    let arrays = Peers::open(&directory.join("arrays"), ARRAYS_MAX)?;
    let (store, registers) = Store::open(&directory)?;
    let failed = |source| ServeError::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
    let wake = wake.map_err(|error| ServeError::Thread(error.into()))?;
    let id = identity.mediator_id();
    let local = Local {
        identity,
        incarnation: Incarnation(0),
        name: config.name,
        advertised: String::new(),
        listen_port: address.port(),
    };
    let door = Arc::new(Door::new(local, arrays, wake));
    let known = registers.iter().map(|(pod, _)| *pod).collect();
    let serving = Serving {
        door: door.clone(),
        service: Service::start(id, config.settings, registers, clock::now()),
        store,
        sessions: BTreeMap::new(),
        known,
        to_persist: VecDeque::new(),
        retry_at: None,
        busy: false,
        pause: false,
        _held: held,
    };
    let thread = thread::Builder::new().name("mediator".to_owned());
    let thread = thread.spawn(move || serving.run(&listener)).map_err(ServeError::Thread)?;
    Ok(MediatorServer { door, address, id, thread: Some(thread) })
}

impl MediatorServer {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its id.
    pub fn id(&self) -> MediatorId {
        self.id
    }

    /// Arrays enrolled so far.
    pub fn arrays(&self) -> Vec<ArrayId> {
        lock(&self.door.arrays).iter().map(|array| array.id).collect()
    }

    /// Ends all sessions and waits for the thread; the directory is free afterwards.
    pub fn stop(&mut self) {
        self.door.stopping.store(true, Ordering::Release);
        self.door.wake();
        if let Some(thread) = self.thread.take() {
            // A panicked thread has ended as well.
            let _ = thread.join();
        }
    }
}

impl Drop for MediatorServer {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Session {
    array: ArrayId,
    reader: Reader,
    heard: Instant,
}

/// The serving thread's own.
struct Serving {
    door: Arc<Door>,
    service: Service,
    store: Store,
    sessions: BTreeMap<SessionNumber, Session>,
    /// Pods that have a place in the service.
    known: BTreeSet<PodId>,
    to_persist: VecDeque<(Ticket, PodId, Register)>,
    retry_at: Option<Instant>,
    /// A session may have more frames at hand than its turn allowed.
    busy: bool,
    /// An accept failed: leave the listener alone for a moment.
    pause: bool,
    /// The lock on the directory.
    _held: File,
}

impl Serving {
    fn run(mut self, listener: &TcpListener) {
        while !self.door.stopping.load(Ordering::Acquire) {
            self.wait(listener);
            self.accept(listener);
            let arrivals = std::mem::take(&mut *lock(&self.door.arrived));
            for arrival in arrivals {
                self.arrive(arrival);
            }
            self.read();
            self.step(ServiceInput::Tick);
            self.persist();
        }
    }

    /// Sleeps until there is something to do.
    fn wait(&self, listener: &TcpListener) {
        let now = Instant::now();
        let mut timeout: Option<Duration> = None;
        let mut at_most = |wait: Duration| {
            timeout = Some(timeout.map_or(wait, |timeout: Duration| timeout.min(wait)));
        };
        if let Some(deadline) = self.service.next_deadline() {
            at_most(Duration::from_nanos(deadline.since(clock::now()).0));
        }
        if let Some(at) = self.retry_at {
            at_most(at.saturating_duration_since(now));
        }
        if self.pause {
            at_most(RETRY);
        }
        if self.busy {
            at_most(Duration::ZERO);
        }
        if let Some(heard) = self.sessions.values().map(|session| session.heard).min() {
            at_most((heard + SILENCE).saturating_duration_since(now));
        }
        let accepts = if self.pause { PollFlags::empty() } else { PollFlags::IN };
        let mut descriptors =
            vec![PollFd::new(&self.door.wake, PollFlags::IN), PollFd::new(listener, accepts)];
        for session in self.sessions.values() {
            let mut wanted = PollFlags::IN;
            if session.reader.wants_write() {
                wanted |= PollFlags::OUT;
            }
            descriptors.push(PollFd::new(&session.reader, wanted));
        }
        // An interrupted wait goes round again.
        let _ = poll(&mut descriptors, timeout.map(timespec).as_ref());
        if descriptors[0].revents().contains(PollFlags::IN) {
            // Empties the counter; a later wake fills it again.
            let _ = rustix::io::read(&self.door.wake, &mut [0; 8]);
        }
    }

    fn accept(&mut self, listener: &TcpListener) {
        loop {
            match listener.accept() {
                Ok((stream, seen)) => self.door.knock(stream, seen),
                Err(error) => {
                    self.pause =
                        !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
                    return;
                }
            }
        }
    }

    fn arrive(&mut self, Arrival { hello, reader }: Arrival) {
        let link = reader.link().clone();
        let number = SessionNumber(link.number().0);
        let older: Vec<SessionNumber> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.array == hello.id)
            .map(|(number, _)| *number)
            .collect();
        if older.iter().any(|older| *older > number) {
            refuse(&link, Refusal::Duplicate);
            return;
        }
        for older in older {
            self.end(older);
        }
        if self.sessions.len() >= SESSIONS_MAX {
            refuse(&link, Refusal::Full);
            return;
        }
        if welcome(&link).is_err() {
            return;
        }
        link.flush();
        self.sessions.insert(number, Session { array: hello.id, reader, heard: Instant::now() });
        self.step(ServiceInput::Connected { session: number, array: hello.id });
    }

    /// Takes what the sessions sent; ends those that are closed, silent or make no sense.
    fn read(&mut self) {
        self.busy = false;
        let numbers: Vec<SessionNumber> = self.sessions.keys().copied().collect();
        for number in numbers {
            for taken in 1..=FRAMES_PER_TURN {
                let Some(session) = self.sessions.get_mut(&number) else { break };
                let frame = match session.reader.try_frame() {
                    Ok(Some(frame)) => frame,
                    Ok(None) => {
                        if session.heard.elapsed() >= SILENCE {
                            self.end(number);
                        }
                        break;
                    }
                    Err(_) => {
                        self.end(number);
                        break;
                    }
                };
                session.heard = Instant::now();
                self.busy |= taken == FRAMES_PER_TURN;
                if !self.heard(number, frame) {
                    tracing::warn!(session = number.0, "a session sent what makes no sense; it was closed");
                    self.end(number);
                }
            }
        }
    }

    /// Takes a frame; `false`: it makes no sense.
    fn heard(&mut self, number: SessionNumber, frame: Frame) -> bool {
        match frame.kind {
            KIND_ALIVE => {
                let fit = match frame.payload[..] {
                    [0] => false,
                    [1] => true,
                    _ => return false,
                };
                if let Some(session) = self.sessions.get(&number) {
                    // Closed meanwhile: found at the next read.
                    let _ = session.reader.link().send(KIND_ALIVE, 0, Bytes::new(), Bytes::new());
                }
                self.step(ServiceInput::Alive { session: number, fit });
                true
            }
            KIND_REQUEST => match MediatorRequest::decode(frame.payload) {
                Ok(request) => {
                    self.request(number, request);
                    true
                }
                Err(_) => false,
            },
            _ => false,
        }
    }

    fn request(&mut self, session: SessionNumber, mut request: MediatorRequest) {
        if let Ask::Swap { statement, consents, .. } | Ask::Remove { statement, consents } = &mut request.ask
        {
            let brought = consents.len();
            *consents = consent::consents(statement, std::mem::take(consents));
            if consents.len() < brought {
                tracing::warn!(session = session.0, pod = ?statement.pod, "a consent does not hold");
            }
            if statement.expect.is_none() && !self.known.contains(&statement.pod) {
                if self.known.len() >= REGISTERS_MAX {
                    tracing::warn!(pod = ?statement.pod, "no room for another register; nothing is answered");
                    return;
                }
                self.known.insert(statement.pod);
            }
        }
        self.step(ServiceInput::Request { session, request });
    }

    fn end(&mut self, number: SessionNumber) {
        if let Some(session) = self.sessions.remove(&number) {
            session.reader.link().close();
            self.step(ServiceInput::Disconnected { session: number });
        }
    }

    fn step(&mut self, input: ServiceInput) {
        self.service.step(clock::now(), input);
        while let Some(effect) = self.service.next_effect() {
            match effect {
                ServiceEffect::Persist { ticket, pod, register } => {
                    self.to_persist.push_back((ticket, pod, register));
                }
                ServiceEffect::Reply { session, reply } => {
                    if let Some(session) = self.sessions.get(&session) {
                        // Closed meanwhile: found at the next read.
                        let _ = session.reader.link().send(KIND_REPLY, 0, reply.encode(), Bytes::new());
                    }
                }
            }
        }
    }

    /// Writes registers in order; the replies follow from `Persisted`.
    fn persist(&mut self) {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.retry_at = None;
        while let Some((ticket, pod, register)) = self.to_persist.front().copied() {
            if let Err(error) = self.store.write(pod, &register) {
                tracing::error!(?pod, %error, "a register could not be written; its reply waits");
                self.retry_at = Some(Instant::now() + RETRY);
                return;
            }
            self.to_persist.pop_front();
            self.step(ServiceInput::Persisted { through: ticket });
        }
    }
}
