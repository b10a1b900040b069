//! What two cores say to each other besides the protocol's own messages.
//!
//! A sync frame is a kind byte, the pod's id and the rest (a protocol message: length of its head, head, attachment); a bulk frame is the pod's id and a transfer message.

use bytes::{BufMut, Bytes, BytesMut};
use metropod_protocol::{ArrayId, PodId};

use crate::codec::{DecodeError, Reader, put_count, put_text};
use crate::names::Name;
use crate::namespace::read_name;

/// A frame on the sync connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncFrame {
    /// A message of the pod's protocol machine: head and attachment.
    Protocol(PodId, Bytes, Bytes),
    /// Please hold this pod too.
    Invite(PodId, Name),
    /// The answer: whether the invited array holds the pod now.
    InviteAnswer(PodId, bool),
    /// This array is to order, if the one it is sent to does.
    Switch(PodId, ArrayId),
    /// Whoever sends this holds the pod without the array it is sent to, or not at all.
    NotMember(PodId),
}

impl SyncFrame {
    /// What stands before a protocol message's head and attachment.
    pub fn protocol_head(pod: PodId, head_length: usize) -> Bytes {
        let mut out = BytesMut::with_capacity(21);
        out.put_u8(0);
        out.put_slice(&pod.0);
        put_count(&mut out, head_length);
        out.freeze()
    }

    /// The frame's bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            SyncFrame::Protocol(pod, head, attachment) => {
                out.put_slice(&SyncFrame::protocol_head(*pod, head.len()));
                out.put_slice(head);
                out.put_slice(attachment);
            }
            SyncFrame::Invite(pod, name) => {
                out.put_u8(1);
                out.put_slice(&pod.0);
                put_text(&mut out, name.as_str());
            }
            SyncFrame::InviteAnswer(pod, accepted) => {
                out.put_u8(2);
                out.put_slice(&pod.0);
                out.put_u8(u8::from(*accepted));
            }
            SyncFrame::Switch(pod, to) => {
                out.put_u8(4);
                out.put_slice(&pod.0);
                out.put_slice(&to.0);
            }
            SyncFrame::NotMember(pod) => {
                out.put_u8(3);
                out.put_slice(&pod.0);
            }
        }
        out.freeze()
    }

    /// Reads a frame's payload.
    pub fn decode(payload: Bytes) -> Result<SyncFrame, DecodeError> {
        let mut reader = Reader::new(payload);
        let kind = reader.u8()?;
        let pod = PodId(reader.array()?);
        let frame = match kind {
            0 => {
                let head = reader.blob()?;
                return Ok(SyncFrame::Protocol(pod, head, reader.take(reader.remaining())?));
            }
            1 => SyncFrame::Invite(pod, read_name(&mut reader)?),
            2 => match reader.u8()? {
                0 => SyncFrame::InviteAnswer(pod, false),
                1 => SyncFrame::InviteAnswer(pod, true),
                _ => return Err(DecodeError::Value { field: "answer" }),
            },
            3 => SyncFrame::NotMember(pod),
            4 => SyncFrame::Switch(pod, ArrayId(reader.array()?)),
            _ => return Err(DecodeError::Value { field: "frame kind" }),
        };
        reader.end()?;
        Ok(frame)
    }
}

/// Splits a bulk frame into its pod and its transfer message.
pub fn decode_bulk(payload: Bytes) -> Result<(PodId, Bytes), DecodeError> {
    let mut reader = Reader::new(payload);
    let pod = PodId(reader.array()?);
    Ok((pod, reader.take(reader.remaining())?))
}
