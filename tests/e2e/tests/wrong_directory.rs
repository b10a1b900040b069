//! A good directory in the wrong hands: in use, of another role, unwritable, or with an address that is taken. What is
//! refused says so, and whoever serves goes on.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::path::Path;

use metropod_e2e::{
    Array, ArrayOptions, Files, Mediator, WITNESS_BYTES, Witness, metropod, refused_saying, scratch,
};

fn array_with_data(base: &Path) -> (Array, Witness) {
    let array = Array::single("A", base);
    array.make_pod("pod1", &["vol1"], WITNESS_BYTES);
    let witness = Witness::write(&array, "pod1::vol1", 1);
    (array, witness)
}

/// A command line for a mediator in `directory`.
fn mediator_in(directory: &Path) -> [String; 5] {
    ["mediator", "--data", &directory.display().to_string(), "--listen", "127.0.0.1:0"].map(str::to_owned)
}

#[test]
fn a_directory_in_use_is_refused_to_every_other_process() {
    let scratch = scratch!("in-use");
    let (mut array, witness) = array_with_data(scratch.path());
    let mut mediator = Mediator::start(scratch.path());
    let directory = array.options().directory.clone();
    let mut rival = ArrayOptions::new("A", scratch.path());
    rival.directory = directory.clone();
    let text = directory.display().to_string();
    for _ in 0..3 {
        refused_saying(&rival.arguments(), &[&text, "is in use by another process; stop it first"]);
        refused_saying(&["inspect", &text], &[&text, "is in use by another process; stop it first"]);
        refused_saying(&mediator_in(&directory), &[&text, "is an array's directory; give the mediator"]);
        let theirs = mediator.directory().to_owned();
        refused_saying(&mediator_in(&theirs), &["mediator is in use by another process; stop it first"]);
        rival.directory = theirs;
        refused_saying(&rival.arguments(), &["is a mediator's directory; give the array"]);
        rival.directory = directory.clone();
    }
    assert!(array.is_up() && mediator.is_up());
    witness.check(&array);
    let second = Witness::write(&array, "pod1::vol1", 2);
    array.kill9();
    array.restart();
    second.check(&array);
}

#[test]
fn a_mediators_directory_is_no_arrays_and_the_other_way_round() {
    let scratch = scratch!("roles");
    let (mut array, witness) = array_with_data(scratch.path());
    array.stop();
    let directory = array.options().directory.clone();
    let files = Files::read(&directory);
    refused_saying(
        &mediator_in(&directory),
        &["A is an array's directory; give the mediator a directory of its"],
    );
    files.assert_unchanged(&[], "an array's directory given to a mediator");
    assert!(!directory.join("registers").exists());

    let mut mediator = Mediator::start(scratch.path());
    mediator.stop();
    let mut options = ArrayOptions::new("B", scratch.path());
    options.directory = mediator.directory().to_owned();
    let files = Files::read(mediator.directory());
    refused_saying(
        &options.arguments(),
        &["mediator is a mediator's directory; give the array a directory of its"],
    );
    files.assert_unchanged(&[], "a mediator's directory given to an array");
    refused_saying(&["inspect", &mediator.directory().display().to_string()], &["is no array's directory"]);
    std::fs::remove_file(mediator.directory().join("identity")).unwrap();
    refused_saying(&mediator_in(mediator.directory()), &["holds a mediator but not its identity; restore"]);
    files.restore(&[]);
    mediator.restart();
    array.restart();
    witness.check(&array);
}

#[test]
fn a_directory_of_somebody_elses_files_is_left_alone() {
    let scratch = scratch!("letters");
    let directory = scratch.join("letters");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("letter.txt"), "dear reader").unwrap();
    let files = Files::read(&directory);
    let mut options = ArrayOptions::new("A", scratch.path());
    options.directory = directory.clone();
    let text = directory.display().to_string();
    refused_saying(&options.arguments(), &[&text, "is not empty", "; give the array an empty directory"]);
    refused_saying(
        &mediator_in(&directory),
        &[&text, "is not empty", "; give the mediator an empty directory"],
    );
    refused_saying(&["demo", "--quick", "--data", &text], &[&text, "is not empty; give an empty"]);
    refused_saying(&["inspect", &text], &[&text, "is no array's directory"]);
    files.assert_unchanged(&[], "somebody else's files");
}

/// No file system lets anybody, not even root, make a directory below a file or in `/proc`.
#[test]
fn a_directory_that_cannot_be_made_is_named_with_the_reason() {
    let scratch = scratch!("unwritable");
    std::fs::write(scratch.join("file"), "").unwrap();
    let file = scratch.join("file");
    for (directory, reason) in [
        (file.clone(), "Not a directory"),
        (file.join("below"), "Not a directory"),
        (Path::new("/proc/metropod").to_owned(), "No such file or directory"),
        (Path::new("/proc/metropod/below").to_owned(), "No such file or directory"),
    ] {
        let mut options = ArrayOptions::new("A", scratch.path());
        options.directory = directory.clone();
        let text = directory.display().to_string();
        refused_saying(&options.arguments(), &[&text, reason, "; give another", "--data"]);
        refused_saying(&mediator_in(&directory), &[&text, "; give another", "--data"]);
        refused_saying(&["demo", "--quick", "--data", &text], &[&text, "; give another", "--data"]);
        refused_saying(&["inspect", &text], &[&text]);
    }
    let mut options = ArrayOptions::new("A", scratch.path());
    options.directory = scratch.join("missing/parents/A");
    let mut array = Array::start(options);
    array.stop();
}

#[test]
fn an_address_that_is_taken_is_named_with_its_option() {
    let scratch = scratch!("addresses");
    let (array, witness) = array_with_data(scratch.path());
    let mediator = Mediator::start(scratch.path());
    let fresh = || ArrayOptions::new("B", scratch.path());
    let taken = [array.options().listen, array.options().api, array.options().nbd, mediator.address()];
    for address in taken {
        for option in ["--listen", "--api", "--nbd"] {
            let mut options = fresh();
            match option {
                "--listen" => options.listen = address,
                "--api" => options.api = address,
                _ => options.nbd = address,
            }
            let says = [&format!("cannot listen on {address}: "), "; choose another address with ", option];
            refused_saying(&options.arguments(), &says);
        }
        let directory = scratch.join("other-mediator").display().to_string();
        let line = ["mediator", "--data", &directory, "--listen", &address.to_string()].map(str::to_owned);
        refused_saying(&line, &["cannot listen on", "; choose another address with --listen"]);
    }
    witness.check(&array);
}

/// The address is of the kind that no machine has, so that nothing is reachable in the end.
#[test]
fn an_address_that_others_reach_is_warned_of() {
    const ADDRESS: &str = "192.0.2.1:7750";
    let scratch = scratch!("reachable");
    let mut options = ArrayOptions::new("A", scratch.path());
    options.listen = ADDRESS.parse().unwrap();
    let directory = scratch.join("mediator").display().to_string();
    let mediator = ["mediator", "--data", &directory, "--listen", ADDRESS].map(str::to_owned);
    for (line, what) in [(options.arguments(), "the link port"), (mediator.to_vec(), "the mediator's port")] {
        let words: Vec<&str> = line.iter().map(String::as_str).collect();
        let said = metropod(&words).unwrap_err().said;
        let warned = |line: &str| {
            line.contains("WARN") && line.contains(what) && line.contains("and is not encrypted")
        };
        assert!(said.lines().any(warned), "{what}: {said}");
    }
}
