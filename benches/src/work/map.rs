//! P18 and P19: what a volume's map costs: bytes to the media per 4 KiB random write, and memory.
//!
//! A model whose nodes are in memory and counted stands for a volume of 100 GiB or 1 TiB that is mapped through and through
//! (`--case full-100g`, `full-1t`), empty (`sparse-1t`), or written to in a tenth (`skewed-1t`): the overlay that is folded
//! now and then against a tree that is written at every checkpoint, beside expected numbers of touched nodes. After each
//! round blocks are read back, and the map must say what was written last. Beside it a real array: what its process wrote to
//! the device for random writes to a thin volume of 1 TiB, journal, chunks and map together.

use std::io;
use std::time::Instant;

use metropod_dedupe::Digest;
use metropod_snapshots::{FANOUT, Image, LayerId, Nodes, Slot, VolumeMap, fold, read_slots};
use serde_json::json;

use super::site::Site;
use super::{Settings, progress};
use crate::chance::Chance;
use crate::counted_nodes::{CountedNodes, Counts};
use crate::drive::Driven;
use crate::pair::POD;
use crate::park::block_on;
use crate::plan::{Plan, Stop};
use crate::report::{Document, Figure};

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
    looked_at: u64,
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
type Of = fn(&Cycle) -> f64;

pub(super) fn run(settings: &Settings) -> io::Result<Document> {
    let name = settings.case.as_deref().unwrap_or("full-1t");
    let case = CASES.into_iter().find(|case| case.name == name);
    let case = case.ok_or_else(|| {
        let known = CASES.map(|case| case.name).join(", ");
        io::Error::other(format!("no such case: {name}; use one of {known}"))
    })?;
    let home = settings.home()?;
    let writes = settings.writes.unwrap_or(settings.pick(5_000, WRITES)).max(LOOKED_AT);
    let params = json!({"case": case.name, "blocks": case.blocks, "writes_per_checkpoint": writes});
    let mut document = Document::begin("map", home.path(), params);
    document.context("nodes", "of the model: in memory, counted");
    let lengths = case.cycles();
    let mut cycles: Vec<Vec<Cycle>> = lengths.iter().map(|_| Vec::new()).collect();
    for round in 0..=settings.rounds() {
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let cycle = cycle(case, lengths[index], round, writes)?;
            document.checked(cycle.looked_at);
            if round > 0 {
                cycles[index].push(cycle);
            }
        }
        progress(format_args!("map: round {round} of {}", settings.rounds()));
    }
    let questions: [(&str, &'static str, Of); 9] = [
        ("map bytes written per write", "B", |cycle| cycle.run_bytes + cycle.node_bytes),
        ("of these, delta runs", "B", |cycle| cycle.run_bytes),
        ("leaves read per write", "leaves", |cycle| cycle.leaf_reads),
        ("upper nodes read per write, none cached", "nodes", |cycle| cycle.upper_reads),
        ("leaves written per write", "leaves", |cycle| cycle.leaves),
        ("setting a block", "us", |cycle| cycle.set_us),
        ("freezing and encoding, per write", "us", |cycle| cycle.freeze_us),
        ("folding, reads from memory, per write", "us", |cycle| cycle.fold_us),
        ("overlay in memory before a fold", "MiB", |cycle| cycle.overlay_mib),
    ];
    for (question, unit, of) in questions {
        let figures = lengths.iter().zip(&cycles).enumerate().map(|(index, (length, cycles))| Figure {
            base: (index > 0).then_some(0),
            ..Figure::of(&label(*length), unit, cycles.iter().map(of).collect())
        });
        document.add(question, "", figures.collect());
    }
    for checkpoints in CYCLES.into_iter().chain([64]).filter(|_| case.mapped) {
        let bytes = model(case, checkpoints, writes);
        document.fact(&format!("expected map bytes per write, {}", label(checkpoints)), bytes);
    }
    real(settings, home.path(), &mut document)?;
    Ok(document)
}

/// Bytes that a real array writes per write to a thin volume of 1 TiB, and what its process holds in memory.
fn real(settings: &Settings, home: &std::path::Path, document: &mut Document) -> io::Result<()> {
    let journal_mib = settings.pick(128, 256);
    let writes = settings.pick(5_000, 200_000);
    let mut site = Site::start(home, journal_mib)?;
    let volume = format!("{POD}::thin");
    site.process.ask(&format!("create-volume {volume} {}", 1u64 << 28))?;
    let mut done: Vec<(Plan, Vec<u64>)> = Vec::new();
    let (mut bytes, mut resident) = (Vec::new(), Vec::new());
    for round in 0..=settings.rounds() {
        let written = |usage: &serde_json::Value| usage["device_written_bytes"].as_u64().unwrap_or(0);
        let before = site.usage()?;
        let plan = Plan::random_writes(&volume, round, 1 << 28, 32, Stop::Requests(writes));
        let driven = Driven::decode(&site.process.ask(&format!("drive {}", serde_json::to_string(&plan)?))?)?;
        done.push((plan, driven.completed));
        let after = site.usage()?;
        if round > 0 {
            bytes.push((written(&after) - written(&before)) as f64 / writes as f64);
            resident.push(after["resident_bytes"].as_u64().unwrap_or(0) as f64 / f64::from(1 << 20));
        }
        progress(format_args!("a real array: round {round} of {}", settings.rounds()));
    }
    let figure = Figure::of("journal, chunks and map", "B", bytes);
    let question =
        "a real array, 4 KiB random writes to a thin volume of 1 TiB: bytes to the device per write";
    document.add(question, "6 KB fresh, 11 KB at 80 % full", vec![figure]);
    document.add("its process's memory after each round", "", vec![Figure::of("resident", "MiB", resident)]);
    let checked = site.process.ask(&format!("check-plans {}", serde_json::to_string(&done)?))?;
    document.checked(checked.parse::<u64>().map_err(io::Error::other)?);
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
fn cycle(case: Case, checkpoints: u64, round: u64, per_checkpoint: u64) -> io::Result<Cycle> {
    let (store, root) = CountedNodes::new(case.blocks, case.mapped);
    let nodes = Nodes::with_capacity(store.clone(), 0);
    let image = Image::new(case.blocks << 12, root, Vec::new()).map_err(io::Error::other)?;
    let mut map = VolumeMap::from_image(image);
    let mut writes = Writes::new(case, round);
    let mut sums = Sums::default();
    let total = case.checkpoints(checkpoints);
    for checkpoint in 1..=total {
        let began = Instant::now();
        for _ in 0..per_checkpoint {
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
    let looked_at = check(case, &map, &nodes, round, total * per_checkpoint)?;
    let per_write = |value: f64| value / (total * per_checkpoint) as f64;
    let Counts { reads, nodes, bytes } = counts;
    Ok(Cycle {
        looked_at,
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
    total: u64,
) -> io::Result<u64> {
    if !map.image().layers().is_empty() {
        return Err(io::Error::other("a fold left layers"));
    }
    let mut writes = Writes::new(case, round);
    for _ in 0..total - LOOKED_AT {
        writes.next();
    }
    let last: std::collections::BTreeMap<u64, Digest> = (0..LOOKED_AT).map(|_| writes.next()).collect();
    let looked_at = last.len() as u64;
    for (block, content) in last {
        let slots = block_on(read_slots(map, nodes, block..block + 1)).map_err(io::Error::other)?;
        if slots != [Slot::Data(content)] {
            return Err(io::Error::other(format!("block {block} is not what was written")));
        }
    }
    Ok(looked_at)
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
fn model(case: Case, checkpoints: u64, per_checkpoint: u64) -> f64 {
    let writes = (checkpoints * per_checkpoint) as f64;
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
