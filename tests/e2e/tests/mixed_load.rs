//! fio through one array and qemu-io through the other, an array killed under both: the sides end up equal.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::time::Duration;

use metropod_e2e::{Array, Pair, PairOptions, Tool, require_tools, run_ok, run_ok_within, scratch};

const MIB: u64 = 1 << 20;
const VOLUME: &str = "pod1::vol1";
/// Where qemu-io writes, in MiB; fio writes below.
const FIRST_STRIPE_MIB: u32 = 64;
const STRIPES: u32 = 32;

#[test]
fn both_sides_are_equal_after_fio_at_a_and_qemu_io_at_b_and_a_kill_of_a() {
    require_tools(&[("fio", "fio"), ("qemu-io", "qemu-utils"), ("qemu-img", "qemu-utils")]);
    let scratch = scratch!("mixed-load");
    let options = PairOptions { volumes: vec!["vol1"], volume_bytes: 96 * MIB, proxied: false };
    let mut pair = Pair::start(scratch.path(), &options);

    // Both at once, to the end: fio reads back at A what it wrote there, and then at B.
    let fio = start_fio(&pair.a, "verified", &["--size=24m", "--do_verify=1"]);
    write_stripes(&pair.b, 0..STRIPES / 2, 1);
    let ended = fio.wait(Duration::from_secs(90));
    assert!(ended.status.success(), "{ended:?}");
    verify_at(&pair.b);

    // A dies under both; fio through A fails, B goes on.
    let endless = ["--offset=32m", "--size=24m", "--time_based", "--runtime=60", "--do_verify=0"];
    let mut fio = start_fio(&pair.a, "endless", &endless);
    write_stripes(&pair.b, 0..STRIPES / 4, 2);
    assert!(fio.is_running(), "fio writes when A is killed");
    pair.a.kill9();
    write_stripes(&pair.b, STRIPES / 4..STRIPES, 2);
    let ended = fio.wait(Duration::from_secs(30));
    assert!(!ended.status.success(), "its array is gone: {ended:?}");
    verify_at(&pair.b);

    pair.a.restart();
    pair.wait_online();
    pair.compare("vol1");
    for array in [&pair.a, &pair.b] {
        verify_at(array);
        read_stripes(array, 2);
    }
}

fn fio_arguments(array: &Array, name: &str) -> Vec<String> {
    let uri = format!("--uri={}", array.uri(VOLUME));
    let name = format!("--name={name}");
    let rest = "--rw=randwrite --bs=4k --iodepth=16 --verify=crc32c --verify_fatal=1 --randseed=5";
    // The engine first: it brings the option for the address.
    [name, "--ioengine=nbd".to_owned(), uri].into_iter().chain(rest.split(' ').map(str::to_owned)).collect()
}

fn start_fio(array: &Array, name: &str, more: &[&str]) -> Tool {
    let arguments = fio_arguments(array, name);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
    Tool::start("fio", &arguments)
}

/// fio finds at `array` what its first run wrote.
fn verify_at(array: &Array) {
    let arguments = fio_arguments(array, "verified");
    let more = ["--size=24m", "--verify_only"];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(more).collect();
    let shown = run_ok_within(Duration::from_secs(60), "fio", &arguments);
    assert!(shown.contains("io=24.0MiB"), "it did not look at everything: {shown}");
}

/// One qemu-io per four stripes of 1 MiB, each with a pattern of its own.
fn write_stripes(array: &Array, stripes: std::ops::Range<u32>, round: u32) {
    let all: Vec<u32> = stripes.collect();
    for some in all.chunks(4) {
        let commands: Vec<String> = some
            .iter()
            .map(|stripe| {
                format!("aio_write -P {} {}M 1M", pattern(*stripe, round), FIRST_STRIPE_MIB + stripe)
            })
            .collect();
        qemu_io(array, &commands);
    }
}

fn read_stripes(array: &Array, round: u32) {
    let commands: Vec<String> = (0..STRIPES)
        .map(|stripe| format!("read -P {} {}M 1M", pattern(stripe, round), FIRST_STRIPE_MIB + stripe))
        .collect();
    qemu_io(array, &commands);
}

fn pattern(stripe: u32, round: u32) -> u32 {
    1 + (stripe * 7 + round * 101) % 250
}

fn qemu_io(array: &Array, commands: &[String]) {
    let uri = array.uri(VOLUME);
    let mut arguments = vec!["-f", "raw"];
    for command in commands {
        arguments.extend(["-c", command.as_str()]);
    }
    arguments.extend(["-c", "aio_flush", &uri]);
    let shown = run_ok("qemu-io", &arguments);
    assert!(!shown.contains("failed"), "{commands:?} at {}: {shown}", array.name());
}
