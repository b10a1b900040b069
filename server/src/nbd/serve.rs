//! The listener: takes connections, leads each through handshake and transmission, and stops all of them.
//!
//! - S1: no more than `Limits::connections` connections exist; one beyond is closed at once, and the log says so.
//! - S2: a connection that does not finish its handshake in time is closed.
//! - S3: whatever happens on a connection ends there.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::handshake::{HandshakeError, shake_hands};
use super::receive::Receiver;
use super::transmission::{End, TransmissionError, transmit};
use super::volume::Exports;
use super::wire::PAYLOAD_BYTES_MAX;

/// Pause after a failed accept: descriptors may be free again then.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Silence after which a client's host is probed, the pause between probes, and how many go unanswered.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;

/// What clients may use up.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at a time, handshakes included.
    pub connections: usize,
    /// Requests of one connection in flight; at least one.
    pub requests_in_flight: usize,
    /// Payload bytes of one connection in flight; at least one request of the largest size.
    pub bytes_in_flight: usize,
    /// From the connection to the end of its handshake.
    pub handshake: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 256,
            requests_in_flight: 128,
            bytes_in_flight: 64 << 20,
            handshake: Duration::from_secs(10),
        }
    }
}

impl Limits {
    pub(super) fn requests_in_flight(&self) -> usize {
        self.requests_in_flight.clamp(1, Semaphore::MAX_PERMITS)
    }

    pub(super) fn bytes_in_flight(&self) -> usize {
        self.bytes_in_flight.clamp(PAYLOAD_BYTES_MAX as usize, Semaphore::MAX_PERMITS)
    }
}

/// Serves `exports` on `listener` until `stop` completes; returns when every connection is closed.
pub async fn serve<E: Exports>(
    listener: TcpListener,
    exports: Arc<E>,
    limits: Limits,
    stop: impl Future<Output = ()>,
) {
    let limits = Arc::new(limits);
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let accepting = async {
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            while let Some(ended) = connections.try_join_next() {
                report_bug(ended);
            }
            if connections.len() >= limits.connections {
                tracing::warn!(%peer, limit = limits.connections, "too many connections; this one is closed");
                continue;
            }
            let (exports, limits, stopped) = (exports.clone(), limits.clone(), stopped.clone());
            connections.spawn(async move { attend(stream, peer, &*exports, &limits, stopped).await });
        }
    };
    tokio::select! {
        () = stop => {}
        () = accepting => {}
    }
    drop(listener);
    stopping.send_replace(true);
    while let Some(ended) = connections.join_next().await {
        report_bug(ended);
    }
}

/// Why a connection was broken off.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("cannot set the socket up")]
    Socket(#[source] io::Error),
    #[error("no handshake within {limit:?}")]
    HandshakeTimeout { limit: Duration },
    #[error("handshake: {0}")]
    Handshake(#[from] HandshakeError),
    #[error("transmission: {0}")]
    Transmission(#[from] TransmissionError),
}

async fn attend<E: Exports>(
    stream: TcpStream,
    peer: SocketAddr,
    exports: &E,
    limits: &Limits,
    stopped: watch::Receiver<bool>,
) {
    match converse(stream, peer, exports, limits, stopped).await {
        Ok(Some(end)) => tracing::info!(%peer, ?end, "nbd client gone"),
        Ok(None) => tracing::debug!(%peer, "nbd client left during the handshake"),
        Err(ConnectionError::Transmission(TransmissionError::Io(error))) => {
            tracing::info!(%peer, %error, "nbd client lost");
        }
        Err(error) => tracing::warn!(%peer, %error, "nbd client dropped"),
    }
}

async fn converse<E: Exports>(
    stream: TcpStream,
    peer: SocketAddr,
    exports: &E,
    limits: &Limits,
    mut stopped: watch::Receiver<bool>,
) -> Result<Option<End>, ConnectionError> {
    set_up(&stream).map_err(ConnectionError::Socket)?;
    let (read_half, mut write_half) = stream.into_split();
    let mut receiver = Receiver::new(read_half);
    let limit = limits.handshake;
    let session = tokio::select! {
        session = timeout(limit, shake_hands(exports, &mut receiver, &mut write_half)) => {
            session.map_err(|_| ConnectionError::HandshakeTimeout { limit })??
        }
        _ = stopped.wait_for(|stop| *stop) => return Ok(Some(End::Stopped)),
    };
    let Some(session) = session else { return Ok(None) };
    tracing::info!(%peer, export = session.name, form = ?session.rules.form, "nbd client connected");
    Ok(Some(transmit(session, receiver, write_half, limits, stopped).await?))
}

fn set_up(stream: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    sockopt::set_socket_keepalive(stream, true)?;
    Ok(())
}

fn report_bug(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection met a bug and is closed");
    }
}
