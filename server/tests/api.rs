//! The REST API of a running array.

#![allow(clippy::unwrap_used, reason = "this is test code")]

mod running;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use running::{Running, scratch};
use serde_json::{Value, json};

/// Sends one request; gives status and body.
fn ask(array: &Running, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(array.ready.api.unwrap()).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{method} {path}: {answer:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn ask_json(array: &Running, method: &str, path: &str, body: &str) -> (u16, Value) {
    let (status, text) = ask(array, method, path, body);
    (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{method} {path}: {error}: {text}")))
}

#[test]
fn every_operation_that_is_described_exists() {
    let scratch = scratch();
    let array = Running::start("A", &scratch.path().join("a"));
    let (status, document) = ask_json(&array, "GET", "/openapi.json", "");
    assert_eq!(status, 200);
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            let path = path.replace("{pod}", "nobody").replace("{volume}", "nobody::none");
            let path = ["{snapshot}", "{first}", "{second}"]
                .iter()
                .fold(path, |path, parameter| path.replace(parameter, "nobody::none.never"));
            let (status, body) = ask(&array, &method.to_uppercase(), &path, "");
            assert!(status != 405 && !body.contains("no such resource"), "{method} {path}: {status} {body}");
            operations += 1;
        }
    }
    assert_eq!(operations, 43);
}

#[test]
fn errors_say_what_and_what_to_do() {
    let scratch = scratch();
    let array = Running::start("A", &scratch.path().join("a"));
    array.client().create_pod("p").unwrap();
    let long = format!("{{\"name\": \"{}\"}}", "x".repeat(100_000));
    for (method, path, body, expected) in [
        ("GET", "/api/v1/nothing", "", 404),
        ("DELETE", "/api/v1/pods", "", 405),
        ("GET", "/api/v1/pods/q", "", 404),
        ("POST", "/api/v1/pods", "{", 400),
        ("POST", "/api/v1/pods", "{\"name\": 7}", 400),
        ("POST", "/api/v1/pods", "{\"name\": \"q\", \"nmae\": 1}", 400),
        ("POST", "/api/v1/pods", "{\"name\": \"a b\"}", 400),
        ("POST", "/api/v1/pods", "{\"name\": \"P\"}", 409),
        ("POST", "/api/v1/pods", &long, 413),
        ("POST", "/api/v1/volumes", "{\"name\": \"p::v\", \"size_bytes\": 1000}", 400),
        ("POST", "/api/v1/volumes", "{\"name\": \"p::v\"}", 400),
        ("POST", "/api/v1/volumes", "{\"name\": \"q::v\", \"size_bytes\": 1048576}", 404),
        ("POST", "/api/v1/pods/p/destroy", "{\"contents\": 1}", 400),
        ("POST", "/api/v1/pods/p/recover", "", 409),
        ("POST", "/api/v1/pods/q/eradicate", "", 404),
        ("PATCH", "/api/v1/pods/p", "", 400),
        ("PATCH", "/api/v1/volumes/p::v", "{\"size_bytes\": 1048576}", 404),
        ("PATCH", "/api/v1/volumes/p::v", "{\"truncate\": true}", 400),
        ("POST", "/api/v1/volumes/p::v.s/destroy", "", 404),
        ("POST", "/api/v1/volumes/p::v/overwrite", "{\"source\": \"x\"}", 404),
        ("GET", "/api/v1/diff/p::v/p::w", "", 404),
        ("GET", "/api/v1/snapshots/p::v.s", "", 404),
        ("POST", "/api/v1/snapshots/p::v/restore", "", 404),
        ("POST", "/api/v1/pods/p/stretch", "{\"array\": \"B\"}", 404),
        ("PATCH", "/api/v1/pods/p", "{\"failover_preference\": \"B\"}", 404),
        ("POST", "/api/v1/array/connections", "{\"address\": \"127.0.0.1:1\", \"key\": \"x\"}", 400),
        ("POST", "/api/v1/array/connections", "{\"address\": \"nowhere\", \"key\": \"x\"}", 400),
    ] {
        let (status, answer) = ask_json(&array, method, path, body);
        assert_eq!(status, expected, "{method} {path} {body:.60}: {answer}");
        for field in ["error", "remedy"] {
            assert!(answer[field].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}: {answer}");
        }
    }
    assert_eq!(ask(&array, "GET", "/healthz", "").0, 200);
}

#[test]
fn garbage_on_the_port_harms_nobody_else() {
    let scratch = scratch();
    let array = Running::start("A", &scratch.path().join("a"));
    let address = array.ready.api.unwrap();
    let endless = [b"GET /".as_slice(), &vec![b'x'; 200_000]].concat();
    let mut half_open = TcpStream::connect(address).unwrap();
    half_open.write_all(b"GET /healthz HTT").unwrap();
    for garbage in [
        b"\0\xff\x16\x03\x01".as_slice(),
        b"GET\r\n\r\n",
        b"POST /api/v1/pods HTTP/1.1\r\nContent-Length: 99\r\n\r\n{",
        &endless,
    ] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        // The server may close before it has read everything.
        let _cut_short = stream.write_all(garbage).and_then(|()| stream.shutdown(std::net::Shutdown::Write));
        let _reset = stream.read_to_end(&mut Vec::new());
        assert_eq!(ask(&array, "GET", "/healthz", "").0, 200);
    }
}

#[test]
fn volumes_are_cloned_and_snapshots_taken() {
    let scratch = scratch();
    let array = Running::start("A", &scratch.path().join("a"));
    array.client().create_pod("p").unwrap();
    for name in ["p::v", "p::w"] {
        array.client().create_volume(name, 1 << 20).unwrap();
    }
    let taken = array.client().create_snapshot("p", Some("noon")).unwrap();
    let names: Vec<_> = taken.iter().map(|snapshot| snapshot.name.as_str()).collect();
    assert_eq!(names, ["p::v.noon", "p::w.noon"]);
    let clone = json!({"name": "p::x", "source": "p::v.noon"}).to_string();
    let (status, made) = ask_json(&array, "POST", "/api/v1/volumes", &clone);
    assert_eq!((status, &made["name"], &made["size_bytes"]), (201, &json!("p::x"), &json!(1 << 20)));
    assert_eq!(array.client().volume("P::X").unwrap().name, "p::x");
    assert_eq!(array.client().snapshots().unwrap().len(), 2);
}

#[test]
fn metrics_tell_the_state_of_pods_and_journal() {
    let scratch = scratch();
    let array = Running::start("A", &scratch.path().join("a"));
    array.client().create_pod("p").unwrap();
    let (status, text) = ask(&array, "GET", "/metrics", "");
    assert_eq!(status, 200);
    assert!(text.contains("metropod_pod_status{pod=\"p\",array=\"A\",status=\"online\"} 1\n"), "{text}");
    assert!(text.contains("metropod_journal_budget_bytes 134217728\n"), "{text}");
}
