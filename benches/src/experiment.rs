//! Variants of one thing in alternating rounds, one figure per round.
//!
//! Every round runs every variant once; odd rounds run them backwards, so that drift of the machine hits all alike. Round 0
//! warms code and files and is not kept. Ratios are taken inside a round.

use std::io;

use serde_json::{Value, json};

use crate::figures::{median, spread};

/// One way of doing it: takes the number of the round (0 is not kept), gives its figure.
pub struct Variant<'a> {
    name: String,
    run: Box<dyn FnMut(u64) -> io::Result<f64> + 'a>,
}

impl<'a> Variant<'a> {
    /// A way and what to call it.
    pub fn new(name: &str, run: impl FnMut(u64) -> io::Result<f64> + 'a) -> Variant<'a> {
        Variant { name: name.to_owned(), run: Box::new(run) }
    }
}

/// The figures of one variant, by round.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What it was called.
    pub name: String,
    /// Of the figures.
    pub unit: &'static str,
    rounds: Vec<f64>,
}

/// Runs all variants `rounds` times and once before.
pub fn alternate(
    rounds: u64,
    unit: &'static str,
    mut variants: Vec<Variant<'_>>,
) -> io::Result<Vec<Outcome>> {
    let outcome = |variant: &Variant<'_>| Outcome { name: variant.name.clone(), unit, rounds: Vec::new() };
    let mut outcomes: Vec<Outcome> = variants.iter().map(outcome).collect();
    for round in 0..=rounds {
        let mut order: Vec<usize> = (0..variants.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let figure = (variants[index].run)(round)?;
            if round > 0 {
                outcomes[index].rounds.push(figure);
            }
        }
    }
    Ok(outcomes)
}

impl Outcome {
    /// Figures taken otherwise.
    pub fn of(name: &str, unit: &'static str, rounds: Vec<f64>) -> Outcome {
        Outcome { name: name.to_owned(), unit, rounds }
    }

    /// Of the rounds.
    pub fn median(&self) -> f64 {
        median(&self.rounds)
    }

    /// Median of the rounds' ratios to another variant.
    pub fn ratio(&self, other: &Outcome) -> f64 {
        let ratios: Vec<f64> =
            self.rounds.iter().zip(&other.rounds).map(|(mine, theirs)| mine / theirs).collect();
        median(&ratios)
    }

    /// For machines.
    pub fn json(&self, base: &Outcome) -> Value {
        let (least, most) = spread(&self.rounds);
        json!({
            "name": self.name, "unit": self.unit, "median": self.median(), "least": least, "most": most,
            "rounds": self.rounds, "ratio_to_base": self.ratio(base),
        })
    }
}

/// One group of variants that answer one question; the first is the base.
pub fn group_json(question: &str, outcomes: &[Outcome]) -> Value {
    let variants: Vec<Value> = outcomes.iter().map(|outcome| outcome.json(&outcomes[0])).collect();
    json!({"question": question, "variants": variants})
}

/// The same as a table.
pub fn print_group(question: &str, outcomes: &[Outcome]) {
    println!("\n{question}");
    println!("  {:<44}{:>12}{:>26}{:>8}", "variant", "median", "[least-most]", "/base");
    for outcome in outcomes {
        let (least, most) = spread(&outcome.rounds);
        println!(
            "  {:<44}{:>12}{:>26}{:>8.2}",
            outcome.name,
            format!("{:.3} {}", outcome.median(), outcome.unit),
            format!("[{least:.3}-{most:.3}]"),
            outcome.ratio(&outcomes[0]),
        );
    }
}

/// Groups, as they are to be printed.
#[derive(Debug, Default)]
pub struct Report {
    groups: Vec<(String, Vec<Outcome>)>,
    facts: serde_json::Map<String, Value>,
}

impl Report {
    /// Nothing yet.
    pub fn new() -> Report {
        Report::default()
    }

    /// Adds the answer to one question.
    pub fn add(&mut self, question: &str, outcomes: Vec<Outcome>) {
        self.groups.push((question.to_owned(), outcomes));
    }

    /// Adds something that was counted, not timed.
    pub fn fact(&mut self, name: &str, value: impl Into<Value>) {
        self.facts.insert(name.to_owned(), value.into());
    }

    /// Prints all of it.
    pub fn print(&self, experiment: &str, setting: &Value, as_json: bool) {
        if as_json {
            let groups: Vec<Value> =
                self.groups.iter().map(|(question, outcomes)| group_json(question, outcomes)).collect();
            println!(
                "{:#}",
                json!({"experiment": experiment, "setting": setting, "groups": groups, "facts": self.facts})
            );
            return;
        }
        println!("{experiment}");
        crate::setting::print(setting);
        self.groups.iter().for_each(|(question, outcomes)| print_group(question, outcomes));
        for (name, value) in &self.facts {
            println!("  {name}: {value}");
        }
    }
}
