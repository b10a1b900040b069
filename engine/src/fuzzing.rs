//! Doors for fuzzing: everything here that reads bytes from disks, other machines or operators, with what must hold of any bytes.
//!
//! Built for fuzz/ and for the replay of its kept inputs in this crate's tests; in no other build. What a target is:
//! fuzzing.rs of the journal.

use std::path::Path;

use crate::identity::{ConnectionKey, decode_identity, decode_peers, encode_peers};
use crate::link::{Hello, Proof, Refusal};
use crate::manage::Place;
use crate::mediator::decode_register;
use crate::superblock;
use crate::wire::{Decoder, Frame, HEADER_BYTES, Header, write_frame};

/// Name, heap that it may take in bytes, and what runs an input.
pub type Target = (&'static str, usize, fn(&[u8]));

/// Every target of this crate.
pub const TARGETS: &[Target] = &[
    ("engine.superblock", 1 << 20, superblock),
    ("engine.identity", 1 << 20, identity),
    ("engine.peers", 1 << 20, peers),
    ("engine.register", 1 << 20, register),
    ("engine.hello", 1 << 20, hello),
    ("engine.frames", 1 << 20, frames),
    ("engine.connection_key", 1 << 20, connection_key),
    ("engine.place", 1 << 20, place),
];

/// With its first byte odd, the input's last four bytes become the check of those before.
fn checked(input: &[u8]) -> Option<Vec<u8>> {
    let (how, rest) = input.split_first()?;
    let mut bytes = rest.to_vec();
    if let Some(at) = bytes.len().checked_sub(4).filter(|_| how & 1 == 1) {
        let check = crc32c::crc32c(&bytes[..at]);
        bytes[at..].copy_from_slice(&check.to_le_bytes());
    }
    Some(bytes)
}

fn superblock(input: &[u8]) {
    let Some(bytes) = checked(input) else { return };
    if let Ok(found) = superblock::decode(Path::new(""), &bytes) {
        assert_eq!(superblock::encode(&found), bytes);
    }
}

fn identity(input: &[u8]) {
    let Some(bytes) = checked(input) else { return };
    if let Some(identity) = decode_identity(&bytes) {
        assert_eq!(identity.id(), identity.public_key().id());
    }
}

fn peers(input: &[u8]) {
    let Some(bytes) = checked(input) else { return };
    if let Some(peers) = decode_peers(&bytes) {
        assert_eq!(decode_peers(&encode_peers(&peers)), Some(peers));
    }
}

fn register(input: &[u8]) {
    let Some(bytes) = checked(input) else { return };
    if let Some(register) = decode_register(&bytes) {
        assert_eq!(register.encode(), bytes[8..bytes.len() - 4]);
    }
}

/// What is heard before anybody is known.
fn hello(input: &[u8]) {
    if let Ok(hello) = Hello::decode(input) {
        assert_eq!(hello.encode(), input);
    }
    if let Some(proof) = Proof::decode(input) {
        assert_eq!(proof.encode(), input);
    }
    let refusal = Refusal::decode(input);
    assert_eq!(Refusal::decode(&refusal.encode()), refusal);
}

const LIMIT: usize = 3000;

/// How (odd: put checks right), length of the pieces, the stream.
fn frames(input: &[u8]) {
    let Some(([how, piece], rest)) = input.split_first_chunk::<2>() else { return };
    let mut stream = rest.to_vec();
    if how & 1 == 1 {
        repair_frames(&mut stream);
    }
    let found = cut(&stream, 1 + usize::from(*piece));
    let mut again = Vec::new();
    for frame in &found {
        write_frame(&mut again, frame.kind, frame.flags, &[&frame.payload]).expect("memory takes all");
    }
    assert!(stream.starts_with(&again), "nothing is made up");
    assert_eq!(cut(&stream, stream.len().max(1)), found, "however the stream is cut");
}

fn cut(mut stream: &[u8], piece: usize) -> Vec<Frame> {
    let mut decoder = Decoder::new(256, LIMIT);
    let mut found = Vec::new();
    loop {
        match decoder.next_frame() {
            Ok(Some(frame)) => found.push(frame),
            Ok(None) if stream.is_empty() => return found,
            Ok(None) => {
                let space = decoder.space();
                assert!(!space.is_empty(), "there is always room for more");
                let count = space.len().min(stream.len()).min(piece);
                space[..count].copy_from_slice(&stream[..count]);
                stream = &stream[count..];
                decoder.filled(count);
            }
            Err(error) => {
                assert_eq!(decoder.next_frame(), Err(error), "after an error the stream is over");
                return found;
            }
        }
    }
}

fn repair_frames(mut stream: &mut [u8]) {
    while let Some((header, rest)) = std::mem::take(&mut stream).split_first_chunk_mut::<HEADER_BYTES>() {
        let Ok(read) = Header::decode(header, LIMIT) else { return };
        if rest.len() < read.length {
            return;
        }
        let (payload, after) = rest.split_at_mut(read.length);
        let check = crc32c::crc32c_append(crc32c::crc32c(&header[..8]), payload);
        header[8..].copy_from_slice(&check.to_le_bytes());
        stream = after;
    }
}

/// Odd: the rest is the key's bytes; else it is the text.
fn connection_key(input: &[u8]) {
    use base64::Engine;
    let Some((how, rest)) = input.split_first() else { return };
    let text = match how & 1 {
        0 => String::from_utf8_lossy(rest).into_owned(),
        _ => {
            let bytes = checked(input).unwrap_or_default();
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
        }
    };
    if let Ok(key) = text.parse::<ConnectionKey>() {
        assert_eq!(key.to_string().parse(), Ok(key));
    }
}

fn place(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input)
        && let Ok(place) = Place::parse(text)
    {
        assert!(text.starts_with(place.pod.as_str()));
    }
}

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    #[test]
    fn kept_inputs_of_the_fuzzer_are_taken_or_refused() {
        super::replay::all(super::TARGETS);
    }
}
