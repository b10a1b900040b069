//! Bytes of the durable state and its records.

use bytes::Bytes;

use crate::codec::DecodeError;
use crate::codec::bytes::{Put, Reader, Writer};
use crate::codec::config::{history, learned, out_of_sync, put_history, put_learned, put_out_of_sync};
use crate::durable::{DurableRecord, DurableState};
use crate::ids::{Incarnation, Index, Ticket};

const VERSION: u8 = 1;

fn version(reader: &mut Reader, what: &'static str) -> Result<(), DecodeError> {
    match reader.u8()? {
        VERSION => Ok(()),
        value => Err(DecodeError::Unknown { what, value }),
    }
}

impl DurableState {
    /// For a manifest.
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::new();
        out.u8(VERSION);
        out.u64(self.incarnation.0);
        out.u64(self.known_config.0);
        put_out_of_sync(&mut out, self.out_of_sync.as_ref());
        put_learned(&mut out, &self.learned);
        out.position(&self.base);
        put_history(&mut out, &self.history);
        out.u64(self.ticket.0);
        Bytes::from(out)
    }

    /// Reads what [`DurableState::encode`] wrote.
    pub fn decode(bytes: Bytes) -> Result<DurableState, DecodeError> {
        let mut reader = Reader::new(bytes);
        version(&mut reader, "durable state version")?;
        let incarnation = Incarnation(reader.number()?);
        let known_config = Index(reader.number()?);
        let out_of_sync = out_of_sync(&mut reader)?;
        let learned = learned(&mut reader)?;
        let base = reader.position()?;
        let history = history(&mut reader)?;
        let ticket = Ticket(reader.number()?);
        reader.end()?;
        if history.last().is_some_and(|item| item.first > base.index) {
            return Err(DecodeError::Inconsistent);
        }
        Ok(DurableState { incarnation, known_config, out_of_sync, learned, base, history, ticket })
    }
}

impl DurableRecord {
    /// For the journal, with its ticket.
    pub fn encode(&self, ticket: Ticket) -> Bytes {
        let mut out = Writer::new();
        out.u8(VERSION);
        out.u64(ticket.0);
        match self {
            DurableRecord::Incarnation(incarnation) => {
                out.u8(0);
                out.u64(incarnation.0);
            }
            DurableRecord::KnownConfig { index, in_sync } => {
                out.u8(1);
                out.u64(index.0);
                out.u8(u8::from(*in_sync));
            }
            DurableRecord::OutOfSync(mark) => {
                out.u8(2);
                put_out_of_sync(&mut out, Some(mark));
            }
            DurableRecord::Learned(learned) => {
                out.u8(3);
                put_learned(&mut out, learned);
            }
            DurableRecord::Cut { keep } => {
                out.u8(4);
                out.u64(keep.0);
            }
        }
        Bytes::from(out)
    }

    /// Reads what [`DurableRecord::encode`] wrote.
    pub fn decode(bytes: Bytes) -> Result<(Ticket, DurableRecord), DecodeError> {
        let mut reader = Reader::new(bytes);
        version(&mut reader, "durable record version")?;
        let ticket = Ticket(reader.number()?);
        let record = match reader.u8()? {
            0 => DurableRecord::Incarnation(Incarnation(reader.number()?)),
            1 => DurableRecord::KnownConfig { index: Index(reader.number()?), in_sync: reader.flag()? },
            2 => DurableRecord::OutOfSync(out_of_sync(&mut reader)?.ok_or(DecodeError::Inconsistent)?),
            3 => DurableRecord::Learned(learned(&mut reader)?),
            4 => DurableRecord::Cut { keep: Index(reader.number()?) },
            value => return Err(DecodeError::Unknown { what: "durable record", value }),
        };
        reader.end()?;
        Ok((ticket, record))
    }
}
