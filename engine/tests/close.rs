//! Closing an array, and opening its directory again at once.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use metropod::{Array, IoError, ManageError, Options, Volume};

fn open(home: &Path) -> Array {
    let options = Options { journal_bytes: 128 << 20, ..Options::new("A", home.join("A")) };
    Array::open(options).unwrap()
}

fn block(number: u64) -> Bytes {
    number.to_le_bytes().repeat(512).into()
}

/// Threads of this process whose names begin so.
fn threads(prefix: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let name =
        |task: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(task.unwrap().path().join("comm"));
    tasks.filter_map(|task| name(task).ok()).filter(|name| name.starts_with(prefix)).count()
}

/// Writes one block after the other until that ends in an error; gives the last that was acknowledged, and the error.
fn write_on(volume: &Volume, first: u64, began: &AtomicBool) -> (u64, IoError) {
    for number in first.. {
        if let Err(error) = volume.write_blocking(number % 1000 * 4096, &block(number)) {
            return (number - 1, error);
        }
        began.store(true, Ordering::Release);
    }
    unreachable!("numbers do not end");
}

#[test]
fn a_closed_or_dropped_array_is_opened_again_at_once_under_writes_and_loses_nothing() {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let array = open(home.path());
    runtime.block_on(array.create_pod("pod1")).unwrap();
    runtime.block_on(array.create_volume("pod1::vol1", 8 << 20)).unwrap();
    array.close();
    let mut next = 1;
    for round in 0..8 {
        let array = open(home.path());
        let volume = array.volume("pod1::vol1").unwrap();
        let began = AtomicBool::new(false);
        let (last, error) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| write_on(&volume, next, &began));
            while !began.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            let ended = Instant::now();
            if round % 2 == 0 {
                array.close();
                let late = runtime.block_on(array.create_pod("pod2"));
                assert_eq!(late, Err(ManageError::Closed));
            } else {
                drop(array);
            }
            assert!(ended.elapsed() < Duration::from_secs(20));
            // None is at work; the system takes a moment to see them off.
            while threads("metropod-") > 0 {
                assert!(ended.elapsed() < Duration::from_secs(20), "a thread is left");
                std::thread::yield_now();
            }
            writer.join().unwrap()
        });
        assert_eq!(error, IoError::Closed);
        assert_eq!(volume.read_blocking(0, 4096), Err(IoError::Closed), "a handle that outlives it");
        assert_eq!(volume.flush_blocking(), Err(IoError::Closed));
        let again = open(home.path());
        let found = again.volume("pod1::vol1").unwrap();
        assert_eq!(found.read_blocking(last % 1000 * 4096, 4096).unwrap(), block(last));
        again.close();
        next = last + 2;
    }
}
