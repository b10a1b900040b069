//! The binary, running: an array as a process on ports of its own, and commands against it.

#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use metropod_server::client::rest::Client;
use metropod_server::serve::ReadyLine;
use tempfile::TempDir;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_metropod");

/// A directory on a disk that takes direct I/O.
pub fn scratch() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Runs one command to its end.
pub fn metropod(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).env_remove("METROPOD_API").stdin(Stdio::null()).output().unwrap()
}

/// A running array; killed when dropped.
pub struct Running {
    child: Child,
    pub ready: ReadyLine,
    pub data: PathBuf,
}

impl Running {
    pub fn start(name: &str, data: &Path) -> Running {
        let mut child = command(name, data).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        Running { child, ready, data: data.to_owned() }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.ready.api.unwrap())
    }

    pub fn client(&self) -> Client {
        Client::new(&[self.url()]).unwrap()
    }

    /// Runs a command against this array.
    pub fn metropod(&self, arguments: &[&str]) -> Output {
        let url = self.url();
        let mut all = arguments.to_vec();
        all.extend(["--api", &url]);
        metropod(&all)
    }

    /// What a command answers as JSON.
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let mut all = arguments.to_vec();
        all.push("--json");
        let output = self.metropod(&all);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; gives the exit status.
    pub fn terminate(mut self) -> std::process::ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }

    /// Closes the process's stdin; gives the exit status.
    pub fn close_stdin(mut self) -> std::process::ExitStatus {
        drop(self.child.stdin.take());
        self.child.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _waited_already = self.child.wait();
    }
}

/// `serve` on ports of the system's choice, ending with its stdin.
pub fn command(name: &str, data: &Path) -> Command {
    command_at(name, data, "127.0.0.1:0")
}

/// The same with a given NBD address.
pub fn command_at(name: &str, data: &Path, nbd: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(["serve", "--name", name, "--journal-bytes", "128M", "--until-stdin-closes", "--data"])
        .arg(data)
        .args(["--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "--nbd", nbd])
        .env("METROPOD_LOG", "warn")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
