//! E3: LZ4 of one 4 KiB block: what a reused table saves, and what incompressible data costs.
//!
//! `e3_compress [--rounds N] [--blocks N] [--dir DIRECTORY] [--json]`. Gate: incompressible below 2 us. Every round
//! expands every kept form and compares it with the block.

use std::hint::black_box;
use std::io;
use std::time::Instant;

use lz4_flex::block::{
    CompressTable, compress, compress_into, compress_into_with_table, decompress_into,
    get_maximum_output_size,
};
use metropod_benches::arguments::Arguments;
use metropod_benches::chance::Chance;
use metropod_benches::contents::{self, BLOCK_BYTES};
use metropod_benches::experiment::{Outcome, Report, Variant, alternate};
use metropod_benches::setting;
use metropod_dedupe::{Compression, expand, is_zero, pack};
use serde_json::json;

/// Blocks timed together.
const TOGETHER: usize = 32;
/// Words that texts of the benchmark are made of.
const WORDS: [&str; 16] = [
    "volume", "snapshot", "the", "of", "a", "write", "block", "array", "mediator", "pod", "epoch", "digest",
    "and", "journal", "frame", "index",
];

/// Gives the block of a number.
type Maker = fn(u64) -> Vec<u8>;

fn main() -> io::Result<()> {
    let arguments = Arguments::read(&["rounds", "blocks"])?;
    let (rounds, count) = (arguments.get("rounds", 9)?, arguments.get("blocks", 1024u64)?);
    let directory = arguments.directory()?;
    let setting = json!({
        "setting": setting::describe(directory.path()), "blocks": count, "block_bytes": BLOCK_BYTES, "rounds": rounds,
        "lz4": "lz4_flex, safe code in and out, as the product builds it",
    });
    let kinds: [(&str, Maker); 4] = [
        ("reference mix, 1.94", contents::block),
        ("incompressible", noise),
        ("text of few words", text),
        ("half noise, half zeroes", half),
    ];
    let mut report = Report::new();
    for (kind, make) in kinds {
        let blocks: Vec<Vec<u8>> = (1..=count).map(make).collect();
        let stored: usize = blocks.iter().map(|block| pack(block, Compression::WhenItPays).bytes.len()).sum();
        report.fact(&format!("ratio: {kind}"), (blocks.len() * BLOCK_BYTES) as f64 / stored as f64);
        report.add(kind, measure(rounds, &blocks)?);
    }
    report.fact("gate, incompressible, us", 2.0);
    report.print("E3", &setting, arguments.json);
    Ok(())
}

fn measure(rounds: u64, blocks: &[Vec<u8>]) -> io::Result<Vec<Outcome>> {
    let mut table = CompressTable::default();
    let mut large = CompressTable::large();
    let bound = get_maximum_output_size(BLOCK_BYTES);
    let (mut first, mut second, mut third) = (vec![0; bound], vec![0; bound], vec![0; bound]);
    let variants = vec![
        Variant::new("reused table and output", |_| {
            each(
                blocks,
                |block| {
                    let length =
                        compress_into_with_table(block, &mut first, &mut table).map_err(io::Error::other)?;
                    Ok(first[..length].to_vec())
                },
                |packed, block| comes_back(packed, block),
            )
        }),
        Variant::new("reused table, 32-bit entries", |_| {
            each(
                blocks,
                |block| {
                    let length =
                        compress_into_with_table(block, &mut second, &mut large).map_err(io::Error::other)?;
                    Ok(second[..length].to_vec())
                },
                |packed, block| comes_back(packed, block),
            )
        }),
        Variant::new("new table, reused output", |_| {
            each(
                blocks,
                |block| {
                    let length = compress_into(block, &mut third).map_err(io::Error::other)?;
                    Ok(third[..length].to_vec())
                },
                |packed, block| comes_back(packed, block),
            )
        }),
        Variant::new("new table, new output", |_| {
            each(blocks, |block| Ok(compress(block)), |packed, block| comes_back(packed, block))
        }),
        Variant::new("product: pack", |_| {
            each(
                blocks,
                |block| Ok(pack(block, Compression::WhenItPays)),
                |packed, block| expand(packed).is_ok_and(|bytes| bytes == block),
            )
        }),
        Variant::new("product: pack, never compressed", |_| {
            each(blocks, |block| Ok(pack(block, Compression::Never)), |packed, block| packed.bytes == block)
        }),
        Variant::new("product: expand", |_| {
            let packed: Vec<_> = blocks.iter().map(|block| pack(block, Compression::WhenItPays)).collect();
            let mut packed = packed.iter();
            each(
                blocks,
                |_| expand(packed.next().ok_or_else(wrong)?).map_err(io::Error::other),
                |bytes, block| bytes == block,
            )
        }),
        Variant::new("zero test of a zero block", |_| {
            let zeroes = vec![0; BLOCK_BYTES];
            each(blocks, |_| Ok(is_zero(black_box(&zeroes))), |zero, _| *zero)
        }),
    ];
    alternate(rounds, "us per block", variants)
}

/// A few blocks at a time, so that results lie in memory used before, as they do in a process that runs for long.
fn each<T>(
    blocks: &[Vec<u8>],
    mut how: impl FnMut(&[u8]) -> io::Result<T>,
    is_right: impl Fn(&T, &[u8]) -> bool,
) -> io::Result<f64> {
    let mut ns = 0;
    for blocks in blocks.chunks(TOGETHER) {
        let began = Instant::now();
        let results: Vec<T> = blocks.iter().map(|block| how(black_box(block))).collect::<io::Result<_>>()?;
        ns += began.elapsed().as_nanos();
        if !results.iter().zip(blocks).all(|(result, block)| is_right(result, block)) {
            return Err(wrong());
        }
    }
    Ok(ns as f64 / 1e3 / blocks.len() as f64)
}

fn comes_back(packed: impl AsRef<[u8]>, block: &[u8]) -> bool {
    let mut content = vec![0; BLOCK_BYTES];
    decompress_into(packed.as_ref(), &mut content).is_ok_and(|length| length == BLOCK_BYTES)
        && content == block
}

fn wrong() -> io::Error {
    io::Error::other("a block did not come back as it was")
}

fn noise(content: u64) -> Vec<u8> {
    let mut chance = Chance::new(content);
    (0..BLOCK_BYTES / 8).flat_map(|_| chance.bits().to_le_bytes()).collect()
}

fn text(content: u64) -> Vec<u8> {
    let mut chance = Chance::new(content);
    let mut bytes = Vec::with_capacity(BLOCK_BYTES + 16);
    while bytes.len() < BLOCK_BYTES {
        bytes.extend_from_slice(WORDS[chance.below(WORDS.len() as u64) as usize].as_bytes());
        bytes.push(b' ');
    }
    bytes.truncate(BLOCK_BYTES);
    bytes
}

fn half(content: u64) -> Vec<u8> {
    let mut block = noise(content);
    block[BLOCK_BYTES / 2..].fill(0);
    block
}
