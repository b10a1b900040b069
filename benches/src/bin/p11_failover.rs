//! P11: how long hosts pause when an array is killed, frozen or cut off under load, and whether anything is lost.
//!
//! `p11_failover [--trials N] [--faults kill,cut,freeze] [--threads N] [--dir DIRECTORY] [--json]`. Arrays and mediator are a process each; hosts write 4 KiB
//! blocks on both sides. Each trial, of each fault in turn: fault at the sequencer (or the link), the other side goes on; then what was
//! acknowledged at either side is read at the survivor, the other array comes back, and everything is read at both.
//! - F1: the pause is the longest time without a completion at the survivor's hosts around the fault, all its writers together.
//! - F2: a trial counts only if every block holds an acknowledged or in-flight write at the survivor, and both sides are equal after.

use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use metropod_benches::arguments::Arguments;
use metropod_benches::chance::Chance;
use metropod_benches::clock::now_ns;
use metropod_benches::figures::{median, quantile, spread};
use metropod_benches::load::{Expected, Plan};
use metropod_benches::pair::{Pair, PairConfig, Side, VOLUME};
use metropod_benches::{array_process, setting};
use serde_json::{Value, json};

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

fn main() -> io::Result<()> {
    if array_process::main_if_asked()? {
        return Ok(());
    }
    let arguments = Arguments::read(&["trials", "faults", "threads"])?;
    let (trials, threads) = (arguments.get("trials", 5u64)?, arguments.get("threads", 4u64)?);
    let faults: Vec<Fault> = arguments
        .get("faults", "kill,cut,freeze".to_owned())?
        .split(',')
        .map(parse)
        .collect::<io::Result<_>>()?;
    if !(1..=B_FIRST / BLOCKS_PER_THREAD).contains(&threads) {
        return Err(io::Error::other("too many threads for the volume"));
    }
    let home = arguments.directory()?;
    let before = setting::describe(home.path());
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
            eprintln!(
                "{fault:?} {} of {trials}: pause {:.0} ms, back in sync after {:.0} ms, {} acknowledged, {} wrong, load {}",
                round + 1,
                trial.pause_ms,
                trial.rejoin_ms,
                trial.acknowledged,
                trial.wrong,
                setting::load_average()
            );
            done.push(trial);
        }
    }
    let setting = json!({
        "setting": before, "load_after": setting::load_average(), "trials_of_each": trials,
        "hosts": format!("{threads} blocking writers at each side, depth 1 each, until the fault and on"),
        "block_bytes": 4096, "data": "unique blocks, LZ4 ratio 1.94", "volume_blocks": BLOCKS,
        "durability": "on the disk at every in-sync array before the acknowledgement; all journals on one disk",
        "network": "loopback TCP through a proxy that stalls for the cut; the mediator stays reachable",
        "processes": "arrays and mediator a process each",
    });
    report(arguments.json, setting, &results)
}

fn parse(word: &str) -> io::Result<Fault> {
    match word {
        "kill" => Ok(Fault::Kill),
        "cut" => Ok(Fault::Cut),
        "freeze" => Ok(Fault::Freeze),
        _ => Err(io::Error::other(format!("no such fault: {word}"))),
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

    fn plan(&self, side: &str, first_block: u64) -> Plan {
        Plan {
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
    fn check_now(&mut self, at_a: bool, plans: &[Plan; 2]) -> io::Result<(u64, u64)> {
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
        let answer = self.side(at_a).process.ask(&format!("check-load {VOLUME} {}", path.display()))?;
        let (wrong, checked) = answer.split_once(' ').unwrap_or(("", ""));
        let number = |text: &str| text.parse().map_err(io::Error::other);
        Ok((number(wrong)?, number(checked)?))
    }
}

fn start_load(side: &mut Side, plan: &Plan) -> io::Result<()> {
    let Plan { seed, threads, first_block, blocks_per_thread, log } = plan;
    let log = log.display();
    let command = format!("load {VOLUME} {seed} {threads} {first_block} {blocks_per_thread} {log}");
    side.process.ask(&command).map(drop)
}

/// Longest time without a completion and slowest write, in milliseconds, around and after the fault; rate before it, per second.
fn pause(plan: &Plan, fault_at: u64) -> io::Result<(f64, f64, f64)> {
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

fn report(as_json: bool, setting: Value, results: &[(Fault, Vec<Trial>)]) -> io::Result<()> {
    let mut wrong = 0;
    let mut lines = Vec::new();
    for (fault, trials) in results {
        let pauses: Vec<f64> = trials.iter().map(|trial| trial.pause_ms).collect();
        let slowest: Vec<f64> = trials.iter().map(|trial| trial.slowest_ms).collect();
        let rejoins: Vec<f64> = trials.iter().map(|trial| trial.rejoin_ms).collect();
        let rates: Vec<f64> = trials.iter().map(|trial| trial.survivor_writes_per_s).collect();
        let microseconds: Vec<u64> = pauses.iter().map(|pause| (pause * 1e3) as u64).collect();
        let lost: u64 = trials.iter().map(|trial| trial.wrong).sum();
        wrong += lost;
        lines.push(json!({
            "fault": format!("{fault:?}").to_lowercase(), "trials": trials.len(),
            "pause_ms_p50": median(&pauses), "pause_ms_p90": quantile(&microseconds, 0.9) / 1e3,
            "pause_ms_max": spread(&pauses).1, "pause_ms_min": spread(&pauses).0, "pause_ms_trials": pauses,
            "slowest_write_ms_max": spread(&slowest).1,
            "back_in_sync_ms_p50": median(&rejoins), "back_in_sync_ms_max": spread(&rejoins).1,
            "writes_per_s_at_the_survivor_before": median(&rates),
            "acknowledged": trials.iter().map(|trial| trial.acknowledged).sum::<u64>(),
            "blocks_checked": trials.iter().map(|trial| trial.checked).sum::<u64>(), "lost": lost,
        }));
    }
    if as_json {
        println!("{:#}", json!({"benchmark": "P11", "setting": setting, "faults": lines}));
    } else {
        println!("P11: host pause at the survivor, ms");
        setting::print(&setting);
        println!(
            "{:<8}{:>7}{:>7}{:>7}{:>7}{:>7}{:>9}{:>13}{:>10}{:>10}{:>6}",
            "fault",
            "trials",
            "p50",
            "p90",
            "max",
            "min",
            "slowest",
            "in sync p50",
            "acked",
            "checked",
            "lost"
        );
        for line in &lines {
            let number = |name: &str| line[name].as_f64().unwrap_or(f64::NAN);
            let count = |name: &str| line[name].as_u64().unwrap_or(0);
            println!(
                "{:<8}{:>7}{:>7.0}{:>7.0}{:>7.0}{:>7.0}{:>9.0}{:>13.0}{:>10}{:>10}{:>6}",
                line["fault"].as_str().unwrap_or(""),
                count("trials"),
                number("pause_ms_p50"),
                number("pause_ms_p90"),
                number("pause_ms_max"),
                number("pause_ms_min"),
                number("slowest_write_ms_max"),
                number("back_in_sync_ms_p50"),
                count("acknowledged"),
                count("blocks_checked"),
                count("lost")
            );
        }
    }
    if wrong == 0 { Ok(()) } else { Err(io::Error::other(format!("{wrong} blocks hold something else"))) }
}
