//! Letting arrays in to the mediator: the hello in a short-lived thread each, and the file of arrays that ever came.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::{BUFFER_BYTES, PAYLOAD_MAX, UNSENT_MAX};
use crate::identity::{Peer, PeerKind, Peers, PeersError};
use crate::link::{
    ConnectionNumber, Hello, Local, OPENING_BYTES_MAX, Reader, Refusal, Role, accept, lock, open,
};
use crate::wire::Decoder;

/// Arrays that may be enrolled.
pub(super) const ARRAYS_MAX: usize = 4096;
/// Connections that may be opening at once; more are closed at once.
const OPENING_MAX: usize = 32;

/// An array that has proved its identity and waits for its welcome.
pub(super) struct Arrival {
    pub hello: Hello,
    pub reader: Reader,
}

/// What the accepting threads share with the serving thread.
pub(super) struct Door {
    pub local: Local,
    pub arrays: Mutex<Peers>,
    pub arrived: Mutex<Vec<Arrival>>,
    /// Wakes the serving thread.
    pub wake: OwnedFd,
    pub stopping: AtomicBool,
    opening: AtomicUsize,
    numbers: AtomicU64,
}

impl Door {
    pub fn new(local: Local, arrays: Peers, wake: OwnedFd) -> Door {
        Door {
            local,
            arrays: Mutex::new(arrays),
            arrived: Mutex::default(),
            wake,
            stopping: AtomicBool::new(false),
            opening: AtomicUsize::new(0),
            numbers: AtomicU64::new(0),
        }
    }

    pub fn wake(&self) {
        // Fails only when the counter is full, and then the thread is awake.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Begins to let a connection in.
    pub fn knock(self: &Arc<Self>, stream: TcpStream, seen: SocketAddr) {
        if self.opening.fetch_add(1, Ordering::Relaxed) >= OPENING_MAX {
            self.opening.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!(%seen, "too many connections are opening; one was closed");
            return;
        }
        // The order of arrival, which decides between two sessions of one array.
        let number = ConnectionNumber(self.numbers.fetch_add(1, Ordering::Relaxed) + 1);
        let door = self.clone();
        let spawned = thread::Builder::new().name("mediator-door".to_owned()).spawn(move || {
            if let Some(arrival) = door.let_in(stream, seen, number) {
                lock(&door.arrived).push(arrival);
                door.wake();
            }
            door.opening.fetch_sub(1, Ordering::Relaxed);
        });
        if let Err(error) = spawned {
            self.opening.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!(%seen, %error, "no thread for an incoming connection");
        }
    }

    fn let_in(&self, stream: TcpStream, seen: SocketAddr, number: ConnectionNumber) -> Option<Arrival> {
        let decoder = Decoder::new(BUFFER_BYTES, OPENING_BYTES_MAX);
        let (_, mut reader) = open(stream, number, UNSENT_MAX, decoder, Box::new(|_, _| {})).ok()?;
        let admit = |hello: &Hello, _: Option<&_>| self.enrol(hello);
        match accept(&self.local, &mut reader, &[Role::Mediator], &admit) {
            Ok(hello) => {
                reader.set_limit(PAYLOAD_MAX);
                Some(Arrival { hello, reader })
            }
            Err(error) => {
                tracing::info!(%seen, %error, "an incoming connection was not taken");
                None
            }
        }
    }

    /// The first time an array comes its key is recorded; its id is made from it, so nobody can come in its name.
    fn enrol(&self, hello: &Hello) -> Result<(), Refusal> {
        let mut arrays = lock(&self.arrays);
        if arrays.get(hello.id).is_some() {
            return Ok(());
        }
        let array = Peer {
            id: hello.id,
            public_key: hello.public_key,
            name: hello.name.clone(),
            kind: PeerKind::Sync,
            addresses: Vec::new(),
        };
        arrays.put(array).map_err(|error| {
            tracing::error!(name = hello.name, %error, "an array could not be enrolled");
            match error {
                PeersError::Full { .. } => Refusal::Full,
                _ => Refusal::NotRecorded,
            }
        })?;
        tracing::info!(name = hello.name, id = ?hello.id, "array enrolled");
        Ok(())
    }
}
