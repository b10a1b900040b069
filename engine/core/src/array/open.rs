//! Opening an array after any stop: manifest, store, layers, journal, machines, in that order.
//!
//! ```text
//! CURRENT ─► manifest ─► store reopened at its state ─► layers loaded ─► journal replayed into each pod ─► machines
//! ```
//! - R1: nothing is written or removed before the manifest, the layers, the store's segments and the whole journal were
//!   read and understood: a directory that is refused is as it was.
//! - R2: journal records of pods that the manifest does not name belong to a pod whose making was never answered, or to
//!   one that was eradicated; they are skipped.
//! - R3: an entry above the manifest's applied index is applied again, from the journal, in log order.
//! - R4: a lost `CURRENT` never makes an array empty. The newest manifest stands in for it: it is durable together with
//!   all that it names before `CURRENT` can say so. Only the very first one may be torn, before anybody had an answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use metropod_dedupe::Store;
use metropod_journal::media::{Cause, Create, FileId, Io, MediaError, Open};
use metropod_journal::{JournalConfig, Lsn, Record};
use metropod_protocol::{ArrayId, Index, Machine, PodId, Replay, RestartError, Time};
use metropod_snapshots::{Layer, LayerId, Nodes};

use super::closing::Closing;
use super::room::in_order;
use super::upkeep::Upkeep;
use super::windows::Windows;
use super::{Array, ArrayConfig, BulkPort, background::Background, commands::Pending};
use crate::checkpoint::{self, CURRENT, LayerPlace, LayerPlaces, PodDraft};
use crate::codec::DecodeError;
use crate::frozen::GivenOut;
use crate::journal_record::JournalRecord;
use crate::layer_ids::LayerIds;
use crate::manifest::{self, ManifestError};
use crate::operation;
use crate::pod::{Parts, Pod, Unapplied};
use crate::repair::Repairs;
use crate::run_file::{self, HeadFault};

/// Why an array cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The media failed.
    #[error("the array's media failed: {0}")]
    Media(#[from] MediaError),
    /// `CURRENT` names no manifest.
    #[error("CURRENT does not name a manifest; write the name of the newest manifest file into it")]
    Current,
    /// The manifest that `CURRENT` names is not there.
    #[error("{name}, which CURRENT names, is missing; put it back")]
    NoManifest {
        /// Its name.
        name: String,
    },
    /// The manifest cannot be used.
    #[error("{name}: {source}")]
    Manifest {
        /// Its name.
        name: String,
        /// Why.
        source: ManifestError,
    },
    /// The directory belongs to another array.
    #[error(
        "{name} belongs to another array; put this array's own back, and give each array its own directory"
    )]
    AnotherArray {
        /// The manifest's name.
        name: String,
    },
    /// A file of layers is missing.
    #[error("{} is missing; put it back", checkpoint::run_name(*run))]
    NoRun {
        /// The run file.
        run: u64,
    },
    /// A file of layers cannot be used.
    #[error("{}: {}", checkpoint::run_name(*run), fault)]
    Run {
        /// The run file.
        run: u64,
        /// Why.
        fault: HeadFault,
    },
    /// A segment of the chunk store is missing, or shorter than it was.
    #[error(
        "{segment} of the chunk store is missing or cut short; put it back, or begin this array anew and stretch its pods from their peer"
    )]
    Segment {
        /// Its name.
        segment: String,
    },
    /// A layer cannot be read.
    #[error("map layer {id} in {} is damaged; restore the file from a copy", checkpoint::run_name(*run))]
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
    /// The journal lacks entries that the manifest's maps contain.
    #[error(
        "a pod's log ends at entry {end}, its maps contain entry {applied}: the journal is damaged; bring this copy level from its peer"
    )]
    LogTooShort {
        /// Last entry found.
        end: u64,
        /// Last entry applied.
        applied: u64,
    },
}

/// Number of an array's first checkpoint.
const FIRST_CHECKPOINT: u64 = 1;

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
    /// Earlier records are another copy's.
    since: Lsn,
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
        // What it held would count as stored, and hosts' writes of the same content would be lost.
        if let Some(segment) = store.incomplete() {
            return Err(OpenError::Segment { segment: metropod_dedupe::segment_path(segment) });
        }
        let mut replaying: BTreeMap<PodId, Replaying> = found
            .pods
            .iter()
            .map(|pod| {
                let replay = Replay::new(pod.state.clone());
                let (applied, since) = (pod.applied, pod.since);
                (pod.id, Replaying { replay, applied, since, lsns: Vec::new(), freeze: None })
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
        if found.number > 0 {
            checkpoint::remove_unnamed(&io, found.number, &found.places).await;
        }
        let repairs = Repairs::new(bulk.clone());
        store.set_rescue(Arc::new(repairs.clone()));
        let mut array = Array {
            desk: super::repair::Desk::new(repairs),
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
            admission: super::admission::Admission::default(),
            meters: super::limits::Meters::default(),
            background: Background::after(found.number),
            collection: super::collect::Collection::default(),
            scrub: super::scrub::Scrub::new(now, &config.scrub),
            accounting: super::account::Accounting::new(now, &config.account),
            frozen: GivenOut::default(),
            upkeep: Upkeep::default(),
            run_bytes: checkpoint::run_bytes_of(&found.places),
            layer_places: Arc::new(found.places),
            commands: Pending::default(),
            moves: super::moves::Moves::default(),
            parting: super::part::Parting::default(),
            poisoned: None,
            next_round: first_round(&config.seed),
            closing: Closing::default(),
            windows: Windows::default(),
            bulk,
            config,
        };
        for draft in found.pods {
            let replayed = replaying.remove(&draft.id).expect("every pod of the manifest is replayed");
            array.restart_pod(now, draft, replayed)?;
            array.upkeep.want();
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
        if end < draft.applied {
            return Err(OpenError::LogTooShort { end: end.0, applied: draft.applied.0 });
        }
        let machine = Machine::restart(setup, state, entries, now)?;
        let mut pod = Pod::new(Parts {
            id: draft.id,
            me: self.config.me,
            layer_ids: self.layer_ids.clone(),
            machine,
            image: draft.image,
            applied: draft.applied,
            since: draft.since,
            fork: draft.fork,
        });
        pod.unapplied = unapplied;
        // The journal may hold an index twice, as a copy or before and after a cut: the later one counts.
        let mut lsns: BTreeMap<Index, Lsn> = BTreeMap::new();
        for (index, lsn) in replayed.lsns {
            lsns.insert(index, lsn);
        }
        pod.entry_lsns = in_order(lsns.into_iter().filter(|(index, _)| *index <= end));
        pod.freeze_wanted = replayed.freeze.filter(|(config, index)| {
            *index >= pod.applied && pod.fork.as_ref().is_none_or(|fork| fork.config != *config)
        });
        pod.review_chores(now);
        let (id, leaving) = (pod.id, pod.namespace.leaving);
        self.touched.insert(id);
        self.pods.insert(id, pod);
        self.note_leaving(now, id, leaving);
        self.resume_move(id);
        Ok(())
    }
}

/// Rounds of different starts have different numbers, so that a joiner's late word about an old one is not taken for the
/// new one's.
fn first_round(seed: &[u8; 32]) -> u64 {
    let (bytes, _) = seed.split_first_chunk::<8>().expect("the seed is longer");
    u64::from_le_bytes(*bytes) >> 1
}

fn replay_record(
    pods: &mut BTreeMap<PodId, Replaying>,
    lsn: Lsn,
    record: &Record,
) -> Result<(), DecodeError> {
    let Some(pod) = pods.get_mut(&PodId(record.stream.0)).filter(|pod| lsn >= pod.since) else {
        return Ok(());
    };
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
    let Some((name, bytes)) = manifest_in_force(io).await? else {
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
    let unusable = |source| OpenError::Manifest { name: name.clone(), source };
    let (header, rest) = manifest::open(&bytes).map_err(unusable)?;
    if header.array != config.me {
        return Err(OpenError::AnotherArray { name });
    }
    let layers = read_layers(io, config.me, &header.places).await?;
    let pods = manifest::pods(rest, &layers).map_err(unusable)?;
    Ok(Found {
        number: header.number,
        next_layer: header.next_layer,
        journal_from: header.journal_from,
        store: Some(header.store),
        places: header.places,
        pods,
    })
}

/// The manifest that counts, with its name; `None` in a new directory.
async fn manifest_in_force(io: &Io) -> Result<Option<(String, bytes::Bytes)>, OpenError> {
    if let Some(current) = read_file(io, CURRENT).await? {
        let name = std::str::from_utf8(&current).ok().filter(|name| number_of(name).is_some());
        let name = name.ok_or(OpenError::Current)?.to_owned();
        return match read_file(io, &name).await? {
            Some(bytes) => Ok(Some((name, bytes))),
            None => Err(OpenError::NoManifest { name }),
        };
    }
    // R4.
    let Some(newest) = io.list("").await?.iter().filter_map(|name| number_of(name)).max() else {
        return Ok(None);
    };
    let name = checkpoint::manifest_name(newest);
    let bytes = read_file(io, &name).await?.unwrap_or_default();
    let torn = matches!(manifest::open(&bytes), Err(ManifestError::Foreign | ManifestError::Damaged));
    if torn && newest == FIRST_CHECKPOINT { Ok(None) } else { Ok(Some((name, bytes))) }
}

/// The number in a manifest's name.
fn number_of(name: &str) -> Option<u64> {
    let number = name.strip_prefix("manifest-")?.parse().ok()?;
    (checkpoint::manifest_name(number) == name).then_some(number)
}

async fn read_layers(
    io: &Io,
    me: ArrayId,
    places: &LayerPlaces,
) -> Result<BTreeMap<LayerId, Arc<Layer>>, OpenError> {
    let mut runs: BTreeMap<u64, Vec<(LayerId, LayerPlace)>> = BTreeMap::new();
    for (id, place) in places {
        runs.entry(place.run).or_default().push((*id, *place));
    }
    let mut layers = BTreeMap::new();
    for (run, places) in runs {
        let file =
            match io.open(&checkpoint::run_name(run), Open { create: Create::Never, direct: false }).await {
                Ok(file) => file,
                Err(MediaError { cause: Cause::NotFound, .. }) => return Err(OpenError::NoRun { run }),
                Err(error) => return Err(error.into()),
            };
        let result = read_run(io, file, me, run, &places, &mut layers).await;
        io.close(file).await;
        result?;
    }
    Ok(layers)
}

/// Reads layers of one file, one at a time: a file may be as large as memory allows for all of them.
async fn read_run(
    io: &Io,
    file: FileId,
    me: ArrayId,
    run: u64,
    places: &[(LayerId, LayerPlace)],
    layers: &mut BTreeMap<LayerId, Arc<Layer>>,
) -> Result<(), OpenError> {
    let length = io.length(file).await?;
    let head = io.read(file, 0, length.min(run_file::HEAD_BYTES) as usize).await?;
    run_file::check(&head, me, run).map_err(|fault| OpenError::Run { run, fault })?;
    for (id, place) in places {
        let damaged = || OpenError::Layer { id: id.0, run };
        let end = place.offset.checked_add(place.length).ok_or_else(damaged)?;
        if end > length {
            return Err(damaged());
        }
        let bytes = io.read(file, place.offset, place.length as usize).await?;
        let layer = Layer::decode(&bytes).map_err(|_| damaged())?;
        if layer.id() != *id {
            return Err(damaged());
        }
        layers.insert(*id, Arc::new(layer));
    }
    Ok(())
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
