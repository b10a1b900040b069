//! Two arrays and a mediator in one process, over real sockets and disks.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use metropod::mediator::{MediatorConfig, MediatorServer};
use metropod::{Array, Options, SideStatus};

struct Site {
    _home: tempfile::TempDir,
    mediator: MediatorServer,
    a: Array,
    b: Array,
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn open(home: &std::path::Path, name: &str, mediator: &MediatorServer) -> Array {
    let options = Options {
        journal_bytes: 128 << 20,
        mediator: Some(mediator.address()),
        ..Options::new(name, home.join(name))
    };
    Array::open(options).unwrap()
}

fn mediate(home: &std::path::Path, listen: std::net::SocketAddr) -> MediatorServer {
    metropod::mediator::serve(MediatorConfig { listen, ..MediatorConfig::new(&home.join("M")) }).unwrap()
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what} takes too long");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Both serve, and the right to go on alone is at the mediator.
fn all_online(array: &Array) -> bool {
    array.pod("pod1").is_some_and(|pod| {
        pod.arrays.len() == 2
            && pod.arrays.iter().all(|side| side.status == SideStatus::Online && !side.pre_elected)
    })
}

async fn stretched() -> Site {
    let home = home();
    let mediator = mediate(home.path(), "127.0.0.1:0".parse().unwrap());
    let (a, b) = (open(home.path(), "A", &mediator), open(home.path(), "B", &mediator));
    let key = a.connection_key().unwrap();
    assert_eq!(b.connect(a.address(), &key).unwrap(), "A");
    until("connecting", || a.connections().iter().any(|c| c.sync_up && c.bulk_up)).await;
    a.create_pod("pod1").await.unwrap();
    let volume = a.create_volume("pod1::vol1", 16 << 20).await.unwrap();
    volume.write(0, Bytes::from(vec![1; 1 << 20])).await.unwrap();
    a.stretch("pod1", "B").await.unwrap();
    until("stretching", || all_online(&a) && all_online(&b)).await;
    Site { _home: home, mediator, a, b }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stretched_pod_shows_each_sides_writes_at_the_other() {
    let mut site = stretched().await;
    let (at_a, at_b) = (site.a.volume("pod1::vol1").unwrap(), site.b.volume("pod1::vol1").unwrap());
    assert_eq!(at_b.read(0, 1 << 20).await.unwrap(), vec![1; 1 << 20], "the baseline arrived");
    for round in 0..50u8 {
        at_a.write(8192, Bytes::from(vec![round; 4096])).await.unwrap();
        assert_eq!(at_b.read(8192, 4096).await.unwrap(), vec![round; 4096]);
        at_b.write(12800, Bytes::from(vec![round ^ 0xff; 512])).await.unwrap();
        assert_eq!(at_a.read(12800, 512).await.unwrap(), vec![round ^ 0xff; 512]);
    }
    at_b.write_zeroes(8192, 4096).await.unwrap();
    assert_eq!(at_a.read(8192, 4096).await.unwrap(), vec![0; 4096]);
    let names = site.b.create_snapshot("pod1", Some("s1")).await.unwrap();
    assert_eq!(names, ["pod1::vol1.s1"]);
    until("the snapshot at A", || site.a.snapshots().iter().any(|s| s.name == "pod1::vol1.s1")).await;
    site.a.close();
    site.b.close();
    site.mediator.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_survivor_goes_on_and_the_lost_array_comes_back_level() {
    let mut site = stretched().await;
    let at_b = site.b.volume("pod1::vol1").unwrap();
    at_b.write(0, Bytes::from(vec![2; 65536])).await.unwrap();
    site.a.close();
    drop(site.a);
    let began = Instant::now();
    at_b.write(65536, Bytes::from(vec![3; 65536])).await.unwrap();
    println!("the write went on after {:?}", began.elapsed());
    for block in 0..256u64 {
        at_b.write((4 << 20) + block * 4096, Bytes::from(vec![block as u8; 4096])).await.unwrap();
    }
    let home = site._home.path().to_owned();
    let a = open(&home, "A", &site.mediator);
    until("rejoining", || all_online(&a) && all_online(&site.b)).await;
    let at_a = a.volume("pod1::vol1").unwrap();
    let (one, other) = (at_a.read(0, 16 << 20).await.unwrap(), at_b.read(0, 16 << 20).await.unwrap());
    assert!(one == other, "both sides are equal");
    assert_eq!(one[65536], 3);
    at_a.write(0, Bytes::from(vec![9; 4096])).await.unwrap();
    assert_eq!(at_b.read(0, 4096).await.unwrap(), vec![9; 4096]);
    a.close();
    site.b.close();
    site.mediator.stop();
}

/// F07, F21, F22: both lose the mediator, then one array is lost.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_mediator_the_pre_elected_array_goes_on_and_the_other_does_not() {
    let mut site = stretched().await;
    let address = site.mediator.address();
    site.mediator.stop();
    let holder = |array: &Array| {
        let pod = array.pod("pod1").unwrap();
        pod.arrays.iter().find(|side| side.pre_elected).map(|side| side.name.clone())
    };
    let began = Instant::now();
    until("pre-election", || holder(&site.a).is_some() && holder(&site.a) == holder(&site.b)).await;
    println!("pre-elected after {:?}", began.elapsed());
    let (stays, goes) = match holder(&site.a).as_deref() {
        Some("A") => (&site.a, &mut site.b),
        _ => (&site.b, &mut site.a),
    };
    let volume = stays.volume("pod1::vol1").unwrap();
    let name =
        goes.pod("pod1").map(|_| if holder(stays).as_deref() == Some("A") { "B" } else { "A" }).unwrap();
    goes.close();
    let began = Instant::now();
    volume.write(65536, Bytes::from(vec![3; 65536])).await.unwrap();
    println!("the write went on after {:?}", began.elapsed());
    let volume = stays.volume("pod1::vol1").unwrap();
    assert!(volume.write(0, Bytes::from(vec![4; 4096])).await.is_err());
    *goes = open(&home, name, &site.mediator);
    until("both online", || {
        let online = |array: &Array| {
            array.pod("pod1").unwrap().arrays.iter().all(|side| side.status == SideStatus::Online)
        };
        online(stays) && online(goes)
    })
    .await;
    site.a.close();
    site.b.close();
}
