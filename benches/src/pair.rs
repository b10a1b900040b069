//! Two arrays and a mediator, a process each, with a stretched pod `pod1` and its volume `pod1::vol1`.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::array_process::{AS_ARRAY, AS_MEDIATOR};
use crate::process::Process;
use crate::proxy::Proxy;

/// The pod.
pub const POD: &str = "pod1";
/// Its volume.
pub const VOLUME: &str = "pod1::vol1";
/// What bringing a pair up or level may take, in milliseconds.
pub const LIMIT_MS: u64 = 600_000;

/// One array of the pair.
pub struct Side {
    /// `A` or `B`.
    pub name: &'static str,
    /// Its process.
    pub process: Process,
    proxy: Option<Proxy>,
    directory: PathBuf,
    address: SocketAddr,
    mediator: SocketAddr,
    journal_mib: u64,
}

/// See the module's text.
pub struct Pair {
    /// The array that made the pod.
    pub a: Side,
    /// The array it was stretched to.
    pub b: Side,
    /// Held for as long as the pair lives.
    pub mediator: Process,
}

/// How a pair is made.
#[derive(Debug, Clone, Copy)]
pub struct PairConfig {
    /// Size of the volume.
    pub blocks: u64,
    /// Whether connections between the arrays lead through counting proxies.
    pub proxied: bool,
    /// Journal budget of each array.
    pub journal_mib: u64,
}

/// Starts an array alone, without links or a mediator.
pub fn start_alone(directory: &Path, journal_mib: u64, capacity_bytes: Option<u64>) -> io::Result<Process> {
    let directory = directory.to_string_lossy();
    let journal_mib = journal_mib.to_string();
    let capacity = capacity_bytes.map(|bytes| bytes.to_string());
    let arguments = [AS_ARRAY, "C", &directory, "127.0.0.1:0", "-", "-", &journal_mib];
    Ok(Process::start(arguments.into_iter().chain(capacity.as_deref()))?.0)
}

impl Side {
    fn start(name: &'static str, home: &Path, mediator: SocketAddr, config: PairConfig) -> io::Result<Side> {
        let proxy = if config.proxied { Some(Proxy::start()?) } else { None };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let directory = home.join(name);
        let journal_mib = config.journal_mib;
        let (process, address) = launch(name, &directory, any, proxy.as_ref(), mediator, journal_mib)?;
        Ok(Side { name, process, proxy, directory, address, mediator, journal_mib })
    }

    /// Starts the array again after it was killed, on the port it had.
    pub fn restart(&mut self) -> io::Result<()> {
        let (process, _) = launch(
            self.name,
            &self.directory,
            self.address,
            self.proxy.as_ref(),
            self.mediator,
            self.journal_mib,
        )?;
        self.process = process;
        Ok(())
    }

    /// Where the other array connects.
    fn door(&self) -> SocketAddr {
        self.proxy.as_ref().map_or(self.address, Proxy::address)
    }

    /// What the array tells.
    pub fn status(&mut self) -> io::Result<Value> {
        let answer = self.process.ask(&format!("status {POD}"))?;
        serde_json::from_str(&answer).map_err(io::Error::other)
    }

    /// Whether it says that it orders.
    pub fn is_sequencer(&mut self) -> io::Result<bool> {
        Ok(self.status()?["sides"][0]["sequencer"] == Value::Bool(true))
    }

    /// Waits for a state (`online`, `level`, `alone`); gives when it was seen, on the common clock.
    pub fn until(&mut self, state: &str) -> io::Result<u64> {
        let answer = self.process.ask(&format!("until {POD} {state} {LIMIT_MS}"))?;
        answer.parse().map_err(io::Error::other)
    }
}

impl Pair {
    /// Starts everything and waits until both arrays are in sync.
    pub fn start(home: &Path, config: PairConfig) -> io::Result<Pair> {
        let mut pair = Pair::connect(home, config)?;
        pair.stretch()?;
        Ok(pair)
    }

    /// Starts everything; the pod is at A alone.
    pub fn connect(home: &Path, config: PairConfig) -> io::Result<Pair> {
        let directory = home.join("M").to_string_lossy().into_owned();
        let (mediator, address) = Process::start([AS_MEDIATOR, &directory])?;
        let address = address.parse().map_err(io::Error::other)?;
        let mut a = Side::start("A", home, address, config)?;
        let mut b = Side::start("B", home, address, config)?;
        let key = a.process.ask("key")?;
        b.process.ask(&format!("connect {} {key}", a.door()))?;
        wait_until("connections", || Ok(a.process.ask("linked")? == "true"))?;
        a.process.ask(&format!("create-pod {POD}"))?;
        a.process.ask(&format!("create-volume {VOLUME} {}", config.blocks))?;
        Ok(Pair { a, b, mediator })
    }

    /// Stretches the pod to B and waits until both arrays are in sync.
    pub fn stretch(&mut self) -> io::Result<()> {
        self.a.process.ask(&format!("stretch {POD} B"))?;
        self.until_level()
    }

    /// Waits until both arrays say that both serve and that the right is at the mediator.
    pub fn until_level(&mut self) -> io::Result<()> {
        self.a.until("level")?;
        self.b.until("level")?;
        Ok(())
    }

    /// Cuts or mends the connections between the arrays; both reach the mediator all the while.
    pub fn set_cut(&self, cut: bool) {
        for proxy in self.a.proxy.iter().chain(&self.b.proxy) {
            proxy.set_stalled(cut);
        }
    }

    /// Bytes that crossed between the arrays so far, both directions, all connections.
    pub fn wire_bytes(&self) -> u64 {
        self.a.proxy.iter().chain(&self.b.proxy).map(Proxy::bytes).sum()
    }
}

fn launch(
    name: &str,
    directory: &Path,
    listen: SocketAddr,
    proxy: Option<&Proxy>,
    mediator: SocketAddr,
    journal_mib: u64,
) -> io::Result<(Process, SocketAddr)> {
    let advertise = proxy.map_or("-".to_owned(), |proxy| proxy.address().to_string());
    let (directory, listen) = (directory.to_string_lossy(), listen.to_string());
    let (mediator, journal_mib) = (mediator.to_string(), journal_mib.to_string());
    let arguments = [AS_ARRAY, name, &directory, &listen, &advertise, &mediator, &journal_mib];
    let (process, address) = Process::start(arguments)?;
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    if let Some(proxy) = proxy {
        proxy.set_target(address);
    }
    Ok((process, address))
}

/// Asks every few milliseconds.
pub fn wait_until(what: &str, mut done: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let began = Instant::now();
    while !done()? {
        if began.elapsed() > Duration::from_secs(60) {
            return Err(io::Error::other(format!("{what}: not after 60 s")));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
