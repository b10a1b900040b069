//! Noise, other protocols, silence and slowness on every port of a stretched pod under load: hosts go on, management
//! answers, and the mediator still decides.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use metropod_e2e::{
    Array, Load, LoadOptions, Oracle, Pair, PairOptions, SECTOR_BYTES, Scratch, Strangers, Target,
    WITNESS_BYTES, Witness, http, scratch, setting, wait_until,
};

const VOLUME: &str = "pod1::vol1";
const VOLUME_BYTES: u64 = 32 << 20;
/// Where the witness leaves zeroes.
const UNTOUCHED: u64 = WITNESS_BYTES - 512;
const SECTORS: u64 = VOLUME_BYTES / SECTOR_BYTES as u64;
/// Longest pause of a host while strangers are about; the machine has them to serve as well.
const PAUSE_MAX: Duration = Duration::from_secs(3);
/// Connections per port that say nothing: more than may be opening at once on a link's port.
const SILENT: usize = 40;
/// More connections than any front end takes.
const CROWD: usize = 300;
/// Silent connections are closed within ten seconds.
const CROWD_GONE: Duration = Duration::from_secs(20);

fn host(array: &Array, sectors: std::ops::Range<u64>) -> LoadOptions {
    LoadOptions {
        target: Target { address: array.options().nbd, volume: VOLUME.to_owned() },
        seed: sectors.start,
        sectors,
        depth: 4,
        sectors_max: 32,
        zeroes: false,
    }
}

fn pair(scratch: &Scratch) -> Pair {
    let options = PairOptions { volumes: vec!["vol1"], volume_bytes: VOLUME_BYTES, proxied: false };
    Pair::start(scratch.path(), &options)
}

/// The time under strangers: `METROPOD_STRANGERS_S`.
#[test]
fn strangers_on_every_port_disturb_nobody() {
    let scratch = scratch!("strangers");
    let mut pair = pair(&scratch);
    let oracle = Arc::new(Oracle::new(VOLUME_BYTES));
    let at_a = Load::start(&oracle, host(&pair.a, 0..SECTORS / 2));
    let at_b = Load::start(&oracle, host(&pair.b, SECTORS / 2..SECTORS));
    for load in [&at_a, &at_b] {
        load.wait_for(50, Duration::from_secs(20));
    }
    let (a, b) = (pair.a.options().clone(), pair.b.options().clone());
    let ports = [a.listen, a.api, a.nbd, b.listen, b.api, b.nbd, pair.mediator.address()];
    let begin = Instant::now();
    let strangers: Vec<Strangers> =
        (1..).zip(ports).map(|(seed, port)| Strangers::start(port, SILENT, seed)).collect();
    let seconds = setting("METROPOD_STRANGERS_S", 6);
    while begin.elapsed() < Duration::from_secs(seconds) {
        for array in [&pair.a, &pair.b] {
            let answer = http(array.options().api, "GET", "/healthz", "");
            assert_eq!(answer.status, 200, "{answer:?}");
            let pod = array.cli(&["pod", "show", "pod1"]);
            assert_eq!(pod["arrays"][0]["status"], "online", "{pod}");
            assert_eq!(pod["arrays"][1]["status"], "online", "{pod}");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let end = Instant::now();
    for (load, name) in [(&at_a, "A"), (&at_b, "B")] {
        let pause = load.pause(begin, end);
        println!("{name}: {} writes, longest pause {pause:?}", load.completed(begin, end));
        assert!(pause <= PAUSE_MAX, "hosts at {name} waited {pause:?}");
        assert_eq!(load.errors(begin, end), Vec::<String>::new(), "at {name}");
    }
    // The mediator decides in their presence.
    pair.a.kill9();
    at_b.wait_for(20, Duration::from_secs(10));
    for (port, strangers) in ports.iter().zip(&strangers) {
        assert!(strangers.visits() > 10, "{} strangers came to {port}", strangers.visits());
    }
    drop(strangers);
    at_a.stop();
    pair.a.restart();
    pair.wait_online();
    at_b.stop();
    assert!(pair.mediator.is_up() && pair.a.is_up() && pair.b.is_up());
    for array in [&pair.a, &pair.b] {
        oracle.verify(&mut array.open(VOLUME), array.name());
        let log = std::fs::read_to_string(&array.options().log).unwrap();
        assert!(!log.contains("panicked"), "{log}");
    }
}

#[test]
fn a_crowd_of_silent_connections_is_gone_in_time_and_those_inside_go_on() {
    let scratch = scratch!("crowd");
    let mut array = Array::single("A", scratch.path());
    array.make_pod("pod1", &["vol1"], VOLUME_BYTES.max(WITNESS_BYTES));
    let witness = Witness::write(&array, VOLUME, 1);
    let mut inside = array.open(VOLUME);
    let (api, nbd, link) = (array.options().api, array.options().nbd, array.options().listen);
    let crowd: Vec<TcpStream> = [api, nbd, link].into_iter().flat_map(gather).collect();
    let begin = Instant::now();
    wait_until("the API answers again", CROWD_GONE, || {
        inside.write(UNTOUCHED, &[0; 512]).unwrap();
        inside.read(0, &mut [0; 512]).unwrap();
        answers(api)
    });
    println!("the API answers after {:?}", begin.elapsed());
    wait_until("NBD takes a host again", CROWD_GONE, || {
        inside.read(0, &mut [0; 512]).unwrap();
        metropod_e2e::NbdClient::open(nbd, VOLUME).map(drop).map_err(|error| error.to_string())
    });
    println!("NBD takes a host after {:?}", begin.elapsed());
    drop(crowd);
    witness.check(&array);
    assert!(array.is_up());
    array.kill9();
    array.restart();
    witness.check(&array);
}

fn gather(address: SocketAddr) -> Vec<TcpStream> {
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(500)).ok();
    (0..CROWD).filter_map(|_| connect()).collect()
}

fn answers(api: SocketAddr) -> Result<(), String> {
    let url = format!("http://{api}");
    let shown = metropod_e2e::metropod(&["array", "show", "--json", "--api", &url]);
    shown.map(drop).map_err(|refusal| refusal.said)
}
