//! Two arrays and a mediator in one process, over real sockets and disks.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use metropod::mediator::{MediatorConfig, MediatorServer};
use metropod::{Array, Lost, Options, SideStatus};

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

/// Content without a pattern, so that it is stored as it is.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut word = seed;
    let next = |_| {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word as u8
    };
    (0..length).map(next).collect()
}

/// Where each block of `content` lies in the segment files below `home`, of those that are destaged.
fn places(home: &std::path::Path, content: &[u8]) -> Vec<(std::path::PathBuf, usize, u8)> {
    let mut found = Vec::new();
    for segment in std::fs::read_dir(home.join("segments")).unwrap() {
        let path = segment.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        for block in content.chunks(4096) {
            let place = bytes.windows(64).position(|window| window == &block[1000..1064]);
            found.extend(place.map(|at| (path.clone(), at, bytes[at])));
        }
    }
    found
}

/// Waits until all of `content` is destaged to segment files below `home`, and flips a bit of each block.
async fn rot(home: &std::path::Path, content: &[u8]) {
    use std::os::unix::fs::FileExt;
    until("destaging", || places(home, content).len() == content.len() / 4096).await;
    for (path, at, byte) in places(home, content) {
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&[byte ^ 1], at as u64).unwrap();
    }
}

async fn scrubbed(array: &Array) -> metropod::ScrubStatus {
    let finished = array.scrub().finished;
    array.scrub_start().await.unwrap();
    until("scrubbing", || array.scrub().finished > finished).await;
    array.scrub()
}

/// F16.
#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_rot_at_one_array_are_repaired_from_the_other_while_it_serves() {
    let mut site = stretched().await;
    let home = site._home.path().to_owned();
    let content = noise(7, 64 * 4096);
    site.b.volume("pod1::vol1").unwrap().write(4 << 20, Bytes::from(content.clone())).await.unwrap();
    site.a.close();
    drop(site.a);
    let a = open(&home, "A", &site.mediator);
    until("rejoining", || all_online(&a) && all_online(&site.b)).await;
    let at_a = a.volume("pod1::vol1").unwrap();
    // What a scrub meets first.
    rot(&home.join("A"), &content[..2 * 4096]).await;
    let found = scrubbed(&a).await;
    assert_eq!((found.findings, found.chunks_found, found.chunks_repaired), (2, 2, 2), "{found:?}");
    assert!(found.listed.iter().all(|finding| finding.repaired), "{found:?}");
    // What a host meets first, in one long read and in a short one.
    rot(&home.join("A"), &content[8 * 4096..]).await;
    assert!(at_a.read((4 << 20) + 8 * 4096, 512).await.unwrap() == content[8 * 4096..8 * 4096 + 512]);
    assert!(at_a.read(4 << 20, 64 * 4096).await.unwrap() == content);
    let repaired = a.scrub();
    assert_eq!((repaired.chunks_repaired, repaired.chunks_not_repairable), (58, 0), "{repaired:?}");
    assert!(a.alarms().iter().any(|alarm| alarm.contains("is repaired from the other")), "{:?}", a.alarms());
    // The good copies are where the others were once a checkpoint has written them, a second later; until then nothing is
    // fetched twice.
    let began = Instant::now();
    let mut sound = scrubbed(&a).await;
    while sound.findings > 0 && began.elapsed() < Duration::from_secs(20) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        sound = scrubbed(&a).await;
    }
    assert_eq!((sound.findings, sound.chunks_repaired), (0, 58), "{sound:?}");
    a.close();
    drop(a);
    // The good copies outlive a restart, without the other array.
    site.b.close();
    let a = open(&home, "A", &site.mediator);
    assert_eq!(scrubbed(&a).await.findings, 0);
    a.close();
    site.mediator.stop();
}

/// F16, at both.
#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_rotted_at_both_arrays_is_an_error_within_a_bounded_time_and_never_wrong_bytes() {
    let mut site = stretched().await;
    let home = site._home.path().to_owned();
    let content = noise(9, 4096);
    site.b.volume("pod1::vol1").unwrap().write(4 << 20, Bytes::from(content.clone())).await.unwrap();
    site.a.close();
    drop(site.a);
    let a = open(&home, "A", &site.mediator);
    until("rejoining", || all_online(&a) && all_online(&site.b)).await;
    site.b.close();
    drop(site.b);
    let b = open(&home, "B", &site.mediator);
    until("rejoining", || all_online(&a) && all_online(&b)).await;
    rot(&home.join("A"), &content).await;
    rot(&home.join("B"), &content).await;
    for array in [&a, &b] {
        let volume = array.volume("pod1::vol1").unwrap();
        let mut began = Instant::now();
        let mut read = volume.read(4 << 20, 4096).await;
        // Reads are answered from memory until the destage has ended.
        let destaged = began + Duration::from_secs(10);
        while let Ok(right) = &read {
            assert!(*right == content && Instant::now() < destaged);
            began = Instant::now();
            read = volume.read(4 << 20, 4096).await;
        }
        assert_eq!(read, Err(metropod::IoError::Unreadable));
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        let scrub = array.scrub();
        assert_eq!((scrub.chunks_repaired, scrub.chunks_not_repairable), (0, 1), "{scrub:?}");
    }
    a.close();
    b.close();
    site.mediator.stop();
}

/// Who is pre-elected, by this array's word.
fn holder(array: &Array) -> Option<String> {
    let pod = array.pod("pod1")?;
    pod.arrays.iter().find(|side| side.pre_elected).map(|side| side.name.clone())
}

/// A pod whose arrays have lost the mediator; the pre-elected array and the other with its name.
async fn pre_elected(site: &mut Site) -> (&Array, &mut Array, &'static str) {
    site.mediator.stop();
    let began = Instant::now();
    // Held by the log of both and known to both: then it can be told who goes on.
    let told = |array: &Array| {
        let lines = array.forecast("pod1").unwrap_or_default();
        holder(array).is_some() && lines.iter().all(|line| line.online.is_some())
    };
    until("pre-election", || told(&site.a) && told(&site.b)).await;
    println!("pre-elected after {:?}", began.elapsed());
    match holder(&site.a).as_deref() {
        Some("A") => (&site.a, &mut site.b, "B"),
        _ => (&site.b, &mut site.a, "A"),
    }
}

/// Who goes on by an array's forecast if `lost` is.
fn forecast(array: &Array, lost: &Lost) -> Vec<String> {
    let lines = array.forecast("pod1").unwrap();
    let line = lines.into_iter().find(|line| line.lost == *lost).unwrap();
    println!("{line:?}");
    line.online.unwrap()
}

/// F07, F21.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_mediator_the_pre_elected_array_goes_on() {
    let mut site = stretched().await;
    let (home, address) = (site._home.path().to_owned(), site.mediator.address());
    let (stays, goes, name) = pre_elected(&mut site).await;
    let winner = vec![stays.status().name];
    assert_eq!(forecast(goes, &Lost::Link), winner);
    assert_eq!(forecast(stays, &Lost::Array(name.to_owned())), winner);
    goes.close();
    let volume = stays.volume("pod1::vol1").unwrap();
    let began = Instant::now();
    volume.write(65536, Bytes::from(vec![3; 65536])).await.unwrap();
    println!("the write went on after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(2));
    let why = stays.explain("pod1").unwrap();
    println!("{why:?}");
    assert!(why.decisions.last().unwrap().decided.ends_with("went on alone, by its own right"), "{why:?}");

    let mut mediator = mediate(&home, address);
    *goes = open(&home, name, &mediator);
    until("rejoining", || all_online(stays) && all_online(goes)).await;
    assert_eq!(goes.volume("pod1::vol1").unwrap().read(65536, 65536).await.unwrap(), vec![3; 65536]);
    site.a.close();
    site.b.close();
    mediator.stop();
}

/// F22: an outage by design, until the pre-elected array is back.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_mediator_nobody_goes_on_when_the_pre_elected_array_is_lost() {
    let mut site = stretched().await;
    let home = site._home.path().to_owned();
    pre_elected(&mut site).await;
    let (goes, stays, name) = match holder(&site.a).as_deref() {
        Some("A") => (&mut site.a, &site.b, "A"),
        _ => (&mut site.b, &site.a, "B"),
    };
    assert_eq!(forecast(stays, &Lost::Array(name.to_owned())), Vec::<String>::new());
    goes.close();
    let offline =
        |array: &Array| array.pod("pod1").is_some_and(|pod| pod.arrays[0].status == SideStatus::Offline);
    until("offline", || offline(stays)).await;
    let volume = stays.volume("pod1::vol1").unwrap();
    assert!(volume.write(0, Bytes::from(vec![4; 4096])).await.is_err());
    let why = stays.explain("pod1").unwrap();
    println!("{why:?}");
    assert!(why.because.contains("is pre-elected: it alone may go on"), "{why:?}");

    *goes = open(&home, name, &site.mediator);
    let online = |array: &Array| {
        array.pod("pod1").is_some_and(|pod| pod.arrays.iter().all(|side| side.status == SideStatus::Online))
    };
    until("both online", || online(stays) && online(goes)).await;
    site.a.close();
    site.b.close();
}

/// F92, without the cut: each array in turn is started anew with another mediator.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_goes_to_another_mediator_when_both_arrays_are_given_it() {
    let mut site = stretched().await;
    let home = site._home.path().to_owned();
    let mut other = mediate(&home.join("other"), "127.0.0.1:0".parse().unwrap());
    site.a.close();
    drop(site.a);
    let a = open(&home, "A", &other);
    let both = |a: &Array, b: &Array| {
        let online = |array: &Array| {
            array
                .pod("pod1")
                .is_some_and(|pod| pod.arrays.iter().all(|side| side.status == SideStatus::Online))
        };
        online(a) && online(b)
    };
    until("rejoining", || both(&a, &site.b)).await;
    site.b.close();
    drop(site.b);
    let b = open(&home, "B", &other);
    site.mediator.stop();
    // By way of an array: never from one mediator to another.
    let gone = |array: &Array| {
        let decisions = array.explain("pod1").map(|why| why.decisions).unwrap_or_default();
        let decided: Vec<&str> = decisions.iter().rev().map(|one| one.decided.as_str()).collect();
        matches!(decided[..], [back, elected, ..] if back.contains("went back") && elected.contains("pre-elected"))
    };
    until("the other mediator", || gone(&a) && gone(&b) && all_online(&a) && all_online(&b)).await;
    // It decides: B goes on without A.
    let volume = b.volume("pod1::vol1").unwrap();
    a.close();
    drop(a);
    volume.write(0, Bytes::from(vec![5; 4096])).await.unwrap();
    let why = b.explain("pod1").unwrap();
    println!("{why:?}");
    assert!(
        why.decisions.last().unwrap().decided.ends_with("went on alone, by the mediator's grant"),
        "{why:?}"
    );
    b.close();
    other.stop();
}

/// What a destroyed pod of an array is called, and how many volumes it has.
fn left(array: &Array) -> Option<(String, usize)> {
    let mut pods = array.pods().into_iter().filter(|pod| pod.eradicated_in_ms.is_some());
    pods.next().map(|pod| (pod.name, pod.arrays.len()))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_array_leaves_keeps_a_copy_and_is_given_the_pod_again() {
    use metropod::ManageError;
    let mut site = stretched().await;
    let (at_a, at_b) = (site.a.volume("pod1::vol1").unwrap(), site.b.volume("pod1::vol1").unwrap());
    at_b.write(8192, Bytes::from(vec![7; 4096])).await.unwrap();
    let refused = site.a.unstretch("pod1", "C", false).await;
    assert!(matches!(refused, Err(ManageError::NoSuchArray)), "{refused:?}");
    site.a.create_pod("alone").await.unwrap();
    let refused = site.a.unstretch("alone", "A", false).await.map_err(|error| error.to_string());
    assert_eq!(refused, Err("the pod is not stretched".to_owned()));

    // Asked at the array that leaves; the one that stays hardly notices.
    site.b.unstretch("pod1", "B", false).await.unwrap();
    let began = Instant::now();
    at_a.write(0, Bytes::from(vec![8; 4096])).await.unwrap();
    println!("a write went on after {:?}", began.elapsed());
    let alone = |array: &Array| array.pod("pod1").is_some_and(|pod| pod.arrays.len() == 1);
    until("parting", || alone(&site.a) && site.b.pod("pod1").is_none()).await;
    println!("parted after {:?}", began.elapsed());
    assert_eq!(at_a.read(8192, 4096).await.unwrap(), vec![7; 4096]);
    assert!(at_b.read(0, 4096).await.is_err(), "the array that left does not serve the pod");
    until("the copy", || left(&site.b) == Some(("pod1-left".to_owned(), 1))).await;

    // It is a pod like any other.
    site.b.recover_pod("pod1-left").await.unwrap();
    let copy = site.b.volume("pod1-left::vol1").unwrap();
    assert_eq!(copy.read(8192, 4096).await.unwrap(), vec![7; 4096]);
    copy.write(0, Bytes::from(vec![9; 4096])).await.unwrap();
    assert_eq!(at_a.read(0, 4096).await.unwrap(), vec![8; 4096]);

    // And the pod comes back, with what was written meanwhile, over a restart.
    site.a.stretch("pod1", "B").await.unwrap();
    until("stretching again", || all_online(&site.a) && all_online(&site.b)).await;
    let (home, name) = (site._home.path().to_owned(), "B");
    site.b.close();
    drop(site.b);
    let b = open(&home, name, &site.mediator);
    until("coming back", || all_online(&site.a) && all_online(&b)).await;
    let at_b = b.volume("pod1::vol1").unwrap();
    let (one, other) = (at_a.read(0, 16 << 20).await.unwrap(), at_b.read(0, 16 << 20).await.unwrap());
    assert!(one == other, "both sides are equal");
    assert_eq!(b.volume("pod1-left::vol1").unwrap().read(0, 4096).await.unwrap(), vec![9; 4096]);

    // An array that is gone is let go, if that is said.
    b.close();
    drop(b);
    until("going on alone", || {
        let pod = site.a.pod("pod1");
        pod.is_some_and(|pod| pod.arrays.iter().any(|side| side.status == SideStatus::Offline))
    })
    .await;
    let refused = site.a.unstretch("pod1", "B", false).await.map_err(|error| error.to_string());
    assert!(refused.is_err_and(|why| why.contains("--with-unknown")));
    site.a.unstretch("pod1", "B", true).await.unwrap();
    until("letting go", || alone(&site.a)).await;
    let b = open(&home, name, &site.mediator);
    until("hearing of it", || b.pod("pod1").is_none() && left(&b).is_some()).await;
    assert_eq!(left(&b), Some(("pod1-left-2".to_owned(), 1)));
    site.a.close();
    b.close();
    site.mediator.stop();
}
