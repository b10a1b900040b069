//! The core's bytes, frozen: docs/format.md in hexadecimal. A change here is a change of format and needs a version.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use metropod_dedupe::{Digest, Form, Payload};
use metropod_journal::{Lsn, Record};
use metropod_protocol::{
    ArrayId, Body, Chain, ConfigId, Configuration, DurableRecord, DurableState, Entry, Epoch, HistoryItem,
    Incarnation, Index, Learned, MediatorId, Members, OutOfSync, PodId, Position, RegisterId, Right, Ticket,
};
use metropod_snapshots::{Image, Layer, LayerId, Root, Slot, VolumeMap};

use crate::checkpoint::{LayerPlace, PodDraft};
use crate::codec::Reader;
use crate::journal_record::{JournalRecord, stream_of};
use crate::manifest::{self, Manifest};
use crate::names::{Name, SnapshotId, VolumeId};
use crate::namespace::{Arrived, Destroyed, Limits, Moving, Namespace, PodImage, Snapshot, Volume};
use crate::operation::{Arrival, Content, Manage, Operation, Piece, Target};
use crate::peer_message::{SyncFrame, decode_bulk};
use crate::pod::ForkPoint;
use crate::transfer::Touched;

const A: ArrayId = ArrayId([0xa1; 16]);
const B: ArrayId = ArrayId([0xb2; 16]);
const POD: PodId = PodId([0xcc; 16]);
const CONFIG: ConfigId = ConfigId([0xdd; 16]);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn position(index: u64) -> Position {
    Position { config: CONFIG, index: Index(index), chain: Chain([0xee; 32]) }
}

fn pair() -> Configuration {
    Configuration {
        epoch: Epoch { era: 1, number: 6 },
        id: CONFIG,
        members: Members::pair(A, B),
        sequencer: B,
        right: Right::Mediator { mediator: MediatorId([0x3e; 16]), register: RegisterId([0x4f; 16]) },
        ground: metropod_protocol::Ground::Agreed,
    }
}

fn alone() -> Configuration {
    Configuration {
        members: Members::one(A),
        sequencer: A,
        right: Right::Array(A),
        ground: metropod_protocol::Ground::Granted,
        ..pair()
    }
}

fn mark() -> OutOfSync {
    OutOfSync { fork: position(3), survivor: ConfigId([0x5a; 16]), after: Index(4), first_time: true }
}

fn learned() -> Learned {
    Learned { epoch: Epoch { era: 1, number: 8 }, holder: Some(B) }
}

fn entry(body: Body) -> Entry {
    Entry {
        config: CONFIG,
        index: Index(0x1122),
        committed: Index(0x1121),
        origin: B,
        origin_incarnation: Incarnation(3),
        origin_request: 0x44,
        chain: Chain([0xee; 32]),
        body,
    }
}

fn operations() -> [Operation; 28] {
    let volume = VolumeId(9);
    let snapshot = SnapshotId { volume, taken_at: 10 };
    let payload = Payload { form: Form::Lz4, raw_len: 4096, bytes: Bytes::from_static(b"lz4") };
    [
        Operation::Write {
            volume,
            offset: 4096 - 512,
            length: 512 + 4096 + 4096,
            pieces: vec![
                Piece::Partial(Bytes::from(vec![0x11; 512])),
                Piece::Data { digest: Digest([0x77; 32]), payload },
                Piece::Zero,
            ],
        },
        Operation::Zero { volume, offset: 512, length: 1 << 30 },
        Operation::Manage(Manage::CreateVolume { name: name("vol1"), size_bytes: 1 << 20 }),
        Operation::Manage(Manage::CreateSnapshot { volume: None, suffix: name("s1") }),
        Operation::Manage(Manage::CreateSnapshot { volume: Some(name("vol1")), suffix: name("s1") }),
        Operation::Manage(Manage::CloneVolume {
            source: name("vol1"),
            suffix: Some(name("s1")),
            name: name("vol2"),
        }),
        Operation::Manage(Manage::SetPreference(Some(A))),
        Operation::Manage(Manage::Invite { host: A, joiner: B }),
        Operation::Manage(Manage::Resize { volume, size_bytes: 1 << 21, truncate: false }),
        Operation::Manage(Manage::Destroy { target: Target::Pod, contents: true, delay_ms: 0x77 }),
        Operation::Manage(Manage::Destroy {
            target: Target::Volume(volume),
            contents: false,
            delay_ms: 0x77,
        }),
        Operation::Manage(Manage::Destroy {
            target: Target::Snapshot(snapshot),
            contents: false,
            delay_ms: 0x77,
        }),
        Operation::Manage(Manage::Recover(Target::Volume(volume))),
        Operation::Manage(Manage::Eradicate { target: Target::Pod, contents: true, waited: None }),
        Operation::Manage(Manage::Eradicate {
            target: Target::Volume(volume),
            contents: false,
            waited: Some(Index(0x66)),
        }),
        Operation::Manage(Manage::Elapsed { since: Index(0x66), ms: 0x77 }),
        Operation::Manage(Manage::Overwrite { volume, from: Content::Volume(VolumeId(8)) }),
        Operation::Manage(Manage::Overwrite { volume, from: Content::Snapshot(snapshot) }),
        Operation::Manage(Manage::SetQuota(Some(1 << 30))),
        Operation::Manage(Manage::SetQuota(None)),
        Operation::Manage(Manage::SetEradicationDelay(86_400_000)),
        Operation::Manage(Manage::SetLimits { volume, limits: Limits { iops: 0x88, bytes_per_s: 1 << 20 } }),
        Operation::Manage(Manage::Resize { volume, size_bytes: 1 << 20, truncate: true }),
        Operation::Manage(Manage::MoveOut { volume, to: POD }),
        Operation::Manage(Manage::MoveIn(Arrival {
            from: POD,
            by: Index(0x66),
            through: Index(0x67),
            volume,
            name: name("vol1"),
            size_bytes: 1 << 20,
            limits: Limits { iops: 0x88, bytes_per_s: 1 << 20 },
            left_ms: 0x99,
        })),
        Operation::Manage(Manage::MoveEnd { by: Index(0x66), stays: true }),
        Operation::Manage(Manage::Leave(B)),
        Operation::Manage(Manage::Left(B)),
    ]
}

#[test]
fn operations_have_the_documented_bytes() {
    for (operation, (descriptor, attachment)) in operations().into_iter().zip(OPERATIONS) {
        let (found, carried) = operation.encode();
        // The partial piece's content is long and says nothing.
        let found_hex = hex(&found).replace(&"11".repeat(512), "(512 x 11)");
        assert_eq!((found_hex.as_str(), hex(&carried).as_str()), (descriptor, attachment));
        assert_eq!(Operation::decode(found, carried), Ok(operation));
    }
}

#[test]
fn journal_record_bodies_have_the_documented_bytes() {
    let ticket = Ticket(0x55);
    let operation = Body::Operation {
        descriptor: Bytes::from_static(b"descriptor"),
        attachment: Bytes::from_static(b"attachment"),
    };
    let entries = [operation, Body::Mark, Body::Configuration(pair()), Body::Configuration(alone())];
    let entries = entries.map(|body| JournalRecord::Entry { ticket, entry: entry(body) });
    let states = [
        DurableRecord::Incarnation(Incarnation(3)),
        DurableRecord::KnownConfig { index: Index(0x1122), in_sync: true },
        DurableRecord::OutOfSync(mark()),
        DurableRecord::Learned(learned()),
        DurableRecord::Cut { keep: Index(0x1120) },
    ];
    let states = states.map(|record| JournalRecord::State { ticket, record });
    let freeze = JournalRecord::Freeze { config: CONFIG, index: Index(0x1122) };
    for (record, golden) in entries.into_iter().chain(states).chain([freeze]).zip(JOURNAL_RECORDS) {
        let (body, attachment) = (record.encode_body(), record.attachment());
        assert_eq!(hex(&body), golden);
        let stored = Record { stream: stream_of(POD), index: 0, body, attachment };
        assert_eq!(JournalRecord::decode(&stored), Ok(record));
    }
}

/// A volume with a tree and a layer, a snapshot of it, one layer shared by the fork point.
fn image() -> (PodImage, Arc<Layer>) {
    let (volume, snapshot) = (VolumeId(2), SnapshotId { volume: VolumeId(2), taken_at: 3 });
    let mut map = VolumeMap::new(1 << 20).unwrap();
    map.set(1, Slot::Data(Digest([0x77; 32])));
    let frozen = map.freeze(LayerId(5));
    let layer = frozen.layers()[0].clone();
    let root = Some(Root { digest: Digest([0x99; 32]), height: 2 });
    let folded = Image::new(1 << 20, root, vec![layer.clone()]).unwrap();
    let namespace = Namespace {
        name: name("pod1"),
        volumes: BTreeMap::from([(
            volume,
            Volume {
                limits: Limits { iops: 0x88, bytes_per_s: 1 << 20 },
                destroyed: Some(Destroyed { by: Index(0x98), left_ms: 0x99 }),
                last_snapshot: 0x9d,
                ..Volume::new(name("vol1"), 1 << 20)
            },
        )]),
        snapshots: BTreeMap::from([(snapshot, Snapshot::new(name("s1"), 1 << 20))]),
        preferred: Some(B),
        peer: Some((A, B)),
        leaving: Some(B),
        counted_from: Index(0x66),
        eradication_delay_ms: 0x77,
        quota_bytes: Some(1 << 30),
        destroyed: None,
        moving: Some(Moving { volume, to: POD, by: Index(0x9a) }),
        arrived: BTreeMap::from([(POD, Arrived { by: Index(0x9b), volume: VolumeId(0x9c) })]),
    };
    let volumes = BTreeMap::from([(volume, folded)]);
    (PodImage { namespace, volumes, snapshots: BTreeMap::from([(snapshot, frozen)]) }, layer)
}

pub(crate) fn some_state() -> DurableState {
    DurableState {
        incarnation: Incarnation(3),
        known_config: Index(1),
        out_of_sync: Some(mark()),
        learned: learned(),
        base: position(4),
        history: vec![HistoryItem { configuration: pair(), first: Index(1), chain_before: Chain::EMPTY }],
        ticket: Ticket(0x55),
    }
}

fn small_manifest() -> (Manifest, Arc<Layer>) {
    let (image, layer) = image();
    let mut touched = Touched::new(Index(5));
    touched.add(VolumeId(2), 8192, 4096);
    let empty = PodImage {
        namespace: Namespace::new(name("pod1")),
        volumes: BTreeMap::new(),
        snapshots: BTreeMap::new(),
    };
    let state = some_state();
    let fork = ForkPoint { config: CONFIG, at: position(4), image: empty, touched: Some(touched) };
    let manifest = Manifest {
        number: 7,
        array: A,
        next_layer: 6,
        journal_from: Lsn(0x33),
        store: Bytes::from_static(b"state of the store"),
        places: BTreeMap::from([(LayerId(5), LayerPlace { run: 7, offset: 0x40, length: 0x50 })]),
        pods: vec![PodDraft { id: POD, state, applied: Index(4), since: Lsn(0x21), image, fork: Some(fork) }],
    };
    (manifest, layer)
}

#[test]
fn a_manifest_has_the_documented_bytes_and_reads_back() {
    let (manifest, layer) = small_manifest();
    let bytes = manifest::encode(&manifest);
    assert_eq!(hex(&bytes), MANIFEST.concat());
    let (header, rest) = manifest::open(&bytes).unwrap();
    assert_eq!((header.number, header.array, header.next_layer), (7, A, 6));
    assert_eq!((header.journal_from, header.places), (Lsn(0x33), manifest.places.clone()));
    let pods = manifest::pods(rest, &BTreeMap::from([(LayerId(5), layer)])).unwrap();
    assert_eq!(manifest::encode(&Manifest { pods, ..manifest }), bytes);
}

#[test]
fn a_damaged_or_foreign_manifest_is_refused() {
    let bytes = manifest::encode(&small_manifest().0);
    for bit in 0..bytes.len() * 8 {
        let mut damaged = BytesMut::from(&bytes[..]);
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(manifest::open(&damaged.freeze()).is_err(), "bit {bit}");
    }
    for cut in 0..bytes.len() {
        assert!(manifest::open(&bytes.slice(..cut)).is_err(), "cut at {cut}");
    }
}

#[test]
fn frames_between_cores_have_the_documented_bytes() {
    let frames = [
        SyncFrame::Protocol(POD, Bytes::from_static(b"head"), Bytes::from_static(b"attachment")),
        SyncFrame::Invite(POD, name("pod1")),
        SyncFrame::InviteAnswer(POD, true),
        SyncFrame::NotMember(POD),
        SyncFrame::Switch(POD, B),
    ];
    for (frame, golden) in frames.into_iter().zip(SYNC_FRAMES) {
        assert_eq!(hex(&frame.encode()), golden);
        assert_eq!(SyncFrame::decode(frame.encode()), Ok(frame));
    }
    let bulk = [&POD.0[..], b"message"].concat();
    assert_eq!(decode_bulk(bulk.into()), Ok((POD, Bytes::from_static(b"message"))));
}

#[test]
fn touched_blocks_have_the_documented_bytes() {
    let mut touched = Touched::new(Index(5));
    touched.add(VolumeId(2), 8192, 4096);
    let mut out = BytesMut::new();
    touched.encode(&mut out);
    assert_eq!(hex(&out), TOUCHED);
    assert_eq!(Touched::decode(&mut Reader::new(out.freeze())), Ok(touched));
}

/// Descriptor and attachment.
#[rustfmt::skip]
const OPERATIONS: [(&str, &str); 28] = [
    // write: a partial piece, a compressed data piece, a zero piece
    ("010900000000000000000e000000000000002200000000000002(512 x 11)01777777777777777777777777777777777777777777777777777777777777777700", "0103006c7a34"),
    // zero
    ("02090000000000000000020000000000000000004000000000", ""),
    // create volume
    ("030104000000766f6c310000100000000000", ""),
    // snapshot of the pod
    ("030200020000007331", ""),
    // snapshot of a volume
    ("03020104000000766f6c31020000007331", ""),
    // clone of a snapshot
    ("030304000000766f6c310102000000733104000000766f6c32", ""),
    // set preference
    ("030401a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1", ""),
    // invite
    ("0305a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2", ""),
    // resize
    ("03060900000000000000000020000000000000", ""),
    // destroy the pod with its contents
    ("030700017700000000000000", ""),
    // destroy a volume
    ("0307010900000000000000007700000000000000", ""),
    // destroy a snapshot
    ("03070209000000000000000a00000000000000007700000000000000", ""),
    // recover a volume
    ("0308010900000000000000", ""),
    // eradicate the pod with its contents
    ("0309000100", ""),
    // eradicate a volume that has waited since entry 0x66
    ("030901090000000000000000016600000000000000", ""),
    // elapsed
    ("030a66000000000000007700000000000000", ""),
    // overwrite with a volume
    ("030b0900000000000000010800000000000000", ""),
    // overwrite with a snapshot
    ("030b09000000000000000209000000000000000a00000000000000", ""),
    // set quota
    ("030c010000004000000000", ""),
    // clear quota
    ("030c00", ""),
    // set eradication delay
    ("030d005c260500000000", ""),
    // set limits
    ("030e090000000000000088000000000000000000100000000000", ""),
    // truncate
    ("03060900000000000000000010000000000001", ""),
    ("030f0900000000000000cccccccccccccccccccccccccccccccc", ""),
    ("0310cccccccccccccccccccccccccccccccc66000000000000006700000000000000090000000000000004000000766f6c310000100000000000880000000000000000001000000000009900000000000000", ""),
    ("0311660000000000000001", ""),
    // leave
    ("0312b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2", ""),
    // left
    ("0313b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2", ""),
];

#[rustfmt::skip]
const JOURNAL_RECORDS: [&str; 10] = [
    // entry: operation
    "0155000000000000000100dddddddddddddddddddddddddddddddd22110000000000002111000000000000b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b203000000000000004400000000000000eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee64657363726970746f72",
    // entry: mark
    "0155000000000000000101dddddddddddddddddddddddddddddddd22110000000000002111000000000000b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b203000000000000004400000000000000eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",
    // entry: configuration of two, right at the mediator
    "0155000000000000000102dddddddddddddddddddddddddddddddd22110000000000002111000000000000b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b203000000000000004400000000000000eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee010000000600000000000000dddddddddddddddddddddddddddddddd02a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2003e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f00",
    // entry: configuration of one
    "0155000000000000000102dddddddddddddddddddddddddddddddd22110000000000002111000000000000b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b203000000000000004400000000000000eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee010000000600000000000000dddddddddddddddddddddddddddddddd01a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a101a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a101",
    // incarnation
    "02015500000000000000000300000000000000",
    // known configuration
    "0201550000000000000001221100000000000001",
    // out of sync
    "020155000000000000000201dddddddddddddddddddddddddddddddd0300000000000000eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a040000000000000001",
    // learned
    "020155000000000000000301000000080000000000000001b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2",
    // cut
    "02015500000000000000042011000000000000",
    // fork freeze
    "03dddddddddddddddddddddddddddddddd2211000000000000",
];

#[rustfmt::skip]
const SYNC_FRAMES: [&str; 5] = [
    "00cccccccccccccccccccccccccccccccc04000000686561646174746163686d656e74",
    "01cccccccccccccccccccccccccccccccc04000000706f6431",
    "02cccccccccccccccccccccccccccccccc01",
    "03cccccccccccccccccccccccccccccccc",
    "04ccccccccccccccccccccccccccccccccb2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2",
];

const TOUCHED: &str = "050000000000000001000000020000000000000002000000000000000300000000000000";

/// Field by field.
#[rustfmt::skip]
const MANIFEST: [&str; 37] = [
    // magic
    "4d504f444d414e49",
    // version
    "0500",
    // array
    "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1",
    // number
    "0700000000000000",
    // next layer
    "0600000000000000",
    // first record needed
    "3300000000000000",
    // state of the store
    "120000007374617465206f66207468652073746f7265",
    // layers
    "01000000",
    // layer: id, run, offset, length
    "0500000000000000070000000000000040000000000000005000000000000000",
    // pods
    "01000000",
    // pod
    "cccccccccccccccccccccccccccccccc",
    // length of the state
    "5b010000",
    // version, incarnation, known configuration
    "0103000000000000000100000000000000",
    // out of sync
    "01dddddddddddddddddddddddddddddddd0300000000000000eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a040000000000000001",
    // learned
    "01000000080000000000000001b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2",
    // base
    "dddddddddddddddddddddddddddddddd0400000000000000eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",
    // history
    "01000000010000000600000000000000dddddddddddddddddddddddddddddddd02a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2003e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f0001000000000000000000000000000000000000000000000000000000000000000000000000000000",
    // ticket
    "5500000000000000",
    // applied
    "0400000000000000",
    // records before are another copy's
    "2100000000000000",
    // name
    "04000000706f6431",
    // volumes: one with limits, destroyed, with its last snapshot
    "01000000020000000000000004000000766f6c3100001000000000008800000000000000000010000000000001980000000000000099000000000000009d00000000000000",
    // snapshots
    "0100000002000000000000000300000000000000020000007331000010000000000000",
    // preferred
    "01b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2",
    // pair
    "01a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2",
    // who leaves
    "01b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2",
    // counted from, eradication delay
    "66000000000000007700000000000000",
    // quota, not destroyed
    "01000000400000000000",
    // a volume that leaves: volume, pod, entry
    "010200000000000000cccccccccccccccccccccccccccccccc9a00000000000000",
    // volumes that came: pod, entry, volume
    "01000000cccccccccccccccccccccccccccccccc9b000000000000009c00000000000000",
    // volume: size, root, layers
    "000010000000000001999999999999999999999999999999999999999999999999999999999999999902010000000500000000000000",
    // snapshot: size, no root, layers
    "000010000000000000010000000500000000000000",
    // fork: configuration
    "01dddddddddddddddddddddddddddddddd",
    // position
    "dddddddddddddddddddddddddddddddd0400000000000000eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",
    // its namespace
    "04000000706f643100000000000000000000000000000000000000005c26050000000000000000000000",
    // touched
    "01050000000000000001000000020000000000000002000000000000000300000000000000",
    // check
    "8deb2f5b",
];
