//! Ports for processes that must find the same port again after a restart.
//!
//! They are taken below the system's ephemeral range: a port from inside it can be given to any outgoing connection
//! while its process is down, even to one that dials that very port.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u32 = 11_000;
const COUNT: u32 = 20_000;

/// A loopback address that nobody listens on now. Tests in other processes begin elsewhere in the range.
pub fn free_port() -> SocketAddr {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    // Neighbouring process ids are spread over the range; a prime step keeps them apart.
    let start = std::process::id().wrapping_mul(7_919);
    for _ in 0..COUNT {
        let number = start.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT + FIRST;
        let port = u16::try_from(number).expect("the range ends below 65536");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port from {FIRST} on")
}
