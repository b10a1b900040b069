//! E4: the index at 10^7 keys: binary fuse against blocked Bloom, and the store's index as it is.
//!
//! `e4_index [--keys N] [--rounds N] [--lookups N] [--dir DIRECTORY] [--json]`. No key of the set may be denied by any
//! filter, and the store must find what it holds and nothing else, in every round.

use std::hint::black_box;
use std::io;
use std::time::Instant;

use metropod_benches::arguments::Arguments;
use metropod_benches::chance::Chance;
use metropod_benches::experiment::{Outcome, Report, Variant, alternate};
use metropod_benches::filters::{Bloom, Filter, Fuse, Key, key};
use metropod_benches::park::block_on;
use metropod_benches::{many_chunks, memory, setting};
use metropod_dedupe::{Digest, Store};
use serde_json::json;

const BITS_PER_KEY: u64 = 12;
/// Greatest number of keys of a partition.
const PARTITION_KEYS: u64 = 1_000_000;
/// Shares of the keys in the runs of a store after some merges, in 1/64.
const RUN_SHARES: [u64; 6] = [48, 8, 4, 2, 1, 1];
/// Digests per call of `Store::have`.
const TOGETHER: usize = 32;
/// Numbers from here on are of no set.
const ABSENT_FROM: u64 = 1 << 40;

fn main() -> io::Result<()> {
    let arguments = Arguments::read(&["keys", "rounds", "lookups"])?;
    let (keys, rounds) = (arguments.get("keys", 10_000_000u64)?, arguments.get("rounds", 5u64)?);
    let lookups = arguments.get("lookups", 1_000_000u64)?;
    let directory = arguments.directory()?;
    let setting = json!({
        "setting": setting::describe(directory.path()), "keys": keys, "rounds": rounds, "lookups_per_round": lookups,
        "bloom_bits_per_key": BITS_PER_KEY, "partition_keys": PARTITION_KEYS,
    });
    let mut report = Report::new();
    compare_filters(&mut report, keys, rounds, lookups)?;
    measure_store(&mut report, &directory.path().join("store"), keys, rounds, lookups)?;
    report.fact("load_after", setting::load_average());
    report.print("E4", &setting, arguments.json);
    Ok(())
}

/// One filter over all keys, or one per partition by first bits.
struct Parts<F> {
    parts: Vec<F>,
}

impl<F: Filter> Filter for Parts<F> {
    fn may_contain(&self, key: &Key) -> bool {
        self.parts[part_of(key, self.parts.len())].may_contain(key)
    }

    fn memory_bytes(&self) -> u64 {
        self.parts.iter().map(Filter::memory_bytes).sum()
    }
}

fn part_of(key: &Key, parts: usize) -> usize {
    ((u128::from(key[0]) * parts as u128) >> 64) as usize
}

fn fuse(keys: &[Key]) -> io::Result<Fuse> {
    Fuse::build(keys).map_err(|_| io::Error::other("the fuse filter cannot be built"))
}

/// As a merge would: the keys come in digest order, so the keys of one partition at a time are gathered.
fn fuse_parts(keys: &[Key]) -> io::Result<Parts<Fuse>> {
    let parts = (keys.len() as u64).div_ceil(PARTITION_KEYS) as usize;
    let mut filters = Vec::with_capacity(parts);
    let mut from = 0;
    for part in 0..parts {
        let end = keys.partition_point(|key| part_of(key, parts) <= part);
        filters.push(fuse(&keys[from..end])?);
        from = end;
    }
    Ok(Parts { parts: filters })
}

fn compare_filters(report: &mut Report, count: u64, rounds: u64, lookups: u64) -> io::Result<()> {
    let mut keys: Vec<Key> = (0..count).map(key).collect();
    keys.sort_unstable_by_key(|key| key[0]);
    let mut transients = [0u64; 3];
    let [bloom_peak, fuse_peak, parts_peak] = transients.each_mut();
    let outcomes = alternate(
        rounds,
        "ns per key",
        vec![
            Variant::new("blocked Bloom, 12 bits", |_| {
                build(&keys, bloom_peak, |keys| Ok(Bloom::build(keys, BITS_PER_KEY)))
            }),
            Variant::new("binary fuse, one", |_| build(&keys, fuse_peak, fuse)),
            Variant::new("binary fuse, parts of 10^6", |_| build(&keys, parts_peak, fuse_parts)),
        ],
    )?;
    report.add("building a filter of all keys", outcomes);
    for (name, peak) in ["bloom", "fuse_one", "fuse_parts"].into_iter().zip(transients) {
        report.fact(&format!("transient_bytes_per_key_{name}"), peak as f64 / count as f64);
    }

    let filters: [(&str, Box<dyn Filter>); 4] = [
        ("blocked Bloom, 12 bits", Box::new(Bloom::build(&keys, BITS_PER_KEY))),
        ("blocked Bloom, 10 bits", Box::new(Bloom::build(&keys, 10))),
        ("binary fuse, one", Box::new(fuse(&keys)?)),
        ("binary fuse, parts of 10^6", Box::new(fuse_parts(&keys)?)),
    ];
    for (name, filter) in &filters {
        let wrong = (ABSENT_FROM..ABSENT_FROM + lookups).filter(|n| filter.may_contain(&key(*n))).count();
        report.fact(&format!("bytes_per_key: {name}"), filter.memory_bytes() as f64 / count as f64);
        report.fact(&format!("wrongly_positive_percent: {name}"), wrong as f64 * 100.0 / lookups as f64);
    }
    report.add(
        "asking for an absent key",
        ask(
            &filters,
            rounds,
            |round| (0..lookups).map(|n| key(ABSENT_FROM + round * lookups + n)).collect(),
            false,
        )?,
    );
    report.add(
        "asking for a present key",
        ask(
            &filters,
            rounds,
            |round| {
                let mut chance = Chance::new(round);
                (0..lookups).map(|_| key(chance.below(count))).collect()
            },
            true,
        )?,
    );
    drop(filters);
    report.add("asking six runs for an absent key", ask_runs(&keys, rounds, lookups)?);
    Ok(())
}

fn build<F: Filter>(
    keys: &[Key],
    transient: &mut u64,
    how: impl Fn(&[Key]) -> io::Result<F>,
) -> io::Result<f64> {
    memory::reset_peak()?;
    let before = memory::resident_bytes();
    let began = Instant::now();
    let filter = how(keys)?;
    let ns = began.elapsed().as_nanos() as f64 / keys.len() as f64;
    *transient = (*transient).max(memory::peak_bytes().saturating_sub(before));
    if keys.iter().step_by(101).all(|key| filter.may_contain(key)) {
        Ok(ns)
    } else {
        Err(io::Error::other("a filter denies a key of its set"))
    }
}

fn ask(
    filters: &[(&str, Box<dyn Filter>)],
    rounds: u64,
    asked: impl Fn(u64) -> Vec<Key>,
    present: bool,
) -> io::Result<Vec<Outcome>> {
    let asked = &asked;
    let variants = filters.iter().map(|(name, filter)| {
        Variant::new(name, move |round| {
            let keys = asked(round);
            let began = Instant::now();
            let found = keys.iter().filter(|key| filter.may_contain(black_box(key))).count();
            let ns = began.elapsed().as_nanos() as f64 / keys.len() as f64;
            let right = if present { found == keys.len() } else { found < keys.len() / 50 };
            if right { Ok(ns) } else { Err(io::Error::other("a filter answers wrongly")) }
        })
    });
    alternate(rounds, "ns per key", variants.collect())
}

/// Until one of six runs says "maybe", as a unique write asks.
fn ask_runs(keys: &[Key], rounds: u64, lookups: u64) -> io::Result<Vec<Outcome>> {
    let mut blooms: Vec<Box<dyn Filter>> = Vec::new();
    let mut fuses: Vec<Box<dyn Filter>> = Vec::new();
    for share in RUN_SHARES {
        let keys = &keys[..keys.len() * share as usize / 64];
        blooms.push(Box::new(Bloom::build(keys, BITS_PER_KEY)));
        fuses.push(Box::new(fuse_parts(keys)?));
    }
    let run = |filters: &[Box<dyn Filter>], round: u64| {
        let keys: Vec<Key> = (0..lookups).map(|n| key(ABSENT_FROM + round * lookups + n)).collect();
        let began = Instant::now();
        let maybe =
            keys.iter().filter(|key| filters.iter().any(|filter| filter.may_contain(black_box(key)))).count();
        let ns = began.elapsed().as_nanos() as f64 / keys.len() as f64;
        if maybe < keys.len() / 10 { Ok(ns) } else { Err(io::Error::other("a filter answers wrongly")) }
    };
    alternate(
        rounds,
        "ns per key",
        vec![
            Variant::new("blocked Bloom, 12 bits", |round| run(&blooms, round)),
            Variant::new("binary fuse, parts of 10^6", |round| run(&fuses, round)),
        ],
    )
}

fn measure_store(
    report: &mut Report,
    directory: &std::path::Path,
    count: u64,
    rounds: u64,
    lookups: u64,
) -> io::Result<()> {
    std::fs::create_dir(directory)?;
    let before = memory::resident_bytes();
    memory::reset_peak()?;
    let store = many_chunks::create(directory)?;
    let began = Instant::now();
    many_chunks::store(&store, 0..count)?;
    report.fact("store_us_per_chunk_stored", began.elapsed().as_nanos() as f64 / 1e3 / count as f64);
    let stats = store.stats();
    report.fact("store_runs", stats.runs);
    report.fact("store_recent_entries", stats.recent_entries);
    report.fact("store_index_bytes_per_chunk", stats.index_memory_bytes as f64 / count as f64);
    report.fact("store_peak_mib", (memory::peak_bytes() - before) >> 20);
    report.fact("store_resident_mib", memory::resident_bytes().saturating_sub(before) >> 20);
    if stats.chunks != count {
        return Err(io::Error::other("the store does not hold what it was given"));
    }
    let lookups = (lookups / 5).max(1);
    let variants = vec![
        Variant::new("absent", |round| {
            let from = ABSENT_FROM + round * lookups;
            have(&store, (from..from + lookups).map(many_chunks::name).collect(), false)
        }),
        Variant::new("present, at random", |round| {
            let mut chance = Chance::new(round);
            have(&store, (0..lookups).map(|_| many_chunks::name(chance.below(count))).collect(), true)
        }),
        Variant::new("present, in digest order", |round| {
            let mut chance = Chance::new(round);
            let mut names: Vec<Digest> =
                (0..lookups).map(|_| many_chunks::name(chance.below(count))).collect();
            names.sort_unstable();
            have(&store, names, true)
        }),
    ];
    report.add(
        "the store, 32 digests at a time, runs in the page cache",
        alternate(rounds, "us per digest", variants)?,
    );
    Ok(())
}

fn have(store: &Store, names: Vec<Digest>, present: bool) -> io::Result<f64> {
    let began = Instant::now();
    let mut right = true;
    for names in names.chunks(TOGETHER) {
        let answers = block_on(store.have(names)).map_err(io::Error::other)?;
        right &= answers.iter().all(|answer| *answer == present);
    }
    let us = began.elapsed().as_nanos() as f64 / 1e3 / names.len() as f64;
    if right { Ok(us) } else { Err(io::Error::other("the store answers wrongly")) }
}
