//! A volume as a block device of this machine, with a kernel's file system on it: `nbdfuse` and a loop device.
//!
//! It takes root, or `sudo` without a password, `/dev/fuse` and loop devices; what is missing fails with words.
//!
//! - T1: no mount, loop device or `nbdfuse` outlives the handle. `nbdfuse` is killed first: whatever waits for the
//!   volume then fails at once, so that nothing after it can hang.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::array::Array;
use crate::root::{as_root, as_root_ok, start_as_root};
use crate::scratch::Scratch;
use crate::tools::{Tool, require_tools};
use crate::wait::wait_until;

/// Longest time until `nbdfuse` serves, and until it ends.
const FUSE_TIME_MAX: Duration = Duration::from_secs(10);

/// Which file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// ext4.
    Ext4,
    /// XFS.
    Xfs,
}

/// An attached volume. Dropping it takes it away by force.
#[derive(Debug)]
pub struct Attached {
    kind: FileSystem,
    fuse: PathBuf,
    mount: PathBuf,
    process_id: Option<String>,
    device: Option<String>,
    // Dropped last: it has been killed by then.
    server: Option<Tool>,
}

impl FileSystem {
    /// Its name for `mount`.
    pub fn name(self) -> &'static str {
        match self {
            FileSystem::Ext4 => "ext4",
            FileSystem::Xfs => "xfs",
        }
    }
}

impl Attached {
    /// Attaches a volume, without mounting it.
    pub fn attach(scratch: &Scratch, kind: FileSystem, array: &Array, volume: &str) -> Attached {
        require_tools(&[
            ("nbdfuse", "libnbd-bin"),
            ("fusermount3", "fuse3"),
            ("losetup", "mount"),
            ("mkfs.ext4", "e2fsprogs"),
            ("mkfs.xfs", "xfsprogs"),
        ]);
        for device in ["/dev/fuse", "/dev/loop-control"] {
            assert!(Path::new(device).exists(), "no {device}: this test needs FUSE and loop devices");
        }
        let (fuse, mount, id) = (scratch.join("fuse"), scratch.join("mount"), scratch.join("nbdfuse.pid"));
        for directory in [&fuse, &mount] {
            std::fs::create_dir_all(directory).unwrap_or_else(|error| panic!("{directory:?}: {error}"));
        }
        let _removed = as_root(&["rm", "-f", &text(&id)]);
        let file = text(&fuse.join("disk"));
        let server = start_as_root(&["nbdfuse", "--pidfile", &text(&id), &file, &array.uri(volume)]);
        // From here on the handle cleans up.
        let mut attached =
            Attached { kind, fuse, mount, process_id: None, device: None, server: Some(server) };
        attached.process_id =
            wait_until("nbdfuse serves; it needs /dev/fuse and root", FUSE_TIME_MAX, || {
                let found = std::fs::read_to_string(&id).map_err(|error| error.to_string())?;
                match found.trim().parse::<u32>() {
                    Ok(number) => Ok(Some(number.to_string())),
                    Err(error) => Err(error.to_string()),
                }
            });
        attached.device = Some(as_root_ok(&["losetup", "--direct-io=on", "--show", "--find", &file]));
        attached
    }

    /// Makes an empty file system.
    pub fn make(&self) {
        let make = format!("mkfs.{}", self.kind.name());
        as_root_ok(&[&make, "-q", self.device()]);
    }

    /// Mounts it, which replays the file system's journal. Gives where.
    pub fn mount(&self) -> &Path {
        as_root_ok(&["mount", "-t", self.kind.name(), self.device(), &text(&self.mount)]);
        as_root_ok(&["chmod", "0777", &text(&self.mount)]);
        &self.mount
    }

    /// Unmounts it in order.
    pub fn unmount(&self) {
        as_root_ok(&["umount", &text(&self.mount)]);
    }

    /// The file system, not mounted now and its journal replayed, must be without fault.
    pub fn check(&self) {
        match self.kind {
            FileSystem::Ext4 => as_root_ok(&["e2fsck", "-f", "-n", self.device()]),
            FileSystem::Xfs => as_root_ok(&["xfs_repair", "-n", self.device()]),
        };
    }

    /// Detaches a volume that is not mounted.
    pub fn detach(mut self) {
        if let Some(device) = self.device.take() {
            as_root_ok(&["losetup", "--detach", &device]);
        }
        as_root_ok(&["umount", &text(&self.fuse)]);
        if let Some(server) = self.server.take() {
            server.wait(FUSE_TIME_MAX);
        }
    }

    fn device(&self) -> &str {
        self.device.as_deref().expect("there is a loop device until the end")
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if self.server.is_none() {
            return;
        }
        let fuse = text(&self.fuse);
        // What is not there cannot be taken away: each may fail.
        if let Some(id) = &self.process_id {
            let _killed = as_root(&["kill", "-KILL", id]);
        }
        let _unmounted = as_root(&["umount", "-l", &text(&self.mount)]);
        if let Some(device) = self.device.take() {
            let _detached = as_root(&["losetup", "--detach", &device]);
        }
        let _unmounted = as_root(&["umount", "-l", &fuse]);
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
