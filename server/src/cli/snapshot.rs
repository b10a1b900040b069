//! `metropod snapshot …`.

use crate::api::shapes::SnapshotShape;
use crate::client::rest::Client;

use super::arguments::{Group, SnapshotVerb};
use super::output::{Failure, Output};
use super::size::SizeBytes;
use super::table::Table;

pub(super) fn run(group: &Group<SnapshotVerb>) -> Result<(), Failure> {
    let client = Client::new(&group.remote.api)?;
    let output = Output { json: group.remote.json };
    match &group.verb {
        SnapshotVerb::Create { of, suffix } => {
            output.answer(&client.create_snapshot(of, suffix.as_deref())?, |taken| listed(taken))
        }
        SnapshotVerb::List => output.answer(&client.snapshots()?, |snapshots| listed(snapshots)),
    }
}

fn listed(snapshots: &[SnapshotShape]) -> Table {
    let mut table = Table::new(["NAME", "SIZE"]).when_empty("no snapshots");
    for snapshot in snapshots {
        table.row([snapshot.name.clone(), SizeBytes(snapshot.size_bytes).to_string()]);
    }
    table
}
