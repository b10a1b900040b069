//! Connection keys that this array issued. They live in memory: a restart withdraws them.
//!
//! - R1: a secret admits one array once, before it expires.
//! - R2: at most [`ISSUED_MAX`] are remembered; used and expired ones stay a while so that the refusal can say why.

use std::io;

use super::connection_key::{ConnectionKey, SECRET_LIFETIME, Secret};
use super::key::{Identity, fill_random};

/// Keys remembered.
const ISSUED_MAX: usize = 64;

#[derive(Debug)]
struct Issued {
    secret: Secret,
    expires_unix_s: u64,
    used: bool,
}

/// Issued secrets.
#[derive(Debug, Default)]
pub struct KeyRing {
    issued: Vec<Issued>,
}

/// Why a proof does not admit its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretRefused {
    /// No issued secret made it.
    #[error("unknown connection key")]
    Unknown,
    /// It was used before.
    #[error("the connection key was used before")]
    Used,
    /// It is too old.
    #[error("the connection key has expired")]
    Expired,
}

impl KeyRing {
    /// Issues a connection key of `identity`.
    pub fn issue(&mut self, identity: &Identity, now_unix_s: u64) -> io::Result<ConnectionKey> {
        let mut secret = [0; 16];
        fill_random(&mut secret)?;
        let expires_unix_s = now_unix_s + SECRET_LIFETIME.as_secs();
        if self.issued.len() >= ISSUED_MAX {
            let spent =
                self.issued.iter().position(|issued| issued.used || issued.expires_unix_s <= now_unix_s);
            self.issued.remove(spent.unwrap_or(0));
        }
        self.issued.push(Issued { secret: Secret(secret), expires_unix_s, used: false });
        Ok(ConnectionKey {
            id: identity.id(),
            public_key: identity.public_key(),
            secret: Secret(secret),
            expires_unix_s,
        })
    }

    /// Which secret made the proof of `message`, if it may still be used.
    pub fn find(
        &self,
        message: &[u8],
        proof: &blake3::Hash,
        now_unix_s: u64,
    ) -> Result<Secret, SecretRefused> {
        // `blake3::Hash` compares in constant time.
        let issued = self
            .issued
            .iter()
            .find(|issued| issued.secret.prove(message) == *proof)
            .ok_or(SecretRefused::Unknown)?;
        if issued.used {
            return Err(SecretRefused::Used);
        }
        if issued.expires_unix_s <= now_unix_s {
            return Err(SecretRefused::Expired);
        }
        Ok(issued.secret)
    }

    /// The secret has admitted an array.
    pub fn spend(&mut self, secret: Secret) {
        for issued in &mut self.issued {
            if issued.secret == secret {
                issued.used = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_good_once_and_for_ten_minutes() {
        let identity = Identity::generate().unwrap();
        let mut ring = KeyRing::default();
        let one = ring.issue(&identity, 1000).unwrap();
        let two = ring.issue(&identity, 1000).unwrap();
        let proof = one.secret.prove(b"hello");
        assert_eq!(ring.find(b"hello", &proof, 1599), Ok(one.secret));
        assert_eq!(ring.find(b"another hello", &proof, 1599), Err(SecretRefused::Unknown));
        ring.spend(one.secret);
        assert_eq!(ring.find(b"hello", &proof, 1599), Err(SecretRefused::Used));
        let proof = two.secret.prove(b"hello");
        assert_eq!(ring.find(b"hello", &proof, 1600), Err(SecretRefused::Expired));
    }

    #[test]
    fn issuing_without_end_stays_bounded_and_keeps_the_newest() {
        let identity = Identity::generate().unwrap();
        let mut ring = KeyRing::default();
        for _ in 0..10 * ISSUED_MAX {
            ring.issue(&identity, 5).unwrap();
        }
        let newest = ring.issue(&identity, 5).unwrap();
        assert_eq!(ring.issued.len(), ISSUED_MAX);
        assert!(ring.find(b"m", &newest.secret.prove(b"m"), 6).is_ok());
    }
}
