//! Clients of libnbd against the NBD server: what they are told, and what they can do.

mod support;

use std::sync::atomic::Ordering::SeqCst;

use metropod_server::nbd::Limits;
use support::{MemoryExports, MemoryVolume, Mode, TestServer, nbdsh, require_tools, run, run_ok};

const MIB: u64 = 1 << 20;

fn require_libnbd() {
    require_tools(&[("nbdinfo", "libnbd-bin"), ("nbdcopy", "libnbd-bin"), ("python3:nbd", "python3-libnbd")]);
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
    for property in ["rotational", "read-only", "tls"] {
        assert!(!run("nbdinfo", &["--is", property, &uri]).await.status.success(), "{property}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_export_is_listed_and_an_unknown_one_is_refused_by_name() {
    require_libnbd();
    let exports = MemoryExports::of([
        ("pod1::vol1", MemoryVolume::new(MIB)),
        ("pod1::größe", MemoryVolume::new(2 * MIB)),
        ("frozen", MemoryVolume::new(MIB).read_only()),
    ]);
    let server = TestServer::start_with(exports, Limits::default()).await;
    let list = run_ok("nbdinfo", &["--list", "--json", &server.uri("")]).await;
    for name in ["pod1::vol1", "pod1::größe", "frozen"] {
        assert!(list.contains(&format!("\"export-name\": \"{name}\"")), "{name} in {list}");
    }
    let refused = run("nbdinfo", &[&server.uri("nothing")]).await;
    assert!(!refused.status.success());
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("No such file or directory for export: nothing"),
        "{refused:?}"
    );
    run_ok("nbdinfo", &["--is", "read-only", &server.uri("frozen")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_map_shows_data_zeroes_and_holes() {
    require_libnbd();
    let server = TestServer::start(MIB).await;
    let code = "h.pwrite(b'x'*65536, 131072); h.zero(65536, 262144, nbd.CMD_FLAG_NO_HOLE)";
    nbdsh(&server.uri("vol1"), code).await;
    let map = run_ok("nbdinfo", &["--map", &server.uri("vol1")]).await;
    let rows: Vec<Vec<&str>> = map.lines().map(|line| line.split_whitespace().take(3).collect()).collect();
    let expected = [
        ["0", "131072", "3"],
        ["131072", "65536", "0"],
        ["196608", "65536", "3"],
        ["262144", "65536", "2"],
        ["327680", "720896", "3"],
    ];
    assert_eq!(rows, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_status_extent_is_sent_when_one_is_asked_for() {
    require_libnbd();
    let server = TestServer::start(MIB).await;
    let script = format!(
        r#"
h.add_meta_context("base:allocation")
h.connect_uri("{}")
h.pwrite(b"x"*4096, 8192)
def show(context, offset, entries, error): print(context, offset, entries)
h.block_status(16384, 0, show)
h.block_status(16384, 0, show, nbd.CMD_FLAG_REQ_ONE)
h.block_status(512, 512, show)
"#,
        server.uri("vol1")
    );
    let shown = run_ok("nbdsh", &["-c", &script]).await;
    let lines: Vec<&str> = shown.lines().collect();
    let expected = [
        "base:allocation 0 [8192, 3, 4096, 0, 4096, 3]",
        "base:allocation 0 [8192, 3]",
        "base:allocation 512 [512, 3]",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_arrives_as_data_and_holes_and_unfragmented_as_one_piece() {
    require_libnbd();
    let server = TestServer::start(MIB).await;
    let script = r#"
h.pwrite(b"x"*4096, 65536)
def show(buf, offset, status, error): print(offset, len(buf), status)
assert h.pread_structured(131072, 0, show) == b"\0"*65536 + b"x"*4096 + b"\0"*61440
print("df")
assert h.pread_structured(131072, 0, show, nbd.CMD_FLAG_DF) == b"\0"*65536 + b"x"*4096 + b"\0"*61440
"#;
    let shown = nbdsh(&server.uri("vol1"), script).await;
    assert_eq!(shown, "0 65536 2\n65536 4096 1\n69632 61440 2\ndf\n0 131072 1\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_misuse_gets_the_error_the_protocol_names() {
    require_libnbd();
    let exports = MemoryExports::of([
        ("vol1", MemoryVolume::new(64 * MIB).slow_zeroes()),
        ("frozen", MemoryVolume::new(MIB).read_only()),
    ]);
    let server = TestServer::start_with(exports, Limits::default()).await;
    let expect = r#"
import errno
h.set_strict_mode(0)
def expect(name, action):
    try:
        action()
    except nbd.Error as e:
        assert e.errno == name, (name, e)
    else:
        raise AssertionError("expected " + name)
"#;
    let script = format!(
        r#"{expect}
end = h.get_size()
expect("EINVAL", lambda: h.pread(512, end))
expect("EINVAL", lambda: h.pread(1024, end - 512))
expect("ENOSPC", lambda: h.pwrite(b"x"*1024, end - 512))
expect("ENOSPC", lambda: h.zero(1024, end - 512))
expect("EINVAL", lambda: h.trim(1024, end - 512))
expect("EINVAL", lambda: h.cache(1024, end - 512))
expect("EINVAL", lambda: h.pread(512, 1))
expect("EINVAL", lambda: h.pread(513, 0))
expect("EINVAL", lambda: h.pwrite(b"x"*513, 0))
expect("EINVAL", lambda: h.block_status(512, 0, lambda *a: None))
expect("ENOTSUP", lambda: h.zero(4096, 0, nbd.CMD_FLAG_FAST_ZERO))
h.zero(4096, 0)
h.pwrite(b"", 0); h.trim(0, 0); h.zero(0, 0)
h.cache(65536, 0)
h.pwrite(b"y"*512, end - 512, nbd.CMD_FLAG_FUA)
assert h.pread(512, end - 512) == b"y"*512
"#
    );
    nbdsh(&server.uri("vol1"), &script).await;
    let script = format!(
        r#"{expect}
expect("EPERM", lambda: h.pwrite(b"x"*512, 0))
expect("EPERM", lambda: h.zero(512, 0))
expect("EPERM", lambda: h.trim(512, 0))
h.pread(512, 0); h.flush()
"#
    );
    nbdsh(&server.uri("frozen"), &script).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_volume_says_reaches_the_client() {
    use metropod_server::nbd::IoError;
    require_libnbd();
    let server = TestServer::start(MIB).await;
    let modes = [
        (Mode::Failing(IoError::NoSpace), "ENOSPC"),
        (Mode::Failing(IoError::Io), "EIO"),
        (Mode::Failing(IoError::Invalid), "EINVAL"),
        (Mode::Failing(IoError::ReadOnly), "EPERM"),
    ];
    for (mode, name) in modes {
        server.volume().set(mode);
        let script = format!(
            r#"
for action in [lambda: h.pwrite(b"x"*512, 0), lambda: h.pread(512, 0), lambda: h.flush(), lambda: h.trim(512, 0)]:
    try:
        action()
    except nbd.Error as e:
        assert e.errno == "{name}", e
    else:
        raise AssertionError("expected {name}")
"#
        );
        nbdsh(&server.uri("vol1"), &script).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_structured_replies_reads_the_same() {
    require_libnbd();
    let server = TestServer::start(MIB).await;
    let script = format!(
        r#"
h.set_request_structured_replies(False)
h.connect_uri("{}")
assert not h.get_structured_replies_negotiated() and not h.can_df()
h.pwrite(b"x"*4096, 65536)
assert h.pread(131072, 0) == b"\0"*65536 + b"x"*4096 + b"\0"*61440
try:
    h.pread(512, 1048576)
except nbd.Error as e:
    print(e.errno)
assert h.pread(512, 65536) == b"x"*512
"#,
        server.uri("vol1")
    );
    assert_eq!(run_ok("nbdsh", &["-c", &script]).await, "EINVAL\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_can_be_haggled_over_in_any_order() {
    require_libnbd();
    let server = TestServer::start(MIB).await;
    let script = format!(
        r#"
h.set_opt_mode(True)
h.set_full_info(True)
h.connect_uri("{}")
names = []
h.opt_list(lambda name, description: names.append((name, description)))
contexts = []
h.add_meta_context("base:")
h.opt_list_meta_context(lambda name: contexts.append(name))
h.clear_meta_contexts()
h.opt_list_meta_context(lambda name: contexts.append(name))
h.set_export_name("nothing")
try:
    h.opt_info()
except nbd.Error as e:
    print(e.errno)
h.set_export_name("vol1")
h.opt_info()
print(names, contexts, h.get_size(), h.get_export_description(), h.get_canonical_export_name())
h.opt_go()
h.pwrite(b"x"*512, 0)
"#,
        server.uri("vol1")
    );
    let expected = "ENOENT\n[('vol1', 'a volume in memory')] ['base:allocation', 'base:allocation'] 1048576 \
                    a volume in memory vol1\n";
    assert_eq!(run_ok("nbdsh", &["-c", &script]).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_that_overtake_one_another_find_their_requests() {
    require_libnbd();
    let server = TestServer::start(16 * MIB).await;
    server.volume().set(Mode::Shuffled);
    let script = r#"
cookies = []
for i in range(200):
    buf = nbd.Buffer.from_bytearray(bytearray([i % 251] * 8192))
    cookies.append(h.aio_pwrite(buf, i * 8192))
while h.aio_in_flight() > 0:
    h.poll(-1)
bufs = [nbd.Buffer(8192) for i in range(200)]
for i in range(200):
    h.aio_pread(bufs[i], i * 8192)
while h.aio_in_flight() > 0:
    h.poll(-1)
for i in range(200):
    assert bufs[i].to_bytearray() == bytearray([i % 251] * 8192), i
"#;
    nbdsh(&server.uri("vol1"), script).await;
    assert!(server.volume().pending_max.load(SeqCst) > 1);
    assert!(server.volume().pending_max.load(SeqCst) <= Limits::default().requests_in_flight);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_on_one_connection_follows_writes_on_another() {
    require_libnbd();
    let server = TestServer::start(MIB).await;
    let script = format!(
        r#"
g = nbd.NBD()
g.connect_uri("{}")
assert h.can_multi_conn() and g.can_multi_conn()
h.pwrite(b"a"*4096, 0)
g.flush()
assert g.pread(4096, 0) == b"a"*4096
g.pwrite(b"b"*4096, 0, nbd.CMD_FLAG_FUA)
assert h.pread(4096, 0) == b"b"*4096
"#,
        server.uri("vol1")
    );
    nbdsh(&server.uri("vol1"), &script).await;
    assert_eq!((server.volume().flushes.load(SeqCst), server.volume().fua_writes.load(SeqCst)), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nbdkit_can_pass_the_volume_on() {
    require_libnbd();
    require_tools(&[("nbdkit", "nbdkit")]);
    let server = TestServer::start(MIB).await;
    let uri = format!("uri={}", server.uri("vol1"));
    let script =
        "nbdsh -u \"$uri\" -c 'h.pwrite(b\"z\"*1000, 5); assert h.pread(1000, 5) == b\"z\"*1000; h.flush()'";
    run_ok("nbdkit", &["-U", "-", "--filter=blocksize", "nbd", &uri, "minblock=4096", "--run", script]).await;
    assert!(server.volume().flushes.load(SeqCst) > 0);
    assert_eq!(server.volume().allocated_blocks(), 1);
}
