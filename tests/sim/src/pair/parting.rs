//! One array leaves a stretched pod, is given it again, and what its copy becomes meanwhile.
//!
//! - T1: the one that stays serves, alone and without a peer; the one that leaves holds no pod of that id.
//! - T2: what is left there is one destroyed pod of its own.

use metropod_core::operation::{Manage, Target};
use metropod_core::{Command, ManageError};
use metropod_protocol::{PodId, Serving};

use super::checks::HEAL;
use super::{IDS, Nanos, POD, Pair, Plan, ms};

impl Pair {
    /// Asks an array to have one of the two leave, until it agrees.
    pub fn unstretch(&mut self, site: usize, leaver: usize, with_unknown: bool) {
        let until = self.now + HEAL;
        let command = Command::Unstretch { pod: POD, from: IDS[leaver], with_unknown };
        while self.now < until {
            let asked = self.manage(site, command.clone());
            match asked.map(|request| self.answer(site, request)) {
                Some(Ok(_) | Err(ManageError::NoSuchPod | ManageError::NotStretched)) => return,
                Some(Err(error)) => self.log(|| format!("{site} does not let {leaver} leave: {error}")),
                None => {}
            }
            self.run_for(ms(20));
        }
        self.fail("an array agrees that one leaves");
    }

    /// Asks without waiting for an answer, which a crash may take away.
    pub fn begin_unstretch(&mut self, site: usize, leaver: usize) {
        let command = Command::Unstretch { pod: POD, from: IDS[leaver], with_unknown: false };
        let _ = self.manage(site, command);
    }

    /// Random faults for so long.
    pub fn faults_for(&mut self, span: Nanos) {
        self.plan = Plan { faults: span, pause: ms(300), longest: ms(1_000) };
        self.strike_for(span);
        self.run_for(span);
    }

    /// The pod that an array's copy became when it left.
    pub fn copy_left_at(&self, site: usize) -> Option<PodId> {
        let mut left =
            self.array(site)?.pods().filter(|pod| pod.namespace().name.as_str().starts_with("pod-left"));
        left.next().map(|pod| pod.id())
    }

    /// T1, T2.
    pub fn has_parted(&self, leaver: usize) -> bool {
        let stayer = 1 - leaver;
        let Some(stays) = self.array(stayer).and_then(|array| array.pod(POD)) else { return false };
        let now = self.sites[stayer].clock(self.now);
        stays.peer().is_none()
            && stays.machine().status(now).peer.is_none()
            && stays.machine().serving(now) == Serving::Yes
            && self.array(leaver).is_some_and(|array| array.pod(POD).is_none())
            && self.copy_left_at(leaver).is_some()
    }

    /// Waits until one has left.
    pub fn expect_parted(&mut self, leaver: usize, within: Nanos) {
        let until = self.now + within;
        while !self.has_parted(leaver) {
            if self.now >= until {
                self.fail(&format!("site {leaver} leaves in time"));
            }
            self.run_for(ms(5));
        }
    }

    /// The array that stayed takes the other in again, which has no more of the pod than its copy of another name.
    pub fn restretch(&mut self, leaver: usize) {
        self.must(1 - leaver, Command::Stretch { pod: POD, peer: IDS[leaver] });
        self.heal_within(HEAL);
    }

    /// What the array that left has kept is what the other had then, if nothing was written since.
    pub fn compare_copy(&mut self, leaver: usize) {
        let Some(copy) = self.copy_left_at(leaver) else { self.fail("a copy is left") };
        // It is there for good once a manifest names it.
        self.run_for(ms(300));
        self.must(leaver, Command::Change { pod: copy, change: Manage::Recover(Target::Pod) });
        self.rest_within(ms(10_000));
        if self.digests(leaver, copy) != self.digests(1 - leaver, POD) {
            self.fail("the copy that is left holds what the pod held");
        }
        let change = Manage::Eradicate { target: Target::Pod, contents: true, waited: None };
        // There is nothing to eradicate that is not destroyed.
        let refused = self.manage(leaver, Command::Change { pod: copy, change: change.clone() });
        let refused = refused.map(|request| self.answer(leaver, request));
        if refused != Some(Err(ManageError::NotDestroyed)) {
            self.fail(&format!("a recovered copy is in use: {refused:?}"));
        }
        self.must(leaver, Command::Destroy { pod: copy, target: Target::Pod, contents: true });
        self.must(leaver, Command::Change { pod: copy, change });
    }
}
