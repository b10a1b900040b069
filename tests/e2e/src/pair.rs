//! Two arrays and a mediator with a stretched pod.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::array::{Array, ArrayOptions, Mediator};
use crate::proxy::{Proxy, Valve};
use crate::tools::run_ok;
use crate::wait::wait_until;

/// The pod's name.
pub const POD: &str = "pod1";

/// Longest wait for a baseline or resync, and for the right's way back to the mediator.
const ONLINE_TIME_MAX: Duration = Duration::from_secs(120);

/// What is set up.
#[derive(Debug, Clone)]
pub struct PairOptions {
    /// Names of the pod's volumes, without the pod's.
    pub volumes: Vec<&'static str>,
    /// Size of each, in bytes.
    pub volume_bytes: u64,
    /// Whether the link between the arrays goes through a proxy that can stall.
    pub proxied: bool,
}

/// Arrays A (the sequencer, at first) and B, and their mediator.
#[derive(Debug)]
pub struct Pair {
    /// The first array.
    pub a: Array,
    /// The second array.
    pub b: Array,
    /// The mediator.
    pub mediator: Mediator,
    /// Stalls the link if it is proxied.
    pub valve: Valve,
}

impl Pair {
    /// Starts everything; gives it with the pod online on both arrays.
    pub fn start(base: &Path, options: &PairOptions) -> Pair {
        let pair = Pair::start_unstretched(base, options);
        pair.stretch();
        pair
    }

    /// Starts everything; the pod is at A only, both arrays are connected.
    pub fn start_unstretched(base: &Path, options: &PairOptions) -> Pair {
        let mediator = Mediator::start(base);
        let valve = Valve::default();
        let [a, b] = ["A", "B"].map(|name| {
            let mut array = ArrayOptions::new(name, base);
            array.mediator = Some(mediator.address());
            if options.proxied {
                array.advertise = Some(Proxy::start(&valve, array.listen).address());
            }
            Array::start(array)
        });
        let key = b.cli(&["array", "connection-key"]);
        let key = key["key"].as_str().expect("a connection key is text");
        let address = b.options().advertise.unwrap_or(b.options().listen).to_string();
        a.cli(&["array", "connect", "--address", &address, "--key", key]);
        a.make_pod(POD, &options.volumes, options.volume_bytes);
        Pair { a, b, mediator, valve }
    }

    /// Stretches the pod to B, and waits until it is online.
    pub fn stretch(&self) {
        wait_until("the arrays connect", Duration::from_secs(15), || {
            let connections = self.a.cli(&["array", "connections"]);
            let up = connections[0]["sync_up"] == true && connections[0]["bulk_up"] == true;
            if up { Ok(()) } else { Err(connections.to_string()) }
        });
        self.a.cli(&["pod", "stretch", POD, "--to", "B"]);
        self.wait_online();
    }

    /// Waits until each array says that both are online and that the right is at the mediator.
    pub fn wait_online(&self) {
        wait_until("the pod is online on both arrays", ONLINE_TIME_MAX, || {
            let seen = [&self.a, &self.b].map(pod);
            let ready = seen.iter().all(|pod| pod.as_ref().is_ok_and(is_whole));
            if ready { Ok(()) } else { Err(format!("{seen:?}")) }
        });
    }

    /// Waits until `array` says that it is itself in state `status`.
    pub fn wait_status(array: &Array, status: &str, within: Duration) {
        wait_until(&format!("{} becomes {status}", array.name()), within, || {
            let pod = pod(array)?;
            if pod["arrays"][0]["status"] == status { Ok(()) } else { Err(pod.to_string()) }
        });
    }

    /// Which array goes on when both could.
    pub fn prefer(&self, array: &str) {
        self.a.cli(&["pod", "set", POD, "--failover-preference", array]);
        wait_until("the preference is known at both", Duration::from_secs(10), || {
            let seen = [&self.a, &self.b].map(pod);
            let known =
                seen.iter().all(|pod| pod.as_ref().is_ok_and(|pod| pod["failover_preference"] == array));
            if known { Ok(()) } else { Err(format!("{seen:?}")) }
        });
    }

    /// Both arrays serve the same bytes, says qemu-img.
    pub fn compare(&self, volume: &str) {
        let [a, b] = [&self.a, &self.b].map(|array| array.uri(&format!("{POD}::{volume}")));
        run_ok("qemu-img", &["compare", "-f", "raw", "-F", "raw", &a, &b]);
    }

    /// Cuts or heals the link: nothing passes, nothing is closed.
    pub fn cut(&self, cut: bool) {
        self.valve.stall(cut);
    }
}

fn pod(array: &Array) -> Result<Value, String> {
    array.try_cli(&["pod", "show", POD]).map_err(|refusal| format!("{refusal:?}"))
}

fn is_whole(pod: &Value) -> bool {
    let Some(sides) = pod["arrays"].as_array() else { return false };
    sides.len() == 2 && sides.iter().all(|side| side["status"] == "online" && side["pre_elected"] == false)
}
