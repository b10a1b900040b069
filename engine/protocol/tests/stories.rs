//! The stories that shaped the protocol, each as a test. Numbers are those of the specification.

mod support;

use metropod_protocol::mediator::Register;
use metropod_protocol::*;
use support::array::Item;
use support::{Direction, IDS, World, ms};

fn committed(world: &World, op: u64) -> Option<Index> {
    match world.oracle.outcome(op) {
        Some(Outcome::Committed(index)) => Some(index),
        _ => None,
    }
}

/// Whether an array's log holds an operation.
fn holds(world: &World, array: usize, op: u64) -> bool {
    let machine = world.machine(array);
    (machine.base().index.0 + 1..=machine.log_end().0).any(|index| {
        match &machine.entry(Index(index)).expect("a held entry").body {
            Body::Operation { descriptor, .. } => descriptor[..] == op.to_le_bytes(),
            _ => false,
        }
    })
}

fn becomes_whole(world: &mut World) {
    let whole = world.run_until(ms(12_000), |world| world.is_whole());
    assert!(whole, "both serve again, mirrored: {}", world.describe());
    world.run_for(ms(100));
    assert_eq!(world.arrays[0].chains, world.arrays[1].chains, "both logs are the same");
}

/// A pod whose array 0 went on alone while array 1 is off; the link is cut.
fn zero_alone(seed: u64) -> World {
    let mut world = World::stretched_with(seed, |world| world.preferred = Some(IDS[0]));
    world.cut(Direction::Both);
    assert!(world.run_until(ms(2_000), |world| world.is_alone(0)), "{}", world.describe());
    world
}

#[test]
fn a_write_takes_one_round_trip_from_either_side() {
    for array in 0..2 {
        let mut world = World::stretched(array as u64);
        world.net.delay = [ms(4), ms(4)];
        let started = world.now;
        let op = world.submit(array).unwrap();
        assert!(world.run_until(ms(100), |world| committed(world, op).is_some()));
        let taken = world.now - started;
        assert!(taken < ms(14), "one round trip of 8 to 12 ms and a durable write, not two: {taken}");
    }
}

#[test]
fn story_1_an_order_durable_at_the_peer_only_stays_when_the_peer_goes_on() {
    let mut world = World::stretched(1);
    world.arrays[0].stalled = true;
    let op = world.submit(0).unwrap();
    world.run_for(ms(10));
    assert!(holds(&world, 1, op));
    world.crash_keeping(0, 0);
    assert!(world.run_until(ms(2_000), |world| world.is_alone(1)), "{}", world.describe());
    assert!(holds(&world, 1, op));
    world.restart(0);
    becomes_whole(&mut world);
    assert!(holds(&world, 1, op), "array 0 has it by the image or by the log: the logs are the same");
}

#[test]
fn story_1_a_restarted_sequencer_adopts_what_it_lost_before_it_orders() {
    let mut world = World::stretched(2);
    world.arrays[0].stalled = true;
    let lost = world.submit(0).unwrap();
    world.run_for(ms(10));
    world.crash_keeping(0, 0);
    world.restart(0);
    let later = world.submit(0).unwrap();
    becomes_whole(&mut world);
    assert!(world.run_until(ms(200), |world| committed(world, later).is_some()));
    assert!(holds(&world, 0, lost) && holds(&world, 1, lost) && holds(&world, 1, later));
}

#[test]
fn story_2_frames_of_an_earlier_session_change_nothing() {
    let mut world = World::stretched(3);
    world.recording = true;
    for _ in 0..5 {
        world.submit(0);
        world.submit(1);
    }
    world.run_for(ms(50));
    world.crash_keeping(0, 0);
    world.restart(0);
    becomes_whole(&mut world);
    let ends = [world.machine(0).log_end(), world.machine(1).log_end()];
    world.recording = false;
    for (to, message) in std::mem::take(&mut world.recorded) {
        if matches!(message, Message::Frame { .. }) {
            world.step(to, Input::Receive(message));
        }
    }
    assert_eq!(ends, [world.machine(0).log_end(), world.machine(1).log_end()]);
    world.run_for(ms(500));
    assert!(world.is_whole());
}

#[test]
fn story_3_no_hello_before_everything_is_durable() {
    let mut world = World::stretched(4);
    world.arrays[1].stalled = true;
    let op = world.submit(0).unwrap();
    world.run_for(ms(10));
    assert!(holds(&world, 1, op));
    world.disconnect();
    world.run_for(ms(10));
    world.connect();
    world.run_for(ms(100));
    assert!(!world.status(0).unwrap().in_session && !world.status(1).unwrap().in_session);
    assert!(!world.status(0).unwrap().racing, "a peer that says it is busy is awaited");
    world.arrays[1].stalled = false;
    world.sync(1);
    world.run_for(ms(50));
    assert!(world.is_whole(), "{}", world.describe());
    assert!(committed(&world, op).is_some());
}

#[test]
fn story_4_a_late_durability_report_may_still_acknowledge() {
    let mut world = World::stretched_with(5, |world| world.preferred = Some(IDS[1]));
    world.arrays[0].stalled = true;
    let op = world.submit(0).unwrap();
    world.run_for(ms(10));
    // Array 1 holds it and said so; now the link is cut, array 1 wins, and only then array 0's disk is done.
    world.cut(Direction::Both);
    assert!(
        world
            .run_until(ms(900), |world| world.newest(1).is_some_and(|newest| newest.members.is_only(IDS[1])))
    );
    assert_eq!(committed(&world, op), None);
    world.arrays[0].stalled = false;
    world.sync(0);
    world.run_for(ms(5));
    assert!(holds(&world, 1, op));
    world.mend();
    becomes_whole(&mut world);
    assert!(holds(&world, 0, op) && holds(&world, 1, op));
}

#[test]
fn story_5_the_tail_of_the_loser_is_marked_first_and_then_cut() {
    let mut world = World::stretched_with(6, |world| world.preferred = Some(IDS[1]));
    world.cut(Direction::Both);
    let tail = world.submit(0).unwrap();
    world.run_for(ms(20));
    assert!(holds(&world, 0, tail) && !holds(&world, 1, tail));
    assert!(world.run_until(ms(2_000), |world| world.is_alone(1)), "{}", world.describe());
    world.run_for(ms(20));
    assert_eq!(world.serving(0), Some(Serving::Off));
    let kept = world.submit(1).unwrap();
    world.run_for(ms(20));
    let from = world.arrays[0].journal.len();
    world.mend();
    becomes_whole(&mut world);
    assert_eq!(committed(&world, tail), None);
    assert!(committed(&world, kept).is_some());
    assert!(!holds(&world, 0, tail) && !holds(&world, 1, tail) && holds(&world, 1, kept));
    let records: Vec<_> = world.arrays[0].journal[from..]
        .iter()
        .filter_map(|(_, item)| match item {
            Item::Record(_, record) => Some(record.clone()),
            Item::Entry(_) => None,
        })
        .collect();
    let mark = records.iter().position(|record| matches!(record, DurableRecord::OutOfSync(_))).unwrap();
    let cut = records.iter().position(|record| matches!(record, DurableRecord::Cut { .. })).unwrap();
    assert!(mark < cut);
}

#[test]
fn story_6_a_restarted_granter_keeps_the_promise_it_made_before() {
    for seed in 0..20 {
        let mut world = World::stretched_with(seed, |world| world.settings.boot_grace = Span(0));
        world.run_for(ms(500));
        world.mediator_path[0] = false;
        world.disconnect_mediator(0);
        world.crash(1);
        world.cut(Direction::Both);
        let promised_until = world.now + ms(300);
        world.run_for(ms(20));
        world.restart(1);
        // The oracle refuses any instant at which array 1 is alone while array 0 serves.
        assert!(world.run_until(ms(3_000), |world| world.is_alone(1)), "{}", world.describe());
        assert!(world.now >= promised_until);
    }
}

#[test]
fn story_7_a_frozen_holder_serves_no_read_when_it_wakes() {
    let mut world = World::stretched(8);
    world.arrays[0].frozen_until = world.now + ms(3_000);
    assert!(world.run_until(ms(2_000), |world| world.is_alone(1)), "{}", world.describe());
    let op = world.submit(1).unwrap();
    world.run_for(ms(50));
    assert!(committed(&world, op).is_some());
    world.now = world.arrays[0].frozen_until;
    assert_ne!(world.serving(0), Some(Serving::Yes), "before it has handled anything");
    becomes_whole(&mut world);
}

#[test]
fn story_8_a_link_that_works_in_one_direction_is_lost_for_both() {
    for from in 0..2 {
        let mut world = World::stretched(9);
        world.cut(Direction::From(from));
        assert!(
            world.run_until(ms(2_000), |world| world.is_alone(0) || world.is_alone(1)),
            "{}",
            world.describe()
        );
        world.run_for(ms(1_000));
        assert!(world.is_online(0) != world.is_online(1));
        world.mend();
        becomes_whole(&mut world);
    }
}

#[test]
fn story_9_a_link_lost_at_any_instant_of_join_and_hand_back_leaves_exactly_one_serving() {
    for events in 0..220 {
        let mut world = zero_alone(10);
        world.mend();
        for _ in 0..events {
            world.run_one();
        }
        world.cut(Direction::Both);
        let one = world.run_until(ms(4_000), |world| world.is_alone(0) || world.is_alone(1));
        assert!(one, "after {events} events: {}", world.describe());
        world.run_for(ms(1_000));
        assert!(world.is_online(0) != world.is_online(1), "after {events} events: {}", world.describe());
        world.mend();
        becomes_whole(&mut world);
    }
}

#[test]
fn story_10_a_grant_that_nobody_heard_is_healed() {
    let mut world = World::stretched(11);
    let before = world.registers[&support::POD].record().unwrap();
    world.hold_grants = true;
    world.cut(Direction::Both);
    let stored =
        world.run_until(ms(2_000), |world| world.registers[&support::POD].record().unwrap().id != before.id);
    assert!(stored, "{}", world.describe());
    let winner = world.registers[&support::POD].record().unwrap().members.sole().unwrap();
    world.mend();
    world.run_for(ms(20));
    // The grant comes late and counts for nothing (story 11).
    world.hold_grants = false;
    becomes_whole(&mut world);
    // The winner of that race dies: the other goes on all the same.
    let winner = IDS.iter().position(|id| *id == winner).unwrap();
    world.crash(winner);
    assert!(world.run_until(ms(2_000), |world| world.is_alone(1 - winner)), "{}", world.describe());
}

#[test]
fn story_17_a_link_lost_at_any_instant_of_healing_leaves_exactly_one_serving() {
    for preferred in [0, 1] {
        for events in 0..160 {
            let mut world = World::stretched_with(17, |world| world.preferred = Some(IDS[preferred]));
            let before = world.registers[&support::POD].record().unwrap();
            world.hold_grants = true;
            world.cut(Direction::Both);
            let unheard = |world: &World| world.registers[&support::POD].record().unwrap().id != before.id;
            assert!(world.run_until(ms(2_000), unheard), "{}", world.describe());
            world.hold_grants = false;
            // The reply is lost with the mediator session.
            world.disconnect_mediator(0);
            world.disconnect_mediator(1);
            world.mend();
            world.connect_mediator(0);
            world.connect_mediator(1);
            for _ in 0..events {
                world.run_one();
            }
            world.cut(Direction::Both);
            let one = world.run_until(ms(4_000), |world| world.is_alone(0) || world.is_alone(1));
            assert!(one, "after {events} events: {}", world.describe());
            world.run_for(ms(1_000));
            assert!(world.is_online(0) != world.is_online(1), "after {events} events: {}", world.describe());
            world.mend();
            becomes_whole(&mut world);
        }
    }
}

#[test]
fn story_12_a_late_refusal_does_not_put_a_racer_off() {
    let mut world = World::stretched(12);
    world.run_for(ms(100));
    for array in 0..2 {
        world.mediator_path[array] = false;
        world.disconnect_mediator(array);
    }
    world.cut(Direction::Both);
    world.run_for(ms(1_000));
    assert_eq!((world.serving(0), world.serving(1)), (Some(Serving::Held), Some(Serving::Held)));
    let record = world.registers[&support::POD].record();
    for request in 0..4 {
        let answer = Answer::Refused { reason: mediator::Refusal::Changed, record };
        world.step(0, Input::Mediator(MediatorReply { request, pod: support::POD, answer }));
    }
    assert_eq!(world.serving(0), Some(Serving::Held));
    // Mediator and link lost, link back: nothing lost, no resync, no race won.
    world.mend();
    assert!(
        world.run_until(ms(500), |world| world.is_online(0) && world.is_online(1)),
        "{}",
        world.describe()
    );
    assert!(!world.oracle.resynced);
}

#[test]
fn story_13_a_late_record_fails_on_what_it_expects() {
    let pair = Members::pair(IDS[0], IDS[1]);
    let statement = |expect: Option<u8>, id: u8, members: Members, number: u64| Statement {
        pod: support::POD,
        mediator: support::MEDIATOR,
        expect: expect.map(|id| RegisterId([id; 16])),
        id: RegisterId([id; 16]),
        epoch: Epoch { era: 0, number },
        members,
        config: ConfigId([0; 16]),
    };
    let apply = |register: &mut Register, caller: ArrayId, statement: &Statement| match register
        .swap(caller, statement, &IDS)
    {
        mediator::Decision::Granted { record, .. } => {
            *register = Register::Present(record);
            true
        }
        _ => false,
    };
    let mut register = Register::Absent;
    assert!(apply(&mut register, IDS[0], &statement(None, 1, pair, 1)));
    let late = statement(Some(1), 2, pair, 9);
    assert!(apply(&mut register, IDS[0], &statement(Some(1), 3, pair, 3)));
    assert!(apply(&mut register, IDS[1], &statement(Some(3), 4, Members::one(IDS[1]), 4)));
    assert!(!apply(&mut register, IDS[0], &late), "whatever its number");
    assert!(!apply(&mut register, IDS[0], &statement(Some(3), 5, Members::one(IDS[0]), 5)));
    // Asked again by the same caller, also after a restart with another proposal: the same grant (F54).
    assert!(apply(&mut register, IDS[1], &statement(Some(3), 6, Members::one(IDS[1]), 6)));
    assert_eq!(register.record().unwrap().id, RegisterId([4; 16]));
}

#[test]
fn story_13_nobody_but_both_creates_a_register_and_a_tombstone_stays() {
    let mut statement = Statement {
        pod: support::POD,
        mediator: support::MEDIATOR,
        expect: None,
        id: RegisterId([1; 16]),
        epoch: Epoch::default(),
        members: Members::pair(IDS[0], IDS[1]),
        config: ConfigId([0; 16]),
    };
    let refused = mediator::Decision::Refused(mediator::Refusal::NoConsent);
    assert_eq!(Register::Absent.swap(IDS[0], &statement, &[]), refused);
    statement.members = Members::one(IDS[0]);
    assert_eq!(Register::Absent.swap(IDS[0], &statement, &IDS), refused);
    let removed = mediator::Decision::Refused(mediator::Refusal::Removed);
    assert_eq!(Register::Removed.swap(IDS[0], &statement, &IDS), removed);
}

#[test]
fn story_14_join_durable_at_the_joiner_only_is_cut_when_the_survivor_comes_back_alone() {
    let mut world = zero_alone(14);
    world.submit(0);
    world.run_for(ms(20));
    world.mend();
    let joining = |world: &World| {
        let pair = |array: usize| world.newest(array).is_some_and(|newest| newest.members.is_pair());
        pair(0) && world.machine(0).durable() < world.machine(0).log_end()
    };
    assert!(world.run_until(ms(3_000), joining), "{}", world.describe());
    world.arrays[0].stalled = true;
    world.run_for(ms(6));
    assert!(world.newest(1).unwrap().members.is_pair(), "{}", world.describe());
    assert_eq!(world.machine(1).durable(), world.machine(1).log_end());
    world.crash_keeping(0, 0);
    world.cut(Direction::Both);
    world.run_for(ms(10));
    world.restart(0);
    assert!(world.run_until(ms(2_000), |world| world.is_alone(0)), "{}", world.describe());
    assert_ne!(world.serving(1), Some(Serving::Yes));
    world.submit(0);
    world.run_for(ms(20));
    world.mend();
    becomes_whole(&mut world);
}

#[test]
fn story_15_join_known_to_the_joiner_only_leaves_the_survivor_entitled() {
    let mut world = zero_alone(15);
    world.mend();
    world.mediator_path = [false; 2];
    world.disconnect_mediator(0);
    world.disconnect_mediator(1);
    assert!(world.run_until(ms(3_000), |world| world.newest(0).unwrap().members.is_pair()));
    world.cut(Direction::From(1));
    assert!(
        world.run_until(ms(100), |world| world.machine(1).out_of_sync().is_none()),
        "{}",
        world.describe()
    );
    world.cut(Direction::Both);
    assert!(world.run_until(ms(2_000), |world| world.is_alone(0)), "{}", world.describe());
    world.run_for(ms(1_000));
    assert!(!world.is_online(1));
    world.mediator_path = [true; 2];
    world.connect_mediator(0);
    world.connect_mediator(1);
    world.mend();
    becomes_whole(&mut world);
}

#[test]
fn story_16_a_joiner_without_the_right_does_not_go_on_when_the_survivor_dies() {
    let mut world = zero_alone(16);
    world.mediator_path = [false; 2];
    world.disconnect_mediator(0);
    world.disconnect_mediator(1);
    world.mend();
    assert!(
        world.run_until(ms(3_000), |world| world.is_online(0) && world.is_online(1)),
        "{}",
        world.describe()
    );
    assert_eq!(world.status(1).unwrap().pre_elected, Some(IDS[0]));
    world.crash(0);
    world.run_for(ms(3_000));
    assert_eq!(world.serving(1), Some(Serving::Off));
    world.mediator_path = [true; 2];
    world.connect_mediator(1);
    world.run_for(ms(2_000));
    assert_eq!(world.serving(1), Some(Serving::Off), "nothing M could say matters (story 19)");
    world.restart(0);
    becomes_whole(&mut world);
}

#[test]
fn the_right_goes_back_by_the_follower_when_only_it_reaches_the_mediator() {
    let mut world = zero_alone(17);
    world.mediator_path[0] = false;
    world.disconnect_mediator(0);
    world.mend();
    let back =
        |world: &World| matches!(world.newest(0).map(|newest| newest.right), Some(Right::Mediator { .. }));
    assert!(world.run_until(ms(4_000), back), "{}", world.describe());
    world.run_for(ms(200));
    assert!(world.is_online(0) && world.is_online(1));
    // Now array 0 dies: array 1, which reaches the mediator, goes on.
    world.crash(0);
    assert!(world.run_until(ms(1_000), |world| world.is_alone(1)), "{}", world.describe());
}

#[test]
fn a_survivor_that_trimmed_what_its_joiner_lacks_before_join_goes_alone_again() {
    let mut world = zero_alone(19);
    for _ in 0..20 {
        world.submit(0);
    }
    world.run_for(ms(20));
    world.hold_catch_up = true;
    world.mend();
    assert!(world.run_until(ms(1_000), |world| world.machine(1).out_of_sync().is_some()));
    world.run_for(ms(5));
    world.arrays[1].stalled = true;
    world.step(0, Input::SuffixPossible);
    let joining = |world: &World| world.newest(0).is_some_and(|newest| newest.members.is_pair());
    world.run_for(ms(20));
    if !joining(&world) {
        world.arrays[1].stalled = false;
        world.sync(1);
        assert!(world.run_until(ms(100), joining), "{}", world.describe());
        world.arrays[1].stalled = true;
    }
    world.disconnect();
    world.run_for(ms(10));
    world.checkpoint(0);
    world.run_for(ms(10));
    world.crash_keeping(1, 0);
    world.restart(1);
    world.hold_catch_up = false;
    becomes_whole(&mut world);
}

#[test]
fn story_18_a_crash_of_either_at_any_instant_of_join_and_hand_back_ends_whole() {
    for array in 0..2 {
        for events in (0..220).step_by(2) {
            let mut world = zero_alone(18);
            world.submit(0);
            world.mend();
            for _ in 0..events {
                world.run_one();
            }
            world.crash(array);
            world.run_for(ms(700));
            world.restart(array);
            becomes_whole(&mut world);
        }
    }
}

#[test]
fn story_21_a_stuck_disk_is_ejected_and_30_what_it_completes_later_does_not_count() {
    for stuck in [0, 1] {
        let mut world = World::stretched_with(21, |world| world.preferred = Some(IDS[stuck]));
        let before = world.now;
        world.arrays[stuck].stalled = true;
        let op = world.submit(1 - stuck).unwrap();
        assert!(world.run_until(ms(3_500), |world| world.is_alone(1 - stuck)), "{}", world.describe());
        assert!(world.now - before < ms(2_600), "{}", world.now - before);
        assert!(world.arrays[1 - stuck].alarms.contains(&Alarm::PeerEjected));
        world.run_for(ms(20));
        assert!(committed(&world, op).is_some());
        assert_ne!(world.serving(stuck), Some(Serving::Yes));
        world.arrays[stuck].stalled = false;
        world.sync(stuck);
        becomes_whole(&mut world);
    }
}

#[test]
fn story_22_a_forward_older_than_a_lease_is_refused_and_can_be_withdrawn() {
    let mut world = World::stretched_with(22, |world| world.settings.silence = Span::millis(2_000));
    world.net.delay = [0, ms(400)];
    world.run_for(ms(1_000));
    let kept = world.submit(1).unwrap();
    let given_up = world.submit(1).unwrap();
    world.run_for(ms(100));
    let request = RequestId(world.arrays[1].next_request);
    world.step(1, Input::Withdraw { request });
    assert_eq!(world.oracle.outcome(given_up), None, "it is on its way: nothing is certain yet");
    world.run_for(ms(800));
    assert_eq!(world.oracle.outcome(given_up), Some(Outcome::Withdrawn));
    assert_eq!(committed(&world, kept), None);
    world.net.delay = [0, 0];
    world.run_for(ms(1_000));
    assert!(committed(&world, kept).is_some(), "{}", world.describe());
    assert!(!holds(&world, 0, given_up) && !holds(&world, 1, given_up));
}

#[test]
fn story_23_a_write_that_waits_is_withdrawn_before_the_abort_is_answered() {
    let mut world = World::stretched(23);
    world.mediator_path = [false; 2];
    world.disconnect_mediator(0);
    world.disconnect_mediator(1);
    world.cut(Direction::Both);
    world.run_for(ms(1_000));
    for array in 0..2 {
        assert_eq!(world.serving(array), Some(Serving::Held));
        let op = world.submit(array).unwrap();
        let request = RequestId(world.arrays[array].next_request);
        world.step(array, Input::Withdraw { request });
        assert_eq!(world.oracle.outcome(op), Some(Outcome::Withdrawn));
    }
    world.mend();
    assert!(world.run_until(ms(500), |world| world.is_online(0) && world.is_online(1)));
    world.run_for(ms(100));
    assert!(!holds(&world, 0, 1) && !holds(&world, 1, 2));
}

#[test]
fn a_forward_cut_off_is_completed_from_the_survivors_log_or_sent_again_once() {
    for events in 0..60 {
        let mut world = World::stretched(230);
        world.run_for(ms(60));
        let op = world.submit(1).unwrap();
        for _ in 0..events {
            world.run_one();
        }
        world.disconnect();
        world.run_for(ms(20));
        world.connect();
        assert!(world.run_until(ms(1_000), |world| committed(world, op).is_some()), "{}", world.describe());
        let ordered = (1..=world.machine(0).log_end().0).filter(|index| {
            world
                .machine(0)
                .entry(Index(*index))
                .is_some_and(|entry| entry.origin == IDS[1] && entry.origin_request == 1)
        });
        assert_eq!(ordered.count(), 1, "after {events} events");
    }
}

#[test]
fn story_24_both_back_in_different_epochs_only_the_newer_goes_on() {
    let mut world = zero_alone(24);
    let op = world.submit(0).unwrap();
    world.run_for(ms(50));
    world.crash(0);
    world.crash(1);
    world.run_for(ms(100));
    world.restart(1);
    world.restart(0);
    assert!(world.run_until(ms(1_000), |world| world.is_alone(0)));
    world.run_for(ms(4_000));
    assert_eq!(world.serving(1), Some(Serving::Off), "{}", world.describe());
    world.mend();
    becomes_whole(&mut world);
    assert!(holds(&world, 0, op));
}

#[test]
fn story_25_a_restart_remembers_that_the_hand_back_is_known() {
    let mut world = World::stretched(25);
    world.crash(0);
    world.crash(1);
    world.restart(1);
    assert!(world.run_until(ms(4_000), |world| world.is_alone(1)), "{}", world.describe());
}

#[test]
fn story_29_both_judge_the_other_slow_and_the_mediator_decides_once() {
    let mut world = World::stretched(29);
    world.net.delay = [ms(2_000), ms(2_000)];
    assert!(
        world.run_until(ms(3_000), |world| world.is_alone(0) || world.is_alone(1)),
        "{}",
        world.describe()
    );
    world.run_for(ms(1_000));
    assert!(world.is_online(0) != world.is_online(1));
    world.net.delay = [0, 0];
    world.mend();
    becomes_whole(&mut world);
}

#[test]
fn story_34_a_joiner_is_in_sync_by_a_join_after_the_survivors_configuration_only() {
    for seed in 0..30 {
        let mut world = zero_alone(340 + seed);
        world.mend();
        let joined = world
            .run_until(ms(3_000), |world| world.machine(1).out_of_sync().is_none() && world.is_online(1));
        // It was in sync all the time before it heard of array 0 going alone; wait for the whole way.
        assert!(joined || !world.is_online(1));
        becomes_whole(&mut world);
        let machine = world.machine(1);
        let alone =
            machine.history().iter().rev().find(|item| item.configuration.members.is_only(IDS[0])).unwrap();
        assert!(machine.committed() > alone.first);
    }
}

#[test]
fn story_35_a_refusal_does_not_stick_when_the_right_turns_out_to_be_the_own() {
    let mut world = World::stretched_with(35, |world| world.preferred = Some(IDS[0]));
    let before = world.registers[&support::POD].record().unwrap();
    world.hold_grants = true;
    world.cut(Direction::Both);
    let unheard = |world: &World| world.registers[&support::POD].record().unwrap().id != before.id;
    assert!(world.run_until(ms(2_000), unheard));
    world.hold_grants = false;
    for array in 0..2 {
        world.disconnect_mediator(array);
    }
    world.mend();
    world.connect_mediator(1);
    // Array 0 pre-elects itself; its copy of that is on the way to the disk, array 1 has said that it holds it.
    let proposed = |world: &World| world.newest(0).is_some_and(|newest| newest.pre_elected() == Some(IDS[0]));
    assert!(world.run_until(ms(1_000), proposed), "{}", world.describe());
    world.arrays[0].stalled = true;
    world.run_for(ms(8));
    assert_eq!(world.newest(1).unwrap().pre_elected(), Some(IDS[0]));
    assert!(world.machine(0).durable() < world.machine(0).log_end());
    world.disconnect_mediator(1);
    world.cut(Direction::Both);
    assert!(world.run_until(ms(600), |world| world.status(0).unwrap().racing), "{}", world.describe());
    let record = Record { members: Members::one(IDS[1]), epoch: Epoch { era: 0, number: 90 }, ..before };
    let answer = Answer::Refused { reason: mediator::Refusal::Changed, record: Some(record) };
    world.step(0, Input::Mediator(MediatorReply { request: 1_000_000, pod: support::POD, answer }));
    assert_eq!(world.serving(0), Some(Serving::Off));
    world.arrays[0].stalled = false;
    world.sync(0);
    assert!(world.run_until(ms(500), |world| world.is_alone(0)), "{}", world.describe());
    assert!(!world.is_online(1));
    world.connect_mediator(0);
    world.connect_mediator(1);
    world.mend();
    becomes_whole(&mut world);
}

#[test]
fn f36_a_common_power_loss_ends_without_race_and_resync() {
    let mut world = World::stretched(36);
    let op = world.submit(0).unwrap();
    world.run_for(ms(20));
    let config = world.newest(0).unwrap();
    world.crash(0);
    world.crash(1);
    world.stop_mediator();
    world.run_for(ms(50));
    world.restart(1);
    world.run_for(ms(800));
    world.restart(0);
    world.start_mediator(false);
    world.connect_mediator(0);
    world.connect_mediator(1);
    becomes_whole(&mut world);
    assert_eq!(world.newest(0), Some(config), "the same configuration goes on");
    assert!(!world.oracle.resynced && holds(&world, 0, op));
}

#[test]
fn f01_the_preferred_array_wins_and_a_dead_preferred_array_wastes_no_head_start() {
    for preferred in [0, 1] {
        for seed in 0..10 {
            let mut world = World::stretched_with(seed, |world| world.preferred = Some(IDS[preferred]));
            let mut dead = World::stretched_with(seed, |world| world.preferred = Some(IDS[preferred]));
            world.cut(Direction::Both);
            assert!(world.run_until(ms(1_000), |world| world.is_alone(preferred)), "{}", world.describe());
            dead.crash(preferred);
            assert!(dead.run_until(ms(1_000), |world| world.is_alone(1 - preferred)), "{}", dead.describe());
        }
    }
}

#[test]
fn f54_a_grant_lost_on_its_way_is_given_again() {
    let mut world = World::stretched_with(54, |world| world.preferred = Some(IDS[0]));
    world.cut(Direction::Both);
    let before = world.registers[&support::POD].record().unwrap().id;
    assert!(
        world.run_until(ms(1_000), |world| world.registers[&support::POD].record().unwrap().id != before)
    );
    // The mediator dies with its reply and comes back (F55).
    world.stop_mediator();
    world.run_for(ms(100));
    world.start_mediator(false);
    world.connect_mediator(0);
    world.connect_mediator(1);
    assert!(world.run_until(ms(2_000), |world| world.is_alone(0)), "{}", world.describe());
    world.run_for(ms(1_000));
    assert_eq!(world.serving(1), Some(Serving::Off));
}

#[test]
fn hosts_of_a_held_array_are_failed_after_the_hold_time_and_served_when_the_link_is_back() {
    let mut world = World::stretched(60);
    world.mediator_path = [false; 2];
    world.disconnect_mediator(0);
    world.disconnect_mediator(1);
    world.cut(Direction::Both);
    world.run_for(ms(1_000));
    let op = world.submit(0).unwrap();
    world.run_for(ms(26_000));
    assert_eq!(world.serving(0), Some(Serving::Suspended));
    assert!(
        matches!(world.oracle.outcome(op), Some(Outcome::Refused(Refused::Suspended)))
            || holds(&world, 0, op)
    );
    world.mend();
    assert!(
        world.run_until(ms(500), |world| world.is_online(0) && world.is_online(1)),
        "{}",
        world.describe()
    );
    assert!(!world.oracle.resynced);
}
