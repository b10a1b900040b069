//! The link between two arrays: a proxy that can stall it without closing it.
//!
//! - X1: while it is stalled nothing is forwarded, accepted or closed; afterwards everything goes on where it was.
//! - X2: when one end closes, the other end is closed.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::ports::free_port;

/// Bytes forwarded at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Time limit for the connection to the target.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);

/// A switch for all proxies of one link.
#[derive(Debug, Clone, Default)]
pub struct Valve {
    state: Arc<(Mutex<bool>, Condvar)>,
}

/// An address that stands for another.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
}

impl Valve {
    /// Stops or starts the flow.
    pub fn stall(&self, stalled: bool) {
        *self.lock() = stalled;
        self.state.1.notify_all();
    }

    fn wait_open(&self) {
        let mut stalled = self.lock();
        while *stalled {
            stalled = self.state.1.wait(stalled).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    /// Forwards to `target`. Its threads end with the test.
    pub fn start(valve: &Valve, target: SocketAddr) -> Proxy {
        let address = free_port();
        let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        let valve = valve.clone();
        thread::spawn(move || {
            for near in listener.incoming() {
                valve.wait_open();
                let far = TcpStream::connect_timeout(&target, CONNECT_TIME_MAX);
                // A target that is not there is told by closing.
                if let (Ok(near), Ok(far)) = (near, far) {
                    lead(near, far, &valve);
                }
            }
        });
        Proxy { address }
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn lead(near: TcpStream, far: TcpStream, valve: &Valve) {
    let doubled = near
        .set_nodelay(true)
        .and(far.set_nodelay(true))
        .and_then(|()| Ok((near.try_clone()?, far.try_clone()?)));
    let Ok((near_too, far_too)) = doubled else { return };
    for (from, to) in [(near, far), (far_too, near_too)] {
        let valve = valve.clone();
        thread::spawn(move || forward(from, to, &valve));
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, valve: &Valve) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut chunk);
        valve.wait_open();
        let Ok(bytes @ 1..) = read else { break };
        if to.write_all(&chunk[..bytes]).is_err() {
            break;
        }
    }
    // Fails only for a connection that is closed already.
    let _closed = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
