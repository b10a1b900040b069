//! What two arrays say to each other about single chunks, and its bytes (docs/format-transfer.md, "Repair").
//!
//! - N1: decoding never panics, allocates nothing beyond the frame, and refuses what no sender writes.

use bytes::{BufMut, Bytes, BytesMut};
use metropod_dedupe::{DIGEST_BYTES, Digest, Domain, Form, NODE_LEVELS, Payload, RAW_BYTES_MAX};

use crate::codec::{DecodeError, Reader};

/// First byte of a message (format): above any version of transfer messages, which travel on the same connection.
pub const VERSION: u8 = 0x81;

/// Longest encoded message, in bytes (format).
pub const MESSAGE_BYTES_MAX: usize = 32 + RAW_BYTES_MAX;

const NODE_DOMAIN: u8 = 16;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Please send this chunk.
    Ask {
        /// Chosen by who asks; the answer repeats it.
        number: u64,
        /// Its name.
        digest: Digest,
    },
    /// Here it is, or it is not here.
    Answer {
        /// Of the ask.
        number: u64,
        /// The chunk as stored and the domain that its name is of; `None`: it cannot be had here.
        chunk: Option<(Domain, Payload)>,
    },
}

/// Whether a bulk frame's content is a message of this kind.
pub fn is_repair(message: &Bytes) -> bool {
    message.first() == Some(&VERSION)
}

impl Message {
    /// The message's bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        out.put_u8(VERSION);
        match self {
            Message::Ask { number, digest } => {
                out.put_u8(1);
                out.put_u64_le(*number);
                out.put_slice(&digest.0);
            }
            Message::Answer { number, chunk: None } => {
                out.put_u8(2);
                out.put_u64_le(*number);
            }
            Message::Answer { number, chunk: Some((domain, payload)) } => {
                out.put_u8(3);
                out.put_u64_le(*number);
                out.put_u8(domain_byte(*domain));
                out.put_u8(payload.form as u8);
                out.put_u32_le(payload.raw_len);
                out.put_slice(&payload.bytes);
            }
        }
        out.freeze()
    }

    /// Reads a message.
    pub fn decode(bytes: Bytes) -> Result<Message, DecodeError> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(DecodeError::Value { field: "message length" });
        }
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(DecodeError::Value { field: "version" });
        }
        let kind = reader.u8()?;
        let number = reader.u64()?;
        let message = match kind {
            1 => Message::Ask { number, digest: Digest(reader.array::<DIGEST_BYTES>()?) },
            2 => Message::Answer { number, chunk: None },
            3 => {
                let domain = domain_of(reader.u8()?).ok_or(DecodeError::Value { field: "domain" })?;
                let form = Form::from_u8(reader.u8()?).ok_or(DecodeError::Value { field: "form" })?;
                let raw_len = reader.u32()?;
                let payload = Payload { form, raw_len, bytes: reader.take(reader.remaining())? };
                if !payload.is_plausible() {
                    return Err(DecodeError::Value { field: "payload" });
                }
                Message::Answer { number, chunk: Some((domain, payload)) }
            }
            _ => return Err(DecodeError::Value { field: "kind" }),
        };
        reader.end()?;
        Ok(message)
    }
}

fn domain_byte(domain: Domain) -> u8 {
    match domain {
        Domain::Data => 0,
        Domain::Volume => 1,
        Domain::Pod => 2,
        Domain::Node { level } => NODE_DOMAIN + level,
    }
}

fn domain_of(byte: u8) -> Option<Domain> {
    match byte {
        0 => Some(Domain::Data),
        1 => Some(Domain::Volume),
        2 => Some(Domain::Pod),
        _ => {
            let level = byte.checked_sub(NODE_DOMAIN)?;
            (usize::from(level) < NODE_LEVELS).then_some(Domain::Node { level })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_written_and_nothing_else_is() {
        let payload = Payload::raw(Bytes::from_static(b"content"));
        let chunk = |domain| Message::Answer { number: 7, chunk: Some((domain, payload.clone())) };
        let top = (NODE_LEVELS - 1) as u8;
        let all = [
            Message::Ask { number: u64::MAX, digest: Digest([3; DIGEST_BYTES]) },
            Message::Answer { number: 1, chunk: None },
            chunk(Domain::Data),
            chunk(Domain::Volume),
            chunk(Domain::Pod),
            chunk(Domain::Node { level: 0 }),
            chunk(Domain::Node { level: top }),
        ];
        for message in all {
            let bytes = message.encode();
            assert!(is_repair(&bytes));
            assert_eq!(Message::decode(bytes.clone()), Ok(message.clone()));
            let fixed =
                if matches!(message, Message::Answer { chunk: Some(_), .. }) { 16 } else { bytes.len() };
            for end in 0..fixed {
                assert!(Message::decode(bytes.slice(..end)).is_err(), "{message:?} cut at {end}");
            }
        }
        let ask = Message::Ask { number: 1, digest: Digest([3; DIGEST_BYTES]) }.encode();
        assert_eq!(&ask[..10], &[0x81, 1, 1, 0, 0, 0, 0, 0, 0, 0]);
        let mut longer = ask.to_vec();
        longer.push(0);
        assert!(Message::decode(longer.into()).is_err());
        let mut level = chunk(Domain::Node { level: top }).encode().to_vec();
        level[10] += 1;
        assert!(Message::decode(level.into()).is_err(), "there is no such level");
        assert!(Message::decode(vec![0; MESSAGE_BYTES_MAX + 1].into()).is_err());
    }
}
