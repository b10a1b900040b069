//! Bytes of an entry: a header with the descriptor, and apart from it the attachment, so that both can be written and sent without
//! copying the attachment.
//!
//! Header: version u8, kind u8 (0 operation, 1 mark, 2 configuration), config 16, index u64, committed u64, origin 16, origin
//! incarnation u64, origin request u64, chain 32; then the descriptor or the configuration, to the end.

use bytes::Bytes;

use crate::codec::DecodeError;
use crate::codec::bytes::{Put, Reader, Writer};
use crate::codec::config::{configuration, put_configuration};
use crate::entry::{Body, ENTRY_BYTES_MAX, Entry};
use crate::ids::{ArrayId, Chain, ConfigId, Incarnation, Index};

const VERSION: u8 = 1;
const OPERATION: u8 = 0;
const MARK: u8 = 1;
const CONFIGURATION: u8 = 2;

/// The bytes that the chain covers: everything but the chain itself, the commit index and the attachment.
pub(crate) fn canonical(entry: &Entry) -> Vec<u8> {
    let mut out = Writer::with_capacity(96);
    out.u8(kind(&entry.body));
    out.raw(&entry.config.0);
    out.u64(entry.index.0);
    out.raw(&entry.origin.0);
    out.u64(entry.origin_incarnation.0);
    out.u64(entry.origin_request);
    put_content(&mut out, &entry.body);
    out
}

fn kind(body: &Body) -> u8 {
    match body {
        Body::Operation { .. } => OPERATION,
        Body::Mark => MARK,
        Body::Configuration(_) => CONFIGURATION,
    }
}

fn put_content(out: &mut Writer, body: &Body) {
    match body {
        Body::Operation { descriptor, .. } => out.raw(descriptor),
        Body::Mark => {}
        Body::Configuration(configuration) => put_configuration(out, configuration),
    }
}

impl Entry {
    /// Header with descriptor, and attachment.
    pub fn encode(&self) -> (Bytes, Bytes) {
        let mut out = Writer::with_capacity(256);
        out.u8(VERSION);
        out.u8(kind(&self.body));
        out.raw(&self.config.0);
        out.u64(self.index.0);
        out.u64(self.committed.0);
        out.raw(&self.origin.0);
        out.u64(self.origin_incarnation.0);
        out.u64(self.origin_request);
        out.raw(&self.chain.0);
        put_content(&mut out, &self.body);
        let attachment = match &self.body {
            Body::Operation { attachment, .. } => attachment.clone(),
            _ => Bytes::new(),
        };
        (Bytes::from(out), attachment)
    }

    /// Reads what [`Entry::encode`] wrote. The chain is not verified: that needs the entry before.
    pub fn decode(head: Bytes, attachment: Bytes) -> Result<Entry, DecodeError> {
        let mut reader = Reader::new(head);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(DecodeError::Unknown { what: "entry version", value: version });
        }
        let kind = reader.u8()?;
        let config = ConfigId(reader.array()?);
        let index = Index(reader.number()?);
        let committed = Index(reader.number()?);
        let origin = ArrayId(reader.array()?);
        let origin_incarnation = Incarnation(reader.number()?);
        let origin_request = reader.u64()?;
        let chain = Chain(reader.array()?);
        if kind != OPERATION && !attachment.is_empty() {
            return Err(DecodeError::Inconsistent);
        }
        let body = match kind {
            OPERATION => {
                let descriptor = reader.rest();
                if descriptor.len() + attachment.len() > ENTRY_BYTES_MAX {
                    return Err(DecodeError::TooLong);
                }
                Body::Operation { descriptor, attachment }
            }
            MARK => {
                reader.end()?;
                Body::Mark
            }
            CONFIGURATION => {
                let configuration = configuration(&mut reader)?;
                reader.end()?;
                if configuration.id != config {
                    return Err(DecodeError::Inconsistent);
                }
                Body::Configuration(configuration)
            }
            value => return Err(DecodeError::Unknown { what: "entry kind", value }),
        };
        if index == Index(0) || committed > index {
            return Err(DecodeError::Inconsistent);
        }
        Ok(Entry { config, index, committed, origin, origin_incarnation, origin_request, chain, body })
    }
}
