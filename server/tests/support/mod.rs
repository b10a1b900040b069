//! A volume in memory, a server around it, and the real clients that are driven against it.

#![allow(dead_code, unused_imports, reason = "each test file uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "this is test code")]

pub mod memory;
pub mod raw;

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metropod_server::nbd::{Limits, serve};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub use memory::{MemoryExports, MemoryVolume, Mode};

/// Installs the packages of the commands that are missing, and fails when one stays missing.
pub fn require_tools(tools: &[(&str, &str)]) {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    for (tool, package) in tools {
        if is_there(tool) {
            continue;
        }
        let mut log = apt_get(&["install", "-y", "--no-install-recommends", package]);
        if !is_there(tool) {
            log += &apt_get(&["update"]);
            log += &apt_get(&["install", "-y", "--no-install-recommends", package]);
        }
        assert!(is_there(tool), "{tool} is missing; installing {package} failed: {log}");
    }
}

fn apt_get(arguments: &[&str]) -> String {
    // Test binaries may run side by side: wait for the lock.
    let output = Command::new("apt-get")
        .args(["-o", "DPkg::Lock::Timeout=120"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .unwrap_or_else(|error| panic!("apt-get cannot be run: {error}"));
    text(&output)
}

fn is_there(tool: &str) -> bool {
    // A Python module is named as such: its interpreter must be able to import it.
    match tool.strip_prefix("python3:") {
        Some(module) => Command::new("/usr/bin/python3")
            .args(["-c", &format!("import {module}")])
            .output()
            .is_ok_and(|output| output.status.success()),
        None => Command::new("sh")
            .args(["-c", &format!("PATH=/usr/bin:$PATH command -v {tool}")])
            .output()
            .is_ok_and(|output| output.status.success()),
    }
}

fn text(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A server over memory volumes, stopped when asked or dropped.
pub struct TestServer {
    pub address: SocketAddr,
    pub exports: Arc<MemoryExports>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

impl TestServer {
    /// Serves one volume `vol1` of `size_bytes`.
    pub async fn start(size_bytes: u64) -> TestServer {
        TestServer::start_with(MemoryExports::with("vol1", size_bytes), Limits::default()).await
    }

    pub async fn start_with(exports: MemoryExports, limits: Limits) -> TestServer {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let exports = Arc::new(exports);
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(serve(listener, exports.clone(), limits, async {
            let _ = stopped.await;
        }));
        TestServer { address, exports, stop: Some(stop), serving }
    }

    pub fn volume(&self) -> Arc<MemoryVolume> {
        self.exports.volume("vol1")
    }

    pub fn uri(&self, export: &str) -> String {
        format!("nbd://{}/{export}", self.address)
    }

    /// Stops the server; returns how long that took.
    pub async fn stop(mut self) -> Duration {
        let started = std::time::Instant::now();
        let _ = self.stop.take().expect("stopped once").send(());
        self.serving.await.unwrap();
        started.elapsed()
    }
}

/// Runs a client without blocking the server's runtime.
pub async fn run(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default();
    // Debian's Python has the bindings; another one may come first on the path.
    command.args(arguments).env("PATH", format!("/usr/bin:{path}"));
    let name = program.to_owned();
    tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Runs a client that must succeed; returns what it printed.
pub async fn run_ok(program: &str, arguments: &[&str]) -> String {
    let output = run(program, arguments).await;
    assert!(output.status.success(), "{program} {arguments:?}: {}", text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs nbdsh on `uri`; `code` sees the handle as `h`.
pub async fn nbdsh(uri: &str, code: &str) -> String {
    run_ok("nbdsh", &["-u", uri, "-c", code]).await
}

/// Runs qemu-io on `uri`; fails on any complaint, since qemu-io's status does not show all of them.
pub async fn qemu_io(uri: &str, commands: &[&str]) -> String {
    let mut arguments = vec!["-f", "raw"];
    commands.iter().for_each(|command| arguments.extend(["-c", command]));
    arguments.push(uri);
    let output = run("qemu-io", &arguments).await;
    let all = text(&output);
    assert!(
        output.status.success() && !all.contains("failed") && !all.contains("error"),
        "{commands:?}: {all}"
    );
    all
}
