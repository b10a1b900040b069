//! Cutting a byte stream into frames.
//!
//! Bytes come in by [`Decoder::space`] and [`Decoder::filled`], frames go out by [`Decoder::next_frame`]; nothing here reads. One buffer is
//! used again and again; a frame that does not fit into it is read straight into memory of its own.
//! - D1: at most the announced length, and never more than the limit, is allocated.
//! - D2: an interrupted read loses nothing: what arrived stays until its frame is whole.
//! - D3: after an error the stream is over; no later frame is made up from what follows.

use std::io::{self, Read};

use bytes::Bytes;

use super::frame::{Frame, FrameError, HEADER_BYTES, Header};

/// A frame too long for the buffer, on its way into its own memory.
#[derive(Debug)]
struct Large {
    header: Header,
    payload: Vec<u8>,
    filled: usize,
}

/// Cuts a byte stream into frames.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    limit: usize,
    large: Option<Large>,
    failed: Option<FrameError>,
}

impl Decoder {
    /// A decoder with a buffer of that size, for payloads up to `limit` bytes.
    pub fn new(buffer_bytes: usize, limit: usize) -> Decoder {
        assert!(buffer_bytes >= 4 * HEADER_BYTES, "a buffer holds a few headers");
        Decoder { buffer: vec![0; buffer_bytes], start: 0, end: 0, limit, large: None, failed: None }
    }

    /// Changes the bound of payloads; for frames whose header has not been looked at yet.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Where to put the next bytes of the stream; never empty after `next_frame` returned `None`.
    pub fn space(&mut self) -> &mut [u8] {
        if let Some(large) = &mut self.large {
            return &mut large.payload[large.filled..];
        }
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        } else if self.buffer.len() - self.end < self.buffer.len() / 4 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.buffer[self.end..]
    }

    /// Says how many bytes were put there.
    pub fn filled(&mut self, count: usize) {
        if let Some(large) = &mut self.large {
            assert!(count <= large.payload.len() - large.filled, "no more than the space offered");
            large.filled += count;
        } else {
            assert!(count <= self.buffer.len() - self.end, "no more than the space offered");
            self.end += count;
        }
    }

    /// The next whole frame; `None`: more bytes are needed.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.cut();
        if let Err(error) = &result {
            self.failed = Some(*error);
        }
        result
    }

    /// Whether bytes of an unfinished frame are held.
    pub fn is_inside_frame(&self) -> bool {
        self.large.is_some() || self.start != self.end
    }

    fn cut(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(large) = &self.large {
            if large.filled < large.payload.len() {
                return Ok(None);
            }
            large.header.verify(&large.payload)?;
            let Some(Large { header, payload, .. }) = self.large.take() else { return Ok(None) };
            return Ok(Some(Frame { kind: header.kind, flags: header.flags, payload: Bytes::from(payload) }));
        }
        let held = &self.buffer[self.start..self.end];
        let Some((bytes, rest)) = held.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let header = Header::decode(bytes, self.limit)?;
        if rest.len() >= header.length {
            let payload = &rest[..header.length];
            header.verify(payload)?;
            let payload = Bytes::copy_from_slice(payload);
            self.start += HEADER_BYTES + header.length;
            return Ok(Some(Frame { kind: header.kind, flags: header.flags, payload }));
        }
        if HEADER_BYTES + header.length > self.buffer.len() / 2 {
            let mut payload = vec![0; header.length];
            payload[..rest.len()].copy_from_slice(rest);
            self.large = Some(Large { header, filled: rest.len(), payload });
            self.start = 0;
            self.end = 0;
        }
        Ok(None)
    }
}

/// Reads frames from a blocking stream.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    decoder: Decoder,
}

impl<R: Read> FrameReader<R> {
    /// A reader with that decoder.
    pub fn new(stream: R, decoder: Decoder) -> FrameReader<R> {
        FrameReader { stream, decoder }
    }

    /// The next frame; `None` at the end of the stream between two frames. Bytes that are not frames are `InvalidData`.
    pub fn read_frame(&mut self) -> io::Result<Option<Frame>> {
        loop {
            match self.decoder.next_frame() {
                Ok(Some(frame)) => return Ok(Some(frame)),
                Ok(None) => {}
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
            match self.stream.read(self.decoder.space()) {
                Ok(0) if self.decoder.is_inside_frame() => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(0) => return Ok(None),
                Ok(count) => self.decoder.filled(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{MAGIC, PAYLOAD_BYTES_MAX, write_frame};

    /// Gives the stream away in pieces of a length that changes.
    struct Pieces<'a> {
        bytes: &'a [u8],
        step: usize,
    }

    impl Read for Pieces<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.step = self.step * 7 % 1009 + 1;
            let count = self.step.min(out.len()).min(self.bytes.len());
            out[..count].copy_from_slice(&self.bytes[..count]);
            self.bytes = &self.bytes[count..];
            Ok(count)
        }
    }

    fn payload(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 31 + length) as u8).collect()
    }

    #[test]
    fn frames_of_every_size_come_out_as_they_went_in_however_the_stream_is_cut() {
        let lengths = [0, 1, 11, 12, 13, 100, 500, 501, 511, 512, 1000, 1012, 1024, 5000, 100_000, 3, 0];
        let mut bytes = Vec::new();
        for (at, length) in lengths.iter().enumerate() {
            let payload = payload(*length);
            let (one, two) = payload.split_at(length / 3);
            write_frame(&mut bytes, at as u8, at as u16 * 1000, &[one, &[], two]).unwrap();
        }
        for step in 1..200 {
            let mut reader =
                FrameReader::new(Pieces { bytes: &bytes, step }, Decoder::new(1024, PAYLOAD_BYTES_MAX));
            for (at, length) in lengths.iter().enumerate() {
                let frame = reader.read_frame().unwrap().unwrap();
                assert_eq!((frame.kind, frame.flags), (at as u8, at as u16 * 1000));
                assert_eq!(frame.payload, payload(*length));
            }
            assert_eq!(reader.read_frame().unwrap(), None);
        }
    }

    #[test]
    fn every_flipped_bit_is_found_and_never_gives_a_frame() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, 0x20, 3, &[b"a frame that will be damaged"]).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let mut reader = FrameReader::new(&damaged[..], Decoder::new(256, 1024));
            assert!(reader.read_frame().is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_is_allocated_for_it() {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = MAGIC;
        bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut decoder = Decoder::new(64, 1000);
        decoder.space()[..HEADER_BYTES].copy_from_slice(&bytes);
        decoder.filled(HEADER_BYTES);
        let refused = Err(FrameError::TooLong { length: u32::MAX as usize, limit: 1000 });
        assert_eq!(decoder.next_frame(), refused);
        assert_eq!(decoder.next_frame(), refused, "the stream stays refused");
    }

    #[test]
    fn noise_is_refused_or_waits_for_more_and_never_panics() {
        let mut state = 0x1234_5678_u64;
        for round in 0..2000 {
            let mut noise = vec![0; 1 + round % 300];
            for byte in &mut noise {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (state >> 33) as u8;
            }
            noise[0] = MAGIC;
            let mut reader = FrameReader::new(&noise[..], Decoder::new(64, 4096));
            while let Ok(Some(_)) = reader.read_frame() {}
        }
    }

    #[test]
    fn a_stream_that_ends_inside_a_frame_is_an_error() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, 0x20, 0, &[&[7; 200]]).unwrap();
        for length in 1..bytes.len() {
            let mut reader = FrameReader::new(&bytes[..length], Decoder::new(64, 1024));
            assert_eq!(reader.read_frame().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
