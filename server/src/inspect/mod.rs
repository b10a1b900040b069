//! `metropod inspect`: explains the files of an array that does not run.

mod shapes;

use metropod::{JournalReport, ManifestReport, Report};

use crate::cli::{Failure, InspectOptions, Output, SizeBytes, Table};

use shapes::ReportShape;

/// Carries out `metropod inspect`. Damage is shown first and then reported as the failure.
pub fn run(options: &InspectOptions) -> Result<(), Failure> {
    let report = metropod::inspect(&options.directory)?;
    let shape = ReportShape::new(&report);
    Output { json: options.json }.answer(&shape, |_| explain(&report))?;
    match shape.damage() {
        [] => Ok(()),
        damage => Err(Failure::new(format_args!(
            "{} is damaged: {}; if the pods are stretched, let the peer repair this copy",
            options.directory.display(),
            damage.join("; ")
        ))),
    }
}

fn explain(report: &Report) -> Table {
    let mut table = Table::of_values();
    table.value("array", &report.superblock.name);
    table.value("id", shapes::hex(&report.superblock.array.0));
    for kind in &report.files {
        let name = if kind.directory.is_empty() { "files" } else { kind.directory };
        table.value(name, format_args!("{} files, {}", kind.count, SizeBytes(kind.bytes)));
    }
    match &report.manifest {
        Ok(Some(manifest)) => explain_manifest(manifest, &mut table),
        Ok(None) => table.value("manifest", "none yet: everything is in the journal"),
        Err(error) => table.value("manifest", format_args!("CANNOT BE READ: {error}")),
    }
    match &report.journal {
        Ok(journal) => explain_journal(journal, &mut table),
        Err(error) => table.value("journal", format_args!("CANNOT BE READ: {error}")),
    }
    table
}

fn explain_manifest(manifest: &ManifestReport, table: &mut Table) {
    table.value(
        "manifest",
        format_args!(
            "checkpoint {}, {} map layers, needs the journal from record {}",
            manifest.number, manifest.layers, manifest.journal_from
        ),
    );
    for pod in &manifest.pods {
        let mut words =
            vec![format!("id {}", shapes::hex(&pod.id.0)), format!("applied through {}", pod.applied)];
        words.extend(pod.epoch.map(|epoch| format!("epoch {}.{}", epoch.era, epoch.number)));
        words.extend(pod.out_of_sync.then(|| "behind the other array".to_owned()));
        words.extend(pod.fork_kept.then(|| "keeps a fork freeze".to_owned()));
        table.value(&format!("pod {}", pod.name), words.join(", "));
        for (name, size_bytes) in &pod.volumes {
            table.value("  volume", format_args!("{name}, {}", SizeBytes(*size_bytes)));
        }
        for (name, size_bytes) in &pod.snapshots {
            table.value("  snapshot", format_args!("{name}, {}", SizeBytes(*size_bytes)));
        }
    }
}

fn explain_journal(journal: &JournalReport, table: &mut Table) {
    match journal.first.zip(journal.last) {
        Some((first, last)) => table.value("journal records", format_args!("{first} to {last}")),
        None => table.value("journal records", "none that are needed"),
    }
    for (pod, records) in &journal.pods {
        let mut words = vec![format!("{} entries of {}", records.entries, SizeBytes(records.entry_bytes))];
        words.extend(records.indexes.map(|(low, high)| format!("index {low} to {high}")));
        words.extend(records.epoch.map(|epoch| format!("newest epoch {}.{}", epoch.era, epoch.number)));
        words.push(format!("{} state changes", records.states));
        words.extend((records.freezes > 0).then(|| format!("{} fork freezes", records.freezes)));
        table.value(&format!("  pod {}", shapes::hex(&pod.0)), words.join(", "));
    }
}
