//! Bytes that no good client sends: the answer is clear, memory is bounded, the server stays up.

#![allow(clippy::unwrap_used, reason = "this is test code")]

mod support;

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use metropod_server::nbd::Limits;
use support::raw::{self, RawClient};
use support::{MemoryExports, TestServer};

const MIB: u64 = 1 << 20;

/// The server still serves: a new client opens the volume and flushes it.
async fn assert_serves(server: &TestServer) {
    let mut client = RawClient::opened(server.address, "vol1").await;
    client.request(0, raw::FLUSH, 99, 0, 0).await;
    assert_eq!(client.simple_reply().await, (0, 99));
}

/// A small deterministic generator.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_on_the_port_is_dropped() {
    let server = TestServer::start(MIB).await;
    for seed in 1..=50 {
        let mut noise = Noise(seed * 0x9e37_79b9);
        let bytes: Vec<u8> = (0..noise.next() % 4000).map(|_| noise.next() as u8).collect();
        let mut client = RawClient::connect(server.address).await;
        let _ = client.try_send(&bytes).await;
    }
    for request in
        [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"]
    {
        let mut client = RawClient::connect(server.address).await;
        client.send(request).await;
        assert_eq!(client.take_rest().await.len(), 18, "the greeting and nothing else");
    }
    assert_serves(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_conversations_harm_nobody() {
    let server = TestServer::start(MIB).await;
    let mut good = 3u32.to_be_bytes().to_vec();
    for (option, data) in [
        (raw::OPT_STRUCTURED_REPLY, Vec::new()),
        (raw::OPT_SET_META_CONTEXT, b"\0\0\0\x04vol1\0\0\0\x01\0\0\0\x0fbase:allocation".to_vec()),
        (raw::OPT_GO, raw::go_data("vol1")),
    ] {
        good.extend_from_slice(b"IHAVEOPT");
        good.extend_from_slice(&option.to_be_bytes());
        good.extend_from_slice(&(data.len() as u32).to_be_bytes());
        good.extend_from_slice(&data);
    }
    for kind in 0..8 {
        if kind != raw::DISC {
            good.extend(raw::request(0, kind, u64::from(kind), 0, 512));
            good.resize(good.len() + if kind == raw::WRITE { 512 } else { 0 }, 1);
        }
    }
    let rounds = std::env::var("NBD_FUZZ_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(300);
    for seed in 1..=rounds {
        let mut noise = Noise(seed * 0x2545_f491);
        let mut bytes = good.clone();
        for _ in 0..=noise.next() % 4 {
            let at = noise.next() as usize % bytes.len();
            match noise.next() % 3 {
                0 => bytes[at] = noise.next() as u8,
                1 => bytes.truncate(at.max(1)),
                _ => bytes[at] ^= 1 << (noise.next() % 8),
            }
        }
        let mut client = RawClient::connect(server.address).await;
        let _ = client.try_send(&bytes).await;
        let _ = tokio::time::timeout(Duration::from_millis(2), client.take(4000)).await;
    }
    assert_serves(&server).await;
    server.volume().wait_for_pending(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_client_flags_and_false_option_magic_end_the_connection() {
    let server = TestServer::start(MIB).await;
    let mut client = RawClient::connect(server.address).await;
    client.take(18).await.unwrap();
    client.send(&7u32.to_be_bytes()).await;
    assert_eq!(client.take_rest().await, [0_u8; 0]);
    let mut client = RawClient::greeted(server.address).await;
    client.send(b"IHAVENOPT0000000").await;
    assert_eq!(client.take_rest().await, [0_u8; 0]);
    assert_serves(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_options_and_tls_are_unsupported_and_their_data_is_skipped() {
    let server = TestServer::start(MIB).await;
    let mut client = RawClient::greeted(server.address).await;
    assert_eq!(client.negotiate(raw::OPT_STARTTLS, &[]).await, raw::ERR_UNSUP);
    assert_eq!(client.negotiate(4, b"peek").await, raw::ERR_UNSUP);
    assert_eq!(client.negotiate(0xdead_beef, &[7; 5000]).await, raw::ERR_UNSUP);
    assert_eq!(client.negotiate(raw::OPT_LIST, b"data").await, raw::ERR_INVALID);
    assert_eq!(client.negotiate(raw::OPT_STRUCTURED_REPLY, b"data").await, raw::ERR_INVALID);
    assert_eq!(client.negotiate(raw::OPT_INFO, &[0xff; 20]).await, raw::ERR_INVALID);
    assert_eq!(client.negotiate(raw::OPT_SET_META_CONTEXT, &[0; 8]).await, raw::ERR_INVALID);
    assert_eq!(client.negotiate(0xdead_beef, &vec![7; 200_000]).await, raw::ERR_TOO_BIG);
    assert_eq!(client.negotiate(raw::OPT_LIST, &[]).await, raw::REP_ACK);
    assert_eq!(client.negotiate(raw::OPT_EXTENDED_HEADERS, &[]).await, raw::REP_ACK);
    assert_eq!(client.negotiate(raw::OPT_STRUCTURED_REPLY, &[]).await, raw::ERR_EXT_HEADER_REQD);
    assert_eq!(client.negotiate(raw::OPT_ABORT, b"bye").await, raw::REP_ACK);
    assert_eq!(client.take_rest().await, [0_u8; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_option_of_absurd_length_ends_the_connection_before_its_data_comes() {
    let server = TestServer::start(MIB).await;
    for length in [(1 << 20) + 1, u32::MAX] {
        let mut client = RawClient::greeted(server.address).await;
        client.send(b"IHAVEOPT\0\0\0\x07").await;
        client.send(&length.to_be_bytes()).await;
        assert_eq!(client.take_rest().await, [0_u8; 0]);
    }
    assert_serves(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_way_in_is_padded_unless_the_client_says_no() {
    let server = TestServer::start(MIB).await;
    for (flags, length) in [(0u32, 134), (1, 134), (3, 10), (2, 10)] {
        let mut client = RawClient::connect(server.address).await;
        client.take(18).await.unwrap();
        client.send(&flags.to_be_bytes()).await;
        client.option(raw::OPT_EXPORT_NAME, b"vol1").await;
        let answer = client.take(length).await.unwrap();
        assert_eq!(answer[..8], MIB.to_be_bytes());
        assert!(answer[10..].iter().all(|byte| *byte == 0));
        client.request(0, raw::FLUSH, 5, 0, 0).await;
        assert_eq!(client.simple_reply().await, (0, 5));
    }
    let mut client = RawClient::greeted(server.address).await;
    client.option(raw::OPT_EXPORT_NAME, b"nothing").await;
    assert_eq!(client.take_rest().await, [0_u8; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_handshake_ends_in_time_however_slowly_it_drips() {
    let limits = Limits { handshake: Duration::from_millis(300), ..Limits::default() };
    let server = TestServer::start_with(MemoryExports::with("vol1", MIB), limits).await;
    let started = Instant::now();
    let mut silent = RawClient::connect(server.address).await;
    let mut dripping = RawClient::greeted(server.address).await;
    let drip = async {
        for byte in b"IHAVEOPT\0\0\0\x07\0\0\0\xff".iter().cycle() {
            if dripping.try_send(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), drip).await.expect("the server closes");
    assert_eq!(silent.take_rest().await.len(), 18);
    assert!(started.elapsed() < Duration::from_secs(3));
    // Once in, a client may be silent for longer than that.
    let mut client = RawClient::opened(server.address, "vol1").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    client.request(0, raw::FLUSH, 1, 0, 0).await;
    assert_eq!(client.simple_reply().await, (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_too_many_is_closed_and_a_freed_place_is_given_again() {
    let limits = Limits { connections: 4, ..Limits::default() };
    let server = TestServer::start_with(MemoryExports::with("vol1", MIB), limits).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(RawClient::opened(server.address, "vol1").await);
    }
    assert_eq!(RawClient::connect(server.address).await.take_rest().await, [0_u8; 0]);
    clients.pop();
    let mut tries = 0;
    while RawClient::connect(server.address).await.take(18).await.is_err() {
        tries += 1;
        assert!(tries < 100, "the place is not given again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_false_request_magic_ends_the_connection() {
    let server = TestServer::start(MIB).await;
    for magic in [0u32, 0x2560_9514, 0x21e4_1c71] {
        let mut client = RawClient::opened(server.address, "vol1").await;
        let mut bytes = raw::request(0, raw::FLUSH, 1, 0, 0);
        bytes[..4].copy_from_slice(&magic.to_be_bytes());
        client.send(&bytes).await;
        assert_eq!(client.take_rest().await, [0_u8; 0]);
    }
    assert_serves(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_writes_are_refused_and_the_stream_stays_in_step() {
    let server = TestServer::start(MIB).await;
    let mut client = RawClient::opened(server.address, "vol1").await;
    for (flags, offset, length, error) in [
        (0, MIB, 4096, raw::ENOSPC),
        (0, u64::MAX - 511, 4096, raw::ENOSPC),
        (0, 1, 512, raw::EINVAL),
        (0, 0, 700, raw::EINVAL),
        (1 << 5, 0, 512, raw::EINVAL),
        (0, 0, (32 << 20) + 512, raw::EINVAL),
        (0, 0, 64 << 20, raw::EINVAL),
    ] {
        client.request(flags, raw::WRITE, 1, offset, length).await;
        client.send(&vec![0x25; length as usize]).await;
        assert_eq!(client.simple_reply().await, (error, 1), "{offset} {length}");
    }
    for kind in [8, 99, u16::MAX] {
        client.request(0, kind, 2, 0, 512).await;
        assert_eq!(client.simple_reply().await, (raw::EINVAL, 2));
    }
    client.request(0, raw::BLOCK_STATUS, 3, 0, 512).await;
    assert_eq!(client.simple_reply().await, (raw::EINVAL, 3));
    client.request(0, raw::READ, 4, 0, (32 << 20) + 512).await;
    assert_eq!(client.simple_reply().await, (raw::EINVAL, 4));
    client.request(0, raw::READ, 5, 0, 0).await;
    assert_eq!(client.simple_reply().await, (0, 5));
    assert_eq!(server.volume().allocated_blocks(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_of_absurd_length_ends_the_connection() {
    let server = TestServer::start(MIB).await;
    let mut client = RawClient::opened(server.address, "vol1").await;
    client.request(0, raw::WRITE, 1, 0, u32::MAX - 511).await;
    assert_eq!(client.take_rest().await, [0_u8; 0]);
    assert_serves(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_cut_in_its_payload_does_not_reach_the_volume() {
    let server = TestServer::start(MIB).await;
    let mut client = RawClient::opened(server.address, "vol1").await;
    client.request(0, raw::WRITE, 1, 0, 65536).await;
    client.send(&[1; 65535]).await;
    drop(client);
    assert_serves(&server).await;
    assert_eq!(server.volume().allocated_blocks(), 0);
    assert_eq!(server.volume().pending.load(SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extended_requests_may_carry_a_payload_where_none_is_wanted() {
    let server = TestServer::start(MIB).await;
    let mut client = RawClient::greeted(server.address).await;
    assert_eq!(client.negotiate(raw::OPT_EXTENDED_HEADERS, &[]).await, raw::REP_ACK);
    assert_eq!(client.go("vol1").await, raw::REP_ACK);
    let extended = |flags: u16, kind: u16, length: u64| {
        let mut bytes = raw::request(flags, kind, 1, 0, 0);
        bytes[..4].copy_from_slice(&0x21e4_1c71u32.to_be_bytes());
        bytes.truncate(24);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes
    };
    client.send(&extended(1 << 5, raw::TRIM, 4096)).await;
    client.send(&[9; 4096]).await;
    let header = client.take(32).await.unwrap();
    assert_eq!((raw::u32_at(&header, 0), raw::u32_at(&header, 4)), (0x6e8a_278c, 0x0001_8001));
    let payload = client.take(raw::u32_at(&header, 28) as usize).await.unwrap();
    assert_eq!(raw::u32_at(&payload, 0), raw::EINVAL);
    client.send(&extended(0, raw::TRIM, u64::MAX - 511)).await;
    let header = client.take(32).await.unwrap();
    client.take(raw::u32_at(&header, 28) as usize).await.unwrap();
    client.send(&extended(1 << 5, raw::TRIM, u64::MAX - 511)).await;
    assert_eq!(client.take_rest().await, [0_u8; 0]);
}
