//! A stretched pod whose arrays die, freeze, or lose sight of each other, under load from both sides.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use metropod_e2e::{
    Array, Command, Load, LoadOptions, NbdClient, NbdError, Oracle, POD, Pair, PairOptions, SECTOR_BYTES,
    Scratch, Target, require_tools, scratch,
};

const VOLUME: &str = "pod1::vol1";
const VOLUME_BYTES: u64 = 64 << 20;
const SECTORS: u64 = VOLUME_BYTES / SECTOR_BYTES as u64;
/// Longest pause of hosts at the survivor. The product promises one second; machines that run tests are slow.
const PAUSE_MAX: Duration = Duration::from_secs(3);
/// What was under way at a fault may still be answered.
const ANSWERS_UNDER_WAY: Duration = Duration::from_millis(500);
/// Longest wait for writes to be acknowledged.
const PROGRESS_TIME_MAX: Duration = Duration::from_secs(20);
/// Longest wait for an array to see what has become of it.
const STATUS_TIME_MAX: Duration = Duration::from_secs(15);

/// A pair with one host at each array, each in its half of the volume.
struct Stage {
    pair: Pair,
    oracle: Arc<Oracle>,
    at_a: Load,
    at_b: Load,
}

impl Stage {
    fn set(scratch: &Scratch, proxied: bool) -> Stage {
        require_tools(&[("qemu-img", "qemu-utils")]);
        let options = PairOptions { volumes: vec!["vol1"], volume_bytes: VOLUME_BYTES, proxied };
        let pair = Pair::start(scratch.path(), &options);
        let oracle = Arc::new(Oracle::new(VOLUME_BYTES));
        let at_a = Load::start(&oracle, host(&pair.a, 0..SECTORS / 2));
        let at_b = Load::start(&oracle, host(&pair.b, SECTORS / 2..SECTORS));
        let stage = Stage { pair, oracle, at_a, at_b };
        stage.both_progress();
        stage
    }

    fn both_progress(&self) {
        self.at_a.wait_for(100, PROGRESS_TIME_MAX);
        self.at_b.wait_for(100, PROGRESS_TIME_MAX);
    }

    /// Both arrays online, hosts at both get on; then everything acknowledged is at both, and both are equal.
    fn end(self) {
        self.pair.wait_online();
        self.both_progress();
        println!("{} writes acknowledged at A, {} at B", self.at_a.stop(), self.at_b.stop());
        for array in [&self.pair.a, &self.pair.b] {
            self.oracle.verify(&mut array.open(VOLUME), array.name());
        }
        self.pair.compare("vol1");
    }
}

fn host(array: &Array, sectors: std::ops::Range<u64>) -> LoadOptions {
    LoadOptions {
        target: Target { address: array.options().nbd, volume: VOLUME.to_owned() },
        seed: sectors.start,
        sectors,
        depth: 4,
        sectors_max: 32,
        zeroes: false,
    }
}

/// Hosts at the survivor waited no longer than they may, and met no error.
fn judge_pause(what: &str, survivor: &Load, from: Instant, until: Instant) {
    let pause = survivor.pause(from, until);
    println!("{what}: hosts at the survivor waited {} ms", pause.as_millis());
    assert!(pause <= PAUSE_MAX, "{what}: hosts at the survivor waited {pause:?}");
    assert_eq!(survivor.errors(from, until), Vec::<String>::new(), "{what}: errors at the survivor");
}

fn is_sequencer(array: &Array) -> bool {
    array.cli(&["pod", "show", POD])["arrays"][0]["sequencer"] == true
}

/// Reads the whole volume while hosts write; nothing may be older than what was there before.
fn read_all(array: &Array, oracle: &Oracle) {
    let mut client = array.open(VOLUME);
    let mut data = vec![0; 1 << 20];
    let count = (data.len() / SECTOR_BYTES) as u64;
    for first in (0..SECTORS).step_by(count as usize) {
        let floor = oracle.floor(first..first + count);
        client.read(first * SECTOR_BYTES as u64, &mut data).unwrap();
        if let Err(stale) = oracle.observe(first, &floor, &data) {
            panic!("stale reads at {}: {stale:?}", array.name());
        }
    }
}

#[test]
fn hosts_at_the_survivor_wait_briefly_when_the_sequencer_is_killed() {
    let scratch = scratch!("kill-sequencer");
    let mut stage = Stage::set(&scratch, false);
    assert!(is_sequencer(&stage.pair.a), "the array that made the pod orders first");
    read_all(&stage.pair.b, &stage.oracle);
    let killed = Instant::now();
    stage.pair.a.kill9();
    stage.at_b.wait_for(500, PROGRESS_TIME_MAX);
    std::thread::sleep(Duration::from_secs(2));
    judge_pause("sequencer killed", &stage.at_b, killed, Instant::now());
    read_all(&stage.pair.b, &stage.oracle);
    stage.pair.a.restart();
    stage.end();
}

#[test]
fn hosts_at_the_sequencer_wait_briefly_when_the_other_array_is_killed() {
    let scratch = scratch!("kill-follower");
    let mut stage = Stage::set(&scratch, false);
    let killed = Instant::now();
    stage.pair.b.kill9();
    stage.at_a.wait_for(500, PROGRESS_TIME_MAX);
    std::thread::sleep(Duration::from_secs(2));
    judge_pause("other array killed", &stage.at_a, killed, Instant::now());
    stage.pair.b.restart();
    stage.end();
}

#[test]
fn the_preferred_array_goes_on_after_a_cut_and_the_other_comes_back_after_it() {
    let scratch = scratch!("cut");
    let stage = Stage::set(&scratch, true);
    stage.pair.prefer("A");
    let cut = Instant::now();
    stage.pair.cut(true);
    stage.at_a.wait_for(500, PROGRESS_TIME_MAX);
    Pair::wait_status(&stage.pair.b, "offline", STATUS_TIME_MAX);
    match NbdClient::open(stage.pair.b.options().nbd, VOLUME) {
        Err(NbdError::Shutdown) => {}
        other => panic!("an array that lost answers ESHUTDOWN, not {other:?}"),
    }
    std::thread::sleep(Duration::from_secs(1));
    let healed = Instant::now();
    judge_pause("link cut", &stage.at_a, cut, healed);
    assert_eq!(stage.at_b.completed(cut + ANSWERS_UNDER_WAY, healed), 0, "writes acknowledged by the loser");
    let errors = stage.at_b.errors(cut, healed);
    assert!(errors.iter().all(|error| error.contains("ESHUTDOWN")), "{errors:?}");
    read_all(&stage.pair.a, &stage.oracle);
    stage.pair.cut(false);
    stage.pair.wait_online();
    read_all(&stage.pair.b, &stage.oracle);
    stage.end();
}

#[test]
fn a_frozen_array_comes_back_by_itself_and_shows_nothing_stale() {
    let scratch = scratch!("frozen");
    let mut stage = Stage::set(&scratch, false);
    for name in ["B", "A"] {
        freeze_and_thaw(&mut stage, name);
        stage.pair.wait_online();
        stage.both_progress();
    }
    stage.end();
}

fn freeze_and_thaw(stage: &mut Stage, name: &str) {
    let (frozen, survivor) = match name {
        "A" => (&mut stage.pair.a, &stage.at_b),
        _ => (&mut stage.pair.b, &stage.at_a),
    };
    // Reads that the frozen array takes when it wakes, of what was written meanwhile.
    let mut client = frozen.open(VOLUME);
    let begin = Instant::now();
    frozen.process().freeze();
    survivor.wait_for(1000, PROGRESS_TIME_MAX);
    judge_pause(&format!("{name} frozen"), survivor, begin, Instant::now());
    let bytes = 256 << 10;
    let count = (bytes / SECTOR_BYTES) as u64;
    let mut asked = std::collections::BTreeMap::new();
    for first in (0..SECTORS).step_by((SECTORS / 16) as usize) {
        let floor = stage.oracle.floor(first..first + count);
        let cookie = client.send(Command::Read, first * SECTOR_BYTES as u64, bytes as u32, &[]).unwrap();
        asked.insert(cookie, (first, floor));
    }
    frozen.process().thaw();
    let mut answered = 0;
    while !asked.is_empty() {
        let (cookie, answer) = match client.receive() {
            Ok(received) => received,
            Err(NbdError::Connection(_)) => break,
            Err(error) => panic!("{error}"),
        };
        let (first, floor) = asked.remove(&cookie).expect("only what was asked is answered");
        match answer {
            Ok(data) => {
                answered += 1;
                if let Err(stale) = stage.oracle.observe(first, &floor, &data) {
                    panic!("stale reads at {name} when it woke: {stale:?}");
                }
            }
            Err(NbdError::Shutdown) => {}
            Err(error) => panic!("a read when {name} woke: {error}"),
        }
    }
    println!("{name} woke: {answered} reads answered, none stale");
}

#[test]
fn nothing_is_lost_when_both_arrays_and_the_mediator_die_at_once() {
    let scratch = scratch!("all-killed");
    let mut stage = Stage::set(&scratch, false);
    for round in 0..3 {
        let Stage { pair, .. } = &mut stage;
        match round {
            1 => {
                pair.b.kill9();
                pair.a.kill9();
            }
            _ => {
                pair.a.kill9();
                pair.b.kill9();
            }
        }
        pair.mediator.kill9();
        pair.mediator.restart();
        match round {
            0 => {
                pair.a.restart();
                pair.b.restart();
            }
            _ => {
                pair.b.restart();
                pair.a.restart();
            }
        }
        pair.wait_online();
        stage.both_progress();
    }
    stage.end();
}
