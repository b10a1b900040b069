//! Where the demo keeps its arrays' files: the directory given, or a fresh one that is removed at the end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// A directory that is empty at the start and takes direct I/O.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    remove: bool,
}

/// Why a directory does not do.
#[derive(Debug, thiserror::Error)]
pub(super) enum DirectoryError {
    #[error("cannot use {path}: {source}; give another directory with --data")]
    Unusable { path: PathBuf, source: io::Error },
    #[error("{path} is not empty; give an empty or new directory with --data")]
    NotEmpty { path: PathBuf },
    #[error(
        "{path} does not take direct I/O ({source}), which durable writes need; give a directory on a disk with --data"
    )]
    NotDirect { path: PathBuf, source: io::Error },
}

impl Directory {
    /// `given`, or a fresh one under `target/` here or else under the system's temporary directory.
    pub(super) fn new(given: Option<&Path>) -> Result<Directory, DirectoryError> {
        let directory = match given {
            Some(path) => Directory { path: path.to_owned(), remove: false },
            None => Directory { path: fresh(), remove: true },
        };
        let unusable = |source| DirectoryError::Unusable { path: directory.path.clone(), source };
        fs::create_dir_all(&directory.path).map_err(unusable)?;
        if fs::read_dir(&directory.path).map_err(unusable)?.next().is_some() {
            return Err(DirectoryError::NotEmpty { path: directory.path.clone() });
        }
        directory.check_direct()?;
        Ok(directory)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves everything where it is: somebody will want to look.
    pub(super) fn keep(&mut self) {
        self.remove = false;
    }

    /// What becomes of it at the end, in words.
    pub(super) fn fate(&self) -> String {
        let fate = if self.remove { "are removed" } else { "are kept" };
        format!("the files in {} {fate}; run it again when you like", self.path.display())
    }

    fn check_direct(&self) -> Result<(), DirectoryError> {
        let probe = self.path.join("direct-io-probe");
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::DIRECT | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&probe, flags, Mode::RUSR | Mode::WUSR);
        // Absent if it could not be made.
        let _removed = fs::remove_file(&probe);
        match opened {
            Ok(_) => Ok(()),
            Err(error) => Err(DirectoryError::NotDirect { path: self.path.clone(), source: error.into() }),
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.remove {
            // What cannot be removed stays; the system's temporary directory is cleaned by others.
            let _removed = fs::remove_dir_all(&self.path);
        }
    }
}

fn fresh() -> PathBuf {
    let target = Path::new("target");
    let base = if target.is_dir() { target.to_owned() } else { std::env::temp_dir() };
    base.join(format!("metropod-demo-{}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_in_use_is_refused_and_one_given_is_kept() {
        let outer = tempfile::tempdir_in(".").unwrap();
        let path = outer.path().join("new");
        drop(Directory::new(Some(&path)).unwrap());
        assert!(path.is_dir());
        fs::write(path.join("letter"), "dear").unwrap();
        assert!(matches!(Directory::new(Some(&path)), Err(DirectoryError::NotEmpty { .. })));
        assert!(path.join("letter").is_file());
    }
}
