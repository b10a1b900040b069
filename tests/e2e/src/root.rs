//! Commands that take root: run as they are by root, else by `sudo` without a password.

use std::process::Output;

use crate::tools::{Tool, run};

/// Runs a command as root; what it printed, or what it said if it failed.
pub fn as_root(line: &[&str]) -> Result<String, String> {
    let line = rooted(line);
    let Output { status, stdout, stderr } = run(line[0], &line[1..]);
    if status.success() {
        Ok(String::from_utf8_lossy(&stdout).trim().to_owned())
    } else {
        Err(format!(
            "{line:?}: {status}: {}{}",
            String::from_utf8_lossy(&stderr),
            String::from_utf8_lossy(&stdout)
        ))
    }
}

/// Runs a command as root; it must succeed.
pub fn as_root_ok(line: &[&str]) -> String {
    as_root(line).unwrap_or_else(|said| panic!("as root or by sudo without a password: {said}"))
}

/// Starts a command as root, beside the test.
pub fn start_as_root(line: &[&str]) -> Tool {
    let line = rooted(line);
    Tool::start(line[0], &line[1..])
}

fn rooted<'a>(line: &[&'a str]) -> Vec<&'a str> {
    if rustix::process::geteuid().is_root() { line.to_vec() } else { [&["sudo", "-n"], line].concat() }
}
