//! What the core writes into journal records.
//!
//! A record's body is a kind byte, the ticket and the protocol's bytes; an entry's payload is the record's attachment.

use bytes::{BufMut, Bytes, BytesMut};
use metropod_journal::{Record, StreamId};
use metropod_protocol::{Body, ConfigId, DurableRecord, Entry, Index, PodId, Ticket};

use crate::codec::{DecodeError, Reader};

/// One journal record of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalRecord {
    /// An entry of the pod's log.
    Entry {
        /// From the machine.
        ticket: Ticket,
        /// The entry.
        entry: Entry,
    },
    /// A change of the pod's durable state.
    State {
        /// From the machine.
        ticket: Ticket,
        /// The change.
        record: DurableRecord,
    },
    /// The fork freeze was taken at this index.
    Freeze {
        /// The configuration that makes this array alone.
        config: ConfigId,
        /// Applied index at that time.
        index: Index,
    },
}

/// The journal stream of a pod.
pub fn stream_of(pod: PodId) -> StreamId {
    StreamId(pod.0)
}

impl JournalRecord {
    /// The record's body.
    pub fn encode_body(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            JournalRecord::Entry { ticket, entry } => {
                out.put_u8(1);
                out.put_u64_le(ticket.0);
                out.put_slice(&entry.encode().0);
            }
            JournalRecord::State { ticket, record } => {
                out.put_u8(2);
                out.put_slice(&record.encode(*ticket));
            }
            JournalRecord::Freeze { config, index } => {
                out.put_u8(3);
                out.put_slice(&config.0);
                out.put_u64_le(index.0);
            }
        }
        out.freeze()
    }

    /// The record's attachment.
    pub fn attachment(&self) -> Bytes {
        match self {
            JournalRecord::Entry { entry, .. } => match &entry.body {
                Body::Operation { attachment, .. } => attachment.clone(),
                _ => Bytes::new(),
            },
            _ => Bytes::new(),
        }
    }

    /// Reads a record.
    pub fn decode(record: &Record) -> Result<JournalRecord, DecodeError> {
        let mut reader = Reader::new(record.body.clone());
        Ok(match reader.u8()? {
            1 => {
                let ticket = Ticket(reader.u64()?);
                let rest = reader.take(reader.remaining())?;
                let entry = Entry::decode(rest, record.attachment.clone())
                    .map_err(|_| DecodeError::Part { part: "entry" })?;
                JournalRecord::Entry { ticket, entry }
            }
            2 => {
                let rest = reader.take(reader.remaining())?;
                let (ticket, record) =
                    DurableRecord::decode(rest).map_err(|_| DecodeError::Part { part: "state record" })?;
                JournalRecord::State { ticket, record }
            }
            3 => {
                let freeze =
                    JournalRecord::Freeze { config: ConfigId(reader.array()?), index: Index(reader.u64()?) };
                reader.end()?;
                freeze
            }
            _ => return Err(DecodeError::Value { field: "record kind" }),
        })
    }
}
