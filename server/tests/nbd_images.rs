//! Whole images through the NBD server: QEMU, nbdcopy, fio.

#![allow(clippy::unwrap_used, reason = "this is test code")]

mod support;

use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;

use support::{TestServer, qemu_io, require_tools, run, run_ok};

const MIB: u64 = 1 << 20;

fn require_qemu() {
    require_tools(&[("qemu-io", "qemu-utils"), ("qemu-img", "qemu-utils")]);
}

/// A sparse image: 1 MiB of noise at every fourth MiB.
fn image(path: &Path, size_bytes: u64) {
    use std::io::{Seek, SeekFrom, Write};
    let mut file = std::fs::File::create(path).unwrap();
    file.set_len(size_bytes).unwrap();
    let mut noise = 0x9e37_79b9_7f4a_7c15u64;
    for start in (0..size_bytes).step_by(4 * MIB as usize) {
        let mut bytes = Vec::with_capacity(MIB as usize);
        while bytes.len() < MIB as usize {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes.extend_from_slice(&noise.to_be_bytes());
        }
        file.seek(SeekFrom::Start(start)).unwrap();
        file.write_all(&bytes).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qemu_io_reads_back_what_it_wrote_zeroed_and_discarded() {
    require_qemu();
    let server = TestServer::start(64 * MIB).await;
    qemu_io(
        &server.uri("vol1"),
        &[
            "write -f -P 7 0 64k",
            "write -z -u 64k 64k",
            "write -P 8 128k 64k",
            "discard 128k 64k",
            "read -P 7 0 64k",
            "read -P 0 64k 128k",
            "write -P 3 512 512",
            "read -P 7 0 512",
            "read -P 3 512 512",
            "aio_write -P 9 1M 64k",
            "aio_write -P 10 2M 64k",
            "aio_flush",
            "read -P 9 1M 64k",
            "read -P 10 2M 64k",
            "write -P 11 3M 32M",
            "read -P 11 3M 32M",
            "write -z 3M 32M",
            "read -P 0 3M 32M",
            "discard 3M 61M",
            "flush",
        ],
    )
    .await;
    assert!(server.volume().fua_writes.load(SeqCst) > 0);
    assert!(server.volume().flushes.load(SeqCst) > 0);
    // 0..64k, 1M, 2M; what was zeroed with -u or discarded is a hole.
    assert_eq!(server.volume().allocated_blocks(), 48);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qemu_negotiates_extended_headers_and_status_answers_in_one_piece() {
    require_qemu();
    let server = TestServer::start(1 << 43).await;
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    let option = format!("enable=nbd_*,file={}", trace.display());
    run_ok("qemu-io", &["--trace", &option, "-f", "raw", "-c", "write -P 1 5T 4k", &server.uri("vol1")])
        .await;
    let trace = String::from_utf8_lossy(&std::fs::read(&trace).unwrap()).into_owned();
    assert!(trace.contains("extended headers"), "{trace}");
    // Eight tebibytes need extents longer than 32 bits can say.
    let map = run_ok("qemu-img", &["map", "--output=json", "-f", "raw", &server.uri("vol1")]).await;
    let rows: Vec<serde_json::Value> = serde_json::from_str(&map).unwrap();
    let summary: Vec<_> = rows
        .iter()
        .map(|row| (row["start"].as_u64(), row["length"].as_u64(), row["zero"].as_bool()))
        .collect();
    let expected = [
        (Some(0), Some(5 << 40), Some(true)),
        (Some(5 << 40), Some(4096), Some(false)),
        (Some((5 << 40) + 4096), Some((3 << 40) - 4096), Some(true)),
    ];
    assert_eq!(summary, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_copied_in_and_out_over_several_connections_stays_the_same() {
    require_qemu();
    require_tools(&[("nbdcopy", "libnbd-bin")]);
    let server = TestServer::start(64 * MIB).await;
    let uri = server.uri("vol1");
    let directory = tempfile::tempdir().unwrap();
    let (source, copy) = (directory.path().join("source"), directory.path().join("copy"));
    image(&source, 64 * MIB);
    let (source, copy) = (source.to_str().unwrap(), copy.to_str().unwrap());
    run_ok("nbdcopy", &["-C", "2", "-R", "16", "--flush", source, &uri]).await;
    assert_eq!(server.volume().allocated_blocks(), 16 * 256);
    run_ok("qemu-img", &["compare", "-f", "raw", "-F", "raw", &uri, source]).await;
    run_ok("nbdcopy", &["-C", "2", "-R", "16", &uri, copy]).await;
    run_ok("cmp", &[source, copy]).await;
    qemu_io(&uri, &["write -P 5 8M 512"]).await;
    assert!(!run("qemu-img", &["compare", "-f", "raw", "-F", "raw", &uri, source]).await.status.success());
    run_ok("qemu-img", &["convert", "-n", "-f", "raw", "-O", "raw", source, &uri]).await;
    run_ok("qemu-img", &["compare", "-f", "raw", "-F", "raw", &uri, source]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fio_verifies_what_it_wrote_at_random_with_many_requests_in_flight() {
    require_tools(&[("fio", "fio")]);
    let server = TestServer::start(64 * MIB).await;
    let uri = format!("--uri={}", server.uri("vol1"));
    let directory = tempfile::tempdir().unwrap();
    let state = format!("--aux-path={}", directory.path().display());
    let arguments = [
        "--name=v",
        "--ioengine=nbd",
        &uri,
        "--rw=randwrite",
        "--bsrange=512-64k",
        "--bs_unaligned=0",
        "--iodepth=16",
        "--size=32m",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--do_verify=1",
        "--fsync=64",
        "--verify_state_save=0",
        &state,
    ];
    let report = run_ok("fio", &arguments).await;
    assert!(report.contains("err= 0"), "{report}");
}
