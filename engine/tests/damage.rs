//! Content that rots on the disk: the reader hears of it, and so does whoever looks after the array.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use metropod::{Array, IoError, Options};

fn open(home: &Path) -> Array {
    let options = Options { journal_bytes: 128 << 20, ..Options::new("A", home.join("A")) };
    Array::open(options).unwrap()
}

/// An array of one chunk, a byte of which has rotted on the disk.
fn rotten(home: &Path) -> Array {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut word = 1u64;
    let content = Bytes::from_iter((0..4096).map(|_| {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word as u8
    }));
    let array = open(home);
    runtime.block_on(array.create_pod("pod1")).unwrap();
    let volume = runtime.block_on(array.create_volume("pod1::vol1", 8 << 20)).unwrap();
    volume.write_blocking(4096, &content).unwrap();
    array.close();
    let mut rotten = 0;
    for segment in fs::read_dir(home.join("A/segments")).unwrap() {
        let path = segment.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(64).position(|window| window == &content[1000..1064]) {
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            rotten += 1;
        }
    }
    assert_eq!(rotten, 1, "the chunk is in a segment");
    open(home)
}

fn alarms_of_chunks(array: &Array) -> usize {
    array.alarms().iter().filter(|alarm| alarm.contains("is missing or damaged at this array")).count()
}

#[test]
fn a_read_of_a_rotten_chunk_fails_and_is_an_alarm_once() {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let array = rotten(home.path());
    let volume = array.volume("pod1::vol1").unwrap();
    for _ in 0..3 {
        assert_eq!(volume.read_blocking(4096, 4096), Err(IoError::Unreadable));
    }
    assert_eq!(runtime.block_on(volume.read(4096, 512)), Err(IoError::Unreadable));
    assert_eq!(alarms_of_chunks(&array), 1, "{:?}", array.alarms());
    array.close();
}

#[test]
fn a_scrub_finds_a_byte_that_rotted_on_the_disk_and_nobody_read() {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let array = rotten(home.path());
    assert_eq!(
        (array.scrub().state, array.scrub().began_ms_ago, alarms_of_chunks(&array)),
        ("idle", None, 0)
    );
    runtime.block_on(array.scrub_start()).unwrap();
    let began = Instant::now();
    while array.scrub().finished == 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", array.scrub());
        std::thread::sleep(Duration::from_millis(20));
    }
    let scrub = array.scrub();
    assert_eq!((scrub.state, scrub.findings, scrub.listed.len()), ("resting", 1, 1), "{scrub:?}");
    assert_eq!((scrub.listed[0].kind, scrub.listed[0].digest.is_some()), ("chunk", true));
    assert!(home.path().join("A").join(&scrub.listed[0].file).exists());
    assert_eq!((scrub.bytes_done, scrub.segments_done), (scrub.bytes_total, scrub.segments_total));
    assert_eq!(alarms_of_chunks(&array), 1, "{:?}", array.alarms());
    array.close();
}
