//! Addresses and what they hold.
//!
//! A volume is an array of blocks of [`BLOCK_BYTES`]; each block is a [`Slot`]; a run of equal meaning is an [`Extent`].
//!
//! - S1: a data extent covers exactly one block and its digest is not [`Digest::ZERO`]; only zero extents are longer.

use std::ops::Range;

use metropod_dedupe::Digest;

/// Size of a block in bytes.
pub const BLOCK_BYTES: u64 = 4096;

/// Block addresses have 40 bits: the largest volume has this many blocks (4 PiB).
pub const BLOCKS_MAX: u64 = 1 << 40;

/// The largest volume, in bytes.
pub const SIZE_BYTES_MAX: u64 = BLOCKS_MAX * BLOCK_BYTES;

/// What one block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// All zeroes: never written, trimmed, or written with zeroes.
    Zero,
    /// The chunk of this name.
    Data(Digest),
}

impl Slot {
    /// The slot that a leaf of the tree spells as `digest`: the zero digest is a hole.
    pub fn from_digest(digest: Digest) -> Slot {
        if digest == Digest::ZERO { Slot::Zero } else { Slot::Data(digest) }
    }

    /// How a leaf of the tree spells this slot.
    pub fn digest(self) -> Digest {
        match self {
            Slot::Zero => Digest::ZERO,
            Slot::Data(digest) => digest,
        }
    }
}

/// Blocks that all hold the same; see S1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// The blocks; not empty.
    pub blocks: Range<u64>,
    /// What each of them holds.
    pub slot: Slot,
}

impl Extent {
    /// One block of data. A zero `digest` gives a zero extent.
    pub fn data(block: u64, digest: Digest) -> Extent {
        Extent { blocks: block..block + 1, slot: Slot::from_digest(digest) }
    }

    /// A run of zeroes.
    pub fn zero(blocks: Range<u64>) -> Extent {
        Extent { blocks, slot: Slot::Zero }
    }

    /// Number of blocks covered.
    pub fn len(&self) -> u64 {
        self.blocks.end - self.blocks.start
    }

    /// Whether no block is covered.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The part of it inside `window`, if there is one.
    pub(crate) fn clipped(&self, window: &Range<u64>) -> Option<Extent> {
        let blocks = self.blocks.start.max(window.start)..self.blocks.end.min(window.end);
        if blocks.is_empty() { None } else { Some(Extent { blocks, slot: self.slot }) }
    }
}

/// Why a volume cannot have a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GeometryError {
    /// Block addresses have 40 bits.
    #[error("a volume of {size_bytes} bytes is larger than the {SIZE_BYTES_MAX} bytes that addresses reach")]
    TooLarge {
        /// The size asked for.
        size_bytes: u64,
    },
    /// Trees have 1 to [`HEIGHT_MAX`](crate::HEIGHT_MAX) levels.
    #[error("a tree of {height} levels does not exist")]
    Height {
        /// The height given.
        height: u8,
    },
}

/// Checks a size and gives the number of blocks that cover it.
pub(crate) fn blocks_of(size_bytes: u64) -> Result<u64, GeometryError> {
    if size_bytes > SIZE_BYTES_MAX {
        return Err(GeometryError::TooLarge { size_bytes });
    }
    Ok(size_bytes.div_ceil(BLOCK_BYTES))
}
