//! P15: a store with very many chunks: memory of its index, and the time to say whether it holds a chunk.
//!
//! Chunks have numbers for digests and little content: the index does not see the difference. Every answer of every lookup
//! is compared with what was stored.

use std::io;
use std::time::Instant;

use metropod_dedupe::{Digest, Store};
use serde_json::json;

use super::rounds::{Round, Way, alternate};
use super::{Settings, progress};
use crate::chance::Chance;
use crate::many_chunks;
use crate::memory;
use crate::park::block_on;
use crate::report::{Document, Figure};

/// Digests asked for together.
const TOGETHER: usize = 32;
/// Numbers from here on are of no chunk.
const ABSENT_FROM: u64 = 1 << 40;

pub(super) fn run(settings: &Settings) -> io::Result<Document> {
    let home = settings.home()?;
    let chunks = settings.count.unwrap_or(settings.pick(50_000, 10_000_000));
    let lookups = settings.writes.unwrap_or(settings.pick(5_000, 200_000));
    let params = json!({"chunks": chunks, "lookups_per_round": lookups, "digests_together": TOGETHER});
    let mut document = Document::begin("index", home.path(), params);
    document.context("warm", "runs of the index in the page cache");
    let directory = home.path().join("store");
    std::fs::create_dir(&directory)?;
    let resident = memory::resident_bytes();
    let store = many_chunks::create(&directory)?;
    let began = Instant::now();
    many_chunks::store(&store, 0..chunks)?;
    let us = began.elapsed().as_nanos() as f64 / 1e3 / chunks as f64;
    progress(format_args!("{chunks} chunks stored"));
    let stats = store.stats();
    if stats.chunks != chunks {
        return Err(io::Error::other("the store does not hold what it was given"));
    }
    let ask =
        |names: Vec<Digest>, present: bool| have(&store, &names, present).map(|us| Some(Round::figure(us)));
    let ways = vec![
        Way::new("present, in digest order", "us", None, |round| {
            let mut names = present(chunks, lookups, round);
            names.sort_unstable();
            ask(names, true)
        }),
        Way::new("absent", "us", None, |round| {
            let from = ABSENT_FROM + round * lookups;
            ask((from..from + lookups).map(many_chunks::name).collect(), false)
        }),
        Way::new("present, at random", "us", None, |round| ask(present(chunks, lookups, round), true)),
    ];
    let figures = alternate("lookups", settings.rounds(), ways)?;
    document.add("a lookup, 32 digests at a time", "1 us", figures);
    let bytes = stats.index_memory_bytes as f64 / chunks as f64;
    let memory = Figure::of("memory of the index per chunk", "B", vec![bytes]);
    document.add("memory of the index, counted once", "3 B per chunk, complete", vec![memory]);
    document.fact("index_memory_bytes", stats.index_memory_bytes);
    document.fact("extrapolated_to_1e8_chunks_bytes", bytes * 1e8);
    document.fact("resident_bytes_grown", memory::resident_bytes().saturating_sub(resident));
    document.fact("store_us_per_chunk", us);
    document.fact("runs", stats.runs);
    document.checked(3 * settings.rounds() * lookups);
    Ok(document)
}

fn present(chunks: u64, lookups: u64, round: u64) -> Vec<Digest> {
    let mut chance = Chance::new(round);
    (0..lookups).map(|_| many_chunks::name(chance.below(chunks))).collect()
}

/// Microseconds a digest; fails at a wrong answer.
fn have(store: &Store, names: &[Digest], present: bool) -> io::Result<f64> {
    let began = Instant::now();
    let mut right = true;
    for names in names.chunks(TOGETHER) {
        let answers = block_on(store.have(names)).map_err(io::Error::other)?;
        right &= answers.iter().all(|answer| *answer == present);
    }
    let us = began.elapsed().as_nanos() as f64 / 1e3 / names.len() as f64;
    if right { Ok(us) } else { Err(io::Error::other("the store answers wrongly")) }
}
