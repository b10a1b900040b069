//! How much of a volume or snapshot is in use, exactly.

use metropod_core::operation::BLOCK_BYTES;
use metropod_core::{ManageError as Refusal, task::FlowError};
use metropod_snapshots::{DiffCursor, Slot};
use tokio::sync::oneshot;

use crate::array::{Array, ManageError};
use crate::driver::block_on;

/// Extents looked at between two looks whether somebody still wants to know.
const BATCH_EXTENTS: usize = 16 * 1024;

impl Array {
    /// Bytes of a volume or snapshot that hold data, in blocks of 4 KiB, before reduction. Not cheap: reads the whole map,
    /// 32 bytes for each block that holds data. Dropping the future ends that.
    pub async fn logical_bytes(&self, name: &str) -> Result<u64, ManageError> {
        let (pod, content) = self.content(name)?;
        let frozen = self.frozen(pod, vec![content]).await?;
        let nodes = self.inner().driver.look(metropod_core::Array::nodes);
        let (send, receive) = oneshot::channel();
        self.inner().driver.run(move || {
            let counted = block_on(async {
                let image = frozen.images.first().ok_or(FlowError::Damaged)?;
                let mut cursor = DiffCursor::new(None, image, &nodes);
                let mut blocks = 0;
                loop {
                    let batch = cursor.next_batch(BATCH_EXTENTS).await.map_err(FlowError::from)?;
                    if batch.is_empty() || send.is_closed() {
                        return Ok::<u64, FlowError>(blocks);
                    }
                    blocks += batch.iter().filter(|extent| extent.slot != Slot::Zero).count() as u64;
                }
            });
            // Whoever asked may be gone; then nobody wants the result.
            let _unwanted = send.send(counted);
        });
        match receive.await {
            Ok(Ok(blocks)) => Ok(blocks * BLOCK_BYTES),
            Ok(Err(_)) | Err(_) => Err(Refusal::Media.into()),
        }
    }
}
