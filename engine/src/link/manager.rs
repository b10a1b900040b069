//! The connections of one array: what its user starts, asks and stops.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread::{self, JoinHandle};

use metropod_protocol::{ArrayId, Incarnation};
use rustix::event::{EventfdFlags, eventfd};

use super::connection::{self, CloseReason, ConnectionNumber, Link, Reader, UNSENT_BYTES_MAX, lock};
use super::handshake::{HandshakeError, Local};
use super::hello::OPENING_BYTES_MAX;
use super::roster::{Channel, LinkSink, PeerInfo, Roster};
use super::trust::Trust;
use super::{dial, listen};
use crate::identity::{ConnectionKey, Identity, Peer, PeerKind, Peers, PeersError, is_name, unix_seconds};
use crate::wire::Decoder;

/// Arrays that may be known.
pub const PEERS_MAX: usize = 64;
/// Bytes read at once; longer frames are read straight into their own memory.
const READ_BUFFER_BYTES: usize = 128 << 10;

/// What the links of an array need to know.
#[derive(Debug)]
pub struct LinksConfig {
    /// The array's key.
    pub identity: Arc<Identity>,
    /// Raised at every start before this is made.
    pub incarnation: Incarnation,
    /// The array's name.
    pub name: String,
    /// Where to listen; port 0 takes any.
    pub listen: SocketAddr,
    /// Where peers shall dial (`host:port`); none: at the address they see, on the listening port.
    pub advertise: Option<String>,
    /// File of the known peers.
    pub peers: PathBuf,
    /// Unsent bytes of one connection, above which it is closed.
    pub unsent_bytes_max: usize,
}

impl LinksConfig {
    /// The usual settings: `directory/peers`, port 7750 on every address.
    pub fn new(identity: Arc<Identity>, incarnation: Incarnation, name: &str, peers: PathBuf) -> LinksConfig {
        LinksConfig {
            identity,
            incarnation,
            name: name.to_owned(),
            listen: SocketAddr::from(([0, 0, 0, 0], 7750)),
            advertise: None,
            peers,
            unsent_bytes_max: UNSENT_BYTES_MAX,
        }
    }
}

/// Why links could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The name breaks the rules.
    #[error("a name is 1-63 letters, digits and '-'")]
    Name,
    /// The advertised address is too long.
    #[error("the advertised address is longer than 255 bytes")]
    Advertise,
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The known peers could not be read.
    #[error(transparent)]
    Peers(#[from] PeersError),
    /// The system gave no thread.
    #[error("no thread for links")]
    Thread(#[source] io::Error),
}

/// Why arrays could not be connected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The key is too old.
    #[error("the connection key has expired; issue a new one")]
    KeyExpired,
    /// The key was issued by this array.
    #[error("the connection key was issued by this array; use one of the other array")]
    OwnKey,
    /// The address does not lead to an array.
    #[error("cannot reach {address}")]
    Unreachable {
        /// Which address.
        address: Box<str>,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The other side answered, and it did not work out.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The peer could not be recorded here; the other side knows this one.
    #[error(transparent)]
    Peers(#[from] PeersError),
    /// The system gave no thread; the peer is known and will be dialled after a restart.
    #[error("no thread for links")]
    Thread(#[source] io::Error),
    /// Links are stopping.
    #[error("stopping")]
    Stopping,
}

/// A known peer and how it is connected.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// The peer.
    pub peer: Peer,
    /// The sync connection, if it is up.
    pub sync: Option<PeerInfo>,
    /// The bulk connection, if it is up.
    pub bulk: Option<PeerInfo>,
    /// Why the last attempt to dial it (sync) failed, in words.
    pub last_failure: Option<String>,
}

/// A dialling thread's place; `generation` tells a peer that was forgotten and came back from what it was.
pub(super) struct DialPlace {
    pub generation: u64,
    pub last_failure: Option<String>,
    pub thread: Option<JoinHandle<()>>,
}

/// What the roster's lock covers.
pub(super) struct Guarded {
    pub roster: Roster,
    /// Threads at work on accepted connections.
    pub accepting: usize,
    pub dials: BTreeMap<(ArrayId, Channel), DialPlace>,
}

pub(super) struct Shared {
    pub local: Local,
    unsent_bytes_max: usize,
    numbers: AtomicU64,
    /// Taken before `guarded` where both are.
    pub trust: Mutex<Trust>,
    pub guarded: Mutex<Guarded>,
    /// Something in `guarded` changed.
    pub changed: Condvar,
    /// Connections whose closing the listening thread has still to tell. A lock of its own, held for a push: a connection may be closed by
    /// anyone, also inside the sink or under a lock of the user's.
    ended: Mutex<Vec<(ConnectionNumber, CloseReason)>>,
    /// Wakes the listening thread.
    pub wake: OwnedFd,
}

/// The links of one array. Dropping it stops them.
pub struct Links {
    shared: Arc<Shared>,
    address: SocketAddr,
    listener: Option<JoinHandle<()>>,
}

impl Links {
    /// Listens, and dials every known peer from now on.
    pub fn start(config: LinksConfig, sink: LinkSink) -> Result<Links, StartError> {
        if !is_name(&config.name) {
            return Err(StartError::Name);
        }
        let advertised = config.advertise.unwrap_or_default();
        if advertised.len() > crate::identity::ADDRESS_BYTES_MAX {
            return Err(StartError::Advertise);
        }
        let peers = Peers::open(&config.peers, PEERS_MAX)?;
        let failed = |source| StartError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let wake = wake.map_err(|error| StartError::Thread(error.into()))?;
        let known: Vec<ArrayId> = peers.iter().map(|peer| peer.id).collect();
        let shared = Arc::new(Shared {
            trust: Mutex::new(Trust::new(peers, &config.name)),
            local: Local {
                identity: config.identity,
                incarnation: config.incarnation,
                name: config.name,
                advertised,
                listen_port: address.port(),
            },
            unsent_bytes_max: config.unsent_bytes_max,
            numbers: AtomicU64::new(0),
            guarded: Mutex::new(Guarded { roster: Roster::new(sink), accepting: 0, dials: BTreeMap::new() }),
            changed: Condvar::new(),
            ended: Mutex::default(),
            wake,
        });
        let mut links = Links { shared: shared.clone(), address, listener: None };
        let listening = shared.clone();
        let thread = thread::Builder::new().name("link-listen".to_owned());
        let spawned = thread.spawn(move || listen::run(&listening, &listener));
        links.listener = Some(spawned.map_err(StartError::Thread)?);
        for peer in known {
            shared.dial_from_now_on(peer).map_err(StartError::Thread)?;
        }
        Ok(links)
    }

    /// Where this array listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Issues a connection key: it lets one other array become known here, within ten minutes.
    pub fn issue_key(&self) -> io::Result<ConnectionKey> {
        lock(&self.shared.trust).issue(&self.shared.local.identity)
    }

    /// Makes this array and the one that issued `key` known to each other, and keeps them connected from now on. Blocks for at most
    /// a few connect timeouts and one handshake. After it returned `Ok` both remember each other.
    pub fn connect(&self, address: &str, key: &ConnectionKey, kind: PeerKind) -> Result<Peer, ConnectError> {
        if key.id == self.shared.local.identity.id() {
            return Err(ConnectError::OwnKey);
        }
        // Known already: the key's secret is not needed, the address may be new.
        let known = lock(&self.shared.trust).peers.get(key.id).is_some();
        if !known && key.expires_unix_s <= unix_seconds() {
            return Err(ConnectError::KeyExpired);
        }
        let hello = dial::enrol(&self.shared, address, key)?;
        let mut trust = lock(&self.shared.trust);
        trust.enrol(&hello, kind, address)?;
        self.shared.dial_from_now_on(hello.id).map_err(ConnectError::Thread)?;
        trust.peers.get(hello.id).cloned().ok_or(ConnectError::Stopping)
    }

    /// Forgets a peer and closes its connections; `false`: it was not known. The peer still knows this array, and is refused.
    pub fn disconnect(&self, peer: ArrayId) -> Result<bool, PeersError> {
        let mut trust = lock(&self.shared.trust);
        let known = trust.peers.remove(peer)?;
        let links = {
            let mut guarded = lock(&self.shared.guarded);
            guarded.dials.retain(|(id, _), _| *id != peer);
            guarded.roster.forget(peer)
        };
        drop(trust);
        self.shared.changed.notify_all();
        for link in links {
            link.close_for(CloseReason::Forgotten);
        }
        Ok(known)
    }

    /// Known peers and how they are connected.
    pub fn peers(&self) -> Vec<PeerStatus> {
        let trust = lock(&self.shared.trust);
        let guarded = lock(&self.shared.guarded);
        let status = |peer: &Peer| PeerStatus {
            sync: guarded.roster.peer(peer.id, Channel::Sync).cloned(),
            bulk: guarded.roster.peer(peer.id, Channel::Bulk).cloned(),
            last_failure: guarded
                .dials
                .get(&(peer.id, Channel::Sync))
                .and_then(|place| place.last_failure.clone()),
            peer: peer.clone(),
        };
        trust.peers.iter().map(status).collect()
    }

    /// Closes everything and waits for the threads. Each connection that is up goes down with [`CloseReason::Stopping`].
    pub fn stop(&mut self) {
        let (links, dials) = {
            let mut guarded = lock(&self.shared.guarded);
            (guarded.roster.stop(), std::mem::take(&mut guarded.dials))
        };
        self.shared.changed.notify_all();
        self.shared.wake();
        for link in links {
            link.close_for(CloseReason::Stopping);
        }
        for thread in dials.into_values().filter_map(|place| place.thread).chain(self.listener.take()) {
            // A panicked thread has ended as well.
            let _ = thread.join();
        }
        let mut guarded = lock(&self.shared.guarded);
        while guarded.roster.is_opening() || guarded.accepting > 0 {
            guarded = self.shared.changed.wait(guarded).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// Makes a stream a connection that is opening.
    pub fn open(self: &Arc<Self>, stream: TcpStream) -> io::Result<(Link, Reader)> {
        let number = ConnectionNumber(self.numbers.fetch_add(1, Ordering::Relaxed) + 1);
        let owner: Weak<Shared> = Arc::downgrade(self);
        let hook = Box::new(move |number, reason| {
            if let Some(owner) = owner.upgrade() {
                lock(&owner.ended).push((number, reason));
                owner.wake();
            }
        });
        let decoder = Decoder::new(READ_BUFFER_BYTES, OPENING_BYTES_MAX);
        let (link, reader) = connection::open(stream, number, self.unsent_bytes_max, decoder, hook)?;
        if !lock(&self.guarded).roster.opens(&link) {
            link.close_for(CloseReason::Stopping);
        }
        Ok((link, reader))
    }

    /// Tells the sink of connections that were closed, and lets the dialling threads go on.
    pub fn bury(&self) {
        let ended = std::mem::take(&mut *lock(&self.ended));
        if ended.is_empty() {
            return;
        }
        let mut guarded = lock(&self.guarded);
        for (number, reason) in ended {
            guarded.roster.closed(number, reason);
        }
        drop(guarded);
        self.changed.notify_all();
    }

    fn wake(&self) {
        // Fails only when the counter is full, and then the listener is awake.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// The connection is up or given up.
    pub fn opened(&self, number: ConnectionNumber) {
        lock(&self.guarded).roster.opened(number);
        self.changed.notify_all();
    }

    /// Dials the peer until it is forgotten, on both channels. Called with `trust` held, so that it is not forgotten meanwhile.
    pub fn dial_from_now_on(self: &Arc<Self>, peer: ArrayId) -> io::Result<()> {
        let mut guarded = lock(&self.guarded);
        if guarded.roster.stopping {
            return Ok(());
        }
        for channel in Channel::ALL {
            if guarded.dials.contains_key(&(peer, channel)) {
                continue;
            }
            let generation = self.numbers.fetch_add(1, Ordering::Relaxed);
            let shared = self.clone();
            let name = match channel {
                Channel::Sync => "link-dial-sync",
                Channel::Bulk => "link-dial-bulk",
            };
            let thread = thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || dial::run(&shared, peer, channel, generation))?;
            let place = DialPlace { generation, last_failure: None, thread: Some(thread) };
            guarded.dials.insert((peer, channel), place);
        }
        Ok(())
    }
}
