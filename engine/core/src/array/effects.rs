//! From machine effects to journal, maps, frames and answers.

use bytes::Bytes;
use metropod_journal::media::MediaError;
use metropod_journal::{Lsn, Record};
use metropod_protocol::{
    DurableRecord, Effect as MachineEffect, Entry, Input as MachineInput, Outcome, PodId, Refused, RequestId,
    Ticket, Time,
};

use super::moves::Found;
use super::{Array, Journaled, JournaledKind};
use crate::door::{Alarm, Channel, Effect, HostError, ManageError};
use crate::journal_record::{JournalRecord, stream_of};
use crate::operation;
use crate::peer_message::SyncFrame;
use crate::pod::{Applied, ApplyContext, Coming, Unapplied, Waiting};

/// Applied entries let go of at a time.
const DROP_ENTRIES: u64 = 64;

impl Array {
    /// Drains every touched machine, applies what is committed, and starts what is due (A1).
    pub(super) fn pump(&mut self, now: Time) {
        loop {
            while let Some(pod) = self.touched.pop_first() {
                self.drain(now, pod);
                self.apply(now, pod);
                self.start_receiving(now, pod);
                self.review_reads(now, pod);
                self.review_freezes(now, pod);
                self.drop_let_go(pod);
            }
            self.background(now);
            self.release(now);
            self.admit(now);
            self.answer_births(now);
            self.review_parting(now);
            self.review_moves(now);
            if self.touched.is_empty() {
                break;
            }
        }
        if let Some(append) = self.journal.next_append() {
            self.effects.push_back(Effect::Append(append));
        }
    }

    pub(super) fn appended(&mut self, now: Time, id: u64, result: Result<(), MediaError>) {
        match self.journal.completed(id, result) {
            Ok(through) => {
                self.closing.appended(now);
                self.durable(now, through);
            }
            Err(_) => {
                if let Err(error) = result {
                    self.poisoned = Some(error);
                    self.effects.push_back(Effect::Alarm(Alarm::JournalPoisoned(error)));
                    self.step_all(now, &MachineInput::DiskFailed);
                    self.admission.review();
                }
            }
        }
    }

    fn durable(&mut self, now: Time, through: Lsn) {
        for pod in self.pods.values_mut() {
            pod.adopt_copies(through);
            if pod.in_journal.front().is_some_and(|first| first.lsn <= through) {
                self.admission.is_due(pod.id);
            }
        }
        self.report(now);
    }

    fn drain(&mut self, now: Time, pod: PodId) {
        while let Some(effect) = self.pods.get_mut(&pod).and_then(|found| found.machine.next_effect()) {
            self.perform(now, pod, effect);
        }
    }

    fn perform(&mut self, now: Time, pod: PodId, effect: MachineEffect) {
        match effect {
            MachineEffect::Append { ticket, entry } => self.append_entry(pod, ticket, entry),
            MachineEffect::Record { ticket, record } => self.append_record(pod, ticket, record),
            MachineEffect::Send(message) => self.send_protocol(pod, &message),
            MachineEffect::Mediator(request) => self.effects.push_back(Effect::Mediator(request)),
            MachineEffect::Sign(statement) => self.effects.push_back(Effect::Sign { pod, statement }),
            MachineEffect::Committed { through } => {
                if let Some(found) = self.pods.get_mut(&pod) {
                    found.committed = found.committed.max(through);
                }
            }
            MachineEffect::Ordered { .. } => {}
            MachineEffect::Done { request, outcome } => self.done(pod, request, outcome),
            MachineEffect::ForkFreeze { config, .. } => self.fork_freeze(pod, config),
            MachineEffect::CatchUp { peer, base, end } => self.catch_up(now, pod, peer, base, end),
            MachineEffect::AnotherRound { end } => self.another_round(now, pod, end),
            MachineEffect::CatchUpEnded => self.catch_up_ended(pod),
            MachineEffect::FellBehind { .. } => {}
            MachineEffect::StatusChanged => {
                self.admission.review();
                self.admission.is_due(pod);
                self.meters.review();
                self.effects.push_back(Effect::StatusChanged { pod });
            }
            MachineEffect::Alarm(alarm) => {
                self.effects.push_back(Effect::Alarm(Alarm::Protocol(pod, alarm)));
            }
        }
    }

    fn append_entry(&mut self, pod: PodId, ticket: Ticket, entry: Entry) {
        let touches = match &entry.body {
            metropod_protocol::Body::Operation { descriptor, .. } => operation::touches(descriptor),
            _ => None,
        };
        let index = entry.index;
        let kind = match &entry.body {
            metropod_protocol::Body::Operation { descriptor, attachment }
                if entry.origin != self.config.me =>
            {
                JournaledKind::Peers((descriptor.len() + attachment.len()) as u64)
            }
            metropod_protocol::Body::Operation { .. } => JournaledKind::Own,
            _ => JournaledKind::State,
        };
        let lsn = self.push(pod, ticket, index.0, kind, &JournalRecord::Entry { ticket, entry });
        if let Some(found) = self.pods.get_mut(&pod) {
            found.entry_lsns.push_back((index, lsn));
            if index > found.applied {
                found.unapplied.push_back(Unapplied { index, touches });
            }
        }
    }

    fn append_record(&mut self, pod: PodId, ticket: Ticket, record: DurableRecord) {
        if let (DurableRecord::Cut { keep }, Some(found)) = (&record, self.pods.get_mut(&pod)) {
            found.cut(*keep);
        }
        self.push(pod, ticket, 0, JournaledKind::State, &JournalRecord::State { ticket, record });
    }

    /// The fork freeze: its record stands in the journal before the configuration that follows (DEFAULTS of the format).
    fn fork_freeze(&mut self, pod: PodId, config: metropod_protocol::ConfigId) {
        let Some(found) = self.pods.get_mut(&pod) else { return };
        if found.fork.as_ref().is_some_and(|fork| fork.config == config) {
            return;
        }
        let at = found.position_of_applied();
        found.take_fork(config, at);
        let record = JournalRecord::Freeze { config, index: at.index };
        self.journal.push(Record {
            stream: stream_of(pod),
            index: at.index.0,
            body: record.encode_body(),
            attachment: Bytes::new(),
        });
    }

    fn push(
        &mut self,
        pod: PodId,
        ticket: Ticket,
        index: u64,
        kind: JournaledKind,
        record: &JournalRecord,
    ) -> Lsn {
        let lsn = self.journal.push(Record {
            stream: stream_of(pod),
            index,
            body: record.encode_body(),
            attachment: record.attachment(),
        });
        if let Some(found) = self.pods.get_mut(&pod) {
            found.in_journal.push_back(Journaled { lsn, ticket, kind });
        }
        lsn
    }

    fn send_protocol(&mut self, pod: PodId, message: &metropod_protocol::Message) {
        let Some(peer) = self.pods.get(&pod).and_then(|found| found.peer()) else { return };
        let (head, attachment) = message.encode();
        let parts = vec![SyncFrame::protocol_head(pod, head.len()), head, attachment];
        self.effects.push_back(Effect::Send { peer, channel: Channel::Sync, parts });
    }

    fn done(&mut self, pod: PodId, request: RequestId, outcome: Outcome) {
        let Some(found) = self.pods.get_mut(&pod) else { return };
        match (found.waiting.get(&request), outcome) {
            // A management request is answered by its place in the log, once applied.
            (Some(Waiting::Manage | Waiting::Chore), Outcome::Committed(_)) => {}
            (Some(Waiting::Chore), Outcome::Refused(_) | Outcome::Withdrawn) => {
                found.waiting.remove(&request);
                found.chore_ends(request);
            }
            (Some(Waiting::Manage), Outcome::Refused(refused)) => {
                found.waiting.remove(&request);
                self.managed(request, Err(manage_error(refused)));
            }
            (Some(Waiting::Manage), Outcome::Withdrawn) => {
                found.waiting.remove(&request);
                self.managed(request, Err(ManageError::Offline));
            }
            (Some(Waiting::Host(cost)), outcome) => {
                found.held_bytes -= *cost;
                found.waiting.remove(&request);
                let result = match outcome {
                    Outcome::Committed(_) => Ok(()),
                    Outcome::Refused(refused) => Err(host_error(refused)),
                    Outcome::Withdrawn => Err(HostError::Withdrawn),
                };
                self.complete(request, result);
            }
            (None, _) => {}
        }
    }

    /// Applies what is committed at one pod.
    pub(super) fn apply(&mut self, now: Time, pod: PodId) {
        loop {
            let Some(found) = self.pods.get_mut(&pod) else { return };
            if let Some((config, _)) = found.freeze_due() {
                let at = found.position_of_applied();
                found.take_fork(config, at);
            }
            if let Some(arrival) = found.next_arrival() {
                match self.coming(pod, &arrival) {
                    Found::Here(content) => self.arrives(pod, *content),
                    Found::Later => break,
                    Found::Nowhere => {
                        self.damaged(now, pod, Alarm::CorruptEntry(pod));
                        break;
                    }
                }
            }
            let Some(found) = self.pods.get_mut(&pod) else { return };
            let context = ApplyContext { store: &self.store, nodes: &self.nodes };
            let applied = found.apply_next(&context);
            if !self.after_apply(now, pod, applied) {
                break;
            }
        }
        self.touch_takers(pod);
        self.tell_fitness(now, pod);
        self.drop_applied(now, pod);
    }

    fn arrives(&mut self, pod: PodId, content: Coming) {
        if let Some(found) = self.pods.get_mut(&pod) {
            found.arriving = Some(content);
        }
    }

    /// Entries that are applied and that nobody lacks are let go of in memory, long before a checkpoint contains them: the
    /// journal has them, for a restart.
    fn drop_applied(&mut self, now: Time, pod: PodId) {
        let Some(found) = self.pods.get(&pod) else { return };
        let held = found.applied.0.saturating_sub(found.machine.base().index.0);
        if held >= DROP_ENTRIES && found.machine.nobody_lacks_committed() {
            let through = found.applied;
            self.step_pod(now, pod, MachineInput::Trim { through });
        }
    }

    /// Deals with one step of applying; says whether to go on.
    pub(super) fn after_apply(&mut self, now: Time, pod: PodId, applied: Applied) -> bool {
        match applied {
            Applied::Idle => false,
            Applied::Entry(answer) => {
                self.note_applied(pod);
                if self.pods.get(&pod).is_some_and(|found| found.gone) {
                    self.forget_pod(pod, answer.map(|(request, _)| request));
                    return false;
                }
                self.namespace_changed(now, pod);
                if let Some((request, answer)) = answer {
                    self.managed(request, answer);
                }
                true
            }
            Applied::Merge(requests) => {
                requests.into_iter().for_each(|request| self.run_merge(pod, request));
                false
            }
            Applied::Damaged => {
                self.damaged(now, pod, Alarm::CorruptEntry(pod));
                false
            }
        }
    }

    /// A pod that cannot go on here. It must not take over, and what it reports durable no more makes its peer leave it
    /// behind; brought level it is sound again. Until then it pins the journal no further than by what was under way.
    pub(super) fn damaged(&mut self, now: Time, pod: PodId, alarm: Alarm) {
        let Some(found) = self.pods.get_mut(&pod) else { return };
        found.damaged = true;
        self.admission.review();
        self.effects.push_back(Effect::Alarm(alarm));
        self.tell_fitness(now, pod);
    }

    /// Tells the machine whether this array can apply what is committed: who cannot must not take over.
    pub(super) fn tell_fitness(&mut self, now: Time, pod: PodId) {
        let Some(found) = self.pods.get_mut(&pod) else { return };
        let unfit = found.damaged || found.merges.is_failing();
        if unfit != std::mem::replace(&mut found.told_unfit, unfit) {
            match unfit {
                true => self.step_pod(now, pod, MachineInput::DiskFailed),
                false if self.poisoned.is_none() => self.step_pod(now, pod, MachineInput::DiskMended),
                false => {}
            }
        }
    }

    fn note_applied(&mut self, pod: PodId) {
        let dropped = self.pods.get_mut(&pod).is_some_and(|found| std::mem::take(&mut found.dropped_content));
        self.collection.applied(dropped);
        self.accounting.applied();
    }

    /// Tells machine and chores of what applying changed.
    fn namespace_changed(&mut self, now: Time, pod: PodId) {
        let Some(found) = self.pods.get_mut(&pod) else { return };
        if !std::mem::take(&mut found.changed) {
            return;
        }
        found.review_chores(now);
        self.resume_move(pod);
        let Some(found) = self.pods.get(&pod) else { return };
        if found.maps.values().any(|map| map.image().layers().len() > self.config.overlay.layers_max) {
            // Snapshots may be taken far more often than checkpoints.
            self.upkeep.want();
        }
        // Of what waits, some may be refused by now.
        self.meters.review();
        self.admission.review();
        let preferred = found.namespace.preferred;
        // An invitation is news once: a link that is up already must not be said to be up again, it would end the session.
        let invited = found.invites().filter(|_| found.machine.setup().peer.is_none());
        let (leaving, forgets) =
            (found.namespace.leaving, found.peer().is_none() && found.machine.setup().peer.is_some());
        self.step_pod(now, pod, MachineInput::SetPreference(preferred));
        if let Some(peer) = invited {
            self.step_pod(now, pod, MachineInput::Invite { peer });
            if self.is_linked(peer, Channel::Sync) {
                self.step_pod(now, pod, MachineInput::LinkUp);
            }
        }
        self.note_leaving(now, pod, leaving);
        if forgets {
            self.forget_peer(now, pod);
        }
    }
}

fn host_error(refused: Refused) -> HostError {
    match refused {
        Refused::Offline => HostError::Offline,
        Refused::Suspended => HostError::Suspended,
        Refused::TooLong | Refused::Busy => HostError::Busy,
    }
}

fn manage_error(refused: Refused) -> ManageError {
    match refused {
        Refused::Offline | Refused::Suspended => ManageError::Offline,
        Refused::TooLong | Refused::Busy => ManageError::Busy,
    }
}
