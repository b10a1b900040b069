//! P1: one array, 4 KiB random durable writes at depth 1 through the crate's API, against plain durable appends.
//!
//! `p1_alone [--rounds N] [--writes N] [--dir DIRECTORY] [--json]`. Every variant runs once per round, in alternating order.
//! At the end the array's process is killed, opened again, and every block must hold its last write.

use std::io;
use std::time::Duration;

use metropod_benches::arguments::Arguments;
use metropod_benches::figures::{Series, print_table};
use metropod_benches::tape::Tape;
use metropod_benches::writes::{Api, Sequence, measure};
use metropod_benches::{array_process, fio, pair, setting};
use serde_json::{Value, json};

/// Blocks of the volume: 1 GiB.
const BLOCKS: u64 = 262_144;
const JOURNAL_MIB: u64 = 1024;
/// Pause before each write of the variants that start from idle.
const IDLE_US: u64 = 1000;

#[derive(Clone, Copy)]
enum Way {
    Plain,
    Fio,
    Ours(Api),
}

fn main() -> io::Result<()> {
    if array_process::main_if_asked()? {
        return Ok(());
    }
    let arguments = Arguments::read(&["rounds", "writes"])?;
    let (rounds, writes) = (arguments.get("rounds", 7u64)?, arguments.get("writes", 1000u64)?);
    let directory = arguments.directory()?;
    let before = setting::describe(directory.path());
    let tape_path = directory.path().join("plain.tape");
    let mut tape = Tape::create(&tape_path)?;
    let fio_version = fio::version();
    let mut array = pair::start_alone(&directory.path().join("C"), JOURNAL_MIB)?;
    array.ask("create-pod pod1")?;
    array.ask(&format!("create-volume {} {BLOCKS}", pair::VOLUME))?;

    let variants = [
        (Way::Plain, 0, "plain append"),
        (Way::Fio, 0, "fio append"),
        (Way::Ours(Api::Blocking), 0, "metropod, blocking"),
        (Way::Ours(Api::Async), 0, "metropod, async"),
        (Way::Plain, IDLE_US, "plain append, from idle"),
        (Way::Fio, IDLE_US, "fio append, from idle"),
        (Way::Ours(Api::Blocking), IDLE_US, "metropod, blocking, from idle"),
        (Way::Ours(Api::Async), IDLE_US, "metropod, async, from idle"),
    ];
    let mut all: Vec<Series> = variants.iter().map(|(_, _, name)| Series::new(name)).collect();
    let mut written = Vec::new();
    // A round whose figures are not kept: segments prewritten, files and code warm.
    for round in 0..=rounds {
        let mut order: Vec<usize> = (0..variants.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let (way, think_us, _) = variants[index];
            let count = if think_us == 0 { writes } else { (writes / 2).max(1) };
            let mut keep = |latencies: &[u64], cpu: u64| {
                if round > 0 {
                    all[index].add(latencies, cpu);
                }
            };
            match way {
                Way::Plain => {
                    let (latencies, cpu) = tape.run(count, Duration::from_micros(think_us))?;
                    keep(&latencies, cpu);
                }
                Way::Fio if fio_version.is_some() => {
                    let run = fio::append(&tape_path, count, think_us)?;
                    if round > 0 {
                        all[index].add_figures(run.p50_us, run.p99_us);
                    }
                }
                Way::Fio => {}
                Way::Ours(api) => {
                    let seed = round * 100 + index as u64;
                    let (sequence, think) =
                        (Sequence { seed, count, blocks: BLOCKS }, Duration::from_micros(think_us));
                    let (latencies, cpu) = measure(&mut array, pair::VOLUME, api, sequence, think)?;
                    written.push(format!("{seed}:{count}"));
                    keep(&latencies, cpu);
                }
            }
        }
        eprintln!("round {round} of {rounds}, load {}", setting::load_average());
    }
    let status = array.ask("status pod1")?;
    array.kill()?;
    let mut array = pair::start_alone(&directory.path().join("C"), JOURNAL_MIB)?;
    let checked = array.ask(&format!("check-writes {} {BLOCKS} {}", pair::VOLUME, written.join(" ")))?;

    let (base, idle_base) = (&all[0], &all[4]);
    let setting = json!({
        "setting": before, "load_after": setting::load_average(), "fio": fio_version,
        "depth": 1, "block_bytes": 4096, "data": "unique blocks, LZ4 ratio 1.94", "volume_blocks": BLOCKS,
        "rounds": rounds, "writes_per_round": writes, "journal_mib": JOURNAL_MIB,
        "durability": "on the disk before the acknowledgement; all on one disk",
        "blocks_checked_after_kill": checked.parse::<u64>().unwrap_or(0),
        "array_at_the_end": serde_json::from_str::<Value>(&status).unwrap_or(Value::Null),
    });
    if arguments.json {
        let variants: Vec<Value> = all
            .iter()
            .enumerate()
            .filter(|(_, series)| !series.is_empty())
            .map(|(index, series)| series.json(if index < 4 { base } else { idle_base }))
            .collect();
        println!("{:#}", json!({"benchmark": "P1", "setting": setting, "variants": variants}));
    } else {
        println!("P1: one array, 4 KiB random durable writes, depth 1");
        setting::print(&setting);
        print_table(&all[..4].iter().collect::<Vec<_>>(), base);
        print_table(&all[4..].iter().collect::<Vec<_>>(), idle_base);
    }
    Ok(())
}
