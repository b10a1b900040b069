//! What runs beside the hot path: journal segments, destaging, the index, checkpoints, merges of partly written blocks.
//!
//! - B1: at most one flow of each kind runs, so that each flow's result can be applied to the state it was started from.
//! - B2: a checkpoint captures all pods in one step; what it trims is what it captured, never what came later.
//! - B3: a failed flow changes nothing; it is started again on the next occasion, not in a loop.

use std::collections::BTreeMap;

use metropod_dedupe::{Compression, reduce};
use metropod_journal::media::Cause;
use metropod_journal::{Lsn, PrepareError, SegmentRecipe, Spare};
use metropod_protocol::{
    ArrayId, DurableState, Index, Input as MachineInput, PodId, Position, RequestId, Time,
};

use super::pacing::Stage;
use super::reserve::Reserve;
use super::retry::{Kind, Retries};
use super::{Array, DESTAGE_BYTES};
use crate::catchup::{CatchUp, Flipping};
use crate::checkpoint::{self, Checkpointed, Draft, PodDraft};
use crate::door::{Alarm, Effect, Managed};
use crate::pod::{MergeFailed, MergeRequest};
use crate::task::{Finished, FlowError, Task, WaitsFor};

/// State of the background flows.
#[derive(Default)]
pub(super) struct Background {
    preparing_segment: bool,
    destaging: bool,
    tidying: bool,
    /// Something was stored, moved or found dead since the index was last looked at.
    index_changed: bool,
    checkpointing: Option<Capture>,
    /// Number of the newest checkpoint that was started.
    pub(super) started: u64,
    /// Number of the newest checkpoint that is durable.
    pub(super) done: u64,
    /// A checkpoint is wanted that captures the state of now or later.
    wanted: bool,
    /// What failed rests for a while (B3).
    pub(super) retries: Retries,
    /// A recipe whose segment could not be made yet.
    recipe: Option<SegmentRecipe>,
    merging: usize,
    /// How long checkpoints take to give the journal room back, and destages to work off what is staged.
    pub(super) checkpoint_stage: Stage,
    pub(super) destage_stage: Stage,
    pub(super) reserve: Reserve,
}

/// What a running checkpoint captured.
struct Capture {
    trim: Lsn,
    bases: BTreeMap<PodId, Index>,
    flips: Vec<(PodId, Flip)>,
}

/// A joiner's image as a checkpoint makes it durable, whatever round is under way by then.
pub(super) struct Flip {
    pub(super) flipping: Flipping,
    pub(super) state: DurableState,
}

impl Background {
    /// Nothing runs; the newest checkpoint is `number`.
    pub(super) fn after(number: u64) -> Background {
        Background { started: number, done: number, ..Background::default() }
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.preparing_segment
            && !self.destaging
            && !self.tidying
            && self.checkpointing.is_none()
            && self.merging == 0
            && self.reserve.is_idle()
    }

    /// Whether no checkpoint is under way, whose names no root shows.
    pub(super) fn lets_a_pass_begin(&self) -> bool {
        self.checkpointing.is_none()
    }

    /// Asks for a checkpoint that captures what is there now; returns the number it will have at the earliest.
    pub(super) fn want_checkpoint(&mut self) -> u64 {
        self.wanted = true;
        self.started + 1
    }
}

impl Array {
    /// Starts what is due.
    pub(super) fn background(&mut self, now: Time) {
        // Reads only: a journal that failed is no reason to stop.
        self.scrub(now);
        if self.poisoned.is_some() {
            return self.account(now);
        }
        self.background.retries.pass(now);
        self.tend_reserve();
        self.prepare_segment();
        if !self.background.destaging
            && self.background.retries.may_start(Kind::Destage)
            && self.is_destage_due()
        {
            self.background.destaging = true;
            self.background.destage_stage.begins(now, self.store.staged_bytes());
            let store = self.store.clone();
            self.run(
                "destage",
                async move { Finished::Destaged(store.destage().await.map_err(FlowError::from)) },
            );
        }
        self.tidy_index();
        self.collect(now);
        self.account(now);
        if self.background.checkpointing.is_none()
            && self.background.retries.may_start(Kind::Checkpoint)
            && (self.background.wanted || (self.is_journal_pressed() && self.would_checkpoint_free()))
        {
            self.start_checkpoint(now);
        }
        self.keep_layers();
    }

    fn tidy_index(&mut self) {
        let background = &mut self.background;
        if background.tidying || !background.retries.may_start(Kind::Index) {
            return;
        }
        if std::mem::take(&mut background.index_changed) && self.store.is_index_untidy() {
            background.tidying = true;
            let store = self.store.clone();
            self.run("index", async move {
                Finished::Tidied(store.tidy_index().await.map(|_| ()).map_err(FlowError::from))
            });
        }
    }

    fn is_destage_due(&self) -> bool {
        let staged = self.store.staged_bytes();
        // Without space, what it really takes decides what hosts are told.
        staged >= DESTAGE_BYTES
            || (staged > 0 && self.lacks_space())
            || self.background.retries.lacks_space(Kind::Destage)
    }

    pub(super) fn finished(&mut self, now: Time, finished: Finished) {
        match finished {
            Finished::Segment { recipe, result } => self.segment_ready(now, recipe, result),
            Finished::ReserveMade(result) => self.reserve_made(now, result),
            Finished::ReserveGiven(result) => self.reserve_given(now, result),
            Finished::Destaged(result) => {
                self.background.destaging = false;
                self.background.destage_stage.ends(now, result.is_ok());
                self.background.index_changed = true;
                self.note(now, Kind::Destage, result.err());
                self.collection.review();
                if self.lacks_space() {
                    // Less may be hoped for now.
                    self.admission.review();
                }
            }
            Finished::Tidied(result) => {
                (self.background.tidying, self.background.index_changed) = (false, true);
                self.note(now, Kind::Index, result.err());
            }
            Finished::Checkpointed(Ok(done)) => self.checkpoint_done(now, *done),
            Finished::Checkpointed(Err(error)) => self.checkpoint_failed(now, error),
            Finished::Merged { pod, number, result } => self.merged(now, pod, number, result),
            Finished::Upkept(result) => self.upkept(now, result),
            Finished::Turn => self.rework_some(),
            Finished::Marked(result) => self.marked(now, result),
            Finished::Swept(swept) => self.swept(now, swept),
            Finished::Accounted(result) => self.accounted_for(now, result),
            Finished::Scrubbed { number, result } => self.scrubbed(now, number, result),
            Finished::ChunkAnswered { peer } => self.chunk_answered(peer),
            Finished::Sent { pod, round, result } => self.round_sent(now, pod, round, result),
            Finished::Received { pod, round, result } => self.round_received(pod, round, result),
        }
    }

    pub(super) fn run(&mut self, name: &'static str, flow: impl Future<Output = Finished> + Send + 'static) {
        self.run_waiting(WaitsFor::Media, name, flow);
    }

    /// Starts a flow that needs the other array to go on.
    pub(super) fn run_waiting(
        &mut self,
        waits_for: WaitsFor,
        name: &'static str,
        flow: impl Future<Output = Finished> + Send + 'static,
    ) {
        self.effects.push_back(Effect::Run(Task { name, waits_for, future: Box::pin(flow) }));
    }

    pub(super) fn run_merge(&mut self, pod: PodId, request: MergeRequest) {
        self.background.merging += 1;
        self.run("merge", async move {
            let mut whole = Vec::with_capacity(request.blocks.len());
            let mut result = Ok(());
            for block in request.blocks {
                match block.old.read().await {
                    Ok(old) => {
                        let mut bytes = old.to_vec();
                        bytes[block.start..block.start + block.bytes.len()].copy_from_slice(&block.bytes);
                        whole.push((block.block, reduce(&bytes, Compression::WhenItPays)));
                    }
                    Err(error) => {
                        result = Err(error);
                        break;
                    }
                }
            }
            Finished::Merged { pod, number: request.number, result: result.map(|()| whole) }
        });
    }

    fn merged(
        &mut self,
        now: Time,
        pod: PodId,
        number: u64,
        result: Result<Vec<(u64, metropod_dedupe::Reduced)>, FlowError>,
    ) {
        self.background.merging -= 1;
        let (used, budget) = self.journal_bytes();
        let Some(found) = self.pods.get_mut(&pod) else { return };
        match result {
            Ok(whole) => found.merge_done(number, whole),
            Err(error) => match found.merge_failed(now, number, used < budget / 2) {
                MergeFailed::Nothing => {}
                MergeFailed::Rests => {
                    self.alarm_of_chunk(error);
                    self.tell_fitness(now, pod);
                }
                MergeFailed::GivenUp => {
                    self.alarm_of_chunk(error);
                    self.damaged(now, pod, Alarm::FlowFailed { flow: "merge" });
                }
            },
        }
        self.touched.insert(pod);
    }

    /// Remembers how a flow ended, so that a failing one is tried again at intervals (B3).
    pub(super) fn note(&mut self, now: Time, kind: Kind, error: Option<FlowError>) {
        let was_full = self.background.retries.is_full();
        self.background.retries.note(now, kind, error);
        let is_full = self.background.retries.is_full();
        if is_full != was_full {
            self.admission.review();
        }
        if is_full && !was_full {
            self.effects.push_back(Effect::Alarm(Alarm::NoSpace));
        }
        if let Some(error) = error {
            self.alarm_of_chunk(error);
        }
        // A full device has an alarm of its own.
        if error.is_some_and(|error| !(is_full && error.is_no_space())) {
            self.effects.push_back(Effect::Alarm(Alarm::FlowFailed { flow: kind.name() }));
        }
    }

    fn alarm_of_chunk(&mut self, error: FlowError) {
        if let FlowError::Chunk(digest) = error {
            self.effects.push_back(Effect::Alarm(Alarm::DamagedChunk(digest)));
        }
    }

    fn prepare_segment(&mut self) {
        // What could not be made anew may be had for nothing by now.
        if let Some(recipe) = &mut self.background.recipe
            && self.journal.redirect(recipe)
        {
            self.background.retries.may_recycle();
        }
        // A full device has nothing for a journal that can do without.
        if self.background.recipe.is_some() && self.journal.makes_do() && self.background.retries.is_full() {
            return;
        }
        let wanted = self.background.recipe.is_some() || self.journal.wants_segment();
        let may_start = self.background.retries.may_start(Kind::Segment);
        if wanted && may_start && !self.background.preparing_segment {
            self.background.preparing_segment = true;
            let kept = self.background.recipe.take();
            let recipe = kept.unwrap_or_else(|| self.journal.segment_recipe());
            let io = self.io.clone();
            self.run("segment", async move {
                let result = recipe.prepare(&io).await;
                Finished::Segment { recipe, result }
            });
        }
    }

    fn segment_ready(&mut self, now: Time, recipe: SegmentRecipe, result: Result<Spare, PrepareError>) {
        self.background.preparing_segment = false;
        match result {
            Ok(spare) => {
                self.note(now, Kind::Segment, None);
                self.journal.grows(recipe.is_new());
                self.journal.add_spare(spare);
            }
            Err(error) => {
                let forgo =
                    error.source.cause == Cause::NoSpace && recipe.is_new() && self.journal.can_make_do();
                self.background.recipe = Some(recipe);
                if forgo {
                    self.journal.make_do();
                    return self.background.retries.forgo_segment(now);
                }
                self.note(now, Kind::Segment, Some(FlowError::Media(error.source)));
            }
        }
    }

    fn start_checkpoint(&mut self, now: Time) {
        self.background.checkpoint_stage.begins(now, self.journal.used_bytes());
        self.background.wanted = false;
        self.background.started += 1;
        let number = self.background.started;
        // State records up to the ticket of a pod's state are contained in it; what is not durable yet may never be, and a
        // journal that ends before the record a manifest begins with is refused.
        let mut trim = Lsn(self.journal.durable().0 + 1);
        let keeps = self.keeps_for_joiners();
        let mut bases = BTreeMap::new();
        let mut flips = Vec::new();
        let mut drafts = Vec::with_capacity(self.pods.len());
        let mut aborted = Vec::new();
        for (id, pod) in &mut self.pods {
            let draft = match pod.flip_draft() {
                Some(Ok((flipping, draft))) => {
                    flips.push((*id, Flip { flipping, state: draft.state.clone() }));
                    draft
                }
                Some(Err((peer, round))) => {
                    aborted.push((peer, *id, round));
                    pod.draft(keeps)
                }
                None => pod.draft(keeps),
            };
            if let Some(lsn) = pod.first_needed(draft.state.base.index) {
                trim = trim.min(lsn);
            }
            bases.insert(*id, draft.state.base.index);
            drafts.push(draft);
        }
        for (peer, pod, round) in aborted {
            self.abort_round(peer, pod, round);
        }
        self.background.checkpointing = Some(Capture { trim, bases, flips });
        let draft = Draft {
            number,
            array: self.config.me,
            next_layer: self.layer_ids.next(),
            journal_from: trim,
            pods: drafts,
            places: self.layer_places.clone(),
            run_bytes: self.run_bytes.clone(),
        };
        let (io, store) = (self.io.clone(), self.store.clone());
        self.run("checkpoint", async move {
            Finished::Checkpointed(checkpoint::write(&io, &store, draft).await.map(Box::new))
        });
    }

    fn checkpoint_done(&mut self, now: Time, done: Checkpointed) {
        self.note(now, Kind::Checkpoint, None);
        self.background.checkpoint_stage.ends(now, true);
        let Some(capture) = self.background.checkpointing.take() else { return };
        self.background.done = done.number;
        (self.layer_places, self.run_bytes) = (done.places, done.run_bytes);
        for pod in self.pods.values_mut() {
            pod.born_with = pod.born_with.filter(|number| *number > done.number);
        }
        for (pod, flip) in capture.flips {
            self.flipped(now, pod, flip);
        }
        for (pod, through) in capture.bases {
            self.step_pod(now, pod, MachineInput::Trim { through });
            if let Some(found) = self.pods.get_mut(&pod) {
                found.forget_lsns(found.machine.base().index.min(through));
            }
        }
        self.journal.trim(capture.trim);
        self.commands_after_checkpoint(now, done.number);
        self.adopt_packed(done.packed);
        self.background.index_changed = true;
        self.upkeep.want();
        self.collected_until(now, done.number);
        self.collection.review();
    }

    fn checkpoint_failed(&mut self, now: Time, error: FlowError) {
        self.background.checkpointing = None;
        self.background.checkpoint_stage.ends(now, false);
        // Whoever waits for a checkpoint still needs one.
        self.background.wanted = true;
        self.note(now, Kind::Checkpoint, Some(error));
    }

    pub(super) fn checkpoint_for(&mut self, request: RequestId) {
        let number = self.background.want_checkpoint();
        self.commands.after_checkpoint(number, super::commands::Then::Answer(request, Managed::Done));
    }
}

impl crate::pod::Pod {
    /// This pod as a checkpoint captures it now.
    fn draft(&mut self, keeps_for_joiner: bool) -> PodDraft {
        let state = self.machine.durable_state(self.applied, keeps_for_joiner);
        let image = self.freeze();
        PodDraft {
            id: self.id,
            state,
            applied: self.applied,
            since: self.since,
            image,
            fork: self.fork.clone(),
        }
    }

    /// The pod as it will be after the flip under way; if the machine does not want it any more, whom to tell.
    fn flip_draft(&mut self) -> Option<Result<(Flipping, PodDraft), (ArrayId, u64)>> {
        let CatchUp::Flipping(flipping) = &self.catch_up else { return None };
        match self.machine.state_after_flip(flipping.to) {
            Some(state) => {
                let (image, applied) = (flipping.image.clone(), flipping.to.index);
                let draft = PodDraft { id: self.id, state, applied, since: self.since, image, fork: None };
                Some(Ok((Flipping::clone(flipping), draft)))
            }
            None => {
                let told = (flipping.peer, flipping.round);
                self.catch_up = CatchUp::Idle;
                Some(Err(told))
            }
        }
    }

    /// The place of the last applied entry.
    pub(crate) fn position_of_applied(&self) -> Position {
        self.machine.position(self.applied).expect("the last applied entry is held or is the base")
    }
}
