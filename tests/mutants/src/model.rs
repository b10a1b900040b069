//! The same mutations before the model checker (`tests/model`): one bound after the other, until one shows a state in which
//! something is wrong.
//!
//! - L1: without a mutation nothing is wrong within any of the bounds.
//! - L2: a mutation that no bound notices is a failure, unless it stands in [`BEYOND`] with the reason.

use std::process::{Command, Stdio};
use std::time::Instant;

use super::{MUTATIONS, Tree, share};

/// Bounds, small ones first.
const LADDER: &[&str] = &[
    "start=stretching cuts=1",
    "writes=1 withdrawals=1 time=2",
    "crashes=1 for_good=1 time=2",
    "cuts=1 for_good=1 writes=1 time=4",
    "writes=1 crashes=1 for_good=1 time=4",
    "writes=1 crashes=1",
    "start=tail time=2",
    "start=tail strays=1 cuts=1",
    "start=electing pre_elect=1 cuts=1 for_good=1 time=5",
    "start=elected cuts=1 for_good=1 time=4",
    "start=elected writes=1 crashes=1",
];

/// Each search ends after so many actions.
const TRANSITIONS: &str = "transitions=1500000";

/// What the bounds cannot notice, and why.
const BEYOND: &[(&str, &str)] = &[
    (
        "the out-of-sync mark is not written",
        "the next HELLO finds the copy behind again; needs more crashes and a JOIN half done",
    ),
    (
        "any pair configuration ends the out-of-sync state",
        "needs a hand back that one array does not know committed, then a lone survivor, then a rejoin",
    ),
    ("a grant for another race is taken", "needs two races and a grant that stays on its way between them"),
    (
        "the mediator's compare-and-set does not compare",
        "after one grant the record's members keep the other out; needs a stale ask after a rejoin",
    ),
    (
        "an old forward is ordered, though its host may have given it up",
        "a host here gives a request up by withdrawing it, not by turning to the other array",
    ),
    (
        "an array that never heard the peer's knowledge moves the right on",
        "nothing unsafe was found; what it may cost is availability",
    ),
];

/// Runs all mutations or a share; returns those that should have been noticed and were not.
pub(super) fn run(argument: Option<&str>) -> Result<Vec<&'static str>, String> {
    let (first, of) = share(argument)?;
    let tree = Tree::make(&["engine/protocol", "tests/model"]);
    let tree = tree.map_err(|error| format!("a copy of protocol and model: {error}"))?;
    build(&tree)?;
    for bounds in LADDER {
        if let Some(said) = search(&tree, bounds)? {
            return Err(format!("without a mutation: {bounds}: {said}"));
        }
    }
    let mut unnoticed = Vec::new();
    let chosen = MUTATIONS.iter().skip(first).step_by(of);
    let (mut count, mut noticed) = (0, 0);
    for mutation in chosen {
        let began = Instant::now();
        tree.apply(mutation)?;
        build(&tree)?;
        let mut said = None;
        for bounds in LADDER {
            said = search(&tree, bounds)?.map(|said| format!("{bounds}: {said}"));
            if said.is_some() {
                break;
            }
        }
        tree.restore(mutation)?;
        let beyond = BEYOND.iter().find(|(name, _)| *name == mutation.name);
        count += 1;
        noticed += usize::from(said.is_some());
        let text = match (&said, beyond) {
            (Some(said), _) => said.clone(),
            (None, Some((_, why))) => format!("beyond the bounds: {why}"),
            (None, None) => "NOT NOTICED".to_owned(),
        };
        println!("{:5.1} s  {}: {text}", began.elapsed().as_secs_f64(), mutation.name);
        if said.is_none() && beyond.is_none() {
            unnoticed.push(mutation.name);
        }
    }
    println!("{noticed} of {count} mutations noticed by the model");
    Ok(unnoticed)
}

fn build(tree: &Tree) -> Result<(), String> {
    let mut cargo = tree.command(&["build", "--offline", "--quiet", "--release", "-p", "metropod-model"]);
    let built = cargo.output().map_err(|error| format!("cargo: {error}"))?;
    match built.status.success() {
        true => Ok(()),
        false => Err(format!("it does not compile: {}", String::from_utf8_lossy(&built.stderr))),
    }
}

/// What the model says, if something is wrong within these bounds.
fn search(tree: &Tree, bounds: &str) -> Result<Option<String>, String> {
    let program = tree.target().join("release/metropod-model");
    let mut model = Command::new(&program);
    model.arg(TRANSITIONS).args(bounds.split(' ')).stdin(Stdio::null());
    let ended = model.output().map_err(|error| format!("{}: {error}", program.display()))?;
    let text = String::from_utf8_lossy(&ended.stdout).into_owned();
    let line = text.lines().next().unwrap_or_default();
    let line = line.split_once("; passed").map_or(line, |(line, _)| line).to_owned();
    match ended.status.code() {
        Some(0) => Ok(None),
        Some(1) => Ok(Some(line)),
        _ => Err(format!("{bounds}: {}", String::from_utf8_lossy(&ended.stderr))),
    }
}
