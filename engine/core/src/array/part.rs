//! One array of a stretched pod leaves (unstretch).
//!
//! ```text
//! Unstretch ─► LEAVE entry (both) ─► the machines part (protocol: leave.rs)
//!      the one that stays: alone ─► LEFT entry ─► it forgets its peer
//!      the one that leaves: off ─► its copy becomes a destroyed pod of its own, by another name and id
//! ```
//! - D1: LEFT is said by an array that serves alone. So what the other holds can never serve as this pod again by itself: the right
//!   is not there, and it knows, or learns by asking.
//! - D2: the copy of the one that leaves gets another id at once: whatever is still said of the old one is not meant for it
//!   (story 32). It is destroyed like any pod: it can be recovered, at that array alone, until its delay is over.
//! - D3: who leaves out of touch asks for the pod when it is back, and hears that it is no member. Only a copy that cannot serve
//!   by itself, whatever the mediator says, takes that for an answer: nobody gives up what may be needed.
//! - D4: a pod comes back under its old id only when no record of the earlier copy can be taken for one of the new.

use std::collections::{BTreeMap, BTreeSet};

use metropod_protocol::{ArrayId, Input as MachineInput, Machine, PodId, RequestId, Serving, Time};

use super::Array;
use crate::door::ManageError;
use crate::names::{NAME_BYTES_MAX, Name};
use crate::namespace::{Destroyed, Namespace};
use crate::operation::Manage;
use crate::peer_message::SyncFrame;
use crate::pod::Waiting;

/// Pods that one array of two leaves.
#[derive(Default)]
pub(super) struct Parting {
    pods: BTreeSet<PodId>,
    /// Pods that were here and are named by manifests until this checkpoint is durable (D4).
    gone: BTreeMap<PodId, u64>,
    /// Arrays that this one has invited and whose coming is not in the log yet.
    invited: BTreeMap<PodId, ArrayId>,
}

impl Parting {
    pub(super) fn invites(&mut self, pod: PodId, peer: ArrayId) {
        self.invited.insert(pod, peer);
    }

    pub(super) fn invites_no_more(&mut self, pod: PodId) {
        self.invited.remove(&pod);
    }

    /// The checkpoint that has to be durable before the pod may be here again.
    pub(super) fn gone_with(&mut self, pod: PodId, done: u64) -> Option<u64> {
        self.gone.retain(|_, number| *number > done);
        self.gone.get(&pod).copied()
    }
}

impl Array {
    pub(super) fn unstretch(
        &mut self,
        now: Time,
        request: RequestId,
        pod: PodId,
        from: ArrayId,
        with_unknown: bool,
    ) -> Result<(), ManageError> {
        let me = self.config.me;
        let found = self.pods.get(&pod).filter(|found| found.born_with.is_none());
        let found = found.ok_or(ManageError::NoSuchPod)?;
        let peer = found.peer().ok_or(ManageError::NotStretched)?;
        if from != me && from != peer {
            return Err(ManageError::NotAMember);
        }
        let status = found.machine.status(now);
        if found.machine.serving(now) != Serving::Yes {
            return Err(ManageError::Offline);
        }
        if from == me && !status.mirrored {
            return Err(ManageError::NotMirrored);
        }
        if from == peer && !status.in_session && !with_unknown {
            return Err(ManageError::PeerUnknown);
        }
        self.submit_change(now, request, pod, Manage::Leave(from))
    }

    /// What a pod's log says of who is to leave; said to its machine.
    pub(super) fn note_leaving(&mut self, now: Time, pod: PodId, leaving: Option<ArrayId>) {
        if self.pods.get(&pod).is_some_and(|found| found.peer().is_some()) {
            self.parting.invites_no_more(pod);
        }
        let known = self.parting.pods.contains(&pod);
        if leaving.is_none() && !known {
            return;
        }
        match leaving {
            Some(_) => self.parting.pods.insert(pod),
            None => self.parting.pods.remove(&pod),
        };
        self.step_pod(now, pod, MachineInput::Leave(leaving));
    }

    /// Goes on with what is under way.
    pub(super) fn review_parting(&mut self, now: Time) {
        for pod in self.parting.pods.clone() {
            let Some(found) = self.pods.get(&pod) else {
                self.parting.pods.remove(&pod);
                continue;
            };
            match found.namespace.leaving {
                Some(leaver) if leaver == self.config.me => {
                    let whole = found.applied == found.machine.committed() || found.damaged;
                    if found.machine.is_left_out() && whole {
                        self.take_leave(now, pod);
                    }
                }
                Some(leaver) => self.say_left(now, pod, leaver),
                None => {}
            }
        }
    }

    /// D1.
    fn say_left(&mut self, now: Time, pod: PodId, leaver: ArrayId) {
        let Some(found) = self.pods.get(&pod) else { return };
        let said = found.parting.is_some_and(|request| found.waiting.contains_key(&request));
        if said || !found.machine.is_sole(now) {
            return;
        }
        let request = self.next_request();
        if let Some(found) = self.pods.get_mut(&pod) {
            found.parting = Some(request);
        }
        self.submit_manage(now, request, pod, Waiting::Chore, Manage::Left(leaver));
    }

    /// LEFT is applied.
    pub(super) fn forget_peer(&mut self, now: Time, pod: PodId) {
        if let Some(found) = self.pods.get_mut(&pod) {
            found.catch_up.stop();
            found.catch_up_with = None;
            found.round_retry_at = None;
            found.freeze_wanted = None;
            found.set_fork(None);
        }
        self.step_pod(now, pod, MachineInput::ForgetPeer);
        self.background.want_checkpoint();
    }

    /// Somebody speaks of a pod that is not here, or not his: he is to know (D3). Not while he is being invited.
    pub(super) fn tell_stranger(&mut self, peer: ArrayId, pod: PodId) {
        let coming = self.parting.invited.get(&pod) == Some(&peer);
        let born = self.pods.get(&pod).is_none_or(|found| found.born_with.is_none());
        if !coming && born {
            self.send_frame(peer, &SyncFrame::NotMember(pod));
        }
    }

    /// The other array of a pod says that this one is no member (D3).
    pub(super) fn not_a_member(&mut self, now: Time, peer: ArrayId, pod: PodId) {
        let Some(found) = self.pods.get(&pod) else { return };
        if found.peer() != Some(peer) || found.born_with.is_some() || !found.machine.depends_on_peer(now) {
            return;
        }
        if found.machine.out_of_sync().is_some_and(|mark| mark.first_time) {
            // It never held the pod; manifests may name it all the same (D4).
            let number = self.background.want_checkpoint();
            self.parting.gone.insert(pod, number);
            return self.forget_pod(pod, None);
        }
        self.take_leave(now, pod);
    }

    /// Makes a pod of its own of this array's copy, destroyed (D2).
    fn take_leave(&mut self, now: Time, pod: PodId) {
        let Some(mut found) = self.pods.remove(&pod) else { return };
        self.parting.pods.remove(&pod);
        let mut image = found.freeze();
        let applied = found.applied;
        let name = self.name_of_left(&found.namespace.name);
        self.dismiss(found);
        let namespace = &mut image.namespace;
        namespace.begin_counting(applied);
        let destroyed = Destroyed { by: applied, left_ms: namespace.eradication_delay_ms };
        image.namespace = Namespace {
            name,
            peer: None,
            leaving: None,
            preferred: None,
            destroyed: Some(destroyed),
            ..namespace.clone()
        };
        let id = self.another_id(pod);
        let setup = self.setup(id, None, None);
        let machine = Machine::found_at(setup, applied, now);
        let number = self.add_pod_with(now, id, machine, image, applied);
        self.parting.gone.insert(pod, number);
        if let Some(copy) = self.pods.get_mut(&id) {
            copy.review_chores(now);
        }
    }

    /// Sixteen bytes that nobody else draws.
    fn another_id(&mut self, pod: PodId) -> PodId {
        let seed = self.setup(pod, None, None).seed;
        let (id, _) = seed.split_first_chunk::<16>().expect("the seed is longer");
        PodId(*id)
    }

    /// A name that is free here and says what the pod was.
    fn name_of_left(&self, name: &Name) -> Name {
        let named = |number: usize| {
            let suffix = if number == 1 { "-left".to_owned() } else { format!("-left-{number}") };
            let kept = name.as_str().len().min(NAME_BYTES_MAX - suffix.len());
            Name::new(&format!("{}{suffix}", &name.as_str()[..kept])).expect("made of parts of names")
        };
        let free = |name: &Name| self.pod_named(name).is_none();
        (1..).map(named).find(free).expect("there are fewer pods than numbers")
    }
}
