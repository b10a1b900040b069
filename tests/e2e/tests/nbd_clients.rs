//! Real NBD clients against a running array: what they are told, and that what they write is what they read.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::path::Path;
use std::time::Duration;

use metropod_e2e::{Array, Scratch, metropod, require_tools, run, run_ok, run_ok_within, scratch};
use serde_json::Value;

const MIB: u64 = 1 << 20;
/// A volume's export name.
const VOLUME: &str = "pod1::vol1";

/// An array with two volumes of 64 MiB.
fn array(scratch: &Scratch) -> Array {
    require_tools(&[
        ("nbdinfo", "libnbd-bin"),
        ("nbdcopy", "libnbd-bin"),
        ("python3:nbd", "python3-libnbd"),
        ("qemu-io", "qemu-utils"),
        ("qemu-img", "qemu-utils"),
        ("fio", "fio"),
    ]);
    let array = Array::single("A", scratch.path());
    array.make_pod("pod1", &["vol1", "vol2"], 64 * MIB);
    array
}

fn nbdsh(uri: &str, script: &str) -> String {
    run_ok("nbdsh", &["-u", uri, "-c", script])
}

fn qemu_io(uri: &str, commands: &[&str]) -> String {
    let mut arguments = vec!["-f", "raw"];
    for command in commands {
        arguments.extend(["-c", command]);
    }
    arguments.push(uri);
    let shown = run_ok("qemu-io", &arguments);
    assert!(!shown.contains("failed"), "{commands:?}: {shown}");
    shown
}

#[test]
fn nbdinfo_lists_every_volume_and_finds_every_capability() {
    let scratch = scratch!("nbdinfo");
    let array = array(&scratch);
    let uri = array.uri(VOLUME);
    let shown: Value = serde_json::from_str(&run_ok("nbdinfo", &["--json", &uri])).unwrap();
    let export = &shown["exports"][0];
    assert_eq!(shown["protocol"], "newstyle-fixed");
    assert_eq!(export["export-size"], 64 * MIB);
    assert_eq!(export["block_size_minimum"], 512);
    assert_eq!(export["block_size_preferred"], 4096);
    assert_eq!(export["block_size_maximum"], 32 * MIB);
    assert!(export["contexts"].as_array().unwrap().contains(&"base:allocation".into()), "{shown}");
    for capability in
        ["read", "write", "trim", "zero", "fua", "flush", "cache", "df", "multi-conn", "structured-reply"]
    {
        run_ok("nbdinfo", &["--can", capability, &uri]);
    }
    assert!(!run("nbdinfo", &["--is", "read-only", &uri]).status.success());

    let list = run_ok("nbdinfo", &["--list", "--json", &format!("nbd://{}", array.options().nbd)]);
    let list: Value = serde_json::from_str(&list).unwrap();
    let mut names: Vec<_> =
        list["exports"].as_array().unwrap().iter().map(|export| export["export-name"].clone()).collect();
    names.sort_by_key(Value::to_string);
    assert_eq!(names, [VOLUME, "pod1::vol2"]);

    let unknown = run("nbdinfo", &[&array.uri("pod1::nothing")]);
    assert!(!unknown.status.success());
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("No such file"), "{unknown:?}");
}

#[test]
fn nbdsh_reads_zeroes_where_it_zeroed_or_trimmed_and_data_where_it_wrote() {
    let scratch = scratch!("nbdsh");
    let array = array(&scratch);
    let uri = array.uri(VOLUME);
    nbdsh(
        &uri,
        r#"
h.pwrite(b"a"*65536, 0, nbd.CMD_FLAG_FUA)
h.pwrite(b"b"*512, 4096+512)
h.zero(8192, 16384)
h.zero(4096, 32768, nbd.CMD_FLAG_NO_HOLE)
h.trim(8192, 40960)
h.flush()
h.cache(65536, 0)
want = bytearray(b"a"*65536)
want[4608:5120] = b"b"*512
want[16384:24576] = bytes(8192)
want[32768:36864] = bytes(4096)
want[40960:49152] = bytes(8192)
assert h.pread(65536, 0) == want
assert h.pread(1024, 4096) == b"a"*512 + b"b"*512
assert h.pread_structured(65536, 0, lambda *a: None, nbd.CMD_FLAG_DF) == want
"#,
    );
    let shown = run_ok(
        "nbdsh",
        &[
            "-c",
            &format!(
                r#"
h.add_meta_context("base:allocation")
h.connect_uri("{uri}")
extents = []
h.block_status(1<<20, 0, lambda c, o, e, r: extents.extend(e))
print(extents)
"#
            ),
        ],
    );
    // Data (0) up to the first zeroes; holes (3) from where nothing was ever written.
    assert!(shown.starts_with("[16384, 0, 8192, 3, 8192, 0, "), "{shown}");
    let map = run_ok("nbdinfo", &["--map", &uri]);
    let rows: Vec<Vec<&str>> = map.lines().map(|line| line.split_whitespace().take(3).collect()).collect();
    assert_eq!(rows.first().unwrap(), &["0", "16384", "0"], "{map}");
    assert_eq!(rows.last().unwrap()[2], "3", "{map}");
    let total: u64 = rows.iter().map(|row| row[1].parse::<u64>().unwrap()).sum();
    assert_eq!(total, 64 * MIB, "{map}");
}

#[test]
fn a_flush_on_one_connection_covers_what_another_one_wrote() {
    let scratch = scratch!("multi-conn");
    let mut array = array(&scratch);
    let uri = array.uri(VOLUME);
    nbdsh(
        &uri,
        &format!(
            r#"
g = nbd.NBD()
g.connect_uri("{uri}")
assert h.can_multi_conn() and g.can_multi_conn()
h.pwrite(b"a"*4096, 0)
g.pwrite(b"b"*4096, 4096)
g.flush()
assert h.pread(8192, 0) == b"a"*4096 + b"b"*4096
"#
        ),
    );
    array.kill9();
    array.restart();
    nbdsh(&uri, r#"assert h.pread(8192, 0) == b"a"*4096 + b"b"*4096"#);
}

#[test]
fn misuse_gets_a_definite_error_and_harms_nothing() {
    let scratch = scratch!("misuse");
    let array = array(&scratch);
    nbdsh(
        &array.uri(VOLUME),
        r#"
h.set_strict_mode(0)
def expect(name, action):
    try:
        action()
    except nbd.Error as e:
        assert e.errno == name, (name, e)
    else:
        raise AssertionError("expected " + name)
end = h.get_size()
h.pwrite(b"k"*512, end - 512)
expect("EINVAL", lambda: h.pread(512, end))
expect("ENOSPC", lambda: h.pwrite(b"x"*1024, end - 512))
expect("ENOSPC", lambda: h.zero(1024, end - 512))
expect("EINVAL", lambda: h.trim(1024, end - 512))
expect("EINVAL", lambda: h.pread(512, 1))
expect("EINVAL", lambda: h.pwrite(b"x"*513, 0))
expect("EINVAL", lambda: h.pread(512, 1 << 63))
h.pwrite(b"", 0); h.trim(0, 0); h.zero(0, 0)
assert h.pread(512, end - 512) == b"k"*512
"#,
    );
}

#[test]
fn qemu_io_finds_its_patterns_again_after_the_array_was_killed() {
    let scratch = scratch!("qemu-io");
    let mut array = array(&scratch);
    let uri = array.uri(VOLUME);
    qemu_io(
        &uri,
        &[
            "write -f -P 7 0 64k",
            "write -P 3 1000k 3M",
            "write -z -u 64k 64k",
            "write -P 5 512 512",
            "discard 128k 64k",
            "aio_write -P 9 8M 64k",
            "aio_write -P 10 9M 64k",
            "aio_flush",
            "writev -P 11 10M 4k 512 8k",
            "flush",
        ],
    );
    let look = [
        "read -P 7 0 512",
        "read -P 5 512 512",
        "read -P 7 1k 63k",
        "read -P 0 64k 128k",
        "read -P 3 1000k 3M",
        "read -P 9 8M 64k",
        "read -P 10 9M 64k",
        "read -P 11 10M 12800",
        "read -P 0 63M 1M",
    ];
    qemu_io(&uri, &look);
    array.kill9();
    array.restart();
    qemu_io(&uri, &look);
    let map = run_ok("qemu-img", &["map", "--output=json", "-f", "raw", &uri]);
    let map: Value = serde_json::from_str(&map).unwrap();
    let length: u64 = map.as_array().unwrap().iter().map(|row| row["length"].as_u64().unwrap()).sum();
    assert_eq!(length, 64 * MIB, "{map}");
    run_ok("qemu-img", &["bench", "-c", "500", "-d", "16", "-f", "raw", "-w", "-o", "32M", &uri]);
    qemu_io(&uri, &look[..5]);
}

#[test]
fn nbdcopy_brings_a_file_in_and_out_unchanged() {
    let scratch = scratch!("nbdcopy");
    let array = array(&scratch);
    let (inward, outward) = (scratch.join("in"), scratch.join("out"));
    std::fs::write(&inward, real_bytes(64 * MIB)).unwrap();
    let text = |path: &Path| path.display().to_string();
    run_ok("nbdcopy", &["-C", "2", "-R", "16", &text(&inward), &array.uri(VOLUME)]);
    run_ok("nbdcopy", &["-C", "2", "-R", "16", &array.uri(VOLUME), &text(&outward)]);
    run_ok("cmp", &[&text(&inward), &text(&outward)]);
    run_ok("nbdcopy", &[&array.uri(VOLUME), &array.uri("pod1::vol2")]);
    run_ok("qemu-img", &["compare", "-f", "raw", "-F", "raw", &text(&inward), &array.uri("pod1::vol2")]);
}

#[test]
fn fio_verifies_random_writes_at_depth_sixteen() {
    let scratch = scratch!("fio");
    let array = array(&scratch);
    let report = scratch.join("fio.json").display().to_string();
    let directory = scratch.path().display().to_string();
    for (block, mix) in [("4k", "randwrite"), ("512-20k", "randrw")] {
        // It leaves the state of its verification in its working directory.
        let arguments = [
            "-C",
            &directory,
            "fio",
            "--name=verified",
            "--ioengine=nbd",
            &format!("--uri={}", array.uri(VOLUME)),
            &format!("--rw={mix}"),
            &if block.contains('-') { format!("--bsrange={block}") } else { format!("--bs={block}") },
            "--iodepth=16",
            "--size=24m",
            "--verify=crc32c",
            "--verify_fatal=1",
            "--do_verify=1",
            "--randseed=7",
            "--output-format=json",
            &format!("--output={report}"),
        ];
        run_ok_within(Duration::from_secs(120), "env", &arguments);
        let shown = std::fs::read_to_string(&report).unwrap();
        // It may say something about itself before the document.
        let shown: Value = serde_json::from_str(&shown[shown.find('{').unwrap()..]).unwrap();
        let job = &shown["jobs"][0];
        assert_eq!(job["error"], 0, "{shown}");
        assert!(job["write"]["io_bytes"].as_u64() >= Some(MIB), "{shown}");
    }
}

#[test]
fn a_snapshot_is_taken_and_listed_while_clients_are_connected() {
    let scratch = scratch!("snapshot");
    let array = array(&scratch);
    qemu_io(&array.uri(VOLUME), &["write -P 1 0 1M"]);
    array.cli(&["snapshot", "create", "pod1", "--suffix", "s1"]);
    qemu_io(&array.uri(VOLUME), &["write -P 2 0 1M", "read -P 2 0 1M"]);
    let snapshots = array.cli(&["snapshot", "list"]);
    let names: Vec<_> = snapshots.as_array().unwrap().iter().map(|row| row["name"].clone()).collect();
    assert_eq!(names, ["pod1::vol1.s1", "pod1::vol2.s1"]);
    let version = metropod(&["array", "show", "--json", "--api", &format!("http://{}", array.options().api)]);
    assert_eq!(version.unwrap()["name"], "A");
}

/// Bytes as found on a disk: this test itself, over and over, each time a little different.
fn real_bytes(count: u64) -> Vec<u8> {
    let mut bytes =
        std::fs::read(std::env::current_exe().expect("a test has a program")).expect("it can be read");
    let once = bytes.len();
    while (bytes.len() as u64) < count {
        let from = bytes.len();
        bytes.extend_from_within(..once);
        bytes[from] ^= (from >> 12) as u8;
    }
    bytes.truncate(count as usize);
    bytes
}
