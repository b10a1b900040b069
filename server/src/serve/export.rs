//! An array's volumes as the NBD front end wants them.
//!
//! - E1: what is durable when the engine answers needs no flag: every write counts as FUA, and a flush only asks
//!   whether the volume is reachable.
//! - E2: a full queue in the engine is waited out here; a host never sees it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use metropod::{Array, HostError, REQUEST_BYTES_MAX};

use crate::nbd::{ExportInfo, Exports, Extent, IoError, OpenRefused, Piece, State, Volume};

/// First and longest pause before a request is tried again that found the queue full.
const BUSY_PAUSE: Duration = Duration::from_millis(1);
const BUSY_PAUSE_MAX: Duration = Duration::from_millis(50);

/// All volumes of an array; a volume's export name is `pod::volume`.
#[derive(Clone)]
pub struct ArrayExports {
    array: Array,
}

/// One volume.
pub struct ExportedVolume {
    name: String,
    volume: metropod::Volume,
    /// When it was opened: what a connection was told holds for it.
    size_bytes: u64,
}

impl ArrayExports {
    /// The volumes of `array`.
    pub fn new(array: Array) -> ArrayExports {
        ArrayExports { array }
    }
}

impl Exports for ArrayExports {
    type Volume = ExportedVolume;

    fn list(&self) -> Vec<ExportInfo> {
        let volumes = self.array.volumes();
        volumes
            .into_iter()
            .filter(|volume| volume.eradicated_in_ms.is_none() && volume.moving_to.is_none())
            .map(|volume| ExportInfo { name: volume.name, description: format!("serial {}", volume.serial) })
            .collect()
    }

    fn open(&self, name: &str) -> Result<Arc<ExportedVolume>, OpenRefused> {
        let volume = self.array.volume(name).map_err(|_| OpenRefused::Unknown)?;
        match volume.flush_blocking() {
            Ok(()) => {
                let size_bytes = volume.size_bytes();
                Ok(Arc::new(ExportedVolume { name: name.to_owned(), volume, size_bytes }))
            }
            Err(metropod::IoError::Refused(HostError::NoSuchVolume | HostError::Destroyed)) => {
                Err(OpenRefused::Unknown)
            }
            Err(_) => Err(OpenRefused::ShutDown),
        }
    }
}

impl Volume for ExportedVolume {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn description(&self) -> String {
        format!("metropod volume {}", self.name)
    }

    async fn read(&self, offset: u64, length: u32) -> Result<Vec<Piece>, IoError> {
        let bytes = patiently(|| self.volume.read(offset, u64::from(length))).await?;
        Ok(vec![Piece::Data(bytes)])
    }

    async fn write(&self, offset: u64, data: Bytes, _fua: bool) -> Result<(), IoError> {
        patiently(|| self.volume.write(offset, data.clone())).await
    }

    async fn trim(&self, offset: u64, length: u64, _fua: bool) -> Result<(), IoError> {
        patiently(|| self.volume.write_zeroes(offset, length)).await
    }

    async fn write_zeroes(
        &self,
        offset: u64,
        length: u64,
        _no_hole: bool,
        _fua: bool,
    ) -> Result<(), IoError> {
        patiently(|| self.volume.write_zeroes(offset, length)).await
    }

    async fn flush(&self) -> Result<(), IoError> {
        patiently(|| self.volume.flush()).await
    }

    async fn block_status(&self, offset: u64, length: u64) -> Result<Vec<Extent>, IoError> {
        let length = length.min(REQUEST_BYTES_MAX);
        let extents = patiently(|| self.volume.extents(offset, length)).await?;
        let shown = extents.into_iter().map(|extent| Extent {
            length: extent.length,
            state: if extent.is_zero { State::Hole } else { State::Data },
        });
        Ok(shown.collect())
    }
}

/// Tries again for as long as the engine's queue is full.
async fn patiently<T, F>(mut request: impl FnMut() -> F) -> Result<T, IoError>
where
    F: Future<Output = Result<T, metropod::IoError>>,
{
    let mut pause = BUSY_PAUSE;
    loop {
        match request().await {
            Err(metropod::IoError::Refused(HostError::Busy)) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(BUSY_PAUSE_MAX);
            }
            result => return result.map_err(told),
        }
    }
}

/// An engine's error as a host is told it.
fn told(error: metropod::IoError) -> IoError {
    match error {
        metropod::IoError::Misaligned | metropod::IoError::TooLong => IoError::Invalid,
        metropod::IoError::Closed => IoError::Shutdown,
        metropod::IoError::Refused(refused) => match refused {
            HostError::Offline | HostError::Suspended | HostError::NoSuchVolume | HostError::Destroyed => {
                IoError::Shutdown
            }
            HostError::OutOfRange => IoError::Invalid,
            HostError::NoSpace => IoError::NoSpace,
            _ => IoError::Io,
        },
        _ => IoError::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_is_waited_out() {
        let mut left = 3;
        let result = patiently(|| {
            left -= 1;
            let full = left > 0;
            async move { if full { Err(HostError::Busy.into()) } else { Ok(7) } }
        })
        .await;
        assert_eq!((result, left), (Ok(7), 0));
    }

    #[test]
    fn a_volume_that_has_gone_is_shut_down_and_not_in_error() {
        for gone in [HostError::Offline, HostError::Suspended, HostError::NoSuchVolume, HostError::Destroyed]
        {
            assert_eq!(told(gone.into()), IoError::Shutdown);
        }
        assert_eq!(told(HostError::NoSpace.into()), IoError::NoSpace);
        assert_eq!(told(HostError::Media.into()), IoError::Io);
        assert_eq!(told(metropod::IoError::Misaligned), IoError::Invalid);
    }
}
