//! Links between arrays: authenticated connections that come back by themselves.
//!
//! [`Links`] listens, dials every known peer until it is connected (one *sync* and one *bulk* connection each), and hands every
//! connection that is up to its user, as a [`Link`] to write and a [`Reader`] to read. What the frames mean, and noticing that a peer has gone
//! silent, is the user's.

mod connection;
mod dial;
mod handshake;
mod hello;
mod listen;
mod manager;
mod roster;
mod trust;

pub use connection::{CloseReason, Closed, ConnectionNumber, Link, Reader, UNSENT_BYTES_MAX};
pub(crate) use connection::{lock, open, timespec};
pub(crate) use dial::connect;
pub use dial::{CONNECT_TIMEOUT, RETRY};
pub(crate) use handshake::{Dial, Local, accept, dial as introduce, refuse, welcome};
pub use handshake::{HANDSHAKE_TIMEOUT, HandshakeError};
#[cfg(any(fuzzing, test))]
pub(crate) use hello::Proof;
pub(crate) use hello::{Hello, OPENING_BYTES_MAX};
pub use hello::{Refusal, Role, VERSION};
pub use manager::{ConnectError, Links, LinksConfig, PEERS_MAX, PeerStatus, StartError};
pub use roster::{Channel, LinkEvent, LinkSink, PeerInfo};
