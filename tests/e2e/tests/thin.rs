//! A thin volume of 4 TiB of which a thousandth is written: whatever is done with it costs what is written, not its size.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use metropod_e2e::{Array, Dice, NbdClient, scratch, setting};

const VOLUME_BYTES: u64 = 4 << 40;
/// A piece of what is written, somewhere in the volume.
const PIECE_BYTES: u64 = 64 << 10;
/// Pieces that a clone or volume gets after the snapshot.
const CHANGED: usize = 100;
/// Longest time of a verb that looks at names or at what changed, also where others use the machine.
const SHORT: Duration = Duration::from_secs(2);
/// Memory of the array.
const RESIDENT_MIB_MAX: u64 = 512;

/// MiB that are written: `METROPOD_THIN_MIB`; a thousandth of the volume are 4096.
#[test]
fn verbs_on_a_huge_thin_volume_take_as_long_as_what_changed_is_large() {
    let scratch = scratch!("thin");
    let mut array = Array::single("A", scratch.path());
    array.make_pod("pod1", &[], 0);
    timed("create", SHORT, || {
        array.cli(&["volume", "create", "pod1::vol1", "--size", &VOLUME_BYTES.to_string()])
    });
    let mib = setting("METROPOD_THIN_MIB", 128);
    let mut pieces = Pieces { dice: Dice::new(4), written: BTreeSet::new() };
    let begin = Instant::now();
    let mut host = array.open("pod1::vol1");
    pieces.write(&mut host, (mib << 20) / PIECE_BYTES, 1);
    println!("{mib} MiB of {} TiB written in {:?}", VOLUME_BYTES >> 40, begin.elapsed());

    timed("snapshot", SHORT, || array.cli(&["snapshot", "create", "pod1::vol1", "--suffix", "full"]));
    timed("clone", SHORT, || array.cli(&["volume", "copy", "pod1::vol1.full", "pod1::vol2"]));
    let mut clone = array.open("pod1::vol2");
    let (mut in_clone, mut in_volume) = (pieces.fork(5), pieces.fork(6));
    in_clone.write(&mut clone, CHANGED as u64, 2);
    in_volume.write(&mut host, CHANGED as u64, 3);
    timed("snapshot of what changed", SHORT, || {
        array.cli(&["snapshot", "create", "pod1::vol1", "--suffix", "later"])
    });

    let changes = [
        ("volume and snapshot", "pod1::vol1", "pod1::vol1.full", in_volume.written.clone()),
        ("two snapshots", "pod1::vol1.full", "pod1::vol1.later", in_volume.written.clone()),
        ("clone and its origin", "pod1::vol2", "pod1::vol1.full", in_clone.written.clone()),
        ("volume and clone", "pod1::vol1", "pod1::vol2", &in_volume.written | &in_clone.written),
    ];
    let check_changes = |array: &Array, word: &str| {
        for (what, first, second, expected) in &changes {
            let diff = timed(&format!("diff of {what}{word}"), SHORT, || {
                array.cli(&["volume", "diff", first, second])
            });
            let ranges = diff["ranges"].as_array().unwrap();
            let found = ranges.iter().flat_map(|range| {
                let (offset, length) = (range["offset"].as_u64().unwrap(), range["length"].as_u64().unwrap());
                (offset / PIECE_BYTES..(offset + length).div_ceil(PIECE_BYTES)).collect::<Vec<_>>()
            });
            assert_eq!(&found.collect::<BTreeSet<u64>>(), expected, "{what}");
            assert_eq!(diff["differing_bytes"], expected.len() as u64 * PIECE_BYTES, "{what}");
        }
    };
    check_changes(&array, "");

    timed("restart after kill -9", Duration::from_secs(30), || array.restart());
    check_changes(&array, " after the restart");
    array.stop();
    timed("start after an orderly end", Duration::from_secs(30), || array.restart());
    let resident_mib = array.process().resident_bytes() >> 20;
    println!("{resident_mib} MiB resident after the start");
    for (volume, changed, id) in [("pod1::vol1", &in_volume, 3), ("pod1::vol2", &in_clone, 2)] {
        let mut host = array.open(volume);
        pieces.check(&mut host, &changed.written, 1);
        changed.check(&mut host, &BTreeSet::new(), id);
    }
    let resident_mib = array.process().resident_bytes() >> 20;
    println!("{resident_mib} MiB resident after reading all of it");
    assert!(resident_mib < RESIDENT_MIB_MAX, "{resident_mib} MiB resident");
}

/// Pieces at random places.
struct Pieces {
    dice: Dice,
    written: BTreeSet<u64>,
}

impl Pieces {
    fn fork(&self, seed: u64) -> Pieces {
        Pieces { dice: Dice::new(seed), written: BTreeSet::new() }
    }

    fn write(&mut self, host: &mut NbdClient, count: u64, id: u64) {
        let goal = self.written.len() + count as usize;
        while self.written.len() < goal {
            let piece = self.dice.below(VOLUME_BYTES / PIECE_BYTES);
            self.written.insert(piece);
            host.write(piece * PIECE_BYTES, &content(piece, id)).unwrap();
        }
    }

    /// Reads all, and what lies before each, which nobody wrote.
    fn check(&self, host: &mut NbdClient, but: &BTreeSet<u64>, id: u64) {
        let mut bytes = vec![0; PIECE_BYTES as usize];
        for piece in self.written.difference(but) {
            host.read(piece * PIECE_BYTES, &mut bytes).unwrap();
            assert!(bytes == content(*piece, id), "piece {piece}");
        }
    }
}

/// No two alike.
fn content(piece: u64, id: u64) -> Vec<u8> {
    let mut dice = Dice::new(piece << 8 | id);
    (0..PIECE_BYTES / 8).flat_map(|_| dice.roll().to_le_bytes()).collect()
}

fn timed<T>(what: &str, longest: Duration, work: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let done = work();
    let took = begin.elapsed();
    println!("{what}: {took:?}");
    assert!(took < longest, "{what} took {took:?}");
    done
}
