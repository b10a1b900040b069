//! What a volume map needs of the chunk store.

use std::future::Future;

use bytes::Bytes;
use metropod_dedupe::Digest;

/// Nodes by name. Implemented by [`metropod_dedupe::Store`]; clones are handles on the same store.
pub trait NodeStore: Clone + Send + Sync {
    /// Why a node could not be had.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Takes a node's content in; it is readable at once. The children of a node are staged before it.
    fn stage_node(&self, level: u8, digest: Digest, content: Bytes);

    /// The content of a node, checked against its digest in the domain of its level.
    fn node(&self, level: u8, digest: Digest) -> impl Future<Output = Result<Bytes, Self::Error>> + Send;

    /// Says that these nodes will be read soon, so that they can be read side by side.
    fn will_read(&self, _digests: &[Digest]) {}

    /// Called between batches of staged nodes: the place to write some of them out if too many are in memory.
    fn relieve(&self) -> impl Future<Output = Result<(), Self::Error>> + Send;
}
