//! Whose the space is: every stored byte is counted once, for a volume, the snapshots of one, several of them, or the array.
//!
//! Comes in: all frozen points at one instant, with their owners. Goes out: a [`SpaceAccount`].
//!
//! - E1: the sum. What files of chunks take is
//!   `Σ volumes (unique + snapshots) + Σ pods shared + shared + held + maps + unattributed − staged + cleanable + overhead + freed`,
//!   exactly: each chunk is in one of the first five, and `unattributed` is what is stored and none of them.
//! - E2: content is that of the instant in which the points were frozen. What was written or let go of since is unattributed, or
//!   still counts for whom it counted for then; at rest, after a pass, nothing is unattributed.
//! - E3: memory is bounded: [`NAMES_MAX`] names at a time, of one part of all digests; the maps are walked once for each part.

use std::collections::BTreeMap;

use metropod_dedupe::{Census, Digest, Store};
use metropod_protocol::PodId;
use metropod_snapshots::{Image, Mapped, Names, Owners, SetId, Share, attribute};

use crate::names::{SnapshotId, VolumeId};
use crate::operation::BLOCK_BYTES;
use crate::task::FlowError;

/// Names held at a time, at 36 bytes each.
const NAMES_MAX: usize = 4 << 20;

/// Names wanted in a part: below what a part may have once each is there once, for parts are not all alike.
const PART_NAMES: usize = NAMES_MAX / 8 * 5;

/// Names weighed with one call, at 44 bytes each.
const WEIGHED_AT_ONCE: usize = 64 * 1024;

/// All digests are taken in at most so many parts, as a power of two.
const PARTS_BITS_MAX: u32 = 20;

/// What a volume takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VolumeAccount {
    /// Bytes of blocks that hold data, before reduction.
    pub logical_bytes: u64,
    /// Stored for what it holds now and nothing else reaches but snapshots of its own.
    pub unique_bytes: u64,
    /// Stored for its snapshots alone.
    pub snapshots_bytes: u64,
    /// Stored for what it holds now and another volume or its snapshots reach too: counted in full for each of them, so these
    /// do not add up. `None`: too many combinations share to tell.
    pub shared_bytes: Option<u64>,
}

/// What a pod takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodAccount {
    /// Its volumes, destroyed ones too.
    pub volumes: BTreeMap<VolumeId, VolumeAccount>,
    /// What each of its snapshots alone reaches: what destroying it would give back.
    pub snapshots: BTreeMap<SnapshotId, u64>,
    /// Stored for several of its volumes, and no other pod's.
    pub shared_bytes: u64,
    /// Stored for what its volumes hold now, each chunk once, whoever else shares it. `None`: as above.
    pub reached_bytes: Option<u64>,
}

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpaceAccount {
    /// All pods.
    pub pods: BTreeMap<PodId, PodAccount>,
    /// Stored for volumes of several pods.
    pub shared_bytes: u64,
    /// Stored for no volume or snapshot: fork points, rounds of catching up, content that was given out.
    pub held_bytes: u64,
    /// Nodes of maps.
    pub map_bytes: u64,
    /// Stored and reached by nothing at the instant: garbage that no pass has found yet, and what was written since.
    pub unattributed_bytes: u64,
    /// Stored for what volumes hold now, each chunk once. `None`: as above.
    pub reached_bytes: Option<u64>,
    /// What everything takes, at the end of the walk.
    pub census: Census,
    /// Chunks that a volume or snapshot reaches, and nodes, that are not here.
    pub missing_chunks: u64,
}

impl VolumeAccount {
    /// Stored for what it holds now.
    pub fn reached_bytes(&self) -> Option<u64> {
        Some(self.unique_bytes + self.shared_bytes?)
    }
}

impl PodAccount {
    /// Stored for it and no other pod.
    pub fn own_bytes(&self) -> u64 {
        let volumes = self.volumes.values();
        self.shared_bytes + volumes.map(|volume| volume.unique_bytes + volume.snapshots_bytes).sum::<u64>()
    }

    /// Bytes of blocks of its volumes that hold data, before reduction.
    pub fn logical_bytes(&self) -> u64 {
        self.volumes.values().map(|volume| volume.logical_bytes).sum()
    }
}

impl SpaceAccount {
    /// Stored for pods, what they share included.
    pub fn data_bytes(&self) -> u64 {
        self.shared_bytes + self.pods.values().map(PodAccount::own_bytes).sum::<u64>()
    }

    /// What files of chunks take, by E1.
    pub fn sum_bytes(&self) -> i64 {
        let census = &self.census;
        let records = self.data_bytes() + self.held_bytes + self.map_bytes + self.unattributed_bytes;
        (records + census.cleanable_bytes + census.freed_bytes) as i64 - census.staged_bytes as i64
            + census.overhead_bytes
    }
}

/// A volume that reaches something.
#[derive(Debug, Clone)]
pub struct OwnedVolume {
    /// Its pod.
    pub pod: PodId,
    /// Its id.
    pub id: VolumeId,
    /// What it holds now.
    pub live: Image,
    /// In the order in which they were taken.
    pub snapshots: Vec<(SnapshotId, Image)>,
}

/// Everything that reaches something, frozen at one instant.
#[derive(Debug, Clone)]
pub struct Owned {
    /// All pods, in order; those without volumes are among these only.
    pub pods: Vec<PodId>,
    /// Pod by pod, in their order.
    pub volumes: Vec<OwnedVolume>,
    /// What else reaches something.
    pub held: Vec<Image>,
}

/// Counts what `owned` takes. Not cheap: walks all maps, reads the index, and counts blocks.
///
/// # Panics
/// If the volumes' pods are not in order and listed.
pub async fn account(owned: &Owned, store: &Store) -> Result<SpaceAccount, FlowError> {
    let stats = store.stats();
    let names = (stats.chunks + stats.staged) as usize;
    let wanted = (0..PARTS_BITS_MAX).find(|bits| names >> bits <= PART_NAMES);
    for bits in wanted.unwrap_or(PARTS_BITS_MAX)..=PARTS_BITS_MAX {
        if let Some(mut tally) = tally(owned, store, bits, NAMES_MAX).await? {
            tally.settle(owned, store).await?;
            return Ok(tally.account);
        }
    }
    // Digests that all begin alike do not exist.
    Err(FlowError::Damaged)
}

/// Bytes by who reaches them.
struct Tally {
    owners: Owners,
    /// By set of owners.
    bytes: Vec<u64>,
    staged: Vec<Digest>,
    account: SpaceAccount,
}

/// Walks all maps once for each of `1 << bits` parts; `None` if a part has too many names.
async fn tally(
    owned: &Owned,
    store: &Store,
    bits: u32,
    names_max: usize,
) -> Result<Option<Tally>, FlowError> {
    let index = |pod: &PodId| owned.pods.binary_search(pod).expect("the pods of all volumes are listed");
    let rows = owned.volumes.iter().map(|volume| (index(&volume.pod), volume.snapshots.len()));
    let mut owners = Owners::new(rows);
    let images = images_of(owned, &mut owners);
    let mut tally = Tally { owners, bytes: Vec::new(), staged: Vec::new(), account: SpaceAccount::default() };
    for part in 0..1 << bits {
        let mut names = Names::new(bits, part, names_max);
        attribute(&images, store, &mut tally.owners, &mut names).await?;
        let Some((data, nodes)) = names.finish(&mut tally.owners) else { return Ok(None) };
        tally.bytes.resize(tally.owners.sets(), 0);
        for batch in data.chunks(WEIGHED_AT_ONCE) {
            let digests: Vec<Digest> = batch.iter().map(|(digest, _)| *digest).collect();
            let weights = tally.weigh(store, &digests).await?;
            for ((_, set), bytes) in batch.iter().zip(weights) {
                tally.bytes[set.index()] += u64::from(bytes);
                // What a round has announced and not brought yet is no damage.
                tally.account.missing_chunks += u64::from(bytes == 0 && *set != SetId::NONE);
            }
        }
        for batch in nodes.chunks(WEIGHED_AT_ONCE) {
            let weights = tally.weigh(store, batch).await?;
            tally.account.missing_chunks += weights.iter().filter(|bytes| **bytes == 0).count() as u64;
            tally.account.map_bytes += weights.into_iter().map(u64::from).sum::<u64>();
        }
    }
    Ok(Some(tally))
}

fn images_of(owned: &Owned, owners: &mut Owners) -> Vec<(SetId, Image)> {
    let mut images: Vec<(SetId, Image)> =
        owned.held.iter().map(|image| (SetId::NONE, image.clone())).collect();
    for (at, volume) in owned.volumes.iter().enumerate() {
        let snapshots = volume.snapshots.iter().enumerate();
        images.extend(snapshots.map(|(number, (_, image))| (owners.snapshot(at, number), image.clone())));
        images.push((owners.volume(at), volume.live.clone()));
    }
    images
}

impl Tally {
    async fn weigh(&mut self, store: &Store, names: &[Digest]) -> Result<Vec<u32>, FlowError> {
        let weighed = store.weigh(names).await?;
        self.staged.extend(weighed.staged);
        Ok(weighed.bytes)
    }

    /// Gives everybody the share that is theirs.
    async fn settle(&mut self, owned: &Owned, store: &Store) -> Result<(), FlowError> {
        let exact = !self.owners.is_rounded();
        let mut mapped = Mapped::new(store.clone());
        let mut volumes = vec![
            VolumeAccount { shared_bytes: exact.then_some(0), ..Default::default() };
            owned.volumes.len()
        ];
        for (volume, account) in owned.volumes.iter().zip(&mut volumes) {
            account.logical_bytes = mapped.blocks(&volume.live).await? * BLOCK_BYTES;
        }
        for pod in &owned.pods {
            let empty = PodAccount { reached_bytes: exact.then_some(0), ..PodAccount::default() };
            self.account.pods.insert(*pod, empty);
        }
        self.account.reached_bytes = exact.then_some(0);
        for volume in &owned.volumes {
            let pod = self.account.pods.get_mut(&volume.pod).expect("the pods of all volumes are listed");
            pod.snapshots.extend(volume.snapshots.iter().map(|(id, _)| (*id, 0)));
        }
        for set in 0..self.bytes.len() {
            self.share(set, owned, &mut volumes);
        }
        for (volume, account) in owned.volumes.iter().zip(volumes) {
            self.pod(volume.pod).volumes.insert(volume.id, account);
        }
        let census = store.census(&self.staged).await?;
        self.account.census = census;
        let counted = self.account.data_bytes() + self.account.held_bytes + self.account.map_bytes;
        // A chunk that was found rotten and written again meanwhile may take less than when it was weighed.
        self.account.unattributed_bytes = (census.stored_bytes + census.staged_bytes).saturating_sub(counted);
        Ok(())
    }

    fn share(&mut self, set: usize, owned: &Owned, volumes: &mut [VolumeAccount]) {
        let bytes = self.bytes[set];
        let share = self.owners.share(set);
        match share {
            Share::Held => self.account.held_bytes += bytes,
            Share::Volume(volume) => volumes[volume].unique_bytes += bytes,
            Share::Snapshots { volume, only } => {
                volumes[volume].snapshots_bytes += bytes;
                if let Some(only) = only {
                    let id = owned.volumes[volume].snapshots[only].0;
                    self.pod(owned.volumes[volume].pod).snapshots.insert(id, bytes);
                }
            }
            Share::Pod(pod) => self.pod(owned.pods[pod]).shared_bytes += bytes,
            Share::Array => self.account.shared_bytes += bytes,
        }
        let holders: Vec<usize> = self.owners.volumes(set).collect();
        let is_shared = matches!(share, Share::Pod(_) | Share::Array);
        let mut last = None;
        for holder in &holders {
            if let Some(shared) = volumes[*holder].shared_bytes.as_mut().filter(|_| is_shared) {
                *shared += bytes;
            }
            let pod = owned.volumes[*holder].pod;
            if last.replace(pod) != Some(pod)
                && let Some(reached) = &mut self.pod(pod).reached_bytes
            {
                *reached += bytes;
            }
        }
        if let Some(reached) = self.account.reached_bytes.as_mut().filter(|_| !holders.is_empty()) {
            *reached += bytes;
        }
    }

    fn pod(&mut self, pod: PodId) -> &mut PodAccount {
        self.account.pods.get_mut(&pod).expect("the pods of all volumes are listed")
    }
}
