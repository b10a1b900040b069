//! A document as text for people.

use std::fmt::Write;

use serde_json::Value;

use super::{Document, Figure, Group};
use crate::figures::{median, spread};

/// Width of the widest name that keeps the columns straight.
const NAME_WIDTH_MAX: usize = 52;

pub(super) fn text(document: &Document) -> String {
    let mut out = String::new();
    write(document, &mut out).expect("a string takes all");
    out
}

fn write(document: &Document, out: &mut String) -> std::fmt::Result {
    writeln!(out, "bench {}", document.work)?;
    for (name, value) in &document.context {
        writeln!(out, "  {name}: {}", plain(value))?;
    }
    for group in &document.groups {
        write_group(group, out)?;
    }
    if !document.facts.is_empty() {
        writeln!(out)?;
    }
    for (name, value) in &document.facts {
        writeln!(out, "  {name}: {}", plain(value))?;
    }
    writeln!(out, "\n{} blocks compared, all right", document.blocks_checked)
}

fn write_group(group: &Group, out: &mut String) -> std::fmt::Result {
    writeln!(out, "\n{}", group.question)?;
    if !group.aim.is_empty() {
        writeln!(out, "  aim: {}", group.aim)?;
    }
    let longest = group.figures.iter().map(|figure| figure.name.chars().count()).max().unwrap_or(0);
    let width = longest.min(NAME_WIDTH_MAX) + 2;
    let (median, spread) = ("median", "[least-most]");
    writeln!(out, "  {:<width$}{median:>18}{spread:>22}{:>11}{:>11}  ratio", "", "p99 us", "longest ms")?;
    for figure in &group.figures {
        write_figure(figure, group, width, out)?;
    }
    Ok(())
}

fn write_figure(figure: &Figure, group: &Group, width: usize, out: &mut String) -> std::fmt::Result {
    if figure.samples.is_empty() {
        return writeln!(out, "  {:<width$}{:>18}", figure.name, "not measured");
    }
    let (least, most) = spread(&figure.samples);
    write!(
        out,
        "  {:<width$}{:>18}{:>22}",
        figure.name,
        format!("{} {}", short(figure.median()), figure.unit),
        format!("[{}-{}]", short(least), short(most))
    )?;
    let p99 = if figure.p99_us.is_empty() { String::new() } else { short(median(&figure.p99_us)) };
    let longest =
        if figure.latency.count() == 0 { String::new() } else { short(figure.latency.longest_ms()) };
    write!(out, "{p99:>11}{longest:>11}")?;
    if let Some(base) = figure.base.map(|base| &group.figures[base]).filter(|base| !base.samples.is_empty()) {
        let ratios = figure.ratios(base);
        let (least, most) = spread(&ratios);
        write!(out, "  {} × {} [{}-{}]", short(median(&ratios)), base.name, short(least), short(most))?;
    }
    writeln!(out)
}

/// Three digits that mean something.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || size == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
