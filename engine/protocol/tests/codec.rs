//! Bytes: what is written is read back the same; hostile bytes are refused without a panic.

use bytes::Bytes;
use metropod_protocol::mediator::{Refusal, Register};
use metropod_protocol::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn id16() -> impl Strategy<Value = [u8; 16]> {
    any::<[u8; 16]>()
}

/// What counts up: entries, tickets, starts, epochs.
fn number() -> std::ops::Range<u64> {
    0..1 << 62
}

fn epoch() -> impl Strategy<Value = Epoch> {
    (any::<u32>(), number()).prop_map(|(era, number)| Epoch { era, number })
}

fn members() -> impl Strategy<Value = Members> {
    (id16(), id16(), any::<bool>()).prop_map(|(one, other, pair)| {
        if pair { Members::pair(ArrayId(one), ArrayId(other)) } else { Members::one(ArrayId(one)) }
    })
}

fn configuration() -> impl Strategy<Value = Configuration> {
    (epoch(), id16(), members(), any::<bool>(), any::<Option<([u8; 16], [u8; 16])>>(), any::<bool>())
        .prop_map(|(epoch, id, members, last, mediator, granted)| {
            let pick = if last { members.iter().last() } else { members.iter().next() };
            let member = pick.expect("there is a member");
            Configuration {
                epoch,
                id: ConfigId(id),
                members,
                sequencer: member,
                right: match mediator {
                    Some((mediator, register)) => {
                        Right::Mediator { mediator: MediatorId(mediator), register: RegisterId(register) }
                    }
                    None => Right::Array(member),
                },
                ground: if granted { Ground::Granted } else { Ground::Agreed },
            }
        })
}

fn position() -> impl Strategy<Value = Position> {
    (id16(), 0..1u64 << 61, any::<[u8; 32]>()).prop_map(|(config, index, chain)| Position {
        config: ConfigId(config),
        index: Index(index),
        chain: Chain(chain),
    })
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn entry() -> impl Strategy<Value = Entry> {
    let body = prop_oneof![
        (bytes(), bytes()).prop_map(|(descriptor, attachment)| Body::Operation { descriptor, attachment }),
        Just(Body::Mark),
        configuration().prop_map(Body::Configuration),
    ];
    (id16(), 1u64..1 << 62, number(), id16(), (number(), number()), any::<[u8; 32]>(), body).prop_map(
        |(config, index, committed, origin, (incarnation, request), chain, body)| Entry {
            config: match &body {
                Body::Configuration(configuration) => configuration.id,
                _ => ConfigId(config),
            },
            index: Index(index),
            committed: Index(committed % index),
            origin: ArrayId(origin),
            origin_incarnation: Incarnation(incarnation),
            origin_request: request,
            chain: Chain(chain),
            body,
        },
    )
}

fn history() -> impl Strategy<Value = Vec<HistoryItem>> {
    vec((configuration(), 1..1000u64, any::<[u8; 32]>()), 0..6).prop_map(|items| {
        let mut at = 0;
        items
            .into_iter()
            .map(|(configuration, gap, chain)| {
                at += gap;
                HistoryItem { configuration, first: Index(at), chain_before: Chain(chain) }
            })
            .collect()
    })
}

fn out_of_sync() -> impl Strategy<Value = OutOfSync> {
    (position(), id16(), number(), any::<bool>()).prop_map(|(fork, survivor, after, first_time)| OutOfSync {
        fork,
        survivor: ConfigId(survivor),
        after: Index(after),
        first_time,
    })
}

fn learned() -> impl Strategy<Value = Learned> {
    (epoch(), any::<Option<[u8; 16]>>())
        .prop_map(|(epoch, holder)| Learned { epoch, holder: holder.map(ArrayId) })
}

fn state() -> impl Strategy<Value = DurableState> {
    let optional = proptest::option::of(out_of_sync());
    ((number(), number(), number()), optional, learned(), position(), history()).prop_map(
        |((incarnation, known, ticket), out_of_sync, learned, mut base, history)| {
            base.index = base.index.max(history.last().map_or(Index(0), |item| item.first));
            DurableState {
                incarnation: Incarnation(incarnation),
                known_config: Index(known),
                out_of_sync,
                learned,
                base,
                history,
                ticket: Ticket(ticket),
            }
        },
    )
}

fn record() -> impl Strategy<Value = DurableRecord> {
    prop_oneof![
        number().prop_map(|number| DurableRecord::Incarnation(Incarnation(number))),
        (number(), any::<bool>())
            .prop_map(|(index, in_sync)| DurableRecord::KnownConfig { index: Index(index), in_sync }),
        out_of_sync().prop_map(DurableRecord::OutOfSync),
        learned().prop_map(DurableRecord::Learned),
        number().prop_map(|keep| DurableRecord::Cut { keep: Index(keep) }),
    ]
}

fn register_record() -> impl Strategy<Value = Record> {
    (id16(), epoch(), members(), any::<Option<[u8; 16]>>()).prop_map(|(id, epoch, members, from)| Record {
        id: RegisterId(id),
        epoch,
        members,
        from: from.map(RegisterId),
    })
}

fn statement() -> impl Strategy<Value = Statement> {
    (id16(), id16(), any::<Option<[u8; 16]>>(), id16(), epoch(), members(), id16()).prop_map(
        |(pod, mediator, expect, id, epoch, members, config)| Statement {
            pod: PodId(pod),
            mediator: MediatorId(mediator),
            expect: expect.map(RegisterId),
            id: RegisterId(id),
            epoch,
            members,
            config: ConfigId(config),
        },
    )
}

fn consents() -> impl Strategy<Value = Vec<Consent>> {
    vec((id16(), vec(any::<u8>(), 0..64)), 0..3).prop_map(|consents| {
        consents
            .into_iter()
            .map(|(array, signature)| Consent { array: ArrayId(array), signature: signature.into() })
            .collect()
    })
}

fn ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        id16().prop_map(|pod| Ask::Read { pod: PodId(pod) }),
        (statement(), consents(), any::<Option<[u8; 16]>>()).prop_map(|(statement, consents, preferred)| {
            Ask::Swap { statement, consents, preferred: preferred.map(ArrayId) }
        }),
        (statement(), consents()).prop_map(|(statement, consents)| Ask::Remove { statement, consents }),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let reason = prop_oneof![
        Just(Refusal::Changed),
        Just(Refusal::Absent),
        Just(Refusal::Removed),
        Just(Refusal::NoConsent),
        Just(Refusal::WrongMediator),
    ];
    prop_oneof![
        proptest::option::of(register_record()).prop_map(Answer::Register),
        register_record().prop_map(Answer::Granted),
        (reason, proptest::option::of(register_record()))
            .prop_map(|(reason, record)| Answer::Refused { reason, record }),
    ]
}

fn frame() -> impl Strategy<Value = Frame> {
    let status = prop_oneof![
        Just(MediatorStatus::None),
        Just(MediatorStatus::Reachable),
        Just(MediatorStatus::Unreachable),
        Just(MediatorStatus::Wrong),
    ];
    prop_oneof![
        (position(), position()).prop_map(|(base, end)| Frame::Ready { base, end }),
        entry().prop_map(Frame::Entry),
        ((number(), number()), bytes(), bytes()).prop_map(
            |((request, heartbeat), descriptor, attachment)| {
                Frame::Forward { request, heartbeat, descriptor, attachment }
            }
        ),
        any::<u64>().prop_map(|request| Frame::Refused { request }),
        ((number(), number(), number()), any::<[u8; 32]>()).prop_map(
            |((index, request, committed), chain)| {
                Frame::Order {
                    index: Index(index),
                    request,
                    chain: Chain(chain),
                    committed: Index(committed),
                }
            }
        ),
        (number(), number(), number()).prop_map(|(through, committed, known)| Frame::Durable {
            through: Index(through),
            committed: Index(committed),
            known: Index(known),
        }),
        (any::<(u64, bool, bool)>(), status).prop_map(|((number, serving, fit), mediator)| {
            Frame::Heartbeat { number, serving, fit, mediator }
        }),
        (number(), id16()).prop_map(|(number, config)| Frame::Answer { number, config: ConfigId(config) }),
        statement().prop_map(Frame::ConsentAsked),
        (statement(), vec(any::<u8>(), 0..100))
            .prop_map(|(statement, signature)| Frame::Consent { statement, signature: signature.into() }),
        (any::<u64>(), ask()).prop_map(|(request, ask)| Frame::Carry { request, ask }),
        (any::<u64>(), answer()).prop_map(|(request, answer)| Frame::Carried { request, answer }),
        (id16(), proptest::option::of(register_record()))
            .prop_map(|(config, record)| Frame::RegisterSeen { config: ConfigId(config), record }),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    let hello = (id16(), id16(), (number(), number()), proptest::option::of((number(), number())), state())
        .prop_map(|(pod, from, (incarnation, nonce), echo, state)| {
            let end = Position { index: Index(state.base.index.0 + 3), ..state.base };
            Message::Hello(Box::new(Hello {
                pod: PodId(pod),
                from: ArrayId(from),
                incarnation: Incarnation(incarnation),
                nonce: Nonce(nonce),
                echo: echo.map(|(incarnation, nonce)| (Incarnation(incarnation), Nonce(nonce))),
                report: Report {
                    known_config: state.base.index,
                    history: state.history,
                    base: state.base,
                    end,
                    committed: end.index,
                    out_of_sync: state.out_of_sync,
                    learned: state.learned,
                },
            }))
        });
    prop_oneof![
        hello,
        (number(), number()).prop_map(|(incarnation, echo)| Message::Busy {
            incarnation: Incarnation(incarnation),
            echo: Nonce(echo)
        }),
        (id16(), any::<u64>(), frame()).prop_map(|(session, number, body)| Message::Frame {
            session: SessionId(session),
            number,
            body
        }),
    ]
}

/// Changes, cuts or lengthens bytes.
fn damage(bytes: &Bytes, at: usize, value: u8, how: u8) -> Bytes {
    let mut damaged = bytes.to_vec();
    match how % 3 {
        0 if !damaged.is_empty() => {
            let at = at % damaged.len();
            damaged[at] ^= value | 1;
        }
        1 => damaged.truncate(at % (damaged.len() + 1)),
        _ => damaged.push(value),
    }
    Bytes::from(damaged)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn a_message_is_read_back_as_written(message in message()) {
        let (head, attachment) = message.encode();
        prop_assert_eq!(Message::decode(head, attachment), Ok(message));
    }

    #[test]
    fn a_damaged_message_is_refused_or_another_message_but_never_a_panic(
        message in message(), at in any::<usize>(), value in any::<u8>(), how in any::<u8>()
    ) {
        let (head, attachment) = message.encode();
        let head = damage(&head, at, value, how);
        if let Ok(read) = Message::decode(head.clone(), attachment.clone()) {
            // There is one way to write each message.
            prop_assert_eq!(read.encode(), (head, attachment));
        }
    }

    #[test]
    fn random_bytes_are_never_a_panic(bytes in vec(any::<u8>(), 0..600), kind in 0..14u8) {
        let mut headed = vec![1, kind];
        headed.extend_from_slice(&bytes);
        let headed = Bytes::from(headed);
        let _ = Message::decode(headed.clone(), Bytes::new());
        let _ = Message::decode(Bytes::from(bytes.clone()), Bytes::from(bytes.clone()));
        let _ = Entry::decode(headed.clone(), Bytes::new());
        let _ = DurableState::decode(headed.clone());
        let _ = DurableRecord::decode(headed.clone());
        let _ = MediatorRequest::decode(headed.clone());
        let _ = MediatorReply::decode(headed.clone());
        let _ = Register::decode(headed);
    }

    #[test]
    fn an_entry_is_read_back_as_written(entry in entry()) {
        let (head, attachment) = entry.encode();
        prop_assert_eq!(Entry::decode(head, attachment), Ok(entry));
    }

    #[test]
    fn the_chain_covers_everything_but_commit_index_and_attachment(entry in entry(), other in entry()) {
        let before = Chain([5; 32]);
        let mut same = entry.clone();
        same.committed = other.committed;
        if let Body::Operation { attachment, .. } = &mut same.body {
            *attachment = Bytes::from_static(b"another form of the same payload");
        }
        prop_assert_eq!(entry.chain_after(before), same.chain_after(before));
        prop_assert_ne!(entry.chain_after(before), entry.chain_after(Chain([6; 32])));
        let mut moved = entry.clone();
        moved.index = Index(entry.index.0 ^ 1);
        prop_assert_ne!(entry.chain_after(before), moved.chain_after(before));
        let mut asked = entry.clone();
        asked.origin_request ^= 1;
        prop_assert_ne!(entry.chain_after(before), asked.chain_after(before));
    }

    #[test]
    fn durable_states_and_records_are_read_back_as_written(
        state in state(), record in record(), ticket in number(),
        at in any::<usize>(), value in any::<u8>(), how in any::<u8>()
    ) {
        let bytes = state.encode();
        prop_assert_eq!(DurableState::decode(bytes.clone()), Ok(state));
        let _ = DurableState::decode(damage(&bytes, at, value, how));
        let bytes = record.encode(Ticket(ticket));
        prop_assert_eq!(DurableRecord::decode(bytes.clone()), Ok((Ticket(ticket), record)));
        let _ = DurableRecord::decode(damage(&bytes, at, value, how));
    }

    #[test]
    fn requests_replies_and_registers_are_read_back_as_written(
        request in any::<u64>(), ask in ask(), answer in answer(), pod in id16(), record in register_record(),
        at in any::<usize>(), value in any::<u8>(), how in any::<u8>()
    ) {
        let asked = MediatorRequest { request, ask };
        prop_assert_eq!(MediatorRequest::decode(asked.encode()), Ok(asked.clone()));
        let _ = MediatorRequest::decode(damage(&asked.encode(), at, value, how));
        let reply = MediatorReply { request, pod: PodId(pod), answer };
        prop_assert_eq!(MediatorReply::decode(reply.encode()), Ok(reply));
        let _ = MediatorReply::decode(damage(&reply.encode(), at, value, how));
        for register in [Register::Absent, Register::Present(record), Register::Removed] {
            prop_assert_eq!(Register::decode(register.encode()), Ok(register));
        }
    }
}

#[test]
fn a_length_beyond_its_bound_is_refused_before_anything_is_allocated() {
    // A history that claims four billion configurations.
    let mut head = vec![1, 0];
    head.extend_from_slice(&[0; 16 + 16 + 8 + 8 + 1]);
    head.extend_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(Message::decode(Bytes::from(head), Bytes::new()), Err(DecodeError::TooLong));
}

#[test]
fn a_number_after_which_none_could_follow_is_refused() {
    for ticket in [Ticket((1 << 62) - 1), Ticket(1 << 62), Ticket(u64::MAX)] {
        let record = DurableRecord::Incarnation(Incarnation(1));
        let read = DurableRecord::decode(record.encode(ticket));
        let expected = if ticket.0 < 1 << 62 { Ok((ticket, record)) } else { Err(DecodeError::Inconsistent) };
        assert_eq!(read, expected);
    }
}
