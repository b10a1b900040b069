//! A file system of real files, copied in at one array and read at the other, before and after an array is killed.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use metropod_e2e::{
    Array, Load, LoadOptions, Oracle, Pair, PairOptions, SECTOR_BYTES, Scratch, Target, require_tools,
    run_ok, scratch, setting,
};

const MIB: u64 = 1 << 20;
/// Files beyond this size are left out, so that many fit.
const FILE_BYTES_MAX: u64 = 8 * MIB;
/// Size of the image, in MiB: `METROPOD_IMAGE_MIB`.
const IMAGE_MIB: u64 = 128;

#[test]
fn a_file_system_written_at_one_array_is_whole_at_the_other_also_after_a_kill() {
    require_tools(&[
        ("mke2fs", "e2fsprogs"),
        ("e2fsck", "e2fsprogs"),
        ("qemu-img", "qemu-utils"),
        ("nbdcopy", "libnbd-bin"),
    ]);
    let scratch = scratch!("filesystem");
    let image_bytes = setting("METROPOD_IMAGE_MIB", IMAGE_MIB) * MIB;
    let (first, second) = images(&scratch, image_bytes);
    let options = PairOptions { volumes: vec!["disk", "other"], volume_bytes: image_bytes, proxied: false };
    let mut pair = Pair::start(scratch.path(), &options);

    run_ok("qemu-img", &["convert", "-n", "-f", "raw", "-O", "raw", &first, &pair.a.uri("pod1::disk")]);
    check(&pair.b, &first, &scratch);

    // A dies while hosts write through B; what was copied in through A is whole at B, and B takes the next one.
    let oracle = Arc::new(Oracle::new(image_bytes));
    let load = Load::start(&oracle, load_through(&pair.b, image_bytes));
    load.wait_for(200, Duration::from_secs(20));
    pair.a.kill9();
    load.wait_for(200, Duration::from_secs(20));
    check(&pair.b, &first, &scratch);
    run_ok("nbdcopy", &["-C", "2", "-R", "16", &second, &pair.b.uri("pod1::disk")]);
    check(&pair.b, &second, &scratch);

    pair.a.restart();
    pair.wait_online();
    println!("{} writes of another host meanwhile", load.stop());
    for array in [&pair.a, &pair.b] {
        check(array, &second, &scratch);
        oracle.verify(&mut array.open("pod1::other"), array.name());
    }
}

fn load_through(array: &Array, volume_bytes: u64) -> LoadOptions {
    LoadOptions {
        target: Target { address: array.options().nbd, volume: "pod1::other".to_owned() },
        sectors: 0..volume_bytes.min(64 * MIB) / SECTOR_BYTES as u64,
        depth: 4,
        sectors_max: 64,
        zeroes: true,
        seed: 1,
    }
}

/// What an array serves is `image`, byte by byte, and a file system without fault.
fn check(array: &Array, image: &str, scratch: &Scratch) {
    let uri = array.uri("pod1::disk");
    run_ok("qemu-img", &["compare", "-f", "raw", "-F", "raw", image, &uri]);
    let copy = scratch.join("copy").display().to_string();
    run_ok("nbdcopy", &["-C", "2", "-R", "16", &uri, &copy]);
    run_ok("cmp", &[image, &copy]);
    run_ok("e2fsck", &["-f", "-n", &copy]);
    fs::remove_file(copy).unwrap();
}

/// Two images with the machine's files, the second with some of them changed.
fn images(scratch: &Scratch, bytes: u64) -> (String, String) {
    let tree = scratch.join("tree");
    fs::create_dir(&tree).unwrap();
    let mut left = bytes / 2;
    let mut number = 0;
    for place in ["/usr/share", "/usr/lib", "/usr/include"] {
        gather(Path::new(place), &tree, &mut left, &mut number);
    }
    assert!(left < bytes / 4, "this machine has too few files for an image of {bytes} bytes");
    let image = |name: &str| {
        let path = scratch.join(name).display().to_string();
        let size = format!("{}k", bytes >> 10);
        run_ok("mke2fs", &["-q", "-t", "ext4", "-d", &tree.display().to_string(), &path, &size]);
        path
    };
    let first = image("first");
    for (number, entry) in fs::read_dir(&tree).unwrap().enumerate() {
        if number % 3 == 0 {
            fs::write(entry.unwrap().path(), vec![number as u8; 20_000]).unwrap();
        }
    }
    (first, image("second"))
}

/// Copies regular files from below `place` into `tree` while there is room.
fn gather(place: &Path, tree: &Path, left: &mut u64, number: &mut u32) {
    // What cannot be listed or read is passed over.
    let Ok(entries) = fs::read_dir(place) else { return };
    for entry in entries.flatten() {
        let (Ok(kind), Ok(metadata)) = (entry.file_type(), entry.metadata()) else { continue };
        if kind.is_dir() {
            gather(&entry.path(), tree, left, number);
        } else if kind.is_file() && metadata.len() <= FILE_BYTES_MAX {
            // A block for the node and the slack.
            let Some(room) = left.checked_sub(metadata.len() + 4096) else { return };
            *number += 1;
            let name = tree.join(format!("{number}-{}", entry.file_name().to_string_lossy()));
            if fs::copy(entry.path(), name).is_ok() {
                *left = room;
            }
        }
    }
}
