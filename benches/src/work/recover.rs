//! P14: opening an array after `kill -9` with a full journal: how fast the journal is gone through, and when the first
//! read is served.
//!
//! The store holds many chunks before: blocks of eight bytes and zeroes, which take little space. Each round fills the
//! journal from empty to just below the checkpoint that would empty it, kills the array, empties the page cache, opens the
//! array and reads; at the end of each round every block that was written is compared.

use std::io;
use std::time::Instant;

use serde_json::json;

use super::site::Site;
use super::{Settings, progress};
use crate::cold::forget;
use crate::plan::{Contents, Kind, Plan, Stop};
use crate::report::{Document, Figure};

/// A checkpoint begins when half of the budget is used, so this is twice the journal that is gone through.
const BUDGET_MIB: u64 = 2048;
const BUDGET_QUICK_MIB: u64 = 128;
/// What one write takes in the journal, about: payload, descriptor, its share of a frame.
const RECORD_BYTES: u64 = 2400;
/// The journal is filled in so many steps; after each it is looked at.
const STEPS: u64 = 20;
/// Share of the most that the journal gets to that counts as full, in percent.
const FULL_PERCENT: u64 = 85;

pub(super) fn run(settings: &Settings) -> io::Result<Document> {
    let home = settings.home()?;
    let chunks = settings.count.unwrap_or(settings.pick(20_000, 10_000_000)).next_multiple_of(64);
    let budget_mib = settings.pick(BUDGET_QUICK_MIB, BUDGET_MIB);
    let writes = (budget_mib << 20) / 2 / RECORD_BYTES;
    let params =
        json!({"chunks_before": chunks, "journal_budget_mib": budget_mib, "writes_in_the_journal": writes});
    let mut document = Document::begin("recover", home.path(), params);
    document.context(
        "data",
        "in the journal: unique blocks of LZ4 ratio 1.94; before: unique blocks of 8 bytes and zeroes",
    );
    document.context("warm", "nothing: the page cache is emptied before the array is opened");
    let mut site = Site::start(home.path(), budget_mib)?;
    let base = site.create_full_volume("base", chunks)?;
    site.drive(&Plan { contents: Contents::Tiny, ..Plan::fill(&base, 1, chunks) })?;
    let blocks = settings.pick(16_384, 262_144);
    let volume = site.create_full_volume("vol1", blocks)?;
    document.fact("array_before", site.usage()?);
    progress(format_args!("filled"));
    let (mut opened, mut served, mut rate, mut entries) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..=settings.rounds() {
        site.close_and_reopen()?;
        let (written, journal_bytes) =
            fill_journal(&mut site, &volume, blocks, round, (budget_mib << 20) / 2)?;
        site.process.kill()?;
        forget(&site.directory)?;
        let began = Instant::now();
        site.reopen()?;
        let open = began.elapsed().as_secs_f64();
        let read = Plan::random_writes(&volume, round, blocks, 1, Stop::Requests(1));
        site.drive(&Plan { kind: Kind::Read, ..read })?;
        let first_read = began.elapsed().as_secs_f64();
        document.checked(site.check_volume(&volume)?);
        progress(format_args!("recover: round {round} of {}: {first_read:.2} s", settings.rounds()));
        if round > 0 {
            opened.push(open);
            served.push(first_read);
            rate.push(journal_bytes as f64 / 1e9 / open);
            entries.push(written as f64 / 1e6 / open);
        }
        document.fact("journal_bytes_when_killed", journal_bytes);
    }
    let figures = vec![Figure::of("open", "s", opened), Figure::of("first read served", "s", served)];
    document.add("from the start of the process", "reads within 2 s", figures);
    let bytes = Figure::of("journal gone through", "GB/s", rate);
    document.add("rate, by bytes", "1 GB/s, or a million entries", vec![bytes]);
    document.add("rate, by entries", "a million per second", vec![Figure::of("entries", "M/s", entries)]);
    document.checked(site.check()?);
    Ok(document)
}

/// Writes until the journal is nearly as full as it gets before a checkpoint; gives the writes since it was last emptied,
/// and its bytes.
fn fill_journal(
    site: &mut Site,
    volume: &str,
    blocks: u64,
    round: u64,
    full_bytes: u64,
) -> io::Result<(u64, u64)> {
    let step = (full_bytes / RECORD_BYTES / STEPS).max(1);
    let (mut written, mut before, mut most) = (0, 0, full_bytes);
    for number in 0..6 * STEPS {
        let seed = round << 16 | number;
        site.drive(&Plan::random_writes(volume, seed, blocks, 32, Stop::Requests(step)))?;
        let bytes = site.usage()?["journal_bytes"].as_u64().unwrap_or(0);
        if bytes < before {
            // A checkpoint has emptied it: it does not get fuller than this.
            (written, most) = (0, before);
        } else {
            written += step;
        }
        before = bytes;
        if bytes >= most / 100 * FULL_PERCENT && written > 0 {
            return Ok((written, bytes));
        }
    }
    Err(io::Error::other("the journal does not fill: checkpoints empty it first"))
}
