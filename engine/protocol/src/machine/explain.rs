//! Why a pod is as it is at this array, and which configurations made it so.
//!
//! - X1: what is said is what the guards of serving and of going on alone look at, in their order.

use crate::api::{Alarm, MediatorStatus, Serving};
use crate::config::{Configuration, Entitlement, Epoch, Right};
use crate::ids::{ArrayId, Chain, Index, Time};
use crate::machine::Machine;
use crate::machine::session::Contact;

/// Why hosts are served, held or refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Why {
    /// No other array is to have the pod.
    Sole,
    /// Another array is being filled for the first time.
    Filling {
        /// Whether it can be reached.
        peer_in_session: bool,
    },
    /// Both arrays hold everything.
    Mirrored,
    /// The session with the peer is over or not yet open, and the lease that it gave has not run out.
    LeaseStillRuns,
    /// This array went on alone; `peer_in_session`: the other is being brought level.
    WentOnAlone {
        /// Whether the other array can be reached.
        peer_in_session: bool,
    },
    /// This array went on alone and waits until the other has surely stopped.
    AwaitsPeersLease,
    /// Another array went on without this one: its copy is behind.
    Behind {
        /// Whether the other array can be reached, so that this one is being brought level.
        peer_in_session: bool,
        /// The copy was never whole.
        first_time: bool,
    },
    /// The two copies contradict each other, or a copy would lose what was acknowledged; somebody has to decide.
    Stopped(Alarm),
    /// The other array is pre-elected: it alone may go on without this one.
    PeerIsPreElected,
    /// Another array went on, as the mediator or the peer's configuration says.
    AnotherWentOn {
        /// Which.
        holder: Option<ArrayId>,
        /// In which epoch.
        epoch: Epoch,
    },
    /// The mediator refused.
    Refused,
    /// The own disk does not finish what it was given.
    DiskStuck,
    /// The loss is young: the peer may be back at once, or its start is awaited.
    AwaitsPeer,
    /// The mediator was asked and has not answered yet.
    AsksMediator,
    /// The mediator cannot be reached, nor the other array.
    MediatorUnreachable,
    /// A mediator answers that is not the one that decides.
    WrongMediator,
    /// The right was being moved when the link was lost: nobody is entitled until it is back.
    NobodyEntitled,
    /// In session; the first answer to a heartbeat, or the end of the comparison, is due any moment.
    SessionSettles,
}

/// What a configuration decided.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Decided {
    /// The pod was made at this array.
    Founded(ArrayId),
    /// This array went on alone, because the mediator let it.
    Granted(ArrayId),
    /// This array went on alone by its own right.
    WentOn(ArrayId),
    /// The other array joined, brought level by this one.
    Joined {
        /// Who had it all.
        by: ArrayId,
        /// Who joined.
        array: ArrayId,
    },
    /// The right went to this array.
    PreElected(ArrayId),
    /// The right went back to the mediator.
    HandedBack,
    /// This array orders from then on.
    Switched(ArrayId),
}

/// One step of the pod's history.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Decision {
    /// Its epoch.
    pub epoch: Epoch,
    /// Its place in the log.
    pub index: Index,
    /// What it was.
    pub decided: Decided,
}

impl Machine {
    /// Why this array serves hosts, holds or refuses them.
    pub fn explain(&self, now: Time) -> Why {
        if let Some(alarm) = self.stopped {
            return Why::Stopped(alarm);
        }
        if let Some(mark) = self.out_of_sync {
            return Why::Behind { peer_in_session: self.is_in_session(), first_time: mark.first_time };
        }
        match self.serving(now) {
            Serving::Yes => self.why_serving(now),
            Serving::Off => self.why_off(),
            Serving::Held | Serving::Suspended => self.why_held(now),
        }
    }

    fn why_serving(&self, now: Time) -> Why {
        let peer_in_session = self.is_in_session();
        if !self.is_settled_alone() {
            return match self.entitlement() {
                _ if peer_in_session => Why::Mirrored,
                // It serves reads without asking, and writes once it has gone on.
                Entitlement::Alone if !self.is_fit(now) => Why::DiskStuck,
                Entitlement::Alone => Why::AwaitsPeersLease,
                _ => Why::LeaseStillRuns,
            };
        }
        let was_pair = self.log.history().iter().any(|item| item.configuration.members.is_pair());
        match self.setup.peer {
            None => Why::Sole,
            Some(_) if !was_pair => Why::Filling { peer_in_session },
            Some(_) => Why::WentOnAlone { peer_in_session },
        }
    }

    fn why_off(&self) -> Why {
        let me = self.setup.me;
        let pre_elected = self.newest_known().and_then(Configuration::pre_elected);
        let mine = self.newest().map(|newest| newest.epoch).unwrap_or_default();
        if pre_elected.is_some_and(|holder| holder != me) {
            Why::PeerIsPreElected
        } else if self.learned.epoch > mine || !self.is_member() {
            Why::AnotherWentOn { holder: self.learned.holder, epoch: self.learned.epoch.max(mine) }
        } else {
            Why::Refused
        }
    }

    fn why_held(&self, now: Time) -> Why {
        if !self.is_fit(now) {
            return Why::DiskStuck;
        }
        if self.is_settled_alone()
            || self.newest().is_some_and(|newest| newest.members.is_only(self.setup.me))
        {
            return Why::AwaitsPeersLease;
        }
        if matches!(self.contact, Contact::Open(_)) {
            return Why::SessionSettles;
        }
        if now < self.race_begins() {
            return Why::AwaitsPeer;
        }
        match (self.entitlement(), self.mediator_status()) {
            (Entitlement::None, _) => Why::NobodyEntitled,
            (Entitlement::Alone, _) => Why::AwaitsPeersLease,
            (Entitlement::Race { .. }, MediatorStatus::Reachable) => Why::AsksMediator,
            (Entitlement::Race { .. }, MediatorStatus::Wrong) => Why::WrongMediator,
            (Entitlement::Race { .. }, _) => Why::MediatorUnreachable,
        }
    }

    /// The newest configurations, at most `count`, oldest first.
    pub fn decisions(&self, count: usize) -> Vec<Decision> {
        let history = self.log.history();
        let first = history.len().saturating_sub(count);
        let decided = |at: usize| {
            let item = &history[at];
            let before = at.checked_sub(1).map(|before| &history[before].configuration);
            let founded = before.is_none() && item.chain_before == Chain::EMPTY;
            let decided = match founded {
                true => Decided::Founded(item.configuration.sequencer),
                // The oldest are forgotten where there are very many.
                false => decided(before, &item.configuration),
            };
            Decision { epoch: item.configuration.epoch, index: item.first, decided }
        };
        (first..history.len()).map(decided).collect()
    }
}

fn decided(before: Option<&Configuration>, this: &Configuration) -> Decided {
    let from_mediator = before.is_some_and(|before| matches!(before.right, Right::Mediator { .. }));
    match (this.members.sole(), this.right) {
        (Some(one), _) if from_mediator => Decided::Granted(one),
        (Some(one), _) => Decided::WentOn(one),
        (None, _) if before.is_some_and(|before| !before.members.is_pair()) => {
            let array = this.members.other(this.sequencer).unwrap_or(this.sequencer);
            Decided::Joined { by: this.sequencer, array }
        }
        (None, right) if before.is_some_and(|before| before.right == right) => {
            Decided::Switched(this.sequencer)
        }
        (None, Right::Array(holder)) => Decided::PreElected(holder),
        (None, Right::Mediator { .. }) => Decided::HandedBack,
    }
}
