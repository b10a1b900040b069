//! P7: resync of the reference delta, from "link usable" to "in sync, durable": time and bytes on the wire, against rsync.
//!
//! `p7_resync [--rounds N] [--scale SHARE] [--dir DIRECTORY] [--json]`. The image is 2 GiB × SHARE. Each round: the link is cut, A goes on and takes
//! the delta, the link is mended; beside it rsync brings an old copy of the same image up to the same new one. Bytes are the TCP payload
//! that a proxy forwards, both directions, all connections. All blocks are checked at both arrays and in rsync's file.

use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use metropod_benches::arguments::Arguments;
use metropod_benches::array_process::{self, save_runs};
use metropod_benches::clock::now_ns;
use metropod_benches::figures::{median, spread};
use metropod_benches::image::{Change, Delta, Image, REFERENCE_BLOCKS};
use metropod_benches::pair::{POD, Pair, PairConfig, VOLUME};
use metropod_benches::rsync::{self, Rsync};
use metropod_benches::{contents, setting};
use serde_json::{Value, json};

const JOURNAL_MIB: u64 = 1024;
const SEED: u64 = 7;
/// Hosts rest for this long after the delta; then the link comes back.
const QUIET: Duration = Duration::from_secs(2);

struct Round {
    change: Change,
    seconds: f64,
    wire_bytes: u64,
    rsync: Option<rsync::RsyncRun>,
}

fn main() -> io::Result<()> {
    if array_process::main_if_asked()? {
        return Ok(());
    }
    let arguments = Arguments::read(&["rounds", "scale"])?;
    let (rounds, scale) = (arguments.get("rounds", 5u64)?, arguments.get("scale", 1.0f64)?);
    let blocks = ((REFERENCE_BLOCKS as f64 * scale) as u64).max(4096) / 4096 * 4096;
    let home = arguments.directory()?;
    let before = setting::describe(home.path());
    let mut image = Image::reference(blocks, SEED);
    let config = PairConfig { blocks, proxied: true, journal_mib: JOURNAL_MIB };
    let mut pair = Pair::connect(home.path(), config)?;
    apply(&mut pair, home.path(), &[(0, image.contents().to_vec())])?;
    let baseline = baseline(&mut pair, &image)?;
    pair.a.process.ask(&format!("prefer {POD} A"))?;
    check(&mut pair, home.path(), &image)?;
    eprintln!("baseline: {baseline}");

    let version = rsync::version();
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
        check(&mut pair, home.path(), &image)?;
        eprintln!(
            "round {} of {rounds}: {seconds:.3} s, {:.1} MiB, ideal {:.1} MiB; rsync {run:?}; load {}",
            round + 1,
            mib(wire_bytes),
            mib(change.ideal_wire_bytes()),
            setting::load_average()
        );
        results.push(Round { change, seconds, wire_bytes, rsync: run });
    }
    let setting = json!({
        "setting": before, "load_after": setting::load_average(), "rsync": version,
        "image_bytes": blocks * 4096, "rounds": rounds, "journal_mib": JOURNAL_MIB,
        "data": "20 % zero, 30 % copies, 50 % unique at LZ4 ratio 1.94; delta: 5 % rewritten at random, 1/32 moved, 1/32 trimmed",
        "durability": "ours: both online again, JOIN durable on both; rsync: --fsync; all on one disk",
        "network": "loopback TCP through a proxy that counts, plain", "warm": "page cache and maps; hosts at rest",
        "baseline": baseline,
    });
    report(arguments.json, setting, &results);
    Ok(())
}

/// Lets A's hosts write runs of blocks.
fn apply(pair: &mut Pair, home: &Path, runs: &[(u64, Vec<u64>)]) -> io::Result<()> {
    let path = home.join("runs");
    save_runs(&path, runs)?;
    pair.a.process.ask(&format!("apply {VOLUME} {}", path.display())).map(drop)
}

/// The first fill of B: context, not P7.
fn baseline(pair: &mut Pair, image: &Image) -> io::Result<Value> {
    let distinct: std::collections::BTreeSet<u64> = image.contents().iter().copied().collect();
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

/// Both arrays hold the image, block by block.
fn check(pair: &mut Pair, home: &Path, image: &Image) -> io::Result<()> {
    let path = home.join("image");
    save_runs(&path, &[(0, image.contents().to_vec())])?;
    for side in [&mut pair.a, &mut pair.b] {
        side.process.ask(&format!("check-image {VOLUME} {}", path.display()))?;
    }
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn report(as_json: bool, setting: Value, rounds: &[Round]) {
    let of = |figure: &dyn Fn(&Round) -> f64| rounds.iter().map(figure).collect::<Vec<f64>>();
    let seconds = of(&|round| round.seconds);
    let wire = of(&|round| mib(round.wire_bytes));
    let to_ideal = of(&|round| round.wire_bytes as f64 / round.change.ideal_wire_bytes() as f64);
    let of_peer = |figure: &dyn Fn(&Round, rsync::RsyncRun) -> f64| {
        rounds.iter().filter_map(|round| round.rsync.map(|run| figure(round, run))).collect::<Vec<f64>>()
    };
    let peer_seconds = of_peer(&|_, run| run.seconds);
    let peer_wire = of_peer(&|_, run| mib(run.wire_bytes));
    let faster = of_peer(&|round, run| run.seconds / round.seconds);
    let peer_to_ideal = of_peer(&|round, run| run.wire_bytes as f64 / round.change.ideal_wire_bytes() as f64);
    let changed = of(&|round| round.change.blocks as f64);
    let new_mib = of(&|round| mib(round.change.new_compressed_bytes));
    if as_json {
        let figures = json!({
            "changed_blocks": median(&changed), "new_compressed_mib": median(&new_mib),
            "seconds": median(&seconds), "seconds_rounds": seconds, "wire_mib": median(&wire), "wire_mib_rounds": wire,
            "wire_to_ideal": median(&to_ideal),
            "rsync_seconds": median(&peer_seconds), "rsync_seconds_rounds": peer_seconds, "rsync_wire_mib": median(&peer_wire),
            "rsync_wire_to_ideal": median(&peer_to_ideal), "times_faster_than_rsync": median(&faster),
            "times_faster_than_rsync_rounds": faster,
        });
        println!("{:#}", json!({"benchmark": "P7", "setting": setting, "figures": figures}));
        return;
    }
    println!("P7: resync of the reference delta");
    setting::print(&setting);
    println!(
        "changed blocks {:.0}, new contents {:.1} MiB compressed (medians of {} rounds)",
        median(&changed),
        median(&new_mib),
        rounds.len()
    );
    println!(
        "{:<28}{:>10}{:>18}{:>12}{:>10}{:>10}",
        "who", "seconds", "[least-most]", "wire MiB", "/ideal", "faster"
    );
    for (name, seconds, wire, to_ideal, faster) in [
        ("metropod", &seconds, &wire, &to_ideal, &faster),
        ("rsync --inplace -B 4096", &peer_seconds, &peer_wire, &peer_to_ideal, &Vec::new()),
    ] {
        let (least, most) = spread(seconds);
        println!(
            "{name:<28}{:>10.3}{:>18}{:>12.1}{:>10.2}{:>10.1}",
            median(seconds),
            format!("[{least:.3}-{most:.3}]"),
            median(wire),
            median(to_ideal),
            median(faster)
        );
    }
}
