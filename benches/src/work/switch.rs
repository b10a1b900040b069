//! P12: how long hosts pause when the other array of a pod is to order its writes.
//!
//! - S1: the pause is the longest time without a completion at either side around the switch, all writers of a side together.
//! - S2: no host hears an error, and in the end both sides hold what was acknowledged, and the same.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::failover::{ask_check, pause, start_load};
use super::{Settings, progress};
use crate::chance::Chance;
use crate::clock::now_ns;
use crate::load::{Expected, Hosts};
use crate::pair::{POD, Pair, PairConfig, Side, VOLUME};
use crate::report::{Document, Figure};

/// Blocks of the volume: 64 MiB.
const BLOCKS: u64 = 16_384;
/// First block of the hosts at B; those at A begin at 0.
const B_FIRST: u64 = BLOCKS / 2;
const BLOCKS_PER_THREAD: u64 = 256;
const JOURNAL_MIB: u64 = 128;
/// Load goes on for this long after the other array orders.
const AFTERWARDS: Duration = Duration::from_millis(300);
/// By then the other array orders, or the trial failed.
const LIMIT: Duration = Duration::from_secs(10);

pub(super) fn run(settings: &Settings) -> io::Result<Document> {
    let trials = settings.count.unwrap_or(settings.pick(2, 50));
    let threads = settings.depth.unwrap_or(4);
    if !(1..=B_FIRST / BLOCKS_PER_THREAD).contains(&threads) {
        return Err(io::Error::other("too many writers for the volume; use a smaller --depth"));
    }
    let home = settings.home()?;
    let params = json!({"trials": trials, "writers_at_each_side": threads, "volume_blocks": BLOCKS});
    let mut document = Document::begin("switch", home.path(), params);
    document.context("hosts", "blocking writers at each side, depth 1 each, before, during and after");
    document.context("data", "unique blocks of 4 KiB, LZ4 ratio 1.94");
    let config = PairConfig { blocks: BLOCKS, proxied: false, journal_mib: JOURNAL_MIB };
    let mut pair = Pair::start(home.path(), config)?;
    let (mut expected, mut chance) = (Expected::default(), Chance::new(12));
    let (mut pauses, mut slowest, mut took) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=trials {
        let plan = |side: &str, first_block: u64| Hosts {
            seed: number * 2 + u64::from(first_block > 0),
            threads,
            first_block,
            blocks_per_thread: BLOCKS_PER_THREAD,
            log: home.path().join(format!("log-{side}-{number}")),
        };
        let plans = [plan("A", 0), plan("B", B_FIRST)];
        pair.until_level()?;
        start_load(&mut pair.a, &plans[0])?;
        start_load(&mut pair.b, &plans[1])?;
        thread::sleep(Duration::from_millis(200 + chance.below(200)));
        let switched_at = now_ns();
        took.push(switch(&mut pair)?);
        thread::sleep(AFTERWARDS);
        for side in [&mut pair.a, &mut pair.b] {
            let errors = side.process.ask("load-stop")?;
            if errors != "[]" {
                return Err(io::Error::other(format!("hosts at {} got errors: {errors}", side.name)));
            }
        }
        let (mut longest, mut slow) = (0.0_f64, 0.0_f64);
        for plan in &plans {
            let (gap_ms, slowest_ms, _) = pause(plan, switched_at)?;
            (longest, slow) = (longest.max(gap_ms), slow.max(slowest_ms));
            plan.update(&mut expected)?;
        }
        progress(format_args!("switch {number} of {trials}: pause {longest:.1} ms"));
        pauses.push(longest);
        slowest.push(slow);
    }
    check(&mut pair, &expected, &home.path().join("expected"), &mut document)?;
    let aim = "none above 20 ms";
    document.add(
        "longest pause of hosts at either side, all writers of a side together",
        aim,
        vec![Figure::of("switch", "ms", pauses)],
    );
    document.add("slowest write", "", vec![Figure::of("switch", "ms", slowest)]);
    document.add("from the request to the other array ordering", "", vec![Figure::of("switch", "ms", took)]);
    Ok(document)
}

/// Has the other array order; how long that took, in milliseconds.
fn switch(pair: &mut Pair) -> io::Result<f64> {
    let a_orders = pair.a.is_sequencer()?;
    let (from, to): (&mut Side, &mut Side) =
        if a_orders { (&mut pair.a, &mut pair.b) } else { (&mut pair.b, &mut pair.a) };
    let began = Instant::now();
    from.process.ask(&format!("switch {POD} {}", to.name))?;
    while !to.is_sequencer()? {
        if began.elapsed() > LIMIT {
            return Err(io::Error::other("the other array does not come to order"));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

/// S2.
fn check(
    pair: &mut Pair,
    expected: &Expected,
    path: &std::path::Path,
    document: &mut Document,
) -> io::Result<()> {
    expected.save(path)?;
    for side in [&mut pair.a, &mut pair.b] {
        let (wrong, checked) = ask_check(side, path)?;
        if wrong > 0 {
            return Err(io::Error::other(format!("{wrong} blocks hold something else at {}", side.name)));
        }
        document.checked(checked);
    }
    let digest = format!("digest {VOLUME}");
    if pair.a.process.ask(&digest)? != pair.b.process.ask(&digest)? {
        return Err(io::Error::other("the two sides differ"));
    }
    Ok(())
}
