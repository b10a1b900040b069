//! What a pod's log entries do: the body that the protocol carries without looking inside.
//!
//! The descriptor is canonical and chained: it names content by digest. The attachment carries the payloads of the
//! descriptor's data pieces, in order, in whatever form the ingesting array chose.
//!
//! - O1: pieces cover the blocks of `offset..offset + length` one by one, in order; a block that the range covers
//!   only in part is a `Partial` or `Zero` piece, never `Data`.
//! - O2: decoding never panics and never trusts a length.

use bytes::{BufMut, Bytes, BytesMut};
use metropod_dedupe::{Digest, Form, Payload};
use metropod_protocol::ArrayId;

use crate::codec::{DecodeError, Reader, put_option, put_text};
use crate::names::{Name, VolumeId};
use crate::namespace::read_name;

/// Block size in bytes.
pub const BLOCK_BYTES: u64 = 4096;

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

/// A change of a pod's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manage {
    /// Makes an empty volume.
    CreateVolume {
        /// Its name.
        name: Name,
        /// Its size.
        size_bytes: u64,
    },
    /// Takes a snapshot of one volume, or of all: one cut.
    CreateSnapshot {
        /// The volume; all of the pod when absent.
        volume: Option<Name>,
        /// What follows the dot.
        suffix: Name,
    },
    /// Makes a volume with the content of a volume or snapshot.
    CloneVolume {
        /// The source volume.
        source: Name,
        /// Its snapshot; the present content when absent.
        suffix: Option<Name>,
        /// Name of the clone.
        name: Name,
    },
    /// Sets or clears the failover preference.
    SetPreference(Option<ArrayId>),
    /// Records that `joiner` is to hold the pod too.
    Invite {
        /// The array that holds the pod.
        host: ArrayId,
        /// The array that joins.
        joiner: ArrayId,
    },
}

impl Operation {
    /// Descriptor and attachment.
    pub fn encode(&self) -> (Bytes, Bytes) {
        let mut out = BytesMut::new();
        let mut attachment = BytesMut::new();
        match self {
            Operation::Write { volume, offset, length, pieces } => {
                put_range(&mut out, 1, *volume, *offset, *length);
                for piece in pieces {
                    encode_piece(piece, &mut out, &mut attachment);
                }
            }
            Operation::Zero { volume, offset, length } => put_range(&mut out, 2, *volume, *offset, *length),
            Operation::Manage(manage) => encode_manage(manage, &mut out),
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
            3 => Operation::Manage(decode_manage(&mut reader)?),
            _ => return Err(DecodeError::Value { field: "operation" }),
        };
        reader.end()?;
        payloads.end()?;
        Ok(operation)
    }

    /// Volume and byte range of block content that this operation changes.
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
        _ => None,
    }
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

fn encode_manage(manage: &Manage, out: &mut BytesMut) {
    out.put_u8(3);
    match manage {
        Manage::CreateVolume { name, size_bytes } => {
            out.put_u8(1);
            put_text(out, name.as_str());
            out.put_u64_le(*size_bytes);
        }
        Manage::CreateSnapshot { volume, suffix } => {
            out.put_u8(2);
            put_option(out, volume.as_ref(), |out, name| put_text(out, name.as_str()));
            put_text(out, suffix.as_str());
        }
        Manage::CloneVolume { source, suffix, name } => {
            out.put_u8(3);
            put_text(out, source.as_str());
            put_option(out, suffix.as_ref(), |out, suffix| put_text(out, suffix.as_str()));
            put_text(out, name.as_str());
        }
        Manage::SetPreference(array) => {
            out.put_u8(4);
            put_option(out, *array, |out, id| out.put_slice(&id.0));
        }
        Manage::Invite { host, joiner } => {
            out.put_u8(5);
            out.put_slice(&host.0);
            out.put_slice(&joiner.0);
        }
    }
}

fn decode_manage(reader: &mut Reader) -> Result<Manage, DecodeError> {
    Ok(match reader.u8()? {
        1 => Manage::CreateVolume { name: read_name(reader)?, size_bytes: reader.u64()? },
        2 => Manage::CreateSnapshot { volume: reader.option(read_name)?, suffix: read_name(reader)? },
        3 => Manage::CloneVolume {
            source: read_name(reader)?,
            suffix: reader.option(read_name)?,
            name: read_name(reader)?,
        },
        4 => Manage::SetPreference(reader.option(|reader| Ok(ArrayId(reader.array()?)))?),
        5 => Manage::Invite { host: ArrayId(reader.array()?), joiner: ArrayId(reader.array()?) },
        _ => return Err(DecodeError::Value { field: "management operation" }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
