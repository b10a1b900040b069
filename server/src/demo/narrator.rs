//! Tells people what happens while it happens; silent towards programs.

use std::io::IsTerminal;
use std::time::Instant;

use crate::cli::print_text;

/// Where the story is told.
#[derive(Debug)]
pub(super) struct Narrator {
    begin: Instant,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Stdout,
    Stderr,
    Nowhere,
}

impl Narrator {
    /// On stdout for people. With JSON, stdout is not for stories: on stderr if somebody watches it.
    pub(super) fn new(json: bool) -> Narrator {
        let place = match json {
            false => Place::Stdout,
            true if std::io::stderr().is_terminal() => Place::Stderr,
            true => Place::Nowhere,
        };
        Narrator { begin: Instant::now(), place }
    }

    pub(super) fn say(&self, sentence: &str) {
        let line = format!("[{:5.1} s] {sentence}\n", self.begin.elapsed().as_secs_f64());
        match self.place {
            // A story nobody listens to any more is still a demo.
            Place::Stdout => drop(print_text(&line)),
            Place::Stderr => eprint!("{line}"),
            Place::Nowhere => {}
        }
    }

    pub(super) fn elapsed_s(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }
}
