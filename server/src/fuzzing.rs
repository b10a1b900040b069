//! Doors for fuzzing: everything here that reads bytes from clients or operators, with what must hold of any bytes.
//!
//! Built for fuzz/ and for the replay of its kept inputs in this crate's tests; in no other build. What a target is:
//! fuzzing.rs of the journal.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::shapes;
use crate::cli;
use crate::nbd::fuzzing as nbd;

/// Name, heap that it may take in bytes, and what runs an input.
pub type Target = (&'static str, usize, fn(&[u8]));

/// Every target of this crate.
pub const TARGETS: &[Target] = &[
    ("server.nbd_options", 1 << 20, nbd::options),
    ("server.nbd_requests", 1 << 20, nbd::requests),
    ("server.nbd_handshake", 1 << 20, nbd::handshake),
    ("server.rest_bodies", 1 << 20, rest_bodies),
    ("server.rest_answers", 1 << 20, rest_answers),
    ("server.arguments", 1 << 20, arguments),
];

/// Kind of body, body.
fn rest_bodies(input: &[u8]) {
    let Some((kind, body)) = input.split_first() else { return };
    match kind % 10 {
        0 => json::<shapes::ConnectRequest>(body),
        1 => json::<shapes::CreatePodRequest>(body),
        2 => json::<shapes::SetPodRequest>(body),
        3 => json::<shapes::ContentsRequest>(body),
        4 => json::<shapes::SetVolumeRequest>(body),
        5 => json::<shapes::OverwriteRequest>(body),
        6 => {
            json::<shapes::StretchRequest>(body);
            json::<shapes::SwitchRequest>(body);
            json::<shapes::UnstretchRequest>(body)
        }
        7 => json::<shapes::CreateVolumeRequest>(body),
        8 => json::<shapes::MoveRequest>(body),
        _ => json::<shapes::CreateSnapshotRequest>(body),
    }
}

/// What the command line reads from a server.
fn rest_answers(input: &[u8]) {
    let Some((kind, body)) = input.split_first() else { return };
    match kind % 5 {
        0 => json::<shapes::ArrayShape>(body),
        1 => json::<Vec<shapes::PodShape>>(body),
        2 => json::<Vec<shapes::VolumeShape>>(body),
        3 => json::<shapes::DiffShape>(body),
        _ => json::<Vec<shapes::SnapshotShape>>(body),
    }
}

fn json<T: DeserializeOwned + Serialize + PartialEq + Debug>(body: &[u8]) {
    if let Ok(document) = serde_json::from_slice::<T>(body) {
        let again = serde_json::to_vec(&document).expect("these documents have a text");
        assert_eq!(serde_json::from_slice::<T>(&again).expect("which is one of them"), document);
    }
}

fn arguments(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(size) = text.parse::<cli::SizeBytes>() {
        assert!(!size.to_string().is_empty());
    }
    if let Ok(span) = text.parse::<cli::SpanMs>() {
        assert!(!span.to_string().is_empty());
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
