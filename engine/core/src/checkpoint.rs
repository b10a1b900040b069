//! Writing a checkpoint: chunks, new layers, then one manifest that names them.
//!
//! ```text
//! store flushed ─► layers/N.run ─► manifest-N, CURRENT.new (each synced, then their names) ─► CURRENT replaced, synced
//! ```
//! - K1: a manifest names only what is durable before it; a crash at any step leaves the older manifest in force, and
//!   what the newer attempt wrote is unknown to it and removed later.
//! - K2: files that only older manifests name are removed after CURRENT is durable, never before.
//! - K3: a manifest names at most [`RUNS_MAX`] run files, and at least half of what was written into each is still
//!   named; else the layers that are left of one are written again.
//! - K4: memory: one packed layer and [`RUN_WRITE_BYTES`] at a time. Layers are handed back packed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use metropod_dedupe::Store;
use metropod_journal::Lsn;
use metropod_journal::media::{Cause, Create, Durability, FileId, Io, MediaError, Open};
use metropod_protocol::{ArrayId, DurableState, Index, PodId};
use metropod_snapshots::{Image, Layer, LayerId};

use crate::manifest::{self, Manifest};
use crate::namespace::PodImage;
use crate::pod::ForkPoint;
use crate::run_file;
use crate::task::FlowError;

/// Name of the file that names the manifest in force.
pub const CURRENT: &str = "CURRENT";

/// Largest single write of a run file, in bytes: what of a layer is encoded at a time.
const RUN_WRITE_BYTES: usize = 1 << 20;

/// Run files that a manifest names; beyond it layers of the least ones are written again, together (K3).
pub const RUNS_MAX: usize = 64;

/// Where a layer is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerPlace {
    /// Number of the run file.
    pub run: u64,
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
}

/// Where every stored layer is.
pub type LayerPlaces = BTreeMap<LayerId, LayerPlace>;

/// How long each run file is, as far as that is known: after a start, up to the last layer that is named.
pub type RunBytes = BTreeMap<u64, u64>;

/// What is known of run files from the layers in them.
pub fn run_bytes_of(places: &LayerPlaces) -> RunBytes {
    let mut runs = RunBytes::new();
    for place in places.values() {
        let bytes = runs.entry(place.run).or_default();
        *bytes = place.offset.saturating_add(place.length).max(*bytes);
    }
    runs
}

/// One pod as captured.
#[derive(Debug, Clone)]
pub struct PodDraft {
    /// The pod.
    pub id: PodId,
    /// The machine's state.
    pub state: DurableState,
    /// Index that `image` stands at.
    pub applied: Index,
    /// Journal records before this are of another copy of the pod, that this array held earlier.
    pub since: Lsn,
    /// Content.
    pub image: PodImage,
    /// The fork freeze, if one is held.
    pub fork: Option<ForkPoint>,
}

/// All pods as captured in one step.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Number of this checkpoint.
    pub number: u64,
    /// This array.
    pub array: ArrayId,
    /// First layer id that was not handed out.
    pub next_layer: u64,
    /// First journal record that is still needed.
    pub journal_from: Lsn,
    /// Every pod.
    pub pods: Vec<PodDraft>,
    /// Layers stored already.
    pub places: Arc<LayerPlaces>,
    /// The files they are in.
    pub run_bytes: RunBytes,
}

/// A durable checkpoint.
#[derive(Debug)]
pub struct Checkpointed {
    /// Its number.
    pub number: u64,
    /// Every layer that it names.
    pub places: Arc<LayerPlaces>,
    /// The files they are in.
    pub run_bytes: RunBytes,
    /// Layers that were tables, packed.
    pub packed: BTreeMap<LayerId, Arc<Layer>>,
}

/// Name of a manifest file.
pub fn manifest_name(number: u64) -> String {
    format!("manifest-{number}")
}

/// Name of a run file.
pub fn run_name(number: u64) -> String {
    format!("layers/{number}.run")
}

/// Writes a checkpoint and cleans up after it.
pub async fn write(io: &Io, store: &Store, draft: Draft) -> Result<Checkpointed, FlowError> {
    let state = store.flush().await?;
    let flushed = state.clone();
    let Written { places, run_bytes, packed } = write_layers(io, &draft).await?;
    let manifest = Manifest {
        number: draft.number,
        array: draft.array,
        next_layer: draft.next_layer,
        journal_from: draft.journal_from,
        store: state,
        places: places.clone(),
        pods: draft.pods,
    };
    let name = manifest_name(draft.number);
    write_file(io, &name, manifest::encode(&manifest)).await?;
    write_file(io, "CURRENT.new", Bytes::from(name)).await?;
    // Names may survive a crash in any order: the manifest's must be durable before CURRENT can say it.
    io.sync_dir("").await?;
    io.rename("CURRENT.new", CURRENT).await?;
    io.sync_dir("").await?;
    store.committed(&flushed);
    remove_unnamed(io, draft.number, &places).await;
    Ok(Checkpointed { number: draft.number, places: Arc::new(places), run_bytes, packed })
}

struct Written {
    places: LayerPlaces,
    run_bytes: RunBytes,
    packed: BTreeMap<LayerId, Arc<Layer>>,
}

async fn write_layers(io: &Io, draft: &Draft) -> Result<Written, FlowError> {
    let (kept, fresh) = kept_and_fresh(draft);
    let mut written = Written { run_bytes: RunBytes::new(), places: kept, packed: BTreeMap::new() };
    for place in written.places.values() {
        let known = draft.run_bytes.get(&place.run).copied().unwrap_or(0);
        written.run_bytes.insert(place.run, known);
    }
    if fresh.is_empty() {
        return Ok(written);
    }
    let path = run_name(draft.number);
    let file = create(io, &path).await?;
    let result = write_fresh(io, file, draft, fresh, &mut written).await;
    io.close(file).await;
    result?;
    io.sync_dir("layers").await?;
    Ok(written)
}

/// Writes layers into the checkpoint's own run file, piece by piece (K4).
async fn write_fresh(
    io: &Io,
    file: FileId,
    draft: &Draft,
    fresh: Vec<Arc<Layer>>,
    written: &mut Written,
) -> Result<(), MediaError> {
    let run = draft.number;
    let head = run_file::encode(draft.array, run);
    let mut offset = head.len() as u64;
    io.write(file, 0, vec![Bytes::from(head)], Durability::Cached).await?;
    for layer in fresh {
        let layer = match layer.is_packed() {
            true => layer,
            false => {
                let packed = Arc::new(layer.compact());
                written.packed.insert(packed.id(), packed.clone());
                packed
            }
        };
        let begin = offset;
        for piece in layer.encode_in_pieces(RUN_WRITE_BYTES).filter(|piece| !piece.is_empty()) {
            let length = piece.len() as u64;
            io.write(file, offset, vec![Bytes::from(piece)], Durability::Cached).await?;
            offset += length;
        }
        let place = LayerPlace { run, offset: begin, length: offset - begin };
        written.places.insert(layer.id(), place);
    }
    written.run_bytes.insert(run, offset);
    io.sync(file).await
}

/// Layers that stay where they are, and those to be written: new ones, and what is left of files that go (K3).
fn kept_and_fresh(draft: &Draft) -> (LayerPlaces, Vec<Arc<Layer>>) {
    let layers = layers_of(draft);
    let mut named: RunBytes = RunBytes::new();
    for place in layers.iter().filter_map(|layer| draft.places.get(&layer.id())) {
        *named.entry(place.run).or_default() += place.length;
    }
    let mut runs: Vec<(u64, u64)> = named.into_iter().map(|(run, bytes)| (bytes, run)).collect();
    runs.retain(|(bytes, run)| draft.run_bytes.get(run).is_none_or(|whole| bytes * 2 >= *whole));
    runs.sort_unstable();
    // Half of them go when there are too many, so that this is rare. One more file comes.
    let surplus = if runs.len() < RUNS_MAX { 0 } else { runs.len() - RUNS_MAX / 2 };
    let stay: BTreeSet<u64> = runs.into_iter().skip(surplus).map(|(_, run)| run).collect();
    let mut kept = LayerPlaces::new();
    let mut fresh = Vec::new();
    for layer in layers {
        match draft.places.get(&layer.id()).filter(|place| stay.contains(&place.run)) {
            Some(place) => drop(kept.insert(layer.id(), *place)),
            None => fresh.push(layer),
        }
    }
    (kept, fresh)
}

fn layers_of(draft: &Draft) -> Vec<Arc<Layer>> {
    let mut seen = BTreeSet::new();
    let mut layers = Vec::new();
    let images = draft.pods.iter().flat_map(|pod| {
        let fork = pod.fork.iter().map(|fork| &fork.image);
        std::iter::once(&pod.image).chain(fork).flat_map(images_of)
    });
    for image in images {
        for layer in image.layers() {
            if seen.insert(layer.id()) {
                layers.push(layer.clone());
            }
        }
    }
    layers
}

/// Every volume and snapshot image of a pod image.
pub fn images_of(image: &PodImage) -> impl Iterator<Item = &Image> {
    image.volumes.values().chain(image.snapshots.values())
}

async fn create(io: &Io, path: &str) -> Result<FileId, MediaError> {
    // A file of that name can only be left over from an attempt that no manifest names.
    match io.remove(path).await {
        Ok(()) | Err(MediaError { cause: Cause::NotFound, .. }) => {}
        Err(error) => return Err(error),
    }
    io.open(path, Open { create: Create::New, direct: false }).await
}

async fn write_file(io: &Io, path: &str, content: Bytes) -> Result<(), MediaError> {
    let file = create(io, path).await?;
    let result = write_all(io, file, content).await;
    io.close(file).await;
    result
}

async fn write_all(io: &Io, file: FileId, mut content: Bytes) -> Result<(), MediaError> {
    let mut offset = 0;
    while !content.is_empty() {
        let piece = content.split_to(content.len().min(RUN_WRITE_BYTES));
        let length = piece.len() as u64;
        io.write(file, offset, vec![piece], Durability::Cached).await?;
        offset += length;
    }
    io.sync(file).await
}

/// Removes manifests and runs that the manifest in force does not name (K2). Failures leave files behind, no more.
pub async fn remove_unnamed(io: &Io, number: u64, places: &LayerPlaces) {
    let runs: BTreeSet<u64> = places.values().map(|place| place.run).collect();
    if let Ok(names) = io.list("").await {
        for name in names {
            let other = name.strip_prefix("manifest-").and_then(|rest| rest.parse::<u64>().ok());
            if other.is_some_and(|other| other != number) {
                let _left = io.remove(&name).await;
            }
        }
    }
    if let Ok(names) = io.list("layers").await {
        for name in names {
            let run = name.strip_suffix(".run").and_then(|rest| rest.parse::<u64>().ok());
            if run.is_some_and(|run| !runs.contains(&run)) {
                let _left = io.remove(&format!("layers/{name}")).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use metropod_journal::media::sim::SimMedia;

    use super::*;

    fn poll<T>(flow: impl Future<Output = T>) -> T {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(flow).poll(&mut context) {
            std::task::Poll::Ready(value) => value,
            std::task::Poll::Pending => panic!("inline media answer at once"),
        }
    }

    fn draft(number: u64, layers: &[Arc<Layer>], before: Option<&Written>) -> Draft {
        let volume = crate::names::VolumeId(1);
        let image = Image::new(1 << 30, None, layers.to_vec()).unwrap();
        let namespace = crate::namespace::Namespace::new(crate::names::Name::new("pod").unwrap());
        let volumes = BTreeMap::from([(volume, image)]);
        let image = PodImage { namespace, volumes, snapshots: BTreeMap::new() };
        let state = crate::golden::some_state();
        Draft {
            number,
            array: ArrayId([1; 16]),
            next_layer: 1000,
            journal_from: Lsn(1),
            pods: vec![PodDraft {
                id: PodId([1; 16]),
                state,
                applied: Index(0),
                since: Lsn(1),
                image,
                fork: None,
            }],
            places: Arc::new(before.map_or_else(LayerPlaces::new, |written| written.places.clone())),
            run_bytes: before.map_or_else(RunBytes::new, |written| written.run_bytes.clone()),
        }
    }

    fn layer(id: u64, entries: u64) -> Arc<Layer> {
        let mut table = metropod_snapshots::Table::new();
        for block in 0..entries {
            table.set(block, metropod_snapshots::Slot::Data(metropod_dedupe::Digest([id as u8 | 1; 32])));
        }
        Arc::new(Layer::freeze(LayerId(id), table))
    }

    #[test]
    fn a_manifest_names_few_run_files_and_none_that_is_mostly_dead() {
        let io = Io::inline(Arc::new(SimMedia::new()));
        let mut layers = vec![layer(1, 10)];
        let mut written = poll(write_layers(&io, &draft(1, &layers, None))).unwrap();
        for number in 2..400 {
            // Every other layer lives on; one that is large and soon gone shares its file with a small one.
            let large = layer(1000 + number, 200);
            let mut with_large = layers.clone();
            with_large.extend([layer(number, 1), large]);
            written = poll(write_layers(&io, &draft(number, &with_large, Some(&written)))).unwrap();
            assert_eq!(written.packed.len(), 2, "what was written packed already is not packed again");
            with_large.pop();
            if number % 2 == 0 {
                with_large.pop();
            }
            layers =
                with_large.iter().map(|one| written.packed.get(&one.id()).unwrap_or(one).clone()).collect();
            let runs: BTreeSet<u64> = written.places.values().map(|place| place.run).collect();
            assert!(runs.len() <= RUNS_MAX, "{} files", runs.len());
            assert!(written.run_bytes.keys().eq(runs.iter()));
            for (run, whole) in &written.run_bytes {
                let named = written.places.values().filter(|place| place.run == *run);
                let bytes: u64 = named.map(|place| place.length).sum();
                assert!(bytes * 2 + run_file::HEAD_BYTES >= *whole, "{bytes} of {whole} bytes are named");
            }
        }
        for one in &layers {
            let place = written.places[&one.id()];
            let file =
                poll(io.open(&run_name(place.run), Open { create: Create::Never, direct: false })).unwrap();
            let bytes = poll(io.read(file, place.offset, place.length as usize)).unwrap();
            assert!(Layer::decode(&bytes).unwrap().extents().eq(one.extents()));
        }
    }

    #[test]
    fn cleaning_up_after_a_checkpoint_leaves_the_chunk_stores_index_runs_alone() {
        let io = Io::inline(Arc::new(SimMedia::new()));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut flow = std::pin::pin!(async {
            for path in
                ["runs/0000000000000001.run", "layers/1.run", "layers/2.run", "manifest-1", "manifest-2"]
            {
                io.open(path, Open { create: Create::New, direct: false }).await.unwrap();
            }
            let place = LayerPlace { run: 2, offset: 0, length: 1 };
            remove_unnamed(&io, 2, &LayerPlaces::from([(LayerId(1), place)])).await;
            (io.list("runs").await.unwrap(), io.list("layers").await.unwrap(), io.list("").await.unwrap())
        });
        let std::task::Poll::Ready((runs, layers, root)) = flow.as_mut().poll(&mut context) else {
            panic!("inline media answer at once");
        };
        assert_eq!(runs, ["0000000000000001.run"]);
        assert_eq!(layers, ["2.run"]);
        assert_eq!(root, ["manifest-2"]);
    }
}
