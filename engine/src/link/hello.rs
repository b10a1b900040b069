//! What two ends tell each other before anything else, and its bytes.
//!
//! ```text
//! dialler                        listener
//!   HELLO  ───────────────────────►  version known? role served?
//!          ◄───────────────────────  HELLO, PROOF
//!   id expected? signature holds?
//!   PROOF (signature, enrolment) ─►  signature holds? known, or invited by a connection key?
//!          ◄───────────────────────  WELCOME, or REFUSED with the reason (either side, at any point)
//! ```
//! - H1: each side signs both HELLOs whole (version, roles, nonces, ids, keys, incarnations) and which side it is: nothing can be replayed
//!   into another handshake or reflected.
//! - H2: magic and version stand first and never move, so that a refusal can name both versions.

use std::fmt;

use metropod_protocol::{ArrayId, Incarnation};

use crate::identity::{PublicKey, SIGNATURE_BYTES, Signature, is_name};
use crate::wire::{Fields, FieldsError, put_text};

/// Version of this handshake and of what follows it.
pub const VERSION: u16 = 2;
/// Longest payload before a connection is authenticated.
pub(crate) const OPENING_BYTES_MAX: usize = 1024;

pub(super) const KIND_HELLO: u8 = 1;
pub(super) const KIND_PROOF: u8 = 2;
pub(super) const KIND_WELCOME: u8 = 3;
pub(super) const KIND_REFUSED: u8 = 4;

const MAGIC: [u8; 4] = *b"MPOD";
const SIGNED: &[u8] = b"metropod link hello signature\0";

/// What an end is on this connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// An array, session frames.
    ArraySync,
    /// An array, transfer.
    ArrayBulk,
    /// A mediator.
    Mediator,
    /// An array that talks to a mediator.
    MediatorClient,
}

impl Role {
    /// What the other end must be.
    pub fn partner(self) -> Role {
        match self {
            Role::ArraySync => Role::ArraySync,
            Role::ArrayBulk => Role::ArrayBulk,
            Role::Mediator => Role::MediatorClient,
            Role::MediatorClient => Role::Mediator,
        }
    }

    fn code(self) -> u8 {
        match self {
            Role::ArraySync => 1,
            Role::ArrayBulk => 2,
            Role::Mediator => 3,
            Role::MediatorClient => 4,
        }
    }

    fn from_code(code: u8) -> Option<Role> {
        [Role::ArraySync, Role::ArrayBulk, Role::Mediator, Role::MediatorClient]
            .into_iter()
            .find(|role| role.code() == code)
    }
}

/// First message of each side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Hello {
    pub role: Role,
    pub nonce: [u8; 32],
    pub id: ArrayId,
    pub public_key: PublicKey,
    pub incarnation: Incarnation,
    pub name: String,
    /// Where the sender wants to be reached; empty: at the address it is seen from, on `listen_port`.
    pub advertised: String,
    /// Port on which the sender listens; 0: it does not.
    pub listen_port: u16,
}

/// Why a HELLO was not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HelloError {
    /// Not one.
    Malformed,
    /// Of another version.
    Version(u16),
}

impl From<FieldsError> for HelloError {
    fn from(_: FieldsError) -> HelloError {
        HelloError::Malformed
    }
}

impl Hello {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.push(self.role.code());
        bytes.extend_from_slice(&self.nonce);
        bytes.extend_from_slice(&self.id.0);
        bytes.extend_from_slice(&self.public_key.0);
        bytes.extend_from_slice(&self.incarnation.0.to_le_bytes());
        bytes.extend_from_slice(&self.listen_port.to_le_bytes());
        put_text(&mut bytes, &self.name);
        put_text(&mut bytes, &self.advertised);
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Hello, HelloError> {
        let mut fields = Fields(bytes);
        if fields.array()? != MAGIC {
            return Err(HelloError::Malformed);
        }
        let version = fields.u16()?;
        if version != VERSION {
            return Err(HelloError::Version(version));
        }
        let role = Role::from_code(fields.u8()?).ok_or(HelloError::Malformed)?;
        let nonce = fields.array()?;
        let id = ArrayId(fields.array()?);
        let public_key = PublicKey(fields.array()?);
        let incarnation = Incarnation(fields.u64()?);
        let listen_port = fields.u16()?;
        let name = fields.text()?.to_owned();
        let advertised = fields.text()?.to_owned();
        fields.end()?;
        if public_key.id() != id || !is_name(&name) {
            return Err(HelloError::Malformed);
        }
        Ok(Hello { role, nonce, id, public_key, incarnation, name, advertised, listen_port })
    }
}

/// Digest of both HELLOs, the dialler's first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transcript([u8; 32]);

/// Which side signs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Dialler,
    Listener,
}

impl Transcript {
    pub fn new(dialler: &[u8], listener: &[u8]) -> Transcript {
        let mut hasher = blake3::Hasher::new_derive_key("metropod 2026-11 link hello transcript");
        for hello in [dialler, listener] {
            hasher.update(&(hello.len() as u64).to_le_bytes()).update(hello);
        }
        Transcript(*hasher.finalize().as_bytes())
    }

    /// What `side` signs, and what a connection key's secret proves.
    pub fn message(&self, side: Side) -> Vec<u8> {
        let mut message = SIGNED.to_vec();
        message.push(match side {
            Side::Dialler => 1,
            Side::Listener => 2,
        });
        message.extend_from_slice(&self.0);
        message
    }
}

/// Second message of each side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Proof {
    pub signature: Signature,
    /// Made with the secret of a connection key that the receiver issued.
    pub enrolment: Option<[u8; 32]>,
}

impl Proof {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.signature.to_vec();
        if let Some(enrolment) = &self.enrolment {
            bytes.extend_from_slice(enrolment);
        }
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<Proof> {
        let (signature, rest) = bytes.split_first_chunk::<SIGNATURE_BYTES>()?;
        let enrolment = if rest.is_empty() { None } else { Some(rest.try_into().ok()?) };
        Some(Proof { signature: *signature, enrolment })
    }
}

/// Why an end refuses the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The versions differ.
    #[error("versions differ: the refusing side speaks {refusing}, the refused side {refused}")]
    Version {
        /// Of the side that refuses.
        refusing: u16,
        /// Of the other.
        refused: u16,
    },
    /// The message was not understood.
    #[error("a message was malformed or out of turn")]
    Malformed,
    /// What the dialler is looking for is not here.
    #[error("the listener does not serve this role")]
    Role,
    /// The signature does not hold.
    #[error("the signature does not hold")]
    Signature,
    /// The array is not known here and brought no connection key.
    #[error("the array is not known here; connect the arrays with a connection key")]
    UnknownPeer,
    /// The connection key was not issued here (or before a restart).
    #[error("the connection key is not known here; issue a new one (a restart withdraws issued keys)")]
    KeyUnknown,
    /// The connection key was used before.
    #[error("the connection key was used before; issue a new one")]
    KeyUsed,
    /// The connection key is too old.
    #[error("the connection key has expired; issue a new one")]
    KeyExpired,
    /// Another connected array has that name, or the listener itself.
    #[error("the array's name is taken by another connected array; names must be unique")]
    NameTaken,
    /// Another array than expected answered.
    #[error("another array than expected answered at this address")]
    WrongPeer,
    /// The array reached itself.
    #[error("the address leads back to the same array")]
    Yourself,
    /// There is a connection already.
    #[error("another connection is kept")]
    Duplicate,
    /// As many arrays are known as can be.
    #[error("no more arrays can be made known")]
    Full,
    /// The peer could not be recorded.
    #[error("the array could not be recorded; look at the listener's log")]
    NotRecorded,
    /// The listener is stopping.
    #[error("the listener is stopping")]
    Stopping,
}

impl Refusal {
    const PLAIN: [Refusal; 14] = [
        Refusal::Malformed,
        Refusal::Role,
        Refusal::Signature,
        Refusal::UnknownPeer,
        Refusal::KeyUnknown,
        Refusal::KeyUsed,
        Refusal::KeyExpired,
        Refusal::NameTaken,
        Refusal::WrongPeer,
        Refusal::Yourself,
        Refusal::Duplicate,
        Refusal::Full,
        Refusal::NotRecorded,
        Refusal::Stopping,
    ];

    /// Code, then the two versions (zero where they do not matter).
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (code, refusing, refused) = match self {
            Refusal::Version { refusing, refused } => (0, *refusing, *refused),
            plain => {
                let place = Refusal::PLAIN.iter().position(|known| known == plain);
                (place.expect("every plain refusal is listed") as u8 + 1, VERSION, VERSION)
            }
        };
        let mut bytes = vec![code];
        bytes.extend_from_slice(&refusing.to_le_bytes());
        bytes.extend_from_slice(&refused.to_le_bytes());
        bytes
    }

    /// An unknown code is a later version's and reads as `Malformed`; what follows the known fields is left for later versions.
    pub(crate) fn decode(bytes: &[u8]) -> Refusal {
        let mut fields = Fields(bytes);
        let (Ok(code), Ok(refusing), Ok(refused)) = (fields.u8(), fields.u16(), fields.u16()) else {
            return Refusal::Malformed;
        };
        match code {
            0 => Refusal::Version { refusing, refused },
            code => Refusal::PLAIN.get(usize::from(code) - 1).copied().unwrap_or(Refusal::Malformed),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::ArraySync => "array (sync)",
            Role::ArrayBulk => "array (bulk)",
            Role::Mediator => "mediator",
            Role::MediatorClient => "mediator client",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    fn hello() -> Hello {
        let identity = Identity::generate().unwrap();
        Hello {
            role: Role::ArrayBulk,
            nonce: [9; 32],
            id: identity.id(),
            public_key: identity.public_key(),
            incarnation: Incarnation(77),
            name: "site-A".to_owned(),
            advertised: "10.0.0.1:7750".to_owned(),
            listen_port: 7750,
        }
    }

    #[test]
    fn a_hello_survives_its_bytes_and_fits_before_authentication() {
        let mut hello = hello();
        assert_eq!(Hello::decode(&hello.encode()), Ok(hello.clone()));
        hello.name = "n".repeat(63);
        hello.advertised = "a".repeat(255);
        assert!(hello.encode().len() <= OPENING_BYTES_MAX);
    }

    #[test]
    fn a_hello_cut_lengthened_or_with_another_key_is_refused() {
        let hello = hello();
        let bytes = hello.encode();
        for length in 0..bytes.len() {
            assert_eq!(Hello::decode(&bytes[..length]), Err(HelloError::Malformed));
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Hello::decode(&longer), Err(HelloError::Malformed));
        let other = Hello { public_key: Identity::generate().unwrap().public_key(), ..hello.clone() };
        assert_eq!(Hello::decode(&other.encode()), Err(HelloError::Malformed));
        let unnamed = Hello { name: "no spaces".to_owned(), ..hello };
        assert_eq!(Hello::decode(&unnamed.encode()), Err(HelloError::Malformed));
    }

    #[test]
    fn the_version_is_read_whatever_follows_it() {
        let bytes = [&b"MPOD"[..], &7u16.to_le_bytes(), b"something else altogether"].concat();
        assert_eq!(Hello::decode(&bytes), Err(HelloError::Version(7)));
    }

    #[test]
    fn refusals_survive_their_bytes_and_unknown_ones_are_bounded() {
        for refusal in Refusal::PLAIN.into_iter().chain([Refusal::Version { refusing: 1, refused: 2 }]) {
            assert_eq!(Refusal::decode(&refusal.encode()), refusal);
        }
        for code in 0..=255 {
            Refusal::decode(&[code, 1, 0, 1, 0, 99]);
        }
        assert_eq!(Refusal::decode(&[]), Refusal::Malformed);
    }
}
