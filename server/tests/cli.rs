//! The command line against running arrays.

#![allow(clippy::unwrap_used, reason = "this is test code")]

mod running;

use std::fs;
use std::process::Output;
use std::time::Duration;

use metropod_server::client::nbd::NbdClient;
use running::{Running, command, command_at, metropod, scratch, text};
use serde_json::json;

/// Asserts a refusal: status 1, nothing on stdout, one line on stderr that says `said`.
fn assert_refused(output: &Output, said: &str) {
    let line = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.starts_with("metropod: ") && line.contains(said), "{line}");
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn a_volume_is_made_with_three_commands_and_shown() {
    let scratch = scratch();
    let array = Running::start("A", &scratch.path().join("a"));
    assert_eq!(array.json(&["pod", "create", "p"])["name"], "p");
    assert_eq!(array.json(&["volume", "create", "p::v", "--size", "10M"])["size_bytes"], 10 << 20);
    let pods = array.json(&["pod", "list"]);
    assert_eq!(pods[0]["arrays"][0]["status"], "online");
    assert_eq!(pods[0]["size_bytes"], 10 << 20);
    assert_eq!(array.json(&["volume", "show", "p::v"]), array.json(&["volume", "list"])[0]);
    assert_eq!(array.json(&["pod", "set", "p", "--failover-preference", "A"])["failover_preference"], "A");
    assert_eq!(
        array.json(&["pod", "set", "p", "--failover-preference", ""])["failover_preference"],
        json!(null)
    );
    assert_eq!(array.json(&["array", "connections"]), json!([]));
    assert!(array.json(&["array", "connection-key"])["key"].as_str().is_some_and(|key| key.len() > 64));
    assert_eq!(array.json(&["snapshot", "create", "p::v", "--suffix", "s"])[0]["name"], "p::v.s");
    let shown = array.metropod(&["volume", "list"]);
    assert!(text(&shown.stdout).contains("p::v  10M"), "{}", text(&shown.stdout));
    assert_eq!(text(&shown.stderr), "");
}

#[test]
fn a_pod_at_one_array_is_forecast_and_explained() {
    let scratch = scratch();
    let array = Running::start("A", &scratch.path().join("a"));
    array.json(&["pod", "create", "p"]);
    let forecast = array.json(&["pod", "forecast", "P"]);
    assert_eq!(forecast["pod"], "p");
    let cuts = json!([{
        "lost": "array", "array": "A", "outcome": "nobody", "online": [],
        "because": "no other array has the pod",
    }]);
    assert_eq!(forecast["cuts"], cuts);
    let why = array.json(&["pod", "explain", "p"]);
    assert_eq!((&why["array"], &why["status"], &why["until"]), (&json!("A"), &json!("online"), &json!(null)));
    assert_eq!(why["because"], "it is the only array that has the pod");
    assert_eq!(why["decisions"][0]["decided"], "the pod was made at A");
    let shown = array.metropod(&["pod", "forecast", "p"]);
    assert!(text(&shown.stdout).contains("array A  nobody"), "{}", text(&shown.stdout));
    let shown = array.metropod(&["pod", "explain", "p"]);
    assert!(text(&shown.stdout).contains("decided in 0.1"), "{}", text(&shown.stdout));
    assert_refused(&array.metropod(&["pod", "forecast", "q"]), "no such pod");
}

#[test]
fn refusals_say_why_in_one_line() {
    let scratch = scratch();
    let array = Running::start("A", &scratch.path().join("a"));
    array.json(&["pod", "create", "p"]);
    assert_refused(&array.metropod(&["pod", "create", "p"]), "exists already; choose another name");
    assert_refused(&array.metropod(&["pod", "show", "q"]), "no such pod");
    assert_refused(&array.metropod(&["pod", "set", "p", "--mediator", "127.0.0.1:1"]), "pre-electing");
    assert_refused(&array.metropod(&["pod", "set", "p"]), "--failover-preference");
    assert_refused(&array.metropod(&["pod", "stretch", "p", "--to", "B"]), "array connections");
    assert_refused(&array.metropod(&["volume", "create", "p::v", "--size", "1K"]), "1 MiB");
    let key = "not-a-key";
    assert_refused(
        &array.metropod(&["array", "connect", "--address", "127.0.0.1:1", "--key", key]),
        "copy it again",
    );
}

#[test]
fn what_cannot_be_understood_is_status_2() {
    for arguments in [&["pod"][..], &["volume", "create", "p::v"], &["serve", "--name", "A"], &["nonsense"]] {
        assert_eq!(metropod(arguments).status.code(), Some(2), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["--version"], &["pod", "--help"]] {
        assert_eq!(metropod(arguments).status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn several_arrays_are_tried_in_order() {
    let scratch = scratch();
    let array = Running::start("A", &scratch.path().join("a"));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let urls = format!("http://{free},{}", array.url());
    let output = metropod(&["pod", "create", "p", "--api", &urls, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_refused(&metropod(&["pod", "list", "--api", &format!("http://{free}")]), "no array answers");
}

#[test]
fn a_directory_that_is_not_this_arrays_is_refused() {
    let scratch = scratch();
    let data = scratch.path().join("a");
    let array = Running::start("A", &data);
    assert_refused(&command("A", &data).output().unwrap(), "in use");
    assert_refused(&metropod(&["inspect", data.to_str().unwrap()]), "in use");
    let (api, other) = (array.ready.api.unwrap().to_string(), scratch.path().join("b"));
    assert_refused(&command_at("B", &other, &api).output().unwrap(), "--nbd");
    assert!(array.terminate().success());
    assert_refused(&command("B", &data).output().unwrap(), "--name A");
    assert_refused(&command("no good", &other).output().unwrap(), "letters, digits");
    let foreign = scratch.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("letters"), "dear").unwrap();
    assert_refused(&command("A", &foreign).output().unwrap(), "empty directory");
    assert_refused(&metropod(&["inspect", foreign.to_str().unwrap()]), "superblock");
    assert_refused(&metropod(&["demo", "--quick", "--data", foreign.to_str().unwrap()]), "not empty");
    assert_eq!(fs::read_dir(&foreign).unwrap().count(), 1);
}

#[test]
fn acknowledged_writes_survive_sigkill_sigterm_and_a_closed_stdin() {
    let scratch = scratch();
    let data = scratch.path().join("a");
    let patience = Duration::from_secs(10);
    let open = |array: &Running| NbdClient::open(array.ready.nbd.unwrap(), "p::v", patience).unwrap();
    let mut array = Running::start("A", &data);
    array.client().create_pod("p").unwrap();
    array.client().create_volume("p::v", 4 << 20).unwrap();
    for round in 0..3_u8 {
        let mut client = open(&array);
        for block in 0..64_u64 {
            client.write(block * 4096, &[round * 64 + block as u8 + 1; 4096]).unwrap();
        }
        client.write(64 * 4096, &[round + 1; 512]).unwrap();
        client.write_zeroes(4096, 4096).unwrap();
        match round {
            0 => array.kill(),
            1 => assert!(array.terminate().success()),
            _ => assert!(array.close_stdin().success()),
        }
        array = Running::start("A", &data);
        let mut client = open(&array);
        let mut block = [0; 4096];
        for number in 0..64_u64 {
            client.read(number * 4096, &mut block).unwrap();
            let expected = if number == 1 { 0 } else { round * 64 + number as u8 + 1 };
            assert_eq!(block, [expected; 4096], "round {round}, block {number}");
        }
        client.read(64 * 4096, &mut block).unwrap();
        assert_eq!((&block[..512], &block[512..]), (&[round + 1; 512][..], &[0; 3584][..]));
    }
}

#[test]
fn a_scrub_is_started_waited_for_shown_and_stopped() {
    let scratch = scratch();
    let data = scratch.path().join("a");
    let array = Running::start("A", &data);
    assert_eq!(array.json(&["scrub", "show"])["state"], "idle");
    array.client().create_pod("p").unwrap();
    array.client().create_volume("p::v", 4 << 20).unwrap();
    let patience = Duration::from_secs(10);
    NbdClient::open(array.ready.nbd.unwrap(), "p::v", patience).unwrap().write(0, &[7; 4096]).unwrap();
    assert!(array.terminate().success());
    let array = Running::start("A", &data);
    let done = array.json(&["scrub", "start", "--wait"]);
    assert_eq!(
        (&done["state"], &done["findings"], &done["eta_ms"]),
        (&json!("resting"), &json!(0), &json!(null))
    );
    assert!(done["records"].as_u64().unwrap() > 0 && done["bytes_done"] == done["bytes_total"], "{done}");
    let shown = array.metropod(&["scrub", "show"]);
    assert!(text(&shown.stdout).contains("resting"), "{}", text(&shown.stdout));
    assert_eq!(text(&shown.stderr), "");
    assert_eq!(array.json(&["scrub", "stop"])["finished"], 1);
    assert!(array.terminate().success());

    // A byte rots in the one record of data.
    let mut rotten = 0;
    for file in fs::read_dir(data.join("segments")).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        bytes[64 + 50] ^= 1;
        fs::write(&path, bytes).unwrap();
        rotten += 1;
    }
    let array = Running::start("A", &data);
    let output = array.metropod(&["scrub", "start", "--wait"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("finding  chunk "), "{}", text(&output.stdout));
    let line = text(&output.stderr);
    assert_eq!(line, format!("metropod: {rotten} things are rotten at this array; check its disk\n"));
}

#[test]
fn inspect_explains_a_stopped_array_and_changes_nothing() {
    let scratch = scratch();
    let data = scratch.path().join("a");
    let array = Running::start("A", &data);
    array.client().create_pod("p").unwrap();
    array.client().create_volume("p::v", 4 << 20).unwrap();
    array.kill();
    let before = files(&data);
    let output = metropod(&["inspect", data.to_str().unwrap(), "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["name"], &report["damage"]), (&json!("A"), &json!([])));
    assert!(report["journal"]["last"].as_u64() > Some(0), "{report}");
    assert_eq!(files(&data), before);
    assert!(text(&metropod(&["inspect", data.to_str().unwrap()]).stdout).contains("array"));

    // Rot in the middle of the superblock.
    let path = data.join("superblock");
    let mut bytes = fs::read(&path).unwrap();
    bytes[12] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_refused(&metropod(&["inspect", data.to_str().unwrap()]), "damaged");
    assert_refused(&command("A", &data).output().unwrap(), "damaged");
}

/// Paths and contents below a directory.
fn files(directory: &std::path::Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}
