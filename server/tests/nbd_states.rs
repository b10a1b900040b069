//! What a host sees of a volume that pauses, goes away or breaks, and of a server that stops.

mod support;

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use metropod_server::nbd::Limits;
use support::raw::{self, RawClient};
use support::{MemoryExports, MemoryVolume, Mode, TestServer};

const MIB: u64 = 1 << 20;
const MOMENT: Duration = Duration::from_millis(150);

/// A write of `length` bytes, header and payload.
fn write(cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    let mut bytes = raw::request(0, raw::WRITE, cookie, offset, length);
    bytes.resize(bytes.len() + length as usize, 0x5a);
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_volume_shakes_hands_is_silent_and_completes_later() {
    let server = TestServer::start(MIB).await;
    server.volume().set(Mode::Paused);
    let mut client = RawClient::greeted(server.address).await;
    assert_eq!(client.go("vol1").await, raw::REP_ACK);
    client.send(&write(7, 0, 4096)).await;
    client.request(0, raw::FLUSH, 8, 0, 0).await;
    server.volume().wait_for_pending(2).await;
    assert!(client.is_silent_for(MOMENT).await);
    server.volume().set(Mode::Normal);
    let mut replies = [client.simple_reply().await, client.simple_reply().await];
    replies.sort();
    assert_eq!(replies, [(0, 7), (0, 8)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_the_connection_drops_its_pending_requests() {
    let server = TestServer::start(MIB).await;
    server.volume().set(Mode::Paused);
    let mut client = RawClient::opened(server.address, "vol1").await;
    for cookie in 0..10 {
        client.send(&write(cookie, cookie * 4096, 4096)).await;
    }
    server.volume().wait_for_pending(10).await;
    drop(client);
    server.volume().wait_for_pending(0).await;
    server.volume().set(Mode::Normal);
    assert_eq!(server.volume().allocated_blocks(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_is_noticed_also_when_the_limits_are_used_up_and_input_is_unread() {
    let limits = Limits { requests_in_flight: 8, ..Limits::default() };
    let server = TestServer::start_with(MemoryExports::with("vol1", MIB), limits).await;
    server.volume().set(Mode::Paused);
    let mut client = RawClient::opened(server.address, "vol1").await;
    for cookie in 0..100 {
        client.send(&write(cookie, 0, 512)).await;
    }
    server.volume().wait_for_pending(8).await;
    drop(client);
    server.volume().wait_for_pending(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_flight_stay_within_the_limit_and_none_is_lost() {
    let limits = Limits { requests_in_flight: 8, ..Limits::default() };
    let server = TestServer::start_with(MemoryExports::with("vol1", MIB), limits).await;
    server.volume().set(Mode::Paused);
    let mut client = RawClient::opened(server.address, "vol1").await;
    for cookie in 0..100 {
        client.request(0, raw::FLUSH, cookie, 0, 0).await;
    }
    server.volume().wait_for_pending(8).await;
    assert!(client.is_silent_for(MOMENT).await);
    server.volume().set(Mode::Shuffled);
    let mut cookies = Vec::new();
    for _ in 0..100 {
        let (error, cookie) = client.simple_reply().await;
        assert_eq!(error, 0);
        cookies.push(cookie);
    }
    cookies.sort_unstable();
    assert!(cookies.iter().copied().eq(0..100));
    assert_eq!(server.volume().pending_max.load(SeqCst), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payload_bytes_in_flight_stay_within_the_limit() {
    let limits = Limits { bytes_in_flight: 32 << 20, ..Limits::default() };
    let server = TestServer::start_with(MemoryExports::with("vol1", 64 * MIB), limits).await;
    server.volume().set(Mode::Paused);
    let mut client = RawClient::opened(server.address, "vol1").await;
    client.request(0, raw::READ, 1, 0, 32 << 20).await;
    client.request(0, raw::READ, 2, 0, 512).await;
    server.volume().wait_for_pending(1).await;
    assert!(client.is_silent_for(MOMENT).await);
    assert_eq!(server.volume().pending.load(SeqCst), 1);
    server.volume().set(Mode::Normal);
    assert_eq!(client.simple_reply().await, (0, 1));
    client.take(32 << 20).await.unwrap();
    assert_eq!(client.simple_reply().await, (0, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_fetches_no_replies_holds_up_only_itself() {
    let limits = Limits { bytes_in_flight: 32 << 20, ..Limits::default() };
    let server = TestServer::start_with(MemoryExports::with("vol1", 64 * MIB), limits).await;
    let mut greedy = RawClient::opened(server.address, "vol1").await;
    for cookie in 0..64 {
        greedy.request(0, raw::READ, cookie, 0, 32 << 20).await;
    }
    let mut other = RawClient::opened(server.address, "vol1").await;
    other.send(&write(1, 0, 4096)).await;
    assert_eq!(other.simple_reply().await, (0, 1));
    drop(greedy);
    other.request(0, raw::FLUSH, 2, 0, 0).await;
    assert_eq!(other.simple_reply().await, (0, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_goes_away_answers_shutdown_and_closes() {
    let server = TestServer::start(MIB).await;
    server.volume().set(Mode::Paused);
    let mut client = RawClient::opened(server.address, "vol1").await;
    for cookie in 0..5 {
        client.send(&write(cookie, 0, 4096)).await;
    }
    server.volume().wait_for_pending(5).await;
    server.volume().set(Mode::Gone);
    let mut cookies = Vec::new();
    for _ in 0..5 {
        let (error, cookie) = client.simple_reply().await;
        assert_eq!(error, raw::ESHUTDOWN);
        cookies.push(cookie);
    }
    cookies.sort_unstable();
    assert_eq!(cookies, [0, 1, 2, 3, 4]);
    assert_eq!(client.take_rest().await, [0_u8; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_reaches_a_client_that_keeps_sending() {
    let server = TestServer::start(MIB).await;
    let mut client = RawClient::opened(server.address, "vol1").await;
    server.volume().set(Mode::Gone);
    let mut flood = Vec::new();
    (0..64).for_each(|cookie| flood.extend(write(cookie, 0, 65536)));
    let sent = client.try_send(&flood).await;
    assert_eq!(client.simple_reply().await, (raw::ESHUTDOWN, 0), "{sent:?}");
    assert!(client.take_rest().await.len() % 16 == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_is_gone_refuses_to_be_opened() {
    let server = TestServer::start(MIB).await;
    server.volume().set(Mode::Gone);
    let mut client = RawClient::greeted(server.address).await;
    assert_eq!(client.negotiate(raw::OPT_INFO, &raw::go_data("vol1")).await, raw::ERR_SHUTDOWN);
    assert_eq!(client.go("vol1").await, raw::ERR_SHUTDOWN);
    assert_eq!(client.go("vol2").await, raw::ERR_UNKNOWN);
    server.volume().set(Mode::Normal);
    assert_eq!(client.go("vol1").await, raw::REP_ACK);
    client.request(0, raw::FLUSH, 1, 0, 0).await;
    assert_eq!(client.simple_reply().await, (0, 1));

    server.volume().set(Mode::Gone);
    let mut old = RawClient::greeted(server.address).await;
    old.option(raw::OPT_EXPORT_NAME, b"vol1").await;
    assert_eq!(old.take_rest().await, [0_u8; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goodbye_waits_for_what_is_in_flight() {
    let server = TestServer::start(MIB).await;
    server.volume().set(Mode::Paused);
    let mut client = RawClient::opened(server.address, "vol1").await;
    client.send(&write(1, 0, 4096)).await;
    client.request(0, raw::DISC, 2, 0, 0).await;
    server.volume().wait_for_pending(1).await;
    server.volume().set(Mode::Normal);
    assert_eq!(client.simple_reply().await, (0, 1));
    assert_eq!(client.take_rest().await, [0_u8; 0]);
    assert_eq!(server.volume().allocated_blocks(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_meets_a_bug_closes_its_connection_and_no_other() {
    let exports = MemoryExports::of([("vol1", MemoryVolume::new(MIB)), ("vol2", MemoryVolume::new(MIB))]);
    let server = TestServer::start_with(exports, Limits::default()).await;
    let mut good = RawClient::opened(server.address, "vol2").await;
    for pause in [false, true] {
        server.volume().set(if pause { Mode::Paused } else { Mode::Broken });
        let mut client = RawClient::opened(server.address, "vol1").await;
        client.request(0, raw::FLUSH, 1, 0, 0).await;
        if pause {
            server.volume().wait_for_pending(1).await;
            server.volume().set(Mode::Broken);
        }
        assert_eq!(client.take_rest().await, [0_u8; 0]);
    }
    good.request(0, raw::FLUSH, 1, 0, 0).await;
    assert_eq!(good.simple_reply().await, (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_answer_of_the_volume_is_an_error_not_data() {
    let server = TestServer::start(MIB).await;
    let mut client = RawClient::opened(server.address, "vol1").await;
    server.volume().set(Mode::Lying);
    client.request(0, raw::READ, 1, 0, 8192).await;
    assert_eq!(client.simple_reply().await, (raw::EIO, 1));
    server.volume().set(Mode::Normal);
    client.request(0, raw::READ, 2, 0, 8192).await;
    assert_eq!(client.simple_reply().await, (0, 2));
    client.take(8192).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_takes_a_moment_whatever_the_clients_do() {
    let server = TestServer::start(MIB).await;
    let _greeted = RawClient::connect(server.address).await;
    let _idle = RawClient::opened(server.address, "vol1").await;
    let volume = server.volume();
    volume.set(Mode::Paused);
    let mut waiting = RawClient::opened(server.address, "vol1").await;
    waiting.request(0, raw::FLUSH, 1, 0, 0).await;
    volume.wait_for_pending(1).await;
    let took = server.stop().await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(volume.pending.load(SeqCst), 0);
    assert_eq!(waiting.take_rest().await, [0_u8; 0]);
}
