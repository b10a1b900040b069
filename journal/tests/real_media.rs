//! Real media in a directory of the build tree.

use std::path::Path;
use std::sync::Arc;

use metropod_journal::media::real::{OpenDirError, RealMedia};
use metropod_journal::media::{AlignedBuf, Cause, Create, Durability, Media, Open};

const CACHED: Durability = Durability::Cached;
const DURABLE: Durability = Durability::Durable;

fn home() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build tree is writable")
}

fn direct(create: Create) -> Open {
    Open { create, direct: true }
}

fn buffered(create: Create) -> Open {
    Open { create, direct: false }
}

#[test]
fn direct_durable_writes_read_back_from_aligned_and_unaligned_memory() {
    let home = home();
    let media = RealMedia::open(home.path()).unwrap();
    let file = media.open("journal/a.seg", direct(Create::New)).unwrap();
    let mut aligned = AlignedBuf::zeroed(8192);
    aligned.as_mut_slice().fill(1);
    let unaligned = vec![2; 4097];
    media.write(file, 0, &[aligned.as_slice()], DURABLE).unwrap();
    media.write(file, 8192, &[&unaligned[1..]], DURABLE).unwrap();
    media.write(file, 12288, &[&[3; 96], &[4; 4000]], DURABLE).unwrap();
    media.sync_dir("journal").unwrap();
    assert_eq!(media.len(file).unwrap(), 16384);
    let mut data = vec![0; 16385];
    media.read(file, 0, &mut data[1..]).unwrap();
    let expected = [vec![1; 8192], vec![2; 4096], vec![3; 96], vec![4; 4000]].concat();
    assert_eq!(data[1..], expected);
    let error = media.write(file, 512, &[&[0; 4096]], DURABLE).unwrap_err();
    assert_eq!(error.cause, Cause::Misaligned);
    let error = media.read(file, 16384, &mut [0; 4096]).unwrap_err();
    assert_eq!(error.cause, Cause::PastEnd);
}

#[test]
fn many_small_and_empty_parts_become_one_range() {
    let home = home();
    let media = RealMedia::open(home.path()).unwrap();
    let file = media.open("f", buffered(Create::IfMissing)).unwrap();
    let byte = [7u8];
    let parts: Vec<&[u8]> = (0..5000).map(|i| if i % 2 == 0 { &byte[..] } else { &[] }).collect();
    media.write(file, 3, &parts, CACHED).unwrap();
    media.sync(file).unwrap();
    let mut data = vec![0; 2503];
    media.read(file, 0, &mut data).unwrap();
    assert_eq!(data[..3], [0, 0, 0]);
    assert!(data[3..].iter().all(|b| *b == 7));
}

#[test]
fn a_directory_in_use_is_refused_and_free_again_after_its_owner_is_gone() {
    let home = home();
    let first = RealMedia::open(home.path()).unwrap();
    assert!(matches!(RealMedia::open(home.path()), Err(OpenDirError::InUse { .. })));
    drop(first);
    drop(RealMedia::open(home.path()).unwrap());
    let missing = home.path().join("none");
    assert!(matches!(RealMedia::open(&missing), Err(OpenDirError::Missing { .. })));
    drop(RealMedia::create(&missing.join("deep")).unwrap());
}

#[test]
fn names_stay_inside_the_directory() {
    let home = home();
    let media = RealMedia::create(&home.path().join("array")).unwrap();
    for path in ["../x", "/tmp/x", "a/../../x", "", ".", "a//b", "a\0b"] {
        let error = media.open(path, buffered(Create::IfMissing)).unwrap_err();
        assert_eq!(error.cause, Cause::BadPath, "{path:?}");
        assert_eq!(media.remove(path).unwrap_err().cause, Cause::BadPath);
        assert_eq!(media.rename(path, "y").unwrap_err().cause, Cause::BadPath);
    }
    std::os::unix::fs::symlink(home.path(), home.path().join("array/link")).unwrap();
    assert!(media.open("link", buffered(Create::Never)).is_err());
    assert!(!Path::new(&home.path().join("x")).exists());
}

#[test]
fn names_are_listed_created_renamed_and_removed() {
    let home = home();
    let media = RealMedia::open(home.path()).unwrap();
    assert!(media.list("none").unwrap().is_empty());
    for name in ["d/b", "d/a", "d/sub/c"] {
        let file = media.open(name, buffered(Create::New)).unwrap();
        media.close(file);
        assert_eq!(media.len(file).unwrap_err().cause, Cause::NotOpen);
    }
    assert_eq!(media.list("d").unwrap(), ["a", "b"]);
    assert_eq!(media.open("d/a", buffered(Create::New)).unwrap_err().cause, Cause::Exists);
    assert_eq!(media.open("d/x", buffered(Create::Never)).unwrap_err().cause, Cause::NotFound);
    let kept = media.open("d/a", buffered(Create::Never)).unwrap();
    media.write(kept, 0, &[b"kept"], CACHED).unwrap();
    media.rename("d/b", "d/a").unwrap();
    media.remove("d/a").unwrap();
    media.sync_dir("d").unwrap();
    assert!(media.list("d").unwrap().is_empty());
    let mut data = [0; 4];
    media.read(kept, 0, &mut data).unwrap();
    assert_eq!(&data, b"kept");
}

#[test]
fn threads_share_one_media() {
    let home = home();
    let media = Arc::new(RealMedia::open(home.path()).unwrap());
    let file = media.open("f", direct(Create::New)).unwrap();
    std::thread::scope(|scope| {
        for lane in 0..4u64 {
            let media = &media;
            scope.spawn(move || {
                for step in 0..8 {
                    let offset = (step * 4 + lane) * 4096;
                    media.write(file, offset, &[&[lane as u8; 4096]], DURABLE).unwrap();
                }
            });
        }
    });
    let mut data = vec![0; 4 * 8 * 4096];
    media.read(file, 0, &mut data).unwrap();
    for (at, block) in data.chunks(4096).enumerate() {
        assert!(block.iter().all(|b| usize::from(*b) == at % 4));
    }
}

#[test]
fn what_the_page_cache_holds_is_read_without_waiting_and_the_rest_is_refused() {
    let home = home();
    let media = RealMedia::open(home.path()).unwrap();
    let file = media.open("f", buffered(Create::New)).unwrap();
    media.write(file, 0, &[&[5; 10_000]], CACHED).unwrap();
    let mut data = vec![0; 5000];
    assert!(media.read_now(file, 4000, &mut data));
    assert!(data.iter().all(|byte| *byte == 5));
    assert!(!media.read_now(file, 6000, &mut data), "past the end");
    media.will_need(file, 0, 10_000);
    media.will_need(file, 1 << 40, 0);
    let unbuffered = media.open("f", direct(Create::Never)).unwrap();
    media.will_need(unbuffered, 0, 4096);
    assert!(!media.read_now(unbuffered, 0, AlignedBuf::zeroed(4096).as_mut_slice()));
    media.close(file);
    assert!(!media.read_now(file, 0, &mut data), "closed");
    media.will_need(file, 0, 4096);
}
