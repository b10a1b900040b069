//! Small bounds, each searched to its end: nothing is wrong in any state, and from a sample of them both arrays come to serve again.
//!
//! The large ones are in docs/protocol.md, "What is model-checked": `cargo run --release -p metropod-model -- cuts=1 time=4`.
//! `METROPOD_MODEL_BOUNDS`, bounds separated by `;`, searches others here.

use metropod_model::{Action, Bounds, Checked, Order, World, check};

/// More is a state space that has grown beyond what this test is for.
const TRANSITIONS_MAX: usize = 4_000_000;

fn search(text: &str) -> Checked {
    let bounds = Bounds::parse(text).expect("bounds");
    let checked = check(bounds, Order::Breadth, 2, TRANSITIONS_MAX);
    println!("{bounds}: {checked}");
    assert_eq!(checked.wrong, None, "{bounds}");
    assert!(checked.complete, "{bounds}: more states than expected");
    checked
}

/// The search saw at least so many states, and passed through these situations.
fn passes(text: &str, states_min: usize, situations: &[&str]) {
    let checked = search(text);
    assert!(checked.states >= states_min, "{text}: the world has become smaller: {} states", checked.states);
    for situation in situations {
        assert!(checked.situations.contains(situation), "{text}: never {situation:?}");
    }
}

#[test]
fn a_cut_at_any_place_and_its_return() {
    passes(
        "cuts=1 time=2 live=100",
        60_000,
        &[
            "both serve, mirrored",
            "an array is off after a refusal",
            "an array is out of sync",
            "the right is at an array of a pair",
            "a grant that nobody heard",
            "both log ends differ, in session",
        ],
    );
}

#[test]
fn a_crash_while_nobody_reaches_the_mediator() {
    passes(
        "start=elected crashes=1 for_good=1 time=1 live=100",
        15_000,
        &["the right is at an array of a pair"],
    );
}

#[test]
fn a_crash_with_any_prefix_of_the_tail() {
    let situations = ["an array is off after a refusal", "both log ends differ, in session"];
    passes("writes=1 crashes=1 for_good=1 time=2 live=50", 5_000, &situations);
}

#[test]
fn a_rejoin_with_a_write() {
    let situations = ["array 0 is alone", "an array is out of sync", "the right is at an array of a pair"];
    passes("start=alone writes=1 live=10", 25_000, &situations);
}

#[test]
fn a_tail_that_only_the_loser_has() {
    let situations = ["array 1 is alone", "an array is out of sync", "both serve, mirrored"];
    passes("start=tail time=2 live=10", 1_000, &situations);
}

#[test]
fn a_pod_is_stretched_while_its_link_is_cut() {
    let situations = ["array 0 is alone", "an array is out of sync", "both serve, mirrored"];
    passes("start=stretching cuts=1 live=10", 30_000, &situations);
}

#[test]
fn one_array_goes_on_alone_when_the_link_stays_cut() {
    passes("cuts=1 for_good=1 time=4 live=20", 6_000, &["array 0 is alone", "array 1 is alone"]);
}

#[test]
fn a_copy_of_a_message_arrives_in_a_later_session() {
    passes("cuts=1 strays=1 live=20", 2_500, &["both serve, mirrored"]);
}

#[test]
fn a_host_gives_its_request_up() {
    passes("writes=1 withdrawals=1 time=2 live=1", 800, &["both serve, mirrored"]);
}

#[test]
fn other_bounds() {
    let texts = std::env::var("METROPOD_MODEL_BOUNDS").unwrap_or_default();
    for text in texts.split(';').filter(|text| !text.trim().is_empty()) {
        search(text);
    }
}

#[test]
fn the_same_actions_lead_to_the_same_state() {
    let bounds = Bounds::parse("cuts=1 writes=1 crashes=1 time=4").expect("bounds");
    let actions = [
        Action::Submit(1),
        Action::Deliver(0),
        Action::Cut,
        Action::Crash(0, 1),
        Action::Pass,
        Action::Restart(0),
    ];
    let run = || actions.iter().fold(World::new(bounds), |world, action| world.after(*action));
    let (one, other) = (run(), run());
    assert_eq!(one, other);
    assert_eq!(one.wrong, None);
    assert_ne!(one, World::new(bounds));
}
