//! Writing a checkpoint: chunks, new layers, then one manifest that names them.
//!
//! ```text
//! store flushed ─► layers/N.run ─► manifest-N, CURRENT.new (each synced, then their names) ─► CURRENT replaced, synced
//! ```
//! - K1: a manifest names only what is durable before it; a crash at any step leaves the older manifest in force, and
//!   what the newer attempt wrote is unknown to it and removed later.
//! - K2: files that only older manifests name are removed after CURRENT is durable, never before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use metropod_dedupe::Store;
use metropod_journal::Lsn;
use metropod_journal::media::{Cause, Create, Durability, Io, MediaError, Open};
use metropod_protocol::{ArrayId, DurableState, Index, PodId};
use metropod_snapshots::{Image, Layer, LayerId};

use crate::manifest::{self, Manifest};
use crate::namespace::PodImage;
use crate::pod::ForkPoint;
use crate::run_file;
use crate::task::FlowError;

/// Name of the file that names the manifest in force.
pub const CURRENT: &str = "CURRENT";

/// Largest single write of a run file, in bytes.
const RUN_WRITE_BYTES: usize = 1 << 20;

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

/// One pod as captured.
#[derive(Debug, Clone)]
pub struct PodDraft {
    /// The pod.
    pub id: PodId,
    /// The machine's state.
    pub state: DurableState,
    /// Index that `image` stands at.
    pub applied: Index,
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
    pub places: LayerPlaces,
}

/// A durable checkpoint.
#[derive(Debug)]
pub struct Checkpointed {
    /// Its number.
    pub number: u64,
    /// Every layer that it names.
    pub places: LayerPlaces,
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
    let places = write_layers(io, &draft).await?;
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
    write_file(io, &name, vec![manifest::encode(&manifest)]).await?;
    write_file(io, "CURRENT.new", vec![Bytes::from(name)]).await?;
    // Names may survive a crash in any order: the manifest's must be durable before CURRENT can say it.
    io.sync_dir("").await?;
    io.rename("CURRENT.new", CURRENT).await?;
    io.sync_dir("").await?;
    store.committed(&flushed);
    remove_unnamed(io, draft.number, &places).await;
    Ok(Checkpointed { number: draft.number, places })
}

async fn write_layers(io: &Io, draft: &Draft) -> Result<LayerPlaces, FlowError> {
    let mut places = LayerPlaces::new();
    let mut parts = vec![Bytes::from(run_file::encode(draft.array, draft.number))];
    let mut offset = run_file::HEAD_BYTES;
    for layer in layers_of(draft) {
        let place = match draft.places.get(&layer.id()) {
            Some(place) => *place,
            None => {
                let bytes = layer.encode();
                let length = bytes.len() as u64;
                let place = LayerPlace { run: draft.number, offset, length };
                offset += length;
                parts.push(Bytes::from(bytes));
                place
            }
        };
        places.insert(layer.id(), place);
    }
    if offset > run_file::HEAD_BYTES {
        write_file(io, &run_name(draft.number), parts).await?;
        io.sync_dir("layers").await?;
    }
    Ok(places)
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

async fn write_file(io: &Io, path: &str, parts: Vec<Bytes>) -> Result<(), MediaError> {
    // A file of that name can only be left over from an attempt that no manifest names.
    match io.remove(path).await {
        Ok(()) | Err(MediaError { cause: Cause::NotFound, .. }) => {}
        Err(error) => return Err(error),
    }
    let file = io.open(path, Open { create: Create::New, direct: false }).await?;
    let result = write_parts(io, file, parts).await;
    io.close(file).await;
    result
}

async fn write_parts(
    io: &Io,
    file: metropod_journal::media::FileId,
    parts: Vec<Bytes>,
) -> Result<(), MediaError> {
    let mut offset = 0;
    for mut part in parts {
        while !part.is_empty() {
            let piece = part.split_to(part.len().min(RUN_WRITE_BYTES));
            let length = piece.len() as u64;
            io.write(file, offset, vec![piece], Durability::Cached).await?;
            offset += length;
        }
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
