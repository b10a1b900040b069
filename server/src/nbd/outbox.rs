//! Bytes on their way out: small ones gathered, payloads by reference, for vectored writes.

use std::collections::VecDeque;
use std::io;

use bytes::{Buf, Bytes, BytesMut};

static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

/// Bytes to be written: small ones gathered, payloads by reference.
#[derive(Default)]
pub(super) struct Outbox {
    /// Small things are written here; they go out before the next payload.
    pub gathered: BytesMut,
    parts: VecDeque<Bytes>,
}

impl Outbox {
    /// Appends a payload by reference.
    pub fn push(&mut self, payload: Bytes) {
        self.seal();
        self.parts.push_back(payload);
    }

    /// Appends so many zeroes.
    pub fn push_zeroes(&mut self, mut length: u64) {
        self.seal();
        while length > 0 {
            let count = length.min(ZEROES.len() as u64) as usize;
            self.parts.push_back(Bytes::from_static(&ZEROES[..count]));
            length -= count as u64;
        }
    }

    fn seal(&mut self) {
        if !self.gathered.is_empty() {
            self.parts.push_back(self.gathered.split().freeze());
        }
    }

    /// Everything pushed so far, in order.
    pub fn take(&mut self) -> Parts {
        self.seal();
        Parts(std::mem::take(&mut self.parts))
    }
}

/// A rope that vectored writes understand.
pub(super) struct Parts(VecDeque<Bytes>);

impl Buf for Parts {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn has_remaining(&self) -> bool {
        self.0.iter().any(|part| !part.is_empty())
    }

    fn chunk(&self) -> &[u8] {
        self.0.front().map_or(&[], |part| &part[..])
    }

    fn chunks_vectored<'a>(&'a self, out: &mut [io::IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slot, part) in out.iter_mut().zip(&self.0) {
            *slot = io::IoSlice::new(part);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(front) = self.0.front_mut() {
            if front.len() > count {
                Buf::advance(front, count);
                return;
            }
            count -= front.len();
            self.0.pop_front();
        }
        assert_eq!(count, 0, "advanced past the end");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_the_order_they_came_however_far_each_write_gets() {
        for step in [1, 3, 7, 100_000] {
            let mut out = Outbox::default();
            out.gathered.extend_from_slice(b"head");
            out.push(Bytes::from_static(b"payload"));
            out.push_zeroes(70_000);
            out.gathered.extend_from_slice(b"tail");
            let mut parts = out.take();
            let mut written = Vec::new();
            while parts.has_remaining() {
                let count = step.min(parts.chunk().len());
                written.extend_from_slice(&parts.chunk()[..count]);
                parts.advance(count);
            }
            assert_eq!(written, [&b"headpayload"[..], &[0; 70_000], b"tail"].concat());
        }
    }
}
