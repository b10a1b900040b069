//! What a work of the load generator found: figures by question, as a table, as JSON, as CSV and as a picture.
//!
//! - D1: a document can be printed only with a number of blocks that were compared with what was written: figures of a run
//!   that read back nothing, or something else, are never shown.
//! - D2: a ratio is taken inside a round, against the figure of the same round; the median of those is reported.

mod csv;
mod plot;
mod table;

use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::figures::{median, spread};
use crate::latency::Latency;
use crate::setting;

/// Load average from which on a run was not alone on its machine.
const ALONE_BELOW: f64 = 1.5;

/// One thing that was measured in every round.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What, in words.
    pub name: String,
    /// Of the samples.
    pub unit: &'static str,
    /// One per round; none if its tool is missing.
    pub samples: Vec<f64>,
    /// Of its single operations, all rounds together.
    pub latency: Latency,
    /// 99th percentile of each round, in microseconds, where operations were timed one by one.
    pub p99_us: Vec<f64>,
    /// CPU time per operation of each round, in microseconds, where it was counted.
    pub cpu_us: Vec<f64>,
    /// Index, in its group, of the figure it is compared with.
    pub base: Option<usize>,
}

/// The answer to one question.
#[derive(Debug, Clone)]
pub struct Group {
    /// The question.
    pub question: String,
    /// What was aimed at, if anything was.
    pub aim: &'static str,
    /// The figures, those compared with first.
    pub figures: Vec<Figure>,
}

/// A rate or amount over time.
#[derive(Debug, Clone)]
pub struct Line {
    /// What, in words.
    pub name: String,
    /// Of the values.
    pub unit: &'static str,
    /// Seconds between two values.
    pub step_s: f64,
    /// From the beginning on.
    pub values: Vec<f64>,
}

/// Everything a work has to tell.
#[derive(Debug)]
pub struct Document {
    work: &'static str,
    params: Value,
    context: Map<String, Value>,
    groups: Vec<Group>,
    lines: Vec<Line>,
    facts: Map<String, Value>,
    blocks_checked: u64,
}

impl Figure {
    /// A figure without rounds yet.
    pub fn new(name: &str, unit: &'static str, base: Option<usize>) -> Figure {
        Figure {
            name: name.to_owned(),
            unit,
            samples: Vec::new(),
            latency: Latency::default(),
            p99_us: Vec::new(),
            cpu_us: Vec::new(),
            base,
        }
    }

    /// A figure whose rounds are known.
    pub fn of(name: &str, unit: &'static str, samples: Vec<f64>) -> Figure {
        Figure { samples, ..Figure::new(name, unit, None) }
    }

    /// Of the samples.
    pub fn median(&self) -> f64 {
        median(&self.samples)
    }

    /// Each round's ratio to another figure.
    pub fn ratios(&self, base: &Figure) -> Vec<f64> {
        self.samples.iter().zip(&base.samples).map(|(mine, theirs)| mine / theirs).collect()
    }

    fn json(&self, group: &Group) -> Value {
        let (least, most) = spread(&self.samples);
        let mut value = json!({
            "name": self.name, "unit": self.unit, "samples": self.samples, "median": self.median(),
            "least": least, "most": most,
        });
        if self.samples.is_empty() {
            value["missing"] = Value::Bool(true);
        }
        if let Some(base) = self.base.map(|base| &group.figures[base]).filter(|base| !base.samples.is_empty())
        {
            let ratios = self.ratios(base);
            let (least, most) = spread(&ratios);
            value["ratio"] =
                json!({"to": base.name, "median": median(&ratios), "least": least, "most": most});
            if !self.p99_us.is_empty() && !base.p99_us.is_empty() {
                let pairs = self.p99_us.iter().zip(&base.p99_us);
                value["ratio_p99"] =
                    json!(median(&pairs.map(|(one, other)| one / other).collect::<Vec<_>>()));
            }
        }
        if self.latency.count() > 0 {
            value["latency"] = self.latency.json();
        }
        if !self.p99_us.is_empty() {
            value["p99_us"] = json!(median(&self.p99_us));
        }
        if !self.cpu_us.is_empty() {
            value["cpu_us_per_operation"] = json!(median(&self.cpu_us));
        }
        value
    }
}

impl Document {
    /// Nothing yet. The load of the machine is noted now, before the work makes its own.
    pub fn begin(work: &'static str, directory: &Path, params: Value) -> Document {
        let mut context = Map::new();
        if let Value::Object(entries) = setting::describe(directory) {
            context.extend(entries);
        }
        let load = setting::load_average();
        let first = load.split(' ').next().and_then(|word| word.parse::<f64>().ok()).unwrap_or(f64::INFINITY);
        if first >= ALONE_BELOW {
            context.insert(
                "note".to_owned(),
                json!(format!("others used the machine: load {first} before it began")),
            );
        }
        Document {
            work,
            params,
            context,
            groups: Vec::new(),
            lines: Vec::new(),
            facts: Map::new(),
            blocks_checked: 0,
        }
    }

    /// The answer to one question; the first one's last figure is the document's.
    pub fn add(&mut self, question: &str, aim: &'static str, figures: Vec<Figure>) {
        self.groups.push(Group { question: question.to_owned(), aim, figures });
    }

    /// Something over time.
    pub fn line(&mut self, line: Line) {
        self.lines.push(line);
    }

    /// Something that was counted once.
    pub fn fact(&mut self, name: &str, value: impl Into<Value>) {
        self.facts.insert(name.to_owned(), value.into());
    }

    /// Something a figure cannot be read without.
    pub fn context(&mut self, name: &str, value: impl Into<Value>) {
        self.context.insert(name.to_owned(), value.into());
    }

    /// So many blocks, or names of blocks, were compared and were right.
    pub fn checked(&mut self, blocks: u64) {
        self.blocks_checked += blocks;
    }

    /// Whether the figures count.
    fn proven(&self) -> io::Result<()> {
        if self.blocks_checked > 0 {
            Ok(())
        } else {
            Err(io::Error::other("nothing was compared with what was written: no figure counts"))
        }
    }

    /// The figure that stands for all: the last of the first question.
    fn headline(&self) -> Option<&Figure> {
        self.groups.first()?.figures.iter().rev().find(|figure| !figure.samples.is_empty())
    }

    /// For machines.
    pub fn json(&self) -> io::Result<Value> {
        self.proven()?;
        let headline = self.headline().ok_or_else(|| io::Error::other("nothing was measured"))?;
        let groups: Vec<Value> = self
            .groups
            .iter()
            .map(|group| {
                let figures: Vec<Value> = group.figures.iter().map(|figure| figure.json(group)).collect();
                json!({"question": group.question, "aim": group.aim, "figures": figures})
            })
            .collect();
        let lines: Vec<Value> = self
            .lines
            .iter()
            .map(|line| json!({"name": line.name, "unit": line.unit, "step_s": line.step_s, "values": line.values}))
            .collect();
        let mut context = self.context.clone();
        context.insert("load_average_after".to_owned(), json!(setting::load_average()));
        Ok(json!({
            "work": self.work, "params": self.params, "measured": headline.name, "samples": headline.samples,
            "median": headline.median(), "unit": headline.unit, "checked": true,
            "blocks_checked": self.blocks_checked, "questions": groups, "over_time": lines, "facts": self.facts,
            "context": context,
        }))
    }

    /// For people.
    pub fn text(&self) -> io::Result<String> {
        self.proven()?;
        Ok(table::text(self))
    }

    /// Samples, percentiles and lines, one value a row.
    pub fn csv(&self) -> io::Result<String> {
        self.proven()?;
        Ok(csv::text(self))
    }

    /// A picture as SVG.
    pub fn svg(&self) -> io::Result<String> {
        self.proven()?;
        Ok(plot::svg(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Document {
        let mut document = Document::begin("write", Path::new("."), json!({"depth": 1}));
        let mut plain = Figure::of("plain", "us", vec![10.0, 20.0, 30.0]);
        plain.latency = Latency::of(&[10_000, 20_000, 30_000]);
        let mut ours = Figure::of("ours, \"quoted\" <&>", "us", vec![20.0, 30.0, 30.0]);
        ours.base = Some(0);
        ours.latency = Latency::of(&[20_000, 30_000, 30_000]);
        document.add("how long", "at most twice", vec![plain, ours, Figure::new("fio", "us", Some(0))]);
        document.line(Line { name: "rate".to_owned(), unit: "per s", step_s: 0.5, values: vec![1.0, 2.0] });
        document
    }

    #[test]
    fn nothing_is_shown_of_a_run_that_compared_nothing() {
        let mut document = document();
        assert!(document.json().is_err() && document.text().is_err() && document.csv().is_err());
        assert!(document.svg().is_err());
        document.checked(7);
        assert_eq!(document.json().unwrap()["checked"], true);
    }

    #[test]
    fn ratios_are_taken_inside_a_round() {
        let mut document = document();
        document.checked(1);
        let json = document.json().unwrap();
        assert_eq!(json["median"], 30.0);
        assert_eq!(json["samples"], json!([20.0, 30.0, 30.0]));
        let ours = &json["questions"][0]["figures"][1];
        assert_eq!(ours["ratio"]["median"], 1.5);
        assert_eq!((&ours["ratio"]["least"], &ours["ratio"]["most"]), (&json!(1.0), &json!(2.0)));
        assert_eq!(json["questions"][0]["figures"][2]["missing"], true);
    }

    #[test]
    fn files_hold_every_sample_percentile_and_step() {
        let mut document = document();
        document.checked(1);
        let csv = document.csv().unwrap();
        assert!(csv.contains("how long,\"ours, \"\"quoted\"\" <&>\",sample,1,20,us"), "{csv}");
        assert!(csv.contains("how long,plain,percentile,50,"), "{csv}");
        assert!(csv.contains(",rate,time,0.5,2,per s"), "{csv}");
        let svg = document.svg().unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
        assert!(svg.contains("&lt;&amp;&gt;") && svg.matches("<polyline").count() == 3, "{svg}");
        assert!(document.text().unwrap().contains("fio"));
    }
}
