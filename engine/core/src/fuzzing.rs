//! Doors for fuzzing: everything here that reads bytes from media or a peer, with what must hold of any bytes.
//!
//! Built for fuzz/ and for the replay of its kept inputs in this crate's tests; in no other build. What a target is:
//! fuzzing.rs of the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use metropod_journal::Record;
use metropod_protocol::{ArrayId, PodId};
use metropod_snapshots::{Layer, LayerId, Slot, Table};

use crate::codec::Reader;
use crate::journal_record::{JournalRecord, stream_of};
use crate::manifest::{self, Manifest};
use crate::namespace::Namespace;
use crate::operation::{self, BLOCK_BYTES, Operation};
use crate::peer_message::{SyncFrame, decode_bulk};
use crate::run_file;
use crate::transfer::{Message, Touched};

/// Name, heap that it may take in bytes, and what runs an input.
pub type Target = (&'static str, usize, fn(&[u8]));

/// Every target of this crate.
pub const TARGETS: &[Target] = &[
    ("core.operation", 1 << 20, operation),
    ("core.journal_record", 1 << 20, journal_record),
    ("core.namespace", 1 << 20, namespace),
    ("core.manifest", 1 << 20, manifest),
    ("core.run_file", 1 << 20, run_file),
    ("core.sync_frame", 1 << 20, sync_frame),
    ("core.transfer", 1 << 20, transfer),
    ("core.touched", 1 << 20, touched),
];

/// Length of the attachment, which comes last.
fn split(input: &[u8]) -> Option<(Bytes, Bytes)> {
    let (attached, rest) = input.split_first()?;
    let (head, attachment) = rest.split_at(rest.len().saturating_sub(usize::from(*attached)));
    Some((Bytes::copy_from_slice(head), Bytes::copy_from_slice(attachment)))
}

fn operation(input: &[u8]) {
    let Some((descriptor, attachment)) = split(input) else { return };
    let touches = operation::touches(&descriptor);
    let Ok(operation) = Operation::decode(descriptor.clone(), attachment.clone()) else { return };
    if let Some(range) = operation.touches() {
        assert_eq!(touches, Some(range), "what is touched can be told from the descriptor alone");
    }
    if let Operation::Write { offset, length, pieces, .. } = &operation {
        assert_eq!(pieces.len(), operation::shares(*offset, *length).count());
        assert!(*length <= operation::WRITE_BYTES_MAX && BLOCK_BYTES > 0);
    }
    assert_eq!(operation.encode(), (descriptor, attachment));
}

fn journal_record(input: &[u8]) {
    let Some((body, attachment)) = split(input) else { return };
    let record = Record { stream: stream_of(PodId([1; 16])), index: 1, body, attachment };
    if let Ok(decoded) = JournalRecord::decode(&record) {
        assert_eq!(decoded.encode_body(), record.body);
        let entry = matches!(decoded, JournalRecord::Entry { .. });
        assert!(!entry || decoded.attachment() == record.attachment);
    }
}

fn namespace(input: &[u8]) {
    let mut reader = Reader::new(Bytes::copy_from_slice(input));
    let Ok(namespace) = Namespace::decode(&mut reader) else { return };
    let mut again = BytesMut::new();
    namespace.encode(&mut again);
    let mut reader = Reader::new(again.freeze());
    assert_eq!(Namespace::decode(&mut reader).as_ref(), Ok(&namespace));
    assert_eq!(reader.end(), Ok(()));
    let _ = (namespace.provisioned_bytes(), namespace.destroyed_things().count());
}

/// How (1: put the check right), the manifest.
fn manifest(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else { return };
    let mut bytes = rest.to_vec();
    if let Some(at) = bytes.len().checked_sub(4).filter(|_| how & 1 == 1) {
        let check = crc32c::crc32c(&bytes[..at]);
        bytes[at..].copy_from_slice(&check.to_le_bytes());
    }
    let layers: BTreeMap<LayerId, Arc<Layer>> = (4..8).map(layer).collect();
    let Some(manifest) = read_manifest(&bytes.into(), &layers) else { return };
    let pods: BTreeSet<PodId> = manifest.pods.iter().map(|pod| pod.id).collect();
    assert_eq!(pods.len(), manifest.pods.len(), "each pod is there once");
    let again = manifest::encode(&manifest);
    let second = read_manifest(&again, &layers).expect("what was encoded can be read");
    assert_eq!(manifest::encode(&second), again);
}

fn layer(id: u64) -> (LayerId, Arc<Layer>) {
    let mut table = Table::new();
    table.set(id, Slot::Zero);
    (LayerId(id), Arc::new(Layer::freeze(LayerId(id), table)))
}

fn read_manifest(bytes: &Bytes, layers: &BTreeMap<LayerId, Arc<Layer>>) -> Option<Manifest> {
    let (header, reader) = manifest::open(bytes).ok()?;
    let pods = manifest::pods(reader, layers).ok()?;
    let manifest::Header { array, number, next_layer, journal_from, store, places } = header;
    Some(Manifest { number, array, next_layer, journal_from, store, places, pods })
}

fn run_file(input: &[u8]) {
    let array = ArrayId([0xa1; 16]);
    let checked = run_file::check(input, array, 7);
    let head = run_file::encode(array, 7);
    if checked.is_ok() {
        // Two reserved bytes may say anything.
        assert_eq!(input[..10], head[..10]);
        assert_eq!(input[12..36], head[12..36]);
    }
}

fn sync_frame(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    if let Ok(frame) = SyncFrame::decode(bytes.clone()) {
        assert_eq!(frame.encode(), bytes);
    }
    if let Ok((pod, message)) = decode_bulk(bytes.clone()) {
        assert_eq!([&pod.0[..], &message].concat(), bytes);
    }
}

fn transfer(input: &[u8]) {
    let Ok(message) = Message::decode(Bytes::copy_from_slice(input)) else { return };
    let again = message.encode().concat();
    assert_eq!(message.wire_bytes(), again.len() as u64);
    assert_eq!(Message::decode(again.into()), Ok(message));
}

fn touched(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    let mut reader = Reader::new(bytes.clone());
    let Ok(touched) = Touched::decode(&mut reader) else { return };
    let mut again = BytesMut::new();
    touched.encode(&mut again);
    assert_eq!(Touched::decode(&mut Reader::new(again.freeze())), Ok(touched));
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
