//! Where two volumes or snapshots of one array differ.

use std::sync::Arc;

use metropod_core::operation::{BLOCK_BYTES, Content};
use metropod_core::{Command, Frozen, ManageError as Refusal, Managed};
use metropod_protocol::PodId;
use metropod_snapshots::{Comparison, Image};
use tokio::sync::oneshot;

use crate::array::{Array, ManageError};
use crate::driver::block_on;

/// A range that differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiffRange {
    /// First byte; a multiple of 4,096.
    pub offset: u64,
    /// Number of bytes, in whole blocks of 4,096 as far as the longer one goes.
    pub length: u64,
    /// Whether all of it is zero, or beyond the end, in the first.
    pub zero_in_first: bool,
    /// Whether all of it is zero, or beyond the end, in the second.
    pub zero_in_second: bool,
}

/// How two volumes or snapshots differ. What lies beyond the end of the shorter one counts as zeroes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    /// Size of the first, in bytes.
    pub first_bytes: u64,
    /// Size of the second, in bytes.
    pub second_bytes: u64,
    /// Bytes in all ranges that differ.
    pub differing_bytes: u64,
    /// Those ranges, in order; the first of them if there are too many.
    pub ranges: Vec<DiffRange>,
    /// Whether ranges were left out.
    pub truncated: bool,
}

impl Array {
    /// Compares two volumes or snapshots, exactly, in blocks of 4 KiB. If both are of one pod, both are taken at one
    /// instant. Gives at most `ranges_max` ranges; the sum of bytes is that of all.
    pub async fn diff(&self, first: &str, second: &str, ranges_max: usize) -> Result<Diff, ManageError> {
        let (first, second) = (self.content(first)?, self.content(second)?);
        let held = if first.0 == second.0 {
            vec![self.frozen(first.0, vec![first.1, second.1]).await?]
        } else {
            vec![self.frozen(first.0, vec![first.1]).await?, self.frozen(second.0, vec![second.1]).await?]
        };
        let nodes = self.inner().driver.look(metropod_core::Array::nodes);
        let (send, receive) = oneshot::channel();
        self.inner().driver.run(move || {
            let walked = block_on(async {
                let images: Vec<&Image> = held.iter().flat_map(|frozen| &frozen.images).collect();
                let [first, second] = images[..] else { return Err(Refusal::Media) };
                let mut diff = Diff::between(first, second);
                let mut comparison = Comparison::new(first, second, &nodes);
                while let Some(found) = comparison.next().await.map_err(|_| Refusal::Media)? {
                    if send.is_closed() {
                        break;
                    }
                    diff.add(
                        DiffRange {
                            offset: found.blocks.start * BLOCK_BYTES,
                            length: (found.blocks.end - found.blocks.start) * BLOCK_BYTES,
                            zero_in_first: found.zero_in_first,
                            zero_in_second: found.zero_in_second,
                        },
                        ranges_max,
                    );
                }
                Ok(diff)
            });
            // Whoever asked may be gone; then nobody wants the result.
            let _unwanted = send.send(walked);
        });
        Ok(receive.await.unwrap_or(Err(Refusal::Media))?)
    }

    /// Frozen content, as this array shows it now; it stays readable while it is held.
    pub(crate) async fn frozen(
        &self,
        pod: PodId,
        contents: Vec<Content>,
    ) -> Result<Arc<Frozen>, ManageError> {
        match self.manage(Command::Freeze { pod, contents }).await? {
            Managed::Images(frozen) => Ok(frozen),
            _ => Err(Refusal::Media.into()),
        }
    }
}

impl Diff {
    fn between(first: &Image, second: &Image) -> Diff {
        Diff {
            first_bytes: first.size_bytes(),
            second_bytes: second.size_bytes(),
            differing_bytes: 0,
            ranges: Vec::new(),
            truncated: false,
        }
    }

    fn add(&mut self, mut range: DiffRange, ranges_max: usize) {
        let end = self.first_bytes.max(self.second_bytes);
        range.length = range.length.min(end - range.offset);
        self.differing_bytes += range.length;
        if self.ranges.len() < ranges_max {
            self.ranges.push(range);
        } else {
            self.truncated = true;
        }
    }
}
