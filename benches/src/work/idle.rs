//! P26: what idle pods cost: processor time and bytes written to the disk.
//!
//! Every volume got one write before, and holds it after.

use std::io;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::site::Site;
use super::{Settings, progress};
use crate::plan::{Plan, Stop};
use crate::report::{Document, Figure};

/// Blocks of each volume: 1 MiB.
const BLOCKS: u64 = 256;
const JOURNAL_MIB: u64 = 128;

pub(super) fn run(settings: &Settings) -> io::Result<Document> {
    let home = settings.home()?;
    let pods = settings.count.unwrap_or(settings.pick(10, 100));
    let seconds = settings.seconds.unwrap_or(settings.pick(1, 20));
    let mut document =
        Document::begin("idle", home.path(), json!({"pods": pods, "seconds_per_round": seconds}));
    document.context("setting", "one array, each pod with one volume that was written to once; then nothing");
    let mut site = Site::start(home.path(), JOURNAL_MIB)?;
    for pod in 0..pods {
        let volume = site.create_pod_with_volume(&format!("idle{pod}"), "vol1", BLOCKS)?;
        site.drive(&Plan::random_writes(&volume, pod, BLOCKS, 1, Stop::Requests(1)))?;
    }
    // Whatever the writes set going has ended by then.
    thread::sleep(Duration::from_secs(settings.pick(1, 10)));
    let (mut cpu, mut written) = (Vec::new(), Vec::new());
    for round in 1..=settings.rounds() {
        let before = site.usage()?;
        thread::sleep(Duration::from_secs(seconds));
        let after = site.usage()?;
        let grown = |name: &str| (number(&after, name) - number(&before, name)) as f64;
        cpu.push(grown("cpu_ns") / 1e7 / seconds as f64);
        written.push(grown("device_written_bytes") / seconds as f64);
        progress(format_args!("idle: round {round} of {}", settings.rounds()));
    }
    document.add("processor time of idle pods", "2 % of a core", vec![Figure::of("one core", "%", cpu)]);
    document.add("bytes written to the disk meanwhile", "none", vec![Figure::of("written", "B/s", written)]);
    document.fact("resident_bytes", site.usage()?["resident_bytes"].clone());
    document.checked(site.check()?);
    Ok(document)
}

fn number(usage: &Value, name: &str) -> u64 {
    usage[name].as_u64().unwrap_or(0)
}
