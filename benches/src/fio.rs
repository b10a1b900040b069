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

/// A run of random requests.
#[derive(Debug, Clone, Copy)]
pub struct RandomRun {
    /// Requests in a second.
    pub per_second: f64,
    /// Median completion latency, in microseconds.
    pub p50_us: f64,
    /// 99th percentile of it, in microseconds.
    pub p99_us: f64,
}

/// Writes a file of this size, each block with fio's check in it.
pub fn lay_out(path: &Path, bytes: u64) -> io::Result<()> {
    run(path, bytes, &["--rw=write", "--bs=1m", "--verify=crc32c", "--verify_interval=4096", "--do_verify=0"])
        .map(drop)
}

/// Random 4 KiB writes with `O_DIRECT | O_DSYNC` to a file that was laid out, then reads all of them back.
pub fn random_writes(path: &Path, bytes: u64, depth: u64, count: u64) -> io::Result<RandomRun> {
    let (depth, count) = (format!("--iodepth={depth}"), format!("--number_ios={count}"));
    let arguments = ["--rw=randwrite", "--bs=4k", "--sync=dsync", "--ioengine=io_uring", "--overwrite=1"];
    let check = ["--verify=crc32c", "--verify_fatal=1", "--do_verify=1"];
    let report = run(path, bytes, &[&arguments[..], &check, &[&depth, &count]].concat())?;
    random_run(&report["jobs"][0]["write"])
}

/// Random 4 KiB direct reads of a file that was laid out, each compared with its check.
pub fn checked_random_reads(path: &Path, bytes: u64, depth: u64, count: u64) -> io::Result<RandomRun> {
    let (depth, count) = (format!("--iodepth={depth}"), format!("--number_ios={count}"));
    let arguments = ["--rw=randread", "--bs=4k", "--ioengine=io_uring"];
    let check = ["--verify=crc32c", "--verify_interval=4096", "--verify_fatal=1"];
    let report = run(path, bytes, &[&arguments[..], &check, &[&depth, &count]].concat())?;
    random_run(&report["jobs"][0]["read"])
}

fn run(path: &Path, bytes: u64, arguments: &[&str]) -> io::Result<Value> {
    let output = Command::new("fio")
        .args(["--name=bench", "--direct=1", "--thread", "--randrepeat=0", "--output-format=json"])
        .args(arguments)
        .arg(format!("--size={bytes}"))
        .arg(format!("--filename={}", path.display()))
        .output()?;
    let said = || String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("").to_owned();
    if !output.status.success() {
        return Err(io::Error::other(format!("fio failed: {}", said())));
    }
    serde_json::from_slice(&output.stdout).map_err(|_| io::Error::other(format!("fio said: {}", said())))
}

fn random_run(report: &Value) -> io::Result<RandomRun> {
    let figure = |value: &Value| value.as_f64().ok_or_else(|| io::Error::other("fio reported no requests"));
    let percentile = |name: &str| figure(&report["clat_ns"]["percentile"][name]).map(|ns| ns / 1e3);
    Ok(RandomRun {
        per_second: figure(&report["iops"])?,
        p50_us: percentile("50.000000")?,
        p99_us: percentile("99.000000")?,
    })
}
