//! A volume moves from one pod of this array to another. Two logs take part; neither pod is stretched, so this array alone
//! writes both, into one journal.
//!
//! ```text
//! in P:  MoveOut ─► out of use ─► writes ordered before or behind it are applied ─────────────► MoveEnd: gone from P
//! in P2:                                              └─► MoveIn: shares its content ─► a checkpoint ─┘
//!                                                           └── refused ─► in P: MoveEnd, stays: in use again
//! ```
//! - Q1: never in use in both: P gives it up by the entry that sends it, and takes it up again only after P2 has refused it.
//!   One entry for it is under way at a time, and none is decided about before both logs are applied to their ends.
//! - Q2: nothing acknowledged is lost. MoveIn is proposed when every write that P's machine had is applied, and names P's
//!   entry up to which that is so; at the door none has come in since MoveOut. P keeps volume and content until a checkpoint
//!   contains MoveIn: images share trees and layers over all pods, so nothing is copied, and P's map is the root for it.
//! - Q3: a replay comes to the same. Whether P2 takes it, P2's namespace decides alone. Its content is there: the manifest
//!   captures both pods in one step, the journal keeps the order in which the entries were made, and P is behind MoveEnd only
//!   if the manifest has MoveIn. What P has not replayed yet MoveIn waits for; P never waits for P2, so none waits in a ring.
//! - Q4: the move ends by itself. Where it stands is in the two namespaces; after a start, or a refusal that is none of a log
//!   (busy, offline), it goes on from there. P2 remembers the last move from each pod, so a MoveIn that comes again is the same.
//!   Who asks again for a move that is under way waits for its end.
//! - Q5: meanwhile neither pod is stretched, destroyed or eradicated at somebody's wish. No joiner meets a MoveIn that takes a
//!   volume: it begins with an image of a point behind the invitation, and behind that P2 refuses it.

use std::collections::{BTreeMap, BTreeSet};

use metropod_protocol::{Index, PodId, RequestId, Span, Time};

use super::Array;
use crate::door::{ManageError, Managed};
use crate::names::VolumeId;
use crate::namespace::Moving;
use crate::operation::{Arrival, Manage, Target};
use crate::pod::{Answer, Coming, Waiting};

/// Between attempts.
const PAUSE: Span = Span::millis(200);

/// Moves under way, by the pod that the volume leaves.
#[derive(Default)]
pub(super) struct Moves {
    under_way: BTreeMap<PodId, Move>,
    answers: BTreeMap<RequestId, Option<Answer>>,
    /// Pods whose next entry waits for another, which comes first, to be applied further.
    waits: BTreeSet<(PodId, PodId)>,
}

struct Move {
    volume: VolumeId,
    to: PodId,
    /// Who waits for its end.
    asked: Vec<RequestId>,
    /// What P2 said against it.
    refused: Option<ManageError>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// MoveOut is proposed.
    Sending(RequestId),
    /// Hosts' requests up to this one are under way.
    Draining(RequestId),
    /// P2's and P's logs are being applied up to here.
    Settling { target: Index, through: Index },
    /// MoveIn is proposed.
    Arriving(RequestId),
    /// MoveIn is in this checkpoint.
    Keeping(u64),
    /// MoveEnd is proposed.
    Ending(RequestId),
    /// Tried again then.
    Resting(Time),
}

/// Whether what a volume that comes holds is there.
pub(super) enum Found {
    Here(Box<Coming>),
    /// The pod that it leaves has not applied all of it.
    Later,
    /// Nobody has it.
    Nowhere,
}

impl Moves {
    /// Keeps the answer to an entry of a move; gives back that of any other.
    pub(super) fn take(&mut self, request: RequestId, answer: Answer) -> Option<Answer> {
        match self.answers.get_mut(&request) {
            Some(place) => {
                *place = Some(answer);
                None
            }
            None => Some(answer),
        }
    }

    /// When something is to be tried again.
    pub(super) fn due_at(&self) -> Option<Time> {
        let resting = |one: &Move| match one.stage {
            Stage::Resting(until) => Some(until),
            _ => None,
        };
        self.under_way.values().filter_map(resting).min()
    }

    fn answer(&mut self, request: RequestId) -> Option<Answer> {
        let answer = self.answers.get_mut(&request)?.take()?;
        self.answers.remove(&request);
        Some(answer)
    }
}

impl Array {
    /// Begins a move.
    pub(super) fn move_volume(
        &mut self,
        now: Time,
        asked: RequestId,
        pod: PodId,
        volume: VolumeId,
        to: PodId,
    ) -> Result<(), ManageError> {
        let made = |pod: &PodId| self.pods.get(pod).is_some_and(|found| found.born_with.is_none());
        if !made(&pod) || !made(&to) {
            return Err(ManageError::NoSuchPod);
        }
        if pod == to {
            return Err(ManageError::MoveToSamePod);
        }
        if let Some(one) = self.moves.under_way.get_mut(&pod) {
            if (one.volume, one.to) != (volume, to) {
                return Err(ManageError::Moving);
            }
            one.asked.push(asked);
            return Ok(());
        }
        let found = self.pods.get_mut(&pod).ok_or(ManageError::NoSuchPod)?;
        found.check_leaves(volume)?;
        let described = found.namespace.volumes[&volume].clone();
        self.pods[&to].check_takes(&described)?;
        let request = self.propose(now, pod, Manage::MoveOut { volume, to });
        let stage = Stage::Sending(request);
        self.moves.under_way.insert(pod, Move { volume, to, asked: vec![asked], refused: None, stage });
        Ok(())
    }

    /// A move that nobody sees to goes on (Q4): it was under way when the array stopped.
    pub(super) fn resume_move(&mut self, pod: PodId) {
        if let Some(Moving { volume, to, .. }) = self.moving(pod) {
            let stage = Stage::Draining(RequestId(self.next_request));
            let resumed = || Move { volume, to, asked: Vec::new(), refused: None, stage };
            self.moves.under_way.entry(pod).or_insert_with(resumed);
        }
    }

    /// Q5.
    pub(super) fn check_no_move(&self, pod: PodId, change: &Manage) -> Result<(), ManageError> {
        let ends = match change {
            Manage::Destroy { target, .. } | Manage::Eradicate { target, .. } => *target == Target::Pod,
            Manage::Invite { .. } => true,
            _ => false,
        };
        if ends && self.is_moving(pod) { Err(ManageError::Moving) } else { Ok(()) }
    }

    /// Whether a volume is on its way from or to the pod.
    pub(super) fn is_moving(&self, pod: PodId) -> bool {
        let concerns =
            |from: &PodId| *from == pod || self.moving(*from).is_some_and(|moving| moving.to == pod);
        self.moves.under_way.keys().any(concerns)
    }

    /// Takes every move as far as it gets now.
    pub(super) fn review_moves(&mut self, now: Time) {
        if self.moves.under_way.is_empty() {
            return;
        }
        let all: Vec<PodId> = self.moves.under_way.keys().copied().collect();
        for pod in all {
            while let Some(stage) = self.moves.under_way.get(&pod).map(|one| one.stage)
                && self.advance_move(now, pod, stage)
            {}
        }
    }

    /// One step; says whether to look again.
    fn advance_move(&mut self, now: Time, pod: PodId, stage: Stage) -> bool {
        match stage {
            Stage::Sending(request) => match self.moves.answer(request) {
                None => return false,
                Some(Ok(_)) => self.set_stage(pod, Stage::Draining(RequestId(self.next_request))),
                // Not in the log: whatever is under way at the pod, it is not this.
                Some(Err(error)) => self.end_move(pod, Err(error)),
            },
            Stage::Draining(last) => return self.drained(pod, last),
            Stage::Settling { target, through } => return self.settled(now, pod, target, through),
            Stage::Arriving(request) => {
                let Some(answer) = self.moves.answer(request) else { return false };
                if let (Err(error), Some(one)) = (answer, self.moves.under_way.get_mut(&pod)) {
                    one.refused = Some(error);
                }
                self.upkeep.want();
                self.set_stage(pod, Stage::Draining(RequestId(0)));
            }
            Stage::Keeping(number) => {
                // What is born with a checkpoint shows how far they are.
                if self.background.done < number {
                    return false;
                }
                self.propose_end(now, pod, false);
            }
            Stage::Ending(request) => match self.moves.answer(request) {
                None => return false,
                Some(Ok(_)) => {
                    let refused = self.moves.under_way.get(&pod).and_then(|one| one.refused);
                    self.end_move(pod, refused.map_or(Ok(Managed::Done), Err));
                }
                Some(Err(_)) => self.set_stage(pod, Stage::Resting(now + PAUSE)),
            },
            Stage::Resting(until) if until > now => return false,
            Stage::Resting(_) => self.set_stage(pod, Stage::Draining(RequestId(0))),
        }
        true
    }

    /// Q2: what hosts asked for before the volume was out of use is in the log.
    fn drained(&mut self, pod: PodId, last: RequestId) -> bool {
        let Some(found) = self.pods.get(&pod) else {
            self.end_move(pod, Err(ManageError::NoSuchPod));
            return true;
        };
        let is_held = |(request, waiting): (&RequestId, &Waiting)| {
            *request <= last && matches!(waiting, Waiting::Host(_))
        };
        if found.waiting.iter().any(is_held) {
            return false;
        }
        let through = found.machine.log_end();
        let to = found.namespace.moving.and_then(|moving| self.pods.get(&moving.to));
        let target = to.map_or(Index(0), |to| to.machine.log_end());
        self.set_stage(pod, Stage::Settling { target, through });
        true
    }

    /// Decides, with both logs applied, by what the namespaces say (Q1, Q4).
    fn settled(&mut self, now: Time, pod: PodId, target: Index, through: Index) -> bool {
        let Some(found) = self.pods.get(&pod).filter(|found| found.applied >= through) else { return false };
        let Some(Moving { to, by, .. }) = found.namespace.moving else {
            let refused = self.moves.under_way.get(&pod).and_then(|one| one.refused);
            self.end_move(pod, refused.map_or(Ok(Managed::Done), Err));
            return true;
        };
        let Some(taker) = self.pods.get(&to) else {
            self.refuse(pod, ManageError::NoSuchPod);
            self.propose_end(now, pod, true);
            return true;
        };
        if taker.applied < target {
            return false;
        }
        if taker.has_taken(pod, by) {
            if let Some(one) = self.moves.under_way.get_mut(&pod) {
                one.refused = None;
            }
            // A checkpoint that runs may have been captured before.
            let number = self.background.want_checkpoint();
            self.set_stage(pod, Stage::Keeping(number));
            return true;
        }
        match self.moves.under_way.get_mut(&pod).and_then(|one| one.refused.take()) {
            Some(ManageError::Offline | ManageError::Busy | ManageError::NoSuchPod) => {
                self.set_stage(pod, Stage::Resting(now + PAUSE));
            }
            Some(error) => {
                let error =
                    if error == ManageError::Destroyed { ManageError::TargetDestroyed } else { error };
                self.refuse(pod, error);
                self.propose_end(now, pod, true);
            }
            None => {
                let Some((to, arrival)) = found.arrival(through) else { return false };
                let request = self.propose(now, to, Manage::MoveIn(arrival));
                self.set_stage(pod, Stage::Arriving(request));
            }
        }
        true
    }

    /// The content of a volume that an entry about to be applied brings to `to` (Q3).
    pub(super) fn coming(&mut self, to: PodId, arrival: &Arrival) -> Found {
        let Some(found) = self.pods.get_mut(&arrival.from) else { return Found::Nowhere };
        if found.applied >= arrival.through {
            return found.leaving(arrival).map_or(Found::Nowhere, |coming| Found::Here(Box::new(coming)));
        }
        if found.damaged {
            // It never gets there; hosts of this pod hear of it rather than wait for ever.
            return Found::Nowhere;
        }
        self.moves.waits.insert((arrival.from, to));
        Found::Later
    }

    /// Pods whose next entry waits for this one, which was applied as far as it gets, look again.
    pub(super) fn touch_takers(&mut self, pod: PodId) {
        let takers = self.moves.waits.extract_if(.., |(from, _)| *from == pod);
        self.touched.extend(takers.map(|(_, taker)| taker));
    }

    fn moving(&self, pod: PodId) -> Option<Moving> {
        self.pods.get(&pod).and_then(|found| found.namespace.moving)
    }

    fn propose_end(&mut self, now: Time, pod: PodId, stays: bool) {
        let Some(Moving { by, .. }) = self.moving(pod) else {
            return self.set_stage(pod, Stage::Resting(now));
        };
        let request = self.propose(now, pod, Manage::MoveEnd { by, stays });
        self.set_stage(pod, Stage::Ending(request));
    }

    fn propose(&mut self, now: Time, pod: PodId, change: Manage) -> RequestId {
        let request = self.next_request();
        self.moves.answers.insert(request, None);
        if let Err(error) = self.submit_change(now, request, pod, change) {
            self.managed(request, Err(error));
        }
        request
    }

    fn refuse(&mut self, pod: PodId, error: ManageError) {
        if let Some(one) = self.moves.under_way.get_mut(&pod) {
            one.refused = Some(error);
        }
    }

    fn set_stage(&mut self, pod: PodId, stage: Stage) {
        if let Some(one) = self.moves.under_way.get_mut(&pod) {
            one.stage = stage;
        }
    }

    fn end_move(&mut self, pod: PodId, answer: Answer) {
        for asked in self.moves.under_way.remove(&pod).into_iter().flat_map(|one| one.asked) {
            self.managed(asked, answer.clone());
        }
        // One that a replay met meanwhile, if it was that which was in the way.
        self.resume_move(pod);
    }
}
