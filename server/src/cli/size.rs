//! Sizes as users type and read them: powers of two, or bytes.

use std::fmt;
use std::str::FromStr;

/// Unit letters, each 1024 times the one before.
const UNITS: [(char, u32); 5] = [('K', 10), ('M', 20), ('G', 30), ('T', 40), ('P', 50)];

/// A size in bytes; reads `10G`, `512M`, `4096`, and shows the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SizeBytes(pub u64);

/// Why a text is no size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a size such as 10G, 512M or 1048576")]
pub struct BadSize;

impl FromStr for SizeBytes {
    type Err = BadSize;

    fn from_str(text: &str) -> Result<SizeBytes, BadSize> {
        let text = text.strip_suffix("iB").unwrap_or(text);
        let last = text.chars().next_back().ok_or(BadSize)?;
        let (digits, shift) = match UNITS.iter().find(|(unit, _)| *unit == last.to_ascii_uppercase()) {
            Some((_, shift)) => (&text[..text.len() - 1], *shift),
            None => (text, 0),
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BadSize);
        }
        let count: u64 = digits.parse().map_err(|_| BadSize)?;
        count.checked_mul(1 << shift).map(SizeBytes).ok_or(BadSize)
    }
}

impl fmt::Display for SizeBytes {
    /// The largest unit that leaves at least 1, with one decimal where the value is not whole.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((unit, shift)) = UNITS.iter().rev().find(|(_, shift)| self.0 >> shift > 0) else {
            return f.pad(&self.0.to_string());
        };
        let text = if self.0.is_multiple_of(1 << shift) {
            format!("{}{unit}", self.0 >> shift)
        } else {
            format!("{:.1}{unit}", self.0 as f64 / (1u64 << shift) as f64)
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_two() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("1k", 1024),
            ("512M", 512 << 20),
            ("10G", 10 << 30),
            ("4PiB", 4 << 50),
        ] {
            assert_eq!(text.parse(), Ok(SizeBytes(bytes)), "{text}");
        }
        for bad in ["", "G", "-1", "1.5G", "10GB", "1 G", "99999999P", "+1", "½"] {
            assert_eq!(bad.parse::<SizeBytes>(), Err(BadSize), "{bad}");
        }
    }

    #[test]
    fn a_size_is_shown_in_its_largest_unit() {
        for (bytes, text) in [(0, "0"), (1023, "1023"), (1024, "1K"), (1536, "1.5K"), (10 << 30, "10G")] {
            assert_eq!(SizeBytes(bytes).to_string(), text);
        }
    }
}
