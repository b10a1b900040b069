//! A loopback proxy for array connections that counts bytes and can stall.
//!
//! - X1: what is counted was taken from one socket and given to the other: the TCP payload of every connection through it.
//! - X2: a stalled proxy forwards nothing and closes nothing, as a cut cable does; when it goes on, what it held goes on.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Taken from a socket at once.
const BUFFER_BYTES: usize = 256 << 10;

struct Shared {
    target: Mutex<Option<SocketAddr>>,
    stalled: Mutex<bool>,
    changed: Condvar,
    stopping: AtomicBool,
    bytes: AtomicU64,
}

/// A running proxy; its threads end with the connections and with it.
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl Proxy {
    /// Listens on a loopback port; without a target it closes what connects.
    pub fn start() -> io::Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target: Mutex::default(),
            stalled: Mutex::default(),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
        });
        let accepting = shared.clone();
        thread::spawn(move || accept(&accepting, &listener));
        Ok(Proxy { shared, address })
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where new connections lead.
    pub fn set_target(&self, target: SocketAddr) {
        *lock(&self.shared.target) = Some(target);
    }

    /// Stalls or goes on.
    pub fn set_stalled(&self, stalled: bool) {
        *lock(&self.shared.stalled) = stalled;
        self.shared.changed.notify_all();
    }

    /// Bytes forwarded so far, both directions.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Acquire)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.set_stalled(false);
        // Wakes the listening thread; it may be gone already.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn wait_while_stalled(&self) {
        let mut stalled = lock(&self.stalled);
        while *stalled {
            stalled = self.changed.wait(stalled).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    while let Ok((near, _)) = listener.accept() {
        if shared.stopping.load(Ordering::Acquire) {
            return;
        }
        let shared = shared.clone();
        thread::spawn(move || {
            shared.wait_while_stalled();
            let Some(target) = *lock(&shared.target) else { return };
            // An array that is down refuses; so does this end, by closing.
            let Ok(far) = TcpStream::connect(target) else { return };
            let _ = near.set_nodelay(true).and(far.set_nodelay(true));
            let (Ok(near_too), Ok(far_too)) = (near.try_clone(), far.try_clone()) else { return };
            let other = shared.clone();
            thread::spawn(move || copy(&other, far_too, near_too));
            copy(&shared, near, far);
        });
    }
}

/// Forwards one direction until either end is gone.
fn copy(shared: &Shared, mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        shared.wait_while_stalled();
        let Ok(count) = from.read(&mut buffer) else { break };
        if count == 0 {
            break;
        }
        shared.wait_while_stalled();
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
        shared.bytes.fetch_add(count as u64, Ordering::AcqRel);
    }
    shared.wait_while_stalled();
    // Either may be closed already.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
