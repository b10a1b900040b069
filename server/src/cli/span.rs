//! Spans of time as users type and read them.

use std::fmt;
use std::str::FromStr;

/// Unit letters and their seconds, the longest first.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// A span in milliseconds; reads `24h`, `30m`, `10s`, `7d`, and shows two units of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpanMs(pub u64);

/// Why a text is no span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a span of time such as 24h, 30m, 10s or 7d")]
pub struct BadSpan;

impl FromStr for SpanMs {
    type Err = BadSpan;

    fn from_str(text: &str) -> Result<SpanMs, BadSpan> {
        let last = text.chars().next_back().ok_or(BadSpan)?;
        let (_, seconds) = UNITS.iter().find(|(unit, _)| *unit == last).ok_or(BadSpan)?;
        let digits = &text[..text.len() - 1];
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BadSpan);
        }
        let count: u64 = digits.parse().map_err(|_| BadSpan)?;
        count.checked_mul(seconds * 1000).map(SpanMs).ok_or(BadSpan)
    }
}

impl fmt::Display for SpanMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0 / 1000;
        let mut words = Vec::new();
        for (unit, seconds) in UNITS {
            if left >= seconds && words.len() < 2 {
                words.push(format!("{}{unit}", left / seconds));
                left %= seconds;
            }
        }
        f.pad(&if words.is_empty() { "0s".to_owned() } else { words.join(" ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_shown() {
        for (text, ms) in [("24h", 86_400_000), ("7d", 604_800_000), ("90s", 90_000), ("0s", 0)] {
            assert_eq!(text.parse(), Ok(SpanMs(ms)), "{text}");
        }
        for bad in ["", "h", "10", "-1h", "1.5h", "10x", "99999999999999999d", "½h"] {
            assert_eq!(bad.parse::<SpanMs>(), Err(BadSpan), "{bad}");
        }
        for (ms, text) in [(0, "0s"), (90_061_000, "1d 1h"), (86_400_000, "1d"), (125_000, "2m 5s")] {
            assert_eq!(SpanMs(ms).to_string(), text);
        }
    }
}
