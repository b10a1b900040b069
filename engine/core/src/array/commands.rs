//! Management requests: pods are made here, everything else is an entry in the pod's log.
//!
//! ```text
//! CreatePod ─► Machine::found, checkpoint ─► answered when the manifest is durable
//! Change    ─► Submit ─► answered when applied
//! Destroy   ─► Submit, with the pod's delay noted ─► answered when applied
//! Freeze    ─► answered when what was acknowledged before is applied; nothing is written
//! Switch    ─► both machines are told ─► answered
//! Unstretch ─► Submit ─► answered when applied; what follows: part.rs
//! Stretch   ─► Invite frame ─► joiner: Machine::invited, checkpoint ─► InviteAnswer ─► INVITE entry ─► answered when applied
//! ```

use metropod_protocol::{
    ArrayId, Index, Input as MachineInput, Machine, PodId, Position, RequestId, Serving, Time,
};

use super::Array;
use crate::door::{Channel, Command, Effect, HostError, ManageError, Managed};
use crate::names::Name;
use crate::namespace::{Namespace, PodImage};
use crate::operation::{Manage, Operation, Target};
use crate::peer_message::SyncFrame;
use crate::pod::{Answer, Parts, Pod, Waiting};
use crate::task::Finished;

/// What happens once a checkpoint is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Then {
    Answer(RequestId, Managed),
    /// The invited pod is durable here: tell the host.
    AcceptInvite(ArrayId, PodId),
    /// Nothing of the copy of the pod that was here before is left: the invitation is looked at.
    Invited(ArrayId, PodId, Name),
}

/// Management requests under way.
#[derive(Default)]
pub(super) struct Pending {
    after_checkpoint: Vec<(u64, Then)>,
    pub(super) stretches: Vec<(RequestId, PodId, ArrayId)>,
    /// Pods being made, and who waits for them.
    births: Vec<(RequestId, PodId)>,
}

impl Pending {
    pub(super) fn after_checkpoint(&mut self, number: u64, then: Then) {
        self.after_checkpoint.push((number, then));
    }
}

impl Array {
    pub(super) fn manage(&mut self, now: Time, request: RequestId, command: Command) {
        let answer = match command {
            Command::CreatePod { pod, name } => self.create_pod(now, request, pod, name),
            Command::Change { pod, change } => self.submit_change(now, request, pod, change),
            Command::Destroy { pod, target, contents } => self.destroy(now, request, pod, target, contents),
            Command::Move { pod, volume, to } => self.move_volume(now, request, pod, volume, to),
            Command::Freeze { pod, contents } => self.freeze(now, request, pod, contents),
            Command::Stretch { pod, peer } => self.stretch(request, pod, peer),
            Command::Switch { pod, to } => self.switch(now, request, pod, to),
            Command::Unstretch { pod, from, with_unknown } => {
                self.unstretch(now, request, pod, from, with_unknown)
            }
        };
        if let Err(error) = answer {
            self.managed(request, Err(error));
        }
    }

    pub(super) fn managed(&mut self, request: RequestId, result: Answer) {
        if let Some(result) = self.moves.take(request, result) {
            self.effects.push_back(Effect::Managed { request, result });
        }
    }

    pub(super) fn commands_after_checkpoint(&mut self, now: Time, number: u64) {
        let (ready, waiting) = std::mem::take(&mut self.commands.after_checkpoint)
            .into_iter()
            .partition(|(at, _)| *at <= number);
        self.commands.after_checkpoint = waiting;
        let ready: Vec<(u64, Then)> = ready;
        for (_, then) in ready {
            match then {
                Then::Answer(request, managed) => self.managed(request, Ok(managed)),
                Then::AcceptInvite(host, pod) => self.accept_invite(now, host, pod),
                Then::Invited(host, pod, name) => self.invited(now, host, pod, name),
            }
        }
    }

    fn create_pod(
        &mut self,
        now: Time,
        request: RequestId,
        pod: PodId,
        name: Name,
    ) -> Result<(), ManageError> {
        if self.pod_named(&name).is_some() || self.pods.contains_key(&pod) {
            return Err(ManageError::PodExists);
        }
        // It would wait for a checkpoint that there is no room for.
        if self.background.retries.is_full() {
            return Err(ManageError::NoSpace);
        }
        let setup = self.setup(pod, None, None);
        let machine = Machine::found(setup, now);
        self.add_pod(now, pod, machine, Namespace::new(name));
        self.commands.births.push((request, pod));
        Ok(())
    }

    /// A pod is made once a manifest names it and its first entry is durable: it serves.
    pub(super) fn answer_births(&mut self, now: Time) {
        let pods = &self.pods;
        let serves = |pod: &PodId| {
            pods.get(pod)
                .is_none_or(|found| found.born_with.is_none() && found.machine.serving(now) != Serving::Held)
        };
        let born: Vec<(RequestId, PodId)> =
            self.commands.births.extract_if(.., |(_, pod)| serves(pod)).collect();
        for (request, _) in born {
            self.managed(request, Ok(Managed::Done));
        }
    }

    pub(super) fn submit_change(
        &mut self,
        now: Time,
        request: RequestId,
        pod: PodId,
        change: Manage,
    ) -> Result<(), ManageError> {
        self.check_no_move(pod, &change)?;
        let found = self.pods.get_mut(&pod).filter(|found| found.born_with.is_none());
        let found = found.ok_or(ManageError::NoSuchPod)?;
        match found.machine.serving(now) {
            Serving::Yes | Serving::Held => {}
            Serving::Suspended | Serving::Off => return Err(ManageError::Offline),
        }
        if let Manage::SetPreference(Some(array)) = change
            && array != self.config.me
            && found.peer() != Some(array)
        {
            return Err(ManageError::NotAMember);
        }
        self.submit_manage(now, request, pod, Waiting::Manage, change);
        Ok(())
    }

    pub(super) fn submit_manage(
        &mut self,
        now: Time,
        request: RequestId,
        pod: PodId,
        waiting: Waiting,
        change: Manage,
    ) {
        let Some(found) = self.pods.get_mut(&pod) else { return };
        found.waiting.insert(request, waiting);
        let (descriptor, attachment) = Operation::Manage(change).encode();
        self.step_pod(now, pod, MachineInput::Submit { request, descriptor, attachment });
    }

    fn destroy(
        &mut self,
        now: Time,
        request: RequestId,
        pod: PodId,
        target: Target,
        contents: bool,
    ) -> Result<(), ManageError> {
        let found = self.pods.get(&pod).ok_or(ManageError::NoSuchPod)?;
        let delay_ms = found.namespace.eradication_delay_ms;
        let change = Manage::Destroy { target, contents, delay_ms };
        self.submit_change(now, request, pod, change)
    }

    /// Has an array order, whichever of the two does now: the one that does makes the change. Nothing of it outlives the session.
    fn switch(&mut self, now: Time, request: RequestId, pod: PodId, to: ArrayId) -> Result<(), ManageError> {
        let found = self.pods.get(&pod).ok_or(ManageError::NoSuchPod)?;
        let peer = found.peer().ok_or(ManageError::NotStretched)?;
        if to != self.config.me && to != peer {
            return Err(ManageError::NotAMember);
        }
        if !found.machine.status(now).mirrored {
            return Err(ManageError::NotBothOnline);
        }
        self.step_pod(now, pod, MachineInput::Switch(to));
        self.send_frame(peer, &SyncFrame::Switch(pod, to));
        self.managed(request, Ok(Managed::Done));
        Ok(())
    }

    /// Proposes what has fallen due.
    pub(super) fn do_chores(&mut self, now: Time) {
        let pods: Vec<PodId> = self.pods.keys().copied().collect();
        for pod in pods {
            if let Some(chore) = self.pods.get_mut(&pod).and_then(|found| found.chore(now)) {
                let request = self.next_request();
                if let Some(found) = self.pods.get_mut(&pod) {
                    found.chore_begins(request);
                }
                self.submit_manage(now, request, pod, Waiting::Chore, chore);
            }
        }
    }

    /// An eradicated pod: nobody waits for it any more, and the next checkpoint does without it. Until that is durable a
    /// restart finds pod and entry again, so who asked is answered only then.
    pub(super) fn forget_pod(&mut self, pod: PodId, asked: Option<RequestId>) {
        let Some(found) = self.pods.remove(&pod) else { return };
        self.dismiss(found);
        let number = self.background.want_checkpoint();
        if let Some(request) = asked {
            self.commands.after_checkpoint(number, Then::Answer(request, Managed::Done));
        }
    }

    /// Ends everything that goes on for a pod that is here no more.
    pub(super) fn dismiss(&mut self, mut found: Pod) {
        let pod = found.id;
        self.windows.note(pod, None, 0);
        self.meters.review();
        self.admission.review();
        found.catch_up.stop();
        for read in found.reads {
            self.complete(read.request, Err(HostError::NoSuchVolume));
        }
        for freeze in found.freezes {
            self.managed(freeze.request, Err(ManageError::NoSuchPod));
        }
        for (request, waiting) in found.waiting {
            match waiting {
                Waiting::Host(_) => self.complete(request, Err(HostError::NoSuchVolume)),
                Waiting::Manage => self.managed(request, Err(ManageError::NoSuchPod)),
                Waiting::Chore => {}
            }
        }
        let rest = (found.maps, found.images, found.fork, found.let_go);
        self.run("drop layers", async move {
            drop(rest);
            Finished::Turn
        });
        self.effects.push_back(Effect::StatusChanged { pod });
    }

    fn stretch(&mut self, request: RequestId, pod: PodId, peer: ArrayId) -> Result<(), ManageError> {
        let found = self.pods.get(&pod).filter(|found| found.born_with.is_none());
        let found = found.ok_or(ManageError::NoSuchPod)?;
        match found.peer() {
            Some(other) if other != peer => return Err(ManageError::StretchedAlready),
            _ if self.is_moving(pod) => return Err(ManageError::Moving),
            _ if found.namespace.leaving.is_some() => return Err(ManageError::Leaving),
            _ if found.namespace.destroyed.is_some() => return Err(ManageError::Destroyed),
            _ if peer == self.config.me => return Err(ManageError::StretchedAlready),
            _ => {}
        }
        if !self.is_linked(peer, Channel::Sync) {
            return Err(ManageError::NotConnected);
        }
        let invite = SyncFrame::Invite(pod, found.namespace.name.clone());
        self.commands.stretches.push((request, pod, peer));
        self.parting.invites(pod, peer);
        self.send_frame(peer, &invite);
        Ok(())
    }

    /// The joiner answered.
    pub(super) fn invite_answered(&mut self, now: Time, peer: ArrayId, pod: PodId, accepted: bool) {
        let (answered, waiting) = std::mem::take(&mut self.commands.stretches)
            .into_iter()
            .partition(|(_, asked, joiner)| *asked == pod && *joiner == peer);
        self.commands.stretches = waiting;
        let answered: Vec<(RequestId, PodId, ArrayId)> = answered;
        for (request, pod, joiner) in answered {
            if !accepted {
                self.parting.invites_no_more(pod);
                self.managed(request, Err(ManageError::NameClash));
                continue;
            }
            let invite = Manage::Invite { host: self.config.me, joiner };
            if let Err(error) = self.submit_change(now, request, pod, invite) {
                self.parting.invites_no_more(pod);
                self.managed(request, Err(error));
            }
        }
    }

    /// The link is gone: stretches that wait for an answer fail.
    pub(super) fn fail_stretches(&mut self, peer: ArrayId) {
        let (failed, waiting) = std::mem::take(&mut self.commands.stretches)
            .into_iter()
            .partition(|(_, _, joiner)| *joiner == peer);
        self.commands.stretches = waiting;
        let failed: Vec<(RequestId, PodId, ArrayId)> = failed;
        for (request, pod, _) in failed {
            self.parting.invites_no_more(pod);
            self.managed(request, Err(ManageError::NotConnected));
        }
    }

    /// This array is asked to hold a pod.
    pub(super) fn invited(&mut self, now: Time, host: ArrayId, pod: PodId, name: Name) {
        if let Some(found) = self.pods.get(&pod) {
            if found.born_with.is_some() {
                return; // Answered when it is durable.
            }
            let known = found.peer() == Some(host);
            return self.send_frame(host, &SyncFrame::InviteAnswer(pod, known));
        }
        if let Some(number) = self.parting.gone_with(pod, self.background.done) {
            return self.commands.after_checkpoint(number, Then::Invited(host, pod, name));
        }
        if self.pod_named(&name).is_some() {
            return self.send_frame(host, &SyncFrame::InviteAnswer(pod, false));
        }
        let mut namespace = Namespace::new(name);
        namespace.peer = Some((host, self.config.me));
        let setup = self.setup(pod, Some(host), None);
        let machine = Machine::invited(setup, now);
        let number = self.add_pod(now, pod, machine, namespace);
        self.commands.after_checkpoint(number, Then::AcceptInvite(host, pod));
    }

    fn accept_invite(&mut self, now: Time, host: ArrayId, pod: PodId) {
        self.send_frame(host, &SyncFrame::InviteAnswer(pod, true));
        if self.is_linked(host, Channel::Sync) {
            self.step_pod(now, pod, MachineInput::LinkUp);
        }
    }

    /// Adds a pod; gives the checkpoint that makes it durable.
    fn add_pod(&mut self, now: Time, id: PodId, machine: Machine, namespace: Namespace) -> u64 {
        let image = PodImage { namespace, volumes: Default::default(), snapshots: Default::default() };
        self.add_pod_with(now, id, machine, image, Position::default().index)
    }

    /// The same with content, which stands at `applied`.
    pub(super) fn add_pod_with(
        &mut self,
        now: Time,
        id: PodId,
        machine: Machine,
        image: PodImage,
        applied: Index,
    ) -> u64 {
        let since = self.journal.next_lsn();
        let me = self.config.me;
        let layer_ids = self.layer_ids.clone();
        let mut pod = Pod::new(Parts { id, me, layer_ids, machine, image, applied, since, fork: None });
        let number = self.background.want_checkpoint();
        pod.born_with = Some(number);
        self.pods.insert(id, pod);
        self.touched.insert(id);
        if let Some(mediator) = self.mediator {
            self.step_pod(now, id, MachineInput::MediatorUp { mediator });
        }
        number
    }

    pub(super) fn send_frame(&mut self, peer: ArrayId, frame: &SyncFrame) {
        self.effects.push_back(Effect::Send { peer, channel: Channel::Sync, parts: vec![frame.encode()] });
    }
}
