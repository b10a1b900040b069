//! What this process holds in memory, as the kernel counts it.

use std::fs;
use std::io;

/// Bytes in memory now.
pub fn resident_bytes() -> u64 {
    status("VmRSS:")
}

/// Most bytes in memory since the start or the last [`reset_peak`].
pub fn peak_bytes() -> u64 {
    status("VmHWM:")
}

/// The peak starts again from what is held now.
pub fn reset_peak() -> io::Result<()> {
    fs::write("/proc/self/clear_refs", "5")
}

fn status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
