//! Latencies of many operations in little memory: an HDR histogram, three digits exact.

use std::io;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Greatest latency told apart: ten minutes. Longer ones count as that.
const MAX_NS: u64 = 600_000_000_000;
/// Digits that are exact.
const DIGITS: u8 = 3;
/// Shares that tables and files show, in percent.
pub const PERCENTILES: [f64; 9] = [10.0, 25.0, 50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 100.0];

/// Latencies, in nanoseconds.
#[derive(Debug, Clone)]
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Latency {
        Latency(Histogram::new_with_bounds(1, MAX_NS, DIGITS).expect("the bounds are in order"))
    }
}

impl Latency {
    /// Of these.
    pub fn of(latencies_ns: &[u64]) -> Latency {
        let mut latency = Latency::default();
        latencies_ns.iter().for_each(|ns| latency.record(*ns));
        latency
    }

    /// One more.
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns.max(1));
    }

    /// Those of another as well.
    pub fn add(&mut self, other: &Latency) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that so many percent do not exceed, in microseconds; not a number without any.
    pub fn percentile_us(&self, percent: f64) -> f64 {
        if self.0.is_empty() { f64::NAN } else { self.0.value_at_percentile(percent) as f64 / 1e3 }
    }

    /// The longest, in milliseconds.
    pub fn longest_ms(&self) -> f64 {
        self.percentile_us(100.0) / 1e3
    }

    /// Percentiles for machines.
    pub fn json(&self) -> Value {
        let percentiles: serde_json::Map<String, Value> = PERCENTILES
            .iter()
            .map(|percent| (format!("p{percent}"), json!(self.percentile_us(*percent))))
            .collect();
        json!({"count": self.count(), "unit": "us", "percentiles": percentiles})
    }

    /// All of it, for another process.
    pub fn encode(&self) -> Value {
        self.0.iter_recorded().map(|step| json!([step.value_iterated_to(), step.count_at_value()])).collect()
    }

    /// What [`Latency::encode`] gave.
    pub fn decode(value: &Value) -> io::Result<Latency> {
        let mut latency = Latency::default();
        for pair in value.as_array().into_iter().flatten() {
            let (Some(ns), Some(count)) = (pair[0].as_u64(), pair[1].as_u64()) else {
                return Err(io::Error::other("a histogram has other pairs than of value and count"));
            };
            latency.0.saturating_record_n(ns.max(1), count);
        }
        Ok(latency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_comes_back_from_the_other_process() {
        let latency = Latency::of(&[1_000, 2_000, 2_000, 70_000_000]);
        let back = Latency::decode(&latency.encode()).unwrap();
        assert_eq!(back.count(), 4);
        for percent in PERCENTILES {
            assert_eq!(back.percentile_us(percent), latency.percentile_us(percent));
        }
        assert!((back.longest_ms() - 70.0).abs() < 0.1, "{}", back.longest_ms());
        assert!(Latency::default().percentile_us(50.0).is_nan());
    }
}
