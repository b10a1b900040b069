//! Who is let in: known peers, and arrays that bring a connection key issued here.
//!
//! - T1: an array becomes known only durably, and a connection key is spent only then.
//! - T2: names are unique among this array and its peers.

use std::io;
use std::net::{IpAddr, SocketAddr};

use metropod_protocol::ArrayId;

use super::dial::Address;
use super::handshake::Invitation;
use super::hello::{Hello, Refusal};
use crate::identity::{
    ConnectionKey, Identity, KeyRing, Peer, PeerKind, Peers, PeersError, SecretRefused, unix_seconds,
};

/// Known peers and issued keys.
#[derive(Debug)]
pub(super) struct Trust {
    pub peers: Peers,
    ring: KeyRing,
    name: String,
}

impl Trust {
    pub fn new(peers: Peers, name: &str) -> Trust {
        Trust { peers, ring: KeyRing::default(), name: name.to_owned() }
    }

    pub fn issue(&mut self, identity: &Identity) -> io::Result<ConnectionKey> {
        self.ring.issue(identity, unix_seconds())
    }

    /// Lets a dialler in that proved its identity; it is known afterwards.
    pub fn admit(
        &mut self,
        hello: &Hello,
        invitation: Option<&Invitation>,
        seen: SocketAddr,
    ) -> Result<(), Refusal> {
        if self.peers.get(hello.id).is_some() {
            return Ok(());
        }
        let invitation = invitation.ok_or(Refusal::UnknownPeer)?;
        let secret =
            self.ring.find(&invitation.message, &invitation.proof, unix_seconds()).map_err(|refused| {
                match refused {
                    SecretRefused::Unknown => Refusal::KeyUnknown,
                    SecretRefused::Used => Refusal::KeyUsed,
                    SecretRefused::Expired => Refusal::KeyExpired,
                }
            })?;
        self.free(hello)?;
        self.enrol(hello, PeerKind::Sync, &seen_address(hello, seen.ip())).map_err(|error| {
            tracing::error!(name = hello.name, %error, "a peer could not be recorded");
            match error {
                PeersError::Full { .. } => Refusal::Full,
                _ => Refusal::NotRecorded,
            }
        })?;
        self.ring.spend(secret);
        tracing::info!(name = hello.name, id = ?hello.id, "array made known by a connection key");
        Ok(())
    }

    /// Whether the peer's name is free.
    pub fn free(&self, hello: &Hello) -> Result<(), Refusal> {
        let taken = self.name.eq_ignore_ascii_case(&hello.name)
            || self.peers.named(&hello.name).is_some_and(|peer| peer.id != hello.id);
        if taken { Err(Refusal::NameTaken) } else { Ok(()) }
    }

    /// Makes the peer known.
    pub fn enrol(&mut self, hello: &Hello, kind: PeerKind, address: &str) -> Result<(), PeersError> {
        let mut peer = Peer {
            id: hello.id,
            public_key: hello.public_key,
            name: hello.name.clone(),
            kind,
            addresses: Vec::new(),
        };
        if let Some(known) = self.peers.get(hello.id) {
            peer.addresses = known.addresses.clone();
        }
        place(&mut peer, hello, Address::Dialled(address));
        self.peers.put(peer)
    }

    /// Takes over what a known peer says about itself now. Failing to record it costs nothing now: it is said again.
    pub fn refresh(&mut self, hello: &Hello, address: Address<'_>) -> Option<Peer> {
        let mut peer = self.peers.get(hello.id)?.clone();
        if peer.name != hello.name && self.free(hello).is_ok() {
            peer.name = hello.name.clone();
        }
        place(&mut peer, hello, address);
        if let Err(error) = self.peers.put(peer.clone()) {
            tracing::warn!(name = peer.name, %error, "a peer's new address could not be recorded");
        }
        Some(peer)
    }

    pub fn addresses(&self, peer: ArrayId) -> Vec<String> {
        self.peers.get(peer).map_or(Vec::new(), |peer| peer.addresses.clone())
    }
}

/// An advertised address is the only one: it may lead through a proxy that must not be gone around.
fn place(peer: &mut Peer, hello: &Hello, address: Address<'_>) {
    match address {
        _ if !hello.advertised.is_empty() => peer.addresses = vec![hello.advertised.clone()],
        Address::Dialled(address) => peer.prefer(address),
        Address::Seen(address) => peer.remember(address),
    }
}

/// Where a dialler that advertises nothing should be reachable; empty: nowhere.
pub(super) fn seen_address(hello: &Hello, ip: IpAddr) -> String {
    if hello.listen_port == 0 {
        return String::new();
    }
    SocketAddr::new(ip, hello.listen_port).to_string()
}
