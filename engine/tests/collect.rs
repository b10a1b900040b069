//! Space comes back on a real disk: while hosts overwrite, after something was eradicated, and after the array was full.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use metropod::{Array, HostError, IoError, Options, Volume};

const MIB: u64 = 1 << 20;
const BLOCK: u64 = 4096;
/// Bytes written at once.
const STRIDE: u64 = 64 * BLOCK;

fn home() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn open(directory: &Path, capacity_bytes: u64) -> Array {
    let capacity_bytes = Some(capacity_bytes);
    Array::open(Options { journal_bytes: 128 * MIB, capacity_bytes, ..Options::new("A", directory) }).unwrap()
}

/// Content that neither compresses nor repeats.
fn content(version: u64, offset: u64) -> Vec<u8> {
    let mut bytes = vec![0; STRIDE as usize];
    let mut state = (version << 40 ^ offset).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for word in bytes.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    bytes
}

fn write(volume: &Volume, version: u64, offset: u64) -> Result<(), IoError> {
    volume.write_blocking(offset, &content(version, offset).into())
}

fn check(volume: &Volume, versions: &BTreeMap<u64, u64>) {
    for (offset, version) in versions {
        let found = volume.read_blocking(*offset, STRIDE).unwrap();
        assert!(found[..] == content(*version, *offset)[..], "block at {offset}, version {version}");
    }
}

/// Writes from `offset` on until the array is full; gives where that was.
fn fill(volume: &Volume, mut offset: u64, versions: &mut BTreeMap<u64, u64>) -> u64 {
    loop {
        match write(volume, 1, offset) {
            Ok(()) => versions.insert(offset, 1),
            Err(IoError::Refused(HostError::NoSpace)) => return offset,
            Err(error) => panic!("{error}"),
        };
        offset += STRIDE;
        assert!(offset < 900 * MIB, "a capacity of 256 MiB bounds what is taken in");
    }
}

/// Length of all files of chunks.
fn on_disk(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory.join("segments")).unwrap();
    files.map(|file| file.unwrap().metadata().map_or(0, |file| file.len())).sum()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what} takes too long");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn hosts_overwrite_many_times_what_the_array_can_hold_and_eradicated_content_gives_its_space_back() {
    let home = home();
    let directory = home.path().join("A");
    let capacity_bytes = 384 * MIB;
    let array = open(&directory, capacity_bytes);
    array.create_pod("pod1").await.unwrap();
    let volume = array.create_volume("pod1::vol1", 128 * MIB).await.unwrap();
    let mut versions = BTreeMap::new();
    let mut state = 7_u64;
    let mut most = 0;
    // Twice the capacity, over a volume of a third of it.
    for version in 1..=2 * capacity_bytes / STRIDE {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let offset = (state >> 33) % (128 * MIB / STRIDE) * STRIDE;
        write(&volume, version, offset).unwrap();
        versions.insert(offset, version);
        if version % 64 == 0 {
            most = most.max(on_disk(&directory));
        }
    }
    let status = array.status();
    println!("most on disk {} MiB, {:?}, {:?}", most / MIB, status.space, status.collection);
    assert!(most <= capacity_bytes, "{most} bytes of chunks on disk");
    assert!(status.collection.passes > 0 && status.collection.failed == 0, "{:?}", status.collection);
    check(&volume, &versions);

    array.create_snapshot("pod1::vol1", Some("keep")).await.unwrap();
    array.destroy_volume("pod1::vol1").await.unwrap();
    array.collect().await.unwrap();
    assert!(array.status().stored_bytes >= versions.len() as u64 * STRIDE, "it can still be recovered");
    array.recover_volume("pod1::vol1").await.unwrap();
    check(&volume, &versions);
    array.destroy_volume("pod1::vol1").await.unwrap();
    array.eradicate_volume("pod1::vol1").await.unwrap();
    array.collect().await.unwrap();
    let status = array.status();
    println!("after eradicating: {} MiB on disk, {:?}", on_disk(&directory) / MIB, status.space);
    assert!(status.stored_bytes < MIB, "{} bytes stored", status.stored_bytes);
    // Segments that are still written to stay.
    assert!(on_disk(&directory) <= 64 * MIB, "{} MiB on disk", on_disk(&directory) / MIB);
    array.close();
}

#[tokio::test]
async fn a_full_array_refuses_writes_and_takes_them_again_once_hosts_have_trimmed() {
    let home = home();
    let array = open(&home.path().join("A"), 256 * MIB);
    array.create_pod("pod1").await.unwrap();
    let volume = array.create_volume("pod1::vol1", 1024 * MIB).await.unwrap();
    let mut versions = BTreeMap::new();
    let mut offset = fill(&volume, 0, &mut versions);
    println!("full after {} MiB", offset / MIB);
    check(&volume, &versions);
    let more = fill(&volume, offset, &mut versions) - offset;
    println!("and after {} KiB more", more >> 10);
    assert!(more <= 16 * MIB, "it was full: segments that were closed since give little back");
    offset += more;
    // Hosts give half of it back.
    for trimmed in (0..offset / 2).step_by(STRIDE as usize) {
        volume.write_zeroes_blocking(trimmed, STRIDE).unwrap();
        versions.remove(&trimmed);
    }
    until("writing again", || write(&volume, 2, 0).is_ok());
    versions.insert(0, 2);
    for again in (STRIDE..offset / 4).step_by(STRIDE as usize) {
        until("writing again", || write(&volume, 2, again).is_ok());
        versions.insert(again, 2);
    }
    check(&volume, &versions);
    array.close();
}
