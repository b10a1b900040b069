//! Bytes of messages.

use bytes::{Bytes, BytesMut};
use metropod_dedupe::{Compression, Digest, pack};
use metropod_protocol::{Chain, ConfigId, Index, PodId, Position};
use metropod_snapshots::{Extent, Slot};
use proptest::prelude::*;

use crate::names::{Name, SnapshotId, VolumeId};
use crate::namespace::{Namespace, Snapshot, Volume};
use crate::transfer::{AbortReason, Base, Begin, Body, Message, Point, Reach, Target};

fn bytes_of(message: &Message) -> Bytes {
    let mut out = BytesMut::new();
    message.encode().iter().for_each(|part| out.extend_from_slice(part));
    out.freeze()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn position(index: u64) -> Position {
    Position { config: ConfigId([1; 16]), index: Index(index), chain: Chain([2; 32]) }
}

fn begin() -> Begin {
    let name = |name| Name::new(name).unwrap();
    let mut namespace = Namespace::new(name("p"));
    namespace.volumes.insert(VolumeId(4), Volume::new(name("v"), 1 << 20));
    namespace.volumes.insert(VolumeId(9), Volume::new(name("w"), 1 << 21));
    let snapshot = SnapshotId { volume: VolumeId(4), taken_at: 6 };
    namespace.snapshots.insert(snapshot, Snapshot::new(name("s"), 1 << 20));
    let mut bytes = BytesMut::new();
    namespace.encode(&mut bytes);
    Begin {
        pod: PodId([5; 16]),
        round: 3,
        from: Some((position(5), Reach::Beyond { through: Index(8) })),
        to: position(11),
        namespace: bytes.freeze(),
        points: vec![
            Point { target: Target::Snapshot(snapshot), base: Base::Common },
            Point { target: Target::Volume(VolumeId(4)), base: Base::Previous },
            Point { target: Target::Volume(VolumeId(9)), base: Base::Nothing },
        ],
    }
}

fn message(body: Body) -> Message {
    Message { round: 3, body }
}

fn one_of_each() -> Vec<Message> {
    let entries = vec![
        Extent::zero(3..1000),
        Extent::data(1000, Digest([1; 32])),
        Extent::data((1 << 40) - 1, Digest([2; 32])),
    ];
    let payloads = vec![
        pack(&[7; 4096], Compression::WhenItPays),
        pack(&(0..4096).map(|at| at as u8).collect::<Vec<_>>(), Compression::Never),
    ];
    let bodies = [
        Body::Begin(begin()),
        Body::Total { data_blocks: 77 },
        Body::Changes { seq: 1, point: 2, last: true, entries },
        Body::Need { seq: 1, lacking: vec![true, false, true, true, false, false, false, false, true] },
        Body::Chunks { seq: 1, payloads },
        Body::Done { seq: 1 },
        Body::End { check: [8; 32] },
        Body::Ready { check: [8; 32] },
        Body::Flipped,
        Body::Abort(AbortReason::Corrupt),
    ];
    bodies.into_iter().map(message).collect()
}

#[test]
fn every_message_survives_encoding_and_no_prefix_of_it_does() {
    for message in one_of_each() {
        let bytes = bytes_of(&message);
        assert_eq!(bytes.len() as u64, message.wire_bytes());
        assert_eq!(Message::decode(bytes.clone()).as_ref(), Ok(&message));
        let step = (bytes.len() / 400).max(1);
        for cut in (0..bytes.len()).step_by(step) {
            assert!(Message::decode(bytes.slice(..cut)).is_err(), "{cut} bytes of {message:?}");
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(Message::decode(longer.into()).is_err());
    }
}

/// docs/format-transfer.md: a change here is a change of format.
#[test]
fn the_bytes_of_messages_are_frozen() {
    let golden = [
        (Body::Total { data_blocks: 0x0102 }, "050203000000000000000201000000000000"),
        (
            Body::Changes {
                seq: 1,
                point: 2,
                last: true,
                entries: vec![Extent::zero(3..200), Extent::data(200, Digest([0xaa; 32]))],
            },
            "05030300000000000000010000000000000002000000010200000007c50100\
             aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ),
        (
            Body::Need { seq: 1, lacking: vec![true, false, true, false, false, false, false, false, true] },
            "050403000000000000000100000000000000090000000501",
        ),
        (Body::Done { seq: 9 }, "050603000000000000000900000000000000"),
        (Body::Flipped, "05090300000000000000"),
        (Body::Abort(AbortReason::Storage), "050a030000000000000004"),
    ];
    for (body, expected) in golden {
        assert_eq!(hex(&bytes_of(&message(body))), expected);
    }
    let digest = blake3::hash(&bytes_of(&message(Body::Begin(begin()))));
    assert_eq!(digest.to_hex()[..16], *"a548912b09809684");
}

#[test]
fn a_begin_that_contradicts_itself_is_refused() {
    let volume = |id| Target::Volume(VolumeId(id));
    let refused: Vec<fn(&mut Begin)> = vec![
        |begin| begin.points.swap(0, 1),
        |begin| begin.points[2].target = Target::Volume(VolumeId(10)),
        |begin| begin.points.truncate(2),
        |begin| begin.points[1].base = Base::Nothing,
        |begin| begin.points[2].base = Base::Previous,
        |begin| begin.points[1].base = Base::Common,
        |begin| begin.points.push(begin.points[2]),
        |begin| begin.from = None,
        |begin| begin.namespace = begin.namespace.slice(1..),
    ];
    assert_eq!(begin().points[2].target, volume(9));
    for (number, change) in refused.into_iter().enumerate() {
        let mut begin = begin();
        change(&mut begin);
        assert!(Message::decode(bytes_of(&message(Body::Begin(begin)))).is_err(), "change {number}");
    }
    let mut other_round = message(Body::Begin(begin()));
    other_round.round = 4;
    assert!(Message::decode(bytes_of(&other_round)).is_err());
}

#[test]
fn entries_that_no_sender_writes_are_refused() {
    let refused = [
        Body::Changes { seq: 1, point: 0, last: true, entries: vec![Extent::data(1 << 40, Digest([1; 32]))] },
        Body::Changes { seq: 1, point: 0, last: true, entries: vec![Extent::zero(5..(1 << 40) + 1)] },
        Body::Changes { seq: 1, point: 0, last: true, entries: vec![Extent::zero(5..5)] },
        Body::Need { seq: 1, lacking: vec![true; crate::transfer::BATCH_ENTRIES_MAX + 1] },
        Body::Changes {
            seq: 1,
            point: 0,
            last: false,
            entries: (0..=crate::transfer::BATCH_ENTRIES_MAX as u64)
                .map(|at| Extent::zero(2 * at..2 * at + 1))
                .collect(),
        },
        Body::Changes {
            seq: 1,
            point: 0,
            last: false,
            entries: vec![Extent { blocks: 4..5, slot: Slot::Data(Digest::ZERO) }],
        },
    ];
    for body in refused {
        assert!(Message::decode(bytes_of(&message(body.clone()))).is_err(), "{body:?}");
    }
}

fn entries() -> impl Strategy<Value = Vec<Extent>> {
    prop::collection::vec((0..1u64 << 20, 1..1u64 << 20, any::<Option<[u8; 32]>>()), 0..60).prop_map(|rows| {
        let mut end = 0;
        let extents = rows.into_iter().map(|(gap, length, digest)| {
            let start = end + gap;
            let extent = match digest {
                Some(digest) if digest != [0; 32] => Extent::data(start, Digest(digest)),
                _ => Extent::zero(start..start + length),
            };
            end = extent.blocks.end;
            extent
        });
        extents.collect()
    })
}

proptest! {
    #[test]
    fn any_changes_survive_encoding(seq: u64, point: u32, last: bool, entries in entries()) {
        let message = message(Body::Changes { seq, point, last, entries });
        let bytes = bytes_of(&message);
        prop_assert_eq!(bytes.len() as u64, message.wire_bytes());
        prop_assert_eq!(Message::decode(bytes), Ok(message));
    }

    #[test]
    fn no_bytes_make_decoding_panic(kind in 0u8..12, rest in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = vec![1, kind];
        bytes.extend(rest);
        if let Ok(message) = Message::decode(bytes.into()) {
            prop_assert_eq!(Message::decode(bytes_of(&message)), Ok(message));
        }
    }

    #[test]
    fn no_flipped_bits_make_decoding_panic(which in 0usize..10, at: prop::sample::Index, bit in 0u8..8) {
        let mut bytes = bytes_of(&one_of_each()[which]).to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        drop(Message::decode(bytes.into()));
    }
}
