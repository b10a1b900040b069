//! Content-addressed chunks: digests, reduction, log segments, index, and the [`Store`] over them.

mod dead;
mod digest;
mod files;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod hints;
mod index;
mod location;
mod reduce;
mod segment;
mod side_by_side;
mod state;
mod store;
mod turn;

pub use digest::{DIGEST_BYTES, Digest, Domain, NODE_LEVELS, digest, digest_blocks};
pub use location::{Location, SegmentId};
pub use reduce::{
    BLOCK_BYTES, Compression, ExpandError, Form, LZ4_SAVING_BYTES_MIN, Payload, RAW_BYTES_MAX, Reduced,
    expand, is_zero, pack, pack_shared, reduce, reduce_blocks, verify, verify_blocks,
};
pub use segment::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, segment_path};
pub use store::{
    Census, Cleaned, Collected, Finding, OpenError, Pass, PassError, Pin, ReadError, Rescue, Rescued, Room,
    Rot, SCRUB_LISTED_MAX, ScrubLeft, Scrubbed, Space, Store, StoreConfig, StoreStats, Weighed, WriteError,
};
