//! Other people's programs: found or installed, run with a time limit.

use std::io::Read;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Longest run of a tool.
const RUN_TIME_MAX: Duration = Duration::from_secs(120);
/// Pause between two looks whether it has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Makes sure that tools are there: pairs of a program and its Debian package; `python3:module` is a module of Debian's
/// Python. Installs what is missing, or fails with what to install.
pub fn require_tools(tools: &[(&str, &str)]) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let missing = |tools: &[(&str, &str)]| -> Vec<String> {
        let mut packages: Vec<String> =
            tools.iter().filter(|(tool, _)| !is_there(tool)).map(|(_, package)| (*package).to_owned()).collect();
        packages.dedup();
        packages
    };
    let packages = missing(tools);
    if packages.is_empty() {
        return;
    }
    let installed = Command::new("apt-get")
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(&packages)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output();
    let left = missing(tools);
    assert!(left.is_empty(), "missing tools, install these Debian packages: {left:?} ({installed:?})");
}

fn is_there(tool: &str) -> bool {
    if let Some(module) = tool.strip_prefix("python3:") {
        let import = format!("import {module}");
        return Command::new("/usr/bin/python3")
            .args(["-c", &import])
            .output()
            .is_ok_and(|output| output.status.success());
    }
    search_path().split(':').any(|directory| std::path::Path::new(directory).join(tool).is_file())
}

/// Debian's own directories first: its nbdsh needs its own Python.
fn search_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("/usr/bin:/bin:/usr/sbin:/sbin:{path}")
}

/// Runs a tool to its end, at most two minutes.
pub fn run(tool: &str, arguments: &[&str]) -> Output {
    run_within(RUN_TIME_MAX, tool, arguments)
}

/// Runs a tool that must succeed; gives what it printed.
pub fn run_ok(tool: &str, arguments: &[&str]) -> String {
    run_ok_within(RUN_TIME_MAX, tool, arguments)
}

/// As [`run_ok`], with a time limit of its own.
pub fn run_ok_within(within: Duration, tool: &str, arguments: &[&str]) -> String {
    let output = run_within(within, tool, arguments);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{tool} {arguments:?}: {}\n{shown}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    shown
}

fn run_within(within: Duration, tool: &str, arguments: &[&str]) -> Output {
    let mut child = Command::new(tool)
        .args(arguments)
        .env("PATH", search_path())
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {tool}: {error}"));
    let stdout = drain(child.stdout.take().expect("stdout was asked to be a pipe"));
    let stderr = drain(child.stderr.take().expect("stderr was asked to be a pipe"));
    let begin = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begin.elapsed() > within => {
                // Fails only when it has just ended.
                let _killed = child.kill();
                let _waited = child.wait();
                let said = (stdout.join(), stderr.join());
                panic!("{tool} {arguments:?} did not end within {} s: {said:?}", within.as_secs());
            }
            Ok(None) => std::thread::sleep(LOOK_AGAIN),
            Err(error) => panic!("cannot wait for {tool}: {error}"),
        }
    };
    let joined = |reader: std::thread::JoinHandle<Vec<u8>>| reader.join().expect("readers do not panic");
    Output { status, stdout: joined(stdout), stderr: joined(stderr) }
}

fn drain(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is all there is.
        let _read = pipe.read_to_end(&mut bytes);
        bytes
    })
}
