//! The file that says whose directory this is.
//!
//! Bytes: docs/format.md, "Superblock": magic, version, array id, name, CRC32C. Written once, before anything else.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use metropod_protocol::ArrayId;

const MAGIC: [u8; 8] = *b"MPODARRY";
const VERSION: u16 = 1;
const FILE: &str = "superblock";

/// Longest superblock, in bytes.
const BYTES_MAX: usize = 8 + 2 + 16 + 1 + 63 + 4;

/// What a superblock says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// The array.
    pub array: ArrayId,
    /// Its name.
    pub name: String,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SuperblockError {
    /// The file cannot be read or written.
    #[error("cannot use {path}: {source}; give another directory with --data, or make this one usable")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory holds something else.
    #[error("{directory} is not empty and has no metropod superblock; give the array an empty directory")]
    ForeignFiles {
        /// Which.
        directory: PathBuf,
    },
    /// The directory is a mediator's.
    #[error("{directory} is a mediator's directory; give the array a directory of its own")]
    Mediator {
        /// Which.
        directory: PathBuf,
    },
    /// The array's key is gone, and with it the array.
    #[error("{directory} holds an array but not its identity; restore the file identity from a copy")]
    NoIdentity {
        /// Which.
        directory: PathBuf,
    },
    /// The file is something else.
    #[error("{path} is not a metropod superblock; give the array a directory of its own")]
    WrongMagic {
        /// Which.
        path: PathBuf,
    },
    /// Another format version.
    #[error(
        "{path} has format version {found}; this binary reads version {VERSION}: use the release that wrote it"
    )]
    WrongVersion {
        /// Which.
        path: PathBuf,
        /// Its version.
        found: u16,
    },
    /// The check does not match.
    #[error("{path} is damaged; restore it from a copy")]
    Damaged {
        /// Which.
        path: PathBuf,
    },
    /// The identity beside it belongs to another array.
    #[error(
        "the identity in {directory} does not belong to the array in its superblock; restore the right one"
    )]
    AnotherArray {
        /// Which.
        directory: PathBuf,
    },
    /// The array has another name.
    #[error("{directory} belongs to the array named {stored}; start it with --name {stored}")]
    AnotherName {
        /// Which.
        directory: PathBuf,
        /// The name it has.
        stored: String,
    },
}

/// Reads a directory's superblock; `None` if there is none.
pub fn read(directory: &Path) -> Result<Option<Superblock>, SuperblockError> {
    let path = directory.join(FILE);
    let mut bytes = Vec::new();
    // A byte more than any superblock has: whatever lies there is not read into memory whole.
    let read = |file: fs::File| file.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
    match fs::File::open(&path).and_then(read) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(SuperblockError::File { path, source }),
    };
    decode(&path, &bytes).map(Some)
}

/// Checks that the directory is this array's, or makes it so if it is new.
pub fn claim(directory: &Path, mine: &Superblock) -> Result<(), SuperblockError> {
    match read(directory)? {
        Some(found) if found.array != mine.array => {
            Err(SuperblockError::AnotherArray { directory: directory.to_owned() })
        }
        Some(found) if found.name != mine.name => {
            Err(SuperblockError::AnotherName { directory: directory.to_owned(), stored: found.name })
        }
        Some(_) => Ok(()),
        None => write(directory, mine),
    }
}

/// Refuses a directory that holds files of somebody else, or an array whose key is gone: a new one would be made.
pub fn check_foreign(directory: &Path) -> Result<(), SuperblockError> {
    let unreadable = |source| SuperblockError::File { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(unreadable(source)),
    };
    let (mut own, mut identity, mut mediator, mut foreign) = (false, false, false, false);
    for entry in entries {
        match entry.map_err(unreadable)?.file_name().to_str() {
            Some(FILE) => own = true,
            Some("identity") => identity = true,
            Some("registers") => mediator = true,
            // What a first start leaves behind when it dies before the superblock, and what mkfs leaves.
            Some("lock" | "identity.new" | "superblock.new" | "lost+found") => {}
            _ => foreign = true,
        }
    }
    let directory = || directory.to_owned();
    match (own, identity) {
        (true, true) => Ok(()),
        (true, false) => Err(SuperblockError::NoIdentity { directory: directory() }),
        (false, _) if mediator => Err(SuperblockError::Mediator { directory: directory() }),
        (false, _) if foreign => Err(SuperblockError::ForeignFiles { directory: directory() }),
        (false, _) => Ok(()),
    }
}

fn write(directory: &Path, superblock: &Superblock) -> Result<(), SuperblockError> {
    let path = directory.join(FILE);
    let fail = |source| SuperblockError::File { path: path.clone(), source };
    let temporary = directory.join("superblock.new");
    let mut file = fs::File::create(&temporary).map_err(fail)?;
    file.write_all(&encode(superblock)).map_err(fail)?;
    file.sync_all().map_err(fail)?;
    fs::rename(&temporary, &path).map_err(fail)?;
    fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(fail)
}

pub(crate) fn encode(superblock: &Superblock) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BYTES_MAX);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&superblock.array.0);
    bytes.push(u8::try_from(superblock.name.len()).expect("a name has at most 63 bytes"));
    bytes.extend_from_slice(superblock.name.as_bytes());
    let check = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&check.to_le_bytes());
    bytes
}

pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<Superblock, SuperblockError> {
    let path = || path.to_owned();
    if bytes.len() < 10 || bytes[..8] != MAGIC {
        return Err(SuperblockError::WrongMagic { path: path() });
    }
    let found = u16::from_le_bytes([bytes[8], bytes[9]]);
    if found != VERSION {
        return Err(SuperblockError::WrongVersion { path: path(), found });
    }
    let parts = || -> Option<Superblock> {
        let length = usize::from(*bytes.get(26)?);
        let (content, check) = bytes.split_at_checked(27 + length)?;
        if crc32c::crc32c(content).to_le_bytes() != check {
            return None;
        }
        let name = std::str::from_utf8(&content[27..]).ok()?.to_owned();
        Some(Superblock { array: ArrayId(content[10..26].try_into().ok()?), name })
    };
    parts().ok_or_else(|| SuperblockError::Damaged { path: path() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mine() -> Superblock {
        Superblock { array: ArrayId([7; 16]), name: "A".into() }
    }

    #[test]
    fn a_claimed_directory_is_refused_to_others_and_to_another_name() {
        let directory = tempfile::tempdir().unwrap();
        claim(directory.path(), &mine()).unwrap();
        claim(directory.path(), &mine()).unwrap();
        let other = Superblock { array: ArrayId([8; 16]), name: "A".into() };
        assert!(matches!(claim(directory.path(), &other), Err(SuperblockError::AnotherArray { .. })));
        let renamed = Superblock { name: "B".into(), ..mine() };
        assert!(matches!(claim(directory.path(), &renamed), Err(SuperblockError::AnotherName { .. })));
    }

    /// docs/format.md, "Superblock": a change here is a change of format.
    #[test]
    fn the_bytes_of_a_superblock_are_frozen() {
        let superblock = Superblock { name: "site-A".into(), ..mine() };
        let bytes = encode(&superblock);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "4d504f444152525901000707070707070707070707070707070706736974652d4146aae72d");
        assert_eq!(decode(Path::new(FILE), &bytes).unwrap(), superblock);
    }

    #[test]
    fn damage_foreign_files_and_versions_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let mut bytes = encode(&mine());
        bytes[12] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(read(directory.path()), Err(SuperblockError::Damaged { .. })));
        bytes[8] = 9;
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(read(directory.path()), Err(SuperblockError::WrongVersion { found: 9, .. })));
        fs::write(&path, b"hello, world").unwrap();
        assert!(matches!(read(directory.path()), Err(SuperblockError::WrongMagic { .. })));
        fs::remove_file(&path).unwrap();
        fs::write(directory.path().join("letters.txt"), b"dear").unwrap();
        assert!(matches!(check_foreign(directory.path()), Err(SuperblockError::ForeignFiles { .. })));
        fs::create_dir(directory.path().join("registers")).unwrap();
        assert!(matches!(check_foreign(directory.path()), Err(SuperblockError::Mediator { .. })));
        fs::write(&path, encode(&mine())).unwrap();
        assert!(matches!(check_foreign(directory.path()), Err(SuperblockError::NoIdentity { .. })));
        fs::write(directory.path().join("identity"), b"").unwrap();
        assert!(check_foreign(directory.path()).is_ok());
    }
}
