//! Medians, spreads and ratios of rounds, as a table and as JSON.
//!
//! A ratio is taken inside a round, against the peer of the same round; the median of those is reported.

use serde_json::{Value, json};

/// The rounds of one variant: median and p99 of each, in microseconds.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// Words in the table.
    pub name: String,
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
    cpu_us: Vec<f64>,
}

impl Series {
    /// No rounds yet.
    pub fn new(name: &str) -> Series {
        Series { name: name.to_owned(), ..Series::default() }
    }

    /// Adds a round of single latencies.
    pub fn add(&mut self, latencies_ns: &[u64], cpu_ns: u64) {
        self.add_figures(quantile(latencies_ns, 0.5) / 1e3, quantile(latencies_ns, 0.99) / 1e3);
        self.cpu_us.push(cpu_ns as f64 / 1e3 / latencies_ns.len().max(1) as f64);
    }

    /// Adds a round that comes as figures already.
    pub fn add_figures(&mut self, p50_us: f64, p99_us: f64) {
        self.p50_us.push(p50_us);
        self.p99_us.push(p99_us);
    }

    /// Whether there are rounds.
    pub fn is_empty(&self) -> bool {
        self.p50_us.is_empty()
    }

    /// Median of the rounds' medians.
    pub fn p50_us(&self) -> f64 {
        median(&self.p50_us)
    }

    /// Median of the rounds' ratios to another variant.
    pub fn ratio(&self, other: &Series) -> f64 {
        median(&pairs(&self.p50_us, &other.p50_us, |mine, theirs| mine / theirs))
    }

    /// The same of the 99th percentiles.
    pub fn ratio_p99(&self, other: &Series) -> f64 {
        median(&pairs(&self.p99_us, &other.p99_us, |mine, theirs| mine / theirs))
    }

    /// Median of the rounds' differences to another variant, in microseconds.
    pub fn more_us(&self, other: &Series) -> f64 {
        median(&pairs(&self.p50_us, &other.p50_us, |mine, theirs| mine - theirs))
    }

    /// For machines.
    pub fn json(&self, base: &Series) -> Value {
        json!({
            "name": self.name,
            "p50_us": self.p50_us(), "p50_us_rounds": self.p50_us,
            "p99_us": median(&self.p99_us), "p99_us_rounds": self.p99_us,
            "ratio_to_base": self.ratio(base), "more_than_base_us": self.more_us(base),
            "p99_ratio_to_base": self.ratio_p99(base),
            "cpu_us_per_write": median(&self.cpu_us),
        })
    }
}

/// One line per variant; ratios and differences against `base`.
pub fn print_table(all: &[&Series], base: &Series) {
    println!(
        "{:<34}{:>8}{:>16}{:>9}{:>8}{:>9}{:>10}{:>9}",
        "variant", "p50 us", "[least-most]", "p99 us", "/base", "+us", "p99/base", "cpu us"
    );
    for series in all.iter().filter(|series| !series.is_empty()) {
        let (least, most) = spread(&series.p50_us);
        println!(
            "{:<34}{:>8.1}{:>16}{:>9.1}{:>8.2}{:>9.1}{:>10.2}{:>9.1}",
            series.name,
            series.p50_us(),
            format!("[{least:.0}-{most:.0}]"),
            median(&series.p99_us),
            series.ratio(base),
            series.more_us(base),
            series.ratio_p99(base),
            median(&series.cpu_us),
        );
    }
}

/// The value at a share of the sorted ones; not a number without any.
pub fn quantile(values: &[u64], at: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let index = ((sorted.len() as f64 * at) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(index).map_or(f64::NAN, |value| *value as f64)
}

/// Middle value; not a number without any.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Least and greatest.
pub fn spread(values: &[f64]) -> (f64, f64) {
    (values.iter().copied().fold(f64::INFINITY, f64::min), values.iter().copied().fold(0.0, f64::max))
}

fn pairs(mine: &[f64], theirs: &[f64], of: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    mine.iter().zip(theirs).map(|(mine, theirs)| of(*mine, *theirs)).collect()
}
