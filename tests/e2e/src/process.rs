//! A long-running `metropod` process: started, killed, stopped, frozen, by its process id.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longest time until a process is ready; a recovery of a full journal counts.
const READY_TIME_MAX: Duration = Duration::from_secs(60);
/// Longest time of an orderly end.
const END_TIME_MAX: Duration = Duration::from_secs(40);
/// Lines of a log shown for a failed test.
const LAST_LINES: usize = 25;

/// The binary under test: `METROPOD_BIN`, else the newest of this build directory's.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("METROPOD_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a running program has a path");
    let target = test.ancestors().nth(3).expect("tests run from target/PROFILE/deps");
    let built = ["release", "debug"].map(|profile| target.join(profile).join("metropod"));
    let newest = built
        .into_iter()
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .max_by_key(|(modified, _)| *modified);
    match newest {
        Some((_, path)) => path,
        None => panic!("no metropod binary in {target:?}; run `cargo build --release -p metropod-server`"),
    }
}

/// A running process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    ready: Value,
}

impl Process {
    /// Starts the binary, waits for its ready line. Its stderr is appended to `log`. `Err`: it ended instead; what it
    /// said.
    pub fn start(arguments: &[String], log: &Path) -> Result<Process, String> {
        Process::start_within(None, arguments, log)
    }

    /// As [`Process::start`], in a network namespace if one is named; its process id is the binary's all the same.
    pub fn start_within(
        namespace: Option<&str>,
        arguments: &[String],
        log: &Path,
    ) -> Result<Process, String> {
        let failed = |error| panic!("cannot start {:?} {arguments:?}: {error}", binary());
        let stderr = OpenOptions::new().create(true).append(true).open(log).unwrap_or_else(failed);
        let before = std::fs::metadata(log).map_or(0, |metadata| metadata.len());
        let mut command = match namespace {
            None => Command::new(binary()),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(binary());
                command
            }
        };
        let mut child = command
            .args(arguments)
            .env_remove("METROPOD_API")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {:?} {arguments:?}: {error}", binary()));
        let stdout = child.stdout.take().expect("stdout was asked to be a pipe");
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            // Nobody listens once the time is over.
            let _heard = send.send(BufReader::new(stdout).read_line(&mut line).map(|_| line));
        });
        let line = receive.recv_timeout(READY_TIME_MAX).ok().and_then(Result::ok).unwrap_or_default();
        if let Ok(ready) = serde_json::from_str(&line) {
            return Ok(Process { child, log: log.to_owned(), ready });
        }
        // Both fail only when it has ended already.
        let _killed = child.kill();
        let _waited = child.wait();
        let said = std::fs::read(log).unwrap_or_default();
        let said = String::from_utf8_lossy(said.get(before as usize..).unwrap_or_default()).into_owned();
        Err(if said.is_empty() { format!("no ready line but {line:?}") } else { said })
    }

    /// The line it printed when it was ready.
    pub fn ready(&self) -> &Value {
        &self.ready
    }

    /// Memory it has, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        let kib = line.trim().trim_end_matches(" kB").parse::<u64>();
        kib.unwrap_or_else(|error| panic!("{path} does not say VmRSS in kB: {error}")) << 10
    }

    /// Whether it runs.
    pub fn is_up(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill9(&mut self) {
        // Both fail only when it has ended already.
        let _killed = self.child.kill();
        let _waited = self.child.wait();
    }

    /// SIGTERM; waits for the orderly end, which must be a success.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        let begin = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    assert!(
                        status.success(),
                        "an asked end is a success, not {status}: {}",
                        self.last_words()
                    );
                    return;
                }
                Ok(None) if begin.elapsed() < END_TIME_MAX => std::thread::sleep(Duration::from_millis(10)),
                other => panic!("no orderly end: {other:?}; {}", self.last_words()),
            }
        }
    }

    /// SIGSTOP.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has an id");
        kill_process(id, signal).unwrap_or_else(|error| panic!("cannot signal {id:?}: {error}"));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.last_words());
        }
    }
}
