//! Every work of `metropod bench`, quickly: it ends well, compares what it wrote, and tells it in the agreed form.

#![allow(clippy::unwrap_used, reason = "this is test code")]

mod running;

use std::fs;

use running::{metropod, scratch, text};
use serde_json::Value;

/// Runs a work quickly and checks the form of all that it gives.
fn quickly(arguments: &[&str]) -> Value {
    let scratch = scratch();
    let path = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let (csv, plot, dir) = (path("samples.csv"), path("plot.svg"), path(""));
    let mut all = vec!["bench"];
    all.extend(arguments);
    all.extend(["--quick", "--json", "--csv", &csv, "--plot", &plot, "--dir", &dir]);
    let output = metropod(&all);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["work"], arguments[0]);
    assert_eq!(document["checked"], true);
    assert!(document["blocks_checked"].as_u64() > Some(0), "{document}");
    let samples: Vec<f64> = numbers(&document["samples"]);
    assert!(!samples.is_empty() && samples.iter().all(|sample| sample.is_finite()), "{document}");
    let median = document["median"].as_f64().unwrap();
    assert!(samples.contains(&median), "{document}");
    assert!(!document["unit"].as_str().unwrap().is_empty() && document["params"].is_object());
    for name in ["cores", "file_system", "disk_write_cache", "load_average", "build"] {
        assert!(!document["context"][name].is_null(), "{name}: {document}");
    }
    for question in document["questions"].as_array().unwrap() {
        for figure in question["figures"].as_array().unwrap() {
            let measured = !numbers(&figure["samples"]).is_empty();
            assert!(measured || figure["missing"] == true, "{figure}");
        }
    }
    let csv = fs::read_to_string(csv).unwrap();
    assert!(csv.starts_with("question,name,kind,key,value,unit\n") && csv.contains(",sample,1,"), "{csv}");
    let svg = fs::read_to_string(plot).unwrap();
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 2, "the run's own directory is removed");
    document
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().filter_map(Value::as_f64).collect()
}

/// The figure whose name begins like this.
fn figure(document: &Value, name: &str) -> Value {
    let questions = document["questions"].as_array().unwrap();
    let mut figures = questions.iter().flat_map(|question| question["figures"].as_array().unwrap());
    figures.find(|figure| figure["name"].as_str().unwrap().starts_with(name)).unwrap().clone()
}

#[test]
fn writes_are_measured_beside_plain_appends_and_the_cores() {
    let document = quickly(&["write"]);
    let ours = figure(&document, "metropod, blocking");
    assert_eq!(ours["ratio"]["to"], "plain O_DIRECT+O_DSYNC append, prewritten file");
    assert!(ours["latency"]["count"].as_u64() >= Some(100), "{ours}");
    let percentiles = &ours["latency"]["percentiles"];
    assert!(percentiles["p50"].as_f64() <= percentiles["p99"].as_f64(), "{ours}");
    assert!(figure(&document, "512 bytes")["ratio"]["median"].as_f64() > Some(0.0));
    assert!(figure(&document, "metropod, reference mix")["ratio"]["median"].as_f64() > Some(0.0));
}

#[test]
fn a_depth_of_its_own_is_measured_alone() {
    let document = quickly(&["write", "--depth", "4", "--rounds", "1"]);
    assert_eq!(document["questions"].as_array().unwrap().len(), 2);
    assert_eq!(document["context"]["rounds"], 1);
}

#[test]
fn steady_writes_turn_the_journal_over() {
    let document = quickly(&["write", "--steady", "--rounds", "1"]);
    assert!(document["facts"]["journal_turned_over_at_least_times"].as_u64() >= Some(2), "{document}");
    assert!(!document["over_time"][0]["values"].as_array().unwrap().is_empty());
}

#[test]
fn writes_that_are_due_at_a_rate_are_timed_from_when_they_were_due() {
    let document = quickly(&["write", "--rate", "400", "--depth", "2", "--rounds", "1"]);
    let figures = document["questions"][0]["figures"].as_array().unwrap();
    assert_eq!(figures[0]["latency"]["count"], 200);
    assert_eq!(figures[1]["latency"]["count"], 400);
    // All are due at once: the last one waits for all before it.
    let document =
        quickly(&["write", "--rate", "10000000", "--depth", "1", "--rounds", "1", "--writes", "2000"]);
    let longest_us =
        document["questions"][0]["figures"][1]["latency"]["percentiles"]["p100"].as_f64().unwrap();
    let per_s = figure(&document, "10000000 per s due")["median"].as_f64().unwrap();
    assert!(longest_us / 1e6 > 0.9 * 2000.0 / per_s, "{document}");
}

#[test]
fn reads_are_measured_with_the_map_warm_and_cold() {
    let document = quickly(&["read"]);
    let questions = document["questions"].as_array().unwrap();
    let asked =
        |word: &str| questions.iter().filter(|one| one["question"].as_str().unwrap().contains(word)).count();
    assert_eq!((asked("map warm"), asked("map cold"), asked("sequential")), (2, 2, 1));
}

#[test]
fn snapshots_are_taken_under_load() {
    let document = quickly(&["snapshot"]);
    assert!(figure(&document, "a clone")["median"].as_f64() > Some(0.0));
}

#[test]
fn recovery_is_timed_to_the_first_read() {
    let document = quickly(&["recover"]);
    assert!(document["facts"]["journal_bytes_when_killed"].as_u64() > Some(8 << 20), "{document}");
    assert!(
        figure(&document, "first read")["median"].as_f64() >= figure(&document, "open")["median"].as_f64()
    );
}

#[test]
fn the_index_and_a_mark_pass_are_measured_on_a_store() {
    let document = quickly(&["index"]);
    assert!(document["facts"]["index_memory_bytes"].as_u64() > Some(0));
    let document = quickly(&["mark"]);
    assert!(document["facts"]["dead_after_the_first_pass"].as_u64() > Some(0), "{document}");
}

#[test]
fn the_map_is_counted_beside_its_model() {
    let document = quickly(&["map", "--case", "full-100g", "--rounds", "1"]);
    assert!(figure(&document, "journal, chunks")["median"].as_f64() > Some(2112.0), "{document}");
    let output = metropod(&["bench", "map", "--case", "flat"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("full-1t"), "{}", text(&output.stderr));
}

#[test]
fn overwriting_tells_space_stalls_and_what_the_device_got() {
    let document = quickly(&["overwrite"]);
    let facts = &document["facts"];
    assert!(facts["device_bytes_per_host_byte"].as_f64() > Some(0.4), "{facts}");
    assert!(facts["most_occupied_bytes"].as_f64() > Some(0.0), "{facts}");
    assert!(facts["longest_time_without_a_completion_ms"].as_f64() > Some(0.0), "{facts}");
    assert_eq!(document["over_time"].as_array().unwrap().len(), 3);
}

#[test]
fn idle_pods_are_watched() {
    assert_eq!(quickly(&["idle", "--count", "5"])["params"]["pods"], 5);
}

#[test]
fn mirrored_writes_are_measured_at_both_sides() {
    let document = quickly(&["mirror"]);
    assert_eq!(figure(&document, "stretched, follower, blocking")["ratio"]["to"], "one array, blocking");
}

#[test]
fn a_resync_is_measured_with_its_bytes() {
    let document = quickly(&["resync", "--rounds", "1"]);
    let questions = document["questions"].as_array().unwrap();
    let wire =
        questions[1]["figures"].as_array().unwrap().iter().find(|one| one["name"] == "metropod").unwrap();
    assert!((0.5..2.0).contains(&wire["ratio"]["median"].as_f64().unwrap()), "{wire}");
}

#[test]
fn a_switch_is_measured_and_no_host_hears_of_it() {
    let document = quickly(&["switch"]);
    assert_eq!(document["questions"].as_array().unwrap().len(), 3);
    assert!(document["blocks_checked"].as_u64() > Some(0), "{document}");
}

#[test]
fn a_failover_is_measured_and_loses_nothing() {
    let document = quickly(&["failover", "--case", "kill"]);
    assert_eq!(document["facts"]["lost"], 0);
}

#[test]
fn what_is_no_work_is_refused() {
    assert_eq!(metropod(&["bench", "nothing"]).status.code(), Some(2));
    assert_eq!(metropod(&["bench-part", "nothing"]).status.code(), Some(1));
}
