//! Core: what the machine of one array does for a write, without disk, link and hashing.
//!
//! Timed: the step that takes a write, the step that takes the append's result, and taking out all effects. Media are
//! in memory and not timed, nor are background flows. Every write must be acknowledged; at the end blocks are read back.
#![allow(clippy::unwrap_used, reason = "a benchmark may fail anywhere")]

mod core_site;

use std::time::Duration;

use core_site::Site;
use criterion::{BenchmarkId, Criterion, Throughput};

fn main() {
    let mut criterion =
        Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2)).configure_from_args();
    let mut group = criterion.benchmark_group("core steps of 4 KiB writes");
    let mut site = Site::new();
    for writes in [1, 32] {
        group.throughput(Throughput::Elements(writes));
        group.bench_function(BenchmarkId::new("writes", writes), |bencher| {
            bencher.iter_custom(|count| (0..count).map(|_| site.write(writes)).sum());
        });
        site.check();
    }
    group.finish();
    criterion.final_summary();
}
