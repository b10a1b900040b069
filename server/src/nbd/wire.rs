//! The numbers of the protocol, and its fixed headers as values. Everything is big-endian.

use bytes::{BufMut, BytesMut};

/// Granularity of offsets and lengths.
pub const BLOCK_BYTES_MIN: u32 = 512;
/// Aligned requests of this size cost least.
pub const BLOCK_BYTES_PREFERRED: u32 = 4096;
/// Largest payload of a request, and longest read.
pub const PAYLOAD_BYTES_MAX: u32 = 32 << 20;
/// Most extents in one answer to a status request.
pub const EXTENTS_MAX: usize = 16_384;
/// Longest string the protocol allows.
pub(super) const STRING_BYTES_MAX: usize = 4096;

pub(super) const SERVER_MAGIC: u64 = 0x4e42_444d_4147_4943;
pub(super) const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
pub(super) const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
pub(super) const REQUEST_MAGIC: u32 = 0x2560_9513;
pub(super) const EXTENDED_REQUEST_MAGIC: u32 = 0x21e4_1c71;
pub(super) const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
pub(super) const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;
pub(super) const EXTENDED_REPLY_MAGIC: u32 = 0x6e8a_278c;

/// Flags of the greeting; the client answers with the same bits.
pub(super) mod handshake_flag {
    pub const FIXED_NEWSTYLE: u16 = 1 << 0;
    pub const NO_ZEROES: u16 = 1 << 1;
}

pub(super) mod transmission_flag {
    pub const HAS_FLAGS: u16 = 1 << 0;
    pub const READ_ONLY: u16 = 1 << 1;
    pub const SEND_FLUSH: u16 = 1 << 2;
    pub const SEND_FUA: u16 = 1 << 3;
    pub const SEND_TRIM: u16 = 1 << 5;
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    pub const SEND_DF: u16 = 1 << 7;
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
    pub const SEND_CACHE: u16 = 1 << 10;
    pub const SEND_FAST_ZERO: u16 = 1 << 11;
}

pub(super) mod option {
    pub const EXPORT_NAME: u32 = 1;
    pub const ABORT: u32 = 2;
    pub const LIST: u32 = 3;
    pub const INFO: u32 = 6;
    pub const GO: u32 = 7;
    pub const STRUCTURED_REPLY: u32 = 8;
    pub const LIST_META_CONTEXT: u32 = 9;
    pub const SET_META_CONTEXT: u32 = 10;
    pub const EXTENDED_HEADERS: u32 = 11;
}

pub(super) mod option_reply {
    pub const ACK: u32 = 1;
    pub const SERVER: u32 = 2;
    pub const INFO: u32 = 3;
    pub const META_CONTEXT: u32 = 4;
    pub const ERR_UNSUP: u32 = (1 << 31) + 1;
    pub const ERR_INVALID: u32 = (1 << 31) + 3;
    pub const ERR_UNKNOWN: u32 = (1 << 31) + 6;
    pub const ERR_SHUTDOWN: u32 = (1 << 31) + 7;
    pub const ERR_TOO_BIG: u32 = (1 << 31) + 9;
    pub const ERR_EXT_HEADER_REQD: u32 = (1 << 31) + 10;
}

pub(super) mod info {
    pub const EXPORT: u16 = 0;
    pub const NAME: u16 = 1;
    pub const DESCRIPTION: u16 = 2;
    pub const BLOCK_SIZE: u16 = 3;
}

pub(super) mod command {
    pub const READ: u16 = 0;
    pub const WRITE: u16 = 1;
    pub const DISC: u16 = 2;
    pub const FLUSH: u16 = 3;
    pub const TRIM: u16 = 4;
    pub const CACHE: u16 = 5;
    pub const WRITE_ZEROES: u16 = 6;
    pub const BLOCK_STATUS: u16 = 7;
}

pub(super) mod command_flag {
    pub const FUA: u16 = 1 << 0;
    pub const NO_HOLE: u16 = 1 << 1;
    pub const DF: u16 = 1 << 2;
    pub const REQ_ONE: u16 = 1 << 3;
    pub const FAST_ZERO: u16 = 1 << 4;
    pub const PAYLOAD_LEN: u16 = 1 << 5;
}

/// Kinds of chunks in structured and extended replies.
pub(super) mod chunk {
    pub const FLAG_DONE: u16 = 1 << 0;
    pub const NONE: u16 = 0;
    pub const OFFSET_DATA: u16 = 1;
    pub const OFFSET_HOLE: u16 = 2;
    pub const BLOCK_STATUS: u16 = 5;
    pub const BLOCK_STATUS_EXT: u16 = 6;
    pub const ERROR: u16 = (1 << 15) + 1;
}

/// Flags of the metadata context `base:allocation`.
pub(super) mod allocation {
    pub const NAME: &str = "base:allocation";
    pub const HOLE: u32 = 1 << 0;
    pub const ZERO: u32 = 1 << 1;
}

/// The id under which it is selected.
pub(super) const ALLOCATION_CONTEXT: u32 = 1;

/// Errors of the transmission phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Errno {
    Permission = 1,
    Io = 5,
    Invalid = 22,
    NoSpace = 28,
    Overflow = 75,
    NotSupported = 95,
    Shutdown = 108,
}

impl Errno {
    /// What a person should read beside the number.
    pub fn message(self) -> &'static str {
        match self {
            Errno::Permission => "the volume is read-only",
            Errno::Io => "the request failed",
            Errno::Invalid => "the request is invalid or outside the volume",
            Errno::NoSpace => "no space left, or outside the volume",
            Errno::Overflow => "the request is longer than 32 MiB",
            Errno::NotSupported => "zeroing here would not be fast",
            Errno::Shutdown => "the volume is no longer served here",
        }
    }
}

/// How requests and replies are framed, as negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Compact requests, simple replies.
    Simple,
    /// Compact requests, structured replies.
    Structured,
    /// Extended requests and replies.
    Extended,
}

pub(super) const COMPACT_REQUEST_BYTES: usize = 28;
pub(super) const EXTENDED_REQUEST_BYTES: usize = 32;

/// The header of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub flags: u16,
    pub kind: u16,
    pub cookie: u64,
    pub offset: u64,
    pub length: u64,
}

impl Request {
    /// Reads a compact header, or returns the magic found in its place.
    pub fn from_compact(bytes: &[u8; COMPACT_REQUEST_BYTES]) -> Result<Request, u32> {
        Request::from_parts(bytes, REQUEST_MAGIC, u64::from(u32_at(bytes, 24)))
    }

    /// Reads an extended header, or returns the magic found in its place.
    pub fn from_extended(bytes: &[u8; EXTENDED_REQUEST_BYTES]) -> Result<Request, u32> {
        Request::from_parts(bytes, EXTENDED_REQUEST_MAGIC, u64_at(bytes, 24))
    }

    fn from_parts(bytes: &[u8], magic: u32, length: u64) -> Result<Request, u32> {
        let found = u32_at(bytes, 0);
        if found != magic {
            return Err(found);
        }
        Ok(Request {
            flags: u16_at(bytes, 4),
            kind: u16_at(bytes, 6),
            cookie: u64_at(bytes, 8),
            offset: u64_at(bytes, 16),
            length,
        })
    }
}

/// Writes the header of a simple reply.
pub(super) fn put_simple(out: &mut BytesMut, error: u32, cookie: u64) {
    out.put_u32(SIMPLE_REPLY_MAGIC);
    out.put_u32(error);
    out.put_u64(cookie);
}

/// Writes the header of a structured chunk.
pub(super) fn put_structured(out: &mut BytesMut, flags: u16, kind: u16, cookie: u64, length: u32) {
    out.put_u32(STRUCTURED_REPLY_MAGIC);
    out.put_u16(flags);
    out.put_u16(kind);
    out.put_u64(cookie);
    out.put_u32(length);
}

/// Writes the header of an extended chunk; `offset` is that of the request.
pub(super) fn put_extended(out: &mut BytesMut, flags: u16, kind: u16, cookie: u64, offset: u64, length: u32) {
    out.put_u32(EXTENDED_REPLY_MAGIC);
    out.put_u16(flags);
    out.put_u16(kind);
    out.put_u64(cookie);
    out.put_u64(offset);
    out.put_u64(u64::from(length));
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array_at(bytes, at))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array_at(bytes, at))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(array_at(bytes, at))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of N bytes is an array of N bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compact_request_is_read_field_by_field() {
        let mut bytes = [0; COMPACT_REQUEST_BYTES];
        bytes[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
        bytes[4..8].copy_from_slice(&[0, 1, 0, 6]);
        bytes[8..16].copy_from_slice(&7u64.to_be_bytes());
        bytes[16..24].copy_from_slice(&4096u64.to_be_bytes());
        bytes[24..].copy_from_slice(&512u32.to_be_bytes());
        let request = Request::from_compact(&bytes).unwrap();
        assert_eq!(request, Request { flags: 1, kind: 6, cookie: 7, offset: 4096, length: 512 });
    }

    #[test]
    fn a_request_of_the_other_form_is_refused_with_its_magic() {
        let mut bytes = [0; EXTENDED_REQUEST_BYTES];
        bytes[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
        assert_eq!(Request::from_extended(&bytes), Err(REQUEST_MAGIC));
    }
}
