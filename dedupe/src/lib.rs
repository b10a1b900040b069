//! Content-addressed chunks: digests, reduction, log segments, index, and the [`Store`] over them.

mod digest;
mod reduce;

pub use digest::{DIGEST_BYTES, Digest, Domain, NODE_LEVELS, digest};
pub use reduce::{
    BLOCK_BYTES, Compression, ExpandError, Form, LZ4_SAVING_BYTES_MIN, Payload, RAW_BYTES_MAX, Reduced,
    expand, is_zero, pack, reduce, reduce_blocks, verify,
};
