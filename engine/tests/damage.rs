//! Content that rots on the disk: the reader hears of it, and so does whoever looks after the array.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::fs;
use std::path::Path;

use bytes::Bytes;
use metropod::{Array, IoError, Options};

fn open(home: &Path) -> Array {
    let options = Options { journal_bytes: 128 << 20, ..Options::new("A", home.join("A")) };
    Array::open(options).unwrap()
}

#[test]
fn a_read_of_a_rotten_chunk_fails_and_is_an_alarm_once() {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut word = 1u64;
    let content = Bytes::from_iter((0..4096).map(|_| {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word as u8
    }));
    let array = open(home.path());
    runtime.block_on(array.create_pod("pod1")).unwrap();
    let volume = runtime.block_on(array.create_volume("pod1::vol1", 8 << 20)).unwrap();
    volume.write_blocking(4096, &content).unwrap();
    array.close();
    let mut rotten = 0;
    for segment in fs::read_dir(home.path().join("A/segments")).unwrap() {
        let path = segment.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(64).position(|window| window == &content[1000..1064]) {
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            rotten += 1;
        }
    }
    assert_eq!(rotten, 1, "the chunk is in a segment");
    let array = open(home.path());
    let volume = array.volume("pod1::vol1").unwrap();
    for _ in 0..3 {
        assert_eq!(volume.read_blocking(4096, 4096), Err(IoError::Unreadable));
    }
    assert_eq!(runtime.block_on(volume.read(4096, 512)), Err(IoError::Unreadable));
    let alarms = array.alarms();
    let told = alarms.iter().filter(|alarm| alarm.contains("is missing or damaged at this array")).count();
    assert_eq!(told, 1, "{alarms:?}");
    array.close();
}
