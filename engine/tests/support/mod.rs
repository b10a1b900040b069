//! Arrays with links on loopback, and a proxy between them that can stall and cut.
#![allow(dead_code, clippy::unwrap_used, reason = "shared by tests that use parts of it")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam::channel::{Receiver, unbounded};
use metropod::identity::{Identity, PeerKind};
use metropod::link::{
    Channel, CloseReason, ConnectionNumber, Link, LinkEvent, Links, LinksConfig, PeerInfo, Reader,
};
use metropod_protocol::{ArrayId, Incarnation};

pub const PATIENCE: Duration = Duration::from_secs(5);
pub const NO_SPIN: Duration = Duration::ZERO;

pub struct Up {
    pub peer: PeerInfo,
    pub link: Link,
    pub reader: Reader,
}

pub struct Array {
    pub id: ArrayId,
    pub links: Links,
    events: Receiver<LinkEvent>,
    pub current: BTreeMap<Channel, Up>,
    pub downs: Vec<(Channel, ConnectionNumber, CloseReason)>,
    pub ups: usize,
}

pub fn config(directory: &Path, name: &str, incarnation: u64) -> LinksConfig {
    let identity = Arc::new(Identity::open_or_create(directory).unwrap());
    let mut config = LinksConfig::new(identity, Incarnation(incarnation), name, directory.join("peers"));
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config
}

impl Array {
    pub fn start(config: LinksConfig) -> Array {
        let (sender, events) = unbounded();
        let id = config.identity.id();
        let sink = Box::new(move |event| {
            let _ = sender.send(event);
        });
        let links = Links::start(config, sink).unwrap();
        Array { id, links, events, current: BTreeMap::new(), downs: Vec::new(), ups: 0 }
    }

    pub fn address(&self) -> String {
        self.links.address().to_string()
    }

    pub fn connect(&self, other: &Array) {
        let key = other.links.issue_key().unwrap();
        self.links.connect(&other.address(), &key, PeerKind::Sync).unwrap();
    }

    /// Takes events that have come, checking that ups and downs alternate.
    pub fn take_events(&mut self, wait: Duration) {
        let mut next = self.events.recv_timeout(wait).ok();
        while let Some(event) = next {
            match event {
                LinkEvent::Up { peer, channel, link, reader } => {
                    self.ups += 1;
                    let before = self.current.insert(channel, Up { peer, link, reader });
                    assert!(before.is_none(), "up twice without a down");
                }
                LinkEvent::Down { peer, channel, connection, reason } => {
                    let up = self.current.remove(&channel).expect("down of what was not up");
                    assert_eq!((up.link.number(), up.peer.id), (connection, peer));
                    self.downs.push((channel, connection, reason));
                }
            }
            next = self.events.try_recv().ok();
        }
    }

    pub fn wait_until(&mut self, what: &str, mut is_so: impl FnMut(&mut Array) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            // Only who reads hears of the end.
            for up in self.current.values_mut() {
                let _ = up.reader.try_frame();
            }
            self.take_events(Duration::from_millis(10));
        }
    }
}

/// Waits until what `one` sends on its present connection is read on the other's present connection, and back, on both channels.
pub fn meet(one: &mut Array, other: &mut Array) {
    let deadline = Instant::now() + PATIENCE;
    let mut round = 0u64;
    'again: loop {
        round += 1;
        assert!(Instant::now() < deadline, "the arrays did not come together");
        one.take_events(Duration::from_millis(5));
        other.take_events(Duration::from_millis(5));
        for channel in Channel::ALL {
            let (Some(here), Some(there)) = (one.current.get_mut(&channel), other.current.get_mut(&channel))
            else {
                continue 'again;
            };
            if !passes(here, there, round) || !passes(there, here, round) {
                continue 'again;
            }
        }
        // A second connection dialled at the same time may still take its place.
        let before = (one.ups, other.ups);
        one.take_events(Duration::from_millis(20));
        other.take_events(Duration::from_millis(20));
        if before == (one.ups, other.ups) {
            return;
        }
    }
}

fn passes(from: &mut Up, to: &mut Up, round: u64) -> bool {
    let word = Bytes::copy_from_slice(&round.to_le_bytes());
    if from.link.send(0x33, 7, word.clone(), Bytes::new()).is_err() {
        return false;
    }
    let deadline = Instant::now() + Duration::from_millis(300);
    loop {
        match to.reader.read_frame_until(NO_SPIN, deadline) {
            Ok(Some(frame)) if frame.payload == word => return true,
            Ok(Some(_)) => {}
            _ => return false,
        }
    }
}

/// Two arrays, connected.
pub fn pair(directories: [&Path; 2]) -> [Array; 2] {
    let mut a = Array::start(config(directories[0], "A", 1));
    let mut b = Array::start(config(directories[1], "B", 1));
    a.connect(&b);
    meet(&mut a, &mut b);
    [a, b]
}

/// An address that was free a moment ago.
pub fn spare_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A proxy that passes everything on, until told not to.
pub struct Proxy {
    pub address: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
    stalled: Arc<AtomicBool>,
    /// Of the present connections: passes nothing on any more, not even their end.
    abandoned: Arc<Mutex<Arc<AtomicBool>>>,
    over: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    pub fn start(target: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy {
            address: listener.local_addr().unwrap(),
            target: Arc::new(Mutex::new(target)),
            stalled: Arc::default(),
            abandoned: Arc::default(),
            over: Arc::default(),
            open: Arc::default(),
        };
        let (target, stalled, over, open) =
            (proxy.target.clone(), proxy.stalled.clone(), proxy.over.clone(), proxy.open.clone());
        let abandoned = proxy.abandoned.clone();
        std::thread::spawn(move || {
            for near in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(near) = near else { continue };
                let Ok(far) = TcpStream::connect(*target.lock().unwrap()) else { continue };
                let clones = [near.try_clone().unwrap(), far.try_clone().unwrap()];
                open.lock().unwrap().extend(clones);
                for (from, to) in [
                    (near.try_clone().unwrap(), far.try_clone().unwrap()),
                    (far.try_clone().unwrap(), near.try_clone().unwrap()),
                ] {
                    let (stalled, over) = (stalled.clone(), over.clone());
                    let abandoned = abandoned.lock().unwrap().clone();
                    std::thread::spawn(move || pump(from, to, [&stalled, &abandoned], &over));
                }
            }
        });
        proxy
    }

    pub fn set_target(&self, target: SocketAddr) {
        *self.target.lock().unwrap() = target;
    }

    pub fn stall(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::Relaxed);
    }

    /// Lets the present connections hang for good; later ones are passed on.
    pub fn abandon(&self) {
        let mut abandoned = self.abandoned.lock().unwrap();
        abandoned.store(true, Ordering::Relaxed);
        *abandoned = Arc::default();
    }

    pub fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.cut();
        let _ = TcpStream::connect(self.address);
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, stalled: [&AtomicBool; 2], over: &AtomicBool) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count) = from.read(&mut buffer) {
        while stalled.iter().any(|stalled| stalled.load(Ordering::Relaxed)) && !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
