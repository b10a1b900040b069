//! P3: a stretched pod over loopback, 4 KiB random durable writes at depth 1 from both sides, busy and from idle.
//!
//! Beside it: one array alone, and two plain appends at once on the disk that both arrays share. At the end every block is
//! compared at both sides.

use std::cell::RefCell;
use std::io;

use serde_json::json;

use super::Settings;
use super::rounds::{Round, Way, alternate};
use super::site::Site;
use crate::contents::BLOCK_BYTES;
use crate::drive::Driven;
use crate::latency::Latency;
use crate::ledger::Ledger;
use crate::pair::{Pair, PairConfig, VOLUME};
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
