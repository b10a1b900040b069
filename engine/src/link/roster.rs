//! Which connection to each peer is the one that counts.
//!
//! Both sides dial, so two connections may open at once; both sides must keep the same one without asking each other.
//! - R1: per peer and channel at most one connection is up; `Down` of the old comes before `Up` of the new.
//! - R2: of two that opened at the same time, the one dialled by the smaller id is kept.
//! - R3: a connection accepted *after* the present one came up replaces it: a dialler checks once more before it proves itself that it has
//!   none, so the peer has lost the present one (half-open here).
//! - R4: each `Up` has exactly one `Down`, whoever closes.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Instant;

use metropod_protocol::{ArrayId, Incarnation};

use super::connection::{CloseReason, ConnectionNumber, Link, Reader};
use super::handshake;

/// Which of the two connections to a peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Channel {
    /// Session frames.
    Sync,
    /// Transfer, so that it never delays heartbeats.
    Bulk,
}

impl Channel {
    /// Both.
    pub const ALL: [Channel; 2] = [Channel::Sync, Channel::Bulk];
}

/// A peer at the other end of a connection, as it said at the opening.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerInfo {
    /// Its id, authenticated.
    pub id: ArrayId,
    /// The name it is known by here.
    pub name: String,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// The other end of the connection; perhaps a proxy's.
    pub address: SocketAddr,
}

/// What happens to connections. [`LinkEvent::Up`] hands one over.
#[derive(Debug)]
pub enum LinkEvent {
    /// A connection is up.
    Up {
        /// To whom.
        peer: PeerInfo,
        /// Which of the two.
        channel: Channel,
        /// To write to.
        link: Link,
        /// To read from; dropping it closes the connection.
        reader: Reader,
    },
    /// A connection that was up is closed.
    Down {
        /// To whom.
        peer: ArrayId,
        /// Which of the two.
        channel: Channel,
        /// The connection, as [`Link::number`] of the `Up`.
        connection: ConnectionNumber,
        /// Why.
        reason: CloseReason,
    },
}

/// Takes events, in order, on the links' own threads (or those of a caller of [`super::Links`]), never inside a call of [`Link`] or [`Reader`].
/// A lock is held: it must not block nor call [`super::Links`]; pushing into an inbox is what it is for.
pub type LinkSink = Box<dyn Fn(LinkEvent) + Send + Sync>;

/// Names a moment in the order of connections' beginnings and arrivals.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Moment(u64);

/// What decides between two connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub incarnation: Incarnation,
    /// The dialler has the smaller id.
    pub dialled_by_smaller: bool,
    /// When this side accepted it or began to dial.
    pub began: Moment,
}

/// Whether `new` takes the place of `present`, which came up at `up`.
fn replaces(new: &Claim, present: &Claim, up: Moment) -> bool {
    if new.began > up {
        return true;
    }
    if new.incarnation != present.incarnation {
        return new.incarnation > present.incarnation;
    }
    if new.dialled_by_smaller != present.dialled_by_smaller {
        return new.dialled_by_smaller;
    }
    new.began > present.began
}

struct Active {
    link: Link,
    peer: PeerInfo,
    claim: Claim,
    up: Moment,
}

/// A connection that has authenticated and wants to be taken.
pub(super) struct Candidate {
    pub peer: PeerInfo,
    pub channel: Channel,
    pub claim: Claim,
    pub reader: Reader,
    /// The listener's last word is still to be sent.
    pub welcome: bool,
}

/// What became of a candidate.
pub(super) enum Taken {
    /// It is up, in the place of another that is to be closed.
    Yes { replaced: Option<Link> },
    /// It is not; the caller says so before it lets go of it.
    No { _reader: Reader },
}

/// The connections of an array.
pub(super) struct Roster {
    active: BTreeMap<(ArrayId, Channel), Active>,
    /// Connections that are opening, to be closed at a stop.
    opening: HashMap<ConnectionNumber, Link>,
    down_at: BTreeMap<(ArrayId, Channel), Instant>,
    clock: u64,
    pub stopping: bool,
    sink: LinkSink,
}

impl Roster {
    pub fn new(sink: LinkSink) -> Roster {
        Roster {
            active: BTreeMap::new(),
            opening: HashMap::new(),
            down_at: BTreeMap::new(),
            clock: 0,
            stopping: false,
            sink,
        }
    }

    /// A moment after all earlier ones.
    pub fn moment(&mut self) -> Moment {
        self.clock += 1;
        Moment(self.clock)
    }

    /// Notes an opening connection; `false`: this side stops.
    pub fn opens(&mut self, link: &Link) -> bool {
        if !self.stopping {
            self.opening.insert(link.number(), link.clone());
        }
        !self.stopping
    }

    /// It is open or given up.
    pub fn opened(&mut self, number: ConnectionNumber) {
        self.opening.remove(&number);
    }

    /// Takes the connection or not.
    pub fn take(&mut self, candidate: Candidate) -> Taken {
        let Candidate { peer, channel, claim, reader, welcome } = candidate;
        let key = (peer.id, channel);
        let kept = self.active.get(&key).is_none_or(|active| replaces(&claim, &active.claim, active.up));
        let link = reader.link().clone();
        if self.stopping || !kept || (welcome && handshake::welcome(&link).is_err()) {
            return Taken::No { _reader: reader };
        }
        let replaced = self.end(key, CloseReason::Replaced);
        let up = self.moment();
        self.active.insert(key, Active { link: link.clone(), peer: peer.clone(), claim, up });
        if let Some(reason) = link.closed() {
            // Its end was reported before it was known here.
            self.active.remove(&key);
            tracing::debug!(peer = ?peer.id, ?channel, %reason, "connection closed while it opened");
            return Taken::Yes { replaced };
        }
        (self.sink)(LinkEvent::Up { peer, channel, link, reader });
        Taken::Yes { replaced }
    }

    /// A connection was closed by whoever.
    pub fn closed(&mut self, number: ConnectionNumber, reason: CloseReason) {
        let key = self.active.iter().find(|(_, active)| active.link.number() == number).map(|(key, _)| *key);
        if let Some(key) = key {
            self.end(key, reason);
        }
    }

    /// Takes down everything of `peer`; to be closed without the lock.
    pub fn forget(&mut self, peer: ArrayId) -> Vec<Link> {
        let links =
            Channel::ALL.iter().filter_map(|channel| self.end((peer, *channel), CloseReason::Forgotten));
        links.collect()
    }

    /// Takes everything down; to be closed without the lock.
    pub fn stop(&mut self) -> Vec<Link> {
        self.stopping = true;
        let keys: Vec<_> = self.active.keys().copied().collect();
        let mut links: Vec<Link> =
            keys.into_iter().filter_map(|key| self.end(key, CloseReason::Stopping)).collect();
        links.extend(self.opening.values().cloned());
        links
    }

    /// Whether a connection is up.
    pub fn is_up(&self, peer: ArrayId, channel: Channel) -> bool {
        self.active.contains_key(&(peer, channel))
    }

    /// The other end of the connection that is up.
    pub fn peer(&self, peer: ArrayId, channel: Channel) -> Option<&PeerInfo> {
        self.active.get(&(peer, channel)).map(|active| &active.peer)
    }

    /// When the last connection closed.
    pub fn down_at(&self, peer: ArrayId, channel: Channel) -> Option<Instant> {
        self.down_at.get(&(peer, channel)).copied()
    }

    /// Whether connections are opening.
    pub fn is_opening(&self) -> bool {
        !self.opening.is_empty()
    }

    fn end(&mut self, key: (ArrayId, Channel), reason: CloseReason) -> Option<Link> {
        let active = self.active.remove(&key)?;
        self.down_at.insert(key, Instant::now());
        let (peer, channel) = key;
        (self.sink)(LinkEvent::Down { peer, channel, connection: active.link.number(), reason });
        Some(active.link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(incarnation: u64, dialled_by_smaller: bool, began: u64) -> Claim {
        Claim { incarnation: Incarnation(incarnation), dialled_by_smaller, began: Moment(began) }
    }

    #[test]
    fn of_two_that_open_at_once_both_sides_keep_the_one_dialled_by_the_smaller() {
        let (smaller, larger) = (claim(1, true, 1), claim(1, false, 2));
        assert!(replaces(&smaller, &larger, Moment(3)));
        let (smaller, larger) = (claim(1, true, 2), claim(1, false, 1));
        assert!(!replaces(&larger, &smaller, Moment(3)));
    }

    #[test]
    fn what_begins_after_the_present_one_came_up_replaces_it_whoever_dialled() {
        for (new, present) in [(true, true), (true, false), (false, true), (false, false)] {
            assert!(replaces(&claim(1, new, 9), &claim(1, present, 1), Moment(5)));
            assert!(replaces(&claim(1, new, 9), &claim(2, present, 1), Moment(5)));
        }
    }

    #[test]
    fn a_late_handshake_of_an_earlier_start_does_not_replace_the_present_one() {
        assert!(!replaces(&claim(1, true, 1), &claim(2, false, 2), Moment(5)));
        assert!(replaces(&claim(3, false, 1), &claim(2, true, 2), Moment(5)));
        assert!(!replaces(&claim(2, true, 1), &claim(2, true, 2), Moment(5)));
        assert!(replaces(&claim(2, true, 3), &claim(2, true, 2), Moment(5)));
    }
}
