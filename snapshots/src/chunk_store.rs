//! The chunk store as walks see it: [`NodeStore`] for [`metropod_dedupe::Store`], [`Marker`] for its passes.

use bytes::Bytes;
use metropod_dedupe::{
    Compression, Digest, Domain, Pass, PassError, ReadError, Store, WriteError, pack_shared,
};

use crate::reach::Marker;
use crate::store::NodeStore;

/// Staged bytes above which a fold has the store write some out.
const STAGED_BYTES_RELIEVED: u64 = 16 << 20;

/// Why the chunk store could not serve a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkStoreError {
    /// A node could not be read; what is missing or rotten can be had from the peer by its digest.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Staged nodes could not be written; they stay staged, and the walk can be started again.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl NodeStore for Store {
    type Error = ChunkStoreError;

    fn stage_node(&self, level: u8, digest: Digest, content: Bytes) {
        self.stage(Domain::Node { level }, digest, pack_shared(content, Compression::WhenItPays));
    }

    async fn node(&self, level: u8, digest: Digest) -> Result<Bytes, ChunkStoreError> {
        Ok(self.get(Domain::Node { level }, &digest, None).await?)
    }

    fn will_read(&self, digests: &[Digest]) {
        Store::will_read(self, digests);
    }

    async fn relieve(&self) -> Result<(), ChunkStoreError> {
        if self.staged_bytes() > STAGED_BYTES_RELIEVED {
            self.destage().await?;
        }
        Ok(())
    }
}

impl Marker for Pass {
    type Error = PassError;

    async fn mark(&self, digests: &[Digest]) -> Result<(), PassError> {
        Pass::mark(self, digests).await
    }

    async fn visit_nodes(&self, digests: &[Digest]) -> Result<Vec<bool>, PassError> {
        self.visit(digests).await
    }
}
