//! P6 and P20: reads of one array on a real disk, nothing of them in the page cache.
//!
//! `p6_reads [--gib N] [--rounds N] [--reads N] [--dir DIRECTORY] [--json]`. Random reads of 4 KiB beside direct reads of a
//! plain file and fio, at depth 1 and from 32 threads: with the map warm (everything was read once, then the page cache was
//! emptied) and cold (the array was started anew as well). Sequential reads beside what the cores can unpack and verify: of
//! data as it was written first, and after every block was overwritten in random order, three of ten by content that is
//! there already. Every sixteenth block read is compared; the array verifies every one.

mod site;

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use metropod_benches::arguments::Arguments;
use metropod_benches::chance::{Chance, mix};
use metropod_benches::contents::{self, BLOCK_BYTES};
use metropod_benches::experiment::{Outcome, Report, Variant, alternate};
use metropod_benches::figures::quantile;
use metropod_benches::plain_reads::PlainFile;
use metropod_benches::{fio, setting};
use metropod_dedupe::{Compression, Digest, Domain, Payload, Reduced, digest_blocks, expand, reduce};
use metropod_journal::media::AlignedBuf;
use serde_json::json;
use site::{Remote, together};

const THREADS: u64 = 32;
/// Blocks of the measurement of the cores.
const LIMIT_BLOCKS: u64 = 16_384;
/// As many as one of the array's reads here brings.
const HASHED_TOGETHER: usize = 64;

fn main() -> io::Result<()> {
    if site::main_if_asked()? {
        return Ok(());
    }
    let arguments = Arguments::read(&["gib", "rounds", "reads"])?;
    let (gib, rounds) = (arguments.get("gib", 4u64)?, arguments.get("rounds", 5u64)?);
    let reads = arguments.get("reads", 2000u64)?;
    let directory = arguments.directory()?;
    let blocks = gib << 18;
    let setting = json!({
        "setting": setting::describe(directory.path()), "volume_gib": gib, "rounds": rounds, "reads_per_round": reads,
        "fio": fio::version(), "data": "unique blocks, LZ4 ratio 1.94", "page_cache": "emptied before each measurement",
    });
    let mut report = Report::new();
    let raw = directory.path().join("raw");
    let plain = PlainFile::create(&raw, blocks)?;
    let site = RefCell::new(Remote::start(&directory.path().join("array"), blocks)?);
    site.borrow_mut().ask("fill")?;
    site.borrow_mut().restart()?;
    eprintln!("filled");
    let fresh = sequential(&site, rounds)?;
    report.fact("memory_bytes_after_a_pass", site.borrow_mut().number("memory")?);
    random(&mut report, &site, &plain, &raw, blocks, rounds, reads)?;
    site.borrow_mut().ask("overwrite")?;
    site.borrow_mut().overwritten()?;
    eprintln!("overwritten");
    let old = sequential(&site, rounds)?;
    let limit = Variant::new("unpack and verify, all cores", |_| Ok(limit()));
    let mut outcomes = alternate(rounds, "MB/s", vec![limit])?;
    outcomes.extend(named("fresh", fresh));
    outcomes.extend(named("overwritten, 30 % duplicates", old));
    report.add("sequential reads of 256 KiB", outcomes);
    report.fact("load_after", setting::load_average());
    report.print("P6 and P20", &setting, arguments.json);
    Ok(())
}

fn named(what: &str, mut outcomes: Vec<Outcome>) -> Vec<Outcome> {
    outcomes.iter_mut().for_each(|outcome| outcome.name = format!("{what}, {}", outcome.name));
    outcomes
}

/// Whole passes over the volume, cold.
fn sequential(site: &RefCell<Remote>, rounds: u64) -> io::Result<Vec<Outcome>> {
    let pass = |threads: u64| {
        let mut site = site.borrow_mut();
        site.restart()?;
        site.number(&format!("pass {threads}"))
    };
    let variants = vec![Variant::new("one reader", |_| pass(1)), Variant::new("two readers", |_| pass(2))];
    alternate(rounds, "MB/s", variants)
}

fn random(
    report: &mut Report,
    site: &RefCell<Remote>,
    plain: &PlainFile,
    raw: &Path,
    blocks: u64,
    rounds: u64,
    reads: u64,
) -> io::Result<()> {
    let deep = reads / 4;
    let alone = |round| Ok(direct(plain, blocks, round, 1, reads)?.0);
    let many = |round| Ok(direct(plain, blocks, round, THREADS, deep)?.1);
    let warm = |round: u64, threads, reads, api: &str| {
        let seed = round * 64 + threads;
        site.borrow_mut().pair(&format!("random {seed} {threads} {reads} {api}"))
    };
    let cold = |round: u64, threads, reads| {
        site.borrow_mut().restart()?;
        warm(round + 1000, threads, reads, "blocking")
    };
    site.borrow_mut().restart()?;
    site.borrow_mut().ask("pass 1")?;
    let has_fio = fio::version().is_some();
    let mut variants = vec![
        Variant::new("plain direct read", alone),
        Variant::new("metropod, map warm, blocking", |round| Ok(warm(round, 1, reads, "blocking")?.0)),
        Variant::new("metropod, map warm, async", |round| Ok(warm(round, 1, reads, "async")?.0)),
    ];
    variants.extend(has_fio.then(|| Variant::new("fio", |_| Ok(fio::random_reads(raw, 1, reads)?.0))));
    report.add("4 KiB random reads, depth 1", alternate(rounds, "us", variants)?);
    let mut variants = vec![
        Variant::new("plain direct reads", many),
        Variant::new("metropod, map warm, blocking", |round| Ok(warm(round, THREADS, deep, "blocking")?.1)),
        Variant::new("metropod, map warm, async", |round| Ok(warm(round, THREADS, deep, "async")?.1)),
    ];
    let deep_fio = Variant::new("fio, 32 threads", |_| Ok(fio::random_reads(raw, THREADS, deep)?.1));
    variants.extend(has_fio.then_some(deep_fio));
    report.add("4 KiB random reads, 32 at a time", alternate(rounds, "/s", variants)?);
    let variants = vec![
        Variant::new("plain direct read", alone),
        Variant::new("metropod, map cold, blocking", |round| Ok(cold(round, 1, reads / 4)?.0)),
    ];
    report.add("depth 1, map cold", alternate(rounds, "us", variants)?);
    let variants = vec![
        Variant::new("plain direct reads", many),
        Variant::new("metropod, map cold, blocking", |round| Ok(cold(round, THREADS, deep / 16)?.1)),
    ];
    report.add("32 at a time, map cold", alternate(rounds, "/s", variants)?);
    Ok(())
}

/// Direct reads of the plain file: median latency in microseconds, and rate per second.
fn direct(plain: &PlainFile, blocks: u64, seed: u64, threads: u64, reads: u64) -> io::Result<(f64, f64)> {
    let began = Instant::now();
    let latencies = together((0..threads).map(|thread| {
        let mut chance = Chance::new(mix(seed ^ mix(thread + 7)));
        move || {
            let mut buffer = AlignedBuf::zeroed(BLOCK_BYTES);
            let mut latencies = Vec::with_capacity(reads as usize);
            for _ in 0..reads {
                let block = chance.below(blocks);
                let began = Instant::now();
                plain.read(block, &mut buffer)?;
                latencies.push(began.elapsed().as_nanos() as u64);
            }
            Ok(latencies)
        }
    }))?;
    let elapsed = began.elapsed().as_secs_f64();
    Ok((quantile(&latencies.concat(), 0.5) / 1e3, (threads * reads) as f64 / elapsed))
}

/// What the cores can unpack and verify, in MB/s of content.
fn limit() -> f64 {
    let chunks: Vec<(Digest, Payload)> = (1..=LIMIT_BLOCKS)
        .map(|content| match reduce(&contents::block(content), Compression::WhenItPays) {
            Reduced::Chunk { digest, payload } => (digest, payload),
            Reduced::Zero => unreachable!("contents from number 1 on are not zero"),
        })
        .collect();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let began = Instant::now();
    thread::scope(|scope| {
        for part in chunks.chunks(chunks.len().div_ceil(cores)) {
            scope.spawn(move || {
                for batch in part.chunks(HASHED_TOGETHER) {
                    let contents =
                        batch.iter().map(|(_, payload)| expand(payload).expect("it was just made"));
                    let contents: Vec<Bytes> = contents.collect();
                    let blocks: Vec<&[u8; BLOCK_BYTES]> =
                        contents.iter().map(|content| content[..].try_into().expect("a block")).collect();
                    let digests = digest_blocks(Domain::Data, &blocks);
                    assert!(digests.iter().zip(batch).all(|(digest, (name, _))| digest == name));
                }
            });
        }
    });
    (LIMIT_BLOCKS * BLOCK_BYTES as u64) as f64 / 1e6 / began.elapsed().as_secs_f64()
}
