//! A directory as media that never changes: what would be written is dropped.
//!
//! - O1: no byte and no name in the directory changes. A reader of what it wrote itself would be deceived; recovery
//!   reads everything before it writes anything (journal R2).

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metropod_journal::media::{Cause, Create, Doing, Durability, FileId, Media, MediaError, Open};

/// See the module's text.
pub(super) struct ReadOnly {
    root: PathBuf,
    /// By id; `None` stands for a file that was to be created, or was closed.
    files: Mutex<Vec<Option<Arc<File>>>>,
}

impl ReadOnly {
    pub(super) fn new(root: &Path) -> ReadOnly {
        ReadOnly { root: root.to_owned(), files: Mutex::default() }
    }

    fn files(&self) -> MutexGuard<'_, Vec<Option<Arc<File>>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, id: FileId, doing: Doing) -> Result<Arc<File>, MediaError> {
        let found = usize::try_from(id.0).ok().and_then(|at| self.files().get(at).cloned().flatten());
        found.ok_or(MediaError { doing, cause: Cause::NotOpen })
    }

    fn path(&self, path: &str, doing: Doing) -> Result<PathBuf, MediaError> {
        let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        if path.is_empty() || path.split('/').all(plain) {
            Ok(self.root.join(path))
        } else {
            Err(MediaError { doing, cause: Cause::BadPath })
        }
    }

    fn add(&self, file: Option<File>) -> FileId {
        let mut files = self.files();
        files.push(file.map(Arc::new));
        FileId(files.len() as u64 - 1)
    }
}

impl Media for ReadOnly {
    fn list(&self, dir: &str) -> Result<Vec<String>, MediaError> {
        let entries = match std::fs::read_dir(self.path(dir, Doing::List)?) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(Doing::List, &error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| failed(Doing::List, &error))?;
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                names.extend(entry.file_name().into_string().ok());
            }
        }
        names.sort();
        Ok(names)
    }

    fn open(&self, path: &str, how: Open) -> Result<FileId, MediaError> {
        match File::open(self.path(path, Doing::Open)?) {
            Ok(file) => Ok(self.add(Some(file))),
            Err(error) if error.kind() == ErrorKind::NotFound && how.create != Create::Never => {
                Ok(self.add(None))
            }
            Err(error) => Err(failed(Doing::Open, &error)),
        }
    }

    fn len(&self, file: FileId) -> Result<u64, MediaError> {
        let metadata = self.file(file, Doing::Length)?.metadata();
        metadata.map(|metadata| metadata.len()).map_err(|error| failed(Doing::Length, &error))
    }

    fn read(&self, file: FileId, offset: u64, buffer: &mut [u8]) -> Result<(), MediaError> {
        let read = self.file(file, Doing::Read)?.read_exact_at(buffer, offset);
        read.map_err(|error| failed(Doing::Read, &error))
    }

    fn write(&self, _: FileId, _: u64, _: &[&[u8]], _: Durability) -> Result<(), MediaError> {
        Ok(())
    }

    fn sync(&self, _: FileId) -> Result<(), MediaError> {
        Ok(())
    }

    fn sync_dir(&self, _: &str) -> Result<(), MediaError> {
        Ok(())
    }

    fn rename(&self, _: &str, _: &str) -> Result<(), MediaError> {
        Ok(())
    }

    fn remove(&self, _: &str) -> Result<(), MediaError> {
        Ok(())
    }

    fn close(&self, file: FileId) {
        if let Ok(at) = usize::try_from(file.0)
            && let Some(slot) = self.files().get_mut(at)
        {
            *slot = None;
        }
    }
}

fn failed(doing: Doing, error: &std::io::Error) -> MediaError {
    let cause = match error.kind() {
        ErrorKind::NotFound => Cause::NotFound,
        ErrorKind::UnexpectedEof => Cause::PastEnd,
        _ => Cause::Device(error.raw_os_error().unwrap_or(0)),
    };
    MediaError { doing, cause }
}
