//! The files of a directory as they are at one moment, to be compared, damaged and put back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every file's content, by its path below the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    directory: PathBuf,
    contents: BTreeMap<PathBuf, Vec<u8>>,
}

impl Files {
    /// Reads all of them.
    pub fn read(directory: &Path) -> Files {
        let mut files = Files { directory: directory.to_owned(), contents: BTreeMap::new() };
        files.collect(directory);
        files
    }

    /// Paths that begin with `start`, in order.
    pub fn paths(&self, start: &str) -> Vec<PathBuf> {
        let matches = |path: &&PathBuf| path.display().to_string().starts_with(start);
        self.contents.keys().filter(matches).cloned().collect()
    }

    /// The first path that begins with `start`, which must be there.
    pub fn first(&self, start: &str) -> PathBuf {
        self.paths(start).into_iter().next().unwrap_or_else(|| panic!("{start} in {:?}", self.directory))
    }

    /// The content of one.
    pub fn content(&self, path: &Path) -> &[u8] {
        &self.contents[path]
    }

    /// Puts these files into `directory`, in place of all that begin with one of `starts` there.
    pub fn put(&self, directory: &Path, starts: &[&str]) {
        for start in starts {
            for path in Files::read(directory).paths(start) {
                remove(&directory.join(path));
            }
            for path in self.paths(start) {
                let to = directory.join(&path);
                fs::create_dir_all(to.parent().expect("it is in the directory"))
                    .unwrap_or_else(|error| panic!("{to:?}: {error}"));
                fs::write(&to, &self.contents[&path]).unwrap_or_else(|error| panic!("{to:?}: {error}"));
                if path == Path::new("identity") {
                    private(&to);
                }
            }
        }
    }

    /// Makes the directory what it was; `but` may differ.
    pub fn restore(&self, but: &[&str]) {
        let now = Files::read(&self.directory);
        for path in now.contents.keys().filter(|path| !self.contents.contains_key(*path)) {
            remove(&self.directory.join(path));
        }
        let differs = |path: &&PathBuf| now.contents.get(*path) != self.contents.get(*path);
        for path in self.contents.keys().filter(differs).filter(|path| !is_one_of(path, but)) {
            self.put(&self.directory, &[&path.display().to_string()]);
        }
    }

    /// The directory must still be like this; `but` may differ.
    pub fn assert_unchanged(&self, but: &[&str], what: &str) {
        let now = Files::read(&self.directory);
        let (before, after): (Vec<_>, Vec<_>) = [self, &now]
            .map(|files| files.contents.iter().filter(|(path, _)| !is_one_of(path, but)).collect::<Vec<_>>())
            .into();
        let names = |files: &[(&PathBuf, &Vec<u8>)]| -> Vec<(PathBuf, usize)> {
            files.iter().map(|(path, bytes)| ((*path).clone(), bytes.len())).collect()
        };
        assert_eq!(names(&before), names(&after), "{what}: names and lengths");
        for (old, new) in before.iter().zip(&after) {
            assert!(old == new, "{what}: {:?} was changed", old.0);
        }
    }

    fn collect(&mut self, directory: &Path) {
        let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{directory:?}: {error}"));
        for entry in entries {
            let path = entry.unwrap_or_else(|error| panic!("{directory:?}: {error}")).path();
            if path.is_dir() {
                self.collect(&path);
                continue;
            }
            let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            let below = path.strip_prefix(&self.directory).expect("it was listed there").to_owned();
            self.contents.insert(below, bytes);
        }
    }
}

fn is_one_of(path: &Path, names: &[&str]) -> bool {
    names.iter().any(|name| path == Path::new(name))
}

fn remove(path: &Path) {
    fs::remove_file(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
}

/// Keys that others may read are refused.
fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(path, mode).unwrap_or_else(|error| panic!("{path:?}: {error}"));
}
