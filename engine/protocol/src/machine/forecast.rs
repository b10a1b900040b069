//! What would happen if something were lost now: who of a pod's arrays goes on serving, and why. From local knowledge alone,
//! which in a session includes what the peer said with its last heartbeat.
//!
//! - F1: a forecast is made for a pod that stands still. While the right or the membership moves it says so instead.
//! - F2: both arrays of a mirrored pod forecast the same.

use crate::api::MediatorStatus;
use crate::config::{Configuration, Right};
use crate::ids::{ArrayId, RegisterId, Time};
use crate::machine::Machine;
use crate::machine::session::Session;
use crate::mediator::Record;

/// Something that may be lost.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Cut {
    /// Every connection between the arrays.
    Link,
    /// The other array.
    Peer,
    /// This array.
    Own,
    /// The mediator, for both.
    Mediator,
    /// Link and mediator at once.
    LinkAndMediator,
}

impl Cut {
    /// All of them.
    pub const ALL: [Cut; 5] = [Cut::Link, Cut::Peer, Cut::Own, Cut::Mediator, Cut::LinkAndMediator];
}

/// Who serves hosts after a cut.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Stays {
    /// Both arrays.
    Both,
    /// This array.
    Only(ArrayId),
    /// One of both; which cannot be told.
    One,
    /// None, until what was lost is back.
    Nobody,
    /// It cannot be told from here.
    Unknown,
}

/// Why.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Because {
    /// No other array holds the pod, or the other copy is behind.
    OnlyCopyInSync,
    /// The only copy in sync is the one that is lost.
    OtherCopyBehind,
    /// It is pre-elected.
    PreElected,
    /// The pre-elected array is lost; the other never goes on without its word.
    PreElectedIsLost,
    /// Both ask the mediator; the preferred one has a head start.
    Preferred,
    /// Both ask the mediator, which lets the first go on.
    FirstToAsk,
    /// It alone can ask the mediator: the other is lost, does not reach it, or its disk does not keep up.
    AsksMediator,
    /// Nobody can ask the mediator.
    NobodyAsksMediator,
    /// The mediator's register is not in the state that the log names: after a race that was not finished it names this array,
    /// which goes on; or it names none that could.
    RegisterInDoubt,
    /// Nothing that is needed is lost; with the mediator away one array is pre-elected a second later.
    StillMirrored,
    /// The pre-elected array's disk does not keep up, so that it does not go on either.
    PreElectedIsUnfit,
    /// Nothing that is needed is lost: the right is at an array already.
    NeedsNoMediator,
    /// The copies contradict each other.
    Stopped,
    /// The right or the membership is being moved.
    Moving,
    /// The arrays are not in session: see why the pod is as it is.
    NotInSession,
}

/// One line of a forecast.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Forecast {
    /// If this is lost,
    pub cut: Cut,
    /// then these go on,
    pub stays: Stays,
    /// for this reason.
    pub because: Because,
}

impl Machine {
    /// For each possible cut, who goes on and why.
    pub fn forecast(&self, now: Time) -> [Forecast; 5] {
        Cut::ALL.map(|cut| {
            let (stays, because) = self.after(now, cut);
            Forecast { cut, stays, because }
        })
    }

    fn after(&self, now: Time, cut: Cut) -> (Stays, Because) {
        let me = self.setup.me;
        if self.stopped.is_some() {
            return (Stays::Unknown, Because::Stopped);
        }
        if self.out_of_sync.is_some() {
            return match self.setup.peer.filter(|_| self.is_in_session()) {
                Some(peer) => after_for_one(cut, peer, cut == Cut::Peer),
                None => (Stays::Unknown, Because::NotInSession),
            };
        }
        if self.is_settled_alone() {
            let (stays, because) = after_for_one(cut, me, cut == Cut::Own);
            let alone = self.setup.peer.is_none();
            return (stays, if alone { Because::OnlyCopyInSync } else { because });
        }
        if !self.is_in_session() {
            return (Stays::Unknown, Because::NotInSession);
        }
        match self.standing_pair() {
            None => (Stays::Unknown, Because::Moving),
            Some((pair, peer)) => match pair.right {
                Right::Array(holder) => self.after_pre_elected(now, cut, peer, holder),
                Right::Mediator { register, .. } => self.after_mediated(now, cut, &pair, peer, register),
            },
        }
    }

    /// The pair that both know and nobody moves (F1), and the other member.
    fn standing_pair(&self) -> Option<(Configuration, ArrayId)> {
        let pair = *self.newest_known()?;
        let peer = pair.members.other(self.setup.me)?;
        let session = self.session()?;
        let told = session.peer_known == self.known && session.heartbeat_received > 0;
        (told && self.is_merged()).then_some((pair, peer))
    }

    fn after_pre_elected(&self, now: Time, cut: Cut, peer: ArrayId, holder: ArrayId) -> (Stays, Because) {
        let lost = match cut {
            Cut::Peer => Some(peer),
            Cut::Own => Some(self.setup.me),
            Cut::Mediator => return (Stays::Both, Because::NeedsNoMediator),
            Cut::Link | Cut::LinkAndMediator => None,
        };
        if lost == Some(holder) {
            (Stays::Nobody, Because::PreElectedIsLost)
        } else if self.is_fit_as_heard(now, holder) {
            (Stays::Only(holder), Because::PreElected)
        } else {
            (Stays::Nobody, Because::PreElectedIsUnfit)
        }
    }

    fn after_mediated(
        &self,
        now: Time,
        cut: Cut,
        pair: &Configuration,
        peer: ArrayId,
        register: RegisterId,
    ) -> (Stays, Because) {
        let me = self.setup.me;
        let racers = match cut {
            Cut::Mediator => return (Stays::Both, Because::StillMirrored),
            Cut::LinkAndMediator => return (Stays::Nobody, Because::NobodyAsksMediator),
            Cut::Link => [Some(me), Some(peer)],
            Cut::Peer => [Some(me), None],
            Cut::Own => [None, Some(peer)],
        };
        let racers = racers.map(|racer| racer.filter(|racer| self.may_ask(now, *racer)));
        let able: Vec<ArrayId> = racers.into_iter().flatten().collect();
        if !able.iter().all(|racer| self.has_seen_register(pair, *racer)) {
            return (Stays::Unknown, Because::Moving);
        }
        if let Some(record) = self.doubt(pair, register) {
            let named = record.and_then(|record| record.members.sole());
            return match named.filter(|named| able.contains(named)) {
                Some(named) => (Stays::Only(named), Because::RegisterInDoubt),
                None => (Stays::Nobody, Because::RegisterInDoubt),
            };
        }
        match able[..] {
            [] => (Stays::Nobody, Because::NobodyAsksMediator),
            [one] => (Stays::Only(one), Because::AsksMediator),
            _ => match self.setup.preferred.filter(|preferred| pair.members.contains(*preferred)) {
                Some(preferred) => (Stays::Only(preferred), Because::Preferred),
                None => (Stays::One, Because::FirstToAsk),
            },
        }
    }

    /// Whether an array reaches the mediator and has a disk that keeps up, as far as is known here.
    fn may_ask(&self, now: Time, array: ArrayId) -> bool {
        match array == self.setup.me {
            true => self.mediator_status() == MediatorStatus::Reachable && self.is_fit(now),
            false => self.peer_reaches_mediator() && self.session().is_some_and(|session| session.peer_fit),
        }
    }

    /// Whether an array has looked into the register in this session: before that a race may have left it in doubt.
    fn has_seen_register(&self, pair: &Configuration, array: ArrayId) -> bool {
        let of = |session: &Session| match array == self.setup.me {
            true => session.register_seen,
            false => session.peer_register_seen,
        };
        self.session().and_then(of).is_some_and(|(config, _)| config == pair.id)
    }

    /// What either saw in the register, if that is not what the log says.
    pub(super) fn doubt(&self, pair: &Configuration, register: RegisterId) -> Option<Option<Record>> {
        let session = self.session()?;
        let seen = [session.register_seen, session.peer_register_seen];
        let (_, record) = seen.into_iter().flatten().find(|(config, record)| {
            *config == pair.id && record.is_none_or(|record: Record| record.id != register)
        })?;
        Some(record)
    }
}

/// One copy is in sync.
fn after_for_one(cut: Cut, holder: ArrayId, holder_is_lost: bool) -> (Stays, Because) {
    match (cut, holder_is_lost) {
        (Cut::Peer | Cut::Own, true) => (Stays::Nobody, Because::OtherCopyBehind),
        _ => (Stays::Only(holder), Because::OnlyCopyInSync),
    }
}
