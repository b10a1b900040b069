//! Journals on simulated media that lose power, die and fail at every point.
//!
//! Claims, for every seed: a record reported durable is recovered; what is recovered is a prefix of what was
//! pushed; a record recovered once is never lost and a record cut once never comes back; writing goes on.
//! `METROPOD_SEEDS` and `METROPOD_FIRST_SEED` choose other seeds.

mod common;

use std::collections::VecDeque;

use common::{DIR, SEGMENT_BYTES, block_on, config, drain, io, open_journal, random_record, write};
use metropod_journal::media::sim::{Fault, Operation, SimMedia, SplitMix};
use metropod_journal::media::{Durability, Media};
use metropod_journal::{Append, JournalConfig, Lsn, OpenError, Record, Writer};

/// What the world outside knows of a journal.
struct World {
    media: SimMedia,
    random: SplitMix,
    frames_in_flight: usize,
    /// Records of the log, from Lsn 1.
    log: Vec<Record>,
    /// Records through this one were reported durable.
    acknowledged: u64,
    /// What was durable before the last completed append.
    acknowledged_before: u64,
    /// The manifest: records below are no longer needed.
    needed: u64,
    lives: u64,
    trims: bool,
}

enum Stop {
    /// The script is over, or chance says so.
    Done,
    /// The media failed.
    Failed,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = SplitMix::new(seed);
        let frames_in_flight = 1 + random.below(4) as usize;
        let media = SimMedia::new();
        let log = Vec::new();
        World {
            media,
            random,
            frames_in_flight,
            log,
            acknowledged: 0,
            acknowledged_before: 0,
            needed: 1,
            lives: 0,
            trims: true,
        }
    }

    fn config(&self) -> JournalConfig {
        let mut config = config(self.lives.wrapping_mul(0x1234_5678_9ABC_DEF1) + 7);
        config.frames_in_flight = self.frames_in_flight;
        config.needed_from = Lsn(self.needed);
        if !self.trims {
            config.budget_bytes = 64 * SEGMENT_BYTES;
        }
        config
    }

    /// Opens the journal and checks what it gives back.
    fn open(&mut self) -> Result<Writer, OpenError> {
        self.lives += 1;
        let (writer, visited) = open_journal(&self.media, self.config())?;
        let last = writer.next_lsn().0 - 1;
        assert!(last >= self.acknowledged, "recovered to {last}, acknowledged {}", self.acknowledged);
        assert!(last <= self.log.len() as u64, "a record that was cut has come back");
        assert_eq!(visited.len() as u64, last + 1 - self.needed);
        for (lsn, (found, record)) in (self.needed..).zip(&visited) {
            assert_eq!(found.0, lsn);
            assert!(*record == self.log[lsn as usize - 1], "record {lsn} differs");
        }
        self.log.truncate(last as usize);
        self.acknowledged = last;
        Ok(writer)
    }

    /// Pushes, appends, completes in any order, trims and recycles.
    fn live(&mut self, writer: &mut Writer, steps: u64) -> Stop {
        let mut under_way: VecDeque<Append> = VecDeque::new();
        for _ in 0..steps {
            match self.random.below(12) {
                0..=3 => {
                    for _ in 0..1 + self.random.below(4) {
                        let record = random_record(&mut self.random);
                        assert_eq!(writer.push(record.clone()).0, self.log.len() as u64 + 1);
                        self.log.push(record);
                    }
                }
                4..=5 => under_way.extend(writer.next_append()),
                6..=8 if !under_way.is_empty() => {
                    let pick = self.random.below(under_way.len() as u64) as usize;
                    let append = under_way.remove(pick).expect("picked inside");
                    let result = write(&self.media, &append);
                    match writer.completed(append.id, result) {
                        Ok(durable) => {
                            assert_eq!(result, Ok(()));
                            assert!(durable.0 >= self.acknowledged);
                            self.acknowledged_before = self.acknowledged;
                            self.acknowledged = durable.0;
                        }
                        Err(_) => {
                            assert!(result.is_err());
                            assert!(writer.next_append().is_none(), "a poisoned journal appends nothing");
                            return Stop::Failed;
                        }
                    }
                }
                9 if writer.wants_segment() => {
                    let recipe = writer.segment_recipe();
                    match block_on(recipe.prepare(&io(&self.media))) {
                        Ok(spare) => writer.add_spare(spare),
                        Err(_) if self.media.is_dark() => return Stop::Failed,
                        Err(_) => {
                            let Ok(spare) = block_on(recipe.prepare(&io(&self.media))) else {
                                return Stop::Failed;
                            };
                            writer.add_spare(spare);
                        }
                    }
                }
                10 if self.trims => {
                    let below =
                        self.acknowledged + 1 - self.random.below(self.acknowledged + 2 - self.needed);
                    self.needed = below;
                    writer.trim(Lsn(below));
                    assert!(writer.oldest().0 <= below);
                }
                11 => writer.push_closing(),
                _ => {}
            }
            // An open may take one segment more than the budget.
            assert!(writer.used_bytes() <= writer.budget_bytes() + SEGMENT_BYTES);
        }
        // Appends under way when the world stops may have reached the media in part.
        for append in under_way {
            if self.random.below(3) > 0 {
                let _ = self.media.write(append.file, append.offset, &[&append.data], Durability::Cached);
            }
        }
        Stop::Done
    }

    fn fall(&mut self) {
        if self.random.below(4) == 0 && !self.media.is_dark() {
            self.media.kill();
            self.media.heal();
        } else {
            self.media.crash(self.random.next_u64());
        }
    }
}

fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var_os(name).and_then(|v| v.to_str()?.parse::<u64>().ok());
    let first = number("METROPOD_FIRST_SEED").unwrap_or(0);
    first..first + number("METROPOD_SEEDS").unwrap_or(default)
}

#[test]
fn acknowledged_records_survive_crashes_and_cut_records_never_come_back() {
    let (mut recovered, mut lives, mut recycled) = (0, 0, 0);
    for seed in seeds(1500) {
        let mut world = World::new(seed);
        for _ in 0..5 {
            let mut writer = world.open().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            recovered += writer.recovery().records;
            lives += 1;
            let steps = 20 + world.random.below(150);
            if world.random.below(3) == 0 {
                world.media.cut_power_after(world.random.below(40));
            }
            world.live(&mut writer, steps);
            recycled += u64::from(writer.oldest().0 > 1);
            world.fall();
        }
    }
    // The script must reach what it claims to test.
    assert!(recovered > 10 * lives && recycled > lives / 3, "{recovered} {recycled} of {lives}");
}

#[test]
fn a_power_cut_at_every_effect_of_life_and_recovery_loses_nothing_acknowledged() {
    for seed in seeds(6) {
        let run = |cut: Option<u64>| {
            let mut world = World::new(seed);
            if let Some(cut) = cut {
                world.media.cut_power_after(cut);
            }
            for _ in 0..2 {
                let Ok(mut writer) = world.open() else { break };
                if let Stop::Failed = world.live(&mut writer, 120) {
                    break;
                }
                world.media.kill();
            }
            world
        };
        let effects = run(None).media.effects();
        assert!(effects > 40);
        for cut in 0..effects {
            let mut world = run(Some(cut));
            world.media.crash(seed ^ cut);
            // Recovery is cut at every effect, too, before it succeeds.
            for again in 0.. {
                world.media.cut_power_after(again);
                match world.open() {
                    Ok(mut writer) => {
                        world.media.heal();
                        world.live(&mut writer, 30);
                        break;
                    }
                    Err(error) => {
                        assert!(matches!(error, OpenError::Media { .. }), "seed {seed} cut {cut}: {error}");
                        world.media.crash(seed ^ cut ^ again << 32);
                    }
                }
            }
            world.media.crash(cut);
            world.open().unwrap_or_else(|error| panic!("seed {seed} cut {cut}: {error}"));
        }
    }
}

#[test]
fn opening_twice_gives_the_same_records() {
    for seed in seeds(200) {
        let mut world = World::new(seed);
        let mut writer = world.open().unwrap();
        world.live(&mut writer, 150);
        world.media.crash(seed);
        let (_, first) = open_journal(&world.media, world.config()).unwrap();
        world.media.kill();
        let (_, second) = open_journal(&world.media, world.config()).unwrap();
        assert!(first == second, "seed {seed}");
    }
}

#[test]
fn every_failing_effect_either_does_no_harm_or_stops_the_journal() {
    for seed in seeds(150) {
        let mut world = World::new(seed);
        let mut writer = world.open().unwrap();
        for life in 0..4 {
            let fault = [Fault::ERROR, Fault::Fail(metropod_journal::media::Cause::NoSpace)][life % 2];
            let nth = 1 + world.random.below(30);
            world.media.fail_nth(None, nth, fault);
            world.live(&mut writer, 150);
            world.media.crash(seed + life as u64);
            writer = world.open().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
    }
}

#[test]
fn a_durable_write_that_lied_is_reported_unless_nothing_durable_follows_it() {
    let (mut reported, mut intact) = (0, 0);
    for seed in seeds(300) {
        let mut world = World::new(seed);
        world.trims = false;
        world.frames_in_flight = 1;
        let mut writer = world.open().unwrap();
        world.live(&mut writer, 60);
        world.media.fail_nth(Some(Operation::DurableWrite), 1 + world.random.below(6), Fault::Lie);
        world.live(&mut writer, 100);
        world.media.crash(seed);
        match open_journal(&world.media, world.config()) {
            Ok((writer, _)) => {
                // Only an append that no later one vouches for can be lost unseen.
                assert!(writer.durable().0 >= world.acknowledged_before);
                intact += 1;
            }
            Err(OpenError::DamagedBelowTail { at, file, durable_to, .. }) => {
                assert!(at.0 <= world.acknowledged && at <= durable_to);
                assert!(world.media.list(DIR).unwrap().contains(&file.to_string()));
                reported += 1;
            }
            // The header of a new segment.
            Err(OpenError::NotASegment { .. }) => reported += 1,
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    assert!(reported > 30 && intact > 30, "{reported} {intact}");
}

#[test]
fn an_intact_frame_beyond_a_cut_never_follows_frames_of_a_later_life() {
    let media = SimMedia::new();
    let mut random = SplitMix::new(1);
    let mut config = config(1);
    config.frames_in_flight = 3;
    let (mut writer, _) = open_journal(&media, config.clone()).expect("a new journal");
    let small = |random: &mut SplitMix| Record { attachment: Default::default(), ..random_record(random) };
    let first = small(&mut random);
    writer.push(first.clone());
    drain(&media, &mut writer);
    let appends = [0, 1, 2].map(|_| {
        writer.push(small(&mut random));
        writer.next_append().expect("three may be under way")
    });
    // The first is lost, the second and the third land.
    for append in &appends[1..] {
        write(&media, append).expect("healthy media");
    }
    media.crash(1);
    let (mut writer, visited) = open_journal(&media, config.clone()).expect("a torn tail");
    assert!(visited.len() == 1 && writer.recovery().frames_cut == 2);
    // Opening frame and one frame of two records: number, place and record number of the next frame are those of
    // the third of before, which is still there.
    let log = [first, small(&mut random), small(&mut random)];
    for record in &log[1..] {
        writer.push(record.clone());
    }
    let append = writer.next_append().expect("queued");
    assert_eq!((append.offset, append.data.len()), (appends[1].offset, 4096));
    write(&media, &append).expect("healthy media");
    media.crash(2);
    let (writer, visited) = open_journal(&media, config).expect("a stale tail");
    assert_eq!(writer.recovery().frames_cut, 1);
    assert!(visited.iter().map(|(_, record)| record).eq(&log));
}
