//! Real clients against the NBD server: libnbd's tools, QEMU, fio.

mod support;

use support::{MemoryExports, MemoryVolume, TestServer, nbdsh, qemu_io, require_tools, run, run_ok};

use metropod_server::nbd::Limits;

const MIB: u64 = 1 << 20;

fn require_libnbd() {
    require_tools(&[("nbdinfo", "libnbd-bin"), ("nbdcopy", "libnbd-bin"), ("python3:nbd", "python3-libnbd")]);
}

fn require_qemu() {
    require_tools(&[("qemu-io", "qemu-utils"), ("qemu-img", "qemu-utils")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nbdinfo_sees_size_block_sizes_and_every_capability() {
    require_libnbd();
    let server = TestServer::start(64 * MIB).await;
    let uri = server.uri("vol1");
    let info = run_ok("nbdinfo", &["--json", &uri]).await;
    for expected in [
        "\"export-size\": 67108864",
        "\"block_size_minimum\": 512",
        "\"block_size_preferred\": 4096",
        "\"block_size_maximum\": 33554432",
        "\"base:allocation\"",
        "a volume in memory",
    ] {
        assert!(info.contains(expected), "{expected} in {info}");
    }
    let capabilities = [
        "read",
        "write",
        "trim",
        "zero",
        "fast-zero",
        "fua",
        "flush",
        "cache",
        "df",
        "multi-conn",
        "structured-reply",
    ];
    for capability in capabilities {
        run_ok("nbdinfo", &["--can", capability, &uri]).await;
    }
    let rotational = run("nbdinfo", &["--is", "rotational", &uri]).await;
    assert!(!rotational.status.success());
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
            "flush",
        ],
    )
    .await;
    assert!(server.volume().fua_writes.load(std::sync::atomic::Ordering::SeqCst) > 0);
    assert!(server.volume().flushes.load(std::sync::atomic::Ordering::SeqCst) > 0);
    // 0..64k, 1M, 2M; what was zeroed with -u or discarded is a hole.
    assert_eq!(server.volume().allocated_blocks(), 48);
}
