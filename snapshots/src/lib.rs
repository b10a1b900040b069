//! Volume maps.
//!
//! A volume is an array of 4 KiB blocks, each a hole or the name of a chunk. Its identity and cold form is a canonical
//! Merkle tree in the chunk store; its live form is a stack of sorted tables of changes over such a tree. Freezing
//! the topmost table gives an [`Image`], in O(1): a snapshot, the origin of a clone, a checkpoint, a fork point.
//!
//! ```text
//!   VolumeMap   Table      mutable, since the last freeze
//!   Image       Layer ...  frozen tables, shared            a trim of any length is one entry
//!               Root       canonical tree of nodes          same content, same size: same root
//! ```
//!
//! Everything that touches only tables is synchronous. What may have to ask the store for nodes is `async` and
//! takes a [`Nodes`] handle. Nothing here has a clock, a thread or chance.
//!
//! Bytes: docs/format-map.md.

mod attribute;
mod chunk_store;
mod compare;
mod covers;
mod diff;
mod fold;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod gather;
mod image;
mod layer;
mod lookup;
mod map;
mod mapped;
mod nodes;
mod overlay;
mod owners;
mod reach;
mod read;
mod run;
mod slot;
mod store;
mod table;
mod tree;
mod upkeep;

pub use attribute::{Names, attribute};
pub use chunk_store::ChunkStoreError;
pub use compare::{Comparison, Differing};
pub use diff::{DiffCursor, diff, mapped_blocks};
pub use fold::{fold, volume_digest};
pub use image::{Image, NotTheBase, Rework};
pub use layer::{Layer, LayerId, LayerRange};
pub use lookup::{Lookup, Source};
pub use map::VolumeMap;
pub use mapped::Mapped;
pub use nodes::{CACHE_NODES_DEFAULT, MapError, Nodes};
pub use overlay::{merge, merge_in_turns};
pub use owners::{Owners, SetId, Share};
pub use reach::{Marker, ReachError, Reached, mark_reachable};
pub use read::{read_slots, resolve, resolve_now};
pub use run::{RunError, RunPieces};
pub use slot::{BLOCK_BYTES, BLOCKS_MAX, Extent, GeometryError, SIZE_BYTES_MAX, Slot};
pub use store::NodeStore;
pub use table::{Table, TableRange};
pub use tree::{FANOUT, HEIGHT_MAX, NODE_BYTES, Root, height_of};
pub use upkeep::{ENTRIES_MAX, LAYERS_WANTED_MAX, Limits, Stack, Survey, Work, survey};
