//! One program for all targets: `METROPOD_FUZZ_TARGET` names the one to run; without it, their names are printed.
//!
//! libFuzzer makes the inputs. A target fails by panicking, by integer overflow, by taking too long, or by holding more on the
//! heap than it may: a length that is believed before it is checked.

#![no_main]

mod heap;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

type Target = (&'static str, usize, fn(&[u8]));

fn targets() -> impl Iterator<Item = &'static Target> {
    let crates = [
        metropod_journal::fuzzing::TARGETS,
        metropod_dedupe::fuzzing::TARGETS,
        metropod_snapshots::fuzzing::TARGETS,
        metropod_protocol::fuzzing::TARGETS,
        metropod_core::fuzzing::TARGETS,
        metropod::fuzzing::TARGETS,
        metropod_server::fuzzing::TARGETS,
    ];
    crates.into_iter().flatten()
}

fn chosen() -> &'static Target {
    let Ok(wanted) = std::env::var("METROPOD_FUZZ_TARGET") else {
        targets().for_each(|(name, ..)| println!("{name}"));
        std::process::exit(0);
    };
    targets().find(|(name, ..)| *name == wanted).unwrap_or_else(|| {
        eprintln!("no target is called {wanted}");
        std::process::exit(2);
    })
}

/// The target; what it keeps for all its runs is made now, outside the count.
fn prepared() -> &'static Target {
    let target = chosen();
    (target.2)(&[]);
    target
}

static CHOSEN: OnceLock<&Target> = OnceLock::new();

fuzz_target!(init: { CHOSEN.get_or_init(prepared); }, |input: &[u8]| {
    let (name, heap_bytes_max, run) = CHOSEN.get_or_init(prepared);
    let held = heap::peak_of(|| run(input));
    assert!(held <= *heap_bytes_max, "{name} held {held} bytes on the heap, it may hold {heap_bytes_max}");
});
