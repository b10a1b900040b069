//! Connections between the arrays: ordered, delayed, stalled by a cut, lost with what is under way when they close.
//!
//! - N1: frames of one direction arrive in order, or not at all from some frame on.
//! - N2: an end learns that its connection is closed late, or, while the way to it is cut, only with the next one:
//!   half open. The end of the old comes before the beginning of the new.
//! - N3: while a direction is cut, what is sent that way waits and arrives after the cut, if the connection lives.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use metropod_core::peer_message::{SyncFrame, decode_bulk};
use metropod_core::{Channel, Input};
use metropod_protocol::Message;

use super::site::SiteEvent;
use super::{Event, IDS, Nanos, Pair, ms, name_of, us};
use crate::random::Random;

/// Between attempts to connect.
const DIAL: Nanos = ms(100);

pub(super) enum NetworkEvent {
    Arrives { from: usize, channel: Channel, connection: u64, payload: Bytes },
    Dial { channel: Channel },
}

#[derive(Default)]
struct Wire {
    /// The connection that is established, if any.
    current: Option<u64>,
    /// What each end takes for its connection.
    ends: [Option<u64>; 2],
    /// Frames that wait for the end of a cut, by sender.
    stalled: [VecDeque<(u64, Bytes)>; 2],
    /// When the last frame of each sender arrives.
    last: [Nanos; 2],
}

pub(super) struct Network {
    wires: [Wire; 2],
    /// Directions that are cut, by sender.
    pub blocked: [bool; 2],
    connections: u64,
    pub delay: Nanos,
    jitter: Nanos,
    pub burst: Nanos,
}

impl Network {
    pub fn new(random: &mut Random) -> Network {
        let delay = if random.chance(80) { us(20 + random.below(300)) } else { ms(1 + random.below(8)) };
        Network {
            wires: [Wire::default(), Wire::default()],
            blocked: [false; 2],
            connections: 0,
            delay,
            jitter: delay / 2 + us(20),
            burst: 0,
        }
    }
}

fn place(channel: Channel) -> usize {
    match channel {
        Channel::Sync => 0,
        Channel::Bulk => 1,
    }
}

impl Pair {
    pub(super) fn start_network(&mut self) {
        for channel in [Channel::Sync, Channel::Bulk] {
            self.after(ms(1), Event::Network(NetworkEvent::Dial { channel }));
        }
    }

    pub(super) fn network_event(&mut self, event: NetworkEvent) {
        match event {
            NetworkEvent::Arrives { from, channel, connection, payload } => {
                let wire = &mut self.network.wires[place(channel)];
                if wire.current != Some(connection) && wire.ends[1 - from] != Some(connection) {
                    return;
                }
                if self.network.blocked[from] || !wire.stalled[from].is_empty() {
                    wire.stalled[from].push_back((connection, payload));
                    return;
                }
                self.site_after(0, 1 - from, SiteEvent::Frame { channel, connection, payload });
            }
            NetworkEvent::Dial { channel } => {
                self.dial(channel);
                let again = DIAL / 2 + self.random.below(DIAL);
                self.after(again, Event::Network(NetworkEvent::Dial { channel }));
            }
        }
    }

    /// Queues a frame on the connection that the sender takes for its own.
    pub(super) fn send(&mut self, from: usize, channel: Channel, parts: Vec<Bytes>) {
        let Some(connection) = self.network.wires[place(channel)].ends[from] else { return };
        let mut payload = BytesMut::new();
        for part in parts {
            payload.extend_from_slice(&part);
        }
        let delay = self.network.delay
            + self.random.below(self.network.jitter)
            + self.random.below(self.network.burst.max(1));
        let wire = &mut self.network.wires[place(channel)];
        let at = (self.now + delay).max(wire.last[from] + 1);
        wire.last[from] = at;
        let payload = payload.freeze();
        self.log(|| format!("{from} sends {}", words(channel, &payload)));
        self.at(at, Event::Network(NetworkEvent::Arrives { from, channel, connection, payload }));
    }

    pub(super) fn is_up(&self, site: usize, channel: Channel, connection: u64) -> bool {
        self.network.wires[place(channel)].ends[site] == Some(connection)
    }

    fn dial(&mut self, channel: Channel) {
        let alive = self.sites.iter().all(|site| site.array.is_some() && !site.frozen);
        if !alive || self.network.blocked != [false; 2] {
            return;
        }
        let wire = &mut self.network.wires[place(channel)];
        if let Some(current) = wire.current
            && wire.ends == [Some(current); 2]
        {
            return;
        }
        self.network.connections += 1;
        let connection = self.network.connections;
        let ups = [us(100) + self.random.below(ms(4)), us(100) + self.random.below(ms(4))];
        let wire = &mut self.network.wires[place(channel)];
        wire.current = Some(connection);
        wire.stalled = Default::default();
        // Nothing arrives at an end before it knows of the connection.
        wire.last = [self.now + ups[1], self.now + ups[0]];
        for (site, up) in ups.into_iter().enumerate() {
            self.site_after(up, site, SiteEvent::LinkUp { channel, connection });
        }
    }

    pub(super) fn link_up(&mut self, site: usize, channel: Channel, connection: u64) {
        let wire = &mut self.network.wires[place(channel)];
        if wire.current != Some(connection) {
            return;
        }
        let peer = IDS[1 - site];
        if wire.ends[site].take().is_some() {
            self.step(site, Input::LinkDown { peer, channel });
        }
        self.network.wires[place(channel)].ends[site] = Some(connection);
        self.log(|| format!("{site} {} link up ({connection})", name_of(channel)));
        self.step(site, Input::LinkUp { peer, channel });
    }

    pub(super) fn link_down(&mut self, site: usize, channel: Channel, connection: u64) {
        if self.is_up(site, channel, connection) {
            self.network.wires[place(channel)].ends[site] = None;
            self.log(|| format!("{site} {} link down ({connection})", name_of(channel)));
            self.step(site, Input::LinkDown { peer: IDS[1 - site], channel });
        }
    }

    /// Closes the connection of a channel; what is under way is lost from some frame on.
    pub(super) fn close(&mut self, channel: Channel) {
        let wire = &mut self.network.wires[place(channel)];
        let Some(connection) = wire.current.take() else { return };
        wire.stalled = Default::default();
        for site in 0..2 {
            // Word of it comes the same way as frames do.
            if !self.network.blocked[1 - site] {
                let late = self.random.below(ms(30));
                self.site_after(late, site, SiteEvent::LinkDown { channel, connection });
            }
        }
    }

    /// An array died: its ends are gone, the other's learn of it.
    pub(super) fn drop_connections(&mut self, site: usize) {
        for channel in [Channel::Sync, Channel::Bulk] {
            self.network.wires[place(channel)].ends[site] = None;
            self.close(channel);
        }
    }

    /// Cuts or mends the ways from each site.
    pub(super) fn block(&mut self, blocked: [bool; 2]) {
        self.log(|| format!("ways cut: {blocked:?}"));
        self.network.blocked = blocked;
        for from in (0..2).filter(|from| !blocked[*from]) {
            for channel in [Channel::Sync, Channel::Bulk] {
                let stalled = std::mem::take(&mut self.network.wires[place(channel)].stalled[from]);
                for (connection, payload) in stalled {
                    self.after(
                        0,
                        Event::Site {
                            site: 1 - from,
                            boot: self.sites[1 - from].boot,
                            what: SiteEvent::Frame { channel, connection, payload },
                        },
                    );
                }
            }
        }
    }
}

/// A frame, for a person.
fn words(channel: Channel, payload: &Bytes) -> String {
    match channel {
        Channel::Sync => match SyncFrame::decode(payload.clone()) {
            Ok(SyncFrame::Protocol(_, head, attachment)) => match Message::decode(head, attachment) {
                Ok(message) => format!("{message:?}").chars().take(900).collect(),
                Err(error) => format!("{error}"),
            },
            other => format!("{other:?}"),
        },
        Channel::Bulk => match decode_bulk(payload.clone())
            .map(|(_, body)| metropod_core::transfer::Message::decode(body))
        {
            Ok(Ok(message)) => format!("{message:?}").chars().take(200).collect(),
            _ => "what is no transfer message".into(),
        },
    }
}
