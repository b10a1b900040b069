//! Bytes of messages between the arrays: a head, and apart from it the attachment of an entry or forward, which is sent without being copied.

use bytes::Bytes;

use crate::api::MediatorStatus;
use crate::codec::DecodeError;
use crate::codec::bytes::{Put, Reader, Writer};
use crate::codec::config::{history, learned, out_of_sync, put_history, put_learned, put_out_of_sync};
use crate::codec::mediator::{
    SIGNATURE_BYTES_MAX, answer, ask, put_answer, put_ask, put_record_option, put_statement, record_option,
    statement,
};
use crate::entry::{ENTRY_BYTES_MAX, Entry};
use crate::ids::{ArrayId, Chain, ConfigId, Incarnation, Index, Nonce, PodId};
use crate::message::{Frame, Hello, Message, Report, SessionId};

const VERSION: u8 = 1;

const HELLO: u8 = 0;
const BUSY: u8 = 1;
const READY: u8 = 2;
const ENTRY: u8 = 3;
const FORWARD: u8 = 4;
const REFUSED: u8 = 5;
const ORDER: u8 = 6;
const DURABLE: u8 = 7;
const HEARTBEAT: u8 = 8;
const ANSWER: u8 = 9;
const CONSENT_ASKED: u8 = 10;
const CONSENT: u8 = 11;
const REGISTER_SEEN: u8 = 12;
const CARRY: u8 = 13;
const CARRIED: u8 = 14;

impl Message {
    /// Head and attachment.
    pub fn encode(&self) -> (Bytes, Bytes) {
        let mut out = Writer::with_capacity(320);
        out.u8(VERSION);
        let mut attachment = Bytes::new();
        match self {
            Message::Hello(hello) => put_hello(&mut out, hello),
            Message::Busy { incarnation, echo } => {
                out.u8(BUSY);
                out.u64(incarnation.0);
                out.u64(echo.0);
            }
            Message::Frame { session, number, body } => {
                out.u8(kind(body));
                out.raw(&session.0);
                out.u64(*number);
                attachment = put_frame(&mut out, body);
            }
        }
        (Bytes::from(out), attachment)
    }

    /// Reads what [`Message::encode`] wrote.
    pub fn decode(head: Bytes, attachment: Bytes) -> Result<Message, DecodeError> {
        let mut reader = Reader::new(head);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(DecodeError::Unknown { what: "message version", value: version });
        }
        let kind = reader.u8()?;
        if !matches!(kind, ENTRY | FORWARD) && !attachment.is_empty() {
            return Err(DecodeError::Inconsistent);
        }
        match kind {
            HELLO => {
                let hello = hello(&mut reader)?;
                reader.end()?;
                Ok(Message::Hello(Box::new(hello)))
            }
            BUSY => {
                let incarnation = Incarnation(reader.number()?);
                let echo = Nonce(reader.u64()?);
                reader.end()?;
                Ok(Message::Busy { incarnation, echo })
            }
            kind => {
                let session = SessionId(reader.array()?);
                let number = reader.u64()?;
                let body = frame(kind, reader, attachment)?;
                Ok(Message::Frame { session, number, body })
            }
        }
    }
}

fn kind(body: &Frame) -> u8 {
    match body {
        Frame::Ready { .. } => READY,
        Frame::Entry(_) => ENTRY,
        Frame::Forward { .. } => FORWARD,
        Frame::Refused { .. } => REFUSED,
        Frame::Order { .. } => ORDER,
        Frame::Durable { .. } => DURABLE,
        Frame::Heartbeat { .. } => HEARTBEAT,
        Frame::Answer { .. } => ANSWER,
        Frame::ConsentAsked(_) => CONSENT_ASKED,
        Frame::Consent { .. } => CONSENT,
        Frame::RegisterSeen { .. } => REGISTER_SEEN,
        Frame::Carry { .. } => CARRY,
        Frame::Carried { .. } => CARRIED,
    }
}

fn put_frame(out: &mut Writer, body: &Frame) -> Bytes {
    match body {
        Frame::Ready { base, end } => {
            out.position(base);
            out.position(end);
        }
        Frame::Entry(entry) => {
            let (head, attachment) = entry.encode();
            out.raw(&head);
            return attachment;
        }
        Frame::Forward { request, heartbeat, descriptor, attachment } => {
            out.u64(*request);
            out.u64(*heartbeat);
            out.raw(descriptor);
            return attachment.clone();
        }
        Frame::Refused { request } => out.u64(*request),
        Frame::Order { index, request, chain, committed } => {
            out.u64(index.0);
            out.u64(*request);
            out.raw(&chain.0);
            out.u64(committed.0);
        }
        Frame::Durable { through, committed, known } => {
            out.u64(through.0);
            out.u64(committed.0);
            out.u64(known.0);
        }
        Frame::Heartbeat { number, serving, fit, mediator } => {
            out.u64(*number);
            out.u8(u8::from(*serving));
            out.u8(u8::from(*fit));
            out.u8(match mediator {
                MediatorStatus::None => 0,
                MediatorStatus::Reachable => 1,
                MediatorStatus::Unreachable => 2,
                MediatorStatus::Wrong => 3,
            });
        }
        Frame::Answer { number, config } => {
            out.u64(*number);
            out.raw(&config.0);
        }
        Frame::ConsentAsked(statement) => put_statement(out, statement),
        Frame::Consent { statement, signature } => {
            put_statement(out, statement);
            out.string(signature);
        }
        Frame::RegisterSeen { config, record } => {
            out.raw(&config.0);
            put_record_option(out, record.as_ref());
        }
        Frame::Carry { request, ask } => {
            out.u64(*request);
            put_ask(out, ask);
        }
        Frame::Carried { request, answer } => {
            out.u64(*request);
            put_answer(out, answer);
        }
    }
    Bytes::new()
}

fn frame(kind: u8, mut reader: Reader, attachment: Bytes) -> Result<Frame, DecodeError> {
    let body = match kind {
        ENTRY => return Ok(Frame::Entry(Entry::decode(reader.rest(), attachment)?)),
        FORWARD => {
            let request = reader.u64()?;
            let heartbeat = reader.u64()?;
            let descriptor = reader.rest();
            if descriptor.len() + attachment.len() > ENTRY_BYTES_MAX {
                return Err(DecodeError::TooLong);
            }
            return Ok(Frame::Forward { request, heartbeat, descriptor, attachment });
        }
        READY => Frame::Ready { base: reader.position()?, end: reader.position()? },
        REFUSED => Frame::Refused { request: reader.u64()? },
        ORDER => Frame::Order {
            index: Index(reader.number()?),
            request: reader.u64()?,
            chain: Chain(reader.array()?),
            committed: Index(reader.number()?),
        },
        DURABLE => Frame::Durable {
            through: Index(reader.number()?),
            committed: Index(reader.number()?),
            known: Index(reader.number()?),
        },
        HEARTBEAT => Frame::Heartbeat {
            number: reader.u64()?,
            serving: reader.flag()?,
            fit: reader.flag()?,
            mediator: match reader.u8()? {
                0 => MediatorStatus::None,
                1 => MediatorStatus::Reachable,
                2 => MediatorStatus::Unreachable,
                3 => MediatorStatus::Wrong,
                value => return Err(DecodeError::Unknown { what: "mediator status", value }),
            },
        },
        ANSWER => Frame::Answer { number: reader.u64()?, config: ConfigId(reader.array()?) },
        CONSENT_ASKED => Frame::ConsentAsked(statement(&mut reader)?),
        CONSENT => Frame::Consent {
            statement: statement(&mut reader)?,
            signature: reader.string(SIGNATURE_BYTES_MAX)?,
        },
        REGISTER_SEEN => {
            Frame::RegisterSeen { config: ConfigId(reader.array()?), record: record_option(&mut reader)? }
        }
        CARRY => Frame::Carry { request: reader.u64()?, ask: ask(&mut reader)? },
        CARRIED => Frame::Carried { request: reader.u64()?, answer: answer(&mut reader)? },
        value => return Err(DecodeError::Unknown { what: "message", value }),
    };
    reader.end()?;
    Ok(body)
}

fn put_hello(out: &mut Writer, hello: &Hello) {
    out.u8(HELLO);
    out.raw(&hello.pod.0);
    out.raw(&hello.from.0);
    out.u64(hello.incarnation.0);
    out.u64(hello.nonce.0);
    out.u8(u8::from(hello.echo.is_some()));
    if let Some((incarnation, nonce)) = hello.echo {
        out.u64(incarnation.0);
        out.u64(nonce.0);
    }
    let report = &hello.report;
    put_history(out, &report.history);
    out.u64(report.known_config.0);
    out.position(&report.base);
    out.position(&report.end);
    out.u64(report.committed.0);
    put_out_of_sync(out, report.out_of_sync.as_ref());
    put_learned(out, &report.learned);
}

fn hello(reader: &mut Reader) -> Result<Hello, DecodeError> {
    let pod = PodId(reader.array()?);
    let from = ArrayId(reader.array()?);
    let incarnation = Incarnation(reader.number()?);
    let nonce = Nonce(reader.u64()?);
    let echo =
        if reader.flag()? { Some((Incarnation(reader.number()?), Nonce(reader.u64()?))) } else { None };
    let report = Report {
        history: history(reader)?,
        known_config: Index(reader.number()?),
        base: reader.position()?,
        end: reader.position()?,
        committed: Index(reader.number()?),
        out_of_sync: out_of_sync(reader)?,
        learned: learned(reader)?,
    };
    let end = report.end.index;
    let newest = report.history.last().map_or(Index(0), |item| item.first);
    if newest > end || report.base.index > end || report.committed > end || report.known_config > end {
        return Err(DecodeError::Inconsistent);
    }
    Ok(Hello { pod, from, incarnation, nonce, echo, report })
}
