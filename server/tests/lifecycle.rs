//! Pods, volumes and snapshots after they were made, by the command line of a running array.

#![allow(clippy::unwrap_used, reason = "this is test code")]

mod running;

use std::process::Output;
use std::time::{Duration, Instant};

use metropod_server::client::nbd::{NbdClient, NbdError};
use running::{Running, scratch, text};
use serde_json::json;

const MIB: u64 = 1 << 20;

fn open(array: &Running, volume: &str) -> NbdClient {
    NbdClient::open(array.ready.nbd.unwrap(), volume, Duration::from_secs(5)).unwrap()
}

fn assert_refused(output: &Output, said: &str) {
    let line = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert!(line.contains(said), "{line}");
}

/// An array with pod `p` and volume `p::v` of 4 MiB.
fn with_volume(scratch: &tempfile::TempDir) -> Running {
    let array = Running::start("A", &scratch.path().join("a"));
    array.client().create_pod("p").unwrap();
    array.client().create_volume("p::v", 4 * MIB).unwrap();
    array
}

fn block(array: &Running, volume: &str, offset: u64) -> u8 {
    let mut bytes = [0; 4096];
    open(array, volume).read(offset, &mut bytes).unwrap();
    assert!(bytes.iter().all(|byte| *byte == bytes[0]));
    bytes[0]
}

#[test]
fn a_volume_moves_to_another_pod_with_its_content_and_its_snapshots() {
    let scratch = scratch();
    let mut array = with_volume(&scratch);
    open(&array, "p::v").write(MIB, &[7; 4096]).unwrap();
    array.json(&["snapshot", "create", "p::v", "--suffix", "early"]);
    array.json(&["snapshot", "create", "p::v", "--suffix", "gone"]);
    array.json(&["snapshot", "destroy", "p::v.gone"]);
    open(&array, "p::v").write(MIB, &[8; 4096]).unwrap();
    array.client().create_pod("q").unwrap();
    assert_eq!(array.json(&["volume", "move", "p::v", "q"])["name"], "q::v");
    // Who did not hear of it asks again.
    let again = array.json(&["volume", "move", "p::v", "q"]);
    assert_eq!((&again["name"], &again["moving_to"]), (&json!("q::v"), &json!(null)));
    assert_refused(&array.metropod(&["volume", "show", "p::v"]), "no such volume");
    assert!(NbdClient::open(array.ready.nbd.unwrap(), "p::v", Duration::from_secs(5)).is_err());
    assert_eq!(block(&array, "q::v", MIB), 8);
    array.kill();
    array = Running::start("A", &scratch.path().join("a"));
    assert_eq!(block(&array, "q::v", MIB), 8);
    array.json(&["snapshot", "create", "q::v", "--suffix", "late"]);
    array.json(&["snapshot", "recover", "q::v.gone"]);
    let listed = array.json(&["snapshot", "list"]);
    let mut names: Vec<&str> =
        listed.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["q::v.early", "q::v.gone", "q::v.late"]);
    array.json(&["snapshot", "restore", "q::v.early"]);
    assert_eq!(block(&array, "q::v", MIB), 7);
    array.json(&["snapshot", "restore", "q::v.late"]);
    assert_eq!(block(&array, "q::v", MIB), 8);
}

#[test]
fn a_volume_that_cannot_move_stays_in_use() {
    let scratch = scratch();
    let array = with_volume(&scratch);
    open(&array, "p::v").write(MIB, &[7; 4096]).unwrap();
    assert_refused(&array.metropod(&["volume", "move", "p::v", "q"]), "no such pod");
    assert_refused(&array.metropod(&["volume", "move", "p::w", "p"]), "no such volume");
    assert_refused(&array.metropod(&["volume", "move", "p::v", "p"]), "same pod");
    array.client().create_pod("q").unwrap();
    array.json(&["pod", "set", "q", "--quota", "2M"]);
    assert_refused(&array.metropod(&["volume", "move", "p::v", "q"]), "quota");
    array.json(&["pod", "set", "q", "--quota", "0"]);
    array.client().create_volume("q::v", 4 * MIB).unwrap();
    assert_refused(&array.metropod(&["volume", "move", "p::v", "q"]), "exists already");
    array.json(&["pod", "destroy", "q", "--contents"]);
    assert_refused(&array.metropod(&["volume", "move", "p::v", "q"]), "is destroyed");
    array.json(&["volume", "destroy", "p::v"]);
    array.client().create_pod("r").unwrap();
    assert_refused(&array.metropod(&["volume", "move", "p::v", "r"]), "is destroyed");
    array.json(&["volume", "recover", "p::v"]);
    assert_eq!(block(&array, "p::v", MIB), 7);
}

#[test]
fn a_volume_grows_and_shrinks_only_when_that_is_said() {
    let scratch = scratch();
    let mut array = with_volume(&scratch);
    open(&array, "p::v").write(3 * MIB, &[7; 4096]).unwrap();
    assert_eq!(array.json(&["volume", "resize", "p::v", "--size", "8M"])["size_bytes"], 8 * MIB);
    open(&array, "p::v").write(7 * MIB, &[8; 4096]).unwrap();
    assert_refused(&array.metropod(&["volume", "resize", "p::v", "--size", "2M"]), "--truncate");
    assert_refused(&array.metropod(&["volume", "resize", "p::v", "--size", "1000000"]), "512");
    let odd = (2 * MIB + 512).to_string();
    assert_refused(&array.metropod(&["volume", "resize", "p::v", "--size", &odd, "--truncate"]), "4 KiB");
    array.json(&["volume", "resize", "p::v", "--size", "2M", "--truncate"]);
    array.json(&["volume", "resize", "p::v", "--size", "8M"]);
    array.kill();
    array = Running::start("A", &scratch.path().join("a"));
    assert_eq!(array.client().volume("p::v").unwrap().size_bytes, 8 * MIB);
    assert_eq!((block(&array, "p::v", 3 * MIB), block(&array, "p::v", 7 * MIB)), (0, 0));
}

#[test]
fn a_destroyed_volume_refuses_hosts_and_comes_back_as_it_was() {
    let scratch = scratch();
    let mut array = with_volume(&scratch);
    let mut host = open(&array, "p::v");
    host.write(MIB, &[7; 4096]).unwrap();
    array.client().create_snapshot("p::v", Some("s")).unwrap();
    let shape = array.json(&["volume", "destroy", "p::v"]);
    assert_eq!(shape["destroyed"], true);
    assert!(shape["eradicated_in_ms"].as_u64().is_some_and(|ms| (86_000_000..=86_400_000).contains(&ms)));
    let told = host.read(MIB, &mut [0; 4096]).unwrap_err();
    assert!(matches!(told, NbdError::Shutdown), "ESHUTDOWN, not {told:?}");
    assert!(NbdClient::open(array.ready.nbd.unwrap(), "p::v", Duration::from_millis(100)).is_err());
    for refused in [
        &["volume", "destroy", "p::v"][..],
        &["volume", "resize", "p::v", "--size", "8M"],
        &["snapshot", "create", "p::v"],
        &["snapshot", "restore", "p::v.s"],
        &["volume", "copy", "p::v.s", "p::w"],
        &["volume", "diff", "p::v", "p::v.s"],
    ] {
        assert_refused(&array.metropod(refused), "recover it first");
    }
    assert_refused(&array.metropod(&["volume", "create", "p::v", "--size", "4M"]), "eradicated");
    assert!(text(&array.metropod(&["volume", "list"]).stdout).contains("eradicated in 23h 59m"));
    array.kill();
    array = Running::start("A", &scratch.path().join("a"));
    assert!(array.client().volume("p::v").unwrap().destroyed);
    assert_eq!(array.json(&["volume", "recover", "p::v"])["destroyed"], false);
    assert_eq!(block(&array, "p::v", MIB), 7);
    assert_refused(&array.metropod(&["volume", "eradicate", "p::v"]), "not destroyed");

    array.json(&["volume", "destroy", "p::v"]);
    assert_eq!(array.json(&["volume", "eradicate", "p::v"]), json!({"name": "p::v"}));
    assert_eq!((array.json(&["volume", "list"]), array.json(&["snapshot", "list"])), (json!([]), json!([])));
    array.client().create_volume("p::v", 4 * MIB).unwrap();
    assert_eq!(block(&array, "p::v", MIB), 0);
}

#[test]
fn what_is_destroyed_is_eradicated_when_its_time_has_come() {
    let scratch = scratch();
    let array = with_volume(&scratch);
    assert_eq!(
        array.json(&["pod", "set", "p", "--eradication-delay", "1s"])["eradication_delay_ms"],
        json!(1000)
    );
    array.client().create_snapshot("p::v", Some("s")).unwrap();
    let began = Instant::now();
    array.json(&["snapshot", "destroy", "p::v.s"]);
    array.json(&["volume", "destroy", "p::v"]);
    while !array.client().volumes().unwrap().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(20), "eradicated in time");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(began.elapsed() >= Duration::from_secs(1), "not before its time");
    assert_eq!(array.client().snapshots().unwrap(), []);
}

#[test]
fn content_is_copied_restored_and_compared() {
    let scratch = scratch();
    let array = with_volume(&scratch);
    open(&array, "p::v").write(MIB, &[1; 8192]).unwrap();
    array.client().create_snapshot("p::v", Some("s")).unwrap();
    open(&array, "p::v").write(MIB, &[2; 4096]).unwrap();
    open(&array, "p::v").write_zeroes(MIB + 4096, 4096).unwrap();
    open(&array, "p::v").write(2 * MIB, &[2; 4096]).unwrap();
    open(&array, "p::v").write(3 * MIB, &[2; 4096]).unwrap();
    open(&array, "p::v").write_zeroes(3 * MIB, 4096).unwrap();
    let range = |offset: u64, first: bool, second: bool| json!({"offset": offset, "length": 4096, "zero_in_first": first, "zero_in_second": second});
    let diff = array.json(&["volume", "diff", "p::v.s", "p::v"]);
    assert_eq!((&diff["differing_bytes"], &diff["truncated"]), (&json!(12_288), &json!(false)));
    let ranges = [range(MIB, false, false), range(MIB + 4096, false, true), range(2 * MIB, true, false)];
    assert_eq!(diff["ranges"], json!(ranges));

    assert_eq!(array.json(&["volume", "show", "p::v", "--measure"])["logical_bytes"], 8192);
    array.json(&["volume", "copy", "p::v", "p::w"]);
    assert_refused(&array.metropod(&["volume", "copy", "p::v", "p::w"]), "exists already");
    assert_eq!(array.json(&["volume", "diff", "p::v", "p::w"])["ranges"], json!([]));
    array.json(&["snapshot", "restore", "p::v.s"]);
    assert_eq!((block(&array, "p::v", MIB), block(&array, "p::v", 2 * MIB)), (1, 0));
    array.json(&["volume", "resize", "p::w", "--size", "8M"]);
    array.json(&["volume", "copy", "p::v.s", "p::w", "--overwrite"]);
    let diff = array.json(&["volume", "diff", "p::v", "p::w"]);
    assert_eq!((&diff["ranges"], &diff["second_bytes"]), (&json!([]), &json!(8 * MIB)));
    array.client().create_pod("q").unwrap();
    assert_refused(&array.metropod(&["volume", "copy", "p::v", "q::v"]), "different pods");
    let shown = array.metropod(&["volume", "diff", "p::v", "p::w"]);
    assert_eq!(text(&shown.stdout), "no difference\n");
}

#[test]
fn a_pod_ends_with_its_volumes_only_when_that_is_said() {
    let scratch = scratch();
    let mut array = with_volume(&scratch);
    open(&array, "p::v").write(MIB, &[7; 4096]).unwrap();
    let mut host = open(&array, "p::v");
    assert_refused(&array.metropod(&["pod", "destroy", "p"]), "--contents");
    assert_eq!(array.json(&["pod", "destroy", "p", "--contents"])["destroyed"], true);
    assert!(host.read(MIB, &mut [0; 4096]).is_err());
    assert_refused(&array.metropod(&["volume", "create", "p::w", "--size", "4M"]), "recover it first");
    assert_refused(&array.metropod(&["pod", "create", "p"]), "exists already");
    array.json(&["pod", "recover", "p"]);
    assert_eq!(block(&array, "p::v", MIB), 7);
    array.json(&["pod", "destroy", "p", "--contents"]);
    assert_refused(&array.metropod(&["pod", "eradicate", "p"]), "--contents");
    array.json(&["pod", "eradicate", "p", "--contents"]);
    array.kill();
    array = Running::start("A", &scratch.path().join("a"));
    assert_eq!(array.json(&["pod", "list"]), json!([]));
    array.client().create_pod("p").unwrap();
}

#[test]
fn a_quota_bounds_the_sum_of_sizes_until_eradication() {
    let scratch = scratch();
    let array = with_volume(&scratch);
    assert_refused(&array.metropod(&["pod", "set", "p", "--quota", "2M"]), "larger");
    assert_eq!(array.json(&["pod", "set", "p", "--quota", "10M"])["quota_bytes"], 10 * MIB);
    let quota = "quota";
    assert_refused(&array.metropod(&["volume", "create", "p::w", "--size", "7M"]), quota);
    assert_refused(&array.metropod(&["volume", "resize", "p::v", "--size", "11M"]), quota);
    array.json(&["volume", "copy", "p::v", "p::w"]);
    assert_refused(&array.metropod(&["volume", "copy", "p::v", "p::x"]), quota);
    array.json(&["volume", "destroy", "p::w"]);
    let pod = array.json(&["pod", "show", "p"]);
    assert_eq!((&pod["size_bytes"], &pod["provisioned_bytes"]), (&json!(4 * MIB), &json!(8 * MIB)));
    assert_refused(&array.metropod(&["volume", "copy", "p::v", "p::x"]), quota);
    array.json(&["volume", "eradicate", "p::w"]);
    array.json(&["volume", "copy", "p::v", "p::x"]);
    assert_eq!(array.json(&["pod", "set", "p", "--quota", "0"])["quota_bytes"], json!(null));
    array.json(&["volume", "create", "p::y", "--size", "100M"]);
}

#[test]
fn a_limited_volume_is_slow_for_its_hosts_and_for_nobody_else() {
    let scratch = scratch();
    let array = with_volume(&scratch);
    array.client().create_volume("p::free", 4 * MIB).unwrap();
    let time = |volume: &str| {
        let mut host = open(&array, volume);
        let began = Instant::now();
        for number in 0..30 {
            host.write(number * 4096, &[1; 4096]).unwrap();
            host.read(number * 4096, &mut [0; 4096]).unwrap();
        }
        began.elapsed()
    };
    let set = array.json(&["volume", "set", "p::v", "--iops-limit", "60"]);
    assert_eq!((&set["iops_limit"], &set["bandwidth_limit_bytes_per_s"]), (&json!(60), &json!(null)));
    let slow = time("p::v");
    assert!(slow >= Duration::from_millis(900), "60 requests at 60 a second, less the burst: {slow:?}");
    let set = array.json(&["volume", "set", "p::v", "--iops-limit", "0", "--bandwidth-limit", "240K"]);
    assert_eq!((&set["iops_limit"], &set["bandwidth_limit_bytes_per_s"]), (&json!(null), &json!(240 << 10)));
    let slow = time("p::v");
    assert!(slow >= Duration::from_millis(900), "240 KiB at 240 KiB a second, less the burst: {slow:?}");
    let free = time("p::free");
    assert!(free < slow / 2, "{free:?}");
}

#[test]
fn a_destroyed_volume_does_not_let_its_hosts_wait_for_its_limit() {
    let scratch = scratch();
    let array = with_volume(&scratch);
    array.json(&["volume", "set", "p::v", "--iops-limit", "1"]);
    let mut host = open(&array, "p::v");
    host.write(0, &[1; 4096]).unwrap();
    let waiting = std::thread::spawn(move || {
        let began = Instant::now();
        let told = (0..100).find_map(|_| host.read(0, &mut [0; 4096]).err());
        (told, began.elapsed())
    });
    std::thread::sleep(Duration::from_millis(100));
    array.json(&["volume", "destroy", "p::v"]);
    let (told, after) = waiting.join().unwrap();
    assert!(matches!(told, Some(NbdError::Shutdown)), "{told:?}");
    assert!(after < Duration::from_millis(900), "{after:?}");
}
