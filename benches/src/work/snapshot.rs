//! P13: what a snapshot or clone of a volume of any size costs while hosts write to it.
//!
//! For each size, in turns: hosts write, and nobody takes anything; the same while snapshots and clones are taken one after
//! the other. At the end a clone is compared with what the hosts wrote.

use std::cell::RefCell;
use std::io;
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::Settings;
use super::rounds::{Round, Way, alternate};
use super::site::Site;
use crate::contents::BLOCK_BYTES;
use crate::latency::Latency;
use crate::pair::POD;
use crate::plan::{Plan, Stop};
use crate::report::{Document, Figure};

const BLOCK: u64 = BLOCK_BYTES as u64;
const JOURNAL_MIB: u64 = 1024;
/// Sizes of the volumes, in bytes.
const SIZES: [u64; 3] = [1 << 30, 64 << 30, 4 << 40];
/// Blocks that hosts write to, of a volume of any size.
const USED: u64 = 1 << 18;
const USED_QUICK: u64 = 1 << 14;
/// Writers.
const DEPTH: u64 = 4;
/// Between two snapshots or clones.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) fn run(settings: &Settings) -> io::Result<Document> {
    let home = settings.home()?;
    let depth = settings.depth.unwrap_or(DEPTH);
    let millis = settings.seconds.map_or(settings.pick(300, 3000), |seconds| seconds * 1000);
    let sizes: Vec<u64> = settings.size_bytes.map_or(SIZES.to_vec(), |size| vec![size]);
    let params = json!({"volume_bytes": sizes, "depth": depth, "milliseconds_per_round": millis});
    let mut document = Document::begin("snapshot", home.path(), params);
    document.context(
        "data",
        "4 KiB random durable writes, async, to the first GiB (quick: 64 MiB) of thin volumes",
    );
    let site = RefCell::new(Site::start(home.path(), JOURNAL_MIB)?);
    for (index, size) in sizes.iter().enumerate() {
        let used = settings.pick(USED_QUICK, USED).min(size / BLOCK);
        let name = format!("vol{index}");
        let volume = site.borrow_mut().create_volume(&name, size / BLOCK, BLOCK, used)?;
        let taken = RefCell::new((Vec::new(), Vec::new()));
        let plan = |round: u64, way: u64| {
            let seed = (index as u64) << 32 | (round << 8) | way;
            Plan::random_writes(&volume, seed, used, depth, Stop::Millis(millis))
        };
        let ways = vec![
            Way::new("writes alone, p99", "us", None, |round| {
                let driven = site.borrow_mut().drive(&plan(round, 0))?;
                Ok(Some(tail(&driven.latency)))
            }),
            Way::new("writes while snapshots and clones are taken, p99", "us", Some(0), |round| {
                let plan = plan(round, 1);
                let mut site = site.borrow_mut();
                site.begin(&plan)?;
                for number in 0..millis / (4 * PAUSE.as_millis() as u64) {
                    thread::sleep(PAUSE);
                    let snapshot = site.process.ask(&format!("snapshot {volume} r{round}n{number}"))?;
                    thread::sleep(PAUSE);
                    let clone = format!("clone {volume}.r{round}n{number} {volume}r{round}n{number}");
                    let clone = site.process.ask(&clone)?;
                    if round > 0 {
                        let (snapshots, clones) = &mut *taken.borrow_mut();
                        snapshots.push(snapshot.parse::<u64>().map_err(io::Error::other)?);
                        clones.push(clone.parse::<u64>().map_err(io::Error::other)?);
                    }
                }
                let driven = site.end(&plan)?;
                Ok(Some(tail(&driven.latency)))
            }),
        ];
        let size = size >> 30;
        let figures = alternate(&format!("snapshots of {size} GiB"), settings.rounds(), ways)?;
        let question =
            format!("what snapshots and clones of a volume of {size} GiB cost its writers, depth {depth}");
        document.add(&question, "no more than one durable write is added", figures);
        let (snapshots, clones) = taken.into_inner();
        let took = |name: &str, took: &[u64]| {
            let latency = Latency::of(took);
            let samples = took.iter().map(|ns| *ns as f64 / 1e3).collect();
            Figure { latency, ..Figure::of(name, "us", samples) }
        };
        let figures = vec![took("a snapshot", &snapshots), took("a clone", &clones)];
        document.add(&format!("how long one of {size} GiB takes, under that load"), "", figures);
        let copy = format!("{POD}::copy{index}");
        site.borrow_mut().clone_volume(&volume, &copy)?;
    }
    let blocks = site.borrow_mut().check()?;
    document.checked(blocks);
    Ok(document)
}

/// The 99th percentile as the figure.
fn tail(latency: &Latency) -> Round {
    Round { figure: latency.percentile_us(99.0), ..Round::of(latency) }
}
