//! Dialling a known peer until a connection is up, again and again; and dialling once to become known.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use metropod_protocol::ArrayId;

use super::connection::{CloseReason, Closed, Reader, lock};
use super::handshake::{self, Dial, HandshakeError};
use super::hello::{Hello, Refusal, Role};
use super::manager::{ConnectError, Shared};
use super::roster::{Candidate, Channel, Claim, Moment, PeerInfo, Taken};
use crate::identity::ConnectionKey;

/// Between beginnings of attempts.
pub const RETRY: Duration = Duration::from_millis(100);
/// For each address of a peer.
pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);
/// The larger id begins that much later, so that two connections at once, one for nothing, stay rare.
const YIELD: Duration = Duration::from_millis(20);
/// Addresses tried of one name.
const RESOLVED_MAX: usize = 4;

/// The thread that keeps one channel to one peer up.
pub(super) fn run(shared: &Arc<Shared>, peer: ArrayId, channel: Channel, generation: u64) {
    let larger = shared.local.identity.id() > peer;
    let started = Instant::now();
    let mut last: Option<Instant> = None;
    while wait_for_need(shared, peer, channel, generation, last, larger.then_some(started)) {
        last = Some(Instant::now());
        let failure = attempt(shared, peer, channel).err();
        note(shared, peer, channel, failure.as_ref());
    }
}

/// Waits until this channel is down and it is time to dial; `false`: no more.
fn wait_for_need(
    shared: &Shared,
    peer: ArrayId,
    channel: Channel,
    generation: u64,
    last: Option<Instant>,
    yields_since: Option<Instant>,
) -> bool {
    let mut guarded = lock(&shared.guarded);
    loop {
        let current = guarded.dials.get(&(peer, channel)).is_some_and(|place| place.generation == generation);
        if guarded.roster.stopping || !current {
            return false;
        }
        if guarded.roster.is_up(peer, channel) {
            guarded = shared.changed.wait(guarded).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        let retry = last.map(|last| last + RETRY);
        let yielding =
            yields_since.map(|started| guarded.roster.down_at(peer, channel).unwrap_or(started) + YIELD);
        let now = Instant::now();
        match retry.into_iter().chain(yielding).max() {
            Some(at) if at > now => {
                let waited = shared.changed.wait_timeout(guarded, at - now);
                guarded = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            _ => return true,
        }
    }
}

/// Keeps the reason for status; logs it when it is another one.
fn note(shared: &Shared, peer: ArrayId, channel: Channel, failure: Option<&DialError>) {
    let text = failure.map(ToString::to_string);
    let mut guarded = lock(&shared.guarded);
    let Some(place) = guarded.dials.get_mut(&(peer, channel)) else { return };
    if place.last_failure != text {
        if let Some(text) = &text {
            tracing::warn!(?peer, ?channel, reason = text, "cannot connect to the peer; trying on");
        }
        place.last_failure = text;
    }
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("no address is known; the peer has to dial")]
    NoAddress,
    #[error("cannot reach {address}: {source}")]
    Unreachable { address: Box<str>, source: io::Error },
    #[error("{address}: {source}")]
    Handshake { address: Box<str>, source: HandshakeError },
}

/// Tries each address of the peer once.
fn attempt(shared: &Arc<Shared>, peer: ArrayId, channel: Channel) -> Result<(), DialError> {
    let mut failure = DialError::NoAddress;
    let addresses = lock(&shared.trust).addresses(peer);
    for address in addresses {
        let began = {
            let mut guarded = lock(&shared.guarded);
            if guarded.roster.stopping || guarded.roster.is_up(peer, channel) {
                return Ok(());
            }
            guarded.roster.moment()
        };
        let stream = match connect(&address) {
            Ok(stream) => stream,
            Err(source) => {
                failure = DialError::Unreachable { address: address.into(), source };
                continue;
            }
        };
        match meet(shared, stream, peer, channel, began, &address) {
            Ok(()) => return Ok(()),
            Err(source) => failure = DialError::Handshake { address: address.into(), source },
        }
    }
    match failure {
        // The peer was faster, or has another connection: that is being up, not failing.
        DialError::Handshake {
            source: HandshakeError::Refusing(Refusal::Duplicate) | HandshakeError::Refused(Refusal::Duplicate),
            ..
        } => Ok(()),
        failure => Err(failure),
    }
}

/// Opens the stream and offers it to the roster.
fn meet(
    shared: &Arc<Shared>,
    stream: TcpStream,
    peer: ArrayId,
    channel: Channel,
    began: Moment,
    address: &str,
) -> Result<(), HandshakeError> {
    let failed = |error: io::Error| closed_by(&error);
    let seen = stream.peer_addr().map_err(failed)?;
    let (link, mut reader) = shared.open(stream).map_err(failed)?;
    let role = match channel {
        Channel::Sync => Role::ArraySync,
        Channel::Bulk => Role::ArrayBulk,
    };
    let wanted = |_: &Hello| {
        if lock(&shared.guarded).roster.is_up(peer, channel) { Err(Refusal::Duplicate) } else { Ok(()) }
    };
    let dial = Dial { role, expected: Some(peer), secret: None };
    let hello = handshake::dial(&shared.local, &mut reader, &dial, &wanted);
    let taken = hello.and_then(|hello| {
        let claim = Claim {
            incarnation: hello.incarnation,
            dialled_by_smaller: shared.local.identity.id() < peer,
            began,
        };
        take(shared, &hello, reader, channel, claim, seen, Address::Dialled(address))
    });
    shared.opened(link.number());
    taken
}

/// Where the peer was met.
#[derive(Clone, Copy, Debug)]
pub(super) enum Address<'a> {
    /// It was reached there.
    Dialled(&'a str),
    /// It may be reached there; empty: nothing is known.
    Seen(&'a str),
}

/// Offers an authenticated connection to the roster, if the peer is still known. An accepted one is welcomed with that.
pub(super) fn take(
    shared: &Arc<Shared>,
    hello: &Hello,
    reader: Reader,
    channel: Channel,
    claim: Claim,
    seen: SocketAddr,
    address: Address<'_>,
) -> Result<(), HandshakeError> {
    let link = reader.link().clone();
    let welcome = matches!(address, Address::Seen(_));
    // A peer that is being forgotten is forgotten before or after this, never in between.
    let mut trust = lock(&shared.trust);
    let Some(known) = trust.refresh(hello, address) else {
        drop(trust);
        return Err(handshake::refuse(&link, Refusal::UnknownPeer));
    };
    if let Err(error) = shared.dial_from_now_on(hello.id) {
        tracing::warn!(%error, "no thread to dial a peer; it has to dial");
    }
    let peer = PeerInfo { id: hello.id, name: known.name, incarnation: hello.incarnation, address: seen };
    let candidate = Candidate { peer, channel, claim, reader, welcome };
    let taken = lock(&shared.guarded).roster.take(candidate);
    drop(trust);
    shared.changed.notify_all();
    match taken {
        Taken::Yes { replaced } => {
            link.flush();
            if let Some(replaced) = replaced {
                replaced.close_for(CloseReason::Replaced);
            }
            Ok(())
        }
        Taken::No { .. } if welcome => Err(handshake::refuse(&link, Refusal::Duplicate)),
        Taken::No { .. } => {
            link.close_for(CloseReason::Replaced);
            Err(HandshakeError::Closed(Closed { reason: CloseReason::Replaced }))
        }
    }
}

/// Dials once with a connection key's secret: both sides are in each other's reach, and the other knows this one afterwards.
pub(super) fn enrol(shared: &Arc<Shared>, address: &str, key: &ConnectionKey) -> Result<Hello, ConnectError> {
    let unreachable = |source| ConnectError::Unreachable { address: address.into(), source };
    let stream = connect(address).map_err(unreachable)?;
    let (link, mut reader) = shared.open(stream).map_err(unreachable)?;
    let wanted = |hello: &Hello| lock(&shared.trust).free(hello);
    let dial = Dial { role: Role::ArraySync, expected: Some(key.id), secret: Some(&key.secret) };
    let hello = handshake::dial(&shared.local, &mut reader, &dial, &wanted);
    link.close();
    shared.opened(link.number());
    Ok(hello?)
}

/// Connects to the first address behind the name that answers.
pub(crate) fn connect(address: &str) -> io::Result<TcpStream> {
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for address in address.to_socket_addrs()?.take(RESOLVED_MAX) {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

pub(super) fn closed_by(error: &io::Error) -> HandshakeError {
    HandshakeError::Closed(Closed { reason: CloseReason::Failed(error.kind()) })
}
