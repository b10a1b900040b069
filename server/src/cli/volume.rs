//! `metropod volume …`.

use crate::api::shapes::{DiffShape, SetVolumeRequest, VolumeShape};
use crate::client::rest::Client;

use super::arguments::{Group, VolumeVerb};
use super::output::{Failure, Output};
use super::pod::{destroyed, end};
use super::size::SizeBytes;
use super::space;
use super::table::Table;

pub(super) fn run(group: &Group<VolumeVerb>) -> Result<(), Failure> {
    let client = Client::new(&group.remote.api)?;
    let output = Output { json: group.remote.json };
    match &group.verb {
        VolumeVerb::Create { volume, size } => {
            let made = client.create_volume(volume, size.0)?;
            output.say(&made, &format!("made volume {} of {}", made.name, SizeBytes(made.size_bytes)))
        }
        VolumeVerb::List { space: false } => output.answer(&client.volumes()?, |volumes| listed(volumes)),
        VolumeVerb::List { space: true } => {
            output.answer(&client.volumes()?, |volumes| space::volumes(volumes))
        }
        VolumeVerb::Show { volume, measure: false } => output.answer(&client.volume(volume)?, shown),
        VolumeVerb::Show { volume, measure: true } => {
            output.answer(&client.measured_volume(volume)?, |volume| {
                let mut table = shown(volume);
                match volume.logical_bytes {
                    Some(bytes) => table.value("in use", SizeBytes(bytes)),
                    None => table.value("in use", "not measured in time"),
                }
                table
            })
        }
        VolumeVerb::Resize { volume, size, truncate } => {
            let request = SetVolumeRequest {
                size_bytes: Some(size.0),
                truncate: *truncate,
                ..SetVolumeRequest::default()
            };
            let shape = client.set_volume(volume, &request)?;
            output.say(&shape, &format!("volume {} has {}", shape.name, SizeBytes(shape.size_bytes)))
        }
        VolumeVerb::Copy { source, volume, overwrite } => {
            let shape = match overwrite {
                true => client.overwrite_volume(volume, source)?,
                false => client.copy_volume(source, volume)?,
            };
            output.say(&shape, &format!("volume {} holds what {source} held", shape.name))
        }
        VolumeVerb::Move { volume, pod } => {
            let shape = client.move_volume(volume, pod)?;
            output.say(&shape, &format!("volume {volume} is {} now", shape.name))
        }
        VolumeVerb::Diff { first, second } => output.answer(&client.diff(first, second)?, differing),
        VolumeVerb::Set { iops_limit: None, bandwidth_limit: None, .. } => {
            Err(Failure::new("nothing to set; give --iops-limit N or --bandwidth-limit SIZE"))
        }
        VolumeVerb::Set { volume, iops_limit, bandwidth_limit } => {
            let request = SetVolumeRequest {
                iops_limit: iops_limit.map(|limit| Some(limit).filter(|limit| *limit > 0)),
                bandwidth_limit_bytes_per_s: bandwidth_limit
                    .map(|limit| Some(limit.0).filter(|limit| *limit > 0)),
                ..SetVolumeRequest::default()
            };
            output.answer(&client.set_volume(volume, &request)?, shown)
        }
        VolumeVerb::Destroy { volume } => {
            let shape = client.destroy_volume(volume)?;
            output.say(&shape, &destroyed("volume", &shape.name, shape.eradicated_in_ms))
        }
        VolumeVerb::Recover { volume } => {
            let shape = client.recover_volume(volume)?;
            output.say(&shape, &format!("volume {} is in use again", shape.name))
        }
        VolumeVerb::Eradicate { volume } => {
            let shape = client.eradicate_volume(volume)?;
            output.say(&shape, &format!("volume {} is no more", shape.name))
        }
    }
}

fn differing(diff: &DiffShape) -> Table {
    let mut table = Table::new(["OFFSET", "LENGTH", "FIRST", "SECOND"]).when_empty("no difference");
    let word = |zero: bool| if zero { "zero" } else { "data" }.to_owned();
    for range in &diff.ranges {
        let (first, second) = (word(range.zero_in_first), word(range.zero_in_second));
        table.row([range.offset.to_string(), range.length.to_string(), first, second]);
    }
    if !diff.ranges.is_empty() {
        let all = if diff.truncated { "in all" } else { "" }.to_owned();
        table.row([all, diff.differing_bytes.to_string(), String::new(), String::new()]);
    }
    table
}

fn listed(volumes: &[VolumeShape]) -> Table {
    let mut table = Table::new(["NAME", "SIZE", "SERIAL", "STATE"])
        .when_empty("no volumes; make one with `metropod volume create POD::NAME --size SIZE`");
    for volume in volumes {
        table.row([
            volume.name.clone(),
            SizeBytes(volume.size_bytes).to_string(),
            volume.serial.clone(),
            state(volume),
        ]);
    }
    table
}

/// A cell that says whether it is out of use.
fn state(volume: &VolumeShape) -> String {
    match &volume.moving_to {
        Some(pod) => format!("moving to {pod}"),
        None => end(volume.destroyed, volume.eradicated_in_ms),
    }
}

fn shown(volume: &VolumeShape) -> Table {
    let mut table = Table::of_values();
    table.value("name", &volume.name);
    table.value("id", &volume.id);
    table.value("size", SizeBytes(volume.size_bytes));
    table.value("serial", &volume.serial);
    if let Some(limit) = volume.iops_limit {
        table.value("limit", format_args!("{limit} requests/s at each array"));
    }
    if let Some(limit) = volume.bandwidth_limit_bytes_per_s {
        table.value("limit", format_args!("{}/s at each array", SizeBytes(limit)));
    }
    space::add_volume(&mut table, volume);
    if volume.destroyed {
        table.value("destroyed", end(true, volume.eradicated_in_ms));
    }
    if let Some(pod) = &volume.moving_to {
        table.value("moving to", pod);
    }
    table
}
