//! P3: a pod stretched over loopback, 4 KiB random durable writes at depth 1 from both sides.
//!
//! `p3_mirrored [--rounds N] [--writes N] [--dir DIRECTORY] [--json]`. Arrays, mediator and the array to compare with are a process each. Every
//! variant runs once per round, in alternating order. At the end every block is read at both sides and both must be equal.
//! Both journals are on one disk here, so the mirrored write is also compared with two plain appends at once (decision 0001).

use std::io;
use std::time::Duration;

use metropod_benches::arguments::Arguments;
use metropod_benches::figures::{Series, print_table};
use metropod_benches::pair::{Pair, PairConfig, VOLUME};
use metropod_benches::tape::Tape;
use metropod_benches::writes::{Api, Sequence, measure};
use metropod_benches::{array_process, pair, setting, twin};
use serde_json::{Value, json};

/// Blocks of the volumes: 1 GiB.
const BLOCKS: u64 = 262_144;
const JOURNAL_MIB: u64 = 1024;
/// Pause before each write of the variants that start from idle.
const IDLE_US: u64 = 1000;

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Plain,
    Twin,
    Alone(Api),
    At(usize, Api),
}

const VARIANTS: [(Way, &str); 8] = [
    (Way::Plain, "plain append"),
    (Way::Twin, "two plain appends at once"),
    (Way::Alone(Api::Blocking), "one array, blocking (P1)"),
    (Way::Alone(Api::Async), "one array, async (P1)"),
    (Way::At(0, Api::Blocking), "stretched, sequencer, blocking"),
    (Way::At(1, Api::Blocking), "stretched, follower, blocking"),
    (Way::At(0, Api::Async), "stretched, sequencer, async"),
    (Way::At(1, Api::Async), "stretched, follower, async"),
];
/// Of a half: what a mirrored write is compared with.
const TWIN: usize = 1;
const ALONE: usize = 2;

fn main() -> io::Result<()> {
    if array_process::main_if_asked()? {
        return Ok(());
    }
    let arguments = Arguments::read(&["rounds", "writes"])?;
    let (rounds, writes) = (arguments.get("rounds", 7u64)?, arguments.get("writes", 1000u64)?);
    let directory = arguments.directory()?;
    let before = setting::describe(directory.path());
    let mut tape = Tape::create(&directory.path().join("plain.tape"))?;
    let mut second = Tape::create(&directory.path().join("twin.tape"))?;
    let config = PairConfig { blocks: BLOCKS, proxied: false, journal_mib: JOURNAL_MIB };
    let mut pair = Pair::start(directory.path(), config)?;
    let mut alone = pair::start_alone(&directory.path().join("C"), JOURNAL_MIB)?;
    alone.ask("create-pod pod1")?;
    alone.ask(&format!("create-volume {VOLUME} {BLOCKS}"))?;
    if !pair.a.is_sequencer()? {
        return Err(io::Error::other("the array that made the pod should order"));
    }

    let variants: Vec<(Way, u64, String)> = [(0, ""), (IDLE_US, ", from idle")]
        .into_iter()
        .flat_map(|(think, suffix)| VARIANTS.map(|(way, name)| (way, think, format!("{name}{suffix}"))))
        .collect();
    let mut all: Vec<Series> = variants.iter().map(|(_, _, name)| Series::new(name)).collect();
    let (mut at_pair, mut at_alone) = (Vec::new(), Vec::new());
    // A round whose figures are not kept: segments prewritten, files and code warm.
    for round in 0..=rounds {
        let mut order: Vec<usize> = (0..variants.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let (way, think_us, _) = &variants[index];
            let count = if *think_us == 0 { writes } else { (writes / 2).max(1) };
            let sequence = Sequence { seed: round * 100 + index as u64, count, blocks: BLOCKS };
            let think = Duration::from_micros(*think_us);
            let written = format!("{}:{count}", sequence.seed);
            let (latencies, cpu) = match *way {
                Way::Plain => tape.run(count, think)?,
                Way::Twin => {
                    let (back, latencies, cpu) = twin::run(&mut tape, second, count, *think_us)?;
                    second = back;
                    (latencies, cpu)
                }
                Way::Alone(api) => {
                    at_alone.push(written);
                    measure(&mut alone, VOLUME, api, sequence, think)?
                }
                Way::At(side, api) => {
                    at_pair.push(written);
                    let side = if side == 0 { &mut pair.a } else { &mut pair.b };
                    measure(&mut side.process, VOLUME, api, sequence, think)?
                }
            };
            if round > 0 {
                all[index].add(&latencies, cpu);
            }
        }
        eprintln!("round {round} of {rounds}, load {}", setting::load_average());
    }
    alone.ask(&format!("check-writes {VOLUME} {BLOCKS} {}", at_alone.join(" ")))?;
    let check = format!("check-writes {VOLUME} {BLOCKS} {}", at_pair.join(" "));
    let checked = pair.a.process.ask(&check)?;
    pair.b.process.ask(&check)?;
    if pair.a.process.ask(&format!("digest {VOLUME}"))? != pair.b.process.ask(&format!("digest {VOLUME}"))? {
        return Err(io::Error::other("the two sides differ"));
    }

    let setting = json!({
        "setting": before, "load_after": setting::load_average(),
        "depth": 1, "block_bytes": 4096, "data": "unique blocks, LZ4 ratio 1.94", "volume_blocks": BLOCKS,
        "rounds": rounds, "writes_per_round": writes, "journal_mib": JOURNAL_MIB,
        "durability": "on the disk at both arrays before the acknowledgement; all journals on one disk",
        "network": "loopback TCP, plain", "processes": "arrays, mediator and peer array a process each",
        "blocks_checked_at_both_sides": checked.parse::<u64>().unwrap_or(0),
        "cpu": "of the process the host asks, not of its peer",
    });
    report(&arguments, setting, &all);
    Ok(())
}

fn report(arguments: &Arguments, setting: Value, all: &[Series]) {
    let halves: Vec<&[Series]> = all.chunks(VARIANTS.len()).collect();
    if arguments.json {
        let halves: Vec<Value> = halves
            .iter()
            .map(|half| {
                let against = |base: usize| half.iter().map(|series| series.json(&half[base])).collect();
                json!({
                    "against_one_array": Value::Array(against(ALONE)),
                    "against_two_appends": Value::Array(against(TWIN)),
                    "follower_to_sequencer": half[5].ratio(&half[4]),
                })
            })
            .collect();
        println!(
            "{:#}",
            json!({"benchmark": "P3", "setting": setting, "busy": halves[0], "from_idle": halves[1]})
        );
        return;
    }
    println!("P3: stretched pod, 4 KiB random durable writes, depth 1");
    setting::print(&setting);
    for half in halves {
        let lines: Vec<&Series> = half.iter().collect();
        print_table(&lines, &half[ALONE]);
        println!(
            "  against two plain appends at once: sequencer {:.2}, follower {:.2}; follower / sequencer {:.2}",
            half[4].ratio(&half[TWIN]),
            half[5].ratio(&half[TWIN]),
            half[5].ratio(&half[4]),
        );
    }
}
