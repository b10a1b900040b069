//! Accepting connections: a short-lived thread for each, until it is authenticated or refused.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use super::connection::{Link, lock, timespec};
use super::dial::Address;
use super::handshake::{self, HandshakeError};
use super::hello::{Hello, Role};
use super::manager::Shared;
use super::roster::{Channel, Claim, Moment};
use super::{dial, trust};

/// Connections that may be opening at once; more are closed at once.
const OPENING_MAX: usize = 32;
/// After an accept that failed, for instance for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The listening thread.
pub(super) fn run(shared: &Arc<Shared>, listener: &TcpListener) {
    if let Err(error) = listener.set_nonblocking(true) {
        tracing::error!(%error, "cannot listen for peers");
        return;
    }
    let mut pause = false;
    loop {
        let wanted = if pause { PollFlags::empty() } else { PollFlags::IN };
        let mut descriptors = [PollFd::new(listener, wanted), PollFd::new(&shared.wake, PollFlags::IN)];
        let timeout = pause.then(|| timespec(ACCEPT_PAUSE));
        // An interrupted wait goes round again.
        let _ = poll(&mut descriptors, timeout.as_ref());
        if descriptors[1].revents().contains(PollFlags::IN) {
            // Empties the counter; a later wake fills it again.
            let _ = rustix::io::read(&shared.wake, &mut [0; 8]);
        }
        shared.bury();
        if lock(&shared.guarded).roster.stopping {
            return;
        }
        pause = match listener.accept() {
            Ok((stream, seen)) => {
                welcome(shared, stream, seen);
                false
            }
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        };
    }
}

fn welcome(shared: &Arc<Shared>, stream: TcpStream, seen: SocketAddr) {
    let began = {
        let mut guarded = lock(&shared.guarded);
        if guarded.accepting >= OPENING_MAX {
            tracing::warn!(%seen, "too many connections are opening; one was closed");
            return;
        }
        guarded.accepting += 1;
        guarded.roster.moment()
    };
    let owner = shared.clone();
    let spawned = thread::Builder::new().name("link-accept".to_owned()).spawn(move || {
        if let Err(error) = meet(&owner, stream, seen, began) {
            tracing::debug!(%seen, %error, "an incoming connection was not taken");
        }
        accepted(&owner);
    });
    if let Err(error) = spawned {
        tracing::warn!(%seen, %error, "no thread for an incoming connection");
        accepted(shared);
    }
}

fn accepted(shared: &Shared) {
    lock(&shared.guarded).accepting -= 1;
    shared.changed.notify_all();
}

fn meet(
    shared: &Arc<Shared>,
    stream: TcpStream,
    seen: SocketAddr,
    began: Moment,
) -> Result<(), HandshakeError> {
    let (link, mut reader) = shared.open(stream).map_err(|error| dial::closed_by(&error))?;
    let invited = Cell::new(false);
    let admit = |hello: &_, invitation: Option<&_>| {
        invited.set(invitation.is_some());
        lock(&shared.trust).admit(hello, invitation, seen)
    };
    let serves = [Role::ArraySync, Role::ArrayBulk];
    let taken = handshake::accept(&shared.local, &mut reader, &serves, &admit).and_then(|hello| {
        if invited.get() {
            return introduce(shared, &hello, &link);
        }
        let channel = match hello.role {
            Role::ArrayBulk => Channel::Bulk,
            _ => Channel::Sync,
        };
        let claim = Claim {
            incarnation: hello.incarnation,
            dialled_by_smaller: hello.id < shared.local.identity.id(),
            began,
        };
        let address = trust::seen_address(&hello, seen.ip());
        dial::take(shared, &hello, reader, channel, claim, seen, Address::Seen(&address))
    });
    shared.opened(link.number());
    taken
}

/// A connection made with a connection key ends when both know each other; the lasting ones are dialled anew, by their own addresses.
fn introduce(shared: &Arc<Shared>, hello: &Hello, link: &Link) -> Result<(), HandshakeError> {
    let trust = lock(&shared.trust);
    if trust.peers.get(hello.id).is_some()
        && let Err(error) = shared.dial_from_now_on(hello.id)
    {
        tracing::warn!(%error, "no thread to dial a peer; it has to dial");
    }
    drop(trust);
    handshake::welcome(link)?;
    link.flush();
    Ok(())
}
