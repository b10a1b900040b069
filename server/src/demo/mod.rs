//! `metropod demo`: the two-site story on one machine, with real processes, checked.
//!
//! Two arrays and a mediator run as children; the arrays see each other through a proxy that can stall. Hosts write at
//! both sides throughout; every acknowledged write is remembered and looked for at the end, at both sides.
//!
//! - D1: no child outlives the demo, however it ends.
//! - D2: anything that is not as it must be makes the demo fail; it says what.

mod comparison;
mod content;
mod directory;
mod interrupt;
mod load;
mod narrator;
mod oracle;
mod process;
mod proxy;
mod report;
mod resync_watch;
mod sites;
mod story;

use std::sync::Arc;
use std::time::Duration;

use crate::cli::{DemoOptions, Failure, print_json, print_text};

use content::Content;
use directory::Directory;
use narrator::Narrator;
use sites::Sites;

/// How large and how long.
#[derive(Debug, Clone, Copy)]
struct Scale {
    volumes: usize,
    volume_bytes: u64,
    /// How much of each volume is filled before the pod is stretched.
    fill_bytes: u64,
    journal_bytes: u64,
    /// Load with both sides online, each time.
    load: Duration,
    /// Load while one side is gone.
    outage: Duration,
    /// Longest wait for a baseline or resync.
    resync_time_max: Duration,
}

const QUICK: Scale = Scale {
    volumes: 2,
    volume_bytes: 64 << 20,
    fill_bytes: 48 << 20,
    journal_bytes: 128 << 20,
    load: Duration::from_millis(1500),
    outage: Duration::from_millis(2500),
    resync_time_max: Duration::from_secs(60),
};

const FULL: Scale = Scale {
    volumes: 2,
    volume_bytes: 1 << 30,
    fill_bytes: 768 << 20,
    journal_bytes: 1 << 30,
    load: Duration::from_secs(5),
    outage: Duration::from_secs(10),
    resync_time_max: Duration::from_secs(600),
};

/// Carries out `metropod demo`.
pub fn run(options: DemoOptions) -> Result<(), Failure> {
    let scale = if options.quick { QUICK } else { FULL };
    let narrator = Narrator::new(options.json);
    let mut directory = Directory::new(options.data.as_deref())?;
    interrupt::listen()?;
    let told = tell(&options, scale, &narrator, &directory);
    let report = match told {
        Ok(report) => report,
        // Whatever failed, failed because everything was asked to end.
        Err(_) if interrupt::check().is_err() => {
            return Err(Failure::new(format_args!("interrupted; {}", directory.fate())));
        }
        Err(failure) => {
            directory.keep();
            return Err(Failure::new(format_args!(
                "{}; the arrays' logs and files are in {}",
                failure.line(),
                directory.path().display()
            )));
        }
    };
    if !report.is_ok() {
        directory.keep();
    }
    if options.json {
        print_json(&report.figures())?;
    } else {
        print_text(&format!("\n{}", report.table()))?;
    }
    match report.problems() {
        [] => Ok(()),
        problems => Err(Failure::new(format_args!(
            "{}; the arrays' logs and files are in {}",
            problems.join("; "),
            directory.path().display()
        ))),
    }
}

fn tell(
    options: &DemoOptions,
    scale: Scale,
    narrator: &Narrator,
    directory: &Directory,
) -> Result<report::Report, Failure> {
    let content =
        Arc::new(Content::gather(options.image.as_deref(), scale.fill_bytes * scale.volumes as u64)?);
    interrupt::check()?;
    let sites = Sites::start(directory.path(), scale.journal_bytes)?;
    narrator.say("a mediator and arrays A and B run; their link goes through a proxy");
    story::tell(sites, scale, &content, narrator)
}
