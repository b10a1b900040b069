//! A test's own directory, on a real disk.

use std::path::{Path, PathBuf};

/// A directory that is empty at the start, and removed at the end unless the test failed.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

/// A [`Scratch`] under the build directory; arrays need direct I/O, which a temporary file system lacks.
#[macro_export]
macro_rules! scratch {
    ($name:literal) => {
        $crate::Scratch::new(env!("CARGO_TARGET_TMPDIR"), $name)
    };
}

impl Scratch {
    /// `name` must be the test's own.
    pub fn new(base: &str, name: &str) -> Scratch {
        let path = Path::new(base).join(format!("{name}-{}", std::process::id()));
        // Left behind by an earlier process of the same id, if at all.
        let _removed = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap_or_else(|error| panic!("cannot make {path:?}: {error}"));
        Scratch { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("files of the failed test: {}", self.path.display());
        } else {
            // What cannot be removed is in the build directory, which is nobody's to keep.
            let _removed = std::fs::remove_dir_all(&self.path);
        }
    }
}
