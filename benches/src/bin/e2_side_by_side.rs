//! E2: BLAKE3 of many 4 KiB blocks side by side (`digest_blocks`) against one after the other.
//!
//! `e2_side_by_side [--rounds N] [--blocks N] [--dir DIRECTORY] [--json]`. Gate: 1.6 times as fast at 16 blocks. Every
//! round compares every name with that of `digest`.

use std::hint::black_box;
use std::io;
use std::time::Instant;

use metropod_benches::arguments::Arguments;
use metropod_benches::contents::BLOCK_BYTES;
use metropod_benches::experiment::{Report, Variant, alternate};
use metropod_benches::{contents, setting};
use metropod_dedupe::{Digest, Domain, digest, digest_blocks};
use serde_json::json;

/// Blocks per call.
const BATCHES: [usize; 12] = [1, 2, 4, 5, 6, 7, 8, 10, 11, 12, 16, 32];

type Block = [u8; BLOCK_BYTES];

fn main() -> io::Result<()> {
    let arguments = Arguments::read(&["rounds", "blocks"])?;
    let (rounds, count) = (arguments.get("rounds", 9)?, arguments.get("blocks", 1536u64)?);
    let directory = arguments.directory()?;
    let setting = json!({
        "setting": setting::describe(directory.path()), "blocks": count, "block_bytes": BLOCK_BYTES,
        "rounds": rounds,
    });
    let blocks: Vec<Box<Block>> = (1..=count).map(filled).collect();
    let blocks: Vec<&Block> = blocks.iter().map(|block| &**block).collect();
    let expected: Vec<Digest> = blocks.iter().map(|block| digest(Domain::Data, &block[..])).collect();

    let mut variants = vec![Variant::new("one after the other", |_| {
        let began = Instant::now();
        let names: Vec<Digest> =
            blocks.iter().map(|block| digest(Domain::Data, black_box(&block[..]))).collect();
        per_block(began, count, &names, &expected)
    })];
    for batch in BATCHES {
        let (blocks, expected) = (&blocks, &expected);
        variants.push(Variant::new(&format!("{batch} side by side"), move |_| {
            let began = Instant::now();
            let mut names = Vec::with_capacity(blocks.len());
            for blocks in blocks.chunks(batch) {
                names.extend(digest_blocks(Domain::Data, black_box(blocks)));
            }
            per_block(began, count, &names, expected)
        }));
    }
    let outcomes = alternate(rounds, "us per block", variants)?;
    let at_16 = outcomes
        .iter()
        .find(|outcome| outcome.name.starts_with("16 "))
        .map_or(f64::NAN, |sixteen| outcomes[0].ratio(sixteen));
    let mut report = Report::new();
    report.add("keyed BLAKE3 of one block of 4 KiB", outcomes);
    report.fact("times_as_fast_at_16", at_16);
    report.fact("gate", 1.6);
    report.print("E2", &setting, arguments.json);
    Ok(())
}

fn filled(content: u64) -> Box<Block> {
    let mut block = Box::new([0; BLOCK_BYTES]);
    contents::fill(content, &mut block[..]);
    block
}

fn per_block(began: Instant, count: u64, names: &[Digest], expected: &[Digest]) -> io::Result<f64> {
    let us = began.elapsed().as_nanos() as f64 / 1e3 / count as f64;
    if names == expected {
        Ok(us)
    } else {
        Err(io::Error::other("a name differs from that of the block alone"))
    }
}
