//! Other people's programs: found or installed, run with a time limit.

use std::io::Read;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

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
        let mut packages: Vec<String> = tools
            .iter()
            .filter(|(tool, _)| !is_there(tool))
            .map(|(_, package)| (*package).to_owned())
            .collect();
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
    Tool::start(tool, arguments).wait(within)
}

/// A tool that runs beside the test. Dropping it kills it.
#[derive(Debug)]
pub struct Tool {
    what: String,
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Tool {
    /// Starts it.
    pub fn start(tool: &str, arguments: &[&str]) -> Tool {
        let mut child = Command::new(tool)
            .args(arguments)
            .env("PATH", search_path())
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {tool}: {error}"));
        let stdout = Some(drain(child.stdout.take().expect("stdout was asked to be a pipe")));
        let stderr = Some(drain(child.stderr.take().expect("stderr was asked to be a pipe")));
        Tool { what: format!("{tool} {arguments:?}"), child, stdout, stderr }
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has an id");
        kill_process(id, signal).unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.what));
    }

    /// Waits for its end.
    pub fn wait(mut self, within: Duration) -> Output {
        let begin = Instant::now();
        while self.is_running() {
            if begin.elapsed() > within {
                self.end();
                let said = (joined(self.stdout.take()), joined(self.stderr.take()));
                let said = (String::from_utf8_lossy(&said.0), String::from_utf8_lossy(&said.1));
                panic!("{} did not end within {} s: {said:?}", self.what, within.as_secs());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        let status = self.child.wait().unwrap_or_else(|error| panic!("{}: {error}", self.what));
        Output { status, stdout: joined(self.stdout.take()), stderr: joined(self.stderr.take()) }
    }

    fn end(&mut self) {
        // Both fail only when it has ended already.
        let _killed = self.child.kill();
        let _waited = self.child.wait();
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        self.end();
    }
}

fn joined(reader: Option<JoinHandle<Vec<u8>>>) -> Vec<u8> {
    reader.map(|reader| reader.join().expect("readers do not panic")).unwrap_or_default()
}

fn drain(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is all there is.
        let _read = pipe.read_to_end(&mut bytes);
        bytes
    })
}
