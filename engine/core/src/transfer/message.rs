//! Messages of a round and their bytes (docs/format-transfer.md).
//!
//! - M1: decoding never panics, never allocates more than a message may hold, and refuses what no sender writes.
//! - M2: entries of one message are disjoint and in rising order; data entries are single blocks.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use metropod_dedupe::{Digest, Form, Payload};
use metropod_snapshots::{BLOCKS_MAX, Extent, Slot};

use super::begin::Begin;
use super::error::AbortReason;
use super::{BATCH_ENTRIES_MAX, BLOCK_BYTES, FRAME_BYTES_MAX};
use crate::codec::{DecodeError, Reader, put_count};

/// Version of the messages (format).
pub const VERSION: u8 = 5;

/// Longest encoding of one entry, in bytes.
pub(super) const ENTRY_BYTES_MAX: usize = VARINT_BYTES_MAX + 32;

/// Addresses and lengths have at most 41 bits, with the flag 42: seven bits a byte.
const VARINT_BYTES_MAX: usize = 6;

/// Shortest encoding of one entry: a gap and a length.
const ENTRY_BYTES_MIN: usize = 2;

/// Bytes before the body: version, kind, round.
const HEAD_BYTES: usize = 10;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The round that it belongs to; both ends ignore messages of another one.
    pub round: u64,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Source: a round begins.
    Begin(Begin),
    /// Source: how much content the round names.
    Total {
        /// Blocks that are not zero.
        data_blocks: u64,
    },
    /// Source: changes of one point.
    Changes {
        /// Number of the batch: 1, 2, …
        seq: u64,
        /// Which of the round's points.
        point: u32,
        /// Whether the point is complete with it.
        last: bool,
        /// Blocks and what they hold, in rising order.
        entries: Vec<Extent>,
    },
    /// Target: which content of a batch it lacks.
    Need {
        /// The batch.
        seq: u64,
        /// For each data entry of the batch, whether its content is to be sent.
        lacking: Vec<bool>,
    },
    /// Source: content that was asked for, in the order of the batch; a `Need` is answered by one or several.
    Chunks {
        /// The batch.
        seq: u64,
        /// As stored.
        payloads: Vec<Payload>,
    },
    /// Target: all content of a batch is there; credit for another one.
    Done {
        /// The batch.
        seq: u64,
    },
    /// Source: every point was said.
    End {
        /// Over all that was said.
        check: [u8; 32],
    },
    /// Target: the image is complete.
    Ready {
        /// Over all that was heard.
        check: [u8; 32],
    },
    /// Target: the image is durable and is what the target serves from now on as its consistent image.
    Flipped,
    /// Either: the round is over without a result.
    Abort(AbortReason),
}

impl Message {
    /// The target's word that it flipped.
    pub fn flipped(round: u64) -> Message {
        Message { round, body: Body::Flipped }
    }

    /// The head and, for chunks, the payloads after it: one frame's content in parts.
    pub fn encode(&self) -> Vec<Bytes> {
        let mut out = BytesMut::with_capacity(self.head_bytes());
        let mut parts = vec![Bytes::new()];
        out.put_u8(VERSION);
        out.put_u8(self.kind());
        out.put_u64_le(self.round);
        match &self.body {
            Body::Begin(begin) => begin.encode(&mut out),
            Body::Total { data_blocks } => out.put_u64_le(*data_blocks),
            Body::Changes { seq, point, last, entries } => {
                out.put_u64_le(*seq);
                out.put_u32_le(*point);
                out.put_u8(u8::from(*last));
                put_entries(&mut out, entries);
            }
            Body::Need { seq, lacking } => {
                out.put_u64_le(*seq);
                put_bits(&mut out, lacking);
            }
            Body::Chunks { seq, payloads } => {
                out.put_u64_le(*seq);
                put_count(&mut out, payloads.len());
                for payload in payloads {
                    out.put_u8(payload.form as u8);
                    out.put_u16_le(payload.bytes.len() as u16);
                    parts.push(payload.bytes.clone());
                }
            }
            Body::Done { seq } => out.put_u64_le(*seq),
            Body::End { check } | Body::Ready { check } => out.put_slice(check),
            Body::Flipped => {}
            Body::Abort(reason) => out.put_u8(*reason as u8),
        }
        parts[0] = out.freeze();
        parts
    }

    /// Reads the head and what follows it.
    pub fn decode(bytes: Bytes) -> Result<Message, DecodeError> {
        if bytes.len() > FRAME_BYTES_MAX {
            return Err(DecodeError::Value { field: "message length" });
        }
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(DecodeError::Value { field: "version" });
        }
        let kind = reader.u8()?;
        let round = reader.u64()?;
        let body = match kind {
            1 => {
                let begin = Begin::decode(&mut reader)?;
                if begin.round != round {
                    return Err(DecodeError::Value { field: "round" });
                }
                Body::Begin(begin)
            }
            2 => Body::Total { data_blocks: reader.u64()? },
            3 => Body::Changes {
                seq: reader.u64()?,
                point: reader.u32()?,
                last: read_flag(&mut reader)?,
                entries: read_entries(&mut reader)?,
            },
            4 => Body::Need { seq: reader.u64()?, lacking: read_bits(&mut reader)? },
            5 => Body::Chunks { seq: reader.u64()?, payloads: read_payloads(&mut reader)? },
            6 => Body::Done { seq: reader.u64()? },
            7 => Body::End { check: reader.array()? },
            8 => Body::Ready { check: reader.array()? },
            9 => Body::Flipped,
            10 => Body::Abort(AbortReason::from_u8(reader.u8()?)),
            _ => return Err(DecodeError::Value { field: "kind" }),
        };
        reader.end()?;
        Ok(Message { round, body })
    }

    /// Length of the encoded message, in bytes.
    pub fn wire_bytes(&self) -> u64 {
        let attached: usize = match &self.body {
            Body::Chunks { payloads, .. } => payloads.iter().map(|payload| payload.bytes.len()).sum(),
            _ => 0,
        };
        (self.head_bytes() + attached) as u64
    }

    /// Bytes that a waiting message keeps in memory, about.
    pub(super) fn memory_bytes(&self) -> usize {
        let body: usize = match &self.body {
            Body::Begin(begin) => {
                begin.namespace.len() + begin.points.len() * size_of::<super::begin::Point>()
            }
            Body::Changes { entries, .. } => entries.len() * size_of::<Extent>(),
            Body::Need { lacking, .. } => lacking.len(),
            Body::Chunks { payloads, .. } => {
                payloads.iter().map(|payload| payload.bytes.len() + size_of::<Payload>()).sum()
            }
            _ => 0,
        };
        size_of::<Message>() + body
    }

    fn kind(&self) -> u8 {
        match self.body {
            Body::Begin(_) => 1,
            Body::Total { .. } => 2,
            Body::Changes { .. } => 3,
            Body::Need { .. } => 4,
            Body::Chunks { .. } => 5,
            Body::Done { .. } => 6,
            Body::End { .. } => 7,
            Body::Ready { .. } => 8,
            Body::Flipped => 9,
            Body::Abort(_) => 10,
        }
    }

    fn head_bytes(&self) -> usize {
        HEAD_BYTES
            + match &self.body {
                Body::Begin(begin) => {
                    let mut out = BytesMut::new();
                    begin.encode(&mut out);
                    out.len()
                }
                Body::Changes { entries, .. } => 8 + 4 + 1 + 4 + entries_bytes(entries),
                Body::Need { lacking, .. } => 8 + 4 + lacking.len().div_ceil(8),
                Body::Chunks { payloads, .. } => 8 + 4 + 3 * payloads.len(),
                Body::Total { .. } | Body::Done { .. } => 8,
                Body::End { .. } | Body::Ready { .. } => 32,
                Body::Flipped => 0,
                Body::Abort(_) => 1,
            }
    }
}

/// Each entry as (gap to the end of the one before, whether it is zero) and then the length or the digest.
fn put_entries(out: &mut BytesMut, entries: &[Extent]) {
    put_count(out, entries.len());
    let mut end = 0;
    for entry in entries {
        let gap = entry.blocks.start - end;
        match entry.slot {
            Slot::Zero => {
                put_varint(out, gap << 1 | 1);
                put_varint(out, entry.len());
            }
            Slot::Data(digest) => {
                put_varint(out, gap << 1);
                out.put_slice(&digest.0);
            }
        }
        end = entry.blocks.end;
    }
}

fn entries_bytes(entries: &[Extent]) -> usize {
    let mut end = 0;
    let mut bytes = 0;
    for entry in entries {
        let gap = entry.blocks.start - end;
        bytes += varint_bytes(gap << 1)
            + match entry.slot {
                Slot::Zero => varint_bytes(entry.len()),
                Slot::Data(_) => 32,
            };
        end = entry.blocks.end;
    }
    bytes
}

fn read_entries(reader: &mut Reader) -> Result<Vec<Extent>, DecodeError> {
    let count = reader.count(ENTRY_BYTES_MIN)?;
    if count > BATCH_ENTRIES_MAX {
        return Err(DecodeError::Value { field: "entries" });
    }
    let mut entries = Vec::with_capacity(count);
    let mut end = 0;
    for _ in 0..count {
        let word = read_varint(reader)?;
        let start = end + (word >> 1);
        let entry = if word & 1 == 1 {
            Extent { blocks: start..start + read_varint(reader)?, slot: Slot::Zero }
        } else {
            Extent { blocks: start..start + 1, slot: Slot::Data(Digest(reader.array()?)) }
        };
        if entry.is_empty() || entry.blocks.end > BLOCKS_MAX || entry.slot == Slot::Data(Digest::ZERO) {
            return Err(DecodeError::Value { field: "entry" });
        }
        end = entry.blocks.end;
        entries.push(entry);
    }
    Ok(entries)
}

fn put_bits(out: &mut BytesMut, bits: &[bool]) {
    put_count(out, bits.len());
    for eight in bits.chunks(8) {
        out.put_u8(eight.iter().enumerate().fold(0, |byte, (at, bit)| byte | u8::from(*bit) << at));
    }
}

fn read_bits(reader: &mut Reader) -> Result<Vec<bool>, DecodeError> {
    let count = reader.u32()? as usize;
    if count > BATCH_ENTRIES_MAX {
        return Err(DecodeError::Value { field: "bits" });
    }
    let bytes = reader.take(count.div_ceil(8))?;
    let bits: Vec<bool> = (0..count).map(|at| bytes[at / 8] >> (at % 8) & 1 == 1).collect();
    let spare = bytes.last().is_some_and(|last| !count.is_multiple_of(8) && last >> (count % 8) != 0);
    if spare { Err(DecodeError::Value { field: "bits" }) } else { Ok(bits) }
}

fn read_payloads(reader: &mut Reader) -> Result<Vec<Payload>, DecodeError> {
    let count = reader.count(3)?;
    if count > BATCH_ENTRIES_MAX {
        return Err(DecodeError::Value { field: "payloads" });
    }
    let mut rows = reader.take(3 * count)?;
    let mut payloads = Vec::with_capacity(count);
    for _ in 0..count {
        let form = Form::from_u8(rows.get_u8()).ok_or(DecodeError::Value { field: "form" })?;
        let bytes = reader.take(usize::from(rows.get_u16_le()))?;
        let payload = Payload { form, raw_len: BLOCK_BYTES as u32, bytes };
        if !payload.is_plausible() {
            return Err(DecodeError::Value { field: "payload length" });
        }
        payloads.push(payload);
    }
    Ok(payloads)
}

fn read_flag(reader: &mut Reader) -> Result<bool, DecodeError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Value { field: "flag" }),
    }
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn varint_bytes(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn read_varint(reader: &mut Reader) -> Result<u64, DecodeError> {
    let mut value = 0;
    for at in 0..VARINT_BYTES_MAX {
        let byte = reader.u8()?;
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(DecodeError::Value { field: "number" })
}
