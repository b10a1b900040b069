//! P3: a stretched pod over loopback, 4 KiB random durable writes at depth 1 from both sides, busy and from idle. P4 and P17:
//! the same at depth 32, with what the cores of both arrays take for a write.
//!
//! Beside it: one array alone, two plain appends at once on the disk that both arrays share, fio. At the end every block is
//! compared at both sides.

use std::cell::RefCell;
use std::io;

use serde_json::json;

use super::Settings;
use super::rounds::{Round, Way, alternate};
use super::site::Site;
use super::write::RawFile;
use crate::contents::BLOCK_BYTES;
use crate::drive::Driven;
use crate::latency::Latency;
use crate::ledger::Ledger;
use crate::pair::{Pair, PairConfig, Side, VOLUME};
use crate::plan::{Api, Plan, Stop};
use crate::report::Document;
use crate::tape::Tape;
use crate::twin;

/// Pause before each write of the ways that start from idle.
const IDLE_US: u64 = 1000;
/// Of a question's ways: one array, and two plain appends.
const ALONE: usize = 1;

pub(super) fn run(settings: &Settings) -> io::Result<Document> {
    let home = settings.home()?;
    let blocks = settings.size_bytes.unwrap_or(settings.pick(64 << 20, 1 << 30)) / BLOCK_BYTES as u64;
    let writes = settings.writes.unwrap_or(settings.pick(100, 1000));
    let journal_mib = settings.pick(128, 1024);
    let params = json!({"volume_blocks": blocks, "journal_mib": journal_mib, "writes_per_round": writes});
    let mut document = Document::begin("mirror", home.path(), params);
    document.context(
        "durability",
        "on the disk at both arrays before the acknowledgement; all journals on one disk",
    );
    document.context("network", "loopback TCP, plain; arrays and mediator a process each");
    document.context("data", "unique blocks of LZ4 ratio 1.94");
    let tape = RefCell::new(Tape::create(&home.path().join("plain.tape"))?);
    let second = RefCell::new(Some(Tape::create(&home.path().join("twin.tape"))?));
    let mut pair = Pair::start(home.path(), PairConfig { blocks, proxied: false, journal_mib })?;
    if !pair.a.is_sequencer()? {
        return Err(io::Error::other("the array that made the pod should order"));
    }
    let pair = RefCell::new(pair);
    let site = RefCell::new(Site::start(&home.path().join("alone"), journal_mib)?);
    let alone = site.borrow_mut().create_full_volume("vol1", blocks)?;
    let ledger = RefCell::new(Ledger::new(BLOCK_BYTES as u64, blocks));
    for (idle, suffix, aim) in [
        (0, "", "1.3 × one array; both sides within 10 % of each other"),
        (IDLE_US, ", from idle (1 ms between writes)", "2.5 × one array"),
    ] {
        let count = if idle == 0 { writes } else { (writes / 2).max(1) };
        let plan = |volume: &str, round: u64, way: u64, api: Api| {
            let seed = round * 100 + way + u64::from(idle > 0) * 10;
            let plan = Plan::random_writes(volume, seed, blocks, 1, Stop::Requests(count));
            Plan { api, pause_us: idle, ..plan }
        };
        let at = |b: bool, api: Api, way: u64| {
            let (pair, ledger, plan) = (&pair, &ledger, &plan);
            move |round: u64| {
                let plan = plan(VOLUME, round, way, api);
                let mut pair = pair.borrow_mut();
                let side = if b { &mut pair.b } else { &mut pair.a };
                let answer = side.process.ask(&format!("drive {}", serde_json::to_string(&plan)?))?;
                let driven = Driven::decode(&answer)?;
                ledger.borrow_mut().apply(&plan, &driven.completed);
                Ok(Some(Round::median(&driven)))
            }
        };
        let ways = vec![
            Way::new("two plain appends at once", "us", None, |_| {
                let other = second.borrow_mut().take().ok_or_else(|| io::Error::other("an append failed"))?;
                let (back, latencies, cpu) = twin::run(&mut tape.borrow_mut(), other, count, idle)?;
                *second.borrow_mut() = Some(back);
                let cpu_us = Some(cpu as f64 / 1e3 / count as f64);
                Ok(Some(Round { cpu_us, ..Round::of(&Latency::of(&latencies)) }))
            }),
            Way::new("one array, blocking", "us", Some(0), |round| {
                Ok(Some(Round::median(&site.borrow_mut().drive(&plan(&alone, round, 0, Api::Blocking))?)))
            }),
            Way::new("stretched, sequencer, async", "us", Some(ALONE), at(false, Api::Async, 1)),
            Way::new("stretched, follower, async", "us", Some(ALONE), at(true, Api::Async, 2)),
            Way::new("stretched, follower, blocking", "us", Some(ALONE), at(true, Api::Blocking, 3)),
            Way::new("stretched, sequencer, blocking", "us", Some(ALONE), at(false, Api::Blocking, 4)),
        ];
        let figures = alternate("mirrored writes", settings.rounds(), ways)?;
        document.add(&format!("random durable writes of 4 KiB at depth 1{suffix}"), aim, figures);
    }
    let depth = settings.depth.unwrap_or(32);
    let raw = RawFile::create(home.path(), blocks * BLOCK_BYTES as u64)?;
    let count = writes * settings.pick(20, 40);
    let plan = |volume: &str, round: u64, way: u64| {
        let seed = round * 100 + way + 50;
        let plan = Plan::random_writes(volume, seed, blocks, depth, Stop::Requests(count));
        Plan { api: Api::Async, ..plan }
    };
    let at = |b: bool, way: u64| {
        let (pair, ledger, plan) = (&pair, &ledger, &plan);
        move |round: u64| {
            let plan = plan(VOLUME, round, way);
            let mut pair = pair.borrow_mut();
            let pair = &mut *pair;
            let (side, other) = if b { (&mut pair.b, &mut pair.a) } else { (&mut pair.a, &mut pair.b) };
            let before = cpu_ns(other)?;
            let answer = side.process.ask(&format!("drive {}", serde_json::to_string(&plan)?))?;
            let driven = Driven::decode(&answer)?;
            let both_ns = driven.cpu_ns + cpu_ns(other)?.saturating_sub(before);
            ledger.borrow_mut().apply(&plan, &driven.completed);
            let cpu_us = Some(both_ns as f64 / 1e3 / driven.requests().max(1) as f64);
            Ok(Some(Round { cpu_us, ..Round::rate(&driven) }))
        }
    };
    let ways = vec![
        Way::new(&format!("fio, random O_DSYNC, io_uring, depth {depth}"), "per s", None, |_| {
            raw.random_writes(depth, count.min(20_000))
        }),
        Way::new("one array", "per s", Some(0), |round| {
            Ok(Some(Round::rate(&site.borrow_mut().drive(&plan(&alone, round, 0))?)))
        }),
        Way::new("stretched, sequencer; cores: hosts and both arrays", "per s", Some(0), at(false, 1)),
        Way::new("stretched, follower; cores: hosts and both arrays", "per s", Some(0), at(true, 2)),
    ];
    let figures = alternate("mirrored writes, many at once", settings.rounds(), ways)?;
    document.add(
        &format!("random durable writes of 4 KiB at depth {depth}, async"),
        "1.5 × fio; 25 us of the cores for a write",
        figures,
    );
    document.checked(site.borrow_mut().check()?);
    let path = home.path().join("ledger-of-the-pair");
    ledger.borrow().save(&path)?;
    let mut pair = pair.into_inner();
    for side in [&mut pair.a, &mut pair.b] {
        let answer = side.process.ask(&format!("check-ledger {VOLUME} {}", path.display()))?;
        document.checked(answer.parse::<u64>().map_err(io::Error::other)?);
    }
    Ok(document)
}

/// What an array's process has used of the cores so far.
fn cpu_ns(side: &mut Side) -> io::Result<u64> {
    let usage: serde_json::Value =
        serde_json::from_str(&side.process.ask("usage")?).map_err(io::Error::other)?;
    usage["cpu_ns"].as_u64().ok_or_else(|| io::Error::other("an array tells what it has used"))
}
