//! The rows of the failure table that real processes can be put through, once each.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::process::Command;

use metropod_chaos::rows::ROWS;
use metropod_e2e::setting;
use metropod_sim::failures;
use serde_json::Value;

#[test]
fn each_row_of_the_failure_table_is_as_it_has_to_be() {
    let seed = setting("METROPOD_CHAOS_SEED", 5);
    let output = Command::new(env!("CARGO_BIN_EXE_metropod-chaos"))
        .args(["--rows", "1", "--json", "--seed", &seed.to_string()])
        .args(["--data", concat!(env!("CARGO_TARGET_TMPDIR"), "/rows")])
        .env("METROPOD_BIN", metropod_e2e::binary())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "a violation, or no run: see above");
    let summary: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(summary["rows"].as_object().unwrap().len(), ROWS.len(), "{summary}");
}

#[test]
fn every_row_is_one_of_the_table() {
    for row in ROWS {
        assert!(failures::rows().any(|of_table| of_table.id == row.id), "{}", row.id);
    }
}
