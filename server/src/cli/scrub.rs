//! `metropod scrub …`.

use std::time::Duration;

use crate::api::shapes::ScrubShape;
use crate::client::rest::Client;

use super::arguments::{Group, ScrubVerb};
use super::output::{Failure, Output};
use super::progress::{Bar, duration};
use super::size::SizeBytes;
use super::table::Table;

/// Between looks at a scrub.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) fn run(group: &Group<ScrubVerb>) -> Result<(), Failure> {
    let client = Client::new(&group.remote.api)?;
    let output = Output { json: group.remote.json };
    match &group.verb {
        ScrubVerb::Start { wait: false } => {
            let scrub = client.start_scrub()?;
            let total = SizeBytes(scrub.bytes_total);
            output.say(&scrub, &format!("scrubbing {total}; see `metropod scrub show`"))
        }
        ScrubVerb::Start { wait: true } => {
            let scrub = finished(&client)?;
            output.answer(&scrub, shown)?;
            let repaired = scrub.listed.iter().filter(|finding| finding.repaired).count() as u64;
            match scrub.findings.saturating_sub(repaired) {
                0 => Ok(()),
                found => {
                    Err(Failure::new(format!("{found} things are rotten at this array; check its disk")))
                }
            }
        }
        ScrubVerb::Stop => output.say(&client.stop_scrub()?, "stopped"),
        ScrubVerb::Show => output.answer(&client.scrub()?, shown),
    }
}

/// Begins one and waits until it is over.
fn finished(client: &Client) -> Result<ScrubShape, Failure> {
    let begun = client.start_scrub()?;
    let (mut scrub, mut bar) = (begun.clone(), Bar::new());
    while scrub.finished == begun.finished {
        if scrub.state != "running" {
            return Err(Failure::new("the scrub was stopped; start it again"));
        }
        let share = scrub.bytes_done as f64 / scrub.bytes_total.max(1) as f64;
        bar.draw("scrub", share, &format!("{}, {} rotten", rest(&scrub), scrub.findings));
        std::thread::sleep(LOOK_EVERY);
        scrub = client.scrub()?;
    }
    Ok(scrub)
}

fn rest(scrub: &ScrubShape) -> String {
    scrub
        .eta_ms
        .map_or_else(|| "done".to_owned(), |ms| format!("{} left", duration(Duration::from_millis(ms))))
}

fn shown(scrub: &ScrubShape) -> Table {
    let mut table = Table::of_values();
    let ago = |ms: u64| format!("{} ago", duration(Duration::from_millis(ms)));
    table.value("state", &scrub.state);
    table.value("read", format_args!("{} of {}", SizeBytes(scrub.bytes_done), SizeBytes(scrub.bytes_total)));
    table.value("files", format_args!("{} of {}", scrub.segments_done, scrub.segments_total));
    table.value("records", scrub.records);
    table.value("rotten", scrub.findings);
    if scrub.chunks_found > 0 {
        let counts = (scrub.chunks_found, scrub.chunks_repaired, scrub.chunks_not_repairable);
        let (found, repaired, failed) = counts;
        let line = format!("{found} lost chunks met, {repaired} repaired, {failed} not repairable");
        table.value("since the start", line);
    }
    if let Some(ms) = scrub.began_ms_ago {
        table.value("began", ago(ms));
    }
    if let Some(ms) = scrub.ended_ms_ago {
        table.value("ended", ago(ms));
    }
    if scrub.eta_ms.is_some() {
        table.value("to go", rest(scrub));
    }
    for finding in &scrub.listed {
        let digest = finding.digest.as_deref().unwrap_or_default();
        let repaired = if finding.repaired { ", repaired" } else { "" };
        let line = format!("{} {digest} in {}{repaired}", finding.kind, finding.file);
        table.value("finding", line.replace("  ", " "));
    }
    table
}
