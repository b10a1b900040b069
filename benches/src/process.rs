//! A child process that answers commands, one line each; started from the running program itself, which must know
//! the verb [`PART`].
//!
//! - C1: the child is killed when its handle goes: no benchmark leaves processes behind.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// The verb with which the program does a part of a benchmark.
pub const PART: &str = "bench-part";

/// A running child.
#[derive(Debug)]
pub struct Process {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Process {
    /// Starts this program again with these arguments and waits until it says that it is ready.
    pub fn start<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> io::Result<(Process, String)> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(PART)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let commands = child.stdin.take().expect("the child's input is piped");
        let answers = BufReader::new(child.stdout.take().expect("the child's output is piped"));
        let mut process = Process { child, commands, answers };
        let ready = process.answer("start")?;
        Ok((process, ready))
    }

    /// Sends a command and waits for its answer.
    pub fn ask(&mut self, command: &str) -> io::Result<String> {
        self.send(command)?;
        self.answer(command)
    }

    /// Sends a command whose answer is taken later.
    pub fn send(&mut self, command: &str) -> io::Result<()> {
        writeln!(self.commands, "{command}")
    }

    /// Waits for the answer of the command that was sent.
    pub fn answer(&mut self, command: &str) -> io::Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        match line.trim_end().split_once(' ') {
            Some(("ok", answer)) => Ok(answer.to_owned()),
            _ => Err(io::Error::other(format!("{command}: {}", line.trim_end()))),
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGSTOP.
    pub fn freeze(&self) -> io::Result<()> {
        Ok(kill_process(self.pid(), Signal::STOP)?)
    }

    /// SIGCONT.
    pub fn thaw(&self) -> io::Result<()> {
        Ok(kill_process(self.pid(), Signal::CONT)?)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.kill();
    }
}
