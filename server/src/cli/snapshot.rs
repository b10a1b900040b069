//! `metropod snapshot …`.

use crate::api::shapes::SnapshotShape;
use crate::client::rest::Client;

use super::arguments::{Group, SnapshotVerb};
use super::output::{Failure, Output};
use super::pod::{destroyed, end};
use super::size::SizeBytes;
use super::space;
use super::table::Table;

pub(super) fn run(group: &Group<SnapshotVerb>) -> Result<(), Failure> {
    let client = Client::new(&group.remote.api)?;
    let output = Output { json: group.remote.json };
    match &group.verb {
        SnapshotVerb::Create { of, suffix } => {
            output.answer(&client.create_snapshot(of, suffix.as_deref())?, |taken| listed(taken))
        }
        SnapshotVerb::List => output.answer(&client.snapshots()?, |snapshots| listed(snapshots)),
        SnapshotVerb::Restore { snapshot } => {
            let shape = client.restore_snapshot(snapshot)?;
            output.say(&shape, &format!("volume {} holds what {snapshot} holds", shape.name))
        }
        SnapshotVerb::Destroy { snapshot } => {
            let shape = client.destroy_snapshot(snapshot)?;
            output.say(&shape, &destroyed("snapshot", &shape.name, shape.eradicated_in_ms))
        }
        SnapshotVerb::Recover { snapshot } => {
            let shape = client.recover_snapshot(snapshot)?;
            output.say(&shape, &format!("snapshot {} is in use again", shape.name))
        }
        SnapshotVerb::Eradicate { snapshot } => {
            let shape = client.eradicate_snapshot(snapshot)?;
            output.say(&shape, &format!("snapshot {} is no more", shape.name))
        }
    }
}

fn listed(snapshots: &[SnapshotShape]) -> Table {
    let mut table = Table::new(["NAME", "SIZE", "UNIQUE", "DESTROYED"]).when_empty("no snapshots");
    for snapshot in snapshots {
        table.row([
            snapshot.name.clone(),
            SizeBytes(snapshot.size_bytes).to_string(),
            space::of_snapshot(snapshot),
            end(snapshot.destroyed, snapshot.eradicated_in_ms),
        ]);
    }
    table
}
