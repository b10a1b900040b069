//! `metropod volume …`.

use crate::api::shapes::VolumeShape;
use crate::client::rest::Client;

use super::arguments::{Group, VolumeVerb};
use super::output::{Failure, Output};
use super::size::SizeBytes;
use super::table::Table;

pub(super) fn run(group: &Group<VolumeVerb>) -> Result<(), Failure> {
    let client = Client::new(&group.remote.api)?;
    let output = Output { json: group.remote.json };
    match &group.verb {
        VolumeVerb::Create { volume, size } => {
            let made = client.create_volume(volume, size.0)?;
            output.say(&made, &format!("made volume {} of {}", made.name, SizeBytes(made.size_bytes)))
        }
        VolumeVerb::List => output.answer(&client.volumes()?, |volumes| listed(volumes)),
        VolumeVerb::Show { volume } => output.answer(&client.volume(volume)?, shown),
    }
}

fn listed(volumes: &[VolumeShape]) -> Table {
    let mut table = Table::new(["NAME", "SIZE", "SERIAL"])
        .when_empty("no volumes; make one with `metropod volume create POD::NAME --size SIZE`");
    for volume in volumes {
        table.row([volume.name.clone(), SizeBytes(volume.size_bytes).to_string(), volume.serial.clone()]);
    }
    table
}

fn shown(volume: &VolumeShape) -> Table {
    let mut table = Table::of_values();
    table.value("name", &volume.name);
    table.value("id", &volume.id);
    table.value("size", SizeBytes(volume.size_bytes));
    table.value("serial", &volume.serial);
    table
}
