//! What a process has used of the machine so far, as the kernel counts it.

use std::fs;
use std::io;

use serde_json::{Value, json};

use crate::clock::process_cpu_ns;
use crate::memory;

/// CPU time, memory, and bytes to and from devices, of this process.
pub fn of_this_process() -> io::Result<Value> {
    let io = fs::read_to_string("/proc/self/io")?;
    let bytes = |name: &str| {
        let line = io.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0)
    };
    Ok(json!({
        "cpu_ns": process_cpu_ns(), "resident_bytes": memory::resident_bytes(), "peak_bytes": memory::peak_bytes(),
        "device_written_bytes": bytes("write_bytes"), "device_read_bytes": bytes("read_bytes"),
    }))
}

/// Bytes that the files under a directory occupy on the disk.
pub fn occupied_bytes(directory: &std::path::Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // Files come and go while an array runs.
        let Ok(metadata) = entry.metadata() else { continue };
        bytes += if metadata.is_dir() { occupied_bytes(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}
