//! rsync as a peer: a daemon that holds the old image and a client that brings it up to date, through a counting proxy.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::contents::{self, BLOCK_BYTES};
use crate::proxy::Proxy;

/// Blocks written or compared at once.
const STRIDE_BLOCKS: usize = 256;

/// The two image files and the daemon.
pub struct Rsync {
    daemon: Child,
    proxy: Proxy,
    source: PathBuf,
    target: PathBuf,
}

/// One synchronisation.
#[derive(Debug, Clone, Copy)]
pub struct RsyncRun {
    /// Until the target is on the disk, in seconds.
    pub seconds: f64,
    /// TCP payload, both directions.
    pub wire_bytes: u64,
}

/// rsync's version, if it is installed.
pub fn version() -> Option<String> {
    let output = Command::new("rsync").arg("--version").stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then(|| text.lines().next().unwrap_or_default().to_owned())
}

impl Rsync {
    /// Writes the same image twice and starts the daemon.
    pub fn start(home: &Path, contents: &[u64]) -> io::Result<Rsync> {
        let directory = home.join("rsync");
        fs::create_dir(&directory)?;
        let (source, target) = (home.join("source.img"), directory.join("target.img"));
        for path in [&source, &target] {
            write_blocks(&File::create(path)?, 0, contents)?;
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let configuration = home.join("rsyncd.conf");
        let text = format!(
            "use chroot = no\naddress = 127.0.0.1\nport = {port}\n[m]\npath = {}\nread only = no\nuid = {}\ngid = {}\n",
            directory.display(),
            rustix::process::getuid().as_raw(),
            rustix::process::getgid().as_raw(),
        );
        fs::write(&configuration, text)?;
        let daemon = Command::new("rsync")
            .args(["--daemon", "--no-detach", "--config"])
            .arg(&configuration)
            .stdin(Stdio::null())
            .spawn()?;
        let proxy = Proxy::start()?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        proxy.set_target(address);
        let rsync = Rsync { daemon, proxy, source, target };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if began.elapsed() > Duration::from_secs(10) {
                return Err(io::Error::other("the rsync daemon does not listen"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(rsync)
    }

    /// Changes the source as a host would have.
    pub fn apply(&self, runs: &[(u64, Vec<u64>)]) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(&self.source)?;
        for (first, contents) in runs {
            write_blocks(&file, *first, contents)?;
        }
        file.sync_all()
    }

    /// Brings the target up to date and checks it.
    pub fn run(&self) -> io::Result<RsyncRun> {
        let before = self.proxy.bytes();
        let began = Instant::now();
        let status = Command::new("rsync")
            .args(["--inplace", "-B", "4096", "--ignore-times", "--fsync"])
            .arg(&self.source)
            .arg(format!("rsync://{}/m/target.img", self.proxy.address()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()?;
        let seconds = began.elapsed().as_secs_f64();
        if !status.success() {
            return Err(io::Error::other(format!("rsync: {status}")));
        }
        let run = RsyncRun { seconds, wire_bytes: self.proxy.bytes() - before };
        self.compare()?;
        Ok(run)
    }

    fn compare(&self) -> io::Result<()> {
        let (one, other) = (File::open(&self.source)?, File::open(&self.target)?);
        let length = one.metadata()?.len();
        let mut buffers = [vec![0; 1 << 20], vec![0; 1 << 20]];
        for at in (0..length).step_by(1 << 20) {
            let count = (length - at).min(1 << 20) as usize;
            one.read_exact_at(&mut buffers[0][..count], at)?;
            other.read_exact_at(&mut buffers[1][..count], at)?;
            if buffers[0][..count] != buffers[1][..count] {
                return Err(io::Error::other(format!("rsync's target differs near {at}")));
            }
        }
        Ok(())
    }
}

impl Drop for Rsync {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn write_blocks(file: &File, first: u64, contents: &[u64]) -> io::Result<()> {
    let mut buffer = vec![0; STRIDE_BLOCKS * BLOCK_BYTES];
    for (at, stride) in contents.chunks(STRIDE_BLOCKS).enumerate() {
        let bytes = &mut buffer[..stride.len() * BLOCK_BYTES];
        for (content, block) in stride.iter().zip(bytes.chunks_exact_mut(BLOCK_BYTES)) {
            contents::fill(*content, block);
        }
        file.write_all_at(bytes, (first + (at * STRIDE_BLOCKS) as u64) * BLOCK_BYTES as u64)?;
    }
    Ok(())
}
