//! fio itself as a peer, where it is installed.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// Completion latency of a run, in microseconds.
#[derive(Debug, Clone, Copy)]
pub struct FioRun {
    /// Median.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
}

/// fio's version, if it is installed.
pub fn version() -> Option<String> {
    let output = Command::new("fio").arg("--version").stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Appends `count` 4 KiB blocks to a prewritten file, `O_DIRECT | O_DSYNC`, depth 1, pausing `think_us` between them.
pub fn append(path: &Path, count: u64, think_us: u64) -> io::Result<FioRun> {
    let output = Command::new("fio")
        .args(["--name=append", "--rw=write", "--bs=4k", "--direct=1", "--sync=dsync", "--ioengine=psync"])
        .args(["--iodepth=1", "--size=64m", "--overwrite=1", "--allow_file_create=0", "--output-format=json"])
        .arg(format!("--thinktime={think_us}"))
        .arg(format!("--number_ios={count}"))
        .arg(format!("--filename={}", path.display()))
        .stderr(Stdio::null())
        .output()?;
    let report: Value = serde_json::from_slice(&output.stdout).map_err(io::Error::other)?;
    let percentile = |name: &str| -> io::Result<f64> {
        let value = &report["jobs"][0]["write"]["clat_ns"]["percentile"][name];
        value.as_f64().map(|ns| ns / 1e3).ok_or_else(|| io::Error::other("fio reported no latencies"))
    };
    Ok(FioRun { p50_us: percentile("50.000000")?, p99_us: percentile("99.000000")? })
}

/// Random 4 KiB direct reads of a file, `count` by each of so many threads: median latency in microseconds, rate per second.
pub fn random_reads(path: &Path, threads: u64, count: u64) -> io::Result<(f64, f64)> {
    let output = Command::new("fio")
        .args(["--name=read", "--rw=randread", "--bs=4k", "--direct=1", "--ioengine=psync", "--thread"])
        .args(["--norandommap", "--group_reporting", "--allow_file_create=0", "--output-format=json"])
        .arg(format!("--numjobs={threads}"))
        .arg(format!("--number_ios={count}"))
        .arg(format!("--filename={}", path.display()))
        .stderr(Stdio::null())
        .output()?;
    let report: Value = serde_json::from_slice(&output.stdout).map_err(io::Error::other)?;
    let read = &report["jobs"][0]["read"];
    let figure = |value: &Value| value.as_f64().ok_or_else(|| io::Error::other("fio reported no reads"));
    Ok((figure(&read["clat_ns"]["percentile"]["50.000000"])? / 1e3, figure(&read["iops"])?))
}
