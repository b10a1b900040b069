//! E7: the journal with 1, 2 and 4 frames in flight, blocking appends from as many threads.
//!
//! `e7_frames [--rounds N] [--millis N] [--dir DIRECTORY] [--json]`. A fixed number of records is always outstanding: either
//! each has a calling thread of its own, or all that have become durable are replaced at once. Beside it the bare device: durable appends from 1, 2 and 4 threads, and
//! several writes under one flush. At the end every journal is opened again and each record compared.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use metropod_benches::arguments::Arguments;
use metropod_benches::experiment::{Outcome, Report, Variant, alternate};
use metropod_benches::figures::quantile;
use metropod_benches::group_commit::{Run, Site};
use metropod_benches::setting;
use metropod_journal::media::AlignedBuf;
use rustix::fs::OFlags;
use serde_json::json;

const FRAMES: [usize; 3] = [1, 2, 4];
/// Calling threads.
const CALLERS: [usize; 4] = [1, 4, 16, 64];
/// Records outstanding that are replaced at once.
const REPLACED: [usize; 2] = [32, 128];
/// Bytes of a bare append.
const SIZES: [usize; 2] = [4096, 65_536];
/// Writes under one flush.
const UNDER_ONE_FLUSH: [u64; 2] = [4, 16];
/// Length of the bare file; it is prewritten.
const FILE_BYTES: u64 = 256 << 20;
/// `O_DSYNC`; rustix's is `O_SYNC` on its Linux backend (decision 0001).
const O_DSYNC: i32 = 0o10_000;

fn main() -> io::Result<()> {
    let arguments = Arguments::read(&["rounds", "millis"])?;
    let (rounds, millis) = (arguments.get("rounds", 5u64)?, arguments.get("millis", 400u64)?);
    let time = Duration::from_millis(millis);
    let directory = arguments.directory()?;
    let setting = json!({
        "setting": setting::describe(directory.path()), "rounds": rounds, "milliseconds_per_round": millis,
        "record": "2,112 bytes and 64 of descriptor", "appends": "O_DIRECT, pwritev2(RWF_DSYNC), blocking, prewritten segments",
    });
    let mut report = Report::new();
    for size in SIZES {
        report.add(&format!("the bare device, {size} bytes"), bare(directory.path(), rounds, time, size)?);
    }
    let sites: Vec<RefCell<Site>> = FRAMES
        .iter()
        .map(|frames| Ok(RefCell::new(Site::create(&directory.path().join(frames.to_string()), *frames)?)))
        .collect::<io::Result<_>>()?;
    for callers in CALLERS {
        let run = |site: &mut Site| site.run_callers(callers, time);
        measure(&mut report, &sites, &format!("{callers} callers"), rounds, run)?;
    }
    for depth in REPLACED {
        let run = |site: &mut Site| site.run(depth, time);
        measure(&mut report, &sites, &format!("{depth} replaced at once"), rounds, run)?;
    }
    let mut checked = 0;
    for site in sites {
        checked += site.into_inner().check()?;
    }
    report.fact("records_checked_after_reopening", checked);
    report.fact("load_after", setting::load_average());
    report.print("E7", &setting, arguments.json);
    Ok(())
}

fn measure(
    report: &mut Report,
    sites: &[RefCell<Site>],
    what: &str,
    rounds: u64,
    how: impl Fn(&mut Site) -> io::Result<Run>,
) -> io::Result<()> {
    let how = &how;
    let runs: Vec<RefCell<Vec<Run>>> = sites.iter().map(|_| RefCell::default()).collect();
    let variants = sites.iter().zip(&runs).map(|(site, runs)| {
        let name = format!("{} in flight", site.borrow().frames);
        Variant::new(&name, move |round| {
            let run = how(&mut site.borrow_mut())?;
            let us = run.elapsed.as_secs_f64() * 1e6 / run.latencies_ns.len() as f64;
            if round > 0 {
                runs.borrow_mut().push(run);
            }
            Ok(us)
        })
    });
    let outcomes = alternate(rounds, "us per record", variants.collect())?;
    let of = |unit, figure: &dyn Fn(&Run) -> f64| -> Vec<Outcome> {
        let figures = runs.iter().map(|runs| runs.borrow().iter().map(figure).collect());
        outcomes
            .iter()
            .zip(figures)
            .map(|(outcome, figures)| Outcome::of(&outcome.name, unit, figures))
            .collect()
    };
    let median = of("us", &|run| quantile(&run.latencies_ns, 0.5) / 1e3);
    let tail = of("us", &|run| quantile(&run.latencies_ns, 0.99) / 1e3);
    let together = of("records", &|run| run.latencies_ns.len() as f64 / run.frames as f64);
    let cpu = of("us", &|run| run.cpu_ns as f64 / 1e3 / run.latencies_ns.len() as f64);
    report.add(&format!("journal, {what}: time per record"), outcomes);
    report.add(&format!("journal, {what}: median latency"), median);
    report.add(&format!("journal, {what}: p99 latency"), tail);
    report.add(&format!("journal, {what}: records per frame"), together);
    report.add(&format!("journal, {what}: CPU per record"), cpu);
    Ok(())
}

/// The device without a journal.
fn bare(directory: &Path, rounds: u64, time: Duration, size: usize) -> io::Result<Vec<Outcome>> {
    let path = directory.join("bare");
    let direct = OFlags::DIRECT.bits() as i32;
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).custom_flags(direct).open(&path)?;
    let chunk = AlignedBuf::zeroed(1 << 20);
    for at in 0..FILE_BYTES / chunk.len() as u64 {
        file.write_all_at(chunk.as_slice(), at * chunk.len() as u64)?;
    }
    file.sync_all()?;
    let durable = OpenOptions::new().write(true).custom_flags(direct | O_DSYNC).open(&path)?;
    let (file, durable) = (&file, &durable);
    let mut variants: Vec<Variant<'_>> = FRAMES
        .iter()
        .map(|threads| {
            Variant::new(&format!("durable appends, {threads} threads"), move |_| {
                appends(durable, *threads as u64, time, size)
            })
        })
        .collect();
    for writes in UNDER_ONE_FLUSH {
        variants.push(Variant::new(&format!("{writes} writes, one flush, 1 thread"), move |_| {
            under_one_flush(file, writes, time, size)
        }));
    }
    variants.push(Variant::new("writes without flush, 1 thread", move |_| appends(file, 1, time, size)));
    alternate(rounds, "us per write", variants)
}

/// Each thread appends at its own places, as the journal's frames follow each other.
fn appends(file: &File, threads: u64, time: Duration, size: usize) -> io::Result<f64> {
    let began = Instant::now();
    let counts: Vec<io::Result<u64>> = thread::scope(|scope| {
        let run = |thread: u64| {
            move || {
                let buffer = AlignedBuf::zeroed(size);
                let mut count = 0;
                while began.elapsed() < time {
                    let offset = (count * threads + thread) * size as u64 % FILE_BYTES;
                    file.write_all_at(buffer.as_slice(), offset)?;
                    count += 1;
                }
                Ok(count)
            }
        };
        let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(run(thread))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked"))))
            .collect()
    });
    let elapsed = began.elapsed();
    let count = counts.into_iter().sum::<io::Result<u64>>()?;
    Ok(elapsed.as_secs_f64() * 1e6 / count as f64)
}

fn under_one_flush(file: &File, writes: u64, time: Duration, size: usize) -> io::Result<f64> {
    let buffer = AlignedBuf::zeroed(size);
    let began = Instant::now();
    let mut count = 0;
    while began.elapsed() < time {
        for _ in 0..writes {
            file.write_all_at(buffer.as_slice(), count * size as u64 % FILE_BYTES)?;
            count += 1;
        }
        file.sync_data()?;
    }
    Ok(began.elapsed().as_secs_f64() * 1e6 / count as f64)
}
