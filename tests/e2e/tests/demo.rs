//! The demo: one command tells the whole story, and finds nothing wrong.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::time::Duration;

use metropod_e2e::{Tool, binary, metropod, scratch, wait_until};
use rustix::process::Signal;

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

/// Its temporary directory is below the system's, or below `target` here, whichever the demo finds first.
#[test]
fn an_interrupted_demo_says_so_and_leaves_nothing_behind() {
    let scratch = scratch!("interrupted");
    std::fs::create_dir(scratch.join("target")).unwrap();
    let files = || -> Vec<_> {
        let entries = std::fs::read_dir(scratch.join("target")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    for signal in [Signal::INT, Signal::TERM] {
        let (directory, program) = (scratch.path().display().to_string(), binary().display().to_string());
        let demo = Tool::start("env", &["-C", &directory, &program, "demo", "--quick", "--json"]);
        wait_until("array B runs", Duration::from_secs(20), || {
            let found = files();
            let runs = found.iter().any(|directory| directory.join("B/superblock").exists());
            if runs { Ok(()) } else { Err(format!("{found:?}")) }
        });
        demo.signal(signal);
        let output = demo.wait(Duration::from_secs(10));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let line = said.lines().last().unwrap();
        assert!(line.starts_with("metropod: interrupted; the files in "), "{said}");
        assert!(output.stdout.is_empty());
        assert_eq!(files(), Vec::<std::path::PathBuf>::new());
    }
}
