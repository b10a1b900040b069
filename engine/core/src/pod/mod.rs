//! One pod at this array: the protocol machine, the log's way into the maps, and the reads that wait for it.
//!
//! ```text
//! machine ── Append ──► unapplied ── Committed ──► apply (in order) ──► maps, namespace
//!                          │                          │ partial blocks: a flow reads and merges, the rest waits
//!                          └── Cut: forgotten         └── fork freeze: stops at the wanted index, freezes, goes on
//! ```
//! - P1: `applied ≤ committed ≤ log end`; only committed entries reach maps and namespace, in log order.
//! - P2: a read fixes its position only while the machine says that it may serve, and is answered once every
//!   overlapping entry that was in the log at that instant is applied.
//! - P3: old content of blocks that are covered in part is read ahead by flows (`merges`); applying keeps to the log's order.
//! - P4: a pod whose apply met damage applies nothing more until a restart, or until its peer has brought it level: wrong
//!   data is never served.

mod apply;
mod chores;
mod lifecycle;
mod manage;
mod merges;
mod moves;
mod reads;

use std::collections::{BTreeMap, VecDeque};

use metropod_journal::Lsn;
use metropod_protocol::{ArrayId, Body, ConfigId, Index, Machine, PodId, Position, RequestId, Time};
use metropod_snapshots::{Image, VolumeMap};

use crate::array::Journaled;
use crate::catchup::CatchUp;
use crate::layer_ids::LayerIds;
use crate::names::{SnapshotId, VolumeId};
use crate::namespace::{Namespace, PodImage};
use crate::operation;
use crate::operation::Content;
use crate::transfer::{Begin, Common, Inbox, Touched};

pub use apply::{Applied, ApplyContext, MergeRequest};
pub use manage::Answer;
pub(crate) use merges::MergeFailed;
use merges::Merges;
pub(crate) use moves::Coming;
pub(crate) use reads::ReadGate;

/// A frozen point that a peer left behind is known to have.
#[derive(Debug, Clone)]
pub struct ForkPoint {
    /// The configuration that made this array alone.
    pub config: ConfigId,
    /// The point.
    pub at: Position,
    /// Its content.
    pub image: PodImage,
    /// What the peer may have changed since: the blocks of the entries after `at` that it may hold. `None`: it flipped to
    /// this very point.
    pub touched: Option<Touched>,
}

/// An entry in the log that the maps do not show yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unapplied {
    pub index: Index,
    pub touches: Option<(VolumeId, u64, u64)>,
}

/// A read that waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ParkedRead {
    pub request: RequestId,
    pub source: crate::door::Source,
    pub offset: u64,
    pub length: u64,
    /// Applied at least to here; `None` while the position is not fixed (the pod is held).
    pub position: Option<Index>,
}

/// Content that waits to be frozen for a manager.
#[derive(Debug)]
pub(crate) struct ParkedFreeze {
    pub request: RequestId,
    pub contents: Vec<Content>,
    /// As that of a read.
    pub position: Option<Index>,
}

/// A round that was announced and not started; what follows its announcement waits in the inbox.
pub(crate) struct Announced {
    pub peer: ArrayId,
    pub begin: Begin,
    pub inbox: Inbox,
}

/// A request of this array that the machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Of so many bytes.
    Host(u64),
    Manage,
    /// Nobody asked: this array keeps the pod's house.
    Chore,
}

/// One pod at this array.
pub struct Pod {
    pub(crate) id: PodId,
    pub(crate) me: ArrayId,
    pub(crate) layer_ids: LayerIds,
    pub(crate) machine: Machine,
    pub(crate) namespace: Namespace,
    pub(crate) maps: BTreeMap<VolumeId, VolumeMap>,
    pub(crate) images: BTreeMap<SnapshotId, Image>,
    pub(crate) applied: Index,
    pub(crate) committed: Index,
    pub(crate) unapplied: VecDeque<Unapplied>,
    pub(crate) reads: Vec<ParkedRead>,
    pub(crate) freezes: Vec<ParkedFreeze>,
    pub(crate) waiting: BTreeMap<RequestId, Waiting>,
    /// Bytes of hosts' writes among them.
    pub(crate) held_bytes: u64,
    pub(crate) merges: Merges,
    pub(crate) damaged: bool,
    /// What the machine was told of that, and of merges that fail.
    pub(crate) told_unfit: bool,
    /// Entries up to here hold what their digests say, but for `unsound`.
    pub(crate) verified: Index,
    pub(crate) unsound: Option<Index>,
    /// Everything handed to the journal that the machine does not know to be durable.
    pub(crate) in_journal: VecDeque<Journaled>,
    /// Where in the journal each held entry begins.
    pub(crate) entry_lsns: VecDeque<(Index, Lsn)>,
    /// Entries copied forward in the journal, not yet durable there.
    pub(crate) copies: VecDeque<(Index, Lsn)>,
    /// Entries after this index were too many to be copied, with the journal beginning there; they have not become fewer.
    pub(crate) too_much_to_copy: Option<(Index, Lsn)>,
    /// Freeze wanted when `applied` gets to the index (after a restart).
    pub(crate) freeze_wanted: Option<(ConfigId, Index)>,
    pub(crate) fork: Option<ForkPoint>,
    pub(crate) catch_up: CatchUp,
    /// At the survivor: the peer that is behind, and where its log ends.
    pub(crate) catch_up_with: Option<(ArrayId, Position)>,
    /// At the joiner: a round that was announced and not started.
    pub(crate) begin: Option<Announced>,
    /// At the survivor: when a round that failed is tried again.
    pub(crate) round_retry_at: Option<Time>,
    /// Being made: no manifest before this checkpoint names it, so nothing may be promised in its name.
    pub(crate) born_with: Option<u64>,
    /// Journal records before this are of another copy of the pod, that this array held earlier.
    pub(crate) since: Lsn,
    /// At the one that stays: the entry that says that the other left, if it is under way.
    pub(crate) parting: Option<RequestId>,
    /// The namespace changed: machine and chores have to be told.
    pub(crate) changed: bool,
    /// Content was let go of that no write replaced: there may be much garbage at once.
    pub(crate) dropped_content: bool,
    pub(crate) chores: chores::Chores,
    /// The pod is eradicated: the array forgets it.
    pub(crate) gone: bool,
    /// Content of a volume that comes from another pod, for the next entry to take.
    pub(crate) arriving: Option<Coming>,
    /// Maps and images no longer needed: dropping their layers may take long, so no step does.
    pub(crate) let_go: Vec<VolumeMap>,
}

/// Parts a pod is put together from.
pub(crate) struct Parts {
    pub id: PodId,
    pub me: ArrayId,
    pub layer_ids: LayerIds,
    pub machine: Machine,
    pub image: PodImage,
    pub applied: Index,
    pub since: Lsn,
    pub fork: Option<ForkPoint>,
}

impl Pod {
    pub(crate) fn new(parts: Parts) -> Pod {
        let mut pod = Pod {
            id: parts.id,
            me: parts.me,
            layer_ids: parts.layer_ids,
            machine: parts.machine,
            namespace: parts.image.namespace.clone(),
            maps: BTreeMap::new(),
            images: BTreeMap::new(),
            applied: parts.applied,
            committed: parts.applied,
            unapplied: VecDeque::new(),
            reads: Vec::new(),
            freezes: Vec::new(),
            waiting: BTreeMap::new(),
            held_bytes: 0,
            merges: Merges::default(),
            damaged: false,
            told_unfit: false,
            verified: parts.applied,
            unsound: None,
            in_journal: VecDeque::new(),
            entry_lsns: VecDeque::new(),
            copies: VecDeque::new(),
            too_much_to_copy: None,
            freeze_wanted: None,
            fork: parts.fork,
            catch_up: CatchUp::default(),
            catch_up_with: None,
            begin: None,
            round_retry_at: None,
            born_with: None,
            since: parts.since,
            parting: None,
            changed: false,
            dropped_content: false,
            chores: chores::Chores::default(),
            gone: false,
            arriving: None,
            let_go: Vec::new(),
        };
        pod.adopt(parts.image, parts.applied);
        pod
    }

    /// The pod's id.
    pub fn id(&self) -> PodId {
        self.id
    }

    /// Names and settings as applied.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The protocol machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Index of the last entry the maps show.
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// The other array of the pod, if it is stretched or being stretched.
    pub fn peer(&self) -> Option<ArrayId> {
        self.namespace.peer_of(self.me)
    }

    /// A volume's map as applied.
    pub fn volume_map(&self, id: VolumeId) -> Option<&VolumeMap> {
        self.maps.get(&id)
    }

    /// A snapshot's content.
    pub fn snapshot_image(&self, id: SnapshotId) -> Option<&Image> {
        self.images.get(&id)
    }

    /// How catching up goes.
    pub fn catch_up(&self) -> &CatchUp {
        &self.catch_up
    }

    /// Replaces all content by a frozen point at `applied`.
    pub(crate) fn adopt(&mut self, image: PodImage, applied: Index) {
        self.namespace = image.namespace;
        let maps = image.volumes.into_iter().map(|(id, image)| (id, VolumeMap::from_image(image))).collect();
        self.let_go.extend(std::mem::replace(&mut self.maps, maps).into_values());
        let images = std::mem::replace(&mut self.images, image.snapshots);
        self.let_go.extend(images.into_values().map(VolumeMap::from_image));
        self.applied = applied;
        self.committed = self.committed.max(applied);
        self.unapplied.retain(|entry| entry.index > applied);
        self.merges.forget_all(applied);
        (self.verified, self.unsound) = (applied, None);
    }

    /// Replaces content and log by the survivor's, which stands at `applied`.
    pub(crate) fn rebase(&mut self, image: PodImage, applied: Index) {
        // Of the old log stays what the machine still holds, if the image stands within it. What of that is not committed yet
        // a restart needs, also if the image contains it.
        let held = |index: Index| self.machine.entry(index).is_some();
        self.unapplied.retain(|entry| entry.index > applied && held(entry.index));
        self.entry_lsns.retain(|(index, _)| held(*index));
        self.copies.clear();
        self.set_fork(None);
        self.freeze_wanted = None;
        self.damaged = false;
        self.committed = self.machine.committed().max(applied);
        self.adopt(image, applied);
        self.changed = true;
    }

    /// A frozen point that a joiner whose log ends at `end` has reached, for a round to start from.
    pub(crate) fn common_with(&self, end: Position) -> Option<Common> {
        let fork = self.fork.as_ref().filter(|fork| fork.at.index.0 > 0 && fork.at.index <= end.index)?;
        let touched = match &fork.touched {
            Some(touched) if end.index <= touched.through() => Some(touched.clone()),
            None if fork.at == end => None,
            _ => Some(self.touched_between(fork.at.index, end.index)?),
        };
        Some(Common { at: fork.at, image: fork.image.clone(), touched })
    }

    /// What the entries after `from` up to `to` touch; `None` if some are no longer held.
    fn touched_between(&self, from: Index, to: Index) -> Option<Touched> {
        let mut touched = Touched::new(to);
        let mut index = from.next();
        while index <= to {
            if let Body::Operation { descriptor, .. } = &self.machine.entry(index)?.body
                && let Some((volume, offset, length)) = operation::touches(descriptor)
            {
                touched.add(volume, offset, length);
            }
            index = index.next();
        }
        Some(touched)
    }

    /// The array this one has invited, by the namespace.
    pub(crate) fn invites(&self) -> Option<ArrayId> {
        self.namespace.peer.filter(|(host, _)| *host == self.me).map(|(_, joiner)| joiner)
    }

    /// Freezes every volume: the pod as it is at `applied`.
    pub(crate) fn freeze(&mut self) -> PodImage {
        PodImage {
            namespace: self.namespace.clone(),
            volumes: self.maps.iter_mut().map(|(id, map)| (*id, map.freeze(self.layer_ids.take()))).collect(),
            snapshots: self.images.clone(),
        }
    }

    /// Takes the fork freeze at the present applied index.
    pub(crate) fn take_fork(&mut self, config: ConfigId, at: Position) {
        assert!(at.index == self.applied, "a fork freeze stands at the applied index");
        let image = self.freeze();
        let mut touched = Touched::new(self.unapplied.back().map_or(self.applied, |entry| entry.index));
        for (volume, offset, length) in self.unapplied.iter().filter_map(|entry| entry.touches) {
            touched.add(volume, offset, length);
        }
        self.set_fork(Some(ForkPoint { config, at, image, touched: Some(touched) }));
        self.freeze_wanted = None;
    }

    /// Puts a fork point in the place of the one that is held.
    pub(crate) fn set_fork(&mut self, fork: Option<ForkPoint>) {
        if let Some(before) = std::mem::replace(&mut self.fork, fork) {
            let images = before.image.volumes.into_values().chain(before.image.snapshots.into_values());
            self.let_go.extend(images.map(VolumeMap::from_image));
        }
    }

    /// Forgets log entries after `keep`: they were never committed.
    pub(crate) fn cut(&mut self, keep: Index) {
        assert!(keep >= self.applied, "an applied entry is never cut");
        self.unapplied.retain(|entry| entry.index <= keep);
        (self.verified, self.unsound) = (self.applied, None);
        self.cut_lsns(keep);
    }

    /// First journal record that a restart from base `base` needs.
    pub(crate) fn first_needed(&self, base: Index) -> Option<Lsn> {
        let after = self.entry_lsns.partition_point(|(index, _)| *index <= base);
        self.entry_lsns.get(after).map(|(_, lsn)| *lsn)
    }

    /// Forgets where entries up to `base` begin: a manifest with that base is durable.
    pub(crate) fn forget_lsns(&mut self, base: Index) {
        for lsns in [&mut self.entry_lsns, &mut self.copies] {
            let after = lsns.partition_point(|(index, _)| *index <= base);
            lsns.drain(..after);
        }
    }
}
