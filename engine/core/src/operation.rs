//! What a pod's log entries do: the body that the protocol carries without looking inside.
//!
//! The descriptor is canonical and chained: it names content by digest. The attachment carries the payloads of the
//! descriptor's data pieces, in order, in whatever form the ingesting array chose.
//!
//! - O1: pieces cover the blocks of `offset..offset + length` one by one, in order; a block that the range covers
//!   only in part is a `Partial` or `Zero` piece, never `Data`.
//! - O2: decoding never panics and never trusts a length.

mod manage;

use bytes::{BufMut, Bytes, BytesMut};
use metropod_dedupe::{Digest, Form, Payload};

use crate::codec::{DecodeError, Reader};
use crate::names::VolumeId;

pub use manage::{Arrival, Content, Manage, Target};

/// Block size in bytes.
pub const BLOCK_BYTES: u64 = 4096;

/// What an operation takes besides its content, in bytes.
const OPERATION_BYTES: u64 = 512;

/// What a block's name and the form of its payload take, in bytes.
const PIECE_BYTES: u64 = 36;

/// Length of a tag and a range, in bytes.
const RANGE_BYTES: usize = 1 + 3 * size_of::<u64>();

/// Length of what stands before a payload, in bytes.
const PAYLOAD_HEADER_BYTES: usize = size_of::<u8>() + size_of::<u16>();

/// Largest host write in one entry, in bytes; longer ones are split before they come here.
pub const WRITE_BYTES_MAX: u64 = 768 << 10;

/// Content of one block's share of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// All zeroes.
    Zero,
    /// A whole block, named by digest; the payload travels in the attachment.
    Data {
        /// Name of the content.
        digest: Digest,
        /// The content, compressed or not.
        payload: Payload,
    },
    /// The bytes of a block that is written in part.
    Partial(Bytes),
}

/// An operation of a host or a manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Writes bytes.
    Write {
        /// Where.
        volume: VolumeId,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
        /// Content, a piece per touched block.
        pieces: Vec<Piece>,
    },
    /// Makes a range zero (trim and write-zeroes).
    Zero {
        /// Where.
        volume: VolumeId,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
    },
    /// Changes the namespace.
    Manage(Manage),
}

impl Operation {
    /// Descriptor and attachment.
    pub fn encode(&self) -> (Bytes, Bytes) {
        // The log and the store hold both for long: no room is left in them (a buffer that grows is up to twice as long).
        let (descriptor_bytes, attachment_bytes) = self.encoded_bytes();
        let mut out = BytesMut::with_capacity(descriptor_bytes);
        let mut attachment = BytesMut::with_capacity(attachment_bytes);
        match self {
            Operation::Write { volume, offset, length, pieces } => {
                put_range(&mut out, 1, *volume, *offset, *length);
                for piece in pieces {
                    encode_piece(piece, &mut out, &mut attachment);
                }
            }
            Operation::Zero { volume, offset, length } => put_range(&mut out, 2, *volume, *offset, *length),
            Operation::Manage(manage) => {
                out.put_u8(3);
                manage.encode(&mut out);
            }
        }
        (out.freeze(), attachment.freeze())
    }

    /// Reads what [`Operation::encode`] wrote.
    pub fn decode(descriptor: Bytes, attachment: Bytes) -> Result<Operation, DecodeError> {
        let mut reader = Reader::new(descriptor);
        let mut payloads = Reader::new(attachment);
        let operation = match reader.u8()? {
            1 => {
                let (volume, offset, length) = read_range(&mut reader)?;
                if length > WRITE_BYTES_MAX {
                    return Err(DecodeError::Value { field: "length" });
                }
                let mut pieces = Vec::with_capacity(blocks_touched(offset, length) as usize);
                for (_, share) in shares(offset, length) {
                    pieces.push(decode_piece(share.length, &mut reader, &mut payloads)?);
                }
                Operation::Write { volume, offset, length, pieces }
            }
            2 => {
                let (volume, offset, length) = read_range(&mut reader)?;
                Operation::Zero { volume, offset, length }
            }
            3 => Operation::Manage(Manage::decode(&mut reader)?),
            _ => return Err(DecodeError::Value { field: "operation" }),
        };
        reader.end()?;
        payloads.end()?;
        Ok(operation)
    }

    /// Bytes of memory and journal that it takes, about.
    pub fn cost(&self) -> u64 {
        let pieces: &[Piece] = match self {
            Operation::Write { pieces, .. } => pieces,
            Operation::Zero { .. } | Operation::Manage(_) => &[],
        };
        let bytes = |piece: &Piece| match piece {
            Piece::Zero => 1,
            Piece::Data { payload, .. } => PIECE_BYTES + payload.bytes.len() as u64,
            Piece::Partial(bytes) => 1 + bytes.len() as u64,
        };
        OPERATION_BYTES + pieces.iter().map(bytes).sum::<u64>()
    }

    /// Lengths of descriptor and attachment, in bytes; those of a management request are small and not foreseen.
    fn encoded_bytes(&self) -> (usize, usize) {
        let pieces: &[Piece] = match self {
            Operation::Write { pieces, .. } => pieces,
            Operation::Zero { .. } => &[],
            Operation::Manage(_) => return (0, 0),
        };
        pieces.iter().fold((RANGE_BYTES, 0), |(descriptor, attachment), piece| match piece {
            Piece::Zero => (descriptor + 1, attachment),
            Piece::Data { digest, payload } => {
                (descriptor + 1 + digest.0.len(), attachment + PAYLOAD_HEADER_BYTES + payload.bytes.len())
            }
            Piece::Partial(bytes) => (descriptor + 1 + bytes.len(), attachment),
        })
    }

    /// Volume and byte range of block content that a host's operation changes.
    pub fn touches(&self) -> Option<(VolumeId, u64, u64)> {
        match self {
            Operation::Write { volume, offset, length, .. } | Operation::Zero { volume, offset, length } => {
                Some((*volume, *offset, *length))
            }
            Operation::Manage(_) => None,
        }
    }
}

/// Volume and byte range that an encoded descriptor changes, without decoding the rest.
pub fn touches(descriptor: &Bytes) -> Option<(VolumeId, u64, u64)> {
    let mut reader = Reader::new(descriptor.clone());
    match reader.u8() {
        Ok(1 | 2) => read_range(&mut reader).ok(),
        Ok(3) => manage::touches(&mut reader),
        _ => None,
    }
}

/// Whether an encoded descriptor brings a volume from another pod, without decoding the rest.
pub fn is_move_in(descriptor: &[u8]) -> bool {
    descriptor.starts_with(&[3, manage::MOVE_IN])
}

/// The part of a byte range that lies in one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// First byte within the block.
    pub start: u64,
    /// Number of bytes.
    pub length: u64,
}

impl Share {
    /// Whether the whole block is covered.
    pub fn is_whole(&self) -> bool {
        self.length == BLOCK_BYTES
    }
}

/// Block number and share of each block that a byte range touches.
pub fn shares(offset: u64, length: u64) -> impl Iterator<Item = (u64, Share)> {
    let end = offset + length;
    let first = offset / BLOCK_BYTES;
    (first..first + blocks_touched(offset, length)).map(move |block| {
        let start = offset.max(block * BLOCK_BYTES);
        let stop = end.min((block + 1) * BLOCK_BYTES);
        (block, Share { start: start - block * BLOCK_BYTES, length: stop - start })
    })
}

/// How many blocks a byte range touches.
pub fn blocks_touched(offset: u64, length: u64) -> u64 {
    if length == 0 { 0 } else { (offset + length).div_ceil(BLOCK_BYTES) - offset / BLOCK_BYTES }
}

fn put_range(out: &mut BytesMut, tag: u8, volume: VolumeId, offset: u64, length: u64) {
    out.put_u8(tag);
    out.put_u64_le(volume.0);
    out.put_u64_le(offset);
    out.put_u64_le(length);
}

fn read_range(reader: &mut Reader) -> Result<(VolumeId, u64, u64), DecodeError> {
    let (volume, offset, length) = (VolumeId(reader.u64()?), reader.u64()?, reader.u64()?);
    match offset.checked_add(length) {
        Some(end) if end <= crate::namespace::VOLUME_BYTES_MAX => Ok((volume, offset, length)),
        _ => Err(DecodeError::Value { field: "range" }),
    }
}

fn encode_piece(piece: &Piece, out: &mut BytesMut, attachment: &mut BytesMut) {
    match piece {
        Piece::Zero => out.put_u8(0),
        Piece::Data { digest, payload } => {
            out.put_u8(1);
            out.put_slice(&digest.0);
            put_payload(attachment, payload);
        }
        Piece::Partial(bytes) => {
            out.put_u8(2);
            out.put_slice(bytes);
        }
    }
}

fn decode_piece(length: u64, reader: &mut Reader, payloads: &mut Reader) -> Result<Piece, DecodeError> {
    match reader.u8()? {
        0 => Ok(Piece::Zero),
        1 if length == BLOCK_BYTES => {
            Ok(Piece::Data { digest: Digest(reader.array()?), payload: read_payload(payloads)? })
        }
        2 if length < BLOCK_BYTES => Ok(Piece::Partial(reader.take(length as usize)?)),
        _ => Err(DecodeError::Value { field: "piece" }),
    }
}

/// Appends a block's payload.
pub fn put_payload(out: &mut BytesMut, payload: &Payload) {
    out.put_u8(match payload.form {
        Form::Raw => 0,
        Form::Lz4 => 1,
    });
    out.put_u16_le(u16::try_from(payload.bytes.len()).expect("a block's payload is at most one block"));
    out.put_slice(&payload.bytes);
}

/// Reads what [`put_payload`] wrote.
pub fn read_payload(reader: &mut Reader) -> Result<Payload, DecodeError> {
    let form = match reader.u8()? {
        0 => Form::Raw,
        1 => Form::Lz4,
        _ => return Err(DecodeError::Value { field: "form" }),
    };
    let length = usize::from(reader.u16()?);
    let bytes = reader.take(length)?;
    let plausible = match form {
        Form::Raw => length as u64 == BLOCK_BYTES,
        Form::Lz4 => (length as u64) < BLOCK_BYTES,
    };
    if !plausible {
        return Err(DecodeError::Value { field: "payload length" });
    }
    Ok(Payload { form, raw_len: BLOCK_BYTES as u32, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Name;

    #[test]
    fn a_misaligned_write_survives_encoding() {
        let digest = Digest([7; 32]);
        let payload =
            Payload { form: Form::Lz4, raw_len: BLOCK_BYTES as u32, bytes: Bytes::from_static(b"lz4") };
        let operation = Operation::Write {
            volume: VolumeId(9),
            offset: 4096 - 512,
            length: 512 + 4096 + 512,
            pieces: vec![
                Piece::Partial(Bytes::from(vec![1; 512])),
                Piece::Data { digest, payload },
                Piece::Partial(Bytes::from(vec![2; 512])),
            ],
        };
        let (descriptor, attachment) = operation.encode();
        assert_eq!(touches(&descriptor), Some((VolumeId(9), 3584, 5120)));
        assert_eq!(Operation::decode(descriptor, attachment), Ok(operation));
    }

    #[test]
    fn an_encoded_write_takes_no_more_memory_than_its_bytes() {
        let block = |number: u64| {
            let bytes = Bytes::from(vec![number as u8; 300 + 17 * number as usize]);
            let payload = Payload { form: Form::Lz4, raw_len: BLOCK_BYTES as u32, bytes };
            Piece::Data { digest: Digest([number as u8; 32]), payload }
        };
        for count in [1, 2, 5, 16, 33, 100, WRITE_BYTES_MAX / BLOCK_BYTES - 2] {
            let mut pieces: Vec<Piece> = (0..count).map(block).collect();
            pieces.extend([Piece::Zero, Piece::Partial(Bytes::from(vec![1; 512]))]);
            let length = (count + 1) * BLOCK_BYTES + 512;
            let operation = Operation::Write { volume: VolumeId(9), offset: 0, length, pieces };
            let (descriptor, attachment) = operation.encode();
            assert_eq!(Operation::decode(descriptor.clone(), attachment.clone()), Ok(operation));
            for bytes in [descriptor, attachment] {
                let length = bytes.len();
                let held = bytes.try_into_mut().expect("nobody else has it").capacity();
                assert_eq!(held, length, "{count} blocks");
            }
        }
    }

    #[test]
    fn what_changes_content_without_naming_blocks_says_what_it_touches() {
        let volume = VolumeId(9);
        let touched = |manage: Manage| touches(&Operation::Manage(manage).encode().0);
        let all = crate::namespace::VOLUME_BYTES_MAX;
        let overwrite = Manage::Overwrite { volume, from: Content::Volume(VolumeId(8)) };
        assert_eq!(touched(overwrite), Some((volume, 0, all)));
        let resize = |truncate| Manage::Resize { volume, size_bytes: 1 << 20, truncate };
        assert_eq!(touched(resize(true)), Some((volume, 1 << 20, all - (1 << 20))));
        assert_eq!(touched(resize(false)), None);
        assert_eq!(touched(Manage::Recover(Target::Volume(volume))), None);
    }

    #[test]
    fn no_prefix_of_an_operation_decodes() {
        let manage = Manage::CloneVolume {
            source: Name::new("a").unwrap(),
            suffix: Some(Name::new("s").unwrap()),
            name: Name::new("b").unwrap(),
        };
        let (descriptor, _) = Operation::Manage(manage).encode();
        for cut in 0..descriptor.len() {
            assert!(Operation::decode(descriptor.slice(..cut), Bytes::new()).is_err());
        }
    }

    #[test]
    fn shares_cover_a_range_exactly() {
        for (offset, length) in [(0, 0), (0, 4096), (512, 512), (4000, 5000), (8192, 8192)] {
            let total: u64 = shares(offset, length).map(|(_, share)| share.length).sum();
            assert_eq!(total, length);
        }
    }
}
