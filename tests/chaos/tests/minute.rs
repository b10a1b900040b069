//! A short run of the chaos, with a fixed seed.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::process::Command;

use metropod_e2e::setting;
use serde_json::Value;

#[test]
fn most_of_a_minute_of_chaos_finds_nothing_wrong() {
    // This plan has ten kinds of fault in its first seven rounds.
    let seed = setting("METROPOD_CHAOS_SEED", 483);
    let output = Command::new(env!("CARGO_BIN_EXE_metropod-chaos"))
        .args(["--minutes", "0.7", "--json", "--seed", &seed.to_string()])
        .args(["--data", concat!(env!("CARGO_TARGET_TMPDIR"), "/chaos")])
        .env("METROPOD_BIN", metropod_e2e::binary())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "a violation, or no run: see above");
    let summary: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert!(summary["rounds"].as_u64().unwrap() >= 2, "too few faults to count: {summary}");
    let operations = summary["operations"].as_array().unwrap();
    for kind in ["read", "write", "zero"] {
        let done = operations.iter().find(|count| count["kind"] == kind && count["outcome"] == "ok");
        assert!(done.is_some_and(|count| count["count"].as_u64() >= Some(20)), "few {kind}s: {summary}");
    }
}
