//! One frame: header bytes, check, and writing it whole with one vectored call.

use std::io::{self, IoSlice, Write};

use bytes::Bytes;

/// First byte of every frame.
pub const MAGIC: u8 = 0xA4;
/// Bytes of a header.
pub const HEADER_BYTES: usize = 12;
/// Longest payload.
pub const PAYLOAD_BYTES_MAX: usize = 4 << 20;
/// First kind that users of a connection may give a meaning to.
pub const KIND_FREE: u8 = 0x10;

/// Most parts a payload is written from.
const PARTS_MAX: usize = 7;

const _: () = assert!(PAYLOAD_BYTES_MAX < u32::MAX as usize);

/// A received frame, its check verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// What it is.
    pub kind: u8,
    /// The kind's own.
    pub flags: u16,
    /// Content.
    pub payload: Bytes,
}

/// Why bytes are not a frame. The stream cannot be followed any further: close the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The first byte is not the magic.
    #[error("not a frame: it begins with {found:#04x}")]
    Magic {
        /// The byte met.
        found: u8,
    },
    /// The payload is longer than allowed here.
    #[error("frame payload of {length} bytes, at most {limit} allowed")]
    TooLong {
        /// Announced length.
        length: usize,
        /// The bound.
        limit: usize,
    },
    /// The check does not hold.
    #[error("frame damaged: check {found:#010x}, computed {computed:#010x}")]
    Damaged {
        /// In the header.
        found: u32,
        /// Of the bytes.
        computed: u32,
    },
}

/// A decoded header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// What the frame is.
    pub kind: u8,
    /// The kind's own.
    pub flags: u16,
    /// Payload length.
    pub length: usize,
    check: u32,
    seed: u32,
}

impl Header {
    /// The header of a frame whose payload is `parts` one after the other.
    pub fn encode(kind: u8, flags: u16, parts: &[&[u8]]) -> [u8; HEADER_BYTES] {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        assert!(length <= PAYLOAD_BYTES_MAX, "a frame's payload is bounded by its sender");
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = MAGIC;
        bytes[1] = kind;
        bytes[2..4].copy_from_slice(&flags.to_le_bytes());
        bytes[4..8].copy_from_slice(&(length as u32).to_le_bytes());
        let check =
            parts.iter().fold(crc32c::crc32c(&bytes[..8]), |check, part| crc32c::crc32c_append(check, part));
        bytes[8..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Reads a header; the payload may be at most `limit` long.
    pub fn decode(bytes: &[u8; HEADER_BYTES], limit: usize) -> Result<Header, FrameError> {
        let [magic, kind, flags0, flags1, l0, l1, l2, l3, c0, c1, c2, c3] = *bytes;
        if magic != MAGIC {
            return Err(FrameError::Magic { found: magic });
        }
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > limit {
            return Err(FrameError::TooLong { length, limit });
        }
        Ok(Header {
            kind,
            flags: u16::from_le_bytes([flags0, flags1]),
            length,
            check: u32::from_le_bytes([c0, c1, c2, c3]),
            seed: crc32c::crc32c(&bytes[..8]),
        })
    }

    /// Whether `payload` is what the sender put behind this header.
    pub fn verify(&self, payload: &[u8]) -> Result<(), FrameError> {
        let computed = crc32c::crc32c_append(self.seed, payload);
        if computed == self.check { Ok(()) } else { Err(FrameError::Damaged { found: self.check, computed }) }
    }
}

/// Writes a frame with as few calls as the stream allows, normally one.
pub fn write_frame(stream: &mut impl Write, kind: u8, flags: u16, parts: &[&[u8]]) -> io::Result<()> {
    assert!(parts.len() <= PARTS_MAX, "a payload is written from a few parts");
    let header = Header::encode(kind, flags, parts);
    let mut slices = [IoSlice::new(&[]); PARTS_MAX + 1];
    slices[0] = IoSlice::new(&header);
    for (slice, part) in slices[1..].iter_mut().zip(parts) {
        *slice = IoSlice::new(part);
    }
    let mut left = &mut slices[..=parts.len()];
    // Empty slices in front would make a full write look like end of file.
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        match stream.write_vectored(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut left, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
