//! A file system that is soon full: ext4 in a file where loop devices are allowed, else one in memory.
//!
//! It takes root, or `sudo` without a password. Arrays need direct I/O, which file systems in memory have since
//! Linux 6.6.

use std::path::{Path, PathBuf};

use crate::root::as_root;
use crate::scratch::Scratch;
use crate::tools::{require_tools, run_ok};

/// A mounted file system. Dropping it unmounts it: what uses it must be gone by then.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one of `bytes` in the test's directory.
    pub fn mount(scratch: &Scratch, bytes: u64) -> SmallDisk {
        require_tools(&[("mke2fs", "e2fsprogs"), ("mount", "mount")]);
        let (image, path) = (scratch.join("disk.img"), scratch.join("disk"));
        std::fs::create_dir(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        run_ok("truncate", &["-s", &bytes.to_string(), &text(&image)]);
        run_ok("mke2fs", &["-q", "-F", "-t", "ext4", "-m", "0", &text(&image)]);
        let looped = ["mount", "-o", "loop", &text(&image), &text(&path)];
        let size = format!("size={bytes}");
        let in_memory = ["mount", "-t", "tmpfs", "-o", &size, "none", &text(&path)];
        if let Err(first) = as_root(&looped)
            && let Err(second) = as_root(&in_memory)
        {
            panic!("cannot mount a small file system: {first}; {second}");
        }
        let disk = SmallDisk { path };
        disk.as_root(&["chmod", "0777"]);
        disk
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that are free.
    pub fn room_bytes(&self) -> u64 {
        match rustix::fs::statvfs(&self.path) {
            Ok(found) => found.f_bavail * found.f_frsize,
            Err(error) => panic!("{:?}: {error}", self.path),
        }
    }

    /// Nothing can be written from now on.
    pub fn make_read_only(&self) {
        self.as_root(&["mount", "-o", "remount,ro"]);
    }

    /// As before.
    pub fn make_writable(&self) {
        self.as_root(&["mount", "-o", "remount,rw"]);
    }

    fn as_root(&self, line: &[&str]) {
        let path = text(&self.path);
        if let Err(said) = as_root(&[line, &[&path]].concat()) {
            panic!("{line:?} {path}: {said}");
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A lazy unmount: a panicking test may drop its processes later.
        if let Err(said) = as_root(&["umount", "-l", &text(&self.path)]) {
            eprintln!("{said}");
        }
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
