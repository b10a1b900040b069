//! Whether a directory may be a mediator's.
//!
//! - D1: nothing is made in a directory that is somebody else's; above all an array's key never becomes a mediator's.
//! - D2: a mediator whose key is gone is not made anew: arrays know it by that key.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why a directory cannot be a mediator's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// It cannot be listed.
    #[error("cannot use {path}: {source}; give another directory with --data, or make this one usable")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is an array's.
    #[error("{path} is an array's directory; give the mediator a directory of its own")]
    Array {
        /// Which.
        path: PathBuf,
    },
    /// It holds something else.
    #[error("{path} is not empty and no mediator's directory; give the mediator an empty directory")]
    ForeignFiles {
        /// Which.
        path: PathBuf,
    },
    /// The mediator's key is gone, and with it the mediator.
    #[error("{path} holds a mediator but not its identity; restore the file identity from a copy")]
    NoIdentity {
        /// Which.
        path: PathBuf,
    },
}

/// Refuses a directory that is not a mediator's and not a new one.
pub(super) fn check(directory: &Path) -> Result<(), DirectoryError> {
    let path = || directory.to_owned();
    let unreadable = |source| DirectoryError::Unreadable { path: path(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(unreadable(source)),
    };
    let (mut identity, mut registers, mut enrolled, mut foreign) = (false, false, false, false);
    for entry in entries {
        match entry.map_err(unreadable)?.file_name().to_str() {
            Some("superblock") => return Err(DirectoryError::Array { path: path() }),
            Some("identity") => identity = true,
            Some("registers") => registers = true,
            Some("arrays") => enrolled = true,
            Some("lock" | "identity.new" | "arrays.new" | "lost+found") => {}
            _ => foreign = true,
        }
    }
    if foreign && !registers {
        return Err(DirectoryError::ForeignFiles { path: path() });
    }
    if (registers || enrolled) && !identity {
        return Err(DirectoryError::NoIdentity { path: path() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_new_directory_and_a_mediators_own_are_taken() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path();
        assert!(check(&path.join("missing")).is_ok());
        assert!(check(path).is_ok());
        fs::write(path.join("letters"), "dear").unwrap();
        assert!(matches!(check(path), Err(DirectoryError::ForeignFiles { .. })));
        fs::create_dir(path.join("registers")).unwrap();
        assert!(matches!(check(path), Err(DirectoryError::NoIdentity { .. })));
        fs::write(path.join("identity"), "").unwrap();
        assert!(check(path).is_ok());
        fs::write(path.join("superblock"), "").unwrap();
        assert!(matches!(check(path), Err(DirectoryError::Array { .. })));
        fs::remove_dir_all(path.join("registers")).unwrap();
        assert!(matches!(check(path), Err(DirectoryError::Array { .. })));
        assert!(matches!(check(&path.join("letters")), Err(DirectoryError::Unreadable { .. })));
    }
}
