//! `metropod array …`.

use crate::api::shapes::{ArrayShape, ConnectionShape};
use crate::client::rest::Client;

use super::arguments::{ArrayVerb, Group};
use super::output::{Failure, Output};
use super::size::SizeBytes;
use super::table::Table;

pub(super) fn run(group: &Group<ArrayVerb>) -> Result<(), Failure> {
    let client = Client::new(&group.remote.api)?;
    let output = Output { json: group.remote.json };
    match &group.verb {
        ArrayVerb::Show => output.answer(&client.array()?, shown),
        ArrayVerb::ConnectionKey => {
            let key = client.connection_key()?;
            output.say(&key, &key.key)
        }
        ArrayVerb::Connect { address, key } => {
            let connected = client.connect(address, key)?;
            output.say(&connected, &format!("connected to array {}", connected.name))
        }
        ArrayVerb::Connections => output.answer(&client.connections()?, |list| listed(list)),
    }
}

fn shown(array: &ArrayShape) -> Table {
    let mut table = Table::of_values();
    table.value("name", &array.name);
    table.value("id", &array.id);
    table.value("version", &array.version);
    table.value("listens on", &array.listen);
    table.value("mediator", &array.mediator_status);
    let journal = (SizeBytes(array.journal_bytes), SizeBytes(array.journal_budget_bytes));
    table.value("journal", format_args!("{} of {}", journal.0, journal.1));
    table.value("chunks", array.chunks);
    let stored = (SizeBytes(array.logical_bytes), SizeBytes(array.stored_bytes));
    table.value("stored", format_args!("{} in {}", stored.0, stored.1));
    for alarm in &array.alarms {
        table.value("alarm", alarm);
    }
    table
}

fn listed(connections: &[ConnectionShape]) -> Table {
    let mut table = Table::new(["NAME", "STATUS", "ADDRESS", "ID"])
        .when_empty("no connections; make a key with `metropod array connection-key` at the other array");
    for connection in connections {
        table.row([
            connection.name.clone(),
            connection.status.clone(),
            connection.address.clone(),
            connection.id.clone(),
        ]);
    }
    table
}
