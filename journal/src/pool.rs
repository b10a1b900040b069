//! Buffers that frames are encoded into, reused between appends.
//!
//! - P1: at most [`KEPT_BUFFERS_MAX`] idle buffers are kept, none longer than a frame.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::config::{FRAME_BYTES_MAX, FRAMES_IN_FLIGHT_MAX};
use crate::media::AlignedBuf;

const KEPT_BUFFERS_MAX: usize = FRAMES_IN_FLIGHT_MAX + 1;
/// Least length of a buffer, in bytes: small frames share one size.
const BUFFER_BYTES_MIN: usize = 64 << 10;

/// Idle buffers; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Pool {
    idle: Arc<Mutex<Vec<AlignedBuf>>>,
}

/// A buffer that goes back to its pool.
pub(crate) struct PooledBuf {
    /// `None` only while it is dropped.
    buffer: Option<AlignedBuf>,
    used: usize,
    pool: Pool,
}

impl Pool {
    /// A buffer of `length` bytes with old content.
    pub(crate) fn take(&self, length: usize) -> PooledBuf {
        let reused = {
            let mut idle = self.lock();
            let fits = idle.iter().position(|buffer| buffer.len() >= length);
            fits.map(|at| idle.swap_remove(at))
        };
        let buffer = reused.unwrap_or_else(|| {
            AlignedBuf::zeroed(
                length.next_power_of_two().clamp(BUFFER_BYTES_MIN, FRAME_BYTES_MAX).max(length),
            )
        });
        PooledBuf { buffer: Some(buffer), used: length, pool: self.clone() }
    }

    fn give_back(&self, buffer: AlignedBuf) {
        let mut idle = self.lock();
        if idle.len() < KEPT_BUFFERS_MAX && buffer.len() <= FRAME_BYTES_MAX {
            idle.push(buffer);
            idle.sort_by_key(AlignedBuf::len);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<AlignedBuf>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PooledBuf {
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        let buffer = self.buffer.as_mut().expect("present until dropped");
        &mut buffer.as_mut_slice()[..self.used]
    }

    /// The content; the buffer goes back when the last clone is dropped.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for PooledBuf {
    fn as_ref(&self) -> &[u8] {
        let buffer = self.buffer.as_ref().expect("present until dropped");
        &buffer.as_slice()[..self.used]
    }
}

impl Drop for PooledBuf {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.pool.give_back(buffer);
        }
    }
}
