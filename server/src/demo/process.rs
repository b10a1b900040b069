//! One child: this same program in another role.
//!
//! - P1: dropping it kills it and waits for it.
//! - P2: it holds its child's stdin, and the child ends when that closes, so that even a killed demo leaves none behind.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::serve::ReadyLine;

/// Longest time until a child is ready.
const READY_TIME_MAX: Duration = Duration::from_secs(30);
/// Longest ready line, in bytes.
const READY_BYTES_MAX: u64 = 4096;

/// A running child.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    child: Child,
    ready: ReadyLine,
}

/// Why a child does not run.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProcessError {
    #[error("cannot start {name}: {source}")]
    Start { name: String, source: std::io::Error },
    #[error("{name} did not become ready: {said}")]
    NotReady { name: String, said: String },
    #[error("{name} has ended by itself ({status}): {said}")]
    Ended { name: String, status: std::process::ExitStatus, said: String },
}

impl Process {
    /// Starts this program with `arguments`; its log goes to `name.log` in `directory`. Waits until it is ready.
    pub(super) fn start(name: &str, directory: &Path, arguments: &[String]) -> Result<Process, ProcessError> {
        let failed = |source| ProcessError::Start { name: name.to_owned(), source };
        let log_path = log_path(directory, name);
        let log = OpenOptions::new().create(true).append(true).open(&log_path).map_err(failed)?;
        let mut child = Command::new(std::env::current_exe().map_err(failed)?)
            .args(arguments)
            .arg("--until-stdin-closes")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let stdout = child.stdout.take().expect("stdout was asked to be a pipe");
        let line = first_line(stdout);
        match line.as_deref().map(serde_json::from_str) {
            Some(Ok(ready)) => Ok(Process { name: name.to_owned(), child, ready }),
            Some(Err(_)) | None => {
                end(&mut child);
                Err(ProcessError::NotReady { name: name.to_owned(), said: last_words(&log_path) })
            }
        }
    }

    /// Where it is reached.
    pub(super) fn ready(&self) -> &ReadyLine {
        &self.ready
    }

    /// SIGKILL, and waits until it is gone.
    pub(super) fn kill(mut self) {
        end(&mut self.child);
    }

    /// Says so if it has ended.
    pub(super) fn check(&mut self, directory: &Path) -> Result<(), ProcessError> {
        match self.child.try_wait() {
            Ok(Some(status)) => {
                let said = last_words(&log_path(directory, &self.name));
                Err(ProcessError::Ended { name: self.name.clone(), status, said })
            }
            Ok(None) | Err(_) => Ok(()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    // Both fail only when it has ended and was waited for already.
    let _killed = child.kill();
    let _waited = child.wait();
}

/// The first line a child prints, if it comes in time.
fn first_line(stdout: impl Read + Send + 'static) -> Option<String> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = BufReader::new(stdout.take(READY_BYTES_MAX)).read_line(&mut line);
        // Nobody listens once the time is over.
        let _heard = send.send(read.ok().filter(|bytes| *bytes > 0).map(|_| line));
    });
    receive.recv_timeout(READY_TIME_MAX).ok().flatten()
}

fn log_path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.log"))
}

fn last_words(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    match text.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => line.to_owned(),
        None => "it said nothing".to_owned(),
    }
}
