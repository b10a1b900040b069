//! Commands that must not succeed: how they end, and the one line that says why.

use std::process::Output;
use std::time::Duration;

use crate::process::binary;
use crate::tools::Tool;

/// Longest time until a refusal: nobody waits for a command that cannot succeed.
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(20);

/// Runs the program, which must refuse: exit status 1, nothing on stdout, one line for people at the end of stderr.
/// Gives that line.
pub fn refused(arguments: &[impl AsRef<str>]) -> String {
    let output = run(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let shown = shown(arguments);
    assert_eq!(output.status.code(), Some(1), "{shown}: {said}");
    assert!(output.stdout.is_empty(), "{shown}: {output:?}");
    assert!(!said.contains("panicked"), "{shown}: {said}");
    let is_verdict = |line: &&str| line.starts_with("metropod: ");
    assert_eq!(said.lines().filter(is_verdict).count(), 1, "{shown}: {said}");
    let line = said.lines().last().filter(is_verdict);
    line.unwrap_or_else(|| panic!("{shown}: the verdict is not last: {said}")).to_owned()
}

/// As [`refused`], and the line must say each of `words`.
pub fn refused_saying(arguments: &[impl AsRef<str>], words: &[&str]) {
    let line = refused(arguments);
    for word in words {
        assert!(line.contains(word), "{}: {word:?} is not in {line:?}", shown(arguments));
    }
}

/// Runs the program, which must call it wrong usage: exit status 2, nothing on stdout. Gives what it said.
pub fn misused(arguments: &[impl AsRef<str>]) -> String {
    let output = run(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{}: {said}", shown(arguments));
    assert!(output.stdout.is_empty() && !said.contains("panicked"), "{}: {output:?}", shown(arguments));
    said
}

fn run(arguments: &[impl AsRef<str>]) -> Output {
    let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
    Tool::start(&binary().display().to_string(), &arguments).wait(REFUSAL_TIME_MAX)
}

fn shown(arguments: &[impl AsRef<str>]) -> String {
    arguments.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" ")
}
