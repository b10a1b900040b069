//! P11: how long hosts pause when an array is killed, frozen or cut off under load, and whether anything is lost.
//!
//! Arrays and mediator are a process each; hosts write 4 KiB blocks on both sides. Each trial, of each fault in turn: fault
//! at the sequencer (or the link), the other side goes on; then what was acknowledged at either side is read at the
//! survivor, the other array comes back, and everything is read at both.
//! - F1: the pause is the longest time without a completion at the survivor's hosts around the fault, all its writers together.
//! - F2: a trial counts only if every block holds an acknowledged or in-flight write at the survivor, and both sides are equal after.

use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Settings, progress};
use crate::chance::Chance;
use crate::clock::now_ns;
use crate::figures::median;
use crate::load::{Expected, Hosts};
use crate::pair::{Pair, PairConfig, Side, VOLUME};
use crate::report::{Document, Figure};

/// Blocks of the volume: 64 MiB.
const BLOCKS: u64 = 16_384;
/// First block of the hosts at B; those at A begin at 0.
const B_FIRST: u64 = BLOCKS / 2;
const BLOCKS_PER_THREAD: u64 = 256;
const JOURNAL_MIB: u64 = 128;
/// Load goes on for this long after the survivor serves alone.
const AFTERWARDS: Duration = Duration::from_millis(1000);
/// By then one side serves alone, or the trial failed.
const FAILOVER_LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Kill,
    Cut,
    Freeze,
}

struct Trial {
    pause_ms: f64,
    slowest_ms: f64,
    /// From the fault to both in sync again, less the time the outage was kept up.
    rejoin_ms: f64,
    acknowledged: u64,
    survivor_writes_per_s: f64,
    wrong: u64,
    checked: u64,
}

struct Bench {
    pair: Pair,
    home: tempfile::TempDir,
    threads: u64,
    expected: Expected,
    chance: Chance,
    number: u64,
}

pub(super) fn run(settings: &Settings) -> io::Result<Document> {
    let trials = settings.count.unwrap_or(settings.pick(1, 10));
    let threads = settings.depth.unwrap_or(4);
    let faults: Vec<Fault> = match &settings.case {
        Some(words) => words.split(',').map(parse).collect::<io::Result<_>>()?,
        None => vec![Fault::Kill, Fault::Cut, Fault::Freeze],
    };
    if !(1..=B_FIRST / BLOCKS_PER_THREAD).contains(&threads) {
        return Err(io::Error::other("too many writers for the volume; use a smaller --depth"));
    }
    let home = settings.home()?;
    let params = json!({"trials_of_each": trials, "writers_at_each_side": threads, "volume_blocks": BLOCKS});
    let mut document = Document::begin("failover", home.path(), params);
    document.context("hosts", "blocking writers at each side, depth 1 each, until the fault and on");
    document.context("data", "unique blocks of 4 KiB, LZ4 ratio 1.94");
    document.context(
        "durability",
        "on the disk at every in-sync array before the acknowledgement; all journals on one disk",
    );
    document.context(
        "network",
        "loopback TCP through a proxy that stalls for the cut; the mediator stays reachable",
    );
    let config = PairConfig { blocks: BLOCKS, proxied: true, journal_mib: JOURNAL_MIB };
    let pair = Pair::start(home.path(), config)?;
    let mut bench =
        Bench { pair, home, threads, expected: Expected::default(), chance: Chance::new(11), number: 0 };
    let mut results: Vec<(Fault, Vec<Trial>)> = faults.iter().map(|fault| (*fault, Vec::new())).collect();
    for round in 0..trials {
        for (fault, done) in &mut results {
            let trial = bench
                .trial(*fault)
                .map_err(|error| io::Error::other(format!("trial {round} of {fault:?}: {error}")))?;
            progress(format_args!(
                "{fault:?} {} of {trials}: pause {:.0} ms, back in sync after {:.0} ms, {} acknowledged, {} wrong",
                round + 1,
                trial.pause_ms,
                trial.rejoin_ms,
                trial.acknowledged,
                trial.wrong,
            ));
            done.push(trial);
        }
    }
    report(&mut document, &results)?;
    Ok(document)
}

fn parse(word: &str) -> io::Result<Fault> {
    match word {
        "kill" => Ok(Fault::Kill),
        "cut" => Ok(Fault::Cut),
        "freeze" => Ok(Fault::Freeze),
        _ => Err(io::Error::other(format!("no such fault: {word}; use kill, cut or freeze"))),
    }
}

impl Bench {
    fn trial(&mut self, fault: Fault) -> io::Result<Trial> {
        self.pair.until_level()?;
        self.number += 1;
        let plans = [self.plan("A", 0), self.plan("B", B_FIRST)];
        start_load(&mut self.pair.a, &plans[0])?;
        start_load(&mut self.pair.b, &plans[1])?;
        thread::sleep(Duration::from_millis(400 + self.chance.below(400)));
        let a_orders = self.pair.a.is_sequencer()?;
        let fault_at = now_ns();
        match fault {
            Fault::Kill => self.side(a_orders).process.kill()?,
            Fault::Freeze => self.side(a_orders).process.freeze()?,
            Fault::Cut => self.pair.set_cut(true),
        }
        let a_survives = match fault {
            Fault::Kill | Fault::Freeze => {
                self.side(!a_orders).until("alone")?;
                !a_orders
            }
            Fault::Cut => self.winner()?,
        };
        thread::sleep(AFTERWARDS);
        self.expect_no_errors(a_survives)?;
        let lost_plan = &plans[usize::from(a_survives)];
        if fault == Fault::Cut {
            // Its writers end in errors, or were held until now and do.
            self.side(!a_survives).process.ask("load-stop")?;
        }
        let (mut wrong, mut checked) = self.check_now(a_survives, &plans)?;

        let mended_at = Instant::now();
        match fault {
            Fault::Kill => self.side(!a_survives).restart()?,
            Fault::Cut => self.pair.set_cut(false),
            Fault::Freeze => {
                self.side(!a_survives).process.thaw()?;
                self.side(!a_survives).process.ask("load-stop")?;
            }
        }
        self.pair.until_level()?;
        let rejoin_ms = mended_at.elapsed().as_secs_f64() * 1e3;
        let mut acknowledged = 0;
        for plan in &plans {
            acknowledged += plan.update(&mut self.expected)?;
        }
        for at_a in [true, false] {
            let (more_wrong, more) = self.check(at_a)?;
            wrong += more_wrong;
            checked += more;
        }
        let digest = format!("digest {VOLUME}");
        if self.pair.a.process.ask(&digest)? != self.pair.b.process.ask(&digest)? {
            return Err(io::Error::other("the two sides differ after the resync"));
        }
        let survivor = &plans[usize::from(!a_survives)];
        let (pause_ms, slowest_ms, survivor_writes_per_s) = pause(survivor, fault_at)?;
        if lost_plan.completions()?.iter().all(Vec::is_empty) {
            return Err(io::Error::other("the lost array's hosts acknowledged nothing: no load"));
        }
        Ok(Trial { pause_ms, slowest_ms, rejoin_ms, acknowledged, survivor_writes_per_s, wrong, checked })
    }

    fn plan(&self, side: &str, first_block: u64) -> Hosts {
        Hosts {
            seed: self.number * 2 + u64::from(first_block > 0),
            threads: self.threads,
            first_block,
            blocks_per_thread: BLOCKS_PER_THREAD,
            log: self.home.path().join(format!("log-{side}-{}", self.number)),
        }
    }

    fn side(&mut self, a: bool) -> &mut Side {
        if a { &mut self.pair.a } else { &mut self.pair.b }
    }

    /// After a cut: whether A is the one that serves alone. For a moment both may serve under their leases: so not before the
    /// other one knows that it is off.
    fn winner(&mut self) -> io::Result<bool> {
        let began = Instant::now();
        loop {
            let a = self.pair.a.status()?["sides"][0]["status"].clone();
            let b = self.pair.b.status()?["sides"][0]["status"].clone();
            match (a.as_str(), b.as_str()) {
                (Some("online"), Some("offline")) => return Ok(true),
                (Some("offline"), Some("online")) => return Ok(false),
                _ if began.elapsed() > FAILOVER_LIMIT => {
                    return Err(io::Error::other(format!("no side went on alone: A {a}, B {b}")));
                }
                _ => thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    fn expect_no_errors(&mut self, at_a: bool) -> io::Result<()> {
        let errors = self.side(at_a).process.ask("load-stop")?;
        if errors == "[]" {
            Ok(())
        } else {
            Err(io::Error::other(format!("hosts at the survivor got errors: {errors}")))
        }
    }

    /// Checks the survivor against what was acknowledged at both sides so far; more may yet come of frozen hosts.
    fn check_now(&mut self, at_a: bool, plans: &[Hosts; 2]) -> io::Result<(u64, u64)> {
        let path = self.home.path().join("expected");
        self.expected.save(&path)?;
        let mut now = Expected::load(&path)?;
        for plan in plans {
            plan.update(&mut now)?;
        }
        now.save(&path)?;
        self.ask_check(at_a, &path)
    }

    fn check(&mut self, at_a: bool) -> io::Result<(u64, u64)> {
        let path = self.home.path().join("expected");
        self.expected.save(&path)?;
        self.ask_check(at_a, &path)
    }

    fn ask_check(&mut self, at_a: bool, path: &Path) -> io::Result<(u64, u64)> {
        ask_check(self.side(at_a), path)
    }
}

/// How many blocks are wrong at an array, and how many were compared with what is expected.
pub(super) fn ask_check(side: &mut Side, path: &Path) -> io::Result<(u64, u64)> {
    let answer = side.process.ask(&format!("check-load {VOLUME} {}", path.display()))?;
    let (wrong, checked) = answer.split_once(' ').unwrap_or(("", ""));
    let number = |text: &str| text.parse().map_err(io::Error::other);
    Ok((number(wrong)?, number(checked)?))
}

pub(super) fn start_load(side: &mut Side, plan: &Hosts) -> io::Result<()> {
    let Hosts { seed, threads, first_block, blocks_per_thread, log } = plan;
    let log = log.display();
    let command = format!("load {VOLUME} {seed} {threads} {first_block} {blocks_per_thread} {log}");
    side.process.ask(&command).map(drop)
}

/// Longest time without a completion and slowest write, in milliseconds, around and after the fault; rate before it, per second.
pub(super) fn pause(plan: &Hosts, fault_at: u64) -> io::Result<(f64, f64, f64)> {
    let completions = plan.completions()?;
    let mut ends: Vec<u64> = completions.iter().flatten().map(|completion| completion.end_ns).collect();
    ends.sort_unstable();
    let gaps = ends.windows(2).filter(|pair| pair[1] >= fault_at).map(|pair| pair[1] - pair[0]);
    let gap = gaps.max().ok_or_else(|| io::Error::other("the survivor's hosts completed nothing"))?;
    let after = completions.iter().flatten().filter(|completion| completion.end_ns >= fault_at);
    let slowest = after.map(|completion| completion.duration_ns).max().unwrap_or(0);
    let before = ends.partition_point(|end| *end < fault_at);
    let time = fault_at.saturating_sub(ends[0]).max(1) as f64 / 1e9;
    Ok((gap as f64 / 1e6, slowest as f64 / 1e6, before as f64 / time))
}

fn report(document: &mut Document, results: &[(Fault, Vec<Trial>)]) -> io::Result<()> {
    let figures = |unit: &'static str, of: fn(&Trial) -> f64| -> Vec<Figure> {
        let name = |fault: Fault| format!("{fault:?}").to_lowercase();
        let figure = |(fault, trials): &(Fault, Vec<Trial>)| {
            Figure::of(&name(*fault), unit, trials.iter().map(of).collect())
        };
        results.iter().map(figure).collect()
    };
    let aim = "half of the trials below 600 ms, none above 1,000 ms";
    document.add(
        "longest pause of the survivor's hosts, all writers together",
        aim,
        figures("ms", |trial| trial.pause_ms),
    );
    document.add("slowest write at the survivor", "", figures("ms", |trial| trial.slowest_ms));
    document.add("from the mended fault to both in sync", "", figures("ms", |trial| trial.rejoin_ms));
    let all = || results.iter().flat_map(|(_, trials)| trials);
    let rates: Vec<f64> = all().map(|trial| trial.survivor_writes_per_s).collect();
    document.fact("writes_per_s_at_the_survivor_before", median(&rates));
    document.fact("acknowledged", all().map(|trial| trial.acknowledged).sum::<u64>());
    let wrong: u64 = all().map(|trial| trial.wrong).sum();
    document.fact("lost", wrong);
    document.checked(all().map(|trial| trial.checked).sum());
    if wrong == 0 { Ok(()) } else { Err(io::Error::other(format!("{wrong} blocks hold something else"))) }
}
