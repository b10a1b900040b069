//! The bytes of messages and of what is spoken with the mediator, frozen: docs/format.md in hexadecimal. A change here is a
//! change of format and needs a version. (Entries, configurations and durable states are frozen with the core's formats.)

use bytes::Bytes;
use metropod_protocol::mediator::{Refusal, Register};
use metropod_protocol::{
    Answer, ArrayId, Ask, Body, Chain, ConfigId, Configuration, Consent, Entry, Epoch, Frame, Ground, Hello,
    HistoryItem, Incarnation, Index, Learned, MediatorId, MediatorReply, MediatorRequest, MediatorStatus,
    Members, Message, Nonce, OutOfSync, PodId, Position, Record, RegisterId, Report, Right, SessionId,
    Statement,
};

const A: ArrayId = ArrayId([0xa1; 16]);
const B: ArrayId = ArrayId([0xb2; 16]);
const POD: PodId = PodId([0xcc; 16]);
const CONFIG: ConfigId = ConfigId([0xdd; 16]);
const CHAIN: Chain = Chain([0xee; 32]);
const EPOCH: Epoch = Epoch { era: 1, number: 6 };

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn position(index: u64) -> Position {
    Position { config: CONFIG, index: Index(index), chain: CHAIN }
}

fn statement() -> Statement {
    Statement {
        pod: POD,
        mediator: MediatorId([0x3e; 16]),
        expect: Some(RegisterId([0x4f; 16])),
        id: RegisterId([0x5a; 16]),
        epoch: EPOCH,
        members: Members::pair(A, B),
        config: CONFIG,
    }
}

fn record() -> Record {
    Record { id: RegisterId([0x5a; 16]), epoch: EPOCH, members: Members::one(A), from: None }
}

fn hello() -> Hello {
    let configuration = Configuration {
        epoch: EPOCH,
        id: CONFIG,
        members: Members::one(A),
        sequencer: A,
        right: Right::Array(A),
        ground: Ground::Granted,
    };
    let report = Report {
        history: vec![HistoryItem { configuration, first: Index(1), chain_before: Chain::EMPTY }],
        known_config: Index(1),
        base: position(2),
        end: position(4),
        committed: Index(3),
        out_of_sync: Some(OutOfSync {
            fork: position(2),
            survivor: CONFIG,
            after: Index(3),
            first_time: false,
        }),
        learned: Learned { epoch: EPOCH, holder: Some(B) },
    };
    let (incarnation, nonce) = (Incarnation(3), Nonce(0x1122_3344_5566_7788));
    Hello { pod: POD, from: A, incarnation, nonce, echo: Some((Incarnation(5), Nonce(6))), report }
}

fn frames() -> Vec<Frame> {
    let entry = Entry {
        config: CONFIG,
        index: Index(4),
        committed: Index(3),
        origin: A,
        origin_incarnation: Incarnation(3),
        origin_request: 9,
        chain: CHAIN,
        body: Body::Operation {
            descriptor: Bytes::from_static(b"what"),
            attachment: Bytes::from_static(b"attachment"),
        },
    };
    vec![
        Frame::Ready { base: position(2), end: position(4) },
        Frame::Entry(entry),
        Frame::Forward {
            request: 9,
            heartbeat: 8,
            descriptor: Bytes::from_static(b"what"),
            attachment: Bytes::from_static(b"attachment"),
        },
        Frame::Refused { request: 9 },
        Frame::Order { index: Index(4), request: 9, chain: CHAIN, committed: Index(3) },
        Frame::Durable { through: Index(4), committed: Index(3), known: Index(1) },
        Frame::Heartbeat { number: 8, serving: true, fit: false, mediator: MediatorStatus::Unreachable },
        Frame::Answer { number: 8, config: CONFIG },
        Frame::ConsentAsked(statement()),
        Frame::Consent { statement: statement(), signature: Bytes::from_static(b"signature") },
        Frame::RegisterSeen { config: CONFIG, record: Some(record()) },
        Frame::Carry { request: 7, ask: Ask::Read { pod: POD } },
        Frame::Carried { request: 7, answer: Answer::Register(None) },
    ]
}

#[test]
fn messages_have_the_documented_bytes() {
    let frames = frames().into_iter().map(|body| {
        let session = SessionId([0x77; 16]);
        Message::Frame { session, number: 2, body }
    });
    let opening =
        [Message::Hello(Box::new(hello())), Message::Busy { incarnation: Incarnation(3), echo: Nonce(6) }];
    let mut found = Vec::new();
    for message in opening.into_iter().chain(frames) {
        let (head, attachment) = message.encode();
        found.push(hex(&head));
        assert!(attachment.is_empty() || attachment == b"attachment"[..]);
        assert_eq!(Message::decode(head, attachment), Ok(message));
    }
    assert_eq!(found, MESSAGES);
}

#[test]
fn what_is_spoken_with_the_mediator_has_the_documented_bytes() {
    let consents = vec![Consent { array: B, signature: Bytes::from_static(b"signature") }];
    let asks = [
        Ask::Read { pod: POD },
        Ask::Swap { statement: statement(), consents: consents.clone(), preferred: Some(A) },
        Ask::Remove { statement: statement(), consents },
    ];
    let mut found = Vec::new();
    for ask in asks {
        let request = MediatorRequest { request: 7, ask };
        found.push(hex(&request.encode()));
        assert_eq!(MediatorRequest::decode(request.encode()), Ok(request));
    }
    let refused =
        [Refusal::Changed, Refusal::Absent, Refusal::Removed, Refusal::NoConsent, Refusal::WrongMediator];
    let refused = refused.into_iter().map(|reason| Answer::Refused { reason, record: None });
    let answers = [Answer::Register(Some(record())), Answer::Granted(record())];
    for answer in answers.into_iter().chain(refused) {
        let reply = MediatorReply { request: 7, pod: POD, answer };
        found.push(hex(&reply.encode()));
        assert_eq!(MediatorReply::decode(reply.encode()), Ok(reply));
    }
    for register in [Register::Absent, Register::Present(record()), Register::Removed] {
        found.push(hex(&register.encode()));
        assert_eq!(Register::decode(register.encode()), Ok(register));
    }
    found.push(hex(&statement().signed_bytes()));
    assert_eq!(found, MEDIATOR);
}

#[rustfmt::skip]
const MESSAGES: [&str; 15] = [
    // HELLO
    "0100cccccccccccccccccccccccccccccccca1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a103000000000000008877665544332211010500000000000000060000000000000001000000010000000600000000000000dddddddddddddddddddddddddddddddd01a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a101a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a101010000000000000000000000000000000000000000000000000000000000000000000000000000000100000000000000dddddddddddddddddddddddddddddddd0200000000000000eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeedddddddddddddddddddddddddddddddd0400000000000000eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee030000000000000001dddddddddddddddddddddddddddddddd0200000000000000eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeedddddddddddddddddddddddddddddddd03000000000000000001000000060000000000000001b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2",
    // BUSY
    "010103000000000000000600000000000000",
    // READY
    "0102777777777777777777777777777777770200000000000000dddddddddddddddddddddddddddddddd0200000000000000eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeedddddddddddddddddddddddddddddddd0400000000000000eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",
    // ENTRY
    "01037777777777777777777777777777777702000000000000000100dddddddddddddddddddddddddddddddd04000000000000000300000000000000a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a103000000000000000900000000000000eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee77686174",
    // FORWARD
    "01047777777777777777777777777777777702000000000000000900000000000000080000000000000077686174",
    // REFUSED
    "01057777777777777777777777777777777702000000000000000900000000000000",
    // ORDER
    "010677777777777777777777777777777777020000000000000004000000000000000900000000000000eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee0300000000000000",
    // DURABLE
    "0107777777777777777777777777777777770200000000000000040000000000000003000000000000000100000000000000",
    // HEARTBEAT
    "01087777777777777777777777777777777702000000000000000800000000000000010002",
    // ANSWER
    "01097777777777777777777777777777777702000000000000000800000000000000dddddddddddddddddddddddddddddddd",
    // CONSENT ASKED
    "010a777777777777777777777777777777770200000000000000cccccccccccccccccccccccccccccccc3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e014f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a01000000060000000000000002a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2dddddddddddddddddddddddddddddddd",
    // CONSENT
    "010b777777777777777777777777777777770200000000000000cccccccccccccccccccccccccccccccc3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e014f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a01000000060000000000000002a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2dddddddddddddddddddddddddddddddd090000007369676e6174757265",
    // REGISTER SEEN
    "010c777777777777777777777777777777770200000000000000dddddddddddddddddddddddddddddddd015a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a01000000060000000000000001a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a100",
    // CARRY
    "010d777777777777777777777777777777770200000000000000070000000000000000cccccccccccccccccccccccccccccccc",
    // CARRIED
    "010e77777777777777777777777777777777020000000000000007000000000000000000",
];

#[rustfmt::skip]
const MEDIATOR: [&str; 14] = [
    // READ
    "01070000000000000000cccccccccccccccccccccccccccccccc",
    // SWAP
    "01070000000000000001cccccccccccccccccccccccccccccccc3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e014f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a01000000060000000000000002a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2dddddddddddddddddddddddddddddddd01b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2090000007369676e617475726501a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1",
    // REMOVE
    "01070000000000000002cccccccccccccccccccccccccccccccc3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e014f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a01000000060000000000000002a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2dddddddddddddddddddddddddddddddd01b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2090000007369676e6174757265",
    // answer: register
    "010700000000000000cccccccccccccccccccccccccccccccc00015a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a01000000060000000000000001a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a100",
    // granted
    "010700000000000000cccccccccccccccccccccccccccccccc015a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a01000000060000000000000001a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a100",
    // refused: changed
    "010700000000000000cccccccccccccccccccccccccccccccc020000",
    // absent
    "010700000000000000cccccccccccccccccccccccccccccccc020100",
    // removed
    "010700000000000000cccccccccccccccccccccccccccccccc020200",
    // no consent
    "010700000000000000cccccccccccccccccccccccccccccccc020300",
    // wrong mediator
    "010700000000000000cccccccccccccccccccccccccccccccc020400",
    // register: absent
    "0100",
    // present
    "01015a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a01000000060000000000000001a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a100",
    // removed
    "0102",
    // what a consent signs
    "6d6574726f706f642072656769737465722073746174656d656e74203100cccccccccccccccccccccccccccccccc3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e014f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a01000000060000000000000002a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2dddddddddddddddddddddddddddddddd",
];
