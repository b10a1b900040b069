//! What a figure cannot be read without: cores, kernel, file system, disk cache, load, build.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// The machine and the directory a run uses.
pub fn describe(directory: &Path) -> Value {
    json!({
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "cpu": cpu_name(),
        "kernel": read("/proc/sys/kernel/osrelease"),
        "file_system": file_system(directory),
        "disk_write_cache": disk_write_caches(),
        "load_average": load_average(),
        "build": if cfg!(debug_assertions) { "debug: figures mean nothing" } else { "release" },
    })
}

/// The machine's load averages.
pub fn load_average() -> String {
    read("/proc/loadavg")
}

/// The setting in lines.
pub fn print(setting: &Value) {
    if let Some(entries) = setting.as_object() {
        for (name, value) in entries {
            println!("  {name}: {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn cpu_name() -> String {
    let cpus = read("/proc/cpuinfo");
    let name = cpus.lines().find_map(|line| line.strip_prefix("model name"));
    name.unwrap_or_default().trim_start_matches([' ', '\t', ':']).to_owned()
}

/// Type of the mount that holds the directory.
fn file_system(directory: &Path) -> String {
    let directory = fs::canonicalize(directory).unwrap_or_default();
    let mounts = read("/proc/mounts");
    let mut best = ("", "");
    for line in mounts.lines() {
        let mut words = line.split(' ').skip(1);
        let (Some(at), Some(kind)) = (words.next(), words.next()) else { continue };
        if directory.starts_with(at) && at.len() >= best.0.len() {
            best = (at, kind);
        }
    }
    best.1.to_owned()
}

fn disk_write_caches() -> Vec<String> {
    let Ok(disks) = fs::read_dir("/sys/block") else { return Vec::new() };
    let mut caches: Vec<String> = disks
        .flatten()
        .map(|disk| disk.path())
        .filter(|path| path.join("device").exists())
        .map(|path| {
            let queue = |name: &str| read(&path.join("queue").join(name).to_string_lossy());
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            format!("{name}: {}, fua {}", queue("write_cache"), queue("fua"))
        })
        .collect();
    caches.sort();
    caches
}
