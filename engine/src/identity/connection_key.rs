//! The connection key: what one array's operator hands to the other's, once, so that the two arrays may become known to each other.
//!
//! Bytes under the base64: version 1, id 16, public key 32, secret 16, expiry (unix seconds) 8, CRC32C 4.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use metropod_protocol::ArrayId;

use super::key::PublicKey;
use crate::wire::{Fields, FieldsError};

/// How long a connection key may be used.
pub const SECRET_LIFETIME: Duration = Duration::from_secs(600);

const VERSION: u8 = 1;
const TEXT_BYTES_MAX: usize = 256;

/// The secret in a connection key; it never travels, proofs made with it do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub(super) [u8; 16]);

impl Secret {
    /// Proves to whoever issued the secret that the sender has it, for this message only.
    pub fn prove(&self, message: &[u8]) -> blake3::Hash {
        let key = blake3::derive_key("metropod 2026-11 connection key enrolment proof", &self.0);
        blake3::keyed_hash(&key, message)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Names an array, its key, and a one-time secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectionKey {
    /// The array that issued it.
    pub id: ArrayId,
    /// That array's public key.
    pub public_key: PublicKey,
    /// Proves that its holder was invited.
    pub secret: Secret,
    /// Not to be used after this time.
    pub expires_unix_s: u64,
}

/// Why a text is not a connection key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionKeyError {
    /// Not the text of a key; perhaps cut or mistyped.
    #[error("not a connection key, or cut or mistyped; copy it again")]
    Damaged,
    /// Of another version.
    #[error("connection key of version {version}, this program knows version {VERSION}")]
    Version {
        /// The version met.
        version: u8,
    },
}

impl From<FieldsError> for ConnectionKeyError {
    fn from(_: FieldsError) -> ConnectionKeyError {
        ConnectionKeyError::Damaged
    }
}

impl fmt::Display for ConnectionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.id.0);
        bytes.extend_from_slice(&self.public_key.0);
        bytes.extend_from_slice(&self.secret.0);
        bytes.extend_from_slice(&self.expires_unix_s.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for ConnectionKey {
    type Err = ConnectionKeyError;

    fn from_str(text: &str) -> Result<ConnectionKey, ConnectionKeyError> {
        let text = text.trim();
        if text.len() > TEXT_BYTES_MAX {
            return Err(ConnectionKeyError::Damaged);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| ConnectionKeyError::Damaged)?;
        let (content, check) = bytes.split_last_chunk::<4>().ok_or(ConnectionKeyError::Damaged)?;
        if crc32c::crc32c(content) != u32::from_le_bytes(*check) {
            return Err(ConnectionKeyError::Damaged);
        }
        let mut fields = Fields(content);
        let version = fields.u8()?;
        if version != VERSION {
            return Err(ConnectionKeyError::Version { version });
        }
        let key = ConnectionKey {
            id: ArrayId(fields.array()?),
            public_key: PublicKey(fields.array()?),
            secret: Secret(fields.array()?),
            expires_unix_s: fields.u64()?,
        };
        fields.end()?;
        if key.public_key.id() != key.id {
            return Err(ConnectionKeyError::Damaged);
        }
        Ok(key)
    }
}

/// Seconds since 1970 on the wall clock; only for expiry, which two machines compare roughly.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    fn key() -> ConnectionKey {
        let identity = Identity::generate().unwrap();
        ConnectionKey {
            id: identity.id(),
            public_key: identity.public_key(),
            secret: Secret(*b"sixteen secrets!"),
            expires_unix_s: 1_800_000_000,
        }
    }

    #[test]
    fn a_connection_key_survives_its_text() {
        let key = key();
        assert_eq!(format!("  {key}\n").parse(), Ok(key));
        assert!(!format!("{key:?}").contains("sixteen"));
    }

    #[test]
    fn a_mistyped_or_cut_connection_key_is_refused() {
        let text = key().to_string();
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(changed.parse::<ConnectionKey>(), Err(ConnectionKeyError::Damaged), "{at}");
            assert!(text[..at].parse::<ConnectionKey>().is_err());
        }
        assert!("x".repeat(100_000).parse::<ConnectionKey>().is_err());
        assert!("ключ".parse::<ConnectionKey>().is_err());
    }
}
