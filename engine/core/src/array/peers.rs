//! Links, frames and rounds of catch-up with the other array.

use std::sync::Arc;

use bytes::Bytes;
use metropod_protocol::{ArrayId, Input as MachineInput, MediatorId, Message, PodId, Position, Span, Time};

use super::Array;
use super::background::Flip;
use crate::catchup::{CatchUp, Flipping, ROUND_SHORT, Receiving, Sending};
use crate::door::{Alarm, Channel, Effect};
use crate::namespace::PodImage;
use crate::peer_message::{SyncFrame, decode_bulk};
use crate::pod::{Announced, ForkPoint};
use crate::repair::message::is_repair;
use crate::task::{Finished, FlowError, WaitsFor};
use crate::transfer::{self, AbortReason, Begin, Building, Held, Inbox, Port, Progress};

/// How long a failed round rests before it is tried again.
const ROUND_RETRY_AFTER: Span = Span::millis(200);

impl Array {
    pub(super) fn link_up(&mut self, now: Time, peer: ArrayId, channel: Channel) {
        self.links.insert((peer, channel));
        self.review_repairs(now);
        if channel == Channel::Sync {
            for pod in self.pods_with(peer) {
                self.step_pod(now, pod, MachineInput::LinkUp);
            }
        } else {
            self.resume_rounds(now, peer);
        }
    }

    pub(super) fn link_down(&mut self, now: Time, peer: ArrayId, channel: Channel) {
        self.links.remove(&(peer, channel));
        self.review_repairs(now);
        match channel {
            Channel::Sync => {
                self.fail_stretches(peer);
                for pod in self.pods_with(peer) {
                    self.step_pod(now, pod, MachineInput::LinkDown);
                }
            }
            // A round is lost with its connection; what arrived stays and is not asked for again.
            Channel::Bulk => {
                for pod in self.pods_with(peer) {
                    if let Some(found) = self.pods.get_mut(&pod) {
                        match &found.catch_up {
                            CatchUp::Sending(sending) => sending.inbox.close(),
                            CatchUp::Receiving(_) => found.catch_up.stop(),
                            _ => {}
                        }
                    }
                }
            }
        }
    }

    pub(super) fn mediator_up(&mut self, now: Time, mediator: MediatorId) {
        self.mediator = Some(mediator);
        self.step_all(now, &MachineInput::SetMediator(Some(mediator)));
        self.step_all(now, &MachineInput::MediatorUp { mediator });
    }

    pub(super) fn frame(&mut self, now: Time, peer: ArrayId, channel: Channel, payload: Bytes) {
        match channel {
            Channel::Sync => match SyncFrame::decode(payload) {
                Ok(SyncFrame::Protocol(pod, head, attachment)) => {
                    self.protocol_frame(now, peer, pod, head, attachment);
                }
                Ok(SyncFrame::Invite(pod, name)) => self.invited(now, peer, pod, name),
                Ok(SyncFrame::InviteAnswer(pod, accepted)) => self.invite_answered(now, peer, pod, accepted),
                Ok(SyncFrame::Switch(pod, to)) => {
                    if self.pods.get(&pod).and_then(|found| found.peer()) == Some(peer) {
                        self.step_pod(now, pod, MachineInput::Switch(to));
                    }
                }
                Ok(SyncFrame::NotMember(pod)) => self.not_a_member(now, peer, pod),
                Err(_) => self.bad_frame(peer, channel),
            },
            Channel::Bulk => match decode_bulk(payload) {
                Ok((pod, message)) if is_repair(&message) => self.repair_frame(now, peer, pod, message),
                Ok((pod, message)) => self.bulk_frame(now, peer, pod, message),
                Err(_) => self.bad_frame(peer, channel),
            },
        }
    }

    fn protocol_frame(&mut self, now: Time, peer: ArrayId, pod: PodId, head: Bytes, attachment: Bytes) {
        if self.pods.get(&pod).and_then(|found| found.peer()) != Some(peer) {
            return self.tell_stranger(peer, pod);
        }
        match Message::decode(head, attachment) {
            Ok(message) => self.step_pod(now, pod, MachineInput::Receive(message)),
            Err(_) => self.bad_frame(peer, Channel::Sync),
        }
    }

    /// What a peer sent makes no sense. What it meant is not known, so nothing that follows is worth reading.
    pub(super) fn bad_frame(&mut self, peer: ArrayId, channel: Channel) {
        self.effects.push_back(Effect::Alarm(Alarm::BadFrame(peer)));
        self.effects.push_back(Effect::Disconnect { peer, channel });
    }

    fn pods_with(&self, peer: ArrayId) -> Vec<PodId> {
        let born = self.pods.values().filter(|pod| pod.born_with.is_none());
        born.filter(|pod| pod.peer() == Some(peer)).map(|pod| pod.id).collect()
    }

    // ---- the survivor's side

    pub(super) fn catch_up(&mut self, now: Time, pod: PodId, peer: ArrayId, base: Position, end: Position) {
        let _ = base;
        let Some(found) = self.pods.get_mut(&pod) else { return };
        if !matches!(found.catch_up, CatchUp::Idle | CatchUp::Suffix { .. }) {
            return;
        }
        found.catch_up_with = Some((peer, end));
        self.start_round(now, pod);
    }

    pub(super) fn another_round(&mut self, now: Time, pod: PodId, end: Position) {
        let Some(found) = self.pods.get_mut(&pod) else { return };
        if let CatchUp::Suffix { peer } = found.catch_up {
            found.catch_up = CatchUp::Idle;
            found.catch_up_with = Some((peer, end));
            self.start_round(now, pod);
        }
    }

    pub(super) fn catch_up_ended(&mut self, pod: PodId) {
        if let Some(found) = self.pods.get_mut(&pod) {
            found.catch_up.stop();
            found.catch_up_with = None;
        }
    }

    fn resume_rounds(&mut self, now: Time, peer: ArrayId) {
        for pod in self.pods_with(peer) {
            if let Some(found) = self.pods.get(&pod)
                && found.catch_up_with.is_some()
                && matches!(found.catch_up, CatchUp::Idle)
            {
                self.start_round(now, pod);
            }
        }
    }

    /// Starts rounds again that failed a while ago.
    pub(super) fn retry_rounds(&mut self, now: Time) {
        let due: Vec<PodId> = self
            .pods
            .values_mut()
            .filter(|pod| pod.round_retry_at.is_some_and(|at| at <= now))
            .map(|pod| {
                pod.round_retry_at = None;
                pod.id
            })
            .collect();
        for pod in due {
            if self.pods.get(&pod).is_some_and(|found| matches!(found.catch_up, CatchUp::Idle)) {
                self.start_round(now, pod);
            }
        }
    }

    fn start_round(&mut self, now: Time, pod: PodId) {
        let Some((peer, end)) = self.pods.get(&pod).and_then(|found| found.catch_up_with) else { return };
        if !self.is_linked(peer, Channel::Bulk) {
            return;
        }
        self.next_round += 1;
        let round = self.next_round;
        let Some(found) = self.pods.get_mut(&pod) else { return };
        let from = found.common_with(end);
        let to = found.position_of_applied();
        let image = found.freeze();
        let (inbox, progress) = (Inbox::new(), Arc::new(Progress::new()));
        let begin = match Begin::plan(pod, round, from.as_ref(), (to, &image)) {
            Ok(begin) => begin,
            Err(_) => return self.effects.push_back(Effect::Alarm(Alarm::TransferFailed(pod))),
        };
        found.catch_up = CatchUp::Sending(Box::new(Sending {
            peer,
            round,
            to,
            image: image.clone(),
            from: from.as_ref().map(|common| common.image.clone()),
            inbox: inbox.clone(),
            progress: progress.clone(),
            began: now,
        }));
        let store = self.store.clone();
        let port = self.pod_port(peer, pod);
        self.run_waiting(WaitsFor::Joiner, "send round", async move {
            let result = transfer::send_round(begin, from, image, store, port, inbox, progress).await;
            Finished::Sent { pod, round, result: result.map(drop).map_err(FlowError::from) }
        });
    }

    pub(super) fn round_sent(&mut self, now: Time, pod: PodId, round: u64, result: Result<(), FlowError>) {
        let Some(found) = self.pods.get_mut(&pod) else { return };
        let CatchUp::Sending(sending) = &found.catch_up else { return };
        if sending.round != round {
            return;
        }
        let sending = sending.clone();
        found.catch_up = CatchUp::Idle;
        match result {
            Ok(()) => {
                let config = found.fork.as_ref().map_or(sending.to.config, |fork| fork.config);
                let point = ForkPoint { config, at: sending.to, image: sending.image, touched: None };
                found.set_fork(Some(point));
                self.touched.insert(pod);
                found.catch_up_with = Some((sending.peer, sending.to));
                if now.since(sending.began) < ROUND_SHORT {
                    found.catch_up = CatchUp::Suffix { peer: sending.peer };
                    let after = sending.to.index;
                    self.step_pod(now, pod, MachineInput::SuffixPossible { after });
                } else {
                    self.start_round(now, pod);
                }
            }
            Err(error) => {
                if error == FlowError::MissingBase {
                    // The joiner is not where the fork point says: begin from nothing, it costs names, not content.
                    found.set_fork(None);
                    self.touched.insert(pod);
                }
                found.round_retry_at = Some(now + ROUND_RETRY_AFTER);
                self.effects.push_back(Effect::Alarm(Alarm::TransferFailed(pod)));
            }
        }
    }

    // ---- the joiner's side

    fn bulk_frame(&mut self, now: Time, peer: ArrayId, pod: PodId, message: Bytes) {
        let Some(found) = self.pods.get_mut(&pod).filter(|found| found.peer() == Some(peer)) else { return };
        let Ok(message) = transfer::Message::decode(message) else {
            return self.bad_frame(peer, Channel::Bulk);
        };
        if let transfer::Body::Begin(begin) = message.body {
            if found.machine.out_of_sync().is_some() {
                found.catch_up.stop();
                found.begin = Some(Announced { peer, begin, inbox: Inbox::new() });
                self.start_receiving(now, pod);
            }
            return;
        }
        let inbox = match (&found.begin, &found.catch_up) {
            (Some(announced), _) => &announced.inbox,
            (None, CatchUp::Sending(sending)) => &sending.inbox,
            (None, CatchUp::Receiving(receiving)) => &receiving.inbox,
            (None, _) => return,
        };
        // An inbox that overflows belongs to a peer that ignores the window: its round ends.
        if inbox.push(message).is_err() {
            inbox.close();
        }
    }

    /// Starts the round that was announced, once this copy holds the point it starts from.
    pub(super) fn start_receiving(&mut self, now: Time, pod: PodId) {
        let Some(found) = self.pods.get_mut(&pod) else { return };
        let Some(Announced { peer, begin, inbox }) = found.begin.take() else { return };
        if begin.from.is_some_and(|(from, _)| found.applied < from.index) {
            if found.damaged {
                // It never gets there: the round has to bring everything.
                let body = transfer::Body::Abort(AbortReason::MissingBase);
                self.pod_port(peer, pod).send(transfer::Message { round: begin.round, body });
                return;
            }
            found.begin = Some(Announced { peer, begin, inbox });
            return;
        }
        let at = found.position_of_applied();
        let have = begin.from.is_some().then(|| Held { at, image: found.freeze() });
        let building = have.as_ref().map_or_else(Building::default, |have| Building::from_held(&have.image));
        let (progress, round) = (Arc::new(Progress::new()), begin.round);
        found.catch_up = CatchUp::Receiving(Box::new(Receiving {
            peer,
            round,
            to: begin.to,
            building: building.clone(),
            inbox: inbox.clone(),
            progress: progress.clone(),
            began: now,
        }));
        let layer_ids = self.layer_ids.clone();
        let store = self.store.clone();
        let port = self.pod_port(peer, pod);
        self.run_waiting(WaitsFor::Survivor, "receive round", async move {
            let result =
                transfer::receive_round(begin, have, layer_ids, store, port, inbox, progress, building).await;
            Finished::Received { pod, round, result: result.map(Box::new).map_err(FlowError::from) }
        });
    }

    pub(super) fn round_received(
        &mut self,
        pod: PodId,
        round: u64,
        result: Result<Box<PodImage>, FlowError>,
    ) {
        let Some(found) = self.pods.get_mut(&pod) else { return };
        let CatchUp::Receiving(receiving) = &found.catch_up else { return };
        if receiving.round != round {
            return;
        }
        match result {
            Ok(image) => {
                found.catch_up = CatchUp::Flipping(Box::new(Flipping {
                    peer: receiving.peer,
                    round,
                    to: receiving.to,
                    image: *image,
                    progress: receiving.progress.clone(),
                    began: receiving.began,
                }));
                self.background.want_checkpoint();
            }
            Err(_) => {
                found.catch_up = CatchUp::Idle;
                self.effects.push_back(Effect::Alarm(Alarm::TransferFailed(pod)));
            }
        }
    }

    /// The manifest with the new image is durable: use it (C2), and tell both machines. A newer round may be coming in
    /// meanwhile; it goes on.
    pub(super) fn flipped(&mut self, now: Time, pod: PodId, flip: Flip) {
        let Some(found) = self.pods.get_mut(&pod) else { return };
        let Flipping { peer, round, to, image, .. } = flip.flipping;
        if matches!(&found.catch_up, CatchUp::Flipping(flipping) if (flipping.peer, flipping.round) == (peer, round))
        {
            found.catch_up = CatchUp::Idle;
        }
        found.machine.step(now, MachineInput::Flipped(Box::new(flip.state)));
        self.touched.insert(pod);
        // The machine may know more than the image holds by now; then this copy stays what it is, and the next
        // manifest says so.
        if found.machine.position(to.index) == Some(to) {
            found.damaged = false;
            found.rebase(image, to.index);
            found.review_chores(now);
            self.meters.review();
            self.pod_port(peer, pod).send(transfer::Message::flipped(round));
        } else {
            self.background.want_checkpoint();
            self.abort_round(peer, pod, round);
        }
    }

    /// Gives up a round whose image is of no use (any more); the survivor begins another.
    pub(super) fn abort_round(&mut self, peer: ArrayId, pod: PodId, round: u64) {
        let body = transfer::Body::Abort(AbortReason::Other);
        self.pod_port(peer, pod).send(transfer::Message { round, body });
    }

    fn pod_port(&self, peer: ArrayId, pod: PodId) -> Arc<dyn Port> {
        Arc::new(PodPort { peer, pod, bulk: self.bulk.clone() })
    }
}

/// Where transfer messages go; callable from any flow.
pub trait BulkPort: Send + Sync + 'static {
    /// Queues a frame on the bulk connection to `peer`; dropped when there is none.
    fn send(&self, peer: ArrayId, parts: Vec<Bytes>);
}

struct PodPort {
    peer: ArrayId,
    pod: PodId,
    bulk: Arc<dyn BulkPort>,
}

impl Port for PodPort {
    fn send(&self, message: transfer::Message) {
        let mut parts = vec![Bytes::copy_from_slice(&self.pod.0)];
        parts.extend(message.encode());
        self.bulk.send(self.peer, parts);
    }
}
