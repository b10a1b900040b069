//! What a run did and found, for people and as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::judge::{Finding, Judge, Kind, Outcome};
use crate::nemesis::{Fault, Means};

/// Requests of a finding's history that are shown: the last.
const HISTORY_SHOWN_MAX: usize = 200;

/// Counts of a run.
#[derive(Debug)]
pub struct Summary {
    seed: u64,
    means: Means,
    lasted: Duration,
    faults: BTreeMap<&'static str, usize>,
    overlapping: usize,
    /// By kind of fault, of rounds with one fault only; of two at once under a name of their own.
    pauses: BTreeMap<&'static str, Duration>,
    whole_again_max: Duration,
    rounds: usize,
    rows: BTreeMap<&'static str, usize>,
    operations: BTreeMap<(Kind, Outcome), usize>,
    findings: Vec<Finding>,
}

impl Summary {
    /// Nothing yet.
    pub fn new(seed: u64, means: Means) -> Summary {
        Summary {
            seed,
            means,
            lasted: Duration::ZERO,
            faults: BTreeMap::new(),
            overlapping: 0,
            pauses: BTreeMap::new(),
            whole_again_max: Duration::ZERO,
            rounds: 0,
            rows: BTreeMap::new(),
            operations: BTreeMap::new(),
            findings: Vec::new(),
        }
    }

    /// What the network can do, in words.
    pub fn describe(means: Means) -> &'static str {
        match means {
            Means { namespaces: true, netem: true } => "network: namespaces, with delay and loss (netem)",
            Means { namespaces: true, netem: false } => {
                "network: namespaces; this kernel has no netem: narrow links (tbf) instead of delay and loss"
            }
            Means { namespaces: false, .. } => {
                "network: loopback with proxies: no cuts in one direction, no delay, no loss"
            }
        }
    }

    /// A round's faults, and the longest pause at the side where it was shorter.
    pub fn fault(&mut self, faults: &[Fault], pause: Duration) {
        self.rounds += 1;
        for fault in faults {
            *self.faults.entry(fault.kind()).or_default() += 1;
        }
        self.overlapping += usize::from(faults.len() > 1);
        let kind = if faults.len() > 1 { "two at once" } else { faults[0].kind() };
        let longest = self.pauses.entry(kind).or_default();
        *longest = pause.max(*longest);
    }

    /// A row of the failure table was as it has to be.
    pub fn row(&mut self, id: &'static str) {
        self.rounds += 1;
        *self.rows.entry(id).or_default() += 1;
    }

    /// Both were online again.
    pub fn whole_again(&mut self, took: Duration) {
        self.whole_again_max = self.whole_again_max.max(took);
    }

    /// The run is over.
    pub fn ends(&mut self, judge: Judge, lasted: Duration) {
        self.lasted = lasted;
        for operation in judge.operations() {
            *self.operations.entry((operation.kind, operation.outcome)).or_default() += 1;
        }
        self.findings = judge.findings().to_vec();
    }

    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// One JSON document.
    pub fn json(&self) -> Value {
        let millis = |time: &Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let pauses: BTreeMap<_, _> = self.pauses.iter().map(|(kind, time)| (*kind, millis(time))).collect();
        let operations: Vec<Value> = self
            .operations
            .iter()
            .map(|((kind, outcome), count)| {
                json!({ "kind": kind_name(*kind), "outcome": outcome_name(*outcome), "count": count })
            })
            .collect();
        let findings: Vec<Value> = self
            .findings
            .iter()
            .map(|finding| json!({ "at_ms": millis(&finding.at), "what": finding.what, "history": history(finding) }))
            .collect();
        json!({
            "seed": self.seed,
            "network": if self.means.namespaces { "namespaces" } else { "loopback" },
            "netem": self.means.netem,
            "lasted_ms": millis(&self.lasted),
            "rounds": self.rounds,
            "faults": self.faults,
            "rows": self.rows,
            "overlapping": self.overlapping,
            "pause_ms_max": pauses,
            "online_again_ms_max": millis(&self.whole_again_max),
            "operations": operations,
            "violations": findings,
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut lines = vec![
            Summary::describe(self.means).to_owned(),
            format!("seed {}: {} rounds in {} s", self.seed, self.rounds, self.lasted.as_secs()),
            "faults, and the longest pause of hosts at the side with the shorter one:".into(),
        ];
        for (kind, count) in &self.faults {
            let pause = self.pauses.get(kind).map(|time| format!("{} ms", time.as_millis()));
            lines.push(format!("  {count:>5}  {kind:<36} {}", pause.unwrap_or_else(|| "–".into())));
        }
        let pause = self.pauses.get("two at once").map_or(0, Duration::as_millis);
        lines.push(format!("  {:>5}  {:<36} {pause} ms", self.overlapping, "two at once (of those)"));
        if !self.rows.is_empty() {
            let rows: Vec<String> = self.rows.iter().map(|(id, count)| format!("{id} {count}")).collect();
            lines.push(format!("rows of the failure table: {}", rows.join(", ")));
        }
        lines.push(format!("both online again after {} ms at most", self.whole_again_max.as_millis()));
        lines.push("requests:".into());
        for ((kind, outcome), count) in &self.operations {
            lines.push(format!("  {count:>8}  {:<6} {}", kind_name(*kind), outcome_name(*outcome)));
        }
        for finding in &self.findings {
            lines.push(format!(
                "VIOLATION (seed {}) at {:.3} s: {}",
                self.seed,
                finding.at.as_secs_f64(),
                finding.what
            ));
            lines.extend(history(finding));
        }
        lines.push(format!("violations: {}", self.findings.len()));
        lines.join("\n")
    }
}

fn history(finding: &Finding) -> Vec<String> {
    let skipped = finding.history.len().saturating_sub(HISTORY_SHOWN_MAX);
    let shown = finding.history.iter().skip(skipped);
    shown
        .map(|operation| {
            format!(
                "  {:>11.6}..{:>11.6} s  host {} at {}  {} {} of {:?}: {}",
                operation.begin.as_secs_f64(),
                operation.end.as_secs_f64(),
                operation.host as isize,
                operation.side.name(),
                kind_name(operation.kind),
                operation.number,
                operation.sectors,
                outcome_name(operation.outcome),
            )
        })
        .collect()
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Read => "read",
        Kind::Write => "write",
        Kind::Zero => "zero",
    }
}

fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::UnderWay => "without answer at the end",
        Outcome::Ok => "ok",
        Outcome::Failed => "failed",
        Outcome::Lost => "unknown, connection lost",
        Outcome::Abandoned => "unknown, host gave up",
    }
}
