//! The stories about order, durability and requests. Numbers are those of the specification's stories.

mod support;

use metropod_protocol::*;
use support::array::Item;
use support::story::*;
use support::{Direction, IDS, World, ms};

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
        // The mediator tells it, though its disk can note nothing.
        world.run_for(ms(600));
        assert_eq!(world.serving(stuck), Some(Serving::Off));
        world.arrays[stuck].stalled = false;
        world.sync(stuck);
        becomes_whole(&mut world);
    }
}

/// What it has committed it may be unable to apply: its hosts' reads would wait for ever.
#[test]
fn a_peer_that_says_that_its_disk_has_failed_is_left_though_it_owes_nothing() {
    for failed in [0, 1] {
        let mut world = World::stretched_with(41, |world| world.preferred = Some(IDS[failed]));
        world.run_for(ms(500));
        world.step(failed, Input::DiskFailed);
        assert!(
            world.run_until(ms(2_600), |world| world.is_alone(1 - failed)),
            "{failed}: {}",
            world.describe()
        );
        assert!(world.arrays[1 - failed].alarms.contains(&Alarm::PeerEjected));
        world.run_for(ms(600));
        assert_eq!(world.serving(failed), Some(Serving::Off));
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

#[test]
fn what_waited_goes_out_as_the_window_allows_when_a_session_opens() {
    for array in 0..2 {
        let mut world = World::stretched(61);
        world.mediator_path = [false; 2];
        world.disconnect_mediator(0);
        world.disconnect_mediator(1);
        world.cut(Direction::Both);
        world.run_for(ms(1_000));
        assert_eq!(world.serving(array), Some(Serving::Held));
        world.payload = bytes::Bytes::from(vec![7; 1 << 19]);
        let waiting: Vec<u64> = (0..100).map(|_| world.submit(array).unwrap()).collect();
        world.mend();
        let (until, mut most) = (world.now + ms(2_000), 0);
        while world.now < until {
            world.run_one();
            most = most.max(world.payload_under_way(array));
        }
        let window = metropod_protocol::settings::WINDOW_BYTES;
        assert!(most <= window && most > window / 2, "{most} bytes under way at once");
        assert!(waiting.iter().all(|op| committed(&world, *op).is_some()), "{}", world.describe());
        assert!(!world.oracle.resynced);
    }
}

#[test]
fn a_share_of_the_window_is_kept_and_a_shut_window_opens_again() {
    let mut world = World::stretched(62);
    world.payload = bytes::Bytes::from(vec![7; 1 << 19]);
    for array in 0..2 {
        let limit =
            |world: &mut World, bytes| world.arrays[array].machine.as_mut().unwrap().set_window(bytes);
        limit(&mut world, 0);
        let waiting: Vec<u64> = (0..20).map(|_| world.submit(array).unwrap()).collect();
        world.run_for(ms(50));
        assert_eq!(world.payload_under_way(array), 0);
        assert!(waiting.iter().all(|op| committed(&world, *op).is_none()), "the window is shut");
        limit(&mut world, 3 << 19);
        let (until, mut most) = (world.now + ms(1_000), 0);
        while world.now < until {
            world.run_one();
            most = most.max(world.payload_under_way(array));
        }
        let two = 2 * (world.payload.len() + size_of_val(&world.next_op));
        assert_eq!(most, two, "with its fields a third entry is beyond the share");
        assert!(waiting.iter().all(|op| committed(&world, *op).is_some()), "{}", world.describe());
    }
}
