//! A run: rounds of faults under load, each healed and judged, until the time is over or something must not be.

use std::path::Path;
use std::time::{Duration, Instant};

use metropod_e2e::{Dice, SECTOR_BYTES};

use crate::Side;
use crate::host::{Hosts, read_all};
use crate::judge::GRACE;
use crate::nemesis::{Fault, Means};
use crate::network::Network;
use crate::rows::{self, ROWS, Row};
use crate::stage::Stage;
use crate::summary::Summary;

/// How often both volumes are read after a heal, should an array fall out again in between.
const READINGS_MAX: usize = 3;
/// Lasting of a fault, shortest and longest.
const LASTS_MS: std::ops::Range<u64> = 500..5000;
/// Between two faults of a round, at most.
const APART_MS: u64 = 1500;
/// Hosts under way with everything well, between two rounds.
const WELL_MS: std::ops::Range<u64> = 300..1500;

/// What is run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Which faults, and what hosts do.
    pub seed: u64,
    /// For how long; the round under way is ended.
    pub lasts: Duration,
    /// Hosts at each array.
    pub hosts: usize,
    /// Instead of random faults: the rows of the failure table, so many times.
    pub times: Option<u32>,
}

/// Runs; `goes_on` is asked before each round.
pub fn run(base: &Path, network: Network, options: Options, goes_on: impl Fn() -> bool) -> Summary {
    let namespaces = matches!(network, Network::Namespaces(_));
    let means = Means { namespaces, netem: network.has_netem() };
    println!("{}", Summary::describe(means));
    let mut stage = Stage::start(base, network);
    let mut dice = Dice::new(options.seed);
    let preferred = [None, Some(Side::A), Some(Side::B)][dice.below(3) as usize];
    stage.prefer(preferred).unwrap_or_else(|said| panic!("the preference is refused: {said}"));
    let targets = Side::BOTH.map(|side| stage.target(side));
    let hosts = Hosts::start(targets, options.hosts, options.seed);
    let mut summary = Summary::new(options.seed, means);
    let begin = Instant::now();
    let mut rows = ROWS.iter().cycle();
    for number in 0.. {
        let over = match options.times {
            None => begin.elapsed() >= options.lasts,
            Some(times) => number >= times as usize * ROWS.len(),
        };
        if over || !goes_on() {
            break;
        }
        pass(&mut dice, WELL_MS);
        let outcome = match rows.next().filter(|_| options.times.is_some()) {
            Some(row) => scenario(row, &mut stage, &hosts, &mut dice, &mut summary),
            None => {
                let faults = Fault::draw(&mut dice, means);
                round(&mut stage, &hosts, &mut dice, &faults, &mut summary)
            }
        };
        if let Err(said) = outcome.and_then(|()| settle(&stage, &hosts, &mut summary)) {
            hosts.judge().found(said);
        }
        if !hosts.judge().findings().is_empty() {
            break;
        }
    }
    if hosts.judge().findings().is_empty()
        && let Err(said) = hosts.pause()
    {
        hosts.judge().found(said);
    }
    // Hosts that wait for an answer get none once the arrays are gone, and end.
    drop(stage);
    summary.ends(hosts.stop(), begin.elapsed());
    summary
}

/// A row of the failure table.
fn scenario(
    row: &Row,
    stage: &mut Stage,
    hosts: &Hosts,
    dice: &mut Dice,
    summary: &mut Summary,
) -> Result<(), String> {
    say(hosts, row.id);
    rows::run(row, stage, hosts, dice.roll())?;
    summary.row(row.id);
    Ok(())
}

/// Makes the faults, waits, undoes them.
fn round(
    stage: &mut Stage,
    hosts: &Hosts,
    dice: &mut Dice,
    faults: &[Fault],
    summary: &mut Summary,
) -> Result<(), String> {
    hosts.judge().watch_pauses();
    for (at, fault) in faults.iter().enumerate() {
        if at > 0 {
            pass(dice, 0..APART_MS);
        }
        say(hosts, &format!("{}: {fault:?}", fault.kind()));
        fault.begin(stage, hosts)?;
    }
    pass(dice, LASTS_MS);
    let pause = hosts.judge().pause();
    summary.fault(faults, pause);
    let first = dice.below(faults.len() as u64) as usize;
    for fault in faults[first..].iter().chain(&faults[..first]) {
        fault.end(stage, hosts)?;
        say(hosts, &format!("over: {}; shorter pause of the sides {} ms", fault.kind(), pause.as_millis()));
    }
    Ok(())
}

/// Waits until both are online and lets the hosts rest; then both sides must read the same.
fn settle(stage: &Stage, hosts: &Hosts, summary: &mut Summary) -> Result<(), String> {
    let mut said = String::new();
    for _ in 0..READINGS_MAX {
        let took = stage.wait_whole()?;
        summary.whole_again(took);
        hosts.pause()?;
        std::thread::sleep(GRACE);
        let again = stage.wait_whole()?;
        hosts.judge().rest();
        let read = Side::BOTH.map(|side| read_all(hosts, side, &stage.target(side)));
        hosts.resume();
        match read {
            [Ok(at_a), Ok(at_b)] => {
                say(hosts, &format!("both online after {} ms", (took + again).as_millis()));
                return same(&at_a, &at_b);
            }
            [at_a, at_b] => said = format!("{:?} {:?}", at_a.err(), at_b.err()),
        }
    }
    Err(format!("not readable though online, {READINGS_MAX} times: {said}"))
}

fn same(at_a: &[u8], at_b: &[u8]) -> Result<(), String> {
    let pairs = at_a.chunks(SECTOR_BYTES).zip(at_b.chunks(SECTOR_BYTES)).enumerate();
    let different: Vec<usize> = pairs.filter(|(_, (a, b))| a != b).map(|(sector, _)| sector).collect();
    if different.is_empty() { Ok(()) } else { Err(format!("A and B differ in sectors {different:?}")) }
}

fn pass(dice: &mut Dice, ms: std::ops::Range<u64>) {
    std::thread::sleep(Duration::from_millis(ms.start + dice.below(ms.end - ms.start)));
}

fn say(hosts: &Hosts, what: &str) {
    let at = hosts.judge().now();
    println!("{:>9.3} s  {what}", at.as_secs_f64());
}
