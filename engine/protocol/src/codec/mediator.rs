//! Bytes spoken with the mediator, stored by it, and signed for it.

use bytes::Bytes;

use crate::codec::DecodeError;
use crate::codec::bytes::{Put, Reader, Writer};
use crate::codec::config::{array_option, epoch, members, put_array_option, put_epoch, put_members};
use crate::ids::{ArrayId, ConfigId, MediatorId, PodId, RegisterId};
use crate::mediator::{
    Answer, Ask, Consent, MediatorReply, MediatorRequest, Record, Refusal, Register, Statement,
};

/// Longest signature.
pub const SIGNATURE_BYTES_MAX: usize = 256;
/// Consents in one request.
pub const CONSENTS_MAX: usize = 2;

const VERSION: u8 = 1;

fn version(reader: &mut Reader, what: &'static str) -> Result<(), DecodeError> {
    match reader.u8()? {
        VERSION => Ok(()),
        value => Err(DecodeError::Unknown { what, value }),
    }
}

fn put_register_option(out: &mut Writer, id: Option<RegisterId>) {
    out.u8(u8::from(id.is_some()));
    if let Some(id) = id {
        out.raw(&id.0);
    }
}

fn register_option(reader: &mut Reader) -> Result<Option<RegisterId>, DecodeError> {
    Ok(if reader.flag()? { Some(RegisterId(reader.array()?)) } else { None })
}

pub(crate) fn put_record(out: &mut Writer, record: &Record) {
    out.raw(&record.id.0);
    put_epoch(out, &record.epoch);
    put_members(out, &record.members);
    put_register_option(out, record.from);
}

pub(crate) fn record(reader: &mut Reader) -> Result<Record, DecodeError> {
    Ok(Record {
        id: RegisterId(reader.array()?),
        epoch: epoch(reader)?,
        members: members(reader)?,
        from: register_option(reader)?,
    })
}

pub(crate) fn put_record_option(out: &mut Writer, record: Option<&Record>) {
    out.u8(u8::from(record.is_some()));
    if let Some(record) = record {
        put_record(out, record);
    }
}

pub(crate) fn record_option(reader: &mut Reader) -> Result<Option<Record>, DecodeError> {
    Ok(if reader.flag()? { Some(record(reader)?) } else { None })
}

pub(crate) fn put_statement(out: &mut Writer, statement: &Statement) {
    out.raw(&statement.pod.0);
    out.raw(&statement.mediator.0);
    put_register_option(out, statement.expect);
    out.raw(&statement.id.0);
    put_epoch(out, &statement.epoch);
    put_members(out, &statement.members);
    out.raw(&statement.config.0);
}

pub(crate) fn statement(reader: &mut Reader) -> Result<Statement, DecodeError> {
    Ok(Statement {
        pod: PodId(reader.array()?),
        mediator: MediatorId(reader.array()?),
        expect: register_option(reader)?,
        id: RegisterId(reader.array()?),
        epoch: epoch(reader)?,
        members: members(reader)?,
        config: ConfigId(reader.array()?),
    })
}

fn put_consents(out: &mut Writer, consents: &[Consent]) {
    out.u8(u8::try_from(consents.len()).expect("two at most"));
    for consent in consents {
        out.raw(&consent.array.0);
        out.string(&consent.signature);
    }
}

fn consents(reader: &mut Reader) -> Result<Vec<Consent>, DecodeError> {
    let count = reader.u8()?;
    if usize::from(count) > CONSENTS_MAX {
        return Err(DecodeError::TooLong);
    }
    (0..count)
        .map(|_| {
            let array = ArrayId(reader.array()?);
            let signature = reader.string(SIGNATURE_BYTES_MAX)?;
            Ok(Consent { array, signature })
        })
        .collect()
}

pub(crate) fn put_ask(out: &mut Writer, ask: &Ask) {
    match ask {
        Ask::Read { pod } => {
            out.u8(0);
            out.raw(&pod.0);
        }
        Ask::Swap { statement, consents, preferred } => {
            out.u8(1);
            put_statement(out, statement);
            put_consents(out, consents);
            put_array_option(out, *preferred);
        }
        Ask::Remove { statement, consents } => {
            out.u8(2);
            put_statement(out, statement);
            put_consents(out, consents);
        }
    }
}

pub(crate) fn ask(reader: &mut Reader) -> Result<Ask, DecodeError> {
    Ok(match reader.u8()? {
        0 => Ask::Read { pod: PodId(reader.array()?) },
        1 => Ask::Swap {
            statement: statement(reader)?,
            consents: consents(reader)?,
            preferred: array_option(reader)?,
        },
        2 => Ask::Remove { statement: statement(reader)?, consents: consents(reader)? },
        value => return Err(DecodeError::Unknown { what: "request", value }),
    })
}

pub(crate) fn put_answer(out: &mut Writer, answer: &Answer) {
    match answer {
        Answer::Register(record) => {
            out.u8(0);
            put_record_option(out, record.as_ref());
        }
        Answer::Granted(record) => {
            out.u8(1);
            put_record(out, record);
        }
        Answer::Refused { reason, record } => {
            out.u8(2);
            out.u8(match reason {
                Refusal::Changed => 0,
                Refusal::Absent => 1,
                Refusal::Removed => 2,
                Refusal::NoConsent => 3,
                Refusal::WrongMediator => 4,
            });
            put_record_option(out, record.as_ref());
        }
    }
}

pub(crate) fn answer(reader: &mut Reader) -> Result<Answer, DecodeError> {
    Ok(match reader.u8()? {
        0 => Answer::Register(record_option(reader)?),
        1 => Answer::Granted(record(reader)?),
        2 => {
            let reason = match reader.u8()? {
                0 => Refusal::Changed,
                1 => Refusal::Absent,
                2 => Refusal::Removed,
                3 => Refusal::NoConsent,
                4 => Refusal::WrongMediator,
                value => return Err(DecodeError::Unknown { what: "refusal", value }),
            };
            Answer::Refused { reason, record: record_option(reader)? }
        }
        value => return Err(DecodeError::Unknown { what: "answer", value }),
    })
}

impl Statement {
    /// The bytes that a consenting member signs.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.raw(b"metropod register statement 1\0");
        put_statement(&mut out, self);
        out
    }
}

impl MediatorRequest {
    /// For the wire.
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::new();
        out.u8(VERSION);
        out.u64(self.request);
        put_ask(&mut out, &self.ask);
        Bytes::from(out)
    }

    /// Reads what [`MediatorRequest::encode`] wrote.
    pub fn decode(bytes: Bytes) -> Result<MediatorRequest, DecodeError> {
        let mut reader = Reader::new(bytes);
        version(&mut reader, "request version")?;
        let request = reader.u64()?;
        let ask = ask(&mut reader)?;
        reader.end()?;
        Ok(MediatorRequest { request, ask })
    }
}

impl MediatorReply {
    /// For the wire.
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::new();
        out.u8(VERSION);
        out.u64(self.request);
        out.raw(&self.pod.0);
        put_answer(&mut out, &self.answer);
        Bytes::from(out)
    }

    /// Reads what [`MediatorReply::encode`] wrote.
    pub fn decode(bytes: Bytes) -> Result<MediatorReply, DecodeError> {
        let mut reader = Reader::new(bytes);
        version(&mut reader, "reply version")?;
        let request = reader.u64()?;
        let pod = PodId(reader.array()?);
        let answer = answer(&mut reader)?;
        reader.end()?;
        Ok(MediatorReply { request, pod, answer })
    }
}

impl Register {
    /// For the mediator's disk.
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::new();
        out.u8(VERSION);
        match self {
            Register::Absent => out.u8(0),
            Register::Present(record) => {
                out.u8(1);
                put_record(&mut out, record);
            }
            Register::Removed => out.u8(2),
        }
        Bytes::from(out)
    }

    /// Reads what [`Register::encode`] wrote.
    pub fn decode(bytes: Bytes) -> Result<Register, DecodeError> {
        let mut reader = Reader::new(bytes);
        version(&mut reader, "register version")?;
        let register = match reader.u8()? {
            0 => Register::Absent,
            1 => Register::Present(record(&mut reader)?),
            2 => Register::Removed,
            value => return Err(DecodeError::Unknown { what: "register", value }),
        };
        reader.end()?;
        Ok(register)
    }
}
