//! A directory of a real file system as media.
//!
//! Paths are relative to the directory and are opened beneath its descriptor. Calls block; they run on any thread,
//! and none holds the table of open files while it waits for the device.
//!
//! - R1: one process owns the directory: an exclusive `flock` on the file `lock` lives as long as the value, or until
//!   [`RealMedia::release`].
//! - R2: a write with [`Durability::Durable`] is one `pwritev2(RWF_DSYNC)`, or is followed by `fdatasync` where the
//!   file system lacks it.
//! - R3: a directory created for a new file is durable in its parent before the file is created.
//! - R4: direct files see aligned memory only; callers' memory that is not is copied through an [`AlignedBuf`].

use std::collections::BTreeMap;
use std::io::{IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustix::fs::{Advice, AtFlags, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::{
    AlignedBuf, Cause, Create, DIRECT_ALIGN_BYTES, Doing, Durability, FileId, Media, MediaError, Open,
    check_path,
};

/// File that carries the lock of R1.
const LOCK_FILE: &str = "lock";

/// Largest number of parts in one system call (IOV_MAX of Linux).
const PARTS_PER_CALL: usize = 1024;

const FILE_MODE: Mode = Mode::from_raw_mode(0o640);
const DIR_MODE: Mode = Mode::from_raw_mode(0o750);

/// Why a directory could not be taken as media.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenDirError {
    /// Another process serves this directory.
    #[error("{} is in use by another process; stop it first", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// There is no such directory.
    #[error("{} does not exist; is its file system mounted?", dir.display())]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// The file system refused.
    #[error("cannot use {} as the array's directory: {source}; give another one with --data, or make it writable", dir.display())]
    Device {
        /// The directory.
        dir: PathBuf,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
}

struct OpenFile {
    descriptor: OwnedFd,
    direct: bool,
}

#[derive(Default)]
struct Table {
    files: BTreeMap<u64, Arc<OpenFile>>,
    opened: u64,
}

/// The files under one directory.
pub struct RealMedia {
    root: OwnedFd,
    table: RwLock<Table>,
    /// Held for R1; closing it lets the directory go.
    lock: Mutex<Option<OwnedFd>>,
}

impl RealMedia {
    /// Takes an existing directory.
    pub fn open(dir: &Path) -> Result<RealMedia, OpenDirError> {
        let refused = |errno: Errno| match errno {
            Errno::NOENT => OpenDirError::Missing { dir: dir.to_owned() },
            other => OpenDirError::Device { dir: dir.to_owned(), source: other.into() },
        };
        let root = rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(refused)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let lock = rustix::fs::openat(&root, LOCK_FILE, flags, FILE_MODE).map_err(refused)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
            Errno::WOULDBLOCK => OpenDirError::InUse { dir: dir.to_owned() },
            other => refused(other),
        })?;
        Ok(RealMedia { root, table: RwLock::default(), lock: Mutex::new(Some(lock)) })
    }

    /// Creates the directory when missing (with its parents, durably), then takes it.
    pub fn create(dir: &Path) -> Result<RealMedia, OpenDirError> {
        make_dir(dir).map_err(|source| OpenDirError::Device { dir: dir.to_owned(), source })?;
        RealMedia::open(dir)
    }

    /// Lets the directory go while somebody still has the value. Whoever has it may read on what is open, and must not
    /// change anything any more: the directory may be another's.
    pub fn release(&self) {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(lock);
    }

    fn file(&self, file: FileId, doing: Doing) -> Result<Arc<OpenFile>, MediaError> {
        self.table().files.get(&file.0).cloned().ok_or(MediaError { doing, cause: Cause::NotOpen })
    }

    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn dir(&self, dir: &str) -> Result<OwnedFd, Errno> {
        let path = if dir.is_empty() { "." } else { dir };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        retry(|| rustix::fs::openat(&self.root, path, flags, Mode::empty()))
    }

    fn open_at(&self, path: &str, how: Open) -> Result<OwnedFd, Errno> {
        let mut flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match how.create {
            Create::Never => {}
            Create::IfMissing => flags |= OFlags::CREATE,
            Create::New => flags |= OFlags::CREATE | OFlags::EXCL,
        }
        if how.direct {
            flags |= OFlags::DIRECT;
        }
        retry(|| rustix::fs::openat(&self.root, path, flags, FILE_MODE))
    }

    /// R3.
    fn make_parents(&self, path: &str) -> Result<(), Errno> {
        for (at, _) in path.match_indices('/') {
            match rustix::fs::mkdirat(&self.root, &path[..at], DIR_MODE) {
                Ok(()) => {
                    let above = path[..at].rsplit_once('/').map_or("", |(above, _)| above);
                    retry(|| rustix::fs::fsync(self.dir(above)?))?;
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}

impl Media for RealMedia {
    fn list(&self, dir: &str) -> Result<Vec<String>, MediaError> {
        let doing = Doing::List;
        if !dir.is_empty() {
            check_path(dir, doing)?;
        }
        let entries = match self.dir(dir).and_then(Dir::new) {
            Ok(entries) => entries,
            Err(Errno::NOENT) => return Ok(Vec::new()),
            Err(errno) => return Err(failed(doing, errno)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|errno| failed(doing, errno))?;
            // Nothing of ours has a name that is not text; whoever put such a file here may keep it.
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name != "." && name != ".." && entry.file_type() != FileType::Directory {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn open(&self, path: &str, how: Open) -> Result<FileId, MediaError> {
        let doing = Doing::Open;
        check_path(path, doing)?;
        let opened = match self.open_at(path, how) {
            Err(Errno::NOENT) if how.create != Create::Never => {
                self.make_parents(path).and_then(|()| self.open_at(path, how))
            }
            opened => opened,
        };
        let descriptor = opened.map_err(|errno| failed(doing, errno))?;
        let mut table = self.table_mut();
        table.opened += 1;
        let id = table.opened;
        table.files.insert(id, Arc::new(OpenFile { descriptor, direct: how.direct }));
        Ok(FileId(id))
    }

    fn len(&self, file: FileId) -> Result<u64, MediaError> {
        let open = self.file(file, Doing::Length)?;
        let stat = rustix::fs::fstat(&open.descriptor).map_err(|errno| failed(Doing::Length, errno))?;
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    fn read(&self, file: FileId, offset: u64, buffer: &mut [u8]) -> Result<(), MediaError> {
        let open = self.file(file, Doing::Read)?;
        if !open.direct {
            return read_exactly(&open.descriptor, offset, buffer);
        }
        check_aligned(Doing::Read, offset, buffer.len())?;
        if is_aligned(buffer) {
            return read_exactly(&open.descriptor, offset, buffer);
        }
        let mut bounce = AlignedBuf::zeroed(buffer.len());
        read_exactly(&open.descriptor, offset, bounce.as_mut_slice())?;
        buffer.copy_from_slice(bounce.as_slice());
        Ok(())
    }

    fn read_now(&self, file: FileId, offset: u64, buffer: &mut [u8]) -> bool {
        let Ok(open) = self.file(file, Doing::Read) else { return false };
        if open.direct {
            return false;
        }
        let length = buffer.len();
        let mut parts = [IoSliceMut::new(buffer)];
        // One call: what is there only in part is left to whoever may wait.
        let read = retry(|| {
            rustix::io::preadv2(open.descriptor.as_fd(), &mut parts, offset, ReadWriteFlags::NOWAIT)
        });
        read.is_ok_and(|read| read == length)
    }

    fn will_need(&self, file: FileId, offset: u64, length: u64) {
        let Ok(open) = self.file(file, Doing::Read) else { return };
        if let (false, Some(length)) = (open.direct, NonZeroU64::new(length)) {
            // Advice: whoever reads meets the error, if there is one.
            let _refused = rustix::fs::fadvise(&open.descriptor, offset, Some(length), Advice::WillNeed);
        }
    }

    fn write(
        &self,
        file: FileId,
        offset: u64,
        parts: &[&[u8]],
        durability: Durability,
    ) -> Result<(), MediaError> {
        let open = self.file(file, Doing::Write)?;
        if !open.direct {
            return write_all(&open.descriptor, offset, parts, durability);
        }
        let length = parts.iter().map(|part| part.len()).sum();
        check_aligned(Doing::Write, offset, length)?;
        let direct_enough = |part: &&[u8]| is_aligned(part) && part.len().is_multiple_of(DIRECT_ALIGN_BYTES);
        if parts.iter().all(direct_enough) {
            return write_all(&open.descriptor, offset, parts, durability);
        }
        let mut bounce = AlignedBuf::zeroed(length);
        let mut rest = bounce.as_mut_slice();
        for part in parts {
            let (head, tail) = rest.split_at_mut(part.len());
            head.copy_from_slice(part);
            rest = tail;
        }
        write_all(&open.descriptor, offset, &[bounce.as_slice()], durability)
    }

    fn sync(&self, file: FileId) -> Result<(), MediaError> {
        let open = self.file(file, Doing::Sync)?;
        // Not repeated when it fails: the kernel would call the lost pages clean (M3). EINTR is not returned here.
        rustix::fs::fdatasync(&open.descriptor).map_err(|errno| failed(Doing::Sync, errno))
    }

    fn sync_dir(&self, dir: &str) -> Result<(), MediaError> {
        if !dir.is_empty() {
            check_path(dir, Doing::Sync)?;
        }
        let synced = self.dir(dir).and_then(rustix::fs::fsync);
        synced.map_err(|errno| failed(Doing::Sync, errno))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), MediaError> {
        check_path(from, Doing::Rename)?;
        check_path(to, Doing::Rename)?;
        let renamed = rustix::fs::renameat(&self.root, from, &self.root, to);
        renamed.map_err(|errno| failed(Doing::Rename, errno))
    }

    fn remove(&self, path: &str) -> Result<(), MediaError> {
        check_path(path, Doing::Remove)?;
        let removed = rustix::fs::unlinkat(&self.root, path, AtFlags::empty());
        removed.map_err(|errno| failed(Doing::Remove, errno))
    }

    fn close(&self, file: FileId) {
        let closed = self.table_mut().files.remove(&file.0);
        // Closed outside the table's lock, and only when the last call on it has returned.
        drop(closed);
    }
}

/// Creates `dir` and its missing parents, each durable in the one above.
fn make_dir(dir: &Path) -> std::io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_dir(parent)?;
    match rustix::fs::mkdir(dir, DIR_MODE) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::fsync(rustix::fs::open(parent, flags, Mode::empty())?)?)
}

fn read_exactly(descriptor: &OwnedFd, offset: u64, buffer: &mut [u8]) -> Result<(), MediaError> {
    let mut done = 0;
    while done < buffer.len() {
        let rest = &mut buffer[done..];
        let read = retry(|| {
            rustix::io::preadv(descriptor.as_fd(), &mut [IoSliceMut::new(rest)], offset + done as u64)
        });
        match read {
            Ok(0) => return Err(MediaError { doing: Doing::Read, cause: Cause::PastEnd }),
            Ok(count) => done += count,
            Err(errno) => return Err(failed(Doing::Read, errno)),
        }
    }
    Ok(())
}

fn write_all(
    descriptor: &OwnedFd,
    offset: u64,
    parts: &[&[u8]],
    durability: Durability,
) -> Result<(), MediaError> {
    let mut at = offset;
    for group in parts.chunks(PARTS_PER_CALL) {
        let mut slices: Vec<IoSlice<'_>> = group.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest = slices.as_mut_slice();
        // Leading empty parts would look like a write that makes no progress.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match write_some(descriptor, rest, at, durability) {
                Ok(0) => return Err(MediaError { doing: Doing::Write, cause: Cause::NoSpace }),
                Ok(count) => {
                    at += count as u64;
                    IoSlice::advance_slices(&mut rest, count);
                }
                Err(errno) => return Err(failed(Doing::Write, errno)),
            }
        }
    }
    Ok(())
}

/// R2.
fn write_some(
    descriptor: &OwnedFd,
    parts: &[IoSlice<'_>],
    offset: u64,
    durability: Durability,
) -> Result<usize, Errno> {
    if durability == Durability::Cached {
        return retry(|| rustix::io::pwritev(descriptor, parts, offset));
    }
    match retry(|| rustix::io::pwritev2(descriptor, parts, offset, ReadWriteFlags::DSYNC)) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            let count = retry(|| rustix::io::pwritev(descriptor, parts, offset))?;
            rustix::fs::fdatasync(descriptor)?;
            Ok(count)
        }
        answer => answer,
    }
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    rustix::io::retry_on_intr(&mut call)
}

fn is_aligned(memory: &[u8]) -> bool {
    memory.as_ptr().addr().is_multiple_of(DIRECT_ALIGN_BYTES)
}

fn check_aligned(doing: Doing, offset: u64, length: usize) -> Result<(), MediaError> {
    let aligned =
        offset.is_multiple_of(DIRECT_ALIGN_BYTES as u64) && length.is_multiple_of(DIRECT_ALIGN_BYTES);
    if aligned { Ok(()) } else { Err(MediaError { doing, cause: Cause::Misaligned }) }
}

fn failed(doing: Doing, errno: Errno) -> MediaError {
    let cause = match errno {
        Errno::NOENT => Cause::NotFound,
        Errno::EXIST => Cause::Exists,
        Errno::NOSPC | Errno::DQUOT => Cause::NoSpace,
        other => Cause::Device(other.raw_os_error()),
    };
    MediaError { doing, cause }
}
