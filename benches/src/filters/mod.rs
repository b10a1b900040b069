//! The two candidates for "is this digest surely not in the run?": blocked Bloom and binary fuse.
//!
//! Both take four uniform words per key, the words of a digest.

mod bloom;
mod fuse;

pub use bloom::Bloom;
pub use fuse::{Fuse, Unbuildable};

/// A digest as four words.
pub type Key = [u64; 4];

/// A key of its own for each number.
pub fn key(number: u64) -> Key {
    let mut chance = crate::chance::Chance::new(crate::chance::mix(number));
    std::array::from_fn(|_| chance.bits())
}

/// Answers for keys.
pub trait Filter {
    /// Whether the key may be in the set.
    fn may_contain(&self, key: &Key) -> bool;
    /// Bytes it keeps in memory.
    fn memory_bytes(&self) -> u64;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(filter: &dyn Filter, keys: &[Key], wrong_max: usize) {
        assert!(keys.iter().all(|key| filter.may_contain(key)), "a key of the set is denied");
        let wrong = (1_000_000..1_100_000).filter(|n| filter.may_contain(&key(*n))).count();
        assert!(wrong < wrong_max, "{wrong} of 100,000 wrongly positive");
    }

    #[test]
    fn no_key_of_the_set_is_denied_and_few_others_are_let_through() {
        for count in [1, 2, 10, 1000, 50_000] {
            let keys: Vec<Key> = (0..count).map(key).collect();
            check(&Bloom::build(&keys, 12), &keys, 1000);
            check(&Fuse::build(&keys).unwrap(), &keys, 600);
        }
    }
}
