//! Names, sizes and documents that are out of range, by command line and REST: a definite refusal in words, and nothing
//! is made, changed or lost.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::path::Path;

use metropod_e2e::{Array, HttpAnswer, WITNESS_BYTES, Witness, http, misused, refused_saying, scratch};
use serde_json::{Value, json};

/// What is wrong with every name below.
const NAMES: &str = "names have 1 to 63 letters, digits or '-'";
const SIZES: &str = "a volume's size is a multiple of 512 bytes from 1 MiB to 4 PiB";

struct Site {
    array: Array,
    witness: Witness,
    before: Value,
}

fn site(base: &Path) -> Site {
    let array = Array::single("A", base);
    array.make_pod("pod1", &["vol1"], WITNESS_BYTES);
    array.cli(&["snapshot", "create", "pod1", "--suffix", "s1"]);
    let witness = Witness::write(&array, "pod1::vol1", 1);
    let before = names(&array);
    Site { array, witness, before }
}

/// Names of all there is.
fn names(array: &Array) -> Value {
    let names = |verb: &[&str]| -> Vec<Value> {
        array.cli(verb).as_array().unwrap().iter().map(|row| row["name"].clone()).collect()
    };
    json!([names(&["pod", "list"]), names(&["volume", "list"]), names(&["snapshot", "list"])])
}

impl Site {
    fn refuse(&self, verb: &[&str], says: &[&str]) {
        let api = format!("http://{}", self.array.options().api);
        refused_saying(&[verb, &["--api", &api]].concat(), says);
    }

    fn post(&self, path: &str, body: &str) -> HttpAnswer {
        http(self.array.options().api, "POST", path, body)
    }

    /// An error is a document that says what, and what to do.
    fn refuse_rest(&self, method: &str, path: &str, body: &str, status: u16, says: &str) {
        let answer = http(self.array.options().api, method, path, body);
        assert_eq!(answer.status, status, "{method} {path} {body}: {answer:?}");
        let text = |field: &str| answer.body[field].as_str().unwrap_or_default().to_owned();
        assert!(text("error").contains(says), "{method} {path} {body}: {says:?} in {answer:?}");
        assert!(!text("remedy").is_empty(), "{method} {path} {body}: {answer:?}");
    }

    /// Nothing was made or lost, now and after a restart.
    fn check(mut self) {
        assert_eq!(names(&self.array), self.before);
        self.witness.check(&self.array);
        assert!(self.array.is_up());
        self.array.kill9();
        self.array.restart();
        assert_eq!(names(&self.array), self.before);
        self.witness.check(&self.array);
    }
}

fn bad_names() -> Vec<String> {
    let mut names = ["", " ", "a b", "a/b", "../a", "a.b", "a:b", "ä", "a\tb", "%00", "'; --"]
        .map(str::to_owned)
        .to_vec();
    names.push("x".repeat(64));
    names.push("x".repeat(100_000));
    names
}

#[test]
fn names_out_of_range_are_refused_on_the_command_line() {
    let scratch = scratch!("names-cli");
    let site = site(scratch.path());
    for name in bad_names() {
        // A command line is shorter than that.
        let name = &name[..name.len().min(4096)];
        site.refuse(&["pod", "create", name], &[NAMES, "; "]);
        site.refuse(&["volume", "create", &format!("pod1::{name}"), "--size", "1M"], &[NAMES, "; "]);
        site.refuse(&["snapshot", "create", "pod1", "--suffix", name], &[NAMES, "; "]);
    }
    for name in ["pod1", "pod1:vol2", "pod1::", "::vol2", "pod1::a::b", "pod1::vol1.s2"] {
        site.refuse(&["volume", "create", name, "--size", "1M"], &[NAMES, "; "]);
    }
    site.check();
}

#[test]
fn what_is_unknown_or_taken_is_refused_on_the_command_line() {
    let scratch = scratch!("unknown-cli");
    let site = site(scratch.path());
    for (verb, says) in [
        (&["pod", "create", "pod1"][..], "a pod of this name exists already; choose another name"),
        (&["pod", "create", "POD1"], "a pod of this name exists already; choose another name"),
        (&["pod", "show", "nothing"], "no such pod at this array; see `metropod pod list`"),
        (&["pod", "forecast", "nothing"], "no such pod at this array; see `metropod pod list`"),
        (&["pod", "explain", "nothing"], "no such pod at this array; see `metropod pod list`"),
        (&["pod", "show", "../array"], "no such pod at this array; see `metropod pod list`"),
        (&["pod", "stretch", "pod1", "--to", "Z"], "no array of that name is connected; see"),
        (&["pod", "set", "pod1", "--failover-preference", "Z"], "no array of that name is connected; see"),
        (&["pod", "set", "pod1"], "nothing to set; give"),
        (&["volume", "create", "pod1::vol1", "--size", "1M"], "a volume of this name exists already; choose"),
        (&["volume", "create", "Pod1::Vol1", "--size", "1M"], "a volume of this name exists already; choose"),
        (&["volume", "create", "nothing::v", "--size", "1M"], "no such pod at this array; see"),
        (&["volume", "show", "pod1::nothing"], "no such volume at this array; see `metropod volume list`"),
        (&["snapshot", "create", "nothing"], "no such pod at this array; see"),
        (&["snapshot", "create", "pod1::nothing"], "no such volume; see `metropod volume list`"),
        (
            &["snapshot", "create", "pod1", "--suffix", "s1"],
            "with this suffix exists already; choose another",
        ),
        (&["array", "connect", "--address", "127.0.0.1:1", "--key", "x"], "not a connection key"),
        (&["array", "connect", "--address", "nowhere", "--key", "x"], "cannot be used: "),
    ] {
        site.refuse(verb, &[says]);
    }
    refused_saying(
        &["pod", "list", "--api", "http://127.0.0.1:1"],
        &["no array answers at", "is it running"],
    );
    refused_saying(&["pod", "list", "--api", "ftp://x"], &["is no API address; give one such as"]);
    let nbd = format!("http://{}", site.array.options().nbd);
    refused_saying(&["pod", "list", "--api", &nbd], &[&nbd, "--api"]);
    site.check();
}

#[test]
fn sizes_out_of_range_are_refused_and_what_is_no_size_is_wrong_usage() {
    let scratch = scratch!("sizes-cli");
    let site = site(scratch.path());
    for size in ["0", "1", "512", "1048575", "1048577", "1000000", "1023K", "5P", "4503599627370497"] {
        site.refuse(&["volume", "create", "pod1::v", "--size", size], &[SIZES, "; choose another size"]);
    }
    for size in ["", "ten", "-1", "1.5G", "10 G", "10GB", "0x10", "18446744073709551616", "16384P"] {
        let said = misused(&["volume", "create", "pod1::v", "--size", size]);
        assert!(said.contains("--size"), "{size}: {said}");
    }
    for line in [
        &["volume", "create", "pod1::v"][..],
        &["volume", "create"],
        &["volume", "explode", "pod1::v"],
        &["serve", "--name", "A"],
        &["serve", "--name", "A", "--data", "d", "--nbd", "nowhere"],
        &["serve", "--name", "A", "--data", "d", "--listen", "127.0.0.1:99999"],
        &["mediator", "--data", "d", "--listen", ""],
        &["nonsense"],
    ] {
        misused(line);
    }
    let data = scratch.join("B").display().to_string();
    let long = "x".repeat(64);
    for name in ["", "a b", "a_b", "ä", &long] {
        refused_saying(
            &["serve", "--name", name, "--data", &data],
            &["an array's name", "; choose another with"],
        );
    }
    for size in ["0", "1", "1M", "127M"] {
        let line = ["serve", "--name", "B", "--data", &data, "--journal-bytes", size];
        refused_saying(&line, &["the journal needs at least 128 MiB; give it more with --journal-bytes"]);
    }
    assert!(!Path::new(&data).exists(), "nothing was made before the refusal");
    site.check();
}

#[test]
fn rest_refuses_names_and_sizes_with_a_document() {
    let scratch = scratch!("names-rest");
    let site = site(scratch.path());
    for name in bad_names().into_iter().filter(|name| name.len() < 10_000) {
        let volume = json!({"name": format!("pod1::{name}"), "size_bytes": 1 << 20}).to_string();
        let snapshot = json!({"of": "pod1", "suffix": name}).to_string();
        site.refuse_rest("POST", "/api/v1/pods", &json!({"name": name}).to_string(), 400, NAMES);
        site.refuse_rest("POST", "/api/v1/volumes", &volume, 400, NAMES);
        site.refuse_rest("POST", "/api/v1/snapshots", &snapshot, 400, NAMES);
    }
    for size in [0, 1, 512, (1 << 20) + 1, (4 << 50) + 512, u64::MAX, u64::MAX - 511] {
        let volume = json!({"name": "pod1::v", "size_bytes": size}).to_string();
        site.refuse_rest("POST", "/api/v1/volumes", &volume, 400, SIZES);
    }
    let volumes = "/api/v1/volumes";
    let exists = json!({"name": "pod1::vol1", "size_bytes": 1 << 20}).to_string();
    site.refuse_rest("POST", volumes, &exists, 409, "exists already");
    let unknown = json!({"name": "nothing::v", "size_bytes": 1 << 20}).to_string();
    site.refuse_rest("POST", volumes, &unknown, 404, "no such pod");
    site.refuse_rest("POST", "/api/v1/pods", r#"{"name": "pod1"}"#, 409, "exists already");
    site.refuse_rest("GET", "/api/v1/pods/nothing", "", 404, "no such pod");
    site.refuse_rest("GET", "/api/v1/volumes/pod1::nothing", "", 404, "no such volume");
    site.refuse_rest("POST", "/api/v1/pods/pod1/stretch", r#"{"array": "Z"}"#, 404, "no array of that name");
    site.check();
}

#[test]
fn rest_refuses_what_is_no_request_with_a_document() {
    let scratch = scratch!("documents-rest");
    let site = site(scratch.path());
    let volumes = "/api/v1/volumes";
    for body in [
        "",
        "{",
        "[]",
        "null",
        "7",
        "\u{0}",
        r#"{"name": 7}"#,
        r#"{"name": "pod1::v", "size_bytes": -1}"#,
        r#"{"name": "pod1::v", "size_bytes": 1e30}"#,
        r#"{"name": "pod1::v", "size_bytes": "1M"}"#,
        r#"{"name": "pod1::v", "size_bytes": 18446744073709551616}"#,
        r#"{"name": "pod1::v"}"#,
        r#"{"size_bytes": 1048576}"#,
    ] {
        site.refuse_rest("POST", volumes, body, 400, "");
    }
    let deep = "[".repeat(50_000);
    site.refuse_rest("POST", volumes, &deep, 400, "the request's body");
    let long = format!(r#"{{"name": "{}"}}"#, "x".repeat(100_000));
    site.refuse_rest("POST", "/api/v1/pods", &long, 413, "longer than");
    site.refuse_rest("DELETE", volumes, "", 405, "method");
    site.refuse_rest("GET", "/api/v2/volumes", "", 404, "no such resource");
    site.refuse_rest("GET", "/", "", 404, "no such resource");
    // What is no path at all is an error of HTTP, or of a name; never an answer.
    for path in ["/api/v1/pods/%ff", "/api/v1/pods/%00", "/api/v1/pods/..%2f..", "/api/v1/volumes/%zz"] {
        let answer = http(site.array.options().api, "GET", path, "");
        assert!((400..500).contains(&answer.status), "{path}: {answer:?}");
    }
    assert_eq!(site.post("/api/v1/array/connection-key", "").status, 201);
    site.check();
}
