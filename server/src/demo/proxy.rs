//! The link between the sites: forwards TCP connections to one target, and can stall.
//!
//! - X1: while stalled, nothing is forwarded, accepted or closed by the proxy; afterwards everything goes on.
//! - X2: when one end closes, the other end is closed.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Bytes forwarded at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Time limit for the connection to the target.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);
/// Pause after a failed accept.
const ACCEPT_RETRY: Duration = Duration::from_millis(20);

/// A switch for all proxies of one link.
#[derive(Debug, Clone, Default)]
pub(super) struct Valve {
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Debug, Default)]
struct State {
    stalled: bool,
}

/// One direction of dialling: a listening address that stands for a target.
#[derive(Debug)]
pub(super) struct Proxy {
    address: SocketAddr,
    target: Arc<Mutex<Option<SocketAddr>>>,
}

impl Valve {
    /// Stops or starts the flow.
    pub(super) fn stall(&self, stalled: bool) {
        self.lock().stalled = stalled;
        self.state.1.notify_all();
    }

    fn wait_open(&self) {
        let mut state = self.lock();
        while state.stalled {
            state = self.state.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    /// Listens on a port of the system's choice. Connections are closed until there is a target. Its threads end with
    /// the process.
    pub(super) fn start(valve: &Valve) -> std::io::Result<Proxy> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let address = listener.local_addr()?;
        let target = Arc::new(Mutex::new(None));
        let (valve, to) = (valve.clone(), target.clone());
        thread::Builder::new().name("demo-proxy".into()).spawn(move || accept(&listener, &valve, &to))?;
        Ok(Proxy { address, target })
    }

    /// Where to connect.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where new connections are led.
    pub(super) fn set_target(&self, target: SocketAddr) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = Some(target);
    }
}

fn accept(listener: &TcpListener, valve: &Valve, target: &Mutex<Option<SocketAddr>>) {
    loop {
        let accepted = listener.accept();
        valve.wait_open();
        let Ok((near, _)) = accepted else {
            thread::sleep(ACCEPT_RETRY);
            continue;
        };
        let to = *target.lock().unwrap_or_else(PoisonError::into_inner);
        // A target that is not there is told by closing.
        if let Some(far) = to.and_then(|to| TcpStream::connect_timeout(&to, CONNECT_TIME_MAX).ok()) {
            lead(near, far, valve);
        }
    }
}

/// Two threads, one per direction. Without them the connection is simply closed.
fn lead(near: TcpStream, far: TcpStream, valve: &Valve) {
    let prepared = || -> std::io::Result<_> {
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        Ok((near.try_clone()?, far.try_clone()?))
    };
    let Ok((near_too, far_too)) = prepared() else { return };
    for (from, to) in [(near, far), (far_too, near_too)] {
        let valve = valve.clone();
        let spawned =
            thread::Builder::new().name("demo-proxy".into()).spawn(move || forward(from, to, &valve));
        if spawned.is_err() {
            return;
        }
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, valve: &Valve) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut chunk);
        valve.wait_open();
        match read {
            Ok(0) => break,
            Ok(bytes) => {
                if to.write_all(&chunk[..bytes]).is_err() {
                    break;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    // Fails only for a connection that is closed already.
    let _closed = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(valve: &Valve) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::start(valve).unwrap();
        proxy.set_target(listener.local_addr().unwrap());
        let near = TcpStream::connect(proxy.address()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    #[test]
    fn a_stalled_link_delivers_nothing_and_loses_nothing() {
        let valve = Valve::default();
        let (mut near, mut far) = pair(&valve);
        let mut got = [0; 4];
        near.write_all(b"here").unwrap();
        far.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"here");
        valve.stall(true);
        near.write_all(b"late").unwrap();
        far.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(far.read_exact(&mut got).is_err());
        valve.stall(false);
        far.set_read_timeout(None).unwrap();
        far.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"late");
    }

    #[test]
    fn a_closed_end_closes_the_other() {
        let (near, mut far) = pair(&Valve::default());
        drop(near);
        assert_eq!(far.read(&mut [0]).unwrap(), 0);
    }
}
