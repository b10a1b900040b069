//! Simulated media: files in memory that lose, tear and reorder what was not synced.
//!
//! Each file keeps its durable content and the list of writes since; reads see all of them. [`SimMedia::crash`]
//! decides by a seed which sectors of the unsynced writes survive.
//!
//! - S1: content at the last successful sync always survives.
//! - S2: of later writes any subset of sectors may survive (M2); of unsynced names any subset.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Cause, Create, Doing, Durability, FileId, Media, MediaError, Open};

/// Files in memory with the failure model of M1–M3; clones share the files.
#[derive(Clone, Default)]
pub struct SimMedia {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Default)]
struct Disk {
    files: BTreeMap<u64, Vec<u8>>,
    names: BTreeMap<String, u64>,
    next_file: u64,
}

impl SimMedia {
    /// Empty media.
    pub fn new() -> SimMedia {
        SimMedia::default()
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn err<T>(doing: Doing, cause: Cause) -> Result<T, MediaError> {
    Err(MediaError { doing, cause })
}

impl Media for SimMedia {
    fn list(&self, dir: &str) -> Result<Vec<String>, MediaError> {
        let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        let disk = self.lock();
        Ok(disk
            .names
            .keys()
            .filter_map(|name| name.strip_prefix(prefix.as_str()))
            .filter(|rest| !rest.contains('/'))
            .map(str::to_owned)
            .collect())
    }

    fn open(&self, path: &str, how: Open) -> Result<FileId, MediaError> {
        let mut disk = self.lock();
        match (disk.names.get(path).copied(), how.create) {
            (Some(_), Create::New) => err(Doing::Open, Cause::Exists),
            (Some(id), _) => Ok(FileId(id)),
            (None, Create::Never) => err(Doing::Open, Cause::NotFound),
            (None, _) => {
                disk.next_file += 1;
                let id = disk.next_file;
                disk.files.insert(id, Vec::new());
                disk.names.insert(path.to_owned(), id);
                Ok(FileId(id))
            }
        }
    }

    fn len(&self, file: FileId) -> Result<u64, MediaError> {
        match self.lock().files.get(&file.0) {
            Some(data) => Ok(data.len() as u64),
            None => err(Doing::Length, Cause::NotOpen),
        }
    }

    fn read(&self, file: FileId, offset: u64, buffer: &mut [u8]) -> Result<(), MediaError> {
        let disk = self.lock();
        let Some(data) = disk.files.get(&file.0) else { return err(Doing::Read, Cause::NotOpen) };
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        match data.get(start..start.saturating_add(buffer.len())) {
            Some(part) => {
                buffer.copy_from_slice(part);
                Ok(())
            }
            None => err(Doing::Read, Cause::PastEnd),
        }
    }

    fn write(&self, file: FileId, offset: u64, parts: &[&[u8]], _: Durability) -> Result<(), MediaError> {
        let mut disk = self.lock();
        let Some(data) = disk.files.get_mut(&file.0) else { return err(Doing::Write, Cause::NotOpen) };
        let mut at = offset as usize;
        for part in parts {
            if data.len() < at + part.len() {
                data.resize(at + part.len(), 0);
            }
            data[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        Ok(())
    }

    fn sync(&self, _: FileId) -> Result<(), MediaError> {
        Ok(())
    }

    fn sync_dir(&self, _: &str) -> Result<(), MediaError> {
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), MediaError> {
        let mut disk = self.lock();
        match disk.names.remove(from) {
            Some(id) => {
                disk.names.insert(to.to_owned(), id);
                Ok(())
            }
            None => err(Doing::Rename, Cause::NotFound),
        }
    }

    fn remove(&self, path: &str) -> Result<(), MediaError> {
        match self.lock().names.remove(path) {
            Some(_) => Ok(()),
            None => err(Doing::Remove, Cause::NotFound),
        }
    }

    fn close(&self, _: FileId) {}
}
