//! Simulated media: files in memory that lose, tear and reorder what was not synced.
//!
//! Each file keeps its durable content and every version of the sectors written since; reads see the newest.
//! [`SimMedia::crash`] decides by a seed what survives. Deterministic: the same calls and seeds give the same bytes.
//!
//! - S1: content at the last successful sync, and every durable write that returned `Ok`, survives a crash.
//! - S2: of later writes any subset of 512-byte sectors may survive (M2), also of a durable write that was under
//!   way; of unsynced changes of names any subset (a rename is one change).
//! - S3: after a failed sync, or one that lied, its writes never become durable unless written again (M3).
//! - S4: a handle does not outlive a crash.

mod fault;
mod file;
mod names;
mod pages;
mod random;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{
    Cause, Create, DIRECT_ALIGN_BYTES, Doing, Durability, FileId, Media, MediaError, Open, SECTOR_BYTES,
};
use fault::{DEVICE_ERROR, Faults, Verdict};
use file::{SimFile, Survival};
use names::Names;

pub use fault::{Counters, Fault, Operation};
pub use random::SplitMix;

/// Files in memory with the failure model of M1–M3; clones share the files.
#[derive(Clone, Default)]
pub struct SimMedia {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Clone, Copy)]
struct Handle {
    file: u64,
    direct: bool,
}

#[derive(Clone, Default)]
struct Disk {
    files: BTreeMap<u64, SimFile>,
    names: Names,
    handles: BTreeMap<u64, Handle>,
    next_id: u64,
    /// Sector versions written so far, over all files.
    sequence: u64,
    capacity_bytes: Option<u64>,
    faults: Faults,
    counters: Counters,
}

impl SimMedia {
    /// Empty media without limit and without faults.
    pub fn new() -> SimMedia {
        SimMedia::default()
    }

    /// Loses power and comes back: handles are gone, unsynced writes survive as `seed` decides, planned faults
    /// are forgotten.
    pub fn crash(&self, seed: u64) {
        self.lock().crash(seed);
    }

    /// The process dies, the machine does not: handles are gone, unsynced writes stay readable and unsynced.
    pub fn kill(&self) {
        let mut disk = self.lock();
        disk.handles.clear();
        disk.collect();
    }

    /// Media of its own with the same content, handles, unsynced writes and plans.
    pub fn deep_copy(&self) -> SimMedia {
        SimMedia { disk: Arc::new(Mutex::new(self.lock().clone())) }
    }

    /// Lets `effects` more effects happen; the power fails during the one after them, which may take place in
    /// part, and every call fails until [`SimMedia::crash`].
    pub fn cut_power_after(&self, effects: u64) {
        self.lock().faults.cut_power_after(effects);
    }

    /// Whether the power has failed.
    pub fn is_dark(&self) -> bool {
        self.lock().faults.dark()
    }

    /// Plans `fault` for the `nth` (1 = the next) call of `operation`, or the `nth` effect of any kind.
    pub fn fail_nth(&self, operation: Option<Operation>, nth: u64, fault: Fault) {
        self.lock().faults.plan(operation, nth, false, fault);
    }

    /// Plans `fault` for every later call of `operation`, or every effect.
    pub fn fail_always(&self, operation: Option<Operation>, fault: Fault) {
        self.lock().faults.plan(operation, 1, true, fault);
    }

    /// Forgets planned faults, and restores the power without losing anything.
    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    /// Flips one bit of a named file, in every copy: rot.
    pub fn rot(&self, path: &str, offset: u64, bit: u8) -> Result<(), MediaError> {
        let mut disk = self.lock();
        let file = disk.names.get(path).and_then(|id| disk.files.get_mut(&id));
        match file {
            None => fail(Doing::Write, Cause::NotFound),
            Some(file) if offset >= file.length() => fail(Doing::Write, Cause::PastEnd),
            Some(file) => {
                file.rot(offset, bit % 8);
                Ok(())
            }
        }
    }

    /// Limits [`SimMedia::used_bytes`]; `None` lifts the limit.
    pub fn set_capacity(&self, capacity_bytes: Option<u64>) {
        self.lock().capacity_bytes = capacity_bytes;
    }

    /// Sum of the lengths of all files that are named or open.
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// What was called so far.
    pub fn counters(&self) -> Counters {
        self.lock().counters
    }

    /// Effects so far: the unit of [`SimMedia::cut_power_after`].
    pub fn effects(&self) -> u64 {
        self.lock().faults.effects
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a call has to do about the verdict on it.
enum Course {
    Go,
    /// Do it, but make nothing durable.
    Lie,
    /// Do it, make nothing durable, then fail.
    HalfThenFail(Cause),
}

impl Disk {
    /// Counts the call and asks the plans; `Err` when it must fail without any effect.
    fn begin(&mut self, operation: Operation, doing: Doing) -> Result<Course, MediaError> {
        self.counters.add(operation);
        match self.faults.judge(operation) {
            Verdict::Go => Ok(Course::Go),
            Verdict::Fault(Fault::Lie) => Ok(Course::Lie),
            Verdict::Fault(Fault::Fail(cause)) if operation.is_effect() => Ok(Course::HalfThenFail(cause)),
            Verdict::Fault(Fault::Fail(cause)) => fail(doing, cause),
            Verdict::PowerCut => Ok(Course::HalfThenFail(DEVICE_ERROR)),
            Verdict::Dark => fail(doing, DEVICE_ERROR),
        }
    }

    fn handle(&self, file: FileId, doing: Doing) -> Result<Handle, MediaError> {
        self.handles.get(&file.0).copied().ok_or(MediaError { doing, cause: Cause::NotOpen })
    }

    fn file(&mut self, handle: Handle) -> &mut SimFile {
        self.files.get_mut(&handle.file).expect("a file lives as long as a handle names it")
    }

    /// Removed files give their space back at once, though a crash may bring them back.
    fn used_bytes(&self) -> u64 {
        let named = self.names.named();
        let held = |id: &u64| named.contains(id) || self.handles.values().any(|handle| handle.file == *id);
        self.files.iter().filter(|(id, _)| held(id)).map(|(_, file)| file.length()).sum()
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn open_handle(&mut self, file: u64, direct: bool) -> FileId {
        let id = self.fresh_id();
        self.handles.insert(id, Handle { file, direct });
        FileId(id)
    }

    /// Drops files that neither a name nor a handle can reach, now or after a crash.
    fn collect(&mut self) {
        let mut reachable = self.names.reachable();
        reachable.extend(self.handles.values().map(|handle| handle.file));
        self.files.retain(|id, _| reachable.contains(id));
    }

    fn crash(&mut self, seed: u64) {
        let mut random = SplitMix::new(seed);
        let names_chance = [0, 256, 128, 32, 224][random.below(5) as usize];
        let survival = match random.below(8) {
            0 => Survival::Chance(0),
            1 => Survival::Chance(256),
            2 | 3 => Survival::Chance(128),
            4 => Survival::Chance(24),
            5 => Survival::Chance(232),
            _ => Survival::UpTo(self.sequence.saturating_sub(random.below(64 + self.sequence / 8))),
        };
        self.names.crash(names_chance, &mut random);
        for file in self.files.values_mut() {
            file.crash(survival, &mut random);
        }
        self.handles.clear();
        self.faults.clear();
        self.collect();
    }

    fn write(
        &mut self,
        file: FileId,
        offset: u64,
        parts: &[&[u8]],
        durability: Durability,
    ) -> Result<(), MediaError> {
        let course = self.begin(Operation::of_write(durability), Doing::Write)?;
        let handle = self.handle(file, Doing::Write)?;
        let length: usize = parts.iter().map(|part| part.len()).sum();
        check_direct(handle.direct, Doing::Write, offset, length)?;
        let Some(end) = offset.checked_add(length as u64) else { return fail(Doing::Write, Cause::NoSpace) };
        let growth = end.saturating_sub(self.file(handle).length());
        if let Some(capacity) = self.capacity_bytes
            && growth > 0
            && self.used_bytes() + growth > capacity
        {
            return fail(Doing::Write, Cause::NoSpace);
        }
        let data = parts.concat();
        let mut sequence = self.sequence;
        let target = self.file(handle);
        let result = match course {
            Course::Go if durability == Durability::Durable => {
                target.write_durable(offset, &data);
                Ok(())
            }
            Course::Go => {
                target.write_unsynced(offset, &data, false, &mut sequence);
                Ok(())
            }
            Course::Lie => {
                target.write_unsynced(offset, &data, true, &mut sequence);
                Ok(())
            }
            Course::HalfThenFail(Cause::NoSpace) => {
                let half = data.len() / 2 / SECTOR_BYTES * SECTOR_BYTES;
                target.write_unsynced(offset, &data[..half], false, &mut sequence);
                fail(Doing::Write, Cause::NoSpace)
            }
            Course::HalfThenFail(cause) => {
                target.write_unsynced(offset, &data, false, &mut sequence);
                fail(Doing::Write, cause)
            }
        };
        self.sequence = sequence;
        if result.is_ok() {
            self.counters.bytes_written += length as u64;
        }
        result
    }
}

impl Media for SimMedia {
    fn list(&self, dir: &str) -> Result<Vec<String>, MediaError> {
        let mut disk = self.lock();
        disk.begin(Operation::List, Doing::List)?;
        Ok(disk.names.in_dir(dir))
    }

    fn open(&self, path: &str, how: Open) -> Result<FileId, MediaError> {
        super::check_path(path, Doing::Open)?;
        let mut disk = self.lock();
        let named = disk.names.get(path);
        let creates = named.is_none() && how.create != Create::Never;
        let operation = if creates { Operation::Create } else { Operation::Open };
        let course = disk.begin(operation, Doing::Open)?;
        match (named, how.create) {
            (Some(_), Create::New) => fail(Doing::Open, Cause::Exists),
            (Some(file), _) => Ok(disk.open_handle(file, how.direct)),
            (None, Create::Never) => fail(Doing::Open, Cause::NotFound),
            (None, _) => {
                let file = disk.fresh_id();
                disk.files.insert(file, SimFile::default());
                disk.names.link(path, file);
                finish(course, Doing::Open)?;
                Ok(disk.open_handle(file, how.direct))
            }
        }
    }

    fn len(&self, file: FileId) -> Result<u64, MediaError> {
        let mut disk = self.lock();
        disk.begin(Operation::Length, Doing::Length)?;
        let handle = disk.handle(file, Doing::Length)?;
        Ok(disk.file(handle).length())
    }

    fn read(&self, file: FileId, offset: u64, buffer: &mut [u8]) -> Result<(), MediaError> {
        let mut disk = self.lock();
        disk.begin(Operation::Read, Doing::Read)?;
        let handle = disk.handle(file, Doing::Read)?;
        check_direct(handle.direct, Doing::Read, offset, buffer.len())?;
        let length = disk.file(handle).length();
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > length) {
            return fail(Doing::Read, Cause::PastEnd);
        }
        disk.file(handle).read(offset, buffer);
        disk.counters.bytes_read += buffer.len() as u64;
        Ok(())
    }

    fn read_now(&self, file: FileId, offset: u64, buffer: &mut [u8]) -> bool {
        self.read(file, offset, buffer).is_ok()
    }

    fn write(
        &self,
        file: FileId,
        offset: u64,
        parts: &[&[u8]],
        durability: Durability,
    ) -> Result<(), MediaError> {
        self.lock().write(file, offset, parts, durability)
    }

    fn sync(&self, file: FileId) -> Result<(), MediaError> {
        let mut disk = self.lock();
        let course = disk.begin(Operation::Sync, Doing::Sync)?;
        let handle = disk.handle(file, Doing::Sync)?;
        match course {
            Course::Go => disk.file(handle).sync(),
            Course::Lie | Course::HalfThenFail(_) => disk.file(handle).forsake(),
        }
        finish(course, Doing::Sync)
    }

    fn sync_dir(&self, dir: &str) -> Result<(), MediaError> {
        let mut disk = self.lock();
        let course = disk.begin(Operation::SyncDir, Doing::Sync)?;
        if let Course::Go = course {
            disk.names.sync_dir(dir);
            disk.collect();
        }
        finish(course, Doing::Sync)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), MediaError> {
        super::check_path(to, Doing::Rename)?;
        let mut disk = self.lock();
        let course = disk.begin(Operation::Rename, Doing::Rename)?;
        let Some(file) = disk.names.get(from) else { return fail(Doing::Rename, Cause::NotFound) };
        disk.names.rename(from, to, file);
        disk.collect();
        finish(course, Doing::Rename)
    }

    fn remove(&self, path: &str) -> Result<(), MediaError> {
        let mut disk = self.lock();
        let course = disk.begin(Operation::Remove, Doing::Remove)?;
        if disk.names.get(path).is_none() {
            return fail(Doing::Remove, Cause::NotFound);
        }
        disk.names.unlink(path);
        disk.collect();
        finish(course, Doing::Remove)
    }

    fn close(&self, file: FileId) {
        let mut disk = self.lock();
        if disk.handles.remove(&file.0).is_some() {
            disk.collect();
        }
    }
}

/// The answer to a call whose effect has taken place as far as it will.
fn finish(course: Course, doing: Doing) -> Result<(), MediaError> {
    match course {
        Course::Go | Course::Lie => Ok(()),
        Course::HalfThenFail(cause) => fail(doing, cause),
    }
}

fn check_direct(direct: bool, doing: Doing, offset: u64, length: usize) -> Result<(), MediaError> {
    let aligned =
        offset.is_multiple_of(DIRECT_ALIGN_BYTES as u64) && length.is_multiple_of(DIRECT_ALIGN_BYTES);
    if direct && !aligned { fail(doing, Cause::Misaligned) } else { Ok(()) }
}

fn fail<T>(doing: Doing, cause: Cause) -> Result<T, MediaError> {
    Err(MediaError { doing, cause })
}

#[cfg(test)]
mod tests;
