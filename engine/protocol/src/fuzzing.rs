//! Doors for fuzzing: everything here that reads bytes from media or a peer, with what must hold of any bytes.
//!
//! Built for fuzz/ and for the replay of its kept inputs in this crate's tests; in no other build. What a target is:
//! fuzzing.rs of the journal. All formats here are canonical: what is read is written as the same bytes.

mod pair;

use bytes::Bytes;

use crate::mediator::Register;
use crate::{DurableRecord, DurableState, Entry, MediatorReply, MediatorRequest, Message};

/// Name, heap that it may take in bytes, and what runs an input.
pub type Target = (&'static str, usize, fn(&[u8]));

/// Every target of this crate.
pub const TARGETS: &[Target] = &[
    ("protocol.message", 1 << 20, message),
    ("protocol.entry", 1 << 20, entry),
    ("protocol.durable_state", 1 << 20, durable_state),
    ("protocol.durable_record", 1 << 20, durable_record),
    ("protocol.mediator", 1 << 20, mediator),
    ("protocol.pair", 4 << 20, pair::pair),
    ("protocol.restart", 4 << 20, pair::restart),
];

/// Length of the attachment, which comes last.
fn split(input: &[u8]) -> Option<(Bytes, Bytes)> {
    let (attached, rest) = input.split_first()?;
    let (head, attachment) = rest.split_at(rest.len().saturating_sub(usize::from(*attached)));
    Some((Bytes::copy_from_slice(head), Bytes::copy_from_slice(attachment)))
}

fn message(input: &[u8]) {
    let Some((head, attachment)) = split(input) else { return };
    if let Ok(message) = Message::decode(head.clone(), attachment.clone()) {
        assert_eq!(message.encode(), (head, attachment));
    }
}

fn entry(input: &[u8]) {
    let Some((head, attachment)) = split(input) else { return };
    if let Ok(entry) = Entry::decode(head.clone(), attachment.clone()) {
        assert_eq!(entry.encode(), (head, attachment));
        let _ = entry.chain_after(entry.chain);
    }
}

fn durable_state(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    if let Ok(state) = DurableState::decode(bytes.clone()) {
        assert_eq!(state.encode(), bytes);
    }
}

fn durable_record(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    if let Ok((ticket, record)) = DurableRecord::decode(bytes.clone()) {
        assert_eq!(record.encode(ticket), bytes);
    }
}

fn mediator(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    if let Ok(request) = MediatorRequest::decode(bytes.clone()) {
        assert_eq!(request.encode(), bytes);
    }
    if let Ok(reply) = MediatorReply::decode(bytes.clone()) {
        assert_eq!(reply.encode(), bytes);
    }
    if let Ok(register) = Register::decode(bytes.clone()) {
        assert_eq!(register.encode(), bytes);
    }
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    #[test]
    fn kept_inputs_of_the_fuzzer_are_taken_or_refused() {
        super::replay::all(super::TARGETS);
    }
}
