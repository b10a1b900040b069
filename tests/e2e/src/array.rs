//! An array or a mediator as a process, with the command line as its management.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::nbd::NbdClient;
use crate::ports::free_port;
use crate::process::{Process, binary};
use crate::{JOURNAL_BYTES, tools};

/// How an array is started.
#[derive(Debug, Clone)]
pub struct ArrayOptions {
    /// Its name.
    pub name: String,
    /// Where it keeps its files.
    pub directory: PathBuf,
    /// Where its log goes.
    pub log: PathBuf,
    /// For other arrays.
    pub listen: SocketAddr,
    /// Where other arrays are told to connect.
    pub advertise: Option<SocketAddr>,
    /// The REST API.
    pub api: SocketAddr,
    /// NBD clients.
    pub nbd: SocketAddr,
    /// The mediator.
    pub mediator: Option<SocketAddr>,
    /// The network namespace it runs in, if not the test's own.
    pub namespace: Option<String>,
}

/// An array's process, running or not.
#[derive(Debug)]
pub struct Array {
    options: ArrayOptions,
    process: Option<Process>,
}

/// A mediator's process, running or not.
#[derive(Debug)]
pub struct Mediator {
    directory: PathBuf,
    address: SocketAddr,
    namespace: Option<String>,
    process: Option<Process>,
}

/// A verb that did not succeed.
#[derive(Debug)]
pub struct CliRefusal {
    /// Exit status.
    pub status: Option<i32>,
    /// What it said on stderr.
    pub said: String,
}

impl ArrayOptions {
    /// An array named `name` that keeps everything in `base`.
    pub fn new(name: &str, base: &Path) -> ArrayOptions {
        ArrayOptions {
            name: name.to_owned(),
            directory: base.join(name),
            log: base.join(format!("{name}.log")),
            listen: free_port(),
            advertise: None,
            api: free_port(),
            nbd: free_port(),
            mediator: None,
            namespace: None,
        }
    }

    /// The command line that starts it.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = ["serve", "--name", &self.name, "--data"].map(str::to_owned).into();
        arguments.push(self.directory.display().to_string());
        let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        option("--listen", self.listen.to_string());
        option("--api", self.api.to_string());
        option("--nbd", self.nbd.to_string());
        option("--journal-bytes", JOURNAL_BYTES.to_string());
        if let Some(address) = self.advertise {
            option("--advertise", address.to_string());
        }
        if let Some(address) = self.mediator {
            option("--mediator", address.to_string());
        }
        arguments
    }
}

impl Array {
    /// Starts it; it must become ready.
    pub fn start(options: ArrayOptions) -> Array {
        match Array::try_start(options) {
            Ok(array) => array,
            Err(said) => panic!("the array did not become ready: {said}"),
        }
    }

    /// Starts it, or gives what it said when it refused to run.
    pub fn try_start(options: ArrayOptions) -> Result<Array, String> {
        let process =
            Process::start_within(options.namespace.as_deref(), &options.arguments(), &options.log)?;
        Ok(Array { options, process: Some(process) })
    }

    /// An array of its own, without mediator.
    pub fn single(name: &str, base: &Path) -> Array {
        Array::start(ArrayOptions::new(name, base))
    }

    /// How it is started.
    pub fn options(&self) -> &ArrayOptions {
        &self.options
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Its process, which must run.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the array runs")
    }

    /// Whether its process runs.
    pub fn is_up(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_up)
    }

    /// SIGKILL.
    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
    }

    /// An orderly end.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop();
        }
    }

    /// Starts it again, with the same ports. It must become ready.
    pub fn restart(&mut self) {
        self.kill9();
        let namespace = self.options.namespace.as_deref();
        match Process::start_within(namespace, &self.options.arguments(), &self.options.log) {
            Ok(process) => self.process = Some(process),
            Err(said) => panic!("array {} did not become ready again: {said}", self.options.name),
        }
    }

    /// A verb with `--json` against this array; the document it printed.
    pub fn try_cli(&self, verb: &[&str]) -> Result<Value, CliRefusal> {
        let api = format!("http://{}", self.options.api);
        metropod(&[verb, &["--api", &api, "--json"]].concat())
    }

    /// As [`Array::try_cli`]; it must succeed.
    pub fn cli(&self, verb: &[&str]) -> Value {
        match self.try_cli(verb) {
            Ok(value) => value,
            Err(refusal) => panic!("metropod {verb:?} at {}: {refusal:?}", self.options.name),
        }
    }

    /// Makes a pod and its volumes of `size_bytes` each.
    pub fn make_pod(&self, pod: &str, volumes: &[&str], size_bytes: u64) {
        self.cli(&["pod", "create", pod]);
        for volume in volumes {
            let name = format!("{pod}::{volume}");
            self.cli(&["volume", "create", &name, "--size", &size_bytes.to_string()]);
        }
    }

    /// A volume's address for NBD clients.
    pub fn uri(&self, volume: &str) -> String {
        format!("nbd://{}/{volume}", self.options.nbd)
    }

    /// Opens a volume; it must be served.
    pub fn open(&self, volume: &str) -> NbdClient {
        match NbdClient::open(self.options.nbd, volume) {
            Ok(client) => client,
            Err(error) => panic!("cannot open {volume} at {}: {error}", self.options.name),
        }
    }
}

impl Mediator {
    /// Starts one that keeps everything in `base`.
    pub fn start(base: &Path) -> Mediator {
        Mediator::start_at(base, free_port(), None)
    }

    /// As [`Mediator::start`], listening at `address` in a network namespace.
    pub fn start_at(base: &Path, address: SocketAddr, namespace: Option<String>) -> Mediator {
        let mut mediator = Mediator { directory: base.join("mediator"), address, namespace, process: None };
        mediator.restart();
        mediator
    }

    /// Its process, which must run.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the mediator runs")
    }

    /// Where arrays connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// SIGKILL.
    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
    }

    /// Whether its process runs.
    pub fn is_up(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_up)
    }

    /// Where it keeps its files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// An orderly end.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop();
        }
    }

    /// Starts it (again), at the same address.
    pub fn restart(&mut self) {
        self.kill9();
        let arguments = [
            "mediator".to_owned(),
            "--data".to_owned(),
            self.directory.display().to_string(),
            "--listen".to_owned(),
            self.address.to_string(),
        ];
        let log = self.directory.with_extension("log");
        match Process::start_within(self.namespace.as_deref(), &arguments, &log) {
            Ok(process) => self.process = Some(process),
            Err(said) => panic!("the mediator did not become ready: {said}"),
        }
    }
}

/// Runs the command line to its end; the document it printed.
pub fn metropod(arguments: &[&str]) -> Result<Value, CliRefusal> {
    let output = tools::run(&binary().display().to_string(), arguments);
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(CliRefusal { status: output.status.code(), said });
    }
    match serde_json::from_slice(&output.stdout) {
        Ok(value) => Ok(value),
        Err(error) => panic!("{arguments:?} did not print one JSON document: {error}; {output:?}"),
    }
}
