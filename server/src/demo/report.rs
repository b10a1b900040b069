//! What the demo found: figures for programs, a table for people, and whatever is not as it must be.

use std::time::Duration;

use serde::Serialize;

use crate::api::shapes::ResyncShape;
use crate::cli::{SizeBytes, Table};

use super::comparison::Comparison;
use super::load::Pause;

/// Everything that was measured.
#[derive(Debug, Clone, Default)]
pub(super) struct Report {
    pub(super) pause_kill: Option<Pause>,
    pub(super) pause_cut: Option<Pause>,
    pub(super) baseline: ResyncShape,
    pub(super) resync_kill: ResyncShape,
    pub(super) resync_kill_time: Duration,
    pub(super) resync_cut: ResyncShape,
    pub(super) resync_cut_time: Duration,
    pub(super) comparison: Comparison,
    /// Blocks that were read back wrong while hosts wrote.
    pub(super) lost_under_load: u64,
    pub(super) acknowledged_writes: u64,
    pub(super) took_s: f64,
    problems: Vec<String>,
}

/// The figures as one document.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    ok: bool,
    pause_ms: PauseFigures,
    resync: ResyncShape,
    blocks_compared: u64,
    mismatches: u64,
    acked_writes: u64,
    lost: u64,
}

#[derive(Debug, Serialize)]
struct PauseFigures {
    kill: Option<u64>,
    cut: Option<u64>,
}

impl Report {
    /// Something is not as it must be.
    pub(super) fn problem(&mut self, sentence: impl Into<String>) {
        self.problems.push(sentence.into());
    }

    /// Judges the comparison; to be called when everything is measured.
    pub(super) fn judge(&mut self) {
        let Comparison { blocks_compared, mismatches, .. } = self.comparison;
        if blocks_compared == 0 {
            self.problem("nothing was compared");
        }
        if mismatches > 0 {
            self.problem(format!("{mismatches} blocks differ between the sides"));
        }
        if self.lost() > 0 {
            self.problem(format!("{} blocks lost an acknowledged write", self.lost()));
        }
    }

    pub(super) fn problems(&self) -> &[String] {
        &self.problems
    }

    pub(super) fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }

    pub(super) fn figures(&self) -> Figures {
        let milliseconds = |pause: Option<Pause>| pause.map(|pause| pause.gap.as_millis() as u64);
        Figures {
            ok: self.is_ok(),
            pause_ms: PauseFigures { kill: milliseconds(self.pause_kill), cut: milliseconds(self.pause_cut) },
            resync: self.resync_kill,
            blocks_compared: self.comparison.blocks_compared,
            mismatches: self.comparison.mismatches,
            acked_writes: self.acknowledged_writes,
            lost: self.lost(),
        }
    }

    pub(super) fn table(&self) -> Table {
        let mut table = Table::of_values();
        for (name, pause) in [("array A killed", self.pause_kill), ("link cut", self.pause_cut)] {
            match pause {
                Some(pause) => table.value(
                    name,
                    format_args!(
                        "hosts at the survivor waited {} ms (slowest write {} ms)",
                        pause.gap.as_millis(),
                        pause.slowest.as_millis()
                    ),
                ),
                None => table.value(name, "no write completed at the survivor"),
            }
        }
        table.value("baseline", transfer(&self.baseline));
        for (name, resync, time) in [
            ("resync after the kill", &self.resync_kill, self.resync_kill_time),
            ("resync after the cut", &self.resync_cut, self.resync_cut_time),
        ] {
            table.value(name, format_args!("{}, online after {:.1} s", transfer(resync), time.as_secs_f64()));
        }
        table.value("acknowledged writes", self.acknowledged_writes);
        table.value("blocks compared", self.comparison.blocks_compared);
        table.value("differing blocks", self.comparison.mismatches);
        table.value("lost writes", self.lost());
        table.value("took", format_args!("{:.1} s", self.took_s));
        table.value("result", if self.is_ok() { "ok" } else { "FAILED" });
        for problem in &self.problems {
            table.value("", problem);
        }
        table
    }

    fn lost(&self) -> u64 {
        self.comparison.lost + self.lost_under_load
    }
}

fn transfer(resync: &ResyncShape) -> String {
    if resync.bytes_logical == 0 {
        return "too short to be seen".to_owned();
    }
    format!(
        "{} differed, {} only named, {} over the wire, {} saved",
        SizeBytes(resync.bytes_logical),
        SizeBytes(resync.bytes_referenced),
        SizeBytes(resync.bytes_wire),
        SizeBytes(resync.bytes_saved)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_figures_have_the_promised_form() {
        let mut report = Report {
            pause_kill: Some(Pause { gap: Duration::from_millis(412), slowest: Duration::from_millis(420) }),
            comparison: Comparison { blocks_compared: 9, mismatches: 0, lost: 1 },
            acknowledged_writes: 7,
            ..Report::default()
        };
        report.judge();
        assert_eq!(
            serde_json::to_value(report.figures()).unwrap(),
            json!({
                "ok": false,
                "pause_ms": {"kill": 412, "cut": null},
                "resync": {
                    "bytes_logical": 0, "bytes_done": 0, "bytes_referenced": 0, "bytes_compressed": 0,
                    "bytes_wire": 0, "bytes_saved": 0, "rate_bytes_per_s": 0, "eta_ms": null,
                },
                "blocks_compared": 9, "mismatches": 0, "acked_writes": 7, "lost": 1,
            })
        );
        assert_eq!(report.problems(), ["1 blocks lost an acknowledged write"]);
    }
}
