//! P16: overwriting for long at a given share of full: rate beside that of a new array, stalls, space, what the devices get.
//!
//! Full means: what lives takes 80 % of the capacity without reserve, as it is stored. Each round: the same number of writes
//! to a new array without a capacity, uniform ones, and ones of which nine of ten go to a tenth of the blocks. Space, memory
//! and bytes to the device are looked at every second.

use std::cell::RefCell;
use std::io;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::rounds::{Round, Way, alternate};
use super::site::Site;
use super::{Settings, progress};
use crate::contents::BLOCK_BYTES;
use crate::drive::Driven;
use crate::plan::{Pattern, Plan, Stop};
use crate::report::{Document, Line};
use crate::usage::occupied_bytes;

const BLOCK: u64 = BLOCK_BYTES as u64;
/// Bytes of a stored block at the reference ratio, with its header.
const STORED_BYTES: u64 = 2176;
/// Share of the capacity that lives, in percent.
const FULL_PERCENT: u64 = 80;
/// The same of a small array, a good part of which is segments that are written to.
const SMALL_PERCENT: u64 = 40;
/// Between two looks at the array.
const STEP: Duration = Duration::from_secs(1);

pub(super) fn run(settings: &Settings) -> io::Result<Document> {
    let home = settings.home()?;
    let (depth, rounds) = (settings.depth.unwrap_or(32), settings.rounds());
    let capacity = settings.capacity_bytes.unwrap_or(settings.pick(256 << 20, 8 << 30));
    let journal_mib = settings.pick(128, 256);
    let writes = settings.writes.unwrap_or(settings.pick(12_000, 2_000_000));
    // Rounds and the one before them share the writes between the two patterns.
    let each = writes.div_ceil(2 * (rounds + 1));
    let mut site = Site::start_within(home.path(), journal_mib, Some(capacity))?;
    let room = site.usage()?["space_free_bytes"].as_u64().ok_or_else(|| io::Error::other("no capacity"))?;
    let percent = settings.pick(SMALL_PERCENT, FULL_PERCENT);
    let blocks = room / 100 * percent / STORED_BYTES;
    let params = json!({
        "capacity_bytes": capacity, "full_percent": percent, "volume_bytes": blocks * BLOCK, "writes": writes,
        "depth": depth, "journal_mib": journal_mib,
    });
    let mut document = Document::begin("overwrite", home.path(), params);
    document.context("data", "4 KiB blocks, unique, LZ4 ratio 1.94, async");
    document.context("durability", "on the disk before the acknowledgement");
    let volume = site.create_full_volume("vol1", blocks)?;
    site.drive(&Plan::fill(&volume, 1, blocks))?;
    progress(format_args!("filled"));
    let watch = RefCell::new(Watch { site, lines: Lines::default(), stall_ns: 0, host_bytes: 0 });
    let before = watch.borrow_mut().site.usage()?;
    let checked_elsewhere = RefCell::new(0);
    let plan = |round: u64, way: u64, pattern: Pattern| {
        let plan = Plan::random_writes(&volume, 1000 + round * 10 + way, blocks, depth, Stop::Requests(each));
        // The array's memory is looked at, so its process holds no data of the host.
        Plan { pattern, prepare: false, ..plan }
    };
    let ways = vec![
        Way::new("a new array, uniform", "per s", None, |round| {
            let home = home.path().join(format!("new{round}"));
            std::fs::create_dir(&home)?;
            let mut site = Site::start(&home, journal_mib)?;
            site.create_full_volume("vol1", blocks)?;
            let driven = site.drive(&plan(round, 0, Pattern::Random))?;
            *checked_elsewhere.borrow_mut() += site.check()?;
            drop(site);
            std::fs::remove_dir_all(&home)?;
            Ok(Some(Round::rate(&driven)))
        }),
        Way::new("full, nine of ten to a tenth", "per s", Some(0), |round| {
            let driven = watch.borrow_mut().drive(&plan(round, 1, Pattern::Skewed))?;
            Ok(Some(Round::rate(&driven)))
        }),
        Way::new("full, uniform", "per s", Some(0), |round| {
            let driven = watch.borrow_mut().drive(&plan(round, 2, Pattern::Random))?;
            Ok(Some(Round::rate(&driven)))
        }),
    ];
    let figures = alternate("overwriting", rounds, ways)?;
    let aim = "uniform 0.6 ×, skewed 0.75 × a new array; no stall above 50 ms";
    document.add(&format!("random durable overwrites of 4 KiB at depth {depth}"), aim, figures);
    let mut watch = watch.into_inner();
    let after = watch.site.usage()?;
    watch.report(&mut document, &before, &after, capacity);
    watch.site.kill_and_reopen()?;
    let checked = watch.site.check()?;
    document.checked(checked + checked_elsewhere.into_inner());
    Ok(document)
}

/// An array that is looked at while its hosts write.
struct Watch {
    site: Site,
    lines: Lines,
    stall_ns: u64,
    host_bytes: u64,
}

#[derive(Default)]
struct Lines {
    rate: Vec<f64>,
    occupied_mib: Vec<f64>,
    resident_mib: Vec<f64>,
}

impl Watch {
    fn drive(&mut self, plan: &Plan) -> io::Result<Driven> {
        self.site.begin(plan)?;
        while !self.site.is_ended()? {
            let usage = self.site.usage()?;
            self.lines.occupied_mib.push(mib(occupied_bytes(&self.site.directory)?));
            self.lines.resident_mib.push(mib(usage["resident_bytes"].as_u64().unwrap_or(0)));
            thread::sleep(STEP);
        }
        let driven = self.site.end(plan)?;
        self.lines.rate.extend(driven.steps.iter().map(|requests| *requests as f64));
        self.stall_ns = self.stall_ns.max(driven.stall_ns);
        self.host_bytes += driven.requests() * plan.request_bytes();
        Ok(driven)
    }

    fn report(&mut self, document: &mut Document, before: &Value, after: &Value, capacity: u64) {
        let Lines { rate, occupied_mib, resident_mib } = std::mem::take(&mut self.lines);
        let most = occupied_mib.iter().copied().fold(0.0, f64::max);
        let line = |name: &str, unit, values| Line {
            name: name.to_owned(),
            unit,
            step_s: STEP.as_secs_f64(),
            values,
        };
        document.line(line("completed", "per s", rate));
        document.line(line("occupied on the disk", "MiB", occupied_mib));
        document.line(line("resident", "MiB", resident_mib));
        let number = |usage: &Value, name: &str| usage[name].as_u64().unwrap_or(0);
        let written = number(after, "device_written_bytes") - number(before, "device_written_bytes");
        document.fact("device_bytes_per_host_byte", written as f64 / self.host_bytes.max(1) as f64);
        document.fact("device_bytes_written", written);
        document.fact("longest_time_without_a_completion_ms", self.stall_ns as f64 / 1e6);
        document.fact("peak_resident_bytes", after["peak_bytes"].clone());
        document.fact("most_occupied_bytes", most * f64::from(1 << 20));
        document.fact("most_occupied_of_capacity", most * f64::from(1 << 20) / capacity as f64);
        document.fact("array_at_the_end", after.clone());
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
