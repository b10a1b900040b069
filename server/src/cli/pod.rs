//! `metropod pod …`.

use std::time::Duration;

use crate::api::shapes::{PodShape, PodSideShape, SetPodRequest};
use crate::client::rest::Client;

use super::arguments::{Group, PodVerb};
use super::outlook;
use super::output::{Failure, Output};
use super::progress::{Bar, duration};
use super::size::SizeBytes;
use super::space;
use super::span::SpanMs;
use super::table::Table;

/// Pause between two looks at a pod that is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long a switch of the array that orders is waited for.
const ORDERS_WITHIN: Duration = Duration::from_secs(10);

/// How long an array may fail to answer while it is waited for.
const SILENCE_MAX: Duration = Duration::from_secs(60);

pub(super) fn run(group: &Group<PodVerb>) -> Result<(), Failure> {
    let client = Client::new(&group.remote.api)?;
    let output = Output { json: group.remote.json };
    match &group.verb {
        PodVerb::Create { pod } => {
            let made = client.create_pod(pod)?;
            output.say(&made, &format!("made pod {}", made.name))
        }
        PodVerb::List => output.answer(&client.pods()?, |pods| listed(pods)),
        PodVerb::Show { pod } => output.answer(&client.pod(pod)?, shown),
        PodVerb::Forecast { pod } => output.answer(&client.forecast(pod)?, outlook::forecast),
        PodVerb::Explain { pod } => output.answer(&client.explain(pod)?, outlook::explanation),
        PodVerb::Stretch { pod, to, wait } => {
            let mut shape = client.stretch(pod, to)?;
            if *wait {
                shape = wait_online(&client, pod)?;
                output.say(&shape, &format!("pod {} is online at both arrays", shape.name))
            } else {
                let said =
                    format!("pod {} is being stretched to {to}; see `metropod pod show {pod}`", shape.name);
                output.say(&shape, &said)
            }
        }
        PodVerb::Switch { pod, to, wait } => {
            let mut shape = client.switch(pod, to)?;
            if *wait {
                shape = wait_ordering(&client, pod, to)?;
                output.say(&shape, &format!("{to} orders the writes of pod {}", shape.name))
            } else {
                let said = format!("{to} is to order the writes of pod {}", shape.name);
                output.say(&shape, &said)
            }
        }
        PodVerb::Unstretch { pod, from, with_unknown, wait } => {
            let shape = client.unstretch(pod, from, *with_unknown)?;
            if *wait {
                let left = wait_left(&client, pod)?;
                let said = match &left {
                    Some(_) => format!("pod {} is held without {from}", shape.name),
                    None => format!("pod {} is held by this array no more", shape.name),
                };
                output.say(&left.unwrap_or(shape), &said)
            } else {
                let said = format!("{from} leaves pod {}; see `metropod pod list`", shape.name);
                output.say(&shape, &said)
            }
        }
        PodVerb::Set { mediator: Some(_), .. } => Err(Failure::new(
            "a pod has the mediator of its arrays; start both arrays with another --mediator: the right goes there by \
             itself, pre-electing one array in between",
        )),
        PodVerb::Set { pod, failover_preference, quota, eradication_delay, mediator: None } => {
            let name = |array: &String| Some(array.clone()).filter(|array| !array.is_empty());
            let request = SetPodRequest {
                failover_preference: failover_preference.as_ref().map(name),
                quota_bytes: quota.map(|quota| Some(quota.0).filter(|bytes| *bytes > 0)),
                eradication_delay_ms: eradication_delay.map(|delay| delay.0),
            };
            if request == SetPodRequest::default() {
                return Err(Failure::new(
                    "nothing to set; give --failover-preference ARRAY, --quota SIZE or --eradication-delay SPAN",
                ));
            }
            output.answer(&client.set_pod(pod, &request)?, shown)
        }
        PodVerb::Destroy { pod, contents } => {
            let shape = client.destroy_pod(pod, *contents)?;
            output.say(&shape, &destroyed("pod", &shape.name, shape.eradicated_in_ms))
        }
        PodVerb::Recover { pod } => {
            let shape = client.recover_pod(pod)?;
            output.say(&shape, &format!("pod {} is in use again", shape.name))
        }
        PodVerb::Eradicate { pod, contents } => {
            let shape = client.eradicate_pod(pod, *contents)?;
            output.say(&shape, &format!("pod {} is no more", shape.name))
        }
    }
}

/// What is said of something that was destroyed.
pub(super) fn destroyed(kind: &str, name: &str, eradicated_in_ms: Option<u64>) -> String {
    match eradicated_in_ms {
        Some(ms) => {
            format!("{kind} {name} is destroyed; `metropod {kind} recover {name}` works for {}", SpanMs(ms))
        }
        None => format!("{kind} {name} is destroyed"),
    }
}

/// A cell that says whether and when something is eradicated.
pub(super) fn end(destroyed: bool, eradicated_in_ms: Option<u64>) -> String {
    match (destroyed, eradicated_in_ms) {
        (true, Some(ms)) => format!("eradicated in {}", SpanMs(ms)),
        (true, None) => "destroyed".to_owned(),
        (false, _) => String::new(),
    }
}

/// Waits until an array orders, which is a matter of milliseconds unless something is lost meanwhile.
fn wait_ordering(client: &Client, pod: &str, to: &str) -> Result<PodShape, Failure> {
    let mut waited = Duration::ZERO;
    loop {
        let shape = client.pod(pod)?;
        if shape.arrays.iter().any(|side| side.sequencer && side.name.eq_ignore_ascii_case(to)) {
            return Ok(shape);
        }
        if waited >= ORDERS_WITHIN {
            return Err(Failure::new(format!(
                "{to} does not order yet: something was lost meanwhile, or its disk does not keep up; see `metropod pod explain \
                 {pod}` and try again"
            )));
        }
        std::thread::sleep(LOOK_AGAIN);
        waited += LOOK_AGAIN;
    }
}

/// Waits until a pod has one row, or is not here any more.
fn wait_left(client: &Client, pod: &str) -> Result<Option<PodShape>, Failure> {
    let mut silent = Duration::ZERO;
    loop {
        match client.pods() {
            Ok(pods) => match pods.into_iter().find(|shape| shape.name.eq_ignore_ascii_case(pod)) {
                None => return Ok(None),
                Some(shape) if shape.arrays.len() == 1 => return Ok(Some(shape)),
                Some(_) => silent = Duration::ZERO,
            },
            Err(error) if silent >= SILENCE_MAX => return Err(error.into()),
            Err(_) => silent += LOOK_AGAIN,
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Waits until both rows of a pod are online.
fn wait_online(client: &Client, pod: &str) -> Result<PodShape, Failure> {
    let mut bar = Bar::new();
    let mut silent = Duration::ZERO;
    loop {
        match client.pod(pod) {
            Ok(shape) if shape.is_online_on_both() => return Ok(shape),
            Ok(shape) => {
                silent = Duration::ZERO;
                draw(&mut bar, &shape);
            }
            Err(error) if silent >= SILENCE_MAX => return Err(error.into()),
            Err(_) => silent += LOOK_AGAIN,
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn draw(bar: &mut Bar, pod: &PodShape) {
    let Some(side) = pod.arrays.iter().find(|side| side.status != "online") else { return };
    let label = format!("{} {} at {}", pod.name, side.status, side.name);
    bar.draw(&label, side.progress.unwrap_or(0.0), &rest(side));
}

/// What is known about a resync besides its share.
fn rest(side: &PodSideShape) -> String {
    let Some(resync) = side.resync else { return String::new() };
    let eta = resync
        .eta_ms
        .map_or_else(|| "unknown".to_owned(), |milliseconds| duration(Duration::from_millis(milliseconds)));
    format!(
        "{}/s, left {eta}, wire {}, saved {}",
        SizeBytes(resync.rate_bytes_per_s),
        SizeBytes(resync.bytes_wire),
        SizeBytes(resync.bytes_saved)
    )
}

fn listed(pods: &[PodShape]) -> Table {
    let mut table = Table::new([
        "NAME",
        "ARRAY",
        "STATUS",
        "SEQUENCER",
        "MEDIATOR",
        "PREFERS",
        "VOLUMES",
        "SIZE",
        "DESTROYED",
    ])
    .when_empty("no pods; make one with `metropod pod create NAME`");
    for pod in pods {
        for side in &pod.arrays {
            table.row([
                pod.name.clone(),
                side.name.clone(),
                status(side),
                if side.sequencer { "yes".to_owned() } else { String::new() },
                side.mediator_status.clone(),
                pod.failover_preference.clone().unwrap_or_default(),
                pod.volumes.to_string(),
                SizeBytes(pod.size_bytes).to_string(),
                end(pod.destroyed, pod.eradicated_in_ms),
            ]);
        }
    }
    table
}

fn shown(pod: &PodShape) -> Table {
    let mut table = Table::of_values();
    table.value("name", &pod.name);
    table.value("id", &pod.id);
    table.value("epoch", format_args!("{}.{}", pod.epoch.era, pod.epoch.number));
    table.value("prefers", pod.failover_preference.as_deref().unwrap_or("no array"));
    table.value("volumes", pod.volumes);
    table.value("size", SizeBytes(pod.size_bytes));
    match pod.quota_bytes {
        Some(quota) => {
            let (used, quota) = (SizeBytes(pod.provisioned_bytes), SizeBytes(quota));
            table.value("quota", format_args!("{used} of {quota}"));
        }
        None => table.value("quota", "none"),
    }
    table.value("eradication delay", SpanMs(pod.eradication_delay_ms));
    space::add_pod(&mut table, pod.space.as_ref());
    if pod.destroyed {
        table.value("destroyed", end(true, pod.eradicated_in_ms));
    }
    for side in &pod.arrays {
        let mut words = vec![status(side)];
        words.extend(side.sequencer.then(|| "sequencer".to_owned()));
        words.extend(side.pre_elected.then(|| "pre-elected".to_owned()));
        words.extend(side.leaving.then(|| "leaving".to_owned()));
        words.push(format!("mediator {}", side.mediator_status));
        words.extend(Some(rest(side)).filter(|rest| !rest.is_empty()));
        table.value(&format!("array {}", side.name), words.join(", "));
    }
    table
}

fn status(side: &PodSideShape) -> String {
    match side.progress {
        Some(share) => format!("{} {:.0} %", side.status, share * 100.0),
        None => side.status.clone(),
    }
}
