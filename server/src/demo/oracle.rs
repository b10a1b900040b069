//! What every block must hold: the last acknowledged write, or one whose acknowledgement never came.
//!
//! - O1: a block has one writer at a time, which waits for each answer; so acknowledged writes of a block are in order.
//! - O2: a write whose answer did not come may or may not have happened, until a later one of the block is acknowledged.

use std::hash::{DefaultHasher, Hasher};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes in a block.
pub(super) const BLOCK_BYTES: usize = 4096;

/// Names a block's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ContentHash(u64);

impl ContentHash {
    /// Of one block.
    pub(super) fn of(block: &[u8]) -> ContentHash {
        let mut hasher = DefaultHasher::new();
        hasher.write(block);
        ContentHash(hasher.finish())
    }

    /// Of each block of `data`.
    pub(super) fn of_blocks(data: &[u8]) -> Vec<ContentHash> {
        data.chunks_exact(BLOCK_BYTES).map(ContentHash::of).collect()
    }
}

/// Whether a content may be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The last acknowledged write, or a later one without an answer.
    Expected,
    /// Neither: an acknowledged write is lost.
    Lost,
}

#[derive(Debug, Clone)]
struct Block {
    acknowledged: ContentHash,
    unanswered: Vec<ContentHash>,
}

/// The blocks of one volume.
#[derive(Debug)]
pub(super) struct Oracle {
    blocks: Mutex<Vec<Block>>,
}

impl Oracle {
    /// Of an empty volume.
    pub(super) fn new(volume_bytes: u64) -> Oracle {
        let zero = ContentHash::of(&[0; BLOCK_BYTES]);
        let count = volume_bytes / BLOCK_BYTES as u64;
        let empty = Block { acknowledged: zero, unanswered: Vec::new() };
        Oracle { blocks: Mutex::new((0..count).map(|_| empty.clone()).collect()) }
    }

    /// A write from block `first` on is about to be sent.
    pub(super) fn begun(&self, first: usize, contents: &[ContentHash]) {
        let mut blocks = self.lock();
        for (block, content) in blocks[range(first, contents)].iter_mut().zip(contents) {
            block.unanswered.push(*content);
        }
    }

    /// It was acknowledged.
    pub(super) fn acknowledged(&self, first: usize, contents: &[ContentHash]) {
        let mut blocks = self.lock();
        for (block, content) in blocks[range(first, contents)].iter_mut().zip(contents) {
            block.acknowledged = *content;
            block.unanswered.clear();
        }
    }

    /// Judges what was read from block `first` on; gives the number of blocks that lost an acknowledged write.
    pub(super) fn count_lost(&self, first: usize, contents: &[ContentHash]) -> u64 {
        let blocks = self.lock();
        let judged = blocks[range(first, contents)].iter().zip(contents);
        judged.filter(|(block, content)| block.judge(**content) == Verdict::Lost).count() as u64
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Block>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Block {
    fn judge(&self, content: ContentHash) -> Verdict {
        if content == self.acknowledged || self.unanswered.contains(&content) {
            Verdict::Expected
        } else {
            Verdict::Lost
        }
    }
}

fn range(first: usize, contents: &[ContentHash]) -> Range<usize> {
    first..first + contents.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(byte: u8) -> ContentHash {
        ContentHash::of(&[byte; BLOCK_BYTES])
    }

    #[test]
    fn an_acknowledged_write_is_expected_and_an_older_one_is_a_loss() {
        let oracle = Oracle::new(4 * BLOCK_BYTES as u64);
        for byte in [1, 2] {
            oracle.begun(1, &[content(byte)]);
            oracle.acknowledged(1, &[content(byte)]);
        }
        assert_eq!(oracle.count_lost(0, &[content(0), content(2), content(0), content(0)]), 0);
        assert_eq!(oracle.count_lost(0, &[content(0), content(1), content(0), content(9)]), 2);
    }

    #[test]
    fn an_unanswered_write_may_or_may_not_be_there_until_the_next_is_acknowledged() {
        let oracle = Oracle::new(BLOCK_BYTES as u64);
        oracle.begun(0, &[content(1)]);
        assert_eq!(oracle.count_lost(0, &[content(1)]) + oracle.count_lost(0, &[content(0)]), 0);
        oracle.begun(0, &[content(2)]);
        oracle.acknowledged(0, &[content(2)]);
        assert_eq!(oracle.count_lost(0, &[content(1)]), 1);
    }
}
