//! The arrays this one knows, with the keys they are known by, in the file `peers`.
//!
//! - P1: what a call returned `Ok` for is durable; the file is whole after any crash.
//! - P2: an id's key never changes (the id is made from it).
//!
//! Bytes: magic 8, count 2, per peer (id 16, public key 32, kind 1, name, address count 1, addresses), CRC32C 4; texts have a length byte.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use metropod_protocol::ArrayId;

use super::key::PublicKey;
use super::{file, is_name};
use crate::wire::{Fields, FieldsError, put_text};

const MAGIC: [u8; 8] = *b"MPPEERS\x01";
const FILE_MODE: u32 = 0o600;

/// Addresses remembered per peer.
pub(crate) const ADDRESSES_MAX: usize = 4;
/// Longest address.
pub(crate) const ADDRESS_BYTES_MAX: usize = 255;

/// What a peer is connected for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PeerKind {
    /// Pods may be stretched to it.
    Sync,
    /// It only receives copies.
    Async,
}

/// An array that this one knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its id.
    pub id: ArrayId,
    /// Its key.
    pub public_key: PublicKey,
    /// Its name, unique here.
    pub name: String,
    /// What it is connected for.
    pub kind: PeerKind,
    /// Where it may be reached (`host:port`), the most promising first.
    pub addresses: Vec<String>,
}

/// Why peers could not be read or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeersError {
    /// The file system failed.
    #[error("{path}: file of known peers failed while {doing}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The content is not a list of peers, or damaged.
    #[error("{path}: damaged list of known peers; remove it and connect the arrays again")]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// Too many.
    #[error("{limit} arrays are known, which is the most")]
    Full {
        /// The bound.
        limit: usize,
    },
}

/// The known peers and their file.
#[derive(Debug)]
pub struct Peers {
    path: PathBuf,
    limit: usize,
    peers: BTreeMap<ArrayId, Peer>,
}

impl Peers {
    /// Reads the file, which may be missing. At most `limit` peers are kept.
    pub fn open(path: &Path, limit: usize) -> Result<Peers, PeersError> {
        assert!(limit <= usize::from(u16::MAX), "the count has two bytes");
        let bytes = file::read(path).map_err(|source| PeersError::File {
            path: path.to_owned(),
            doing: "reading it",
            source,
        })?;
        let peers = match bytes {
            None => BTreeMap::new(),
            Some(bytes) => decode(&bytes).ok_or_else(|| PeersError::Damaged { path: path.to_owned() })?,
        };
        Ok(Peers { path: path.to_owned(), limit, peers })
    }

    /// Keeps the peer, new or changed.
    pub fn put(&mut self, peer: Peer) -> Result<(), PeersError> {
        assert_eq!(peer.public_key.id(), peer.id, "a peer's id is made from its key");
        if self.peers.get(&peer.id) == Some(&peer) {
            return Ok(());
        }
        if !self.peers.contains_key(&peer.id) && self.peers.len() >= self.limit {
            return Err(PeersError::Full { limit: self.limit });
        }
        let mut peers = self.peers.clone();
        peers.insert(peer.id, peer);
        self.keep(peers)
    }

    /// Forgets a peer; `false`: it was not known.
    pub fn remove(&mut self, id: ArrayId) -> Result<bool, PeersError> {
        let mut peers = self.peers.clone();
        if peers.remove(&id).is_none() {
            return Ok(false);
        }
        self.keep(peers)?;
        Ok(true)
    }

    /// A peer.
    pub fn get(&self, id: ArrayId) -> Option<&Peer> {
        self.peers.get(&id)
    }

    /// All peers, in id order.
    pub fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    /// The peer of that name, whatever its case.
    pub fn named(&self, name: &str) -> Option<&Peer> {
        self.peers.values().find(|peer| peer.name.eq_ignore_ascii_case(name))
    }

    fn keep(&mut self, peers: BTreeMap<ArrayId, Peer>) -> Result<(), PeersError> {
        file::replace(&self.path, &encode(&peers), FILE_MODE).map_err(|source| PeersError::File {
            path: self.path.clone(),
            doing: "writing it",
            source,
        })?;
        self.peers = peers;
        Ok(())
    }
}

impl Peer {
    /// Puts `address` first among the addresses.
    pub(crate) fn prefer(&mut self, address: &str) {
        if address.is_empty() || address.len() > ADDRESS_BYTES_MAX {
            return;
        }
        self.addresses.retain(|known| known != address);
        self.addresses.insert(0, address.to_owned());
        self.addresses.truncate(ADDRESSES_MAX);
    }

    /// Puts `address` last, unless it is there.
    pub(crate) fn remember(&mut self, address: &str) {
        if address.is_empty()
            || address.len() > ADDRESS_BYTES_MAX
            || self.addresses.iter().any(|a| a == address)
        {
            return;
        }
        self.addresses.truncate(ADDRESSES_MAX - 1);
        self.addresses.push(address.to_owned());
    }
}

pub(crate) fn encode(peers: &BTreeMap<ArrayId, Peer>) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&(peers.len() as u16).to_le_bytes());
    for peer in peers.values() {
        bytes.extend_from_slice(&peer.id.0);
        bytes.extend_from_slice(&peer.public_key.0);
        bytes.push(match peer.kind {
            PeerKind::Sync => 1,
            PeerKind::Async => 2,
        });
        put_text(&mut bytes, &peer.name);
        bytes.push(peer.addresses.len() as u8);
        for address in &peer.addresses {
            put_text(&mut bytes, address);
        }
    }
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

pub(crate) fn decode(bytes: &[u8]) -> Option<BTreeMap<ArrayId, Peer>> {
    let (content, check) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(content) != u32::from_le_bytes(*check) {
        return None;
    }
    let mut fields = Fields(content);
    if fields.array().ok()? != MAGIC {
        return None;
    }
    let count = fields.u16().ok()?;
    let mut peers = BTreeMap::new();
    for _ in 0..count {
        let peer = decode_peer(&mut fields).ok().flatten()?;
        peers.insert(peer.id, peer);
    }
    fields.end().ok()?;
    Some(peers)
}

fn decode_peer(fields: &mut Fields<'_>) -> Result<Option<Peer>, FieldsError> {
    let id = ArrayId(fields.array()?);
    let public_key = PublicKey(fields.array()?);
    let kind = match fields.u8()? {
        1 => PeerKind::Sync,
        2 => PeerKind::Async,
        _ => return Ok(None),
    };
    let name = fields.text()?.to_owned();
    let count = fields.u8()?;
    let mut addresses = Vec::new();
    for _ in 0..count {
        addresses.push(fields.text()?.to_owned());
    }
    if public_key.id() != id || !is_name(&name) || addresses.len() > ADDRESSES_MAX {
        return Ok(None);
    }
    Ok(Some(Peer { id, public_key, name, kind, addresses }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    fn peer(name: &str) -> Peer {
        let public_key = Identity::generate().unwrap().public_key();
        Peer {
            id: public_key.id(),
            public_key,
            name: name.to_owned(),
            kind: PeerKind::Sync,
            addresses: vec!["127.0.0.1:7750".to_owned(), "site-b:7750".to_owned()],
        }
    }

    #[test]
    fn known_peers_are_found_again_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("peers");
        let (one, two) = (peer("B"), peer("C"));
        let mut peers = Peers::open(&path, 8).unwrap();
        peers.put(one.clone()).unwrap();
        peers.put(two.clone()).unwrap();
        let mut peers = Peers::open(&path, 8).unwrap();
        assert_eq!(peers.get(one.id), Some(&one));
        assert_eq!(peers.named("c"), Some(&two));
        assert!(peers.remove(one.id).unwrap());
        assert!(!peers.remove(one.id).unwrap());
        let peers = Peers::open(&path, 8).unwrap();
        assert_eq!(peers.iter().collect::<Vec<_>>(), [&two]);
    }

    #[test]
    fn a_damaged_list_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("peers");
        Peers::open(&path, 8).unwrap().put(peer("B")).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            assert!(matches!(Peers::open(&path, 8), Err(PeersError::Damaged { .. })));
            std::fs::write(&path, &whole[..at]).unwrap();
            assert!(matches!(Peers::open(&path, 8), Err(PeersError::Damaged { .. })));
        }
    }

    #[test]
    fn no_more_peers_are_kept_than_allowed() {
        let directory = tempfile::tempdir().unwrap();
        let mut peers = Peers::open(&directory.path().join("peers"), 1).unwrap();
        let mut known = peer("B");
        peers.put(known.clone()).unwrap();
        assert!(matches!(peers.put(peer("C")), Err(PeersError::Full { limit: 1 })));
        known.prefer("10.0.0.1:1");
        known.prefer("site-b:7750");
        peers.put(known.clone()).unwrap();
        assert_eq!(known.addresses, ["site-b:7750", "10.0.0.1:1", "127.0.0.1:7750"]);
    }
}
