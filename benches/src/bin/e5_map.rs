//! E5: a volume's map as an overlay that is folded now and then, against a tree written at every checkpoint.
//!
//! `e5_map [--case full-100g|full-1t|sparse-1t|skewed-1t] [--rounds N] [--dir DIRECTORY] [--json]`. Uniformly random 4 KiB
//! writes (skewed: nine of ten to a tenth of the volume). The eager tree is the same tree folded at every checkpoint,
//! without delta runs; a model of both, by expected numbers of touched nodes, is printed beside the counts. After each round
//! blocks are read back, and the map must say what was written last.

use std::io;
use std::time::Instant;

use metropod_benches::arguments::Arguments;
use metropod_benches::chance::Chance;
use metropod_benches::counted_nodes::{CountedNodes, Counts};
use metropod_benches::experiment::{Outcome, Report};
use metropod_benches::park::block_on;
use metropod_benches::setting;
use metropod_dedupe::Digest;
use metropod_snapshots::{FANOUT, Image, LayerId, Nodes, Slot, VolumeMap, fold, read_slots};
use serde_json::json;

/// Writes between two checkpoints: what half a GiB of journal holds.
const WRITES: u64 = 250_000;
/// Checkpoints between two folds; 1 is the eager tree. The core folds after 9.
const CYCLES: [u64; 4] = [1, 4, 9, 16];
/// Checkpoints of a round on a sparse volume.
const SPARSE_CHECKPOINTS: u64 = 9;
/// Blocks read back after a round.
const LOOKED_AT: u64 = 2000;
/// Entry of a delta run (docs/format-map.md).
const RUN_ENTRY_BYTES: f64 = 40.0;
/// A full node as it is stored.
const NODE_STORED_BYTES: f64 = 4144.0;

#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    blocks: u64,
    mapped: bool,
    skewed: bool,
}

const CASES: [Case; 4] = [
    Case { name: "full-100g", blocks: 100 << 18, mapped: true, skewed: false },
    Case { name: "full-1t", blocks: 1 << 28, mapped: true, skewed: false },
    Case { name: "sparse-1t", blocks: 1 << 28, mapped: false, skewed: false },
    Case { name: "skewed-1t", blocks: 1 << 28, mapped: true, skewed: true },
];

impl Case {
    /// Checkpoints of a round. A full volume is after a fold what it was before, so one cycle tells all; a sparse one
    /// grows, so all variants write as much.
    fn checkpoints(self, cycle: u64) -> u64 {
        if self.mapped { cycle } else { SPARSE_CHECKPOINTS }
    }

    /// Checkpoints between two folds that are tried.
    fn cycles(self) -> Vec<u64> {
        CYCLES.into_iter().filter(|cycle| *cycle <= self.checkpoints(*cycle)).collect()
    }
}

/// A round, per write.
struct Cycle {
    run_bytes: f64,
    node_bytes: f64,
    leaf_reads: f64,
    upper_reads: f64,
    leaves: f64,
    set_us: f64,
    freeze_us: f64,
    fold_us: f64,
    overlay_mib: f64,
}

/// What a round adds up.
#[derive(Default)]
struct Sums {
    run_bytes: usize,
    overlay_bytes: usize,
    set_ns: u128,
    freeze_ns: u128,
    fold_ns: u128,
}

/// What of a round is reported.
type Figure = fn(&Cycle) -> f64;

fn main() -> io::Result<()> {
    let arguments = Arguments::read(&["rounds", "case"])?;
    let (rounds, name) = (arguments.get("rounds", 5u64)?, arguments.get("case", "full-100g".to_owned())?);
    let case = CASES.into_iter().find(|case| case.name == name);
    let case = case.ok_or_else(|| io::Error::other(format!("--case {name}?")))?;
    let directory = arguments.directory()?;
    let setting = json!({
        "setting": setting::describe(directory.path()), "case": case.name, "blocks": case.blocks,
        "writes_per_checkpoint": WRITES, "rounds": rounds, "nodes": "in memory, counted",
    });
    let lengths = case.cycles();
    let mut cycles: Vec<Vec<Cycle>> = lengths.iter().map(|_| Vec::new()).collect();
    for round in 0..=rounds {
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let cycle = run(case, lengths[index], round)?;
            if round > 0 {
                cycles[index].push(cycle);
            }
        }
    }
    let mut report = Report::new();
    let figures: [(&str, &'static str, Figure); 9] = [
        ("map bytes written", "B per write", |cycle| cycle.run_bytes + cycle.node_bytes),
        ("of these, delta runs", "B per write", |cycle| cycle.run_bytes),
        ("leaves read", "per write", |cycle| cycle.leaf_reads),
        ("upper nodes read, none cached", "per write", |cycle| cycle.upper_reads),
        ("leaves written", "per write", |cycle| cycle.leaves),
        ("setting a block", "us per write", |cycle| cycle.set_us),
        ("freezing and encoding", "us per write", |cycle| cycle.freeze_us),
        ("folding, reads from memory", "us per write", |cycle| cycle.fold_us),
        ("overlay in memory before a fold", "MiB", |cycle| cycle.overlay_mib),
    ];
    for (question, unit, figure) in figures {
        report.add(
            question,
            lengths
                .iter()
                .zip(&cycles)
                .map(|(checkpoints, cycles)| {
                    Outcome::of(&label(*checkpoints), unit, cycles.iter().map(figure).collect())
                })
                .collect(),
        );
    }
    for checkpoints in CYCLES.into_iter().chain([64]).filter(|_| case.mapped) {
        report.fact(&format!("model, bytes per write, {}", label(checkpoints)), model(case, checkpoints));
    }
    report.fact("load_after", setting::load_average());
    report.print("E5", &setting, arguments.json);
    Ok(())
}

fn label(checkpoints: u64) -> String {
    if checkpoints == 1 {
        "eager tree".to_owned()
    } else {
        format!("overlay, fold after {checkpoints} checkpoints")
    }
}

/// Writes through `checkpoints` checkpoints, then folds.
fn run(case: Case, checkpoints: u64, round: u64) -> io::Result<Cycle> {
    let (store, root) = CountedNodes::new(case.blocks, case.mapped);
    let nodes = Nodes::with_capacity(store.clone(), 0);
    let image = Image::new(case.blocks << 12, root, Vec::new()).map_err(io::Error::other)?;
    let mut map = VolumeMap::from_image(image);
    let mut writes = Writes::new(case, round);
    let mut sums = Sums::default();
    let total = case.checkpoints(checkpoints);
    for checkpoint in 1..=total {
        let began = Instant::now();
        for _ in 0..WRITES {
            let (block, content) = writes.next();
            map.set(block, Slot::Data(content));
        }
        sums.set_ns += began.elapsed().as_nanos();
        let began = Instant::now();
        let image = map.freeze(LayerId(checkpoint));
        if checkpoints > 1 {
            sums.run_bytes += image.layers().last().map_or(0, |layer| layer.encode().len());
        }
        sums.freeze_ns += began.elapsed().as_nanos();
        if checkpoint.is_multiple_of(checkpoints) || checkpoint == total {
            let overlay: usize = image.layers().iter().map(|layer| layer.memory_bytes()).sum();
            sums.overlay_bytes = sums.overlay_bytes.max(overlay);
            let began = Instant::now();
            let folded = block_on(fold(&image, &nodes)).map_err(io::Error::other)?;
            sums.fold_ns += began.elapsed().as_nanos();
            map.rebase(&image, &folded).map_err(io::Error::other)?;
        }
    }
    let counts = store.take_counts();
    check(case, &map, &nodes, round, total)?;
    let per_write = |value: f64| value / (total * WRITES) as f64;
    let Counts { reads, nodes, bytes } = counts;
    Ok(Cycle {
        run_bytes: per_write(sums.run_bytes as f64),
        node_bytes: per_write(bytes.iter().sum::<u64>() as f64),
        leaf_reads: per_write(reads[0] as f64),
        upper_reads: per_write(reads[1..].iter().sum::<u64>() as f64),
        leaves: per_write(nodes[0] as f64),
        set_us: per_write(sums.set_ns as f64 / 1e3),
        freeze_us: per_write(sums.freeze_ns as f64 / 1e3),
        fold_us: per_write(sums.fold_ns as f64 / 1e3),
        overlay_mib: sums.overlay_bytes as f64 / f64::from(1 << 20),
    })
}

/// The last ones of the writes, whose blocks nothing later has overwritten, read back through the tree.
fn check(
    case: Case,
    map: &VolumeMap,
    nodes: &Nodes<CountedNodes>,
    round: u64,
    checkpoints: u64,
) -> io::Result<()> {
    if !map.image().layers().is_empty() {
        return Err(io::Error::other("a fold left layers"));
    }
    let mut writes = Writes::new(case, round);
    let total = checkpoints * WRITES;
    for _ in 0..total - LOOKED_AT {
        writes.next();
    }
    let last: std::collections::BTreeMap<u64, Digest> = (0..LOOKED_AT).map(|_| writes.next()).collect();
    for (block, content) in last {
        let slots = block_on(read_slots(map, nodes, block..block + 1)).map_err(io::Error::other)?;
        if slots != [Slot::Data(content)] {
            return Err(io::Error::other(format!("block {block} is not what was written")));
        }
    }
    Ok(())
}

struct Writes {
    chance: Chance,
    case: Case,
}

impl Writes {
    fn new(case: Case, round: u64) -> Writes {
        Writes { chance: Chance::new(round), case }
    }

    fn next(&mut self) -> (u64, Digest) {
        let hot = self.case.skewed && self.chance.below(10) > 0;
        let block = self.chance.below(if hot { self.case.blocks / 10 } else { self.case.blocks });
        let mut content = Digest::ZERO;
        content.0[..8].copy_from_slice(&self.chance.bits().to_le_bytes());
        content.0[8] = 1;
        (block, content)
    }
}

/// Expected map bytes per write on a full volume: touched nodes of each level and the delta runs.
fn model(case: Case, checkpoints: u64) -> f64 {
    let writes = (checkpoints * WRITES) as f64;
    let parts: &[(f64, f64)] = if case.skewed { &[(0.1, 0.91), (0.9, 0.09)] } else { &[(1.0, 1.0)] };
    let mut bytes = if checkpoints == 1 { 0.0 } else { writes * RUN_ENTRY_BYTES };
    let mut width = FANOUT as f64;
    while width < (case.blocks * FANOUT as u64) as f64 {
        let touched: f64 = parts
            .iter()
            .map(|(blocks, share)| {
                let nodes = (blocks * case.blocks as f64 / width).max(1.0);
                nodes * -(-writes * share / nodes).exp_m1()
            })
            .sum();
        bytes += touched * NODE_STORED_BYTES;
        width *= FANOUT as f64;
    }
    bytes / writes
}
