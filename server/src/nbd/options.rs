//! The data of options: requests read from bytes, replies written to bytes. No state, no input or output.

use super::wire::{self, STRING_BYTES_MAX, allocation, info, option_reply, transmission_flag};
use super::wire::{BLOCK_BYTES_MIN, BLOCK_BYTES_PREFERRED, Form, OPTION_REPLY_MAGIC, PAYLOAD_BYTES_MAX};

/// The option's data does not follow its layout.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The data of INFO and GO.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ExportRequest<'a> {
    pub name: &'a str,
    pub wants_name: bool,
    pub wants_description: bool,
}

/// The data of LIST_META_CONTEXT and SET_META_CONTEXT.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ContextRequest<'a> {
    pub name: &'a str,
    pub queries: Vec<&'a str>,
}

impl<'a> ExportRequest<'a> {
    pub fn parse(data: &'a [u8]) -> Result<ExportRequest<'a>, Malformed> {
        let mut cursor = Cursor(data);
        let name = cursor.string()?;
        let count = usize::from(cursor.u16()?);
        let kinds = cursor.bytes(2 * count)?;
        cursor.end()?;
        let wants = |kind: u16| kinds.chunks_exact(2).any(|bytes| bytes == kind.to_be_bytes());
        Ok(ExportRequest { name, wants_name: wants(info::NAME), wants_description: wants(info::DESCRIPTION) })
    }
}

impl<'a> ContextRequest<'a> {
    pub fn parse(data: &'a [u8]) -> Result<ContextRequest<'a>, Malformed> {
        let mut cursor = Cursor(data);
        let name = cursor.string()?;
        let count = cursor.u32()?;
        let mut queries = Vec::new();
        for _ in 0..count {
            // Each turn consumes at least four bytes of data or fails.
            queries.push(cursor.string()?);
        }
        cursor.end()?;
        Ok(ContextRequest { name, queries })
    }

    /// Whether the queries select `base:allocation`.
    pub fn selects_allocation(&self) -> bool {
        self.queries.contains(&allocation::NAME)
    }

    /// Whether `base:allocation` belongs into the list that the queries ask for.
    pub fn lists_allocation(&self) -> bool {
        self.queries.is_empty() || self.queries.contains(&"base:") || self.selects_allocation()
    }
}

/// Checks a name as the protocol wants strings to be.
pub(super) fn name_from(bytes: &[u8]) -> Result<&str, Malformed> {
    if bytes.len() > STRING_BYTES_MAX || bytes.contains(&0) {
        return Err(Malformed);
    }
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

/// What a client is told about an export.
pub(super) fn transmission_flags(form: Form, read_only: bool) -> u16 {
    use transmission_flag::*;
    let mut flags = HAS_FLAGS
        | SEND_FLUSH
        | SEND_FUA
        | SEND_TRIM
        | SEND_WRITE_ZEROES
        | CAN_MULTI_CONN
        | SEND_CACHE
        | SEND_FAST_ZERO;
    if form != Form::Simple {
        flags |= SEND_DF;
    }
    if read_only {
        flags |= READ_ONLY;
    }
    flags
}

/// Replies to one option, to be sent together.
pub(super) struct Replies {
    option: u32,
    bytes: Vec<u8>,
}

impl Replies {
    pub fn to(option: u32) -> Replies {
        Replies { option, bytes: Vec::new() }
    }

    pub fn ack(self) -> Vec<u8> {
        self.with(option_reply::ACK, &[]).bytes
    }

    /// Ends with an error and a message for people.
    pub fn error(self, kind: u32, message: &str) -> Vec<u8> {
        self.with(kind, &[message.as_bytes()]).bytes
    }

    pub fn server(self, name: &str, description: &str) -> Replies {
        let length = (name.len() as u32).to_be_bytes();
        self.with(option_reply::SERVER, &[&length, name.as_bytes(), description.as_bytes()])
    }

    pub fn export(self, size_bytes: u64, flags: u16) -> Replies {
        self.info(info::EXPORT, &[&size_bytes.to_be_bytes(), &flags.to_be_bytes()])
    }

    pub fn block_sizes(self) -> Replies {
        let [minimum, preferred, maximum] =
            [BLOCK_BYTES_MIN, BLOCK_BYTES_PREFERRED, PAYLOAD_BYTES_MAX].map(u32::to_be_bytes);
        self.info(info::BLOCK_SIZE, &[&minimum, &preferred, &maximum])
    }

    pub fn text(self, kind: u16, text: &str) -> Replies {
        self.info(kind, &[text.as_bytes()])
    }

    pub fn context(self, id: u32, name: &str) -> Replies {
        self.with(option_reply::META_CONTEXT, &[&id.to_be_bytes(), name.as_bytes()])
    }

    fn info(self, kind: u16, parts: &[&[u8]]) -> Replies {
        let kind = kind.to_be_bytes();
        let parts: Vec<&[u8]> = std::iter::once(&kind[..]).chain(parts.iter().copied()).collect();
        self.with(option_reply::INFO, &parts)
    }

    fn with(mut self, kind: u32, parts: &[&[u8]]) -> Replies {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        self.bytes.extend_from_slice(&OPTION_REPLY_MAGIC.to_be_bytes());
        self.bytes.extend_from_slice(&self.option.to_be_bytes());
        self.bytes.extend_from_slice(&kind.to_be_bytes());
        self.bytes.extend_from_slice(&(length as u32).to_be_bytes());
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self
    }
}

/// Takes fields off the front of an option's data.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(wire::u16_at(self.bytes(2)?, 0))
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(wire::u32_at(self.bytes(4)?, 0))
    }

    fn string(&mut self) -> Result<&'a str, Malformed> {
        let length = self.u32()? as usize;
        name_from(self.bytes(length)?)
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export_request(name: &[u8], kinds: &[u16]) -> Vec<u8> {
        let mut data = (name.len() as u32).to_be_bytes().to_vec();
        data.extend_from_slice(name);
        data.extend_from_slice(&(kinds.len() as u16).to_be_bytes());
        kinds.iter().for_each(|kind| data.extend_from_slice(&kind.to_be_bytes()));
        data
    }

    fn context_request(name: &str, queries: &[&str]) -> Vec<u8> {
        let mut data = (name.len() as u32).to_be_bytes().to_vec();
        data.extend_from_slice(name.as_bytes());
        data.extend_from_slice(&(queries.len() as u32).to_be_bytes());
        for query in queries {
            data.extend_from_slice(&(query.len() as u32).to_be_bytes());
            data.extend_from_slice(query.as_bytes());
        }
        data
    }

    #[test]
    fn an_export_request_says_what_is_wanted() {
        let data = export_request(b"pod::vol", &[info::NAME, 77, info::BLOCK_SIZE]);
        let request = ExportRequest::parse(&data).unwrap();
        assert_eq!(request, ExportRequest { name: "pod::vol", wants_name: true, wants_description: false });
    }

    #[test]
    fn every_cut_and_every_surplus_of_a_request_is_malformed() {
        let data = export_request(b"pod::vol", &[info::NAME]);
        for end in 0..data.len() {
            assert_eq!(ExportRequest::parse(&data[..end]), Err(Malformed), "{end}");
        }
        let data = context_request("v", &["base:allocation", "x:y"]);
        for end in 0..data.len() {
            assert_eq!(ContextRequest::parse(&data[..end]), Err(Malformed), "{end}");
        }
        let surplus = [&data[..], &[0]].concat();
        assert_eq!(ContextRequest::parse(&surplus), Err(Malformed));
    }

    #[test]
    fn absurd_lengths_and_counts_are_malformed() {
        assert_eq!(ExportRequest::parse(&[0xff; 64]), Err(Malformed));
        assert_eq!(ContextRequest::parse(&[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]), Err(Malformed));
    }

    #[test]
    fn names_are_text_without_nul_of_at_most_4096_bytes() {
        assert_eq!(name_from(b"a\0b"), Err(Malformed));
        assert_eq!(name_from(&[0xff, 0xfe]), Err(Malformed));
        assert_eq!(name_from(&vec![b'a'; 4097]), Err(Malformed));
        assert!(name_from(&vec![b'a'; 4096]).is_ok());
        assert_eq!(name_from("größe".as_bytes()), Ok("größe"));
    }

    #[test]
    fn a_wildcard_lists_but_does_not_select() {
        for (queries, lists, selects) in [
            (&[][..], true, false),
            (&["base:"][..], true, false),
            (&["x-other:thing", "base:allocation"][..], true, true),
            (&["base:unheard-of", "qemu:dirty-bitmap:b"][..], false, false),
        ] {
            let data = context_request("v", queries);
            let request = ContextRequest::parse(&data).unwrap();
            assert_eq!((request.lists_allocation(), request.selects_allocation()), (lists, selects));
        }
    }

    #[test]
    fn flags_follow_what_was_negotiated() {
        assert_eq!(transmission_flags(Form::Simple, false), 0x0d6d);
        assert_eq!(transmission_flags(Form::Structured, false), 0x0ded);
        assert_eq!(transmission_flags(Form::Extended, true), 0x0def);
    }
}
