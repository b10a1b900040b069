//! P7: resync of the reference delta, from "link usable" to "in sync, durable on both": time and bytes on the wire, beside
//! rsync where it is installed.
//!
//! Each round: the link is cut, A goes on and takes the delta, the link is mended; beside it rsync brings an old copy of the
//! same image up to the same new one. Bytes are the TCP payload that a proxy forwards, both directions, all connections. All
//! blocks are checked at both arrays and in rsync's file, in every round.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Settings, progress};
use crate::clock::now_ns;
use crate::contents;
use crate::image::{Change, Delta, Image};
use crate::images::save_runs;
use crate::pair::{POD, Pair, PairConfig, VOLUME};
use crate::report::{Document, Figure};
use crate::rsync::{self, Rsync, RsyncRun};

const SEED: u64 = 7;
/// Hosts rest for this long after the delta; then the link comes back.
const QUIET: Duration = Duration::from_secs(2);

struct Round {
    change: Change,
    seconds: f64,
    wire_bytes: u64,
    rsync: Option<RsyncRun>,
}

pub(super) fn run(settings: &Settings) -> io::Result<Document> {
    let blocks = settings.size_bytes.unwrap_or(settings.pick(64 << 20, 2 << 30)) / 4096;
    let blocks = blocks.max(4096) / 4096 * 4096;
    let (rounds, journal_mib) = (settings.rounds(), settings.pick(128, 1024));
    let home = settings.home()?;
    let mut document = Document::begin(
        "resync",
        home.path(),
        json!({"image_bytes": blocks * 4096, "journal_mib": journal_mib}),
    );
    let version = rsync::version();
    document.context(
        "rsync",
        version.clone().unwrap_or_else(|| "not installed: not compared with it".to_owned()),
    );
    document.context("data", "20 % zero, 30 % copies, 50 % unique at LZ4 ratio 1.94; delta: 5 % rewritten, 1/32 moved, 1/32 trimmed");
    document.context(
        "durability",
        "ours: both online again, JOIN durable on both; rsync: --fsync; all on one disk",
    );
    document.context("network", "loopback TCP through a proxy that counts, plain");
    let mut image = Image::reference(blocks, SEED);
    let mut pair = Pair::connect(home.path(), PairConfig { blocks, proxied: true, journal_mib })?;
    apply(&mut pair, home.path(), &[(0, image.contents().to_vec())])?;
    let baseline = baseline(&mut pair, &image)?;
    document.fact("baseline", baseline);
    pair.a.process.ask(&format!("prefer {POD} A"))?;
    document.checked(check(&mut pair, home.path(), &image)?);
    let peer = version.as_ref().map(|_| Rsync::start(home.path(), image.contents())).transpose()?;
    let mut results = Vec::new();
    for round in 0..rounds {
        let (delta, change) = image.change(round);
        if let Some(peer) = &peer {
            peer.apply(&delta.runs)?;
        }
        let rsync_first = round % 2 == 1;
        let mut run = if rsync_first { peer.as_ref().map(Rsync::run).transpose()? } else { None };
        let (seconds, wire_bytes) = resync(&mut pair, home.path(), &delta)?;
        if !rsync_first {
            run = peer.as_ref().map(Rsync::run).transpose()?;
        }
        document.checked(check(&mut pair, home.path(), &image)?);
        progress(format_args!("resync: round {} of {rounds}: {seconds:.3} s", round + 1));
        results.push(Round { change, seconds, wire_bytes, rsync: run });
    }
    report(&mut document, &results);
    Ok(document)
}

/// Lets A's hosts write runs of blocks.
fn apply(pair: &mut Pair, home: &Path, runs: &[(u64, Vec<u64>)]) -> io::Result<()> {
    let path = home.join("runs");
    save_runs(&path, runs)?;
    pair.a.process.ask(&format!("apply {VOLUME} {}", path.display())).map(drop)
}

/// The first fill of B: context, not P7.
fn baseline(pair: &mut Pair, image: &Image) -> io::Result<Value> {
    let distinct: BTreeSet<u64> = image.contents().iter().copied().collect();
    let unique: u64 = distinct.iter().map(|content| contents::compressed_bytes(*content)).sum();
    let (wire, began) = (pair.wire_bytes(), now_ns());
    pair.stretch()?;
    let seconds = (now_ns() - began) as f64 / 1e9;
    let wire = pair.wire_bytes() - wire;
    Ok(json!({
        "seconds": seconds, "wire_mib": mib(wire), "compressed_unique_mib": mib(unique),
        "wire_to_unique": wire as f64 / unique as f64,
    }))
}

/// One outage; gives seconds and bytes from the link's return until both arrays are in sync.
fn resync(pair: &mut Pair, home: &Path, delta: &Delta) -> io::Result<(f64, u64)> {
    pair.until_level()?;
    pair.set_cut(true);
    pair.a.until("alone")?;
    apply(pair, home, &delta.runs)?;
    thread::sleep(QUIET);
    let wire = pair.wire_bytes();
    let began = now_ns();
    pair.set_cut(false);
    let ended = pair.a.until("online")?.max(pair.b.until("online")?);
    Ok(((ended - began) as f64 / 1e9, pair.wire_bytes() - wire))
}

/// Both arrays hold the image, block by block; gives the blocks compared.
fn check(pair: &mut Pair, home: &Path, image: &Image) -> io::Result<u64> {
    let path = home.join("image");
    save_runs(&path, &[(0, image.contents().to_vec())])?;
    for side in [&mut pair.a, &mut pair.b] {
        side.process.ask(&format!("check-image {VOLUME} {}", path.display()))?;
    }
    Ok(2 * image.blocks())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn report(document: &mut Document, rounds: &[Round]) {
    let of = |figure: &dyn Fn(&Round) -> f64| rounds.iter().map(figure).collect::<Vec<f64>>();
    let peer = |figure: &dyn Fn(RsyncRun) -> f64| {
        rounds.iter().filter_map(|round| round.rsync.map(figure)).collect::<Vec<f64>>()
    };
    let against = |figure: Figure, base: usize| Figure { base: Some(base), ..figure };
    let rsync = Figure::of("rsync --inplace -B 4096 --fsync", "s", peer(&|run| run.seconds));
    let ours = against(Figure::of("metropod", "s", of(&|round| round.seconds)), 0);
    let question = "resync of the reference delta, from a usable link to in sync and durable on both";
    document.add(question, "20 × faster than rsync", vec![rsync, ours]);
    let ideal = Figure::of(
        "new chunks, compressed, and 40 B per changed block",
        "MiB",
        of(&|round| mib(round.change.ideal_wire_bytes())),
    );
    let rsync = against(Figure::of("rsync", "MiB", peer(&|run| mib(run.wire_bytes))), 0);
    let ours = against(Figure::of("metropod", "MiB", of(&|round| mib(round.wire_bytes))), 0);
    document.add("bytes on the wire, both directions", "1.05 × the least", vec![ideal, rsync, ours]);
    document.fact("changed_blocks", json!(of(&|round| round.change.blocks as f64)));
}
