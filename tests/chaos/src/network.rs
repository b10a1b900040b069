//! The network between arrays, mediator and hosts: namespaces of this run's own, or loopback with proxies.
//!
//! Each of A, B, M and the hosts has a namespace; a pair of virtual devices joins each two that talk, directly between
//! their namespaces: nothing of it is ever seen, and no address ever given, in the namespace the run was started in.
//!
//! - N1: namespaces are named after the process that made them; it removes them when it drops the network, also in a
//!   panic, and removes those of processes that are no longer there before it makes its own.
//! - N2: a cut in one direction is silent: packets go to a hardware address nobody has.
//! - N3: a cut in both directions takes the device down, so the kernel says "unreachable" at once.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use metropod_e2e::{Proxy, Valve, free_port};

use crate::Side;

/// Where namespaces are listed.
const NAMESPACES: &str = "/run/netns";
/// How the names of all runs' namespaces begin.
const PREFIX: &str = "metropod-chaos-";
/// The programs this needs, and their Debian packages.
pub const TOOLS: [(&str, &str); 2] = [("ip", "iproute2"), ("tc", "iproute2")];
/// A hardware address that no device has.
const NOBODY: &str = "02:00:00:00:00:01";

/// Who has a namespace.
const MEMBERS: [&str; 4] = ["a", "b", "m", "h"];
/// Who talks to whom, and by which device: of each the first has address 1, the second 2 of `10.77.<index>.0/24`.
const CABLES: [(&str, &str, &str); 5] = [
    ("a", "b", "mirror"),
    ("a", "m", "mediator-a"),
    ("b", "m", "mediator-b"),
    ("h", "a", "hosts-a"),
    ("h", "b", "hosts-b"),
];

/// A connection that faults happen to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Between the arrays.
    Mirror,
    /// An array's way to the mediator.
    Mediator(Side),
}

/// What can be done to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Impairment {
    /// Nothing passes.
    Cut,
    /// Nothing passes from this side.
    CutFrom(Side),
    /// Packets from both sides are late, in milliseconds (by netem).
    Delay(u64),
    /// Packets from both sides are lost, in percent (by netem).
    Loss(u64),
    /// So many kilobits per second from both sides; what does not fit is dropped (by tbf).
    Narrow(u64),
}

/// Addresses of everybody.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// Where the arrays listen for each other.
    pub listen: [SocketAddr; 2],
    /// Where the arrays are told to connect.
    pub advertise: [SocketAddr; 2],
    /// REST.
    pub api: [SocketAddr; 2],
    /// NBD.
    pub nbd: [SocketAddr; 2],
    /// Where the mediator listens.
    pub mediator: SocketAddr,
    /// The mediator, as each array reaches it.
    pub mediator_of: [SocketAddr; 2],
}

/// How the network is made.
#[derive(Debug)]
pub enum Network {
    /// Namespaces; the number of the process that made them.
    Namespaces(u32),
    /// Loopback: what stalls the mirror link, and each array's way to the mediator.
    Loopback {
        /// Of the link between the arrays.
        mirror: Valve,
        /// Of each array's way to the mediator.
        mediator: [Valve; 2],
    },
}

/// Whether the kernel lets this process make namespaces and cables between them; if not, why.
pub fn can_have_namespaces() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("not root".into());
    }
    let names = ["x", "y"].map(|member| format!("{PREFIX}{}-{member}", std::process::id()));
    let made = (|| {
        ip(&["netns", "add", &names[0]])?;
        ip(&["netns", "add", &names[1]])?;
        ip(&["-n", &names[0], "link", "add", "x", "type", "veth", "peer", "name", "x", "netns", &names[1]])
    })();
    for name in &names {
        // Missing when it could not be made.
        let _removed = ip(&["netns", "del", name]);
    }
    made
}

/// Removes namespaces of runs whose process is no longer there.
pub fn remove_abandoned() {
    let Ok(entries) = std::fs::read_dir(NAMESPACES) else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let maker = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if maker.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            // Somebody else may have been faster.
            let _removed = ip(&["netns", "del", &name]);
        }
    }
}

/// Makes the namespaces and cables of process `owner`; they are removed when this is dropped.
#[derive(Debug)]
pub struct Made {
    owner: u32,
}

impl Made {
    /// Makes them, or says what the kernel refused.
    pub fn new(owner: u32) -> Result<Made, String> {
        let made = Made { owner };
        for member in MEMBERS {
            let name = namespace(owner, member);
            ip(&["netns", "add", &name])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
        }
        for (index, (one, other, device)) in CABLES.into_iter().enumerate() {
            let names = [one, other].map(|member| namespace(owner, member));
            ip(&[
                "-n", &names[0], "link", "add", device, "type", "veth", "peer", "name", device, "netns",
                &names[1],
            ])?;
            for (name, last) in names.iter().zip([1, 2]) {
                let address = format!("10.77.{index}.{last}/24");
                ip(&["-n", name, "address", "add", &address, "dev", device])?;
                ip(&["-n", name, "link", "set", device, "up"])?;
            }
        }
        Ok(made)
    }

    /// The namespace of the hosts.
    pub fn hosts(&self) -> String {
        namespace(self.owner, "h")
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for member in MEMBERS {
            // Missing when making them failed half-way.
            let _removed = ip(&["netns", "del", &namespace(self.owner, member)]);
        }
    }
}

impl Network {
    /// Addresses for a run, and on loopback the proxies that stand between.
    pub fn addresses(&self) -> Addresses {
        match self {
            Network::Namespaces(_) => {
                let at = |cable: u8, last: u8, port: u16| SocketAddr::from(([10, 77, cable, last], port));
                let listen = [at(0, 1, 7750), at(0, 2, 7750)];
                Addresses {
                    listen,
                    advertise: listen,
                    api: [at(3, 2, 8750), at(4, 2, 8750)],
                    nbd: [at(3, 2, 10809), at(4, 2, 10809)],
                    mediator: SocketAddr::from(([0, 0, 0, 0], 7760)),
                    mediator_of: [at(1, 2, 7760), at(2, 2, 7760)],
                }
            }
            Network::Loopback { mirror, mediator } => {
                let listen = [free_port(), free_port()];
                let register = free_port();
                Addresses {
                    listen,
                    advertise: listen.map(|target| Proxy::start(mirror, target).address()),
                    api: [free_port(), free_port()],
                    nbd: [free_port(), free_port()],
                    mediator: register,
                    mediator_of: mediator.each_ref().map(|valve| Proxy::start(valve, register).address()),
                }
            }
        }
    }

    /// The namespace of an array.
    pub fn namespace_of(&self, side: Side) -> Option<String> {
        self.namespace(member(side))
    }

    /// The namespace of the mediator.
    pub fn namespace_of_mediator(&self) -> Option<String> {
        self.namespace("m")
    }

    /// Whether packets can be delayed and lost at will: the kernel has netem.
    pub fn has_netem(&self) -> bool {
        let link = Link::Mediator(Side::A);
        self.impair(link, Impairment::Delay(1)).and_then(|()| self.heal(link)).is_ok()
    }

    /// Does something to a connection.
    pub fn impair(&self, link: Link, how: Impairment) -> Result<(), String> {
        let Network::Namespaces(_) = self else {
            return match how {
                Impairment::Cut => {
                    self.stall(link, true);
                    Ok(())
                }
                how => Err(format!("{how:?} needs network namespaces")),
            };
        };
        let (ends, device, cable) = self.ends(link);
        match how {
            Impairment::Cut => ip(&["-n", &ends[0], "link", "set", device, "down"]),
            Impairment::CutFrom(side) => {
                let from = usize::from(side == Side::B);
                let target = format!("10.77.{cable}.{}", 2 - from);
                ip(&[
                    "-n",
                    &ends[from],
                    "neighbour",
                    "replace",
                    &target,
                    "lladdr",
                    NOBODY,
                    "dev",
                    device,
                    "nud",
                    "permanent",
                ])
            }
            Impairment::Delay(ms) => self.queue(&ends, device, &["netem", "delay", &format!("{ms}ms")]),
            Impairment::Loss(percent) => {
                self.queue(&ends, device, &["netem", "loss", &format!("{percent}%")])
            }
            Impairment::Narrow(rate) => {
                let rate = format!("{rate}kbit");
                self.queue(&ends, device, &["tbf", "rate", &rate, "burst", "16kb", "latency", "100ms"])
            }
        }
    }

    /// Undoes whatever was done to a connection.
    pub fn heal(&self, link: Link) -> Result<(), String> {
        let Network::Namespaces(_) = self else {
            self.stall(link, false);
            return Ok(());
        };
        let (ends, device, cable) = self.ends(link);
        for (end, target) in ends.iter().zip([2, 1]) {
            // Both fail when there is nothing to undo.
            let _queue = run("tc", &["-n", end, "qdisc", "del", "dev", device, "root"]);
            let target = format!("10.77.{cable}.{target}");
            let _neighbour = ip(&["-n", end, "neighbour", "del", &target, "dev", device]);
        }
        ip(&["-n", &ends[0], "link", "set", device, "up"])
    }

    fn namespace(&self, member: &str) -> Option<String> {
        match self {
            Network::Namespaces(owner) => Some(namespace(*owner, member)),
            Network::Loopback { .. } => None,
        }
    }

    fn queue(&self, ends: &[String; 2], device: &str, kind: &[&str]) -> Result<(), String> {
        ends.iter().try_for_each(|end| {
            run("tc", &[&["-n", end, "qdisc", "replace", "dev", device, "root"], kind].concat())
        })
    }

    fn ends(&self, link: Link) -> ([String; 2], &'static str, usize) {
        let cable = match link {
            Link::Mirror => 0,
            Link::Mediator(Side::A) => 1,
            Link::Mediator(Side::B) => 2,
        };
        let (one, other, device) = CABLES[cable];
        ([one, other].map(|member| self.namespace(member).unwrap_or_default()), device, cable)
    }

    fn stall(&self, link: Link, stalled: bool) {
        let Network::Loopback { mirror, mediator } = self else { return };
        match link {
            Link::Mirror => mirror.stall(stalled),
            Link::Mediator(side) => mediator[side as usize].stall(stalled),
        }
    }
}

fn member(side: Side) -> &'static str {
    match side {
        Side::A => "a",
        Side::B => "b",
    }
}

fn namespace(owner: u32, member: &str) -> String {
    format!("{PREFIX}{owner}-{member}")
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    run("ip", arguments)
}

fn run(tool: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(tool).args(arguments).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(format!("{tool} {}: {said}", arguments.join(" ")))
        }
        Err(error) => Err(format!("{tool} cannot be run (Debian package iproute2): {error}")),
    }
}
