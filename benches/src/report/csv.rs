//! A document as comma-separated values: `question,name,kind,key,value,unit`, one value a row.
//!
//! Kinds: `sample` (key: the round), `percentile` (key: percent, value in microseconds), `time` (key: seconds).

use std::fmt::Write;

use super::Document;
use crate::latency::PERCENTILES;

pub(super) fn text(document: &Document) -> String {
    let mut out = String::from("question,name,kind,key,value,unit\n");
    let mut row = |question: &str, name: &str, kind: &str, key: f64, value: f64, unit: &str| {
        let (question, name) = (quoted(question), quoted(name));
        writeln!(out, "{question},{name},{kind},{key},{value},{unit}").expect("a string takes all");
    };
    for group in &document.groups {
        for figure in &group.figures {
            for (round, sample) in figure.samples.iter().enumerate() {
                row(&group.question, &figure.name, "sample", round as f64 + 1.0, *sample, figure.unit);
            }
            for percent in PERCENTILES.iter().filter(|_| figure.latency.count() > 0) {
                let value = figure.latency.percentile_us(*percent);
                row(&group.question, &figure.name, "percentile", *percent, value, "us");
            }
        }
    }
    for line in &document.lines {
        for (step, value) in line.values.iter().enumerate() {
            row("", &line.name, "time", step as f64 * line.step_s, *value, line.unit);
        }
    }
    out
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
