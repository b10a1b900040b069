//! Opening an array after any stop: manifest, store, layers, journal, machines, in that order.
//!
//! ```text
//! CURRENT ─► manifest ─► store reopened at its state ─► layers loaded ─► journal replayed into each pod ─► machines
//! ```
//! - R1: nothing is written before the manifest, the layers and the whole journal were read and understood.
//! - R2: journal records of pods that the manifest does not name belong to a pod whose making was never answered;
//!   they are skipped.
//! - R3: an entry above the manifest's applied index is applied again, from the journal, in log order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use metropod_dedupe::Store;
use metropod_journal::media::{Cause, Create, Io, MediaError, Open};
use metropod_journal::{JournalConfig, Lsn, Record};
use metropod_protocol::{Index, Machine, PodId, Replay, RestartError, Time};
use metropod_snapshots::{Layer, LayerId, Nodes};

use super::closing::Closing;
use super::{Array, ArrayConfig, BulkPort, background::Background, commands::Pending};
use crate::checkpoint::{self, CURRENT, LayerPlaces, PodDraft};
use crate::codec::DecodeError;
use crate::journal_record::JournalRecord;
use crate::layer_ids::LayerIds;
use crate::manifest::{self, ManifestError};
use crate::operation;
use crate::pod::{Parts, Pod, Unapplied};

/// Why an array cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The media failed.
    #[error("the array's media failed: {0}")]
    Media(#[from] MediaError),
    /// `CURRENT` names no manifest.
    #[error("CURRENT does not name a manifest; this is no array directory, or it is damaged")]
    Current,
    /// The manifest cannot be used.
    #[error("manifest: {0}")]
    Manifest(#[from] ManifestError),
    /// The directory belongs to another array.
    #[error("the directory's manifest belongs to another array; give each array a directory of its own")]
    AnotherArray,
    /// A layer file cannot be read.
    #[error("map layer {id} in run {run} is damaged")]
    Layer {
        /// The layer.
        id: u64,
        /// Its run file.
        run: u64,
    },
    /// The chunk store cannot be opened.
    #[error("chunk store: {0}")]
    Store(#[from] metropod_dedupe::OpenError),
    /// The journal cannot be opened.
    #[error("journal: {0}")]
    Journal(#[from] metropod_journal::OpenError),
    /// A journal record cannot be understood.
    #[error("journal record {lsn} cannot be understood: {source}")]
    Record {
        /// Which.
        lsn: u64,
        /// Why.
        source: DecodeError,
    },
    /// A pod's log cannot be put together.
    #[error("pod log: {0}")]
    Log(#[from] RestartError),
}

struct Found {
    number: u64,
    next_layer: u64,
    journal_from: Lsn,
    store: Option<bytes::Bytes>,
    places: LayerPlaces,
    pods: Vec<PodDraft>,
}

struct Replaying {
    replay: Replay,
    applied: Index,
    lsns: Vec<(Index, Lsn)>,
    freeze: Option<(metropod_protocol::ConfigId, Index)>,
}

impl Array {
    /// Opens what is on the media, or begins an empty array.
    pub async fn open(
        config: ArrayConfig,
        io: Io,
        bulk: Arc<dyn BulkPort>,
        now: Time,
    ) -> Result<Array, OpenError> {
        let found = read_manifest(&config, &io).await?;
        let store = Store::open(io.clone(), config.store.clone(), found.store.as_deref()).await?;
        let mut replaying: BTreeMap<PodId, Replaying> = found
            .pods
            .iter()
            .map(|pod| {
                let replay = Replay::new(pod.state.clone());
                (pod.id, Replaying { replay, applied: pod.applied, lsns: Vec::new(), freeze: None })
            })
            .collect();
        let mut failed = None;
        let journal_config = JournalConfig { needed_from: found.journal_from, ..config.journal.clone() };
        let journal = metropod_journal::open(&io, "journal", journal_config, &mut |lsn, record| {
            if failed.is_none()
                && let Err(source) = replay_record(&mut replaying, lsn, &record)
            {
                failed = Some(OpenError::Record { lsn: lsn.0, source });
            }
        })
        .await?;
        if let Some(error) = failed {
            return Err(error);
        }
        let mut array = Array {
            nodes: Nodes::new(store.clone()),
            layer_ids: LayerIds::starting_at(found.next_layer),
            io,
            store,
            journal,
            pods: BTreeMap::new(),
            touched: BTreeSet::new(),
            effects: VecDeque::new(),
            next_request: 0,
            seeds_drawn: 0,
            links: BTreeSet::new(),
            mediator: None,
            admission: VecDeque::new(),
            meters: super::limits::Meters::default(),
            background: Background::after(found.number),
            layer_places: found.places,
            commands: Pending::default(),
            poisoned: None,
            next_round: 0,
            closing: Closing::default(),
            bulk,
            config,
        };
        for draft in found.pods {
            let replayed = replaying.remove(&draft.id).expect("every pod of the manifest is replayed");
            array.restart_pod(now, draft, replayed)?;
        }
        array.pump(now);
        Ok(array)
    }

    fn restart_pod(&mut self, now: Time, draft: PodDraft, replayed: Replaying) -> Result<(), OpenError> {
        let (state, entries) = replayed.replay.finish();
        let namespace = &draft.image.namespace;
        let peer = namespace.peer_of(self.config.me);
        let setup = self.setup(draft.id, peer, namespace.preferred);
        let unapplied: VecDeque<Unapplied> = entries
            .iter()
            .filter(|entry| entry.index > draft.applied)
            .map(|entry| Unapplied {
                index: entry.index,
                touches: match &entry.body {
                    metropod_protocol::Body::Operation { descriptor, .. } => operation::touches(descriptor),
                    _ => None,
                },
            })
            .collect();
        let end = entries.last().map_or(state.base.index, |entry| entry.index);
        let machine = Machine::restart(setup, state, entries, now)?;
        let mut pod = Pod::new(Parts {
            id: draft.id,
            me: self.config.me,
            layer_ids: self.layer_ids.clone(),
            machine,
            image: draft.image,
            applied: draft.applied,
            fork: draft.fork,
        });
        pod.unapplied = unapplied;
        // The journal may hold an index twice, before and after a cut: the later one counts.
        let mut lsns: BTreeMap<Index, Lsn> = BTreeMap::new();
        for (index, lsn) in replayed.lsns {
            lsns.insert(index, lsn);
        }
        pod.entry_lsns = lsns.into_iter().filter(|(index, _)| *index <= end).collect();
        pod.freeze_wanted = replayed.freeze.filter(|(config, index)| {
            *index >= pod.applied && pod.fork.as_ref().is_none_or(|fork| fork.config != *config)
        });
        pod.review_chores(now);
        self.touched.insert(pod.id);
        self.pods.insert(pod.id, pod);
        Ok(())
    }
}

fn replay_record(
    pods: &mut BTreeMap<PodId, Replaying>,
    lsn: Lsn,
    record: &Record,
) -> Result<(), DecodeError> {
    let Some(pod) = pods.get_mut(&PodId(record.stream.0)) else { return Ok(()) };
    match JournalRecord::decode(record)? {
        JournalRecord::Entry { entry, .. } => {
            pod.lsns.push((entry.index, lsn));
            pod.replay.entry(entry);
        }
        JournalRecord::State { ticket, record } => pod.replay.record(ticket, &record),
        JournalRecord::Freeze { config, index } => {
            if index >= pod.applied {
                pod.freeze = Some((config, index));
            }
        }
    }
    Ok(())
}

async fn read_manifest(config: &ArrayConfig, io: &Io) -> Result<Found, OpenError> {
    let Some(current) = read_file(io, CURRENT).await? else {
        let places = LayerPlaces::new();
        return Ok(Found {
            number: 0,
            next_layer: 1,
            journal_from: Lsn(1),
            store: None,
            places,
            pods: Vec::new(),
        });
    };
    let name = std::str::from_utf8(&current).map_err(|_| OpenError::Current)?;
    if !name.starts_with("manifest-") || name.contains('/') {
        return Err(OpenError::Current);
    }
    let bytes = read_file(io, name).await?.ok_or(OpenError::Current)?;
    let (header, rest) = manifest::open(&bytes)?;
    if header.array != config.me {
        return Err(OpenError::AnotherArray);
    }
    let layers = read_layers(io, &header.places).await?;
    let pods = manifest::pods(rest, &layers)?;
    checkpoint::remove_unnamed(io, header.number, &header.places).await;
    Ok(Found {
        number: header.number,
        next_layer: header.next_layer,
        journal_from: header.journal_from,
        store: Some(header.store),
        places: header.places,
        pods,
    })
}

async fn read_layers(io: &Io, places: &LayerPlaces) -> Result<BTreeMap<LayerId, Arc<Layer>>, OpenError> {
    let mut runs: BTreeMap<u64, bytes::Bytes> = BTreeMap::new();
    let mut layers = BTreeMap::new();
    for (id, place) in places {
        let damaged = || OpenError::Layer { id: id.0, run: place.run };
        let bytes = match runs.get(&place.run) {
            Some(bytes) => bytes.clone(),
            None => {
                let bytes = read_file(io, &checkpoint::run_name(place.run)).await?.ok_or_else(damaged)?;
                runs.insert(place.run, bytes.clone());
                bytes
            }
        };
        let end = place.offset.checked_add(place.length).ok_or_else(damaged)?;
        if end > bytes.len() as u64 {
            return Err(damaged());
        }
        let layer = Layer::decode(&bytes[place.offset as usize..end as usize]).map_err(|_| damaged())?;
        if layer.id() != *id {
            return Err(damaged());
        }
        layers.insert(*id, Arc::new(layer));
    }
    Ok(layers)
}

async fn read_file(io: &Io, path: &str) -> Result<Option<bytes::Bytes>, OpenError> {
    let file = match io.open(path, Open { create: Create::Never, direct: false }).await {
        Ok(file) => file,
        Err(MediaError { cause: Cause::NotFound, .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let length = io.length(file).await?;
    let result = io.read(file, 0, length as usize).await;
    io.close(file).await;
    Ok(Some(result?))
}
