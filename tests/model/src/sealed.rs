//! A part of a state that is shared by the states that have it in common, with the digest by which it is told from others.
//!
//! A state's fingerprint is made of its parts' digests: each is computed once per change, not once per state. Two parts are taken
//! for equal when their 64-bit digests are: among ten million states the chance of a confusion is about one in 10⁵.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// A shared value and its digest.
#[derive(Debug)]
pub struct Sealed<T> {
    value: Arc<T>,
    digest: u64,
}

impl<T: Hash> Sealed<T> {
    /// Seals a value.
    pub fn new(value: T) -> Sealed<T> {
        // Fixed keys: the same value has the same digest in each run.
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        Sealed { value: Arc::new(value), digest: hasher.finish() }
    }
}

impl<T> std::ops::Deref for Sealed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Clone for Sealed<T> {
    fn clone(&self) -> Sealed<T> {
        Sealed { value: Arc::clone(&self.value), digest: self.digest }
    }
}

impl<T> PartialEq for Sealed<T> {
    fn eq(&self, other: &Sealed<T>) -> bool {
        self.digest == other.digest
    }
}

impl<T> Eq for Sealed<T> {}

impl<T> Hash for Sealed<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.digest);
    }
}
