//! An array on a file system that is full, too small or read-only: hosts are told so, nothing acknowledged is lost, and
//! with room it goes on by itself.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::path::PathBuf;
use std::time::Duration;

use metropod_e2e::{
    Array, ArrayOptions, Command, Dice, NbdClient, NbdError, Scratch, SmallDisk, Witness, refused_saying,
    scratch, wait_until,
};

const MIB: u64 = 1 << 20;
const VOLUME_BYTES: u64 = 1 << 30;
/// Volume bytes that the witness has for itself.
const WITNESS_PLACE: u64 = 64 * MIB;
/// NBD's number for a full device.
const ENOSPC: u32 = 28;

/// An array on a disk of its own. Fields are dropped in this order.
struct Site {
    array: Array,
    disk: SmallDisk,
}

fn site(scratch: &Scratch, disk_bytes: u64) -> Site {
    let disk = SmallDisk::mount(scratch, disk_bytes);
    Site { array: Array::start(options(scratch, &disk)), disk }
}

fn options(scratch: &Scratch, disk: &SmallDisk) -> ArrayOptions {
    let mut options = ArrayOptions::new("A", scratch.path());
    options.directory = disk.path().join("A");
    options
}

/// Content that neither compresses nor repeats.
fn content(number: u64) -> Vec<u8> {
    let mut dice = Dice::new(number + (1 << 40));
    (0..MIB / 8).flat_map(|_| dice.roll().to_le_bytes()).collect()
}

fn place(number: u64) -> u64 {
    WITNESS_PLACE + number * MIB
}

/// Writes until the array is full; gives the number of acknowledged writes.
fn fill(client: &mut NbdClient) -> u64 {
    for number in 0..(VOLUME_BYTES - WITNESS_PLACE) / MIB {
        match client.write(place(number), &content(number)) {
            Ok(()) => {}
            Err(NbdError::Failed(ENOSPC)) => return number,
            Err(error) => panic!("write {number}: {error}"),
        }
    }
    panic!("the disk is never full");
}

fn check(client: &mut NbdClient, acknowledged: u64) {
    let mut found = vec![0; MIB as usize];
    for number in 0..acknowledged {
        client.read(place(number), &mut found).unwrap_or_else(|error| panic!("read {number}: {error}"));
        assert!(found == content(number), "write {number} was acknowledged and is not there");
    }
}

#[test]
fn a_full_disk_refuses_writes_loses_nothing_and_goes_on_when_there_is_room() {
    let scratch = scratch!("full-disk");
    let mut site = site(&scratch, 240 * MIB);
    let ballast: PathBuf = site.disk.path().join("ballast");
    // Room for the reserve of 16 MiB, for what was staged when the disk was full and the reserve had no room for, and for a write.
    std::fs::write(&ballast, vec![1; 32 << 20]).unwrap();
    site.array.make_pod("pod1", &["vol1"], VOLUME_BYTES);
    let witness = Witness::write(&site.array, "pod1::vol1", 1);
    let mut client = site.array.open("pod1::vol1");
    let acknowledged = fill(&mut client);
    println!("{acknowledged} MiB acknowledged");
    assert!(acknowledged > 10);

    check(&mut client, acknowledged);
    client.ask(Command::Trim, VOLUME_BYTES - MIB, MIB as u32, &[]).unwrap();
    site.array.cli(&["volume", "list"]);
    wait_until("the full device is an alarm", Duration::from_secs(5), || {
        let shown = site.array.cli(&["array", "show"])["alarms"].to_string();
        if shown.contains("the device is full") { Ok(()) } else { Err(shown) }
    });
    let refusal = site.array.try_cli(&["pod", "create", "pod2"]).unwrap_err();
    assert_eq!(refusal.status, Some(1));
    assert!(refusal.said.contains("out of space; make room on its file system"), "{refusal:?}");
    std::thread::sleep(Duration::from_secs(2));
    let log = std::fs::read_to_string(&site.array.options().log).unwrap();
    let alarms = log.lines().filter(|line| line.contains("the device is full")).count();
    assert!((1..=2).contains(&alarms), "{alarms} times: {log}");

    site.array.kill9();
    site.array.restart();
    let mut client = site.array.open("pod1::vol1");
    check(&mut client, acknowledged);
    witness.check(&site.array);

    std::fs::remove_file(&ballast).unwrap();
    wait_until("writes succeed again", Duration::from_secs(20), || {
        client.write(place(acknowledged), &content(acknowledged)).map_err(|error| error.to_string())
    });
    site.array.cli(&["pod", "create", "pod2"]);
    site.array.stop();
    site.array.restart();
    check(&mut site.array.open("pod1::vol1"), acknowledged + 1);
    witness.check(&site.array);
}

#[test]
fn a_disk_too_small_for_the_journal_is_refused_and_enough_room_is_all_it_takes() {
    let scratch = scratch!("small-disk");
    let disk = SmallDisk::mount(&scratch, 128 * MIB);
    let options = options(&scratch, &disk);
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![1; (disk.room_bytes() - 20 * MIB) as usize]).unwrap();
    refused_saying(&options.arguments(), &["no space left on the device", "; make room on its file system"]);
    std::fs::remove_file(&ballast).unwrap();
    let mut array = Array::start(options);
    array.make_pod("pod1", &["vol1"], VOLUME_BYTES);
    array.stop();
}

#[test]
fn a_read_only_disk_is_refused_and_keeps_what_it_holds() {
    let scratch = scratch!("read-only-disk");
    let mut site = site(&scratch, 256 * MIB);
    site.array.make_pod("pod1", &["vol1"], VOLUME_BYTES);
    let witness = Witness::write(&site.array, "pod1::vol1", 1);
    site.array.stop();
    site.disk.make_read_only();
    let says = ["Read-only file system", "; give another one with --data, or make it writable"];
    refused_saying(&site.array.options().arguments(), &says);
    let fresh =
        ArrayOptions { directory: site.disk.path().join("B"), ..ArrayOptions::new("B", scratch.path()) };
    refused_saying(&fresh.arguments(), &says);
    site.disk.make_writable();
    site.array.restart();
    witness.check(&site.array);
}
