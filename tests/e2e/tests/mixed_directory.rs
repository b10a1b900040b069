//! Parts of another array's directory in this one's: refused in words, nothing changed, and with the right parts back
//! everything acknowledged is there.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::path::Path;

use metropod_e2e::{Array, ArrayOptions, Files, WITNESS_BYTES, Witness, refused_saying, scratch};

/// A start is counted before the files are looked at.
const MAY_CHANGE: [&str; 1] = ["starts"];

/// Two arrays with the same history but other content, both stopped in order.
struct Two {
    mine: Array,
    witness: Witness,
    good: Files,
    theirs: Files,
}

fn two(base: &Path, their_name: &str) -> Two {
    let make = |name: &str, place: &str, seed| {
        let mut options = ArrayOptions::new(name, base);
        options.directory = base.join(place);
        let mut array = Array::start(options);
        array.make_pod("pod1", &["vol1"], WITNESS_BYTES);
        let witness = Witness::write(&array, "pod1::vol1", seed);
        array.stop();
        let files = Files::read(&array.options().directory);
        (array, witness, files)
    };
    let (mine, witness, good) = make("A", "mine", 1);
    let (_, _, theirs) = make(their_name, "theirs", 2);
    Two { mine, witness, good, theirs }
}

impl Two {
    /// With their `parts` in place of this array's, it refuses, saying `says`.
    fn refuse(&self, parts: &[&str], says: &[&str]) {
        println!("{parts:?}");
        let directory = &self.mine.options().directory;
        self.theirs.put(directory, parts);
        let mixed = Files::read(directory);
        refused_saying(&self.mine.options().arguments(), says);
        mixed.assert_unchanged(&MAY_CHANGE, &format!("{parts:?}"));
        self.good.restore(&[]);
    }

    fn check(mut self) {
        self.mine.restart();
        self.witness.check(&self.mine);
    }
}

#[test]
fn each_part_of_another_array_is_refused() {
    let scratch = scratch!("mixed-parts");
    let two = two(scratch.path(), "B");
    let another = "belongs to another array";
    two.refuse(
        &["identity"],
        &["the identity in", "does not belong to the array", "; restore the right one"],
    );
    two.refuse(
        &["superblock"],
        &["does not belong to the array in its superblock", "; restore the right one"],
    );
    two.refuse(&["superblock", "identity"], &["belongs to the array named B; start it with --name B"]);
    two.refuse(&["manifest-"], &["manifest-", another, "; put this array's own back"]);
    two.refuse(&["CURRENT", "manifest-"], &["manifest-", another, "; put this array's own back"]);
    two.refuse(&["journal/"], &["000001.seg belongs to array", "; put the right files back"]);
    two.refuse(&["journal/000001"], &["000001.seg belongs to array", "; put the right files back"]);
    two.refuse(&["segments/"], &["segments/0000000000000001.seg", another, "put this array's own file back"]);
    two.refuse(&["layers/"], &["layers/", another, "; put this array's own file back"]);
    // Together these would fit each other, and be the other array's content.
    two.refuse(&["segments/", "layers/"], &["layers/", another, "; put this array's own file back"]);
    two.refuse(&["CURRENT", "manifest-", "journal/", "segments/", "layers/"], &["manifest-", another]);
    two.check();
}

#[test]
fn a_namesake_is_another_array_all_the_same() {
    let scratch = scratch!("mixed-namesake");
    let two = two(scratch.path(), "A");
    let own_but_key = ["superblock", "identity"];
    two.refuse(&own_but_key, &["manifest-", "belongs to another array", "; put this array's own back"]);
    two.refuse(&["superblock", "identity", "CURRENT", "manifest-"], &["belongs to another array", "; put "]);
    two.refuse(&["layers/"], &["layers/", "belongs to another array"]);
    two.check();
}

#[test]
fn another_arrays_file_under_a_free_name_is_refused_and_not_removed() {
    let scratch = scratch!("mixed-added");
    let two = two(scratch.path(), "B");
    let directory = two.mine.options().directory.clone();
    for (from, to, says) in [
        ("segments/", "segments/00000000000000ff.seg", "belongs to another array; move it away"),
        ("journal/000001", "journal/000077.seg", "000077.seg belongs to array"),
    ] {
        let foreign = two.theirs.content(&two.theirs.first(from));
        std::fs::write(directory.join(to), foreign).unwrap();
        let mixed = Files::read(&directory);
        refused_saying(&two.mine.options().arguments(), &[says]);
        mixed.assert_unchanged(&MAY_CHANGE, to);
        two.good.restore(&[]);
    }
    two.check();
}

#[test]
fn older_files_of_the_array_itself_are_refused_before_anything_newer_is_removed() {
    let scratch = scratch!("mixed-older");
    let mut array = Array::single("A", scratch.path());
    array.make_pod("pod1", &["vol1"], WITNESS_BYTES);
    Witness::write(&array, "pod1::vol1", 1);
    array.stop();
    let directory = array.options().directory.clone();
    let older = Files::read(&directory);
    array.restart();
    let witness = Witness::write(&array, "pod1::vol1", 2);
    array.stop();
    let good = Files::read(&directory);
    // The journal of then knows nothing of what the newer manifest trusted it with.
    older.put(&directory, &["journal/"]);
    let mixed = Files::read(&directory);
    refused_saying(&array.options().arguments(), &["the journal ends at record", "; put its files back"]);
    mixed.assert_unchanged(&MAY_CHANGE, "an older journal");
    good.restore(&[]);
    array.restart();
    witness.check(&array);
}
