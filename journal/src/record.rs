//! Records: what callers hand to the journal, and their bytes inside a frame.
//!
//! The journal does not look into them. Bytes: docs/format-journal.md, "Record".

use bytes::Bytes;
use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes before a record's body.
pub const RECORD_HEADER_BYTES: usize = 32;

/// Which log inside the journal a record belongs to: a pod's id, or zero for records of the whole array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct StreamId(pub [u8; 16]);

/// Number of a record in the array's journal: from 1, gap free. 0 stands for "before the first".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Lsn(pub u64);

impl std::fmt::Display for Lsn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One opaque record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The log it belongs to.
    pub stream: StreamId,
    /// Its place in that log, as the owner of the log counts.
    pub index: u64,
    /// The entry.
    pub body: Bytes,
    /// Payload that travels with the entry but is not part of it.
    pub attachment: Bytes,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    stream: [u8; 16],
    index: U64,
    body_bytes: U32,
    attachment_bytes: U32,
}

const _: () = assert!(size_of::<Header>() == RECORD_HEADER_BYTES);

impl Record {
    /// Bytes of body and attachment.
    pub fn content_bytes(&self) -> usize {
        self.body.len() + self.attachment.len()
    }

    /// Bytes this record takes in a frame.
    pub fn encoded_bytes(&self) -> usize {
        RECORD_HEADER_BYTES + self.content_bytes()
    }

    /// Writes the record to the front of `out` and gives back what is left of it.
    pub(crate) fn encode<'a>(&self, out: &'a mut [u8]) -> &'a mut [u8] {
        let length = |part: &Bytes| U32::new(u32::try_from(part.len()).expect("a record fits in a frame"));
        let header = Header {
            stream: self.stream.0,
            index: U64::new(self.index),
            body_bytes: length(&self.body),
            attachment_bytes: length(&self.attachment),
        };
        let mut rest = out;
        for part in [header.as_bytes(), &self.body, &self.attachment] {
            let (head, tail) = rest.split_at_mut(part.len());
            head.copy_from_slice(part);
            rest = tail;
        }
        rest
    }

    /// Reads the record at the front of `payload`; `None` when it does not hold one.
    ///
    /// The content is copied, so that a kept record does not keep the read buffer alive.
    pub(crate) fn decode(payload: &[u8]) -> Option<(Record, &[u8])> {
        let (header, rest) = Header::ref_from_prefix(payload).ok()?;
        let body_bytes = usize::try_from(header.body_bytes.get()).ok()?;
        let content_bytes = body_bytes.checked_add(usize::try_from(header.attachment_bytes.get()).ok()?)?;
        let (content, rest) = rest.split_at_checked(content_bytes)?;
        let mut body = Bytes::copy_from_slice(content);
        let attachment = body.split_off(body_bytes);
        let record = Record { stream: StreamId(header.stream), index: header.index.get(), body, attachment };
        Some((record, rest))
    }
}
