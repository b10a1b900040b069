//! The JSON document of `metropod inspect --json`.

use metropod::{Epoch, ManifestReport, PodRecords, PodReport, Report};
use serde::Serialize;

use crate::api::shapes::EpochShape;

/// A directory's content.
#[derive(Debug, Serialize)]
pub(super) struct ReportShape {
    name: String,
    id: String,
    files: Vec<FilesShape>,
    manifest: Option<ManifestShape>,
    journal: Option<JournalShape>,
    damage: Vec<String>,
}

#[derive(Debug, Serialize)]
struct FilesShape {
    directory: String,
    count: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct ManifestShape {
    number: u64,
    journal_from: u64,
    layers: usize,
    pods: Vec<PodShape>,
}

#[derive(Debug, Serialize)]
struct PodShape {
    id: String,
    name: String,
    applied: u64,
    epoch: Option<EpochShape>,
    out_of_sync: bool,
    fork_kept: bool,
    volumes: Vec<NamedShape>,
    snapshots: Vec<NamedShape>,
}

#[derive(Debug, Serialize)]
struct NamedShape {
    name: String,
    size_bytes: u64,
}

#[derive(Debug, Serialize)]
struct JournalShape {
    first: Option<u64>,
    last: Option<u64>,
    pods: Vec<RecordsShape>,
}

#[derive(Debug, Serialize)]
struct RecordsShape {
    pod: String,
    entries: u64,
    entry_bytes: u64,
    first_index: Option<u64>,
    last_index: Option<u64>,
    epoch: Option<EpochShape>,
    states: u64,
    freezes: u64,
}

impl ReportShape {
    pub(super) fn new(report: &Report) -> ReportShape {
        let files = report.files.iter().map(|kind| FilesShape {
            directory: kind.directory.to_owned(),
            count: kind.count,
            bytes: kind.bytes,
        });
        let mut damage = Vec::new();
        let manifest = report.manifest.as_ref().unwrap_or_else(|error| {
            damage.push(error.to_string());
            &None
        });
        let journal = report.journal.as_ref().map_err(|error| damage.push(error.to_string())).ok();
        ReportShape {
            name: report.superblock.name.clone(),
            id: hex(&report.superblock.array.0),
            files: files.collect(),
            manifest: manifest.as_ref().map(ManifestShape::new),
            journal: journal.map(|journal| JournalShape {
                first: journal.first,
                last: journal.last,
                pods: journal.pods.iter().map(|(pod, records)| RecordsShape::new(&pod.0, records)).collect(),
            }),
            damage,
        }
    }

    /// What could not be read, and why.
    pub(super) fn damage(&self) -> &[String] {
        &self.damage
    }
}

impl ManifestShape {
    fn new(manifest: &ManifestReport) -> ManifestShape {
        ManifestShape {
            number: manifest.number,
            journal_from: manifest.journal_from,
            layers: manifest.layers,
            pods: manifest.pods.iter().map(PodShape::new).collect(),
        }
    }
}

impl PodShape {
    fn new(pod: &PodReport) -> PodShape {
        let named = |list: &[(String, u64)]| {
            list.iter()
                .map(|(name, size_bytes)| NamedShape { name: name.clone(), size_bytes: *size_bytes })
                .collect()
        };
        PodShape {
            id: hex(&pod.id.0),
            name: pod.name.clone(),
            applied: pod.applied,
            epoch: pod.epoch.map(EpochShape::from),
            out_of_sync: pod.out_of_sync,
            fork_kept: pod.fork_kept,
            volumes: named(&pod.volumes),
            snapshots: named(&pod.snapshots),
        }
    }
}

impl RecordsShape {
    fn new(pod: &[u8], records: &PodRecords) -> RecordsShape {
        let epoch: Option<Epoch> = records.epoch;
        RecordsShape {
            pod: hex(pod),
            entries: records.entries,
            entry_bytes: records.entry_bytes,
            first_index: records.indexes.map(|(low, _)| low),
            last_index: records.indexes.map(|(_, high)| high),
            epoch: epoch.map(EpochShape::from),
            states: records.states,
            freezes: records.freezes,
        }
    }
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
