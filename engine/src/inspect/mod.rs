//! Reading an array's files while it does not run: superblock, manifest, journal.
//!
//! A directory goes in, a [`Report`] comes out; nothing in the directory changes but the lock that keeps an array from
//! starting meanwhile. Damage in one part does not hide the others: each part is reported or says why it cannot be read.

mod read_only;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use metropod_core::checkpoint::{CURRENT, PodDraft, manifest_name, run_name};
use metropod_core::codec::DecodeError;
use metropod_core::journal_record::JournalRecord;
use metropod_core::manifest::{self, Header, ManifestError};
use metropod_core::run_file::{self, HeadFault};
use metropod_journal::media::real::{OpenDirError, RealMedia};
use metropod_journal::media::{Io, Media};
use metropod_journal::{JournalConfig, Lsn};
use metropod_protocol::{Configuration, Epoch, PodId};
use metropod_snapshots::{Layer, LayerId};

use crate::driver::block_on;
use crate::superblock::{self, Superblock, SuperblockError};
use read_only::ReadOnly;

/// Longest manifest or run file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Larger than any journal there is, so that its size is no reason to refuse it.
const JOURNAL_BYTES_ANY: u64 = 1 << 50;

/// Why a directory cannot be inspected at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// There is no superblock.
    #[error("{directory} is no array's directory: it has no superblock")]
    NoArray {
        /// Which.
        directory: PathBuf,
    },
    /// The superblock cannot be used.
    #[error(transparent)]
    Superblock(#[from] SuperblockError),
    /// The array runs, or the directory cannot be used.
    #[error(transparent)]
    Directory(#[from] OpenDirError),
}

/// Why a part cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PartError {
    /// A file is missing or cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `CURRENT` names no manifest.
    #[error("CURRENT does not name a manifest")]
    Current,
    /// The manifest is damaged, foreign or of another version.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A run file is damaged, foreign or of another version.
    #[error("{run}: {fault}", run = run_name(*run))]
    Run {
        /// The run file.
        run: u64,
        /// Why.
        fault: HeadFault,
    },
    /// A layer in a run file is damaged.
    #[error("map layer {id} in {run} is damaged", run = run_name(*run))]
    Layer {
        /// The layer.
        id: u64,
        /// Its run file.
        run: u64,
    },
    /// The journal is damaged, foreign or of another version.
    #[error(transparent)]
    Journal(#[from] metropod_journal::OpenError),
    /// A journal record makes no sense.
    #[error("journal record {lsn} cannot be understood: {source}")]
    Record {
        /// Which.
        lsn: u64,
        /// Why.
        source: DecodeError,
    },
}

/// What an array's directory holds.
#[derive(Debug)]
pub struct Report {
    /// Whose it is.
    pub superblock: Superblock,
    /// Files by kind.
    pub files: Vec<FileKind>,
    /// The manifest in force; `None` if there was no checkpoint yet.
    pub manifest: Result<Option<ManifestReport>, PartError>,
    /// The journal's needed part.
    pub journal: Result<JournalReport, PartError>,
}

/// Files of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileKind {
    /// Directory under the array's, or empty for the array's own.
    pub directory: &'static str,
    /// How many files.
    pub count: u64,
    /// Their length together, in bytes.
    pub bytes: u64,
}

/// What the manifest in force says.
#[derive(Debug, Clone, PartialEq)]
pub struct ManifestReport {
    /// Number of the checkpoint.
    pub number: u64,
    /// First journal record that is still needed.
    pub journal_from: u64,
    /// Map layers.
    pub layers: usize,
    /// Pods.
    pub pods: Vec<PodReport>,
}

/// A pod as the manifest has it.
#[derive(Debug, Clone, PartialEq)]
pub struct PodReport {
    /// Id.
    pub id: PodId,
    /// Name.
    pub name: String,
    /// Index of the last log entry that the manifest contains.
    pub applied: u64,
    /// Newest configuration the manifest contains.
    pub epoch: Option<Epoch>,
    /// Whether the copy is marked as behind.
    pub out_of_sync: bool,
    /// Whether a fork freeze is kept.
    pub fork_kept: bool,
    /// Names and sizes in bytes of its volumes.
    pub volumes: Vec<(String, u64)>,
    /// Names and sizes in bytes of its snapshots.
    pub snapshots: Vec<(String, u64)>,
}

/// What the needed part of the journal holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JournalReport {
    /// First record read, if there is one.
    pub first: Option<u64>,
    /// Last record.
    pub last: Option<u64>,
    /// By pod.
    pub pods: BTreeMap<PodId, PodRecords>,
}

/// Journal records of one pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PodRecords {
    /// Log entries.
    pub entries: u64,
    /// Bytes of their descriptors and attachments.
    pub entry_bytes: u64,
    /// Least and greatest index of them.
    pub indexes: Option<(u64, u64)>,
    /// Newest configuration among them.
    pub epoch: Option<Epoch>,
    /// Changes of the pod's durable state.
    pub states: u64,
    /// Fork freezes.
    pub freezes: u64,
}

/// Reads the directory of an array that does not run.
pub fn inspect(directory: &Path) -> Result<Report, InspectError> {
    let superblock = superblock::read(directory)?
        .ok_or_else(|| InspectError::NoArray { directory: directory.to_owned() })?;
    // Held until the end: the array must not start meanwhile.
    let _lock = RealMedia::open(directory)?;
    let manifest = read_manifest(directory);
    let from = match &manifest {
        Ok(Some((header, _))) => header.journal_from,
        Ok(None) | Err(_) => Lsn(1),
    };
    let journal = read_journal(directory, &superblock, from);
    let manifest = manifest.map(|found| found.map(|(header, pods)| describe(&header, &pods)));
    let files = ["", "journal", "segments", "runs"].map(|kind| count(directory, kind)).to_vec();
    Ok(Report { superblock, files, manifest, journal })
}

fn read_manifest(directory: &Path) -> Result<Option<(Header, Vec<PodDraft>)>, PartError> {
    let current = directory.join(CURRENT);
    if !current.exists() {
        return Ok(None);
    }
    let name = read_file(&current)?;
    let name = std::str::from_utf8(&name).map_err(|_| PartError::Current)?;
    let number =
        name.strip_prefix("manifest-").and_then(|number| number.parse().ok()).ok_or(PartError::Current)?;
    let bytes = read_file(&directory.join(manifest_name(number)))?;
    let (header, rest) = manifest::open(&bytes)?;
    let pods = manifest::pods(rest, &read_layers(directory, &header)?)?;
    Ok(Some((header, pods)))
}

fn read_layers(directory: &Path, header: &Header) -> Result<BTreeMap<LayerId, Arc<Layer>>, PartError> {
    let mut runs: BTreeMap<u64, Bytes> = BTreeMap::new();
    let mut layers = BTreeMap::new();
    for (id, place) in &header.places {
        let bytes = match runs.get(&place.run) {
            Some(bytes) => bytes.clone(),
            None => {
                let bytes = read_file(&directory.join(run_name(place.run)))?;
                run_file::check(&bytes, header.array, place.run)
                    .map_err(|fault| PartError::Run { run: place.run, fault })?;
                runs.insert(place.run, bytes.clone());
                bytes
            }
        };
        let end = place.offset.saturating_add(place.length);
        let part = usize::try_from(place.offset).ok().zip(usize::try_from(end).ok());
        let layer =
            part.and_then(|(begin, end)| bytes.get(begin..end)).and_then(|part| Layer::decode(part).ok());
        let layer = layer.filter(|layer| layer.id() == *id);
        layers.insert(*id, Arc::new(layer.ok_or(PartError::Layer { id: id.0, run: place.run })?));
    }
    Ok(layers)
}

fn read_journal(directory: &Path, superblock: &Superblock, from: Lsn) -> Result<JournalReport, PartError> {
    let media: Arc<dyn Media> = Arc::new(ReadOnly::new(directory));
    let config = JournalConfig {
        budget_bytes: JOURNAL_BYTES_ANY,
        needed_from: from,
        ..JournalConfig::new(superblock.array.0, 0)
    };
    let mut report = JournalReport::default();
    let mut failed = None;
    let mut visit = |lsn: Lsn, record: metropod_journal::Record| {
        report.first = report.first.or(Some(lsn.0));
        report.last = Some(lsn.0);
        let pod = report.pods.entry(PodId(record.stream.0)).or_default();
        match JournalRecord::decode(&record) {
            Ok(record) => pod.add(&record),
            Err(source) if failed.is_none() => failed = Some(PartError::Record { lsn: lsn.0, source }),
            Err(_) => {}
        }
    };
    block_on(metropod_journal::open(&Io::inline(media), "journal", config, &mut visit))?;
    match failed {
        Some(error) => Err(error),
        None => Ok(report),
    }
}

impl PodRecords {
    fn add(&mut self, record: &JournalRecord) {
        match record {
            JournalRecord::Entry { entry, .. } => {
                let index = entry.index.0;
                let (low, high) = self.indexes.unwrap_or((index, index));
                self.indexes = Some((low.min(index), high.max(index)));
                self.entries += 1;
                self.entry_bytes += entry.payload_bytes() as u64;
                self.epoch = self.epoch.max(entry.configuration().map(|configuration| configuration.epoch));
            }
            JournalRecord::State { .. } => self.states += 1,
            JournalRecord::Freeze { .. } => self.freezes += 1,
        }
    }
}

fn describe(header: &Header, pods: &[PodDraft]) -> ManifestReport {
    ManifestReport {
        number: header.number,
        journal_from: header.journal_from.0,
        layers: header.places.len(),
        pods: pods.iter().map(describe_pod).collect(),
    }
}

fn describe_pod(pod: &PodDraft) -> PodReport {
    let namespace = &pod.image.namespace;
    let full = |volume: &metropod_core::namespace::Volume| format!("{}::{}", namespace.name, volume.name);
    let snapshots = namespace.snapshots.iter().filter_map(|(id, snapshot)| {
        let volume = namespace.volumes.get(&id.volume)?;
        Some((format!("{}.{}", full(volume), snapshot.suffix), snapshot.size_bytes))
    });
    let configurations = pod.state.history.iter().map(|item| &item.configuration);
    PodReport {
        id: pod.id,
        name: namespace.name.to_string(),
        applied: pod.applied.0,
        epoch: configurations.map(|configuration: &Configuration| configuration.epoch).max(),
        out_of_sync: pod.state.out_of_sync.is_some(),
        fork_kept: pod.fork.is_some(),
        volumes: namespace.volumes.values().map(|volume| (full(volume), volume.size_bytes)).collect(),
        snapshots: snapshots.collect(),
    }
}

fn read_file(path: &Path) -> Result<Bytes, PartError> {
    let fail = |source| PartError::File { path: path.to_owned(), source };
    if fs::metadata(path).map_err(fail)?.len() > FILE_BYTES_MAX {
        return Err(fail(std::io::Error::from(std::io::ErrorKind::FileTooLarge)));
    }
    fs::read(path).map(Bytes::from).map_err(fail)
}

/// Counts what can be listed; the rest shows up as damage elsewhere.
fn count(directory: &Path, kind: &'static str) -> FileKind {
    let mut found = FileKind { directory: kind, count: 0, bytes: 0 };
    for entry in fs::read_dir(directory.join(kind)).into_iter().flatten().flatten() {
        if let Ok(metadata) = entry.metadata()
            && metadata.is_file()
        {
            found.count += 1;
            found.bytes += metadata.len();
        }
    }
    found
}
