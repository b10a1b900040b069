//! How a command answers: a table for people or one JSON document; a failure as one line.

use std::io::Write;

use serde::Serialize;

use super::table::Table;

/// Why a command did not succeed, in one line: what, why, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    line: String,
}

impl Failure {
    /// From a text; its line breaks become blanks.
    pub fn new(text: impl std::fmt::Display) -> Failure {
        let text = text.to_string();
        Failure { line: text.split_whitespace().collect::<Vec<_>>().join(" ") }
    }

    /// The line.
    pub fn line(&self) -> &str {
        &self.line
    }
}

impl<E: std::error::Error> From<E> for Failure {
    /// The error with its sources, where they add something.
    fn from(error: E) -> Failure {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            let more = error.to_string();
            if !text.contains(&more) {
                text.push_str(": ");
                text.push_str(&more);
            }
            source = error.source();
        }
        Failure::new(text)
    }
}

/// Where answers go.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// One JSON document instead of text.
    pub json: bool,
}

impl Output {
    /// Prints `document` as JSON, or what `table` makes of it.
    pub fn answer<T: Serialize>(self, document: &T, table: impl FnOnce(&T) -> Table) -> Result<(), Failure> {
        if self.json { print_json(document) } else { print_text(&table(document).to_string()) }
    }

    /// Prints `document` as JSON, or a sentence.
    pub fn say<T: Serialize>(self, document: &T, sentence: &str) -> Result<(), Failure> {
        if self.json { print_json(document) } else { print_text(&format!("{sentence}\n")) }
    }
}

/// One JSON document and a line end on stdout.
pub fn print_json<T: Serialize>(document: &T) -> Result<(), Failure> {
    let mut text = serde_json::to_string(document)?;
    text.push('\n');
    print_text(&text)
}

/// Text on stdout. A reader that has left early is no failure.
pub fn print_text(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_with_its_cause_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot open the directory")]
        struct Outer(#[source] std::io::Error);
        let failure = Failure::from(Outer(std::io::Error::other("two\nlines")));
        assert_eq!(failure.line(), "cannot open the directory: two lines");
        #[derive(Debug, thiserror::Error)]
        #[error("cannot: {0}")]
        struct Said(#[source] std::io::Error);
        assert_eq!(Failure::from(Said(std::io::Error::other("why"))).line(), "cannot: why");
    }
}
