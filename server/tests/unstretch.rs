//! A stretched pod taken from one of its arrays by the command line: two arrays as processes, a host at each.

#![allow(clippy::unwrap_used, reason = "this is test code")]

mod running;

use std::time::Duration;

use metropod_server::client::nbd::NbdClient;
use running::{Running, scratch, text};

const MIB: u64 = 1 << 20;

fn open(array: &Running, volume: &str) -> NbdClient {
    NbdClient::open(array.ready.nbd.unwrap(), volume, Duration::from_secs(5)).unwrap()
}

#[test]
fn the_array_that_stays_serves_on_and_the_other_keeps_a_destroyed_copy() {
    let scratch = scratch();
    let a = Running::start("A", &scratch.path().join("a"));
    let b = Running::start("B", &scratch.path().join("b"));
    let key = a.json(&["array", "connection-key"])["key"].as_str().unwrap().to_owned();
    let address = a.ready.listen.to_string();
    b.json(&["array", "connect", "--address", &address, "--key", &key]);
    a.json(&["pod", "create", "p"]);
    a.json(&["volume", "create", "p::v", "--size", "4M"]);
    a.json(&["pod", "stretch", "p", "--to", "B", "--wait"]);
    let (mut at_a, mut at_b) = (open(&a, "p::v"), open(&b, "p::v"));
    at_b.write(MIB, &[7; 4096]).unwrap();

    // Whoever is asked, and whoever orders by then.
    let ordering = |shape: &serde_json::Value| -> String {
        let rows = shape["arrays"].as_array().unwrap().iter();
        rows.filter(|row| row["sequencer"] == true).map(|row| row["name"].as_str().unwrap()).collect()
    };
    for (asked, to) in [(&a, "B"), (&a, "A"), (&b, "B")] {
        assert_eq!(ordering(&asked.json(&["pod", "switch", "p", "--to", to, "--wait"])), to);
        at_a.write(2 * MIB, &[5; 4096]).unwrap();
        at_b.write(2 * MIB, &[6; 4096]).unwrap();
    }
    assert_eq!(a.metropod(&["pod", "switch", "p", "--to", "C"]).status.code(), Some(1));

    let refused = a.metropod(&["pod", "destroy", "p", "--contents"]);
    assert!(text(&refused.stderr).contains("pod unstretch"), "{}", text(&refused.stderr));
    assert_eq!(a.metropod(&["pod", "unstretch", "p"]).status.code(), Some(2), "from which is to be said");
    let shape = a.json(&["pod", "unstretch", "p", "--from", "B", "--wait"]);
    assert_eq!((shape["name"].as_str(), shape["arrays"].as_array().unwrap().len()), (Some("p"), 1));
    assert_eq!(shape["arrays"][0]["status"], "online");

    at_a.write(0, &[8; 4096]).unwrap();
    let mut block = [0; 4096];
    at_a.read(MIB, &mut block).unwrap();
    assert_eq!(block, [7; 4096]);
    assert!(at_b.read(MIB, &mut block).is_err(), "the array that left serves the pod no more");
    // It hears that it is let go at once, or a little later.
    let copies = (0..200).find_map(|_| {
        std::thread::sleep(Duration::from_millis(50));
        let pods = b.json(&["pod", "list"]);
        pods.as_array().unwrap().iter().any(|pod| pod["name"] == "p-left").then_some(pods)
    });
    assert_eq!(copies.unwrap().as_array().unwrap().len(), 1);
    b.json(&["pod", "recover", "p-left"]);
    open(&b, "p-left::v").read(MIB, &mut block).unwrap();
    assert_eq!(block, [7; 4096]);
    a.json(&["pod", "destroy", "p", "--contents"]);
}
