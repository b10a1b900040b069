//! Reads of one array, nothing of the data in the page cache: P6 random, beside fio's direct reads of a file of the same
//! size, with the map warm and cold; P20 sequential, of data as it was written first and after every block was overwritten
//! in scattered order, beside what the cores can unpack and verify.
//!
//! The array verifies every chunk it reads; the host compares every sixteenth read, and every block at the end.

use std::cell::RefCell;
use std::hint::black_box;
use std::io;
use std::thread;
use std::time::Instant;

use metropod_dedupe::{Compression, Digest, Domain, ExpandError, Payload, Reduced, reduce, verify};
use serde_json::json;

use super::rounds::{Round, Way, alternate};
use super::site::Site;
use super::{Settings, progress};
use crate::cold::forget;
use crate::contents::{self, BLOCK_BYTES};
use crate::fio;
use crate::plan::{Api, Contents, Kind, Pattern, Plan, Stop};
use crate::report::Document;

const BLOCK: u64 = BLOCK_BYTES as u64;
const JOURNAL_MIB: u64 = 1024;
/// Blocks of a sequential read.
const LONG: u64 = 64;
/// Sequential reads under way.
const AHEAD: u64 = 8;
/// Blocks of the measurement of the cores.
const LIMIT_BLOCKS: u64 = 16_384;

pub(super) fn run(settings: &Settings) -> io::Result<Document> {
    let home = settings.home()?;
    let depth = settings.depth.unwrap_or(32);
    let blocks = (settings.size_bytes.unwrap_or(settings.pick(64 << 20, 4 << 30)) / BLOCK).max(1024);
    let reads = settings.writes.unwrap_or(settings.pick(500, 2_000));
    let params = json!({"volume_bytes": blocks * BLOCK, "depth": depth, "reads_per_round": reads});
    let mut document = Document::begin("read", home.path(), params);
    let version = fio::version();
    document
        .context("fio", version.clone().unwrap_or_else(|| "not installed: not compared with it".to_owned()));
    document.context(
        "data",
        "unique blocks of LZ4 ratio 1.94; the page cache is emptied before each measurement",
    );
    let raw = home.path().join("raw");
    if version.is_some() {
        fio::lay_out(&raw, blocks * BLOCK)?;
    }
    let mut site = Site::start(home.path(), JOURNAL_MIB)?;
    let fresh = site.create_full_volume("fresh", blocks)?;
    site.drive(&Plan::fill(&fresh, 1, blocks))?;
    let old = site.create_full_volume("old", blocks)?;
    site.drive(&Plan::fill(&old, 2, blocks))?;
    let scattered = Plan::random_writes(&old, 3, blocks, 32, Stop::Requests(blocks / 32 * 32));
    site.drive(&Plan { pattern: Pattern::Scattered, contents: Contents::Copies, ..scattered })?;
    progress(format_args!("filled"));
    site.close_and_reopen()?;
    let site = RefCell::new(site);
    let bench =
        Bench { settings, site: &site, raw: &raw, fio: version.is_some(), volume: &fresh, blocks, reads };
    // All of the map is read once.
    site.borrow_mut().drive(&sequential(&fresh, blocks))?;
    for map in [Map::Warm, Map::Cold] {
        bench.random(&mut document, map, 1)?;
        bench.random(&mut document, map, depth)?;
    }
    bench.sequential(&mut document, &old)?;
    let usage = site.borrow_mut().usage()?;
    document.fact("array_at_the_end", usage);
    document.checked(site.borrow_mut().check()?);
    Ok(document)
}

#[derive(Clone, Copy, PartialEq)]
enum Map {
    Warm,
    Cold,
}

struct Bench<'a> {
    settings: &'a Settings,
    site: &'a RefCell<Site>,
    raw: &'a std::path::Path,
    fio: bool,
    volume: &'a str,
    blocks: u64,
    reads: u64,
}

impl Bench<'_> {
    fn random(&self, document: &mut Document, map: Map, depth: u64) -> io::Result<()> {
        let count = if depth == 1 { self.reads } else { self.reads * 10 };
        let count = count.min(self.blocks);
        let unit = if depth == 1 { "us" } else { "per s" };
        let ours = |api: Api, way: u64| {
            move |round: u64| {
                let mut site = self.site.borrow_mut();
                if map == Map::Cold {
                    site.close_and_reopen()?;
                }
                forget(&site.directory)?;
                let seed = 1000 * depth + 10 * round + way;
                let plan = Plan::random_writes(self.volume, seed, self.blocks, depth, Stop::Requests(count));
                let driven = site.drive(&Plan { kind: Kind::Read, api, ..plan })?;
                Ok(Some(if depth == 1 { Round::median(&driven) } else { Round::rate(&driven) }))
            }
        };
        let ways = vec![
            Way::new("fio, direct reads, io_uring", unit, None, |_| {
                if !self.fio {
                    return Ok(None);
                }
                let run = fio::checked_random_reads(self.raw, self.blocks * BLOCK, depth, count)?;
                Ok(Some(if depth == 1 { Round::fio_median(run) } else { Round::fio_rate(run) }))
            }),
            Way::new("metropod, async", unit, Some(0), ours(Api::Async, 0)),
            Way::new("metropod, blocking", unit, Some(0), ours(Api::Blocking, 1)),
        ];
        let word = if map == Map::Warm { "warm" } else { "cold" };
        let figures = alternate(&format!("reads, map {word}, depth {depth}"), self.settings.rounds(), ways)?;
        let aim = match (map, depth) {
            (Map::Warm, 1) => "1.3 × fio's latency",
            (Map::Warm, _) => "0.7 × fio's rate",
            (Map::Cold, 1) => "2.3 × fio's latency",
            (Map::Cold, _) => "0.4 × fio's rate",
        };
        document.add(&format!("random reads of 4 KiB at depth {depth}, map {word}"), aim, figures);
        Ok(())
    }

    fn sequential(&self, document: &mut Document, old: &str) -> io::Result<()> {
        let blocks = self.blocks;
        let ours = |volume: &str| {
            let plan = sequential(volume, blocks);
            move |_: u64| {
                let mut site = self.site.borrow_mut();
                forget(&site.directory)?;
                let driven = site.drive(&plan)?;
                let round = Round::rate(&driven);
                Ok(Some(Round { figure: round.figure * (LONG * BLOCK) as f64 / 1e6, ..round }))
            }
        };
        let ways = vec![
            Way::new("unpack and verify, all cores", "MB/s", None, |_| {
                verify_limit().map(Round::figure).map(Some)
            }),
            Way::new("metropod, as written first", "MB/s", Some(0), ours(self.volume)),
            Way::new("metropod, overwritten, 30 % copies", "MB/s", Some(1), ours(old)),
        ];
        let figures = alternate("sequential reads", self.settings.rounds(), ways)?;
        let aim = "fresh: 0.6 × the cores' limit; overwritten: 0.25 × fresh";
        document.add("sequential reads of 256 KiB, 8 under way", aim, figures);
        Ok(())
    }
}

fn sequential(volume: &str, blocks: u64) -> Plan {
    Plan { kind: Kind::Read, depth: AHEAD, length: LONG, ..Plan::fill(volume, 0, blocks) }
}

/// Megabytes a second that all cores together unpack and verify.
fn verify_limit() -> io::Result<f64> {
    let chunks: Vec<_> = (1..=LIMIT_BLOCKS)
        .filter_map(|content| match reduce(&contents::block(content), Compression::WhenItPays) {
            Reduced::Chunk { digest, payload } => Some((digest, payload)),
            Reduced::Zero => None,
        })
        .collect();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let began = Instant::now();
    thread::scope(|scope| {
        let parts: Vec<_> = chunks
            .chunks(chunks.len().div_ceil(threads))
            .map(|part| scope.spawn(move || unpack(part)))
            .collect();
        parts.into_iter().try_for_each(|part| match part.join() {
            Ok(result) => result.map_err(io::Error::other),
            Err(_) => Err(io::Error::other("a thread panicked")),
        })
    })?;
    Ok((LIMIT_BLOCKS * BLOCK) as f64 / 1e6 / began.elapsed().as_secs_f64())
}

fn unpack(chunks: &[(Digest, Payload)]) -> Result<(), ExpandError> {
    chunks.iter().try_for_each(|(digest, payload)| {
        verify(Domain::Data, digest, payload).map(|bytes| drop(black_box(bytes)))
    })
}
