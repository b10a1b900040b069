//! A read whose place is settled: finds the blocks' names, gets their content, and cuts out what was asked for.
//!
//! Taken from the map in one step under the core, run anywhere afterwards. It shows the state at its making, whatever
//! happens to the map later.

use bytes::{Bytes, BytesMut};
use metropod_dedupe::{Digest, Domain, Pin, Store};
use metropod_snapshots::{Image, Lookup, Nodes, Slot, Source, VolumeMap, resolve, resolve_now};

use crate::operation::{BLOCK_BYTES, blocks_touched, shares};
use crate::task::FlowError;

/// Longest read that is unpacked by whoever asks, in blocks: some 30 µs, what a change of threads costs.
const NOW_BLOCKS_MAX: u64 = 8;

/// See the module's text.
pub struct Fetch {
    lookup: Lookup,
    nodes: Nodes<Store>,
    offset: u64,
    length: u64,
    /// What the lookup names may be overwritten before it is read; it is not collected meanwhile.
    _pin: Pin,
}

/// A run of blocks that are all zero or all data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Number of bytes.
    pub length: u64,
    /// Whether they are zero without being stored.
    pub is_zero: bool,
}

impl Fetch {
    /// A read of a live volume as it is now.
    pub fn of_map(map: &VolumeMap, nodes: &Nodes<Store>, offset: u64, length: u64) -> Fetch {
        Fetch::of(map, nodes, offset, length)
    }

    /// A read of a frozen point.
    pub fn of_image(image: &Image, nodes: &Nodes<Store>, offset: u64, length: u64) -> Fetch {
        Fetch::of(image, nodes, offset, length)
    }

    fn of(source: &impl Source, nodes: &Nodes<Store>, offset: u64, length: u64) -> Fetch {
        let first = offset / BLOCK_BYTES;
        let lookup = source.lookup(first..first + blocks_touched(offset, length));
        Fetch { lookup, nodes: nodes.clone(), offset, length, _pin: nodes.store().pin() }
    }

    /// The bytes, if few blocks were asked for and having them takes no waiting; verified as by [`Fetch::read`].
    pub fn read_now(&self) -> Option<Bytes> {
        if blocks_touched(self.offset, self.length) > NOW_BLOCKS_MAX {
            return None;
        }
        let slots = resolve_now(&self.lookup, &self.nodes)?;
        let mut out = BytesMut::with_capacity(self.length as usize);
        for ((_, share), slot) in shares(self.offset, self.length).zip(slots) {
            match slot {
                Slot::Zero => out.resize(out.len() + share.length as usize, 0),
                Slot::Data(digest) => {
                    let block = self.nodes.store().get_now(Domain::Data, &digest)?;
                    if self.length == BLOCK_BYTES && share.is_whole() {
                        return Some(block);
                    }
                    let start = share.start as usize;
                    out.extend_from_slice(&block[start..start + share.length as usize]);
                }
            }
        }
        Some(out.freeze())
    }

    /// The bytes, each block verified against its name.
    pub async fn read(self) -> Result<Bytes, FlowError> {
        let store = self.nodes.store().clone();
        let slots = resolve(self.lookup, &self.nodes).await?;
        if let [Slot::Data(digest)] = slots.as_slice()
            && self.length == BLOCK_BYTES
        {
            return Ok(store.get(Domain::Data, digest, None).await?);
        }
        let names: Vec<Digest> = slots.into_iter().map(Slot::digest).collect();
        let mut blocks = vec![0; names.len() * BLOCK_BYTES as usize];
        store.read_blocks(&names, &mut blocks).await?;
        let start = (self.offset % BLOCK_BYTES) as usize;
        Ok(Bytes::from(blocks).slice(start..start + self.length as usize))
    }

    /// Where data and zeroes are, in order, covering the range.
    pub async fn extents(self) -> Result<Vec<Extent>, FlowError> {
        let slots = resolve(self.lookup, &self.nodes).await?;
        let mut extents: Vec<Extent> = Vec::new();
        for ((_, share), slot) in shares(self.offset, self.length).zip(slots) {
            let is_zero = slot == Slot::Zero;
            match extents.last_mut() {
                Some(last) if last.is_zero == is_zero => last.length += share.length,
                _ => extents.push(Extent { length: share.length, is_zero }),
            }
        }
        Ok(extents)
    }
}

impl std::fmt::Debug for Fetch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fetch({} bytes at {})", self.length, self.offset)
    }
}
