//! `metropod array …`.

use std::time::Duration;

use crate::api::shapes::{ArrayShape, ConnectionShape};
use crate::client::rest::Client;

use super::arguments::{ArrayVerb, Group};
use super::output::{Failure, Output};
use super::size::SizeBytes;
use super::space;
use super::table::Table;

/// Between looks at a collection.
const LOOK_EVERY: Duration = Duration::from_millis(100);

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
        ArrayVerb::Collect => {
            let array = collected(&client)?;
            let used = SizeBytes(array.space.used_bytes);
            output.say(&array, &format!("done; files of chunks take {used}"))
        }
        ArrayVerb::Space { now: false } => output.answer(&client.space()?, space::shown),
        ArrayVerb::Space { now: true } => output.answer(&space::counted(&client)?, space::shown),
        ArrayVerb::Connections => output.answer(&client.connections()?, |list| listed(list)),
    }
}

/// Asks for a collection and waits until it is over.
fn collected(client: &Client) -> Result<ArrayShape, Failure> {
    let before = client.collect()?.collection;
    loop {
        std::thread::sleep(LOOK_EVERY);
        let array = client.array()?;
        if array.collection.failed > before.failed {
            return Err(Failure::new("the collection failed; see the alarms of `metropod array show`"));
        }
        if array.collection.answered > before.answered {
            return Ok(array);
        }
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
    let used = SizeBytes(array.space.used_bytes);
    table.value(
        "files of chunks",
        match array.space.capacity_bytes {
            Some(capacity) => format!("{used} of {}", SizeBytes(capacity)),
            None => used.to_string(),
        },
    );
    let collection = &array.collection;
    let given_back = (SizeBytes(collection.dead_bytes), collection.passes);
    table.value(
        "collection",
        format!("{}; {} found dead in {} passes", collection.state, given_back.0, given_back.1),
    );
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
