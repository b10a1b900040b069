//! Durable writes to one array: P1 at depth 1, P2 at depth 32, P5 sequential, P21 small and misaligned; `--steady`: P2 for
//! so long that every stage of the array turns; `--rate`: requests that are due whether earlier ones have ended or not.
//!
//! Beside them, in the same rounds: plain appends, fio where it is installed, and what the cores can hash and compress. At
//! the end the array is killed, opened again, and every block compared.

use std::hint::black_box;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use metropod_dedupe::{Compression, reduce_blocks};
use serde_json::json;

use super::rounds::{Round, Way, alternate};
use super::site::Site;
use super::{Settings, progress};
use crate::contents::{self, BLOCK_BYTES};
use crate::drive::Driven;
use crate::fio;
use crate::image::Image;
use crate::latency::Latency;
use crate::plan::{Api, Contents, Pattern, Plan, Stop};
use crate::report::{Document, Figure, Line};
use crate::tape::Tape;

const BLOCK: u64 = BLOCK_BYTES as u64;
const JOURNAL_MIB: u64 = 1024;
/// Journal of the steady work: small, so that it turns over often.
const STEADY_JOURNAL_MIB: u64 = 128;
const STEADY_JOURNAL_FULL_MIB: u64 = 256;
/// Times that the journal turns over in the steady work.
const TURNS: u64 = 20;
/// What a write of one block at the reference ratio takes in the journal, at least: its payload.
const PAYLOAD_BYTES: u64 = 2112;
/// Pause before each write of the ways that start from idle.
const IDLE_US: u64 = 1000;
/// Blocks of a sequential write.
const LONG: u64 = 64;
const SECTOR: u64 = 512;

pub(super) fn run(settings: &Settings) -> io::Result<Document> {
    let home = settings.home()?;
    let depth = settings.depth.unwrap_or(32);
    let size = settings.size_bytes.unwrap_or(match (settings.quick, settings.steady) {
        (true, _) => 64 << 20,
        (false, false) => 1 << 30,
        (false, true) => 8 << 30,
    });
    let journal_mib = match (settings.quick, settings.steady) {
        (_, false) => JOURNAL_MIB,
        (true, true) => STEADY_JOURNAL_MIB,
        (false, true) => STEADY_JOURNAL_FULL_MIB,
    };
    let params = json!({
        "volume_bytes": size, "journal_mib": journal_mib, "depth": settings.depth, "steady": settings.steady,
        "writes_per_round": settings.writes,
    });
    let mut document = Document::begin("write", home.path(), params);
    document
        .context("fio", fio::version().unwrap_or_else(|| "not installed: not compared with it".to_owned()));
    document.context(
        "durability",
        "on the disk before the acknowledgement: O_DSYNC there, one journal append here",
    );
    document.context("data", "unique blocks of LZ4 ratio 1.94, made before a write's time begins");
    document.context("warm", "files prewritten, one round before those that are kept");
    let mut site = Site::start(home.path(), journal_mib)?;
    let mut bench =
        Bench { settings, home: home.path(), document: &mut document, blocks: (size / BLOCK).max(4096) };
    if let Some(rate) = settings.rate {
        bench.open_loop(&mut site, depth, rate)?;
    } else if settings.steady {
        bench.steady(&mut site, depth, journal_mib)?;
    } else {
        if settings.depth.is_none_or(|depth| depth == 1) {
            bench.depth_1(&mut site)?;
        }
        if settings.depth != Some(1) {
            bench.random(&mut site, depth)?;
            bench.small(&mut site, depth)?;
        }
        if settings.depth.is_none() {
            bench.sequential(&mut site)?;
        }
    }
    let usage = site.usage()?;
    site.kill_and_reopen()?;
    document.checked(site.check()?);
    document.fact("array_before_it_was_killed", usage);
    Ok(document)
}

struct Bench<'a> {
    settings: &'a Settings,
    home: &'a Path,
    document: &'a mut Document,
    blocks: u64,
}

impl Bench<'_> {
    /// A seed for a way in a round of a question.
    fn seed(question: u64, round: u64, way: u64) -> u64 {
        question * 1_000_000 + round * 100 + way
    }

    fn depth_1(&mut self, site: &mut Site) -> io::Result<()> {
        let writes = self.settings.writes.unwrap_or(self.settings.pick(100, 1000));
        let volume = site.create_full_volume("depth1", self.blocks)?;
        let path = self.home.join("plain.tape");
        let tape = std::cell::RefCell::new(Tape::create(&path)?);
        let site = std::cell::RefCell::new(site);
        let blocks = self.blocks;
        for (idle, suffix, aim) in [
            (0, "", "blocking: the plain append + 15 us; p99 at most twice fio's"),
            (IDLE_US, ", from idle (1 ms between writes)", "async: the plain append + 85 us"),
        ] {
            let (tape, site, volume, path) = (&tape, &site, &volume, &path);
            let count = if idle == 0 { writes } else { (writes / 2).max(1) };
            let ours = |api: Api, way: u64| {
                move |round: u64| {
                    let seed = Self::seed(1, round, way + u64::from(idle > 0) * 10);
                    let plan = Plan::random_writes(volume, seed, blocks, 1, Stop::Requests(count));
                    let driven = site.borrow_mut().drive(&Plan { api, pause_us: idle, ..plan })?;
                    Ok(Some(Round::median(&driven)))
                }
            };
            let question = format!("one array, random durable writes of 4 KiB at depth 1{suffix}");
            let ways = vec![
                Way::new("plain O_DIRECT+O_DSYNC append, prewritten file", "us", None, move |_| {
                    let (latencies, cpu) = tape.borrow_mut().run(count, Duration::from_micros(idle))?;
                    let cpu_us = Some(cpu as f64 / 1e3 / count as f64);
                    Ok(Some(Round { cpu_us, ..Round::of(&Latency::of(&latencies)) }))
                }),
                Way::new("fio, the same", "us", Some(0), move |_| {
                    if fio::version().is_none() {
                        return Ok(None);
                    }
                    let run = fio::append(path, count, idle)?;
                    Ok(Some(Round { p99_us: Some(run.p99_us), ..Round::figure(run.p50_us) }))
                }),
                Way::new("metropod, async", "us", Some(0), ours(Api::Async, 0)),
                Way::new("metropod, blocking", "us", Some(0), ours(Api::Blocking, 1)),
            ];
            let figures = alternate("depth 1", self.settings.rounds(), ways)?;
            self.document.add(&question, aim, figures);
        }
        Ok(())
    }

    fn random(&mut self, site: &mut Site, depth: u64) -> io::Result<()> {
        let writes = self.settings.writes.unwrap_or(self.settings.pick(2_000, 40_000));
        let volume = site.create_full_volume("random", self.blocks)?;
        let raw = RawFile::create(self.home, self.blocks * BLOCK)?;
        let site = std::cell::RefCell::new(site);
        let (blocks, site) = (self.blocks, &site);
        let ours = |api: Api, way: u64| {
            let volume = &volume;
            move |round: u64| {
                let plan = Plan::random_writes(
                    volume,
                    Self::seed(2, round, way),
                    blocks,
                    depth,
                    Stop::Requests(writes),
                );
                Ok(Some(Round::rate(&site.borrow_mut().drive(&Plan { api, ..plan })?)))
            }
        };
        let ways = vec![
            Way::new(&format!("fio, random O_DSYNC, io_uring, depth {depth}"), "per s", None, |_| {
                raw.random_writes(depth, writes.min(20_000))
            }),
            Way::new("metropod, blocking, a thread each", "per s", Some(0), ours(Api::Blocking, 0)),
            Way::new("metropod, async", "per s", Some(0), ours(Api::Async, 1)),
        ];
        let figures = alternate("random writes", self.settings.rounds(), ways)?;
        let question = format!("one array, random durable writes of 4 KiB at depth {depth}, a burst");
        self.document.add(&question, "4 × fio", figures);
        Ok(())
    }

    /// Requests come when they come: half and all of the rate, so that the picture shows where waiting begins.
    fn open_loop(&mut self, site: &mut Site, depth: u64, rate: u64) -> io::Result<()> {
        let seconds = self.settings.seconds.unwrap_or(self.settings.pick(1, 10));
        let writes = self.settings.writes;
        let volume = site.create_full_volume("open", self.blocks)?;
        let site = std::cell::RefCell::new(site);
        let (blocks, site, volume) = (self.blocks, &site, &volume);
        let done = [std::cell::RefCell::new(Vec::new()), std::cell::RefCell::new(Vec::new())];
        let ours = |rate: u64, way: u64| {
            let done = &done[way as usize];
            move |round: u64| {
                let stop = Stop::Requests(writes.unwrap_or(rate * seconds).max(1));
                let plan = Plan::random_writes(volume, Self::seed(7, round, way), blocks, depth, stop);
                let driven =
                    site.borrow_mut().drive(&Plan { api: Api::Blocking, rate: Some(rate), ..plan })?;
                if round > 0 {
                    done.borrow_mut().push(driven.rate());
                }
                Ok(Some(Round::median(&driven)))
            }
        };
        let half = (rate / 2).max(1);
        let ways = vec![
            Way::new(&format!("{half} per s"), "us", None, ours(half, 0)),
            Way::new(&format!("{rate} per s"), "us", Some(0), ours(rate, 1)),
        ];
        let figures = alternate("writes at a rate", self.settings.rounds(), ways)?;
        let question = format!(
            "one array, random durable writes of 4 KiB that are due at a rate, at most {depth} under way, waiting counted"
        );
        self.document.add(&question, "", figures);
        let [slow, fast] = done.map(std::cell::RefCell::into_inner);
        let figure = |due: u64, done| Figure::of(&format!("{due} per s due"), "per s", done);
        self.document.add("of these, completed", "all", vec![figure(half, slow), figure(rate, fast)]);
        Ok(())
    }

    fn small(&mut self, site: &mut Site, depth: u64) -> io::Result<()> {
        let writes = self.settings.writes.unwrap_or(self.settings.pick(1_000, 20_000));
        let blocks = self.blocks.min(65_536);
        let sectors = blocks * (BLOCK / SECTOR);
        let whole = site.create_full_volume("whole", blocks)?;
        let parts = site.create_volume("parts", blocks, SECTOR, sectors)?;
        let site = std::cell::RefCell::new(site);
        let site = &site;
        let run = |plan: Plan| Ok(Some(Round::rate(&site.borrow_mut().drive(&plan)?)));
        let stop = Stop::Requests(writes);
        let aligned = |volume: &str, round, way, units| {
            Plan::random_writes(volume, Self::seed(3, round, way), units, depth, stop)
        };
        let ways = vec![
            Way::new("4 KiB, aligned", "per s", None, |round| run(aligned(&whole, round, 0, blocks))),
            Way::new("512 bytes", "per s", Some(0), |round| {
                run(Plan { unit_bytes: SECTOR, ..aligned(&parts, round, 1, sectors) })
            }),
            Way::new("4 KiB, misaligned", "per s", Some(0), |round| {
                let plan = aligned(&parts, round, 2, sectors);
                run(Plan { unit_bytes: SECTOR, length: BLOCK / SECTOR, pattern: Pattern::Misaligned, ..plan })
            }),
        ];
        let figures = alternate("small writes", self.settings.rounds(), ways)?;
        let question = format!("one array, random durable writes at depth {depth} that are not whole blocks");
        self.document.add(&question, "0.4 × those of whole blocks", figures);
        Ok(())
    }

    fn sequential(&mut self, site: &mut Site) -> io::Result<()> {
        let blocks = (self.settings.pick(16 << 20, 256 << 20) / BLOCK).min(self.blocks);
        let unique = site.create_full_volume("unique", blocks)?;
        let mixed = site.create_full_volume("mixed", blocks)?;
        let site = std::cell::RefCell::new(site);
        let site = &site;
        let ours = |volume: &str, contents: Contents, way: u64| {
            let plan = Plan { contents, length: LONG, prepare: true, ..Plan::fill(volume, 0, blocks) };
            move |round: u64| {
                let seed = Self::seed(4, round, way);
                let driven = site.borrow_mut().drive(&Plan { seed, ..plan.clone() })?;
                Ok(Some(megabytes(&driven, LONG)))
            }
        };
        let limit = move |contents: Contents, way: u64| {
            move |round: u64| {
                Ok(Some(Round::figure(reduce_limit(contents, Self::seed(4, round, way), blocks))))
            }
        };
        let unit = "MB/s";
        let ways = vec![
            Way::new("hash and compress, all cores, unique", unit, None, limit(Contents::Unique, 0)),
            Way::new("hash and compress, all cores, mixed", unit, None, limit(Contents::Reference, 1)),
            Way::new("metropod, unique", unit, Some(0), ours(&unique, Contents::Unique, 2)),
            Way::new("metropod, reference mix", unit, Some(1), ours(&mixed, Contents::Reference, 3)),
        ];
        let figures = alternate("sequential writes", self.settings.rounds(), ways)?;
        let question = "one array, sequential durable writes of 256 KiB, 8 under way";
        self.document.add(question, "0.8 × the cores' limit where the array has its own", figures);
        Ok(())
    }

    fn steady(&mut self, site: &mut Site, depth: u64, journal_mib: u64) -> io::Result<()> {
        let rounds = self.settings.rounds();
        let turns = self.settings.pick(2, TURNS);
        let all = turns * (journal_mib << 20) / PAYLOAD_BYTES;
        let writes = self.settings.writes.unwrap_or(all.div_ceil(rounds));
        let blocks = self.blocks;
        let volume = site.create_full_volume("steady", blocks)?;
        site.drive(&Plan::fill(&volume, 5, blocks))?;
        progress(format_args!("filled"));
        let raw = RawFile::create(self.home, blocks * BLOCK)?;
        let site = std::cell::RefCell::new(site);
        let mut steps = Vec::new();
        let mut stall_ms: f64 = 0.0;
        let ways = vec![
            Way::new(&format!("fio, random O_DSYNC, io_uring, depth {depth}"), "per s", None, |_| {
                raw.random_writes(depth, writes.min(50_000))
            }),
            Way::new("metropod, async", "per s", Some(0), |round| {
                let plan = Plan::random_writes(
                    &volume,
                    Self::seed(6, round, 0),
                    blocks,
                    depth,
                    Stop::Requests(writes),
                );
                let driven = site.borrow_mut().drive(&plan)?;
                steps.extend(driven.steps.iter().map(|requests| *requests as f64));
                stall_ms = stall_ms.max(driven.stall_ns as f64 / 1e6);
                Ok(Some(Round::rate(&driven)))
            }),
        ];
        let figures = alternate("steady writes", rounds, ways)?;
        let question =
            format!("one array, random durable writes of 4 KiB at depth {depth}, all stages turning");
        self.document.add(&question, "3 × fio", figures);
        self.document.line(Line { name: "completed".to_owned(), unit: "per s", step_s: 1.0, values: steps });
        let turned = (rounds + 1) * writes * PAYLOAD_BYTES / (journal_mib << 20);
        self.document.fact("journal_turned_over_at_least_times", turned);
        self.document.fact("longest_time_without_a_completion_ms", stall_ms);
        Ok(())
    }
}

/// A file for fio to write to at random.
pub(super) struct RawFile {
    path: std::path::PathBuf,
    bytes: u64,
    there: bool,
}

impl RawFile {
    pub(super) fn create(home: &Path, bytes: u64) -> io::Result<RawFile> {
        let (path, there) = (home.join("raw"), fio::version().is_some());
        if there {
            fio::lay_out(&path, bytes)?;
        }
        Ok(RawFile { path, bytes, there })
    }

    pub(super) fn random_writes(&self, depth: u64, count: u64) -> io::Result<Option<Round>> {
        if !self.there {
            return Ok(None);
        }
        fio::random_writes(&self.path, self.bytes, depth, count).map(|run| Some(Round::fio_rate(run)))
    }
}

/// Megabytes a second of requests of so many blocks.
fn megabytes(driven: &Driven, blocks: u64) -> Round {
    let round = Round::rate(driven);
    Round { figure: round.figure * (blocks * BLOCK) as f64 / 1e6, ..round }
}

/// Megabytes a second that all cores together hash and compress, in pieces as long as a sequential write.
fn reduce_limit(contents: Contents, seed: u64, blocks: u64) -> f64 {
    let image = match contents {
        Contents::Reference => Image::reference(blocks, seed).contents().to_vec(),
        Contents::Unique | Contents::Copies | Contents::Tiny => {
            (0..blocks).map(|block| seed << 32 | (block + 1)).collect()
        }
    };
    let pieces: Vec<Bytes> = image
        .chunks(LONG as usize)
        .map(|contents| {
            Bytes::from(contents.iter().flat_map(|content| contents::block(*content)).collect::<Vec<u8>>())
        })
        .collect();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let began = Instant::now();
    thread::scope(|scope| {
        for thread in 0..threads {
            let pieces = pieces.iter().skip(thread).step_by(threads);
            scope.spawn(|| {
                pieces.for_each(|piece| drop(black_box(reduce_blocks(piece, Compression::WhenItPays))));
            });
        }
    });
    (blocks * BLOCK) as f64 / 1e6 / began.elapsed().as_secs_f64()
}
