//! Who an array is, whom it knows, and how two arrays become known to each other.

mod connection_key;
pub(crate) mod file;
mod key;
mod key_ring;
mod peers;

pub(crate) use connection_key::unix_seconds;
pub use connection_key::{ConnectionKey, ConnectionKeyError, SECRET_LIFETIME, Secret};
#[cfg(any(fuzzing, test))]
pub(crate) use key::decode as decode_identity;
pub(crate) use key::fill_random;
pub use key::{Identity, IdentityError, PublicKey, SIGNATURE_BYTES, Signature};
pub use key_ring::{KeyRing, SecretRefused};
pub(crate) use peers::ADDRESS_BYTES_MAX;
pub use peers::{Peer, PeerKind, Peers, PeersError};
#[cfg(any(fuzzing, test))]
pub(crate) use peers::{decode as decode_peers, encode as encode_peers};

/// Longest name of an array.
pub const NAME_BYTES_MAX: usize = 63;

/// Whether `name` is 1–63 letters, digits and `-`.
pub fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
