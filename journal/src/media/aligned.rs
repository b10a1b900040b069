//! Memory aligned for direct file access.
//!
//! Over-allocates and hands out the aligned part, so that no `unsafe` is needed. Invariant: `start` is such that
//! `bytes[start..]` begins at a multiple of [`DIRECT_ALIGN_BYTES`]; the allocation never moves after creation.

use super::DIRECT_ALIGN_BYTES;

/// A zero-initialised buffer whose first byte is aligned to [`DIRECT_ALIGN_BYTES`].
pub struct AlignedBuf {
    bytes: Box<[u8]>,
    start: usize,
    length: usize,
}

impl AlignedBuf {
    /// A buffer of `length` zero bytes.
    pub fn zeroed(length: usize) -> AlignedBuf {
        let bytes = vec![0u8; length + DIRECT_ALIGN_BYTES].into_boxed_slice();
        let start = bytes.as_ptr().align_offset(DIRECT_ALIGN_BYTES);
        assert!(start < DIRECT_ALIGN_BYTES, "a byte pointer can always be aligned within one unit");
        AlignedBuf { bytes, start, length }
    }

    /// The content.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }

    /// The content, to be filled.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether the buffer holds no byte.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl AsRef<[u8]> for AlignedBuf {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl std::fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBuf({} bytes)", self.length)
    }
}
