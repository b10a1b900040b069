//! A document as one SVG: latency by percentile, what changes over time, and the medians with their spread.

use std::fmt::Write;

use super::{Document, Figure, Line};
use crate::figures::spread;

const WIDTH: f64 = 1060.0;
const PANEL_HEIGHT: f64 = 300.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 470.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 40.0;
/// Height of one bar of the medians.
const BAR: f64 = 18.0;
const COLOURS: [&str; 8] =
    ["#1b6ca8", "#d1495b", "#3a7d44", "#edae49", "#6a4c93", "#30638e", "#8d6a9f", "#5c5c5c"];
/// Percentiles along the first picture: equal steps mean ten times rarer.
const SHARES: [f64; 14] =
    [0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.9, 99.95, 99.99, 99.999];

/// A curve: its name and its points, in the panel's own units.
struct Curve<'a> {
    name: &'a str,
    points: Vec<(f64, f64)>,
}

struct Picture {
    out: String,
    height: f64,
}

pub(super) fn svg(document: &Document) -> String {
    let mut picture = Picture { out: String::new(), height: 0.0 };
    for group in &document.groups {
        let timed: Vec<&Figure> = group.figures.iter().filter(|figure| figure.latency.count() > 0).collect();
        if !timed.is_empty() {
            picture.latency(&group.question, &timed);
        }
    }
    for lines in document.lines.chunk_by(|one, next| one.unit == next.unit && one.step_s == next.step_s) {
        picture.lines(lines);
    }
    for group in &document.groups {
        picture.medians(&group.question, &group.figures);
    }
    let (height, body) = (picture.height, picture.out);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

impl Picture {
    /// Latency in microseconds, logarithmic, over the share of operations.
    fn latency(&mut self, question: &str, figures: &[&Figure]) {
        let curves: Vec<Curve> = figures
            .iter()
            .map(|figure| {
                let rarest = 1.0 / figure.latency.count() as f64;
                let shares = SHARES.iter().filter(|share| 1.0 - **share / 100.0 >= rarest);
                let point =
                    |share: &f64| (nines(*share), figure.latency.percentile_us(*share).max(0.1).log10());
                Curve { name: &figure.name, points: shares.map(point).collect() }
            })
            .collect();
        let ticks_x = [0.0, 90.0, 99.0, 99.9, 99.99].map(|share| (nines(share), format!("{share} %")));
        self.panel(
            &format!("{question}: latency, us"),
            &curves,
            &ticks_x,
            |value| short(10f64.powf(value)),
            false,
        );
    }

    fn lines(&mut self, lines: &[Line]) {
        let curves: Vec<Curve> = lines
            .iter()
            .map(|line| {
                let at = |(step, value): (usize, &f64)| (step as f64 * line.step_s, *value);
                Curve { name: &line.name, points: line.values.iter().enumerate().map(at).collect() }
            })
            .collect();
        let end = curves.iter().flat_map(|curve| &curve.points).map(|point| point.0).fold(0.0, f64::max);
        let ticks: Vec<(f64, String)> = (0..=4)
            .map(|part| end * f64::from(part) / 4.0)
            .map(|at| (at, format!("{} s", short(at))))
            .collect();
        self.panel(&format!("over time, {}", lines[0].unit), &curves, &ticks, short, true);
    }

    fn panel(
        &mut self,
        title: &str,
        curves: &[Curve],
        ticks_x: &[(f64, String)],
        label_y: impl Fn(f64) -> String,
        from_zero: bool,
    ) {
        let all = || curves.iter().flat_map(|curve| &curve.points);
        let most_x = all().map(|point| point.0).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
        let least_y = if from_zero { 0.0 } else { all().map(|point| point.1).fold(f64::INFINITY, f64::min) };
        let most_y = all().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max).max(least_y + 1e-9);
        let (top, bottom) = (self.height + TOP, self.height + PANEL_HEIGHT - BOTTOM);
        let x = |value: f64| LEFT + value / most_x * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| bottom - (value - least_y) / (most_y - least_y) * (bottom - top);
        self.text(LEFT, self.height + 20.0, "start", title);
        for part in 0..=4 {
            let value = least_y + (most_y - least_y) * f64::from(part) / 4.0;
            self.rule((LEFT, y(value)), (WIDTH - RIGHT, y(value)));
            self.text(LEFT - 6.0, y(value) + 4.0, "end", &label_y(value));
        }
        for (at, label) in ticks_x.iter().filter(|(at, _)| *at <= most_x * 1.001) {
            self.rule((x(*at), top), (x(*at), bottom));
            self.text(x(*at), bottom + 16.0, "middle", label);
        }
        for (index, curve) in curves.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let points: Vec<String> =
                curve.points.iter().map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value))).collect();
            self.push(format_args!(
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/>",
                points.join(" ")
            ));
            let at = top + 16.0 * index as f64;
            self.push(format_args!(
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>",
                WIDTH - RIGHT + 12.0,
                at - 9.0
            ));
            self.text(WIDTH - RIGHT + 28.0, at, "start", curve.name);
        }
        self.height += PANEL_HEIGHT;
    }

    /// A bar for each median, a line from the least to the most.
    fn medians(&mut self, question: &str, figures: &[Figure]) {
        self.text(LEFT, self.height + 20.0, "start", question);
        let width = WIDTH - LEFT - RIGHT;
        for unit in figures.iter().map(|figure| figure.unit).collect::<std::collections::BTreeSet<_>>() {
            let same = || figures.iter().filter(|figure| figure.unit == unit && !figure.samples.is_empty());
            let most = same().map(|figure| spread(&figure.samples).1).fold(f64::MIN_POSITIVE, f64::max);
            for (index, figure) in same().enumerate() {
                let (least, greatest) = spread(&figure.samples);
                let at = self.height + TOP;
                let colour = COLOURS[index % COLOURS.len()];
                self.push(format_args!(
                    "<rect x=\"{LEFT}\" y=\"{at:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\" \
                     fill-opacity=\"0.6\"/>",
                    figure.median() / most * width,
                    BAR - 6.0
                ));
                let middle = at + (BAR - 6.0) / 2.0;
                let (from, to) = (LEFT + least / most * width, LEFT + greatest / most * width);
                self.push(format_args!(
                    "<line x1=\"{from:.1}\" y1=\"{middle:.1}\" x2=\"{to:.1}\" y2=\"{middle:.1}\" stroke=\"black\" \
                     stroke-width=\"1.5\"/>"
                ));
                let label = format!("{}: {} {unit}", figure.name, short(figure.median()));
                self.text(WIDTH - RIGHT + 12.0, at + BAR - 7.0, "start", &label);
                self.height += BAR;
            }
        }
        self.height += TOP + 10.0;
    }

    fn rule(&mut self, from: (f64, f64), to: (f64, f64)) {
        self.push(format_args!(
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#999\" stroke-width=\"0.5\"/>",
            from.0, from.1, to.0, to.1
        ));
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        self.push(format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"));
    }

    fn push(&mut self, what: std::fmt::Arguments<'_>) {
        writeln!(self.out, "{what}").expect("a string takes all");
    }
}

/// Where a share lies on an axis on which every step is ten times rarer.
fn nines(percent: f64) -> f64 {
    -(1.0 - percent / 100.0).log10()
}

fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{:.1}M", value / 1e6),
        size if size >= 1e4 => format!("{:.0}k", value / 1e3),
        size if size >= 100.0 || size == 0.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
