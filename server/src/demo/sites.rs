//! The two sites, their mediator, and the link between them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::cli::Failure;
use crate::client::rest::Client;

use super::interrupt;
use super::process::{Process, ProcessError};
use super::proxy::{Proxy, Valve};

/// One of the two sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Site {
    A,
    B,
}

impl Site {
    pub(super) const BOTH: [Site; 2] = [Site::A, Site::B];

    /// The array's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Site::A => "A",
            Site::B => "B",
        }
    }

    /// The other site.
    pub(super) fn other(self) -> Site {
        match self {
            Site::A => Site::B,
            Site::B => Site::A,
        }
    }
}

/// Everything that runs.
#[derive(Debug)]
pub(super) struct Sites {
    directory: PathBuf,
    journal_bytes: u64,
    mediator: Process,
    arrays: [Array; 2],
    valve: Valve,
}

/// An array's place: its process comes and goes.
#[derive(Debug)]
struct Array {
    site: Site,
    proxy: Proxy,
    process: Option<Process>,
}

impl Sites {
    /// Starts everything.
    pub(super) fn start(directory: &Path, journal_bytes: u64) -> Result<Sites, Failure> {
        let data = directory.join("mediator").display().to_string();
        let arguments = ["mediator", "--data", &data, "--listen", "127.0.0.1:0"].map(str::to_owned);
        let mediator = Process::start("mediator", directory, &arguments)?;
        let valve = Valve::default();
        let array = |site| -> Result<Array, Failure> {
            Ok(Array { site, proxy: Proxy::start(&valve)?, process: None })
        };
        let arrays = [array(Site::A)?, array(Site::B)?];
        let mut sites = Sites { directory: directory.to_owned(), journal_bytes, mediator, arrays, valve };
        for site in Site::BOTH {
            sites.start_array(site)?;
        }
        Ok(sites)
    }

    /// Starts an array that does not run.
    pub(super) fn start_array(&mut self, site: Site) -> Result<(), ProcessError> {
        let mediator = self.mediator.ready().listen.to_string();
        let array = &mut self.arrays[site as usize];
        let data = self.directory.join(site.name()).display().to_string();
        let (advertise, journal) = (array.proxy.address().to_string(), self.journal_bytes.to_string());
        let arguments = [
            "serve",
            "--name",
            site.name(),
            "--data",
            &data,
            "--listen",
            "127.0.0.1:0",
            "--api",
            "127.0.0.1:0",
            "--nbd",
            "127.0.0.1:0",
            "--advertise",
            &advertise,
            "--mediator",
            &mediator,
            "--journal-bytes",
            &journal,
        ];
        let name = format!("array-{}", array.site.name());
        let process = Process::start(&name, &self.directory, &arguments.map(str::to_owned))?;
        array.proxy.set_target(process.ready().listen);
        array.process = Some(process);
        Ok(())
    }

    /// SIGKILL.
    pub(super) fn kill_array(&mut self, site: Site) {
        if let Some(process) = self.arrays[site as usize].process.take() {
            process.kill();
        }
    }

    /// Says so if something that should run has ended, or the whole demo is to end.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        interrupt::check()?;
        self.mediator.check(&self.directory)?;
        for array in &mut self.arrays {
            if let Some(process) = &mut array.process {
                process.check(&self.directory)?;
            }
        }
        Ok(())
    }

    /// Where arrays connect to `site`, through the proxy.
    pub(super) fn link_address(&self, site: Site) -> SocketAddr {
        self.arrays[site as usize].proxy.address()
    }

    /// The NBD address of `site`, if it runs.
    pub(super) fn nbd(&self, site: Site) -> Option<SocketAddr> {
        self.arrays[site as usize].process.as_ref().and_then(|process| process.ready().nbd)
    }

    /// A client of `site`, if it runs.
    pub(super) fn client(&self, site: Site) -> Option<Client> {
        let api = self.arrays[site as usize].process.as_ref()?.ready().api?;
        Client::new(&[format!("http://{api}")]).ok()
    }

    /// Cuts the link, or heals it.
    pub(super) fn stall_link(&self, stalled: bool) {
        self.valve.stall(stalled);
    }
}
