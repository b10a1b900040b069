//! The mediator's service: nothing is replied before it is persisted, nobody waits in vain, nothing of a closed session counts.

use metropod_protocol::mediator::*;
use metropod_protocol::{
    ArrayId, ConfigId, Epoch, MediatorId, Members, PodId, RegisterId, Span, Ticket, Time,
};

const A: ArrayId = ArrayId([1; 16]);
const B: ArrayId = ArrayId([2; 16]);
const POD: PodId = PodId([7; 16]);
const ME: MediatorId = MediatorId([9; 16]);

fn at(millis: u64) -> Time {
    Time(0) + Span::millis(millis)
}

fn statement(expect: Option<u8>, id: u8, members: Members) -> Statement {
    Statement {
        pod: POD,
        mediator: ME,
        expect: expect.map(|id| RegisterId([id; 16])),
        id: RegisterId([id; 16]),
        epoch: Epoch { era: 0, number: u64::from(id) },
        members,
        config: ConfigId([0; 16]),
    }
}

fn race(request: u64, expect: u8, id: u8, array: ArrayId, preferred: Option<ArrayId>) -> MediatorRequest {
    let statement = statement(Some(expect), id, Members::one(array));
    MediatorRequest { request, ask: Ask::Swap { statement, consents: Vec::new(), preferred } }
}

struct Bench {
    service: Service,
    persisted: Vec<(Ticket, Register)>,
    replies: Vec<(SessionNumber, u64, Answer)>,
}

impl Bench {
    /// A pair's register in state 1, both arrays connected, settled.
    fn new() -> Bench {
        let record = Record {
            id: RegisterId([1; 16]),
            epoch: Epoch { era: 0, number: 1 },
            members: Members::pair(A, B),
            from: None,
        };
        let registers = [(POD, Register::Present(record))];
        let service = Service::start(ME, ServiceSettings::default(), registers, at(0));
        let mut bench = Bench { service, persisted: Vec::new(), replies: Vec::new() };
        bench.step(2_000, ServiceInput::Connected { session: SessionNumber(1), array: A });
        bench.step(2_000, ServiceInput::Connected { session: SessionNumber(2), array: B });
        bench
    }

    fn step(&mut self, now: u64, input: ServiceInput) {
        self.service.step(at(now), input);
        while let Some(effect) = self.service.next_effect() {
            match effect {
                ServiceEffect::Persist { ticket, register, .. } => self.persisted.push((ticket, register)),
                ServiceEffect::Reply { session, reply } => {
                    self.replies.push((session, reply.request, reply.answer));
                }
            }
        }
    }

    fn ask(&mut self, now: u64, session: u64, request: MediatorRequest) {
        self.step(now, ServiceInput::Request { session: SessionNumber(session), request });
    }

    fn persist_all(&mut self, now: u64) {
        let through = self.persisted.last().expect("something to persist").0;
        self.step(now, ServiceInput::Persisted { through });
    }
}

#[test]
fn a_grant_is_replied_only_when_persisted_and_what_follows_waits_behind_it() {
    let mut bench = Bench::new();
    bench.ask(2_001, 1, race(1, 1, 2, A, None));
    bench.ask(2_002, 2, race(1, 1, 3, B, None));
    assert_eq!(bench.persisted.len(), 1);
    assert!(bench.replies.is_empty());
    bench.persist_all(2_003);
    assert!(matches!(bench.replies[0], (SessionNumber(1), 1, Answer::Granted(_))));
    assert!(matches!(
        bench.replies[1],
        (SessionNumber(2), 1, Answer::Refused { reason: Refusal::Changed, record: Some(_) })
    ));
}

#[test]
fn the_same_grant_is_given_again_under_another_proposal() {
    let mut bench = Bench::new();
    bench.ask(2_001, 1, race(1, 1, 2, A, None));
    bench.persist_all(2_002);
    bench.ask(2_003, 1, race(2, 1, 5, A, None));
    let Answer::Granted(record) = bench.replies[1].2 else { panic!("granted again") };
    assert_eq!(record.id, RegisterId([2; 16]));
    assert_eq!(bench.persisted.len(), 1, "nothing changed");
}

#[test]
fn no_change_before_the_mediator_has_settled_but_reads_are_answered() {
    let record = Record {
        id: RegisterId([1; 16]),
        epoch: Epoch { era: 0, number: 1 },
        members: Members::pair(A, B),
        from: None,
    };
    let service = Service::start(ME, ServiceSettings::default(), [(POD, Register::Present(record))], at(0));
    let mut bench = Bench { service, persisted: Vec::new(), replies: Vec::new() };
    bench.step(10, ServiceInput::Connected { session: SessionNumber(1), array: A });
    bench.ask(20, 1, MediatorRequest { request: 1, ask: Ask::Read { pod: POD } });
    assert_eq!(bench.replies.pop(), Some((SessionNumber(1), 1, Answer::Register(Some(record)))));
    bench.ask(30, 1, race(2, 1, 2, A, None));
    assert_eq!(bench.service.next_deadline(), Some(at(1_000)));
    assert!(bench.persisted.is_empty());
    bench.step(1_000, ServiceInput::Tick);
    assert_eq!(bench.persisted.len(), 1);
}

#[test]
fn the_preferred_array_has_a_head_start_while_its_session_lives_and_says_that_it_is_fit() {
    let mut bench = Bench::new();
    bench.step(2_000, ServiceInput::Alive { session: SessionNumber(1), fit: true });
    bench.ask(2_001, 2, race(1, 1, 3, B, Some(A)));
    assert!(bench.persisted.is_empty());
    // Its session falls silent: dead after 300 ms.
    bench.step(2_300, ServiceInput::Tick);
    assert_eq!(bench.persisted.len(), 1);

    let mut bench = Bench::new();
    bench.ask(2_001, 2, race(1, 1, 3, B, Some(A)));
    for now in [2_100, 2_200, 2_300, 2_400] {
        bench.step(now, ServiceInput::Alive { session: SessionNumber(1), fit: true });
    }
    assert!(bench.persisted.is_empty());
    bench.ask(2_400, 2, race(2, 1, 3, B, Some(A)));
    bench.step(2_401, ServiceInput::Tick);
    assert_eq!(bench.persisted.len(), 1, "400 ms at most, asked again or not");

    let mut bench = Bench::new();
    bench.step(2_000, ServiceInput::Alive { session: SessionNumber(1), fit: false });
    bench.ask(2_001, 2, race(1, 1, 3, B, Some(A)));
    assert_eq!(bench.persisted.len(), 1, "an unfit array is not waited for");

    let mut bench = Bench::new();
    bench.step(2_000, ServiceInput::Disconnected { session: SessionNumber(1) });
    bench.ask(2_001, 2, race(1, 1, 3, B, Some(A)));
    assert_eq!(bench.persisted.len(), 1, "nor is one without a session");
}

#[test]
fn asks_of_a_closed_session_are_dropped_and_a_read_drops_what_was_asked_before_it() {
    let mut bench = Bench::new();
    bench.step(2_000, ServiceInput::Alive { session: SessionNumber(1), fit: true });
    bench.ask(2_001, 2, race(1, 1, 3, B, Some(A)));
    bench.ask(2_002, 2, MediatorRequest { request: 2, ask: Ask::Read { pod: POD } });
    assert!(matches!(bench.replies.pop(), Some((_, 2, Answer::Register(Some(_))))));
    bench.step(2_500, ServiceInput::Tick);
    assert!(bench.persisted.is_empty());

    bench.step(2_500, ServiceInput::Alive { session: SessionNumber(1), fit: true });
    bench.ask(2_501, 2, race(3, 1, 3, B, Some(A)));
    bench.step(2_502, ServiceInput::Connected { session: SessionNumber(3), array: B });
    bench.step(3_000, ServiceInput::Tick);
    assert!(bench.persisted.is_empty());
    bench.ask(3_001, 2, race(4, 1, 3, B, None));
    assert!(bench.persisted.is_empty(), "the older session is gone");
}

#[test]
fn an_unknown_pod_another_mediator_and_a_removed_register_are_refused() {
    let mut bench = Bench::new();
    let refusals = |bench: &mut Bench| match bench.replies.pop() {
        Some((_, _, Answer::Refused { reason, .. })) => reason,
        other => panic!("refused, not {other:?}"),
    };
    let mut other = statement(Some(1), 2, Members::one(A));
    other.pod = PodId([8; 16]);
    let swap = |statement: Statement| MediatorRequest {
        request: 1,
        ask: Ask::Swap { statement, consents: Vec::new(), preferred: None },
    };
    bench.ask(2_001, 1, swap(other));
    assert_eq!(refusals(&mut bench), Refusal::Absent);
    let mut other = statement(Some(1), 2, Members::one(A));
    other.mediator = MediatorId([8; 16]);
    bench.ask(2_002, 1, swap(other));
    assert_eq!(refusals(&mut bench), Refusal::WrongMediator);
    bench.ask(2_003, 1, swap(statement(Some(1), 2, Members::one(B))));
    assert_eq!(refusals(&mut bench), Refusal::NoConsent);
    let consents = vec![Consent { array: B, signature: bytes::Bytes::new() }];
    let ask = Ask::Remove { statement: statement(Some(1), 0, Members::pair(A, B)), consents };
    bench.ask(2_004, 1, MediatorRequest { request: 2, ask });
    assert_eq!(bench.persisted.last().map(|(_, register)| *register), Some(Register::Removed));
    bench.persist_all(2_005);
    bench.replies.clear();
    bench.ask(2_006, 1, race(3, 1, 2, A, None));
    assert_eq!(refusals(&mut bench), Refusal::Removed);
}
