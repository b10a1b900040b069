//! One array: its pods, one journal, one store.
//!
//! ```text
//!   Input ──► step ──► pods' machines ──► pump: machine effects ──► journal queue, maps, frames ──► Effect
//! ```
//! - A1: every change of a machine is followed by draining its effects before the step ends, in order.
//! - A2: what a machine hands out with a ticket goes into the one journal in that order; it is reported durable only
//!   when the journal says so.
//! - A3: nothing a checkpoint wrote is relied on, and nothing it replaces is dropped, before it is durable.
//! - A4: host writes wait outside the machines, longer the less room journal and staging have left, and while the maps'
//!   layers exceed their bound or space is being given back.

mod account;
mod admission;
mod background;
mod cleaning;
mod closing;
mod collect;
mod commands;
mod effects;
mod freezes;
mod levels;
mod limits;
mod moves;
mod open;
mod pacing;
mod part;
mod peers;
mod repair;
mod requests;
mod reserve;
mod retry;
mod room;
mod roots;
mod scrub;
mod upkeep;
mod windows;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use metropod_dedupe::Store;
use metropod_journal::media::{Io, MediaError};
use metropod_journal::{JournalConfig, Writer};
use metropod_protocol::{
    ArrayId, Input as MachineInput, MediatorId, PodId, RequestId, Settings, Setup, Time,
};

use metropod_snapshots::{Limits, Nodes};

use crate::array::closing::Closing;
use crate::array::windows::Windows;
use crate::checkpoint::{LayerPlaces, RunBytes};
use crate::door::{Channel, Effect, Input};
use crate::frozen::GivenOut;
use crate::layer_ids::LayerIds;
use crate::names::Name;
use crate::pod::Pod;

pub use account::{AccountConfig, Accounted};
pub(crate) use admission::{Journaled, Kind as JournaledKind};
pub use cleaning::Swept;
pub use collect::{CollectConfig, CollectCounts};
pub use open::OpenError;
pub use peers::BulkPort;
pub use scrub::{SCRUB_BYTES_PER_S_DEFAULT, SCRUB_FINDINGS_MAX, ScrubConfig, ScrubProgress, ScrubState};

/// Staged payload above which host writes wait, in bytes.
pub const STAGED_BYTES_MAX: u64 = 256 << 20;

/// Staged payload above which destaging starts, in bytes.
pub const DESTAGE_BYTES: u64 = 1 << 20;

/// How an array is set up.
#[derive(Debug, Clone)]
pub struct ArrayConfig {
    /// This array.
    pub me: ArrayId,
    /// Journal sizes.
    pub journal: JournalConfig,
    /// Store sizes.
    pub store: metropod_dedupe::StoreConfig,
    /// What layers of maps may take in memory.
    pub overlay: Limits,
    /// When space is collected.
    pub collect: CollectConfig,
    /// When and how fast everything stored is read and proven.
    pub scrub: ScrubConfig,
    /// When it is counted whose the space is.
    pub account: AccountConfig,
    /// Timers.
    pub settings: Settings,
    /// Fresh random bytes at every start.
    pub seed: [u8; 32],
}

/// One array as a deterministic machine.
pub struct Array {
    config: ArrayConfig,
    io: Io,
    store: Store,
    nodes: Nodes<Store>,
    layer_ids: LayerIds,
    journal: Writer,
    pods: BTreeMap<PodId, Pod>,
    touched: BTreeSet<PodId>,
    effects: VecDeque<Effect>,
    next_request: u64,
    seeds_drawn: u64,
    links: BTreeSet<(ArrayId, Channel)>,
    mediator: Option<MediatorId>,
    admission: admission::Admission,
    meters: limits::Meters,
    background: background::Background,
    collection: collect::Collection,
    scrub: scrub::Scrub,
    accounting: account::Accounting,
    frozen: GivenOut,
    upkeep: upkeep::Upkeep,
    layer_places: Arc<LayerPlaces>,
    run_bytes: RunBytes,
    commands: commands::Pending,
    moves: moves::Moves,
    parting: part::Parting,
    poisoned: Option<MediaError>,
    next_round: u64,
    closing: Closing,
    windows: Windows,
    bulk: Arc<dyn BulkPort>,
    desk: repair::Desk,
}

impl Array {
    /// Takes one input. Effects follow by [`Array::next_effect`].
    pub fn step(&mut self, now: Time, input: Input) {
        match input {
            Input::Tick => self.tick(now),
            Input::Host { request, pod, operation } => self.host(now, request, pod, operation),
            Input::Read { request, pod, source, offset, length, metered } => {
                self.read(now, request, pod, source, offset, length, metered);
            }
            Input::Withdraw { pod, request } => self.withdraw(now, pod, request),
            Input::Manage { request, command } => self.manage(now, request, command),
            Input::Checkpoint { request } => self.checkpoint_for(request),
            Input::Collect { request } => self.collect_for(request),
            Input::Account { request } => self.account_for(request),
            Input::Scrub { request, what } => self.scrub_for(now, request, what),
            Input::Appended { id, result } => self.appended(now, id, result),
            Input::Finished(finished) => self.finished(now, finished),
            Input::LinkUp { peer, channel } => self.link_up(now, peer, channel),
            Input::LinkDown { peer, channel } => self.link_down(now, peer, channel),
            Input::Frame { peer, channel, payload } => self.frame(now, peer, channel, payload),
            Input::MediatorUp { mediator } => self.mediator_up(now, mediator),
            Input::MediatorDown => {
                self.mediator = None;
                self.step_all(now, &MachineInput::MediatorDown);
            }
            Input::MediatorReply(reply) => {
                let pod = reply.pod;
                self.step_pod(now, pod, MachineInput::Mediator(reply));
            }
            Input::Signed { pod, statement, signature } => {
                self.step_pod(now, pod, MachineInput::Signed { statement, signature });
            }
        }
        self.pump(now);
    }

    /// The next thing to do.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to step with [`Input::Tick`] at the latest.
    pub fn next_deadline(&self) -> Option<Time> {
        self.pods
            .values()
            .flat_map(|pod| {
                let merge = pod.merges.rests_until();
                [pod.machine.next_deadline(), pod.round_retry_at, pod.chore_at(), merge]
            })
            .chain([
                self.background.retries.next(),
                self.collection.due_at(),
                self.scrub.due_at(),
                self.account_due_at(),
                self.closing.due_at(),
                self.meters.opens_at(),
                self.admission.opens_at(),
                self.moves.due_at(),
                self.desk.due_at(),
            ])
            .flatten()
            .min()
    }

    /// A request id that was not used before.
    pub fn next_request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    /// This array's id.
    pub fn id(&self) -> ArrayId {
        self.config.me
    }

    /// Pods held here.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values()
    }

    /// The pod with this id.
    pub fn pod(&self, id: PodId) -> Option<&Pod> {
        self.pods.get(&id)
    }

    /// The pod with this name.
    pub fn pod_named(&self, name: &Name) -> Option<&Pod> {
        self.pods.values().find(|pod| pod.namespace.name == *name)
    }

    /// Handle on the nodes of all maps.
    pub fn nodes(&self) -> Nodes<Store> {
        self.nodes.clone()
    }

    /// The chunk store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The session with the mediator that is open now.
    pub fn mediator(&self) -> Option<MediatorId> {
        self.mediator
    }

    /// Journal bytes in use and the budget.
    pub fn journal_bytes(&self) -> (u64, u64) {
        (self.journal.used_bytes(), self.journal.budget_bytes())
    }

    /// Whether this array's disk is fit to take over: its appends complete in time.
    pub fn is_fit(&self, now: Time) -> bool {
        self.poisoned.is_none() && self.pods.values().all(|pod| pod.machine.is_fit(now))
    }

    /// Whether a connection is up.
    pub fn is_linked(&self, peer: ArrayId, channel: Channel) -> bool {
        self.links.contains(&(peer, channel))
    }

    /// Whether nothing runs in the background and everything handed to the journal is durable.
    pub fn is_quiet(&self) -> bool {
        self.background.is_idle()
            && self.upkeep.is_idle()
            && self.collection.is_idle()
            && !self.scrub.is_reading()
            && !self.accounting.is_walking()
            && self.pods.values().all(|pod| pod.in_journal.is_empty())
    }

    fn tick(&mut self, now: Time) {
        let due: Vec<PodId> = self
            .pods
            .values()
            .filter(|pod| pod.machine.next_deadline().is_some_and(|deadline| deadline <= now))
            .map(Pod::id)
            .collect();
        for pod in due {
            self.step_pod(now, pod, MachineInput::Tick);
        }
        let rested = self.pods.values_mut().filter_map(|pod| pod.merges.rested(now).then_some(pod.id()));
        self.touched.extend(rested.collect::<Vec<_>>());
        self.review_repairs(now);
        self.retry_rounds(now);
        self.do_chores(now);
        self.close_journal(now);
    }

    fn step_pod(&mut self, now: Time, pod: PodId, input: MachineInput) {
        if let Some(found) = self.pods.get_mut(&pod) {
            let peer = found.peer();
            found.machine.set_window(self.windows.share(pod, peer));
            found.machine.step(now, input);
            self.windows.note(pod, peer, found.machine.under_way_bytes());
            self.touched.insert(pod);
        }
    }

    fn step_all(&mut self, now: Time, input: &MachineInput) {
        let all: Vec<PodId> = self.pods.keys().copied().collect();
        for pod in all {
            self.step_pod(now, pod, input.clone());
        }
    }

    fn setup(&mut self, pod: PodId, peer: Option<ArrayId>, preferred: Option<ArrayId>) -> Setup {
        self.seeds_drawn += 1;
        let mut hasher = blake3::Hasher::new_keyed(&self.config.seed);
        hasher.update(&pod.0);
        hasher.update(&self.seeds_drawn.to_le_bytes());
        Setup {
            me: self.config.me,
            pod,
            peer,
            mediator: self.mediator,
            preferred,
            settings: self.config.settings,
            seed: *hasher.finalize().as_bytes(),
        }
    }
}
