//! A progress bar: one line on stderr that overwrites itself, on terminals only.

use std::io::{IsTerminal, Write};
use std::time::Duration;

const WIDTH: usize = 30;

/// A bar under way. Dropping it leaves an empty line behind.
#[derive(Debug)]
pub struct Bar {
    shown: bool,
    drawn: bool,
}

impl Bar {
    /// A bar that is drawn if stderr is a terminal.
    pub fn new() -> Bar {
        Bar { shown: std::io::stderr().is_terminal(), drawn: false }
    }

    /// Draws `share` (0 to 1) with a label in front and what is known about the rest behind.
    pub fn draw(&mut self, label: &str, share: f64, rest: &str) {
        if !self.shown {
            return;
        }
        let line = line(label, share, rest);
        self.drawn = true;
        // A bar that cannot be drawn is no reason to fail.
        let _drawn = write!(std::io::stderr(), "\r\x1b[K{line}");
    }
}

impl Default for Bar {
    fn default() -> Bar {
        Bar::new()
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.drawn {
            let _drawn = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(label: &str, share: f64, rest: &str) -> String {
    let share = share.clamp(0.0, 1.0);
    let full = (share * WIDTH as f64) as usize;
    format!("{label} [{}{}] {:3.0} % {rest}", "#".repeat(full), ".".repeat(WIDTH - full), share * 100.0)
}

/// `12 s`, `3 min 20 s`.
pub(crate) fn duration(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds < 60 => format!("{:.1} s", time.as_secs_f64()),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_its_share_and_takes_any() {
        assert!(line("x", 0.5, "eta 3 s").ends_with(&format!(
            "{}{}]  50 % eta 3 s",
            "#".repeat(15),
            ".".repeat(15)
        )));
        assert!(line("x", 7.0, "").contains("100 %"));
        assert!(line("x", f64::NAN, "").contains("NaN"));
    }
}
