//! Whose the space is, as tables show it.

use std::time::Duration;

use crate::api::shapes::{CountShape, PodSpaceShape, SharesShape, SnapshotShape, VolumeShape};
use crate::client::rest::Client;

use super::output::Failure;
use super::progress::duration;
use super::size::SizeBytes;
use super::table::Table;

/// Between looks at a count.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is shown where nothing was counted yet.
const UNKNOWN: &str = "-";

/// Asks for a count and waits until it is over.
pub(super) fn counted(client: &Client) -> Result<CountShape, Failure> {
    let before = client.count_space()?;
    loop {
        std::thread::sleep(LOOK_EVERY);
        let count = client.space()?;
        if count.failed > before.failed {
            return Err(Failure::new("the count failed; see the alarms of `metropod array show`"));
        }
        if count.answered > before.answered {
            return Ok(count);
        }
    }
}

/// The whole array, in the order of the sum.
pub(super) fn shown(count: &CountShape) -> Table {
    let mut table = Table::of_values();
    let Some(shares) = &count.newest else {
        table.value("counted", "not yet; use `metropod array space --now`");
        return table;
    };
    table.value("counted", ago(shares.as_of_ms_ago));
    table.value("volumes' sizes", SizeBytes(shares.size_bytes));
    table.value("in use in them", SizeBytes(shares.logical_bytes));
    table.value("data reduction", ratio(shares.data_reduction));
    table.value("with thin provisioning", ratio(shares.total_reduction));
    for (what, bytes) in parts(shares) {
        table.value(what, signed(bytes));
    }
    table.value("files of chunks", SizeBytes(shares.used_bytes));
    table.value("index, on top", SizeBytes(shares.index_bytes));
    table.value("journal, on top", SizeBytes(shares.journal_bytes));
    if shares.missing_chunks > 0 {
        table.value("missing", format_args!("{} chunks that are needed", shares.missing_chunks));
    }
    table
}

/// What adds up to the files of chunks.
fn parts(shares: &SharesShape) -> [(&'static str, i64); 10] {
    [
        ("unique to a volume", shares.unique_bytes as i64),
        ("shared by volumes", shares.shared_bytes as i64),
        ("snapshots alone", shares.snapshots_bytes as i64),
        ("held", shares.held_bytes as i64),
        ("maps", shares.map_bytes as i64),
        ("nobody's, or newer", shares.unattributed_bytes as i64),
        ("dead, to be cleaned", shares.cleanable_bytes as i64),
        ("freed, to be removed", shares.freed_bytes as i64),
        ("headers and room left", shares.overhead_bytes),
        ("not written yet", -(shares.staged_bytes as i64)),
    ]
}

/// Volumes with what they take.
pub(super) fn volumes(volumes: &[VolumeShape]) -> Table {
    let heads = ["NAME", "SIZE", "IN USE", "UNIQUE", "SHARED", "SNAPSHOTS", "REDUCTION", "TOTAL", "COUNTED"];
    let mut table = Table::new(heads)
        .when_empty("no volumes; make one with `metropod volume create POD::NAME --size SIZE`");
    for volume in volumes {
        table.row([
            volume.name.clone(),
            SizeBytes(volume.size_bytes).to_string(),
            size(volume.logical_bytes),
            size(volume.unique_bytes),
            size(volume.shared_bytes),
            size(volume.snapshots_bytes),
            ratio(volume.data_reduction),
            ratio(volume.total_reduction),
            volume.space_as_of_ms_ago.map_or(UNKNOWN.to_owned(), ago),
        ]);
    }
    table
}

/// Adds what a volume takes, if it was counted.
pub(super) fn add_volume(table: &mut Table, volume: &VolumeShape) {
    let Some(as_of) = volume.space_as_of_ms_ago else { return };
    table.value("unique", size(volume.unique_bytes));
    table.value("shared", size(volume.shared_bytes));
    table.value("snapshots", size(volume.snapshots_bytes));
    table.value("data reduction", ratio(volume.data_reduction));
    table.value("with thin provisioning", ratio(volume.total_reduction));
    table.value("space counted", ago(as_of));
}

/// Adds what a pod takes, if it was counted.
pub(super) fn add_pod(table: &mut Table, space: Option<&PodSpaceShape>) {
    let Some(space) = space else { return };
    table.value("in use", SizeBytes(space.logical_bytes));
    table.value("unique to a volume", SizeBytes(space.unique_bytes));
    table.value("shared by its volumes", SizeBytes(space.shared_bytes));
    table.value("snapshots alone", SizeBytes(space.snapshots_bytes));
    table.value("data reduction", ratio(space.data_reduction));
    table.value("with thin provisioning", ratio(space.total_reduction));
    table.value("space counted", ago(space.as_of_ms_ago));
}

/// What a snapshot alone takes.
pub(super) fn of_snapshot(snapshot: &SnapshotShape) -> String {
    size(snapshot.unique_bytes)
}

fn size(bytes: Option<u64>) -> String {
    bytes.map_or(UNKNOWN.to_owned(), |bytes| SizeBytes(bytes).to_string())
}

fn signed(bytes: i64) -> String {
    let size = SizeBytes(bytes.unsigned_abs());
    if bytes < 0 { format!("-{size}") } else { size.to_string() }
}

fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or(UNKNOWN.to_owned(), |ratio| format!("{ratio:.1} to 1"))
}

fn ago(ms: u64) -> String {
    format!("{} ago", duration(Duration::from_millis(ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_that_are_shown_are_all_that_make_the_sum() {
        let shares = SharesShape {
            unique_bytes: 1,
            shared_bytes: 2,
            snapshots_bytes: 4,
            held_bytes: 8,
            map_bytes: 16,
            unattributed_bytes: 32,
            cleanable_bytes: 64,
            freed_bytes: 128,
            overhead_bytes: -5,
            staged_bytes: 7,
            used_bytes: 255 - 5 - 7,
            ..SharesShape::default()
        };
        assert_eq!(parts(&shares).iter().map(|(_, bytes)| bytes).sum::<i64>(), shares.used_bytes as i64);
        assert_eq!(
            (signed(-2048), ratio(Some(2.54)), ratio(None)),
            ("-2K".into(), "2.5 to 1".into(), "-".into())
        );
    }
}
