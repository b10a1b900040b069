//! What simulated media do to writes that were not synced, and to names.

use super::*;

const CACHED: Durability = Durability::Cached;
const DURABLE: Durability = Durability::Durable;
const CREATE: Open = Open { create: Create::IfMissing, direct: false };
const EXISTING: Open = Open { create: Create::Never, direct: false };

/// A durable, empty-named file `d/f` of `sectors` zero sectors.
fn settled(media: &SimMedia, sectors: usize) -> FileId {
    let file = media.open("d/f", CREATE).unwrap();
    media.write(file, 0, &[&vec![0; sectors * SECTOR_BYTES]], CACHED).unwrap();
    media.sync(file).unwrap();
    media.sync_dir("d").unwrap();
    file
}

fn content(media: &SimMedia) -> Vec<u8> {
    let file = media.open("d/f", EXISTING).unwrap();
    let mut data = vec![0; media.len(file).unwrap() as usize];
    media.read(file, 0, &mut data).unwrap();
    data
}

/// Which sectors of the file hold `byte` after a crash with each seed.
fn survivors(media: &SimMedia, byte: u8, seeds: u64) -> Vec<Vec<bool>> {
    (0..seeds)
        .map(|seed| {
            let copy = media.deep_copy();
            copy.crash(seed);
            content(&copy).chunks(SECTOR_BYTES).map(|s| s.iter().all(|b| *b == byte)).collect()
        })
        .collect()
}

#[test]
fn an_unsynced_write_survives_in_any_subset_of_its_sectors() {
    let media = SimMedia::new();
    let file = settled(&media, 3);
    media.write(file, 0, &[&[7; 3 * SECTOR_BYTES]], CACHED).unwrap();
    let mut seen = survivors(&media, 7, 400);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 8, "all subsets of three sectors occur");
}

#[test]
fn an_overwritten_unsynced_sector_may_come_back_in_any_of_its_versions() {
    let media = SimMedia::new();
    let file = settled(&media, 1);
    for byte in [1, 2] {
        media.write(file, 0, &[&[byte; SECTOR_BYTES]], CACHED).unwrap();
    }
    let mut seen: Vec<u8> = (0..200)
        .map(|seed| {
            let copy = media.deep_copy();
            copy.crash(seed);
            content(&copy)[0]
        })
        .collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen, [0, 1, 2]);
}

#[test]
fn synced_and_durable_writes_survive_every_crash() {
    let media = SimMedia::new();
    let file = settled(&media, 4);
    media.write(file, 0, &[&[7; SECTOR_BYTES]], CACHED).unwrap();
    media.sync(file).unwrap();
    media.write(file, 3 * SECTOR_BYTES as u64, &[&[9; SECTOR_BYTES]], CACHED).unwrap();
    media.write(file, SECTOR_BYTES as u64, &[&[7; 100], &[7; 412]], DURABLE).unwrap();
    for kept in survivors(&media, 7, 200) {
        assert_eq!(kept[..2], [true, true]);
    }
    assert!(survivors(&media, 9, 200).iter().any(|kept| !kept[3]), "a durable write syncs only itself");
}

#[test]
fn a_durable_write_under_way_at_a_power_cut_may_be_torn_and_is_not_acknowledged() {
    let media = SimMedia::new();
    let file = settled(&media, 2);
    media.cut_power_after(1);
    media.write(file, 0, &[&[1; 2 * SECTOR_BYTES]], DURABLE).unwrap();
    assert!(media.write(file, 0, &[&[7; 2 * SECTOR_BYTES]], DURABLE).is_err());
    assert!(media.is_dark() && media.len(file).is_err());
    let seen = survivors(&media, 7, 200);
    for outcome in [[false, false], [true, false], [false, true], [true, true]] {
        assert!(seen.iter().any(|kept| kept[..] == outcome));
    }
}

#[test]
fn a_new_name_needs_the_sync_of_its_directory() {
    let media = SimMedia::new();
    let file = media.open("d/f", CREATE).unwrap();
    media.write(file, 0, &[b"x"], CACHED).unwrap();
    media.sync(file).unwrap();
    let lost = (0..50).filter(|seed| {
        let copy = media.deep_copy();
        copy.crash(*seed);
        copy.list("d").unwrap().is_empty()
    });
    assert!((1..50).contains(&lost.count()));
    media.sync_dir("d").unwrap();
    for seed in 0..50 {
        let copy = media.deep_copy();
        copy.crash(seed);
        assert_eq!(content(&copy), b"x");
    }
}

#[test]
fn a_rename_over_a_file_leaves_the_old_or_the_new_content() {
    let media = SimMedia::new();
    let old = settled(&media, 1);
    media.write(old, 0, &[&[1; SECTOR_BYTES]], DURABLE).unwrap();
    let new = media.open("d/t", CREATE).unwrap();
    media.write(new, 0, &[&[2; SECTOR_BYTES]], DURABLE).unwrap();
    media.rename("d/t", "d/f").unwrap();
    let mut seen: Vec<u8> = (0..50)
        .map(|seed| {
            let copy = media.deep_copy();
            copy.crash(seed);
            content(&copy)[0]
        })
        .collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen, [1, 2]);
    media.sync_dir("d").unwrap();
    media.crash(3);
    assert_eq!(content(&media)[0], 2);
    assert_eq!(media.list("d").unwrap(), ["f"]);
}

#[test]
fn a_failed_or_lying_sync_leaves_its_writes_in_doubt_for_ever() {
    for (fault, ok) in [(Fault::ERROR, false), (Fault::Lie, true)] {
        let media = SimMedia::new();
        let file = settled(&media, 1);
        media.write(file, 0, &[&[7; SECTOR_BYTES]], CACHED).unwrap();
        media.fail_nth(Some(Operation::Sync), 1, fault);
        assert_eq!(media.sync(file).is_ok(), ok);
        media.sync(file).unwrap();
        assert_eq!(content(&media)[0], 7, "reads still see it");
        assert!(survivors(&media, 7, 50).iter().any(|kept| !kept[0]), "yet it can be lost");
        media.write(file, 0, &[&[7; SECTOR_BYTES]], CACHED).unwrap();
        media.sync(file).unwrap();
        assert!(survivors(&media, 7, 50).iter().all(|kept| kept[0]), "written again it stays");
    }
}

#[test]
fn planned_faults_hit_the_named_call_once() {
    let media = SimMedia::new();
    let file = settled(&media, 1);
    media.fail_nth(Some(Operation::DurableWrite), 2, Fault::Fail(Cause::NoSpace));
    media.write(file, 0, &[&[1; SECTOR_BYTES]], DURABLE).unwrap();
    let error = media.write(file, 0, &[&[2; SECTOR_BYTES]], DURABLE).unwrap_err();
    assert_eq!(error.cause, Cause::NoSpace);
    media.write(file, 0, &[&[3; SECTOR_BYTES]], DURABLE).unwrap();
    assert_eq!(media.counters().count(Operation::DurableWrite), 3);
}

#[test]
fn a_full_media_refuses_growth_but_not_overwriting() {
    let media = SimMedia::new();
    media.set_capacity(Some(2 * SECTOR_BYTES as u64));
    let file = settled(&media, 2);
    let error = media.write(file, 2 * SECTOR_BYTES as u64, &[b"x"], CACHED).unwrap_err();
    assert_eq!(error.cause, Cause::NoSpace);
    media.write(file, 0, &[&[1; 2 * SECTOR_BYTES]], DURABLE).unwrap();
    media.close(file);
    media.remove("d/f").unwrap();
    media.sync_dir("d").unwrap();
    // Space comes back once no crash can bring the file back.
    let other = media.open("d/g", CREATE).unwrap();
    media.write(other, 0, &[&[1; 2 * SECTOR_BYTES]], CACHED).unwrap();
}

#[test]
fn rot_survives_sync_and_crash() {
    let media = SimMedia::new();
    let file = settled(&media, 1);
    media.rot("d/f", 5, 3).unwrap();
    media.sync(file).unwrap();
    media.crash(1);
    assert_eq!(content(&media)[5], 8);
}

#[test]
fn direct_files_refuse_misaligned_access_and_paths_cannot_leave_the_directory() {
    let media = SimMedia::new();
    let file = media.open("f", Open { create: Create::New, direct: true }).unwrap();
    assert_eq!(media.write(file, 0, &[&[0; 512]], CACHED).unwrap_err().cause, Cause::Misaligned);
    for path in ["../x", "/x", "a//b", "", "a/./b"] {
        assert_eq!(media.open(path, CREATE).unwrap_err().cause, Cause::BadPath);
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let media = SimMedia::new();
    let file = settled(&media, 64);
    media.write(file, 100, &[&[7; 20_000]], CACHED).unwrap();
    let bytes = |seed| {
        let copy = media.deep_copy();
        copy.crash(seed);
        content(&copy)
    };
    for seed in 0..20 {
        assert_eq!(bytes(seed), bytes(seed));
    }
}
