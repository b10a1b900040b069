//! A mediator and its clients on loopback: registers, restarts, head start, sessions, and hostile strangers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, unbounded};
use metropod::identity::Identity;
use metropod::mediator::{
    MediatorClient, MediatorClientConfig, MediatorConfig, MediatorEvent, MediatorServer, MediatorSession,
    ServeError, serve, sign,
};
use metropod::wire::write_frame;
use metropod_protocol::mediator::{Refusal, ServiceSettings};
use metropod_protocol::{
    Answer, ArrayId, Ask, ConfigId, Consent, Epoch, Incarnation, MediatorId, MediatorRequest, Members, PodId,
    Record, RegisterId, Span, Statement,
};
use support::{PATIENCE, Proxy};
use tempfile::tempdir;

const POD: PodId = PodId([0x70; 16]);
const SETTLE: Duration = Duration::from_millis(120);

fn start(directory: &Path, listen: Option<SocketAddr>) -> MediatorServer {
    let mut config = MediatorConfig::new(directory);
    config.listen = listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.settings = ServiceSettings { settle: Span(SETTLE.as_nanos() as u64), ..config.settings };
    serve(config).unwrap()
}

/// An array that talks to a mediator.
struct Caller {
    identity: Arc<Identity>,
    client: MediatorClient,
    events: Receiver<MediatorEvent>,
    session: Option<MediatorSession>,
    requests: u64,
}

impl Caller {
    fn new(address: &str) -> Caller {
        Caller::again(Arc::new(Identity::generate().unwrap()), address)
    }

    /// Another process with the same identity.
    fn again(identity: Arc<Identity>, address: &str) -> Caller {
        let (sender, events) = unbounded();
        let config = MediatorClientConfig {
            identity: identity.clone(),
            incarnation: Incarnation(1),
            name: "caller".to_owned(),
            address: address.to_owned(),
        };
        let sink = Box::new(move |event| {
            let _ = sender.send(event);
        });
        let client = MediatorClient::start(config, sink).unwrap();
        Caller { identity, client, events, session: None, requests: 0 }
    }

    fn id(&self) -> ArrayId {
        self.identity.id()
    }

    fn up(&mut self) -> MediatorId {
        match self.events.recv_timeout(PATIENCE).unwrap() {
            MediatorEvent::Up { mediator, session } => {
                self.session = Some(session);
                mediator
            }
            other => panic!("{other:?}"),
        }
    }

    fn down(&self) {
        let event = self.events.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(event, MediatorEvent::Down), "{event:?}");
    }

    fn send(&mut self, ask: Ask) -> u64 {
        self.requests += 1;
        self.send_in(self.session.as_ref().unwrap(), ask)
    }

    fn send_in(&self, session: &MediatorSession, ask: Ask) -> u64 {
        session.queue(&MediatorRequest { request: self.requests, ask });
        session.flush();
        self.requests
    }

    fn answer(&self, request: u64, wait: Duration) -> Option<Answer> {
        match self.events.recv_timeout(wait) {
            Ok(MediatorEvent::Reply(reply)) => {
                assert_eq!(reply.request, request);
                Some(reply.answer)
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => None,
        }
    }

    fn ask(&mut self, ask: Ask) -> Answer {
        let request = self.send(ask);
        self.answer(request, PATIENCE).unwrap()
    }

    fn consent(&self, statement: &Statement) -> Consent {
        Consent { array: self.id(), signature: sign(&self.identity, statement) }
    }
}

fn statement(mediator: MediatorId, expect: Option<u8>, id: u8, members: Members) -> Statement {
    Statement {
        pod: POD,
        mediator,
        expect: expect.map(|id| RegisterId([id; 16])),
        id: RegisterId([id; 16]),
        epoch: Epoch { era: 0, number: id.into() },
        members,
        config: ConfigId([0xcc; 16]),
    }
}

fn swap(statement: Statement, consents: Vec<Consent>) -> Ask {
    Ask::Swap { statement, consents, preferred: None }
}

fn read() -> Ask {
    Ask::Read { pod: POD }
}

fn record_of(statement: &Statement) -> Record {
    Record { id: statement.id, epoch: statement.epoch, members: statement.members, from: statement.expect }
}

/// A mediator, two callers, and a register with both as members under id 1.
fn stretched(directory: &Path) -> (MediatorServer, Caller, Caller) {
    let server = start(directory, None);
    let address = server.address().to_string();
    let (mut a, mut b) = (Caller::new(&address), Caller::new(&address));
    assert_eq!((a.up(), b.up()), (server.id(), server.id()));
    let first = statement(server.id(), None, 1, Members::pair(a.id(), b.id()));
    let consents = vec![b.consent(&first)];
    assert_eq!(a.ask(swap(first, consents)), Answer::Granted(record_of(&first)));
    (server, a, b)
}

#[test]
fn one_racer_wins_the_other_is_refused_and_the_winner_may_ask_again() {
    let directory = tempdir().unwrap();
    let (server, mut a, mut b) = stretched(directory.path());
    let mine = statement(server.id(), Some(1), 2, Members::one(a.id()));
    let theirs = statement(server.id(), Some(1), 3, Members::one(b.id()));
    assert_eq!(a.ask(swap(mine, Vec::new())), Answer::Granted(record_of(&mine)));
    let refused = Answer::Refused { reason: Refusal::Changed, record: Some(record_of(&mine)) };
    assert_eq!(b.ask(swap(theirs, Vec::new())), refused);
    assert_eq!(a.ask(swap(mine, Vec::new())), Answer::Granted(record_of(&mine)));
    assert_eq!(b.ask(read()), Answer::Register(Some(record_of(&mine))));
    assert_eq!(server.arrays().len(), 2);
}

#[test]
fn a_grant_survives_the_mediator_and_is_repeated_by_the_next_one() {
    let directory = tempdir().unwrap();
    let (server, mut a, mut b) = stretched(directory.path());
    let mine = statement(server.id(), Some(1), 2, Members::one(a.id()));
    a.ask(swap(mine, Vec::new()));
    let (id, address) = (server.id(), server.address());
    drop(server);
    a.down();
    b.down();
    let began = Instant::now();
    let server = start(directory.path(), Some(address));
    assert_eq!((server.id(), a.up(), b.up()), (id, id, id), "it is still the same mediator");
    let theirs = statement(server.id(), Some(1), 3, Members::one(b.id()));
    let refused = Answer::Refused { reason: Refusal::Changed, record: Some(record_of(&mine)) };
    assert_eq!(b.ask(swap(theirs, Vec::new())), refused);
    assert!(began.elapsed() >= SETTLE, "compare-and-sets wait until those with newer knowledge have come");
    assert_eq!(a.ask(swap(mine, Vec::new())), Answer::Granted(record_of(&mine)));
}

#[test]
fn no_grant_is_told_before_it_is_on_disk() {
    let directory = tempdir().unwrap();
    let (server, mut a, mut b) = stretched(directory.path());
    let (here, away) = (directory.path().join("registers"), directory.path().join("away"));
    std::fs::rename(&here, &away).unwrap();
    let mine = statement(server.id(), Some(1), 2, Members::one(a.id()));
    let asked = a.send(swap(mine, Vec::new()));
    assert_eq!(a.answer(asked, Duration::from_millis(250)), None);
    // Nor does anybody else see it.
    let seen = b.send(read());
    assert_eq!(b.answer(seen, Duration::from_millis(100)), None);
    std::fs::rename(&away, &here).unwrap();
    assert_eq!(a.answer(asked, PATIENCE), Some(Answer::Granted(record_of(&mine))));
    assert_eq!(b.answer(seen, PATIENCE), Some(Answer::Register(Some(record_of(&mine)))));
}

#[test]
fn nobody_creates_or_takes_a_register_with_a_forged_consent() {
    let directory = tempdir().unwrap();
    let (server, a, _b) = stretched(directory.path());
    let mut stranger = Caller::new(&server.address().to_string());
    stranger.up();
    let members = Members::pair(stranger.id(), a.id());
    let wanted = Statement { pod: PodId([9; 16]), ..statement(server.id(), None, 5, members) };
    let forged = Consent { array: a.id(), signature: sign(&stranger.identity, &wanted) };
    let no_consent = |record| Answer::Refused { reason: Refusal::NoConsent, record };
    assert_eq!(stranger.ask(swap(wanted, vec![forged])), no_consent(None));
    let other = statement(server.id(), None, 5, members);
    let borrowed = a.consent(&other);
    assert_eq!(stranger.ask(swap(wanted, vec![borrowed])), no_consent(None));
    let taken = statement(server.id(), Some(1), 6, Members::one(stranger.id()));
    assert!(matches!(
        stranger.ask(swap(taken, Vec::new())),
        Answer::Refused { reason: Refusal::NoConsent, record: Some(_) }
    ));
    let elsewhere = statement(MediatorId([0; 16]), Some(1), 6, Members::one(stranger.id()));
    assert!(matches!(
        stranger.ask(swap(elsewhere, Vec::new())),
        Answer::Refused { reason: Refusal::WrongMediator, .. }
    ));
}

#[test]
fn the_other_waits_for_a_preferred_array_that_lives_and_is_fit_and_for_no_other() {
    let directory = tempdir().unwrap();
    let (server, a, mut b) = stretched(directory.path());
    std::thread::sleep(SETTLE);
    let preferred = Some(a.id());
    let race = |base: u8, id: u8, sole: ArrayId| Ask::Swap {
        statement: statement(server.id(), Some(base), id, Members::one(sole)),
        consents: Vec::new(),
        preferred,
    };
    let began = Instant::now();
    assert!(matches!(b.ask(race(1, 2, b.id())), Answer::Granted(_)));
    assert!(began.elapsed() >= Duration::from_millis(390), "{:?}", began.elapsed());
    // Unfit: no wait.
    let both = statement(server.id(), Some(2), 3, Members::pair(a.id(), b.id()));
    let consents = vec![a.consent(&both)];
    assert!(matches!(b.ask(swap(both, consents)), Answer::Granted(_)));
    a.client.set_fit(false);
    std::thread::sleep(Duration::from_millis(50));
    let began = Instant::now();
    assert!(matches!(b.ask(race(3, 4, b.id())), Answer::Granted(_)));
    assert!(began.elapsed() < Duration::from_millis(200), "{:?}", began.elapsed());
}

#[test]
fn a_mediator_that_has_gone_silent_is_noticed_and_found_again() {
    let directory = tempdir().unwrap();
    let server = start(directory.path(), None);
    let proxy = Proxy::start(server.address());
    let mut caller = Caller::new(&proxy.address.to_string());
    caller.up();
    std::thread::sleep(Duration::from_millis(400));
    assert!(caller.client.is_up() && caller.events.is_empty(), "an idle session stays open");
    proxy.stall(true);
    let began = Instant::now();
    caller.down();
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    assert!(!caller.client.is_up());
    caller.send(read());
    proxy.cut();
    proxy.stall(false);
    caller.up();
    assert_eq!(caller.ask(read()), Answer::Register(None), "the request of the dead session is lost");
}

#[test]
fn what_is_asked_in_a_session_that_is_over_is_not_sent_in_the_next() {
    let directory = tempdir().unwrap();
    let server = start(directory.path(), None);
    let proxy = Proxy::start(server.address());
    let mut caller = Caller::new(&proxy.address.to_string());
    caller.up();
    let over = caller.session.clone().unwrap();
    proxy.cut();
    caller.down();
    caller.up();
    caller.requests += 1;
    let late = caller.send_in(&over, read());
    assert_eq!(caller.answer(late, Duration::from_millis(200)), None);
    assert_eq!(caller.ask(read()), Answer::Register(None));
}

#[test]
fn a_newer_session_of_an_array_ends_its_older_one() {
    let directory = tempdir().unwrap();
    let (server, a, _b) = stretched(directory.path());
    let mut again = Caller::again(a.identity.clone(), &server.address().to_string());
    again.up();
    a.down();
    drop(a);
    // Whoever came last stays, unless the first came back before it was gone.
    let deadline = Instant::now() + PATIENCE;
    loop {
        again.send(read());
        match again.events.recv_timeout(Duration::from_millis(200)) {
            // On a slow machine it may be the answer to an earlier one.
            Ok(MediatorEvent::Reply(_)) => break,
            // The first did come back before it was gone; this one's session after that is another.
            Ok(MediatorEvent::Up { session, .. }) => again.session = Some(session),
            _ => assert!(Instant::now() < deadline),
        }
    }
}

#[test]
fn strangers_who_send_noise_harm_nobody() {
    let directory = tempdir().unwrap();
    let (server, mut a, _b) = stretched(directory.path());
    for round in 0..20u8 {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        let noise = vec![round.wrapping_mul(37); usize::from(round) * 11];
        if round % 2 == 0 {
            drop(stream.write_all(&noise));
        } else {
            drop(write_frame(&mut stream, round % 5, 0, &[&noise]));
        }
    }
    assert!(matches!(a.ask(read()), Answer::Register(Some(_))));
    assert_eq!(server.arrays().len(), 2);
}

#[test]
fn two_mediators_cannot_serve_one_directory() {
    let directory = tempdir().unwrap();
    let server = start(directory.path(), None);
    let mut config = MediatorConfig::new(directory.path());
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    assert!(matches!(serve(config.clone()), Err(ServeError::InUse { .. })));
    drop(server);
    serve(config).unwrap();
}

#[test]
fn an_array_link_does_not_get_into_a_mediator_nor_a_mediator_session_into_an_array() {
    let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
    let server = start(one.path(), None);
    let array = support::Array::start(support::config(two.path(), "A", 1));
    let lost = Caller::new(&array.address());
    let deadline = Instant::now() + PATIENCE;
    while !lost.client.last_failure().is_some_and(|why| why.contains("role")) {
        assert!(Instant::now() < deadline, "{:?}", lost.client.last_failure());
        std::thread::sleep(Duration::from_millis(10));
    }
    let other = tempdir().unwrap();
    let issuer = support::Array::start(support::config(other.path(), "B", 1));
    let key = issuer.links.issue_key().unwrap();
    let refused =
        array.links.connect(&server.address().to_string(), &key, metropod::identity::PeerKind::Sync);
    assert!(refused.unwrap_err().to_string().contains("role"));
}
