//! Two arrays, a mediator and a stretched pod on a [`Network`].

use std::path::Path;
use std::time::{Duration, Instant};

use metropod_e2e::{Array, ArrayOptions, Mediator, Target, wait_until};
use serde_json::Value;

use crate::Side;
use crate::network::Network;

/// The pod's name.
const POD: &str = "pod1";
/// The volume's export name.
const VOLUME: &str = "pod1::vol1";
/// Size of the volume: the smallest.
pub const VOLUME_BYTES: u64 = 1 << 20;
/// Longest time from the last fault's end until both arrays are online and the right is at the mediator.
const WHOLE_TIME_MAX: Duration = Duration::from_secs(90);
/// Longest time until the arrays know each other.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(30);
/// Pause between two looks at the pod.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Everything that runs.
#[derive(Debug)]
pub struct Stage {
    /// Between them.
    pub network: Network,
    /// The mediator.
    pub mediator: Mediator,
    arrays: [Array; 2],
}

impl Stage {
    /// Starts everything in `base`; gives it with the pod online on both arrays.
    pub fn start(base: &Path, network: Network) -> Stage {
        let addresses = network.addresses();
        let mediator = Mediator::start_at(base, addresses.mediator, network.namespace_of_mediator());
        let arrays = Side::BOTH.map(|side| {
            let at = side as usize;
            Array::start(ArrayOptions {
                listen: addresses.listen[at],
                advertise: Some(addresses.advertise[at]),
                api: addresses.api[at],
                nbd: addresses.nbd[at],
                mediator: Some(addresses.mediator_of[at]),
                namespace: network.namespace_of(side),
                ..ArrayOptions::new(side.name(), base)
            })
        });
        let stage = Stage { network, mediator, arrays };
        stage.stretch(addresses.advertise[Side::B as usize].to_string());
        stage
    }

    /// An array.
    pub fn array(&mut self, side: Side) -> &mut Array {
        &mut self.arrays[side as usize]
    }

    /// Where hosts of a side find the volume.
    pub fn target(&self, side: Side) -> Target {
        Target { address: self.arrays[side as usize].options().nbd, volume: VOLUME.to_owned() }
    }

    /// Waits until both arrays say that both are online and the right is at the mediator: how long it took, or what
    /// they say instead.
    pub fn wait_whole(&self) -> Result<Duration, String> {
        let begin = Instant::now();
        loop {
            if self.arrays.iter().all(is_whole) {
                return Ok(begin.elapsed());
            }
            if begin.elapsed() > WHOLE_TIME_MAX {
                let said = self.arrays.each_ref().map(|array| (array.name(), explain(array)));
                return Err(format!(
                    "not online {} s after the last fault: {said:?}",
                    WHOLE_TIME_MAX.as_secs()
                ));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// What an array says of itself.
    pub fn status(&self, side: Side) -> Result<String, String> {
        let pod = self.show(side)?;
        pod["arrays"][0]["status"].as_str().map(str::to_owned).ok_or_else(|| pod.to_string())
    }

    /// Who is pre-elected, by an array's word.
    pub fn pre_elected(&self, side: Side) -> Option<Side> {
        self.side_with(side, "pre_elected").ok().flatten()
    }

    /// Who orders.
    pub fn sequencer(&self) -> Result<Side, String> {
        self.side_with(Side::A, "sequencer")?.ok_or_else(|| "nobody orders".to_owned())
    }

    fn side_with(&self, side: Side, property: &str) -> Result<Option<Side>, String> {
        let pod = self.show(side)?;
        let mut sides = pod["arrays"].as_array().into_iter().flatten();
        let found = sides.find(|of| of[property] == true).and_then(|of| of["name"].as_str());
        Ok(found.and_then(|name| Side::BOTH.into_iter().find(|side| side.name() == name)))
    }

    fn show(&self, side: Side) -> Result<Value, String> {
        self.arrays[side as usize].try_cli(&["pod", "show", POD]).map_err(|refusal| refusal.said)
    }

    /// Which array goes on when both could; `None`: whichever is first.
    pub fn prefer(&self, side: Option<Side>) -> Result<(), String> {
        let verb = ["pod", "set", POD, "--failover-preference", side.map_or("", Side::name)];
        self.arrays[0].try_cli(&verb).map(drop).map_err(|refusal| refusal.said)
    }

    fn stretch(&self, address_of_b: String) {
        let [a, b] = &self.arrays;
        let key = b.cli(&["array", "connection-key"]);
        let key = key["key"].as_str().expect("a connection key is text");
        a.cli(&["array", "connect", "--address", &address_of_b, "--key", key]);
        a.make_pod(POD, &["vol1"], VOLUME_BYTES);
        wait_until("the arrays connect", CONNECT_TIME_MAX, || {
            let connections = a.cli(&["array", "connections"]);
            let up = connections[0]["sync_up"] == true && connections[0]["bulk_up"] == true;
            if up { Ok(()) } else { Err(connections.to_string()) }
        });
        a.cli(&["pod", "stretch", POD, "--to", b.name()]);
        if let Err(said) = self.wait_whole() {
            panic!("the new pod: {said}");
        }
    }
}

fn is_whole(array: &Array) -> bool {
    let Ok(pod) = array.try_cli(&["pod", "show", POD]) else { return false };
    let Some(sides) = pod["arrays"].as_array() else { return false };
    sides.len() == 2 && sides.iter().all(|side| side["status"] == "online" && side["pre_elected"] == false)
}

fn explain(array: &Array) -> String {
    match array.try_cli(&["pod", "explain", POD]) {
        Ok(said) => Value::to_string(&said),
        Err(refusal) => refusal.said,
    }
}
