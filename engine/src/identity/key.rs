//! The Ed25519 key that is an array, made at its first start and kept in the file `identity`.
//!
//! - K1: the file is whole or absent; once there it is never replaced.
//! - K2: a key that others may read is not used.
//!
//! Bytes of the file: magic 8, seed 32, public key 32, CRC32C 4.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use metropod_protocol::{ArrayId, MediatorId};

use super::file;
use crate::wire::Fields;

const MAGIC: [u8; 8] = *b"MPIDENT\x01";
const FILE_BYTES: usize = 8 + 32 + 32 + 4;
const FILE_MODE: u32 = 0o600;

/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// A signature.
pub type Signature = [u8; SIGNATURE_BYTES];

/// Why an identity could not be opened or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The file system failed.
    #[error("{path}: identity file failed while {doing}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Others may read the private key.
    #[error(
        "{path}: mode {mode:04o} lets others read the private key; chmod 600 it, or make a new array if it may have been read"
    )]
    OpenToOthers {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The content is not an identity, or damaged. It cannot be made again: restore it.
    #[error(
        "{path}: not an identity, or damaged; restore it from a copy (without it the array is another array)"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// The system gave no random numbers.
    #[error("no random numbers")]
    Random(#[source] io::Error),
}

/// A public key; its id is the first 16 bytes of its BLAKE3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// The array that has this key.
    pub fn id(&self) -> ArrayId {
        let mut id = [0; 16];
        id.copy_from_slice(&blake3::hash(&self.0).as_bytes()[..16]);
        ArrayId(id)
    }

    /// Whether the owner of this key signed `message`.
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| {
            key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
        })
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:02x}{:02x}{:02x}{:02x})", self.0[0], self.0[1], self.0[2], self.0[3])
    }
}

/// An array's (or a mediator's) key pair.
pub struct Identity {
    signing: SigningKey,
    public_key: PublicKey,
    id: ArrayId,
}

impl Identity {
    /// Reads `directory/identity`, or makes it.
    pub fn open_or_create(directory: &Path) -> Result<Identity, IdentityError> {
        let path = directory.join("identity");
        if let Some(identity) = Identity::read(&path)? {
            return Ok(identity);
        }
        let identity = Identity::generate()?;
        let mut bytes = Vec::with_capacity(FILE_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(identity.signing.as_bytes());
        bytes.extend_from_slice(&identity.public_key.0);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        let made = file::create(&path, &bytes, FILE_MODE).map_err(|source| IdentityError::File {
            path: path.clone(),
            doing: "making it",
            source,
        })?;
        if made {
            return Ok(identity);
        }
        // Another process made one at the same time.
        Identity::read(&path)?.ok_or(IdentityError::Damaged { path })
    }

    /// A new identity that is kept nowhere.
    pub fn generate() -> Result<Identity, IdentityError> {
        let mut seed = [0; 32];
        fill_random(&mut seed).map_err(IdentityError::Random)?;
        Ok(Identity::from_seed(&seed))
    }

    /// This array's id.
    pub fn id(&self) -> ArrayId {
        self.id
    }

    /// The same id, of a mediator.
    pub fn mediator_id(&self) -> MediatorId {
        MediatorId(self.id.0)
    }

    /// The public key.
    pub fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// Signs.
    pub fn sign(&self, message: &[u8]) -> Signature {
        self.signing.sign(message).to_bytes()
    }

    fn from_seed(seed: &[u8; 32]) -> Identity {
        let signing = SigningKey::from_bytes(seed);
        let public_key = PublicKey(signing.verifying_key().to_bytes());
        Identity { id: public_key.id(), signing, public_key }
    }

    fn read(path: &Path) -> Result<Option<Identity>, IdentityError> {
        let failed = |doing| move |source| IdentityError::File { path: path.to_owned(), doing, source };
        let mode = match fs::metadata(path) {
            Ok(metadata) => metadata.permissions().mode() & 0o7777,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("looking at it")(error)),
        };
        if mode & 0o077 != 0 {
            return Err(IdentityError::OpenToOthers { path: path.to_owned(), mode });
        }
        let Some(bytes) = file::read(path).map_err(failed("reading it"))? else { return Ok(None) };
        match decode(&bytes) {
            Some(identity) => Ok(Some(identity)),
            None => Err(IdentityError::Damaged { path: path.to_owned() }),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:?})", self.id)
    }
}

/// Random bytes of the system.
pub(crate) fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    getrandom::fill(bytes).map_err(|error| match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::ErrorKind::Unsupported.into(),
    })
}

pub(crate) fn decode(bytes: &[u8]) -> Option<Identity> {
    if bytes.len() != FILE_BYTES {
        return None;
    }
    let (content, check) = bytes.split_last_chunk::<4>()?;
    let mut fields = Fields(content);
    if crc32c::crc32c(content) != u32::from_le_bytes(*check) || fields.array().ok()? != MAGIC {
        return None;
    }
    let identity = Identity::from_seed(&fields.array().ok()?);
    (identity.public_key.0 == fields.array().ok()?).then_some(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_made_once_and_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let made = Identity::open_or_create(directory.path()).unwrap();
        let found = Identity::open_or_create(directory.path()).unwrap();
        assert_eq!(made.id(), found.id());
        assert_eq!(made.public_key(), found.public_key());
        assert_eq!(made.id(), made.public_key().id());
        let mode = fs::metadata(directory.path().join("identity")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_a_crash_left_beside_the_identity_is_not_taken_for_it() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("identity.new"), b"half").unwrap();
        let made = Identity::open_or_create(directory.path()).unwrap();
        assert_eq!(made.id(), Identity::open_or_create(directory.path()).unwrap().id());
    }

    #[test]
    fn an_identity_that_others_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        Identity::open_or_create(directory.path()).unwrap();
        let path = directory.path().join("identity");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Identity::open_or_create(directory.path()).unwrap_err();
        assert!(matches!(error, IdentityError::OpenToOthers { mode: 0o644, .. }), "{error}");
    }

    #[test]
    fn a_damaged_identity_is_refused_and_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        Identity::open_or_create(directory.path()).unwrap();
        let path = directory.path().join("identity");
        let whole = fs::read(&path).unwrap();
        for damage in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[damage] ^= 0x10;
            fs::write(&path, &bytes).unwrap();
            let error = Identity::open_or_create(directory.path()).unwrap_err();
            assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(Identity::open_or_create(directory.path()).is_err());
        }
    }

    #[test]
    fn a_signature_holds_for_its_message_and_key_only() {
        let one = Identity::generate().unwrap();
        let other = Identity::generate().unwrap();
        let signature = one.sign(b"message");
        assert!(one.public_key().verifies(b"message", &signature));
        assert!(!one.public_key().verifies(b"massage", &signature));
        assert!(!other.public_key().verifies(b"message", &signature));
        assert!(!PublicKey([0; 32]).verifies(b"message", &signature));
        assert!(!PublicKey([0xff; 32]).verifies(b"message", &signature));
    }
}
