//! The demo: one command tells the whole story, and finds nothing wrong.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use metropod_e2e::{metropod, scratch};

#[test]
fn the_quick_demo_loses_nothing_and_both_sides_are_equal() {
    let scratch = scratch!("demo");
    let data = scratch.join("data").display().to_string();
    let figures = metropod(&["demo", "--quick", "--json", "--data", &data]).unwrap();
    println!("{figures}");
    assert_eq!(figures["ok"], true, "{figures}");
    assert_eq!(figures["mismatches"], 0, "{figures}");
    assert_eq!(figures["lost"], 0, "{figures}");
    assert!(figures["blocks_compared"].as_u64() > Some(0), "{figures}");
    assert!(figures["acked_writes"].as_u64() > Some(0), "{figures}");
    for fault in ["kill", "cut"] {
        let pause = figures["pause_ms"][fault].as_u64();
        assert!(pause.is_some_and(|milliseconds| milliseconds <= 3000), "{fault}: {figures}");
    }
    assert!(figures["resync"]["bytes_wire"].as_u64() > Some(0), "{figures}");
}
