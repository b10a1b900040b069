//! Which requests are good: a header and what was negotiated go in, a command for the volume or an error comes out.

use super::volume::Extent;
use super::wire::{
    BLOCK_BYTES_MIN, EXTENTS_MAX, Errno, Form, PAYLOAD_BYTES_MAX, Request, command, command_flag,
};

/// Memory of the longest answer to a status request.
const STATUS_BYTES_MAX: u32 = (EXTENTS_MAX * size_of::<Extent>()) as u32;

const _: () = assert!(STATUS_BYTES_MAX <= PAYLOAD_BYTES_MAX);

/// What a connection may ask for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub size_bytes: u64,
    pub read_only: bool,
    pub form: Form,
    /// `base:allocation` was selected.
    pub allocation: bool,
}

/// A request that may go to the volume. Lengths may be zero here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Read { offset: u64, length: u32, whole: bool },
    Write { offset: u64, length: u32, fua: bool },
    Trim { offset: u64, length: u64, fua: bool },
    WriteZeroes { offset: u64, length: u64, no_hole: bool, fast: bool, fua: bool },
    Cache,
    Flush,
    BlockStatus { offset: u64, length: u64, one: bool },
}

impl Command {
    /// Bytes that this command may keep in memory until its reply is written.
    pub fn held_bytes(&self) -> u32 {
        match self {
            Command::Read { length, .. } | Command::Write { length, .. } => *length,
            Command::BlockStatus { one: false, .. } => STATUS_BYTES_MAX,
            _ => 0,
        }
    }
}

/// How many bytes follow the header.
///
/// With extended headers a flag says so; but QEMU (up to 10.0 at least) leaves it out of its writes.
pub(super) fn payload_bytes(request: &Request, form: Form) -> u64 {
    let flagged = form == Form::Extended && request.flags & command_flag::PAYLOAD_LEN != 0;
    if flagged || request.kind == command::WRITE { request.length } else { 0 }
}

/// Decides what to do with a request.
pub(super) fn check(request: &Request, rules: &Rules) -> Result<Command, Errno> {
    let has = |flag: u16| request.flags & flag != 0;
    let fua = has(command_flag::FUA);
    let Request { offset, length, .. } = *request;
    if request.flags & !allowed_flags(request.kind, rules.form) != 0 {
        return Err(Errno::Invalid);
    }
    match request.kind {
        command::READ => {
            within(request, rules, Errno::Invalid)?;
            let length = held_length(length).ok_or(too_long_to_read(rules.form))?;
            Ok(Command::Read { offset, length, whole: has(command_flag::DF) })
        }
        command::WRITE => {
            writable(rules)?;
            let length32 = held_length(length).ok_or(Errno::Invalid)?;
            within(request, rules, Errno::NoSpace)?;
            Ok(Command::Write { offset, length: length32, fua })
        }
        command::TRIM => {
            writable(rules)?;
            within(request, rules, Errno::Invalid)?;
            Ok(Command::Trim { offset, length, fua })
        }
        command::WRITE_ZEROES => {
            writable(rules)?;
            within(request, rules, Errno::NoSpace)?;
            let (no_hole, fast) = (has(command_flag::NO_HOLE), has(command_flag::FAST_ZERO));
            Ok(Command::WriteZeroes { offset, length, no_hole, fast, fua })
        }
        command::CACHE => within(request, rules, Errno::Invalid).map(|()| Command::Cache),
        command::FLUSH if offset == 0 && length == 0 => Ok(Command::Flush),
        command::BLOCK_STATUS if rules.allocation && length > 0 => {
            within(request, rules, Errno::Invalid)?;
            Ok(Command::BlockStatus { offset, length, one: has(command_flag::REQ_ONE) })
        }
        _ => Err(Errno::Invalid),
    }
}

fn allowed_flags(kind: u16, form: Form) -> u16 {
    let own = match kind {
        command::READ if form != Form::Simple => command_flag::DF,
        command::WRITE if form == Form::Extended => command_flag::PAYLOAD_LEN,
        command::WRITE_ZEROES => command_flag::NO_HOLE | command_flag::FAST_ZERO,
        command::BLOCK_STATUS => command_flag::REQ_ONE,
        _ => 0,
    };
    own | command_flag::FUA
}

fn writable(rules: &Rules) -> Result<(), Errno> {
    if rules.read_only { Err(Errno::Permission) } else { Ok(()) }
}

fn within(request: &Request, rules: &Rules, outside: Errno) -> Result<(), Errno> {
    let granularity = u64::from(BLOCK_BYTES_MIN);
    if !request.offset.is_multiple_of(granularity) || !request.length.is_multiple_of(granularity) {
        return Err(Errno::Invalid);
    }
    match request.offset.checked_add(request.length) {
        Some(end) if end <= rules.size_bytes => Ok(()),
        _ => Err(outside),
    }
}

fn held_length(length: u64) -> Option<u32> {
    u32::try_from(length).ok().filter(|length| *length <= PAYLOAD_BYTES_MAX)
}

/// Only a client that can be told to fragment gets `EOVERFLOW`.
fn too_long_to_read(form: Form) -> Errno {
    if form == Form::Simple { Errno::Invalid } else { Errno::Overflow }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules =
        Rules { size_bytes: 1 << 30, read_only: false, form: Form::Structured, allocation: true };

    fn request(kind: u16, flags: u16, offset: u64, length: u64) -> Request {
        Request { flags, kind, cookie: 1, offset, length }
    }

    #[test]
    fn beyond_the_end_is_no_space_for_writes_and_invalid_for_the_rest() {
        for (kind, error) in [
            (command::READ, Errno::Invalid),
            (command::WRITE, Errno::NoSpace),
            (command::TRIM, Errno::Invalid),
            (command::WRITE_ZEROES, Errno::NoSpace),
            (command::CACHE, Errno::Invalid),
            (command::BLOCK_STATUS, Errno::Invalid),
        ] {
            assert_eq!(check(&request(kind, 0, (1 << 30) - 512, 1024), &RULES), Err(error), "{kind}");
            assert_eq!(check(&request(kind, 0, u64::MAX - 511, 1024), &RULES), Err(error), "{kind}");
            assert!(check(&request(kind, 0, (1 << 30) - 512, 512), &RULES).is_ok(), "{kind}");
        }
    }

    #[test]
    fn what_is_not_a_multiple_of_512_is_invalid() {
        for kind in [command::READ, command::WRITE, command::TRIM, command::WRITE_ZEROES] {
            assert_eq!(check(&request(kind, 0, 1, 512), &RULES), Err(Errno::Invalid));
            assert_eq!(check(&request(kind, 0, 512, 511), &RULES), Err(Errno::Invalid));
        }
    }

    #[test]
    fn each_command_takes_its_own_flags_and_fua() {
        for (kind, own) in [
            (command::READ, command_flag::DF),
            (command::WRITE, 0),
            (command::TRIM, 0),
            (command::WRITE_ZEROES, command_flag::NO_HOLE | command_flag::FAST_ZERO),
            (command::CACHE, 0),
            (command::BLOCK_STATUS, command_flag::REQ_ONE),
        ] {
            for bit in 0..16 {
                let flag = 1 << bit;
                let good = flag & (own | command_flag::FUA) != 0;
                assert_eq!(check(&request(kind, flag, 0, 512), &RULES).is_ok(), good, "{kind} {flag:#x}");
            }
        }
    }

    #[test]
    fn requests_for_what_was_not_negotiated_are_invalid() {
        let plain = Rules { form: Form::Simple, allocation: false, ..RULES };
        assert_eq!(check(&request(command::READ, command_flag::DF, 0, 512), &plain), Err(Errno::Invalid));
        assert_eq!(check(&request(command::BLOCK_STATUS, 0, 0, 512), &plain), Err(Errno::Invalid));
        assert_eq!(check(&request(command::FLUSH, 0, 512, 0), &plain), Err(Errno::Invalid));
        assert_eq!(check(&request(99, 0, 0, 0), &plain), Err(Errno::Invalid));
    }

    #[test]
    fn reads_and_writes_stop_at_the_largest_payload_and_metadata_commands_do_not() {
        let long = u64::from(PAYLOAD_BYTES_MAX) + 512;
        assert_eq!(check(&request(command::READ, 0, 0, long), &RULES), Err(Errno::Overflow));
        assert_eq!(check(&request(command::WRITE, 0, 0, long), &RULES), Err(Errno::Invalid));
        assert!(check(&request(command::TRIM, 0, 0, long), &RULES).is_ok());
        assert!(check(&request(command::WRITE_ZEROES, 0, 0, long), &RULES).is_ok());
    }

    #[test]
    fn a_read_only_volume_refuses_what_changes_it() {
        let rules = Rules { read_only: true, ..RULES };
        for kind in [command::WRITE, command::TRIM, command::WRITE_ZEROES] {
            assert_eq!(check(&request(kind, 0, 0, 512), &rules), Err(Errno::Permission));
        }
        assert!(check(&request(command::READ, 0, 0, 512), &rules).is_ok());
        assert!(check(&request(command::FLUSH, 0, 0, 0), &rules).is_ok());
    }

    #[test]
    fn with_extended_headers_the_flag_says_whether_a_payload_follows() {
        let rules = Rules { form: Form::Extended, ..RULES };
        let flagged = request(command::WRITE, command_flag::PAYLOAD_LEN, 0, 512);
        let odd = request(command::TRIM, command_flag::PAYLOAD_LEN, 0, 512);
        assert!(check(&flagged, &rules).is_ok());
        assert_eq!(check(&flagged, &RULES), Err(Errno::Invalid));
        assert_eq!(check(&odd, &rules), Err(Errno::Invalid));
        assert_eq!(payload_bytes(&odd, Form::Extended), 512);
        assert_eq!(payload_bytes(&odd, Form::Structured), 0);
    }

    #[test]
    fn a_write_brings_its_payload_also_when_the_client_forgets_the_flag() {
        let rules = Rules { form: Form::Extended, ..RULES };
        let unflagged = request(command::WRITE, 0, 0, 512);
        assert!(check(&unflagged, &rules).is_ok());
        for form in [Form::Simple, Form::Structured, Form::Extended] {
            assert_eq!(payload_bytes(&unflagged, form), 512);
        }
    }
}
