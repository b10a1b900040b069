//! Links between real arrays on loopback: becoming known, coming together, coming back, and hostile strangers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use metropod::identity::{ConnectionKey, PeerKind};
use metropod::link::{Channel, CloseReason, ConnectError, HandshakeError, Refusal, StartError, VERSION};
use metropod::wire::{Decoder, FrameReader, write_frame};
use metropod_protocol::Incarnation;
use support::{Array, NO_SPIN, PATIENCE, Proxy, config, meet, pair, spare_address};
use tempfile::tempdir;

#[test]
fn one_connect_on_either_side_brings_up_both_channels_on_both_sides() {
    let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
    let [a, b] = pair([one.path(), two.path()]);
    let peer = &a.current[&Channel::Sync].peer;
    assert_eq!((peer.id, peer.name.as_str(), peer.incarnation), (b.id, "B", Incarnation(1)));
    let status = b.links.peers();
    assert_eq!(status.len(), 1);
    assert_eq!((status[0].peer.id, status[0].peer.name.as_str()), (a.id, "A"));
    assert!(status[0].sync.is_some() && status[0].bulk.is_some());
}

#[test]
fn arrays_find_each_other_again_after_both_restarted_at_new_addresses_of_one() {
    let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
    let [a, b] = pair([one.path(), two.path()]);
    let port = b.links.address();
    drop((a, b));
    // A listens somewhere else now; B is where it was, so A finds B.
    let mut a = Array::start(config(one.path(), "A", 2));
    let mut config_b = config(two.path(), "B", 9);
    config_b.listen = port;
    let mut b = Array::start(config_b);
    meet(&mut a, &mut b);
    assert_eq!(a.current[&Channel::Sync].peer.incarnation, Incarnation(9));
    assert_eq!(b.current[&Channel::Bulk].peer.incarnation, Incarnation(2));
}

#[test]
fn of_two_connections_dialled_at_once_both_sides_keep_the_same() {
    let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
    let [a, b] = pair([one.path(), two.path()]);
    let (at_a, at_b) = (a.links.address(), b.links.address());
    drop((a, b));
    for round in 2..10 {
        let mut config_a = config(one.path(), "A", round);
        config_a.listen = at_a;
        let mut config_b = config(two.path(), "B", round);
        config_b.listen = at_b;
        let starting = std::thread::spawn(move || Array::start(config_a));
        let mut b = Array::start(config_b);
        let mut a = starting.join().unwrap();
        meet(&mut a, &mut b);
        // Nothing goes on changing.
        let before = (a.ups, b.ups);
        a.take_events(Duration::from_millis(60));
        b.take_events(Duration::from_millis(60));
        assert_eq!((a.ups, b.ups), before);
        assert!(a.ups <= 4 && b.ups <= 4, "ups {} {}", a.ups, b.ups);
    }
}

#[test]
fn a_closed_connection_is_back_within_the_time_in_which_nobody_misses_it() {
    let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
    let [mut a, mut b] = pair([one.path(), two.path()]);
    let mut took = Vec::new();
    for _ in 0..10 {
        // Let the retry pause of the last attempt pass, as in life.
        std::thread::sleep(Duration::from_millis(100));
        let began = Instant::now();
        let number = a.current[&Channel::Sync].link.number();
        a.current[&Channel::Sync].link.close();
        a.wait_until("another connection is up", |a| {
            a.current.get(&Channel::Sync).is_some_and(|up| up.link.number() != number)
        });
        took.push(began.elapsed());
        meet(&mut a, &mut b);
    }
    took.sort();
    assert!(took[took.len() / 2] < Duration::from_millis(150), "{took:?}");
    assert!(a.downs.iter().any(|(_, _, reason)| *reason == CloseReason::Closed));
}

#[test]
fn a_peer_that_restarts_replaces_its_own_half_open_connection() {
    let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
    let address = spare_address();
    let proxy = Proxy::start(address);
    let mut config_a = config(one.path(), "A", 1);
    config_a.listen = address;
    config_a.advertise = Some(proxy.address.to_string());
    let mut a = Array::start(config_a);
    // B's own address is a hole, so that every connection leads through the proxy.
    let mut config_b = config(two.path(), "B", 1);
    config_b.advertise = Some("127.0.0.1:1".to_owned());
    let mut b = Array::start(config_b);
    b.connect(&a);
    meet(&mut a, &mut b);
    let old = a.current[&Channel::Sync].link.number();
    // B dies and A hears nothing of it: the proxy keeps its side of the dead connections open.
    proxy.abandon();
    drop(b);
    a.take_events(Duration::from_millis(50));
    assert_eq!(a.current[&Channel::Sync].link.number(), old, "half-open: still up here");
    let mut config_b = config(two.path(), "B", 2);
    config_b.advertise = Some("127.0.0.1:1".to_owned());
    let mut b = Array::start(config_b);
    meet(&mut a, &mut b);
    assert_eq!(a.current[&Channel::Sync].peer.incarnation, Incarnation(2));
    assert!(a.downs.iter().any(|(_, number, reason)| (*number, *reason) == (old, CloseReason::Replaced)));
}

#[test]
fn an_advertised_proxy_is_used_and_never_gone_around() {
    let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
    let [at_a, at_b] = [spare_address(), spare_address()];
    let (proxy_a, proxy_b) = (Proxy::start(at_a), Proxy::start(at_b));
    let mut config_a = config(one.path(), "A", 1);
    config_a.listen = at_a;
    config_a.advertise = Some(proxy_a.address.to_string());
    let mut config_b = config(two.path(), "B", 1);
    config_b.listen = at_b;
    config_b.advertise = Some(proxy_b.address.to_string());
    let (mut a, mut b) = (Array::start(config_a), Array::start(config_b));
    // The operator types the direct address; only becoming known goes that way.
    b.connect(&a);
    meet(&mut a, &mut b);
    for proxy in [&proxy_a, &proxy_b] {
        proxy.stall(true);
    }
    for array in [&a, &b] {
        array.current[&Channel::Sync].link.close();
    }
    a.take_events(Duration::from_millis(400));
    b.take_events(Duration::from_millis(400));
    assert!(!a.current.contains_key(&Channel::Sync) && !b.current.contains_key(&Channel::Sync));
    for proxy in [&proxy_a, &proxy_b] {
        proxy.cut();
        proxy.stall(false);
    }
    meet(&mut a, &mut b);
}

#[test]
fn a_connection_key_is_good_once() {
    let (one, two, three) = (tempdir().unwrap(), tempdir().unwrap(), tempdir().unwrap());
    let a = Array::start(config(one.path(), "A", 1));
    let b = Array::start(config(two.path(), "B", 1));
    let c = Array::start(config(three.path(), "C", 1));
    let key = a.links.issue_key().unwrap();
    let text = key.to_string();
    let key: ConnectionKey = text.parse().unwrap();
    b.links.connect(&a.address(), &key, PeerKind::Sync).unwrap();
    // The same array may say it again, another may not.
    b.links.connect(&a.address(), &key, PeerKind::Sync).unwrap();
    let refused = c.links.connect(&a.address(), &key, PeerKind::Sync).unwrap_err();
    assert!(
        matches!(refused, ConnectError::Handshake(HandshakeError::Refused(Refusal::KeyUsed))),
        "{refused}"
    );
    assert!(c.links.peers().is_empty());
}

#[test]
fn wrong_old_and_own_keys_are_refused_with_their_reason() {
    let (one, two, three) = (tempdir().unwrap(), tempdir().unwrap(), tempdir().unwrap());
    let a = Array::start(config(one.path(), "A", 1));
    let b = Array::start(config(two.path(), "B", 1));
    let c = Array::start(config(three.path(), "C", 1));
    let refused = |key: ConnectionKey| b.links.connect(&a.address(), &key, PeerKind::Sync).unwrap_err();
    let elsewhere = refused(c.links.issue_key().unwrap());
    assert!(
        matches!(elsewhere, ConnectError::Handshake(HandshakeError::Refusing(Refusal::WrongPeer))),
        "{elsewhere}"
    );
    assert!(matches!(refused(b.links.issue_key().unwrap()), ConnectError::OwnKey));
    let mut old = a.links.issue_key().unwrap();
    old.expires_unix_s = 1_000;
    assert!(matches!(refused(old), ConnectError::KeyExpired));
    let mut forged = a.links.issue_key().unwrap();
    forged.secret = c.links.issue_key().unwrap().secret;
    let forged = refused(forged);
    assert!(
        matches!(forged, ConnectError::Handshake(HandshakeError::Refused(Refusal::KeyUnknown))),
        "{forged}"
    );
    let nobody = b.links.connect("127.0.0.1:1", &a.links.issue_key().unwrap(), PeerKind::Sync);
    assert!(matches!(nobody, Err(ConnectError::Unreachable { .. })));
    assert!(a.links.peers().is_empty() && b.links.peers().is_empty());
}

#[test]
fn a_taken_name_is_refused() {
    let (one, two, three) = (tempdir().unwrap(), tempdir().unwrap(), tempdir().unwrap());
    let [a, _b] = pair([one.path(), two.path()]);
    let c = Array::start(config(three.path(), "b", 1));
    let key = a.links.issue_key().unwrap();
    let refused = c.links.connect(&a.address(), &key, PeerKind::Sync).unwrap_err();
    assert!(
        matches!(refused, ConnectError::Handshake(HandshakeError::Refused(Refusal::NameTaken))),
        "{refused}"
    );
    let unnamed = metropod::link::Links::start(config(three.path(), "no good", 1), Box::new(|_| {}));
    assert!(matches!(unnamed, Err(StartError::Name)));
}

#[test]
fn a_forgotten_peer_is_refused_and_says_why_until_it_is_connected_again() {
    let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
    let [mut a, mut b] = pair([one.path(), two.path()]);
    assert!(a.links.disconnect(b.id).unwrap());
    assert!(!a.links.disconnect(b.id).unwrap());
    a.wait_until("both channels are down", |a| a.current.is_empty());
    assert!(
        a.downs
            .iter()
            .all(|(_, _, reason)| *reason == CloseReason::Forgotten || *reason == CloseReason::Replaced)
    );
    b.wait_until("the refusal is shown", |b| {
        b.links.peers()[0].last_failure.as_ref().is_some_and(|why| why.contains("not known here"))
    });
    assert!(b.current.is_empty());
    b.connect(&a);
    meet(&mut a, &mut b);
}

#[test]
fn another_version_is_told_both_versions() {
    let directory = tempdir().unwrap();
    let a = Array::start(config(directory.path(), "A", 1));
    let mut stream = TcpStream::connect(a.links.address()).unwrap();
    let hello = [&b"MPOD"[..], &(VERSION + 1).to_le_bytes(), b"from the future"].concat();
    write_frame(&mut stream, 1, 0, &[&hello]).unwrap();
    let frame = FrameReader::new(stream, Decoder::new(4096, 4096)).read_frame().unwrap().unwrap();
    let versions = [VERSION.to_le_bytes(), (VERSION + 1).to_le_bytes()].concat();
    assert_eq!((frame.kind, &frame.payload[..]), (4, &[&[0], &versions[..]].concat()[..]));
}

#[test]
fn strangers_who_send_noise_or_nothing_do_not_keep_peers_out() {
    let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
    let mut a = Array::start(config(one.path(), "A", 1));
    let mut state = 88_172_645_463_325_252_u64;
    let mut strangers = Vec::new();
    for round in 0..60u8 {
        let mut stream = TcpStream::connect(a.links.address()).unwrap();
        let mut noise = vec![0; usize::from(round) * 7];
        for byte in &mut noise {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = state as u8;
        }
        match round % 4 {
            0 => {}
            1 => drop(stream.write_all(&noise)),
            2 => drop(write_frame(&mut stream, round, 9, &[&noise])),
            _ => drop(write_frame(&mut stream, 1, 0, &[b"MPOD", &VERSION.to_le_bytes(), &noise])),
        }
        // Some stay and are silent.
        if round % 8 == 0 {
            strangers.push(stream);
        }
    }
    // Their places are free again after a handshake's time at the latest.
    let mut b = Array::start(config(two.path(), "B", 1));
    let key = a.links.issue_key().unwrap();
    let began = Instant::now();
    while b.links.connect(&a.address(), &key, PeerKind::Sync).is_err() {
        assert!(began.elapsed() < PATIENCE);
    }
    meet(&mut a, &mut b);
    assert_eq!(a.links.peers().len(), 1);
}

#[test]
fn frames_arrive_once_whole_and_in_order_though_the_reader_is_slow_and_many_write() {
    let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
    let [mut a, mut b] = pair([one.path(), two.path()]);
    const WRITERS: u64 = 4;
    const FRAMES: u64 = 600;
    let link = a.current[&Channel::Bulk].link.clone();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let link = link.clone();
            std::thread::spawn(move || {
                for number in 0..FRAMES {
                    let head = [writer.to_le_bytes(), number.to_le_bytes()].concat();
                    let length = if number % 100 == 99 { 1 << 20 } else { (number as usize * 37) % 20_000 };
                    while link.unsent_bytes() > 8 << 20 {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    link.queue(0x40, 1, head.into(), vec![number as u8; length].into()).unwrap();
                    link.flush();
                }
            })
        })
        .collect();
    // The sender's reading thread also writes what the socket did not take.
    let up = a.current.remove(&Channel::Bulk).unwrap();
    let mut reader = up.reader;
    let reading = std::thread::spawn(move || reader.read_frame(NO_SPIN).unwrap());
    let mut next = [0; WRITERS as usize];
    let there = b.current.get_mut(&Channel::Bulk).unwrap();
    for read in 0..WRITERS * FRAMES {
        if read % 500 == 0 {
            std::thread::sleep(Duration::from_millis(30));
        }
        let frame = there.reader.read_frame(Duration::from_micros(20)).unwrap();
        let writer = u64::from_le_bytes(frame.payload[..8].try_into().unwrap());
        let number = u64::from_le_bytes(frame.payload[8..16].try_into().unwrap());
        assert_eq!(number, next[writer as usize]);
        next[writer as usize] += 1;
        assert!(frame.payload[16..].iter().all(|byte| *byte == number as u8));
    }
    for writer in writers {
        writer.join().unwrap();
    }
    // The last call's result may still be on its way to the count.
    a.wait_until("everything is sent", |_| link.unsent_bytes() == 0);
    // The reader that gets it ends the connection, perhaps before the sender looks.
    let _ = there.link.send(0x41, 0, Bytes::new(), Bytes::from_static(b"done"));
    assert_eq!(reading.join().unwrap().payload, &b"done"[..]);
}

#[test]
fn a_peer_that_takes_nothing_costs_a_bounded_number_of_bytes_and_then_the_connection() {
    let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
    let [mut a, _b] = pair([one.path(), two.path()]);
    let link = a.current[&Channel::Bulk].link.clone();
    let began = Instant::now();
    let block = Bytes::from(vec![1; 1 << 20]);
    let mut taken = 0;
    while link.send(0x40, 0, Bytes::new(), block.clone()).is_ok() {
        taken += 1;
        assert!(taken < 100);
    }
    assert!(began.elapsed() < PATIENCE, "nobody waited for the network");
    assert_eq!(link.closed(), Some(CloseReason::Overflow));
    a.wait_until("it is told", |a| a.downs.iter().any(|down| down.2 == CloseReason::Overflow));
}

#[test]
fn stopping_is_quick_and_takes_everything_down() {
    let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
    let [mut a, mut b] = pair([one.path(), two.path()]);
    let began = Instant::now();
    a.links.stop();
    assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
    a.take_events(Duration::ZERO);
    assert!(a.current.is_empty());
    b.wait_until("the peer is gone", |b| b.current.is_empty());
    assert!(TcpStream::connect(a.links.address()).is_err());
}
