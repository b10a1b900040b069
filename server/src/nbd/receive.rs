//! Reading a connection: headers through a small buffer, payloads straight into memory of their own.
//!
//! The buffer is small on purpose: many headers come with one system call, and no more than its size of any payload
//! is ever copied.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Holds 18 compact headers.
const BUFFER_BYTES: usize = 512;
/// Piece in which unwanted payload is read.
const DISCARD_BYTES: usize = 64 << 10;

/// The receiving half of a connection.
pub(super) struct Receiver<R> {
    stream: R,
    buffer: Box<[u8; BUFFER_BYTES]>,
    start: usize,
    end: usize,
}

impl<R: AsyncRead + Unpin> Receiver<R> {
    pub fn new(stream: R) -> Receiver<R> {
        Receiver { stream, buffer: Box::new([0; BUFFER_BYTES]), start: 0, end: 0 }
    }

    /// The stream under the buffer.
    pub fn stream(&self) -> &R {
        &self.stream
    }

    /// The next `N` bytes; `None` when the peer closed before the first of them.
    pub async fn header<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        const { assert!(N <= BUFFER_BYTES) };
        while self.end - self.start < N {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            match self.stream.read(&mut self.buffer[self.end..]).await? {
                0 if self.end == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.end += count,
            }
        }
        let mut header = [0; N];
        header.copy_from_slice(&self.buffer[self.start..self.start + N]);
        self.start += N;
        Ok(Some(header))
    }

    /// The next `length` bytes, in memory of their own.
    pub async fn payload(&mut self, length: usize) -> io::Result<Bytes> {
        let mut payload = BytesMut::with_capacity(length);
        let buffered = (self.end - self.start).min(length);
        payload.extend_from_slice(&self.buffer[self.start..self.start + buffered]);
        self.start += buffered;
        while payload.len() < length {
            let missing = length - payload.len();
            if self.stream.read_buf(&mut (&mut payload).limit(missing)).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(payload.freeze())
    }

    /// Reads `length` bytes and forgets them.
    pub async fn discard(&mut self, length: u64) -> io::Result<()> {
        let buffered = ((self.end - self.start) as u64).min(length);
        self.start += buffered as usize;
        let mut missing = length - buffered;
        if missing == 0 {
            return Ok(());
        }
        let mut scratch = vec![0; missing.min(DISCARD_BYTES as u64) as usize];
        while missing > 0 {
            let want = missing.min(scratch.len() as u64) as usize;
            match self.stream.read(&mut scratch[..want]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => missing -= count as u64,
            }
        }
        Ok(())
    }

    /// Reads and forgets until the peer closes or fails.
    pub async fn discard_all(&mut self) {
        let mut scratch = vec![0; DISCARD_BYTES];
        while self.stream.read(&mut scratch).await.is_ok_and(|count| count > 0) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn headers_and_payloads_come_out_in_order_whatever_the_split() {
        let sent: Vec<u8> = (0..4000u32).map(|i| i as u8).collect();
        for step in [1, 7, 511, 512, 513, 4000] {
            let (mut near, far) = tokio::io::duplex(step);
            let bytes = sent.clone();
            let writer = tokio::spawn(async move {
                use tokio::io::AsyncWriteExt;
                near.write_all(&bytes).await.unwrap();
            });
            let mut receiver = Receiver::new(far);
            assert_eq!(&receiver.header::<28>().await.unwrap().unwrap()[..], &sent[..28]);
            assert_eq!(&receiver.payload(2000).await.unwrap()[..], &sent[28..2028]);
            receiver.discard(1000).await.unwrap();
            assert_eq!(&receiver.header::<32>().await.unwrap().unwrap()[..], &sent[3028..3060]);
            assert_eq!(&receiver.payload(940).await.unwrap()[..], &sent[3060..]);
            assert_eq!(receiver.header::<28>().await.unwrap(), None);
            writer.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_header_cut_short_is_an_error_not_an_end() {
        let mut receiver = Receiver::new(&[1u8, 2, 3][..]);
        assert_eq!(receiver.header::<28>().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
