//! An array's own directory with a file that is foreign, cut, damaged, missing or of another version: the array refuses
//! to open it, says which file and what to do, changes nothing, and serves everything again once the file is back.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::path::Path;

use metropod_e2e::{Array, Files, WITNESS_BYTES, Witness, refused_saying, scratch};

/// A start is counted before the files are looked at; the lock has no content.
const MAY_CHANGE: [&str; 1] = ["starts"];

/// What is done to one file, named by its beginning, and what the array says.
struct Damage {
    file: &'static str,
    what: &'static str,
    does: fn(&mut Vec<u8>),
    says: &'static [&'static str],
}

const fn damage(
    file: &'static str,
    what: &'static str,
    does: fn(&mut Vec<u8>),
    says: &'static [&'static str],
) -> Damage {
    Damage { file, what, does, says }
}

/// An array that was stopped in order, with a witness's data and a checkpoint.
fn stopped(base: &Path) -> (Array, Witness) {
    let mut array = Array::single("A", base);
    array.make_pod("pod1", &["vol1"], WITNESS_BYTES);
    let witness = Witness::write(&array, "pod1::vol1", 1);
    array.stop();
    (array, witness)
}

/// Each damage in turn is refused in words, and nothing is changed by it; in the end everything is there.
fn refuse_each(base: &Path, damages: &[Damage]) {
    let (mut array, witness) = stopped(base);
    let directory = array.options().directory.clone();
    let good = Files::read(&directory);
    for damage in damages {
        let path = good.first(damage.file);
        let mut content = good.content(&path).to_vec();
        (damage.does)(&mut content);
        std::fs::write(directory.join(&path), &content).unwrap();
        refuse(&array, &format!("{:?} {}", path, damage.what), damage.says);
        good.restore(&[]);
    }
    array.restart();
    witness.check(&array);
}

fn refuse(array: &Array, what: &str, says: &[&str]) {
    println!("{what}");
    let before = Files::read(&array.options().directory);
    refused_saying(&array.options().arguments(), says);
    before.assert_unchanged(&MAY_CHANGE, what);
}

/// Text where bytes of a format should begin.
fn text(content: &mut [u8]) {
    let length = content.len().min(96);
    content[..length].fill(b'x');
}

/// The version field at 8 is 9, and the check of the first `CHECK_AT` bytes is right.
fn version<const CHECK_AT: usize>(content: &mut [u8]) {
    content[8] = 9;
    let check = crc32c::crc32c(&content[..CHECK_AT]);
    content[CHECK_AT..CHECK_AT + 4].copy_from_slice(&check.to_le_bytes());
}

fn empty(content: &mut Vec<u8>) {
    content.clear();
}

fn cut_to_30(content: &mut Vec<u8>) {
    content.truncate(30);
}

fn cut_the_end(content: &mut Vec<u8>) {
    content.truncate(content.len() - 1);
}

#[test]
fn a_file_with_a_wrong_magic_is_named_and_harms_nothing() {
    let scratch = scratch!("wrong-magic");
    let foreign = |file, says| damage(file, "is text", |content| text(content), says);
    refuse_each(
        scratch.path(),
        &[
            foreign("superblock", &["superblock is not a metropod superblock; "]),
            foreign("identity", &["identity: not an identity", "; restore it"]),
            foreign("CURRENT", &["CURRENT does not name a manifest; "]),
            foreign("manifest-", &["manifest-", "is not a metropod manifest; put the right file back"]),
            foreign("journal/", &["000001.seg in the journal directory is not a journal segment; "]),
            foreign("segments/", &["segments/0000000000000001.seg is not the segment it is named after; "]),
            foreign("layers/", &[".run: it is no file of map layers, or damaged; "]),
            foreign("starts", &["starts does not hold a number; "]),
        ],
    );
}

#[test]
fn a_file_of_another_version_is_named_and_needs_the_release_that_wrote_it() {
    const SAYS: &[&str] = &["version 9", "; use the release that wrote it"];
    let scratch = scratch!("wrong-version");
    let plain = |content: &mut Vec<u8>| content[8] = 9;
    refuse_each(
        scratch.path(),
        &[
            damage(
                "superblock",
                "is newer",
                plain,
                &["superblock", "version 9", ": use the release that wrote it"],
            ),
            damage("manifest-", "is newer", plain, SAYS),
            damage(
                "journal/",
                "is newer",
                |content| version::<60>(content),
                &["000001.seg", "version 9", "; use the program that wrote it"],
            ),
            damage("segments/", "is newer", |content| version::<60>(content), SAYS),
            damage("layers/", "is newer", |content| version::<36>(content), SAYS),
            damage(
                "identity",
                "is newer",
                |content| content[7] = 9,
                &["identity: not an identity", "; restore it"],
            ),
        ],
    );
}

#[test]
fn a_file_that_was_cut_is_named_and_harms_nothing() {
    let scratch = scratch!("cut");
    refuse_each(
        scratch.path(),
        &[
            damage("superblock", "is empty", empty, &["superblock is not a metropod superblock; "]),
            damage("superblock", "is cut", cut_the_end, &["superblock is damaged; restore it"]),
            damage("identity", "is empty", empty, &["identity: not an identity", "; restore it"]),
            damage("identity", "is cut", cut_to_30, &["identity: not an identity", "; restore it"]),
            damage("CURRENT", "is empty", empty, &["CURRENT does not name a manifest; "]),
            damage("CURRENT", "is cut", cut_the_end, &["CURRENT does not name a manifest; "]),
            damage("manifest-", "is empty", empty, &["manifest-", "put the right file back"]),
            damage("manifest-", "is cut", cut_the_end, &["manifest-", "is damaged; restore it"]),
            damage("journal/", "is empty", empty, &["000001.seg is 0 bytes long and should be", "; repair"]),
            damage("journal/", "is cut", cut_the_end, &["000001.seg is", "and should be", "; repair"]),
            damage("segments/", "is empty", empty, &["segments/", "cut short; put it back"]),
            damage("segments/", "is cut", cut_to_30, &["segments/", "cut short; put it back"]),
            damage("layers/", "is empty", empty, &["layers/", "or damaged; restore it"]),
            damage("layers/", "is cut", cut_the_end, &["layers/", "is damaged; restore the file"]),
            damage("starts", "is empty", empty, &["starts does not hold a number; "]),
        ],
    );
}

#[test]
fn a_file_that_is_missing_is_named_and_never_made_anew() {
    let scratch = scratch!("missing");
    let (mut array, witness) = stopped(scratch.path());
    let directory = array.options().directory.clone();
    let good = Files::read(&directory);
    for (files, says) in [
        ("superblock", ["not empty and has no metropod superblock; ", ""]),
        ("identity", ["holds an array but not its identity; ", "restore the file"]),
        ("manifest-", ["which CURRENT names, is missing; ", "put it back"]),
        ("journal/", ["the journal ends at record 0", "; put its files back"]),
        ("journal/000001", ["000002.seg", "; repair this copy from its peer"]),
        ("segments/", ["segments/0000000000000001.seg", "is missing or cut short; put it back"]),
        ("layers/", ["layers/", "is missing; put it back"]),
    ] {
        for path in good.paths(files) {
            std::fs::remove_file(directory.join(path)).unwrap();
        }
        refuse(&array, &format!("{files} is missing"), &says);
        good.restore(&[]);
    }
    array.restart();
    witness.check(&array);
}

#[test]
fn a_lost_current_never_makes_an_array_empty() {
    let scratch = scratch!("lost-current");
    let (mut array, witness) = stopped(scratch.path());
    std::fs::remove_file(array.options().directory.join("CURRENT")).unwrap();
    array.restart();
    witness.check(&array);
    let second = Witness::write(&array, "pod1::vol1", 2);
    array.kill9();
    array.restart();
    second.check(&array);
}

#[test]
fn foreign_files_are_never_taken_for_the_arrays_own() {
    let scratch = scratch!("foreign");
    let (mut array, witness) = stopped(scratch.path());
    let directory = array.options().directory.clone();
    let good = Files::read(&directory);
    for (path, says) in [
        ("journal/000077.seg", ["000077.seg", "; repair this copy from its peer"]),
        ("segments/00000000000000ff.seg", ["segments/00000000000000ff.seg", "put the right file back"]),
    ] {
        std::fs::write(directory.join(path), "dear reader, ".repeat(40)).unwrap();
        refuse(&array, &format!("{path} is a letter"), &says);
        good.restore(&[]);
    }
    // Read after the journal, which has begun a new life by then.
    std::fs::write(directory.join("peers"), "dear reader").unwrap();
    refused_saying(
        &array.options().arguments(),
        &["peers: damaged list of known peers; ", "connect the arrays again"],
    );
    std::fs::remove_file(directory.join("peers")).unwrap();
    let letters = ["letter.txt", "journal/letter.txt", "segments/letter.txt", "layers/letter.txt"];
    for path in letters {
        std::fs::write(directory.join(path), "dear reader").unwrap();
    }
    array.restart();
    witness.check(&array);
    array.stop();
    for path in letters {
        assert_eq!(std::fs::read_to_string(directory.join(path)).unwrap(), "dear reader", "{path}");
    }
}
