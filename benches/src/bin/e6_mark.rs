//! E6: marking the chunks of 10^7 references, with hints of which 0, 10 and 30 % are stale, and without hints.
//!
//! `e6_mark [--references N] [--rounds N] [--dir DIRECTORY] [--json]`. Stale references are looked up in a real store's
//! index. Every pass must set exactly the bits that the references, followed one by one, set.

use std::cell::RefCell;
use std::io;
use std::time::Instant;

use metropod_benches::arguments::Arguments;
use metropod_benches::experiment::{Report, Variant, alternate};
use metropod_benches::mark::{LiveBits, Model, Segments, prefix};
use metropod_benches::park::block_on;
use metropod_benches::{many_chunks, memory, setting};
use metropod_dedupe::{Digest, Store};
use serde_json::json;

/// Hints that are stale, in percent.
const STALE: [u64; 3] = [0, 10, 30];
/// Blocks written together, as far as they lie together in a segment.
const RUNS: [u64; 2] = [1, 16];
/// Parts in which references are sorted, by first byte.
const PARTS: usize = 256;

fn main() -> io::Result<()> {
    let arguments = Arguments::read(&["references", "rounds"])?;
    let (references, rounds) = (arguments.get("references", 10_000_000u64)?, arguments.get("rounds", 5u64)?);
    let directory = arguments.directory()?;
    let setting = json!({
        "setting": setting::describe(directory.path()), "references": references, "chunks": references, "rounds": rounds,
        "files": "leaves, index and store in the page cache", "load_before": setting::load_average(),
    });
    let mut report = Report::new();
    let places = directory.path().join("store");
    std::fs::create_dir(&places)?;
    let store = many_chunks::create(&places)?;
    many_chunks::store(&store, 0..references)?;
    for run in RUNS {
        let model = Model::create(directory.path(), references, references, run)?;
        let what = format!("marking, references in runs of {run}");
        report.add(&what, measure(&model, (run == 1).then_some(&store), rounds)?);
        let expected = model.expected(&Segments::new(references, 0));
        report.fact(&format!("chunks_marked_of_{}, runs of {run}", model.chunks()), expected.count());
    }
    report.fact("resident_mib_at_the_end", memory::resident_bytes() >> 20);
    report.fact("load_after", setting::load_average());
    report.print("E6", &setting, arguments.json);
    Ok(())
}

fn measure(
    model: &Model,
    store: Option<&Store>,
    rounds: u64,
) -> io::Result<Vec<metropod_benches::experiment::Outcome>> {
    let segments: Vec<(u64, Segments)> =
        STALE.into_iter().map(|stale| (stale, Segments::new(model.chunks(), stale))).collect();
    let expected: Vec<LiveBits> = segments.iter().map(|(_, segments)| model.expected(segments)).collect();
    let bits = RefCell::new(segments[0].1.no_bits());
    let mut variants = Vec::new();
    for ((stale, segments), expected) in segments.iter().zip(&expected) {
        let bits = &bits;
        let timed = move |pass: &dyn Fn(&mut LiveBits) -> io::Result<()>| {
            let mut bits = bits.borrow_mut();
            bits.clear();
            let began = Instant::now();
            pass(&mut bits)?;
            let us = began.elapsed().as_nanos() as f64 / 1e3 / model.references.len() as f64;
            if *bits == *expected { Ok(us) } else { Err(io::Error::other("a pass set other bits")) }
        };
        if *stale == 0 {
            variants.push(Variant::new("hints, none stale", move |_| {
                timed(&|bits| model.scan_nodes(|_, _, hint| bits.set(hint)))
            }));
            variants.push(Variant::new("no hints: sort and merge", move |_| {
                timed(&|bits| sort_and_merge(model, segments, bits))
            }));
        } else if let Some(store) = store {
            variants.push(Variant::new(&format!("hints, {stale} % stale, looked up at once"), move |_| {
                timed(&|bits| look_up_at_once(model, segments, store, bits))
            }));
            variants.push(Variant::new(&format!("hints, {stale} % stale, looked up in order"), move |_| {
                timed(&|bits| look_up_in_order(model, segments, store, bits))
            }));
        }
        if *stale > 0 {
            variants.push(Variant::new(&format!("hints, {stale} % stale, merged"), move |_| {
                timed(&|bits| merge_stale(model, segments, bits))
            }));
        }
    }
    alternate(rounds, "us per reference", variants)
}

fn look_up_at_once(model: &Model, segments: &Segments, store: &Store, bits: &mut LiveBits) -> io::Result<()> {
    let mut missing = 0;
    model.scan_nodes(|number, digest, hint| {
        if segments.has(hint) {
            return bits.set(hint);
        }
        match block_on(store.locate(&Digest(*digest))) {
            Ok(Some(_)) => bits.set(model.place(number, segments)),
            _ => missing += 1,
        }
    })?;
    all_found(missing)
}

fn look_up_in_order(
    model: &Model,
    segments: &Segments,
    store: &Store,
    bits: &mut LiveBits,
) -> io::Result<()> {
    let mut stale = Vec::new();
    model.scan_nodes(|number, digest, hint| {
        if segments.has(hint) { bits.set(hint) } else { stale.push((Digest(*digest), number as u32)) }
    })?;
    stale.sort_unstable();
    let mut missing = 0;
    for (digest, number) in stale {
        match block_on(store.locate(&digest)) {
            Ok(Some(_)) => bits.set(model.place(number as usize, segments)),
            _ => missing += 1,
        }
    }
    all_found(missing)
}

fn all_found(missing: u64) -> io::Result<()> {
    if missing == 0 { Ok(()) } else { Err(io::Error::other("the index lacks chunks that are stored")) }
}

/// All references by the first words of their digests, in order, against the index from end to end. Two chunks of one
/// first word would both live on: harmless.
fn sort_and_merge(model: &Model, segments: &Segments, bits: &mut LiveBits) -> io::Result<()> {
    let mut parts: Vec<Vec<u64>> = vec![Vec::new(); PARTS];
    model.scan_nodes(|_, digest, _| parts[usize::from(digest[0])].push(prefix(digest)))?;
    merge(model, segments, bits, parts)
}

/// The same for stale references only.
fn merge_stale(model: &Model, segments: &Segments, bits: &mut LiveBits) -> io::Result<()> {
    let mut parts: Vec<Vec<u64>> = vec![Vec::new(); PARTS];
    model.scan_nodes(|_, digest, hint| {
        if segments.has(hint) { bits.set(hint) } else { parts[usize::from(digest[0])].push(prefix(digest)) }
    })?;
    merge(model, segments, bits, parts)
}

fn merge(
    model: &Model,
    segments: &Segments,
    bits: &mut LiveBits,
    mut parts: Vec<Vec<u64>>,
) -> io::Result<()> {
    parts.iter_mut().for_each(|part| part.sort_unstable());
    let mut wanted = parts.iter().flatten().copied().peekable();
    model.scan_index(segments, |prefix, place| {
        while wanted.next_if(|wanted| *wanted < prefix).is_some() {}
        if wanted.peek() == Some(&prefix) {
            bits.set(place);
        }
    })
}
