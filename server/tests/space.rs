//! Whose the space is, by the command line of a running array.

#![allow(clippy::unwrap_used, reason = "this is test code")]

mod running;

use std::time::Duration;

use metropod_server::client::nbd::NbdClient;
use running::{Running, scratch, text};
use serde_json::{Value, json};

const BLOCK: usize = 4096;

/// What a block that cannot be compressed takes: with its header, rounded up to 64.
const RECORD: u64 = 4160;

/// Blocks that cannot be compressed; the same number gives the same block.
fn noise(numbers: std::ops::Range<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in numbers {
        let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for _ in 0..BLOCK / 8 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
    }
    bytes
}

fn write(array: &Running, volume: &str, first: u64, bytes: &[u8]) {
    let mut client = NbdClient::open(array.ready.nbd.unwrap(), volume, Duration::from_secs(5)).unwrap();
    for (at, block) in bytes.chunks(BLOCK).enumerate() {
        client.write((first + at as u64) * BLOCK as u64, block).unwrap();
    }
}

/// An array on which volumes of two pods share blocks, and a snapshot keeps some.
fn shared(scratch: &tempfile::TempDir) -> Running {
    let array = Running::start("A", &scratch.path().join("a"));
    let client = array.client();
    for pod in ["p", "q"] {
        client.create_pod(pod).unwrap();
    }
    for volume in ["p::v", "p::w", "q::u"] {
        client.create_volume(volume, 4 << 20).unwrap();
    }
    write(&array, "p::v", 0, &noise(0..100));
    write(&array, "p::w", 7, &noise(0..50));
    write(&array, "q::u", 0, &noise(0..20));
    client.create_snapshot("p::v", Some("s")).unwrap();
    write(&array, "p::v", 90, &noise(1000..1010));
    array
}

fn bytes(value: &Value, field: &str) -> i64 {
    value[field].as_i64().unwrap_or_else(|| panic!("{field} of {value}"))
}

/// So many blocks, stored as a hundred.
fn assert_ratio(value: &Value, field: &str, blocks: usize) {
    let expected = (blocks * BLOCK) as f64 / (100 * RECORD) as f64;
    assert!((value[field].as_f64().unwrap() - expected).abs() < 1e-9, "{field} of {value}");
}

fn assert_adds_up(shares: &Value) {
    let parts = [
        "unique_bytes",
        "shared_bytes",
        "snapshots_bytes",
        "held_bytes",
        "map_bytes",
        "unattributed_bytes",
        "cleanable_bytes",
        "overhead_bytes",
        "freed_bytes",
    ];
    let sum: i64 = parts.iter().map(|part| bytes(shares, part)).sum();
    assert_eq!(sum, bytes(shares, "used_bytes") + bytes(shares, "staged_bytes"), "{shares}");
}

#[test]
fn every_block_counts_for_whom_it_is_stored_and_all_of_it_adds_up() {
    let scratch = scratch();
    let array = shared(&scratch);
    assert_eq!(array.json(&["volume", "list"])[0]["unique_bytes"], json!(null), "not counted yet");
    let counted = array.json(&["array", "space", "--now"]);
    let shares = &counted["newest"];
    assert_adds_up(shares);
    let records = |count: u64| json!(count * RECORD);
    assert_eq!(shares["unique_bytes"], records(50));
    assert_eq!(shares["shared_bytes"], records(50));
    assert_eq!(shares["snapshots_bytes"], records(10));
    assert_eq!((&shares["missing_chunks"], &shares["logical_bytes"]), (&json!(0), &json!(170 * BLOCK)));
    assert_ratio(shares, "data_reduction", 170);

    let volume = array.json(&["volume", "show", "p::v"]);
    assert_eq!((&volume["unique_bytes"], &volume["shared_bytes"]), (&records(50), &records(50)));
    assert_eq!((&volume["snapshots_bytes"], &volume["logical_bytes"]), (&records(10), &json!(100 * BLOCK)));
    assert_ratio(&volume, "data_reduction", 100);
    assert_ratio(&volume, "total_reduction", 1024);
    let other = array.json(&["volume", "show", "q::u"]);
    assert_eq!((&other["unique_bytes"], &other["shared_bytes"]), (&json!(0), &records(20)));
    assert_eq!(array.json(&["snapshot", "list"])[0]["unique_bytes"], records(10));
    let pod = &array.json(&["pod", "show", "p"])["space"];
    assert_eq!((&pod["unique_bytes"], &pod["shared_bytes"]), (&records(50), &records(30)));
    assert_ratio(pod, "data_reduction", 150);

    let listed = text(&array.metropod(&["volume", "list", "--space"]).stdout);
    assert!(listed.contains("UNIQUE") && listed.contains("203.1K"), "{listed}");
    let shown = text(&array.metropod(&["array", "space"]).stdout);
    assert!(shown.contains("unique to a volume") && shown.contains("1.7 to 1"), "{shown}");
}

#[test]
fn what_was_overwritten_is_nobodys_until_it_is_collected() {
    let scratch = scratch();
    let array = shared(&scratch);
    array.json(&["array", "collect"]);
    write(&array, "p::v", 90, &noise(2000..2010));
    let before = array.json(&["array", "space", "--now"]);
    assert_adds_up(&before["newest"]);
    assert!(bytes(&before["newest"], "unattributed_bytes") >= (10 * RECORD) as i64, "{before}");
    array.json(&["array", "collect"]);
    let after = array.json(&["array", "space", "--now"]);
    assert_adds_up(&after["newest"]);
    assert_eq!(after["newest"]["unattributed_bytes"], json!(0), "{after}");
    for count in [before, after] {
        assert_eq!(count["newest"]["unique_bytes"], json!(50 * RECORD), "{count}");
        assert_eq!(count["newest"]["snapshots_bytes"], json!(10 * RECORD), "{count}");
    }
}
