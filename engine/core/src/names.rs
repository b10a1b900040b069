//! Names as users type them, and the ids behind them.

use std::fmt;
use std::sync::Arc;

/// Longest name of a pod, volume or snapshot suffix, in bytes.
pub const NAME_BYTES_MAX: usize = 63;

/// A volume within its pod: the index of the log entry that made it, so that both arrays agree without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeId(pub u64);

/// A snapshot within its pod: its volume, and the index of the log entry that took it, in the log of the pod that the volume
/// was in then; or more, if the volume came from another pod (`namespace.rs`, N3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId {
    /// The volume it was taken of.
    pub volume: VolumeId,
    /// Rises with each snapshot of the volume, and is never used twice for it.
    pub taken_at: u64,
}

/// 1–63 letters, digits and `-`; compared without regard to case, shown as given.
#[derive(Clone)]
pub struct Name(Arc<str>);

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("names have 1 to 63 letters, digits or '-'")]
pub struct BadName;

impl Name {
    /// Checks `text`.
    pub fn new(text: &str) -> Result<Name, BadName> {
        let fits = (1..=NAME_BYTES_MAX).contains(&text.len());
        let allowed = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if fits && allowed { Ok(Name(text.into())) } else { Err(BadName) }
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn key(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.bytes().map(|byte| byte.to_ascii_lowercase())
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Name) -> std::cmp::Ordering {
        self.key().cmp(other.key())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_without_case_and_refuse_foreign_characters() {
        assert_eq!(Name::new("Vol-1").unwrap(), Name::new("vol-1").unwrap());
        for bad in ["", "a b", "a::b", "ä", &"x".repeat(64)] {
            assert_eq!(Name::new(bad), Err(BadName), "{bad:?}");
        }
    }
}
