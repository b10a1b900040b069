//! Medians, spreads and ratios of all rounds, as a table and as JSON.
//!
//! A ratio is taken inside a round (median against that round's baseline median); the median of those is reported.

use std::fs;

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::leader::{Role, Run, Variant};

/// All rounds of one variant.
pub struct Series {
    pub variant: Variant,
    rounds: Vec<Vec<u64>>,
    cpu_ns: u64,
}

/// The figures of one variant.
struct Figures {
    p50_us: f64,
    p50_us_min: f64,
    p50_us_max: f64,
    p99_us: f64,
    to_base: f64,
    to_alone: f64,
    cpu_us_per_write: f64,
}

impl Series {
    pub fn new(variant: Variant) -> Series {
        Series { variant, rounds: Vec::new(), cpu_ns: 0 }
    }

    /// Adds a run; runs of the same round are pooled.
    pub fn add(&mut self, round: usize, run: Run) {
        self.rounds.resize_with(round + 1, Vec::new);
        self.rounds[round].extend(run.latencies_ns);
        self.cpu_ns += run.cpu_ns;
    }

    fn medians_us(&self) -> Vec<f64> {
        self.rounds.iter().map(|round| quantile(round, 0.5) as f64 / 1e3).collect()
    }

    fn ratio_to(&self, other: Option<&Series>) -> f64 {
        let Some(other) = other else { return f64::NAN };
        median(self.medians_us().iter().zip(other.medians_us()).map(|(mine, theirs)| mine / theirs).collect())
    }

    fn figures(&self, all: &[Series]) -> Figures {
        let medians = self.medians_us();
        let pooled: Vec<u64> = self.rounds.iter().flatten().copied().collect();
        let find = |role: Role| {
            all.iter().find(|series| series.variant.role == role && series.variant.think_us == 0)
        };
        Figures {
            p50_us: median(medians.clone()),
            p50_us_min: medians.iter().copied().fold(f64::INFINITY, f64::min),
            p50_us_max: medians.iter().copied().fold(0.0, f64::max),
            p99_us: quantile(&pooled, 0.99) as f64 / 1e3,
            to_base: self.ratio_to(find(Role::Base)),
            to_alone: self.ratio_to(find(Role::AloneWait)),
            cpu_us_per_write: self.cpu_ns as f64 / 1e3 / pooled.len() as f64,
        }
    }
}

/// One line per variant.
pub fn print_table(all: &[Series]) {
    println!(
        "{:<14}{:<10}{:>6}{:>7}{:>9}{:>8}{:>8}{:>9}{:>8}{:>8}{:>9}",
        "leader", "follower", "spin", "think", "p50 us", "min", "max", "p99 us", "/base", "/alone", "cpu us"
    );
    for series in all {
        let (variant, figures) = (series.variant, series.figures(all));
        println!(
            "{:<14}{:<10}{:>6}{:>7}{:>9.1}{:>8.1}{:>8.1}{:>9.1}{:>8.2}{:>8.2}{:>9.1}",
            format!("{:?}", variant.role),
            variant.follower.map_or("-", |mode| mode.name()),
            format!("{}{}", variant.spin.us, if variant.spin.yields { "y" } else { "" }),
            variant.think_us,
            figures.p50_us,
            figures.p50_us_min,
            figures.p50_us_max,
            figures.p99_us,
            figures.to_base,
            figures.to_alone,
            figures.cpu_us_per_write,
        );
    }
}

/// The same, for machines.
pub fn as_json(all: &[Series], heartbeats: &[(&'static str, f64)], context: Value) -> Value {
    let variants: Vec<Value> = all
        .iter()
        .map(|series| {
            let figures = series.figures(all);
            json!({
                "leader": format!("{:?}", series.variant.role),
                "follower": series.variant.follower.map(|mode| mode.name()),
                "spin_us": series.variant.spin.us,
                "spin_yields": series.variant.spin.yields,
                "think_us": series.variant.think_us,
                "p50_us": figures.p50_us,
                "p50_us_min": figures.p50_us_min,
                "p50_us_max": figures.p50_us_max,
                "p99_us": figures.p99_us,
                "ratio_to_base": figures.to_base,
                "ratio_to_alone": figures.to_alone,
                "cpu_us_per_write": figures.cpu_us_per_write,
                "round_medians_us": series.medians_us(),
            })
        })
        .collect();
    let heartbeats: Vec<Value> = heartbeats
        .iter()
        .map(|(mode, slowest_ms)| json!({"follower": mode, "slowest_heartbeat_ms": slowest_ms}))
        .collect();
    json!({"context": context, "variants": variants, "stalled_disk": heartbeats})
}

/// CPU time of this process.
pub fn process_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The machine's load averages, for the reader to judge how busy it was.
pub fn load_average() -> String {
    fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}

fn quantile(values: &[u64], at: f64) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let index = ((sorted.len() as f64 * at) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or(0)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
