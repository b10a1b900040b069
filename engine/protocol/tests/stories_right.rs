//! The stories about leases, races and the mediator. Numbers are those of the specification's stories.

mod support;

use metropod_protocol::mediator::Register;
use metropod_protocol::*;
use support::story::*;
use support::{Direction, IDS, World, ms};

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

/// What an array asks the mediator when its peer wants it to carry this.
fn carried(world: &World, array: usize, ask: Ask) -> Vec<Ask> {
    let frames = world.recorded.iter().rev();
    let (session, number) = frames
        .filter(|(to, _)| *to == array)
        .find_map(|(_, message)| match message {
            Message::Frame { session, number, .. } => Some((*session, *number + 1)),
            _ => None,
        })
        .expect("the frames hold one to this array");
    let mut machine = world.machine(array).clone();
    let now = world.arrays[array].clock(world.now);
    let body = Frame::Carry { request: 1_000, ask };
    machine.step(now, Input::Receive(Message::Frame { session, number, body }));
    std::iter::from_fn(|| machine.next_effect())
        .filter_map(|effect| match effect {
            Effect::Mediator(request) => Some(request.ask),
            _ => None,
        })
        .collect()
}

#[test]
fn story_9_nobody_carries_a_change_that_it_would_not_consent_to() {
    let mut world = World::stretched_with(9, |world| world.recording = true);
    world.run_for(ms(500));
    let newest = world.newest(1).unwrap();
    let Right::Mediator { mediator, register } = newest.right else { panic!("{}", world.describe()) };
    let swap = |statement: Statement| Ask::Swap { statement, consents: Vec::new(), preferred: None };
    let statement = Statement {
        pod: support::POD,
        mediator,
        expect: Some(register),
        id: RegisterId([0x55; 16]),
        epoch: newest.epoch,
        members: newest.members,
        config: newest.id,
    };
    assert_eq!(carried(&world, 1, Ask::Read { pod: support::POD }).len(), 1, "a READ is carried");
    assert_eq!(carried(&world, 1, swap(statement)), [], "the right is at the mediator already");
}

#[test]
fn a_change_is_carried_for_the_pair_that_the_carrier_knows() {
    // Nobody reaches the mediator, so the right stays at the array that stretched the pod.
    let mut world = World::stretching_with(10, |world| {
        world.recording = true;
        world.mediator_path = [false; 2];
    });
    world.disconnect_mediator(0);
    world.disconnect_mediator(1);
    assert!(world.run_until(ms(4_000), |world| world.is_online(0) && world.is_online(1)));
    world.run_for(ms(500));
    let newest = world.newest(1).unwrap();
    assert!(matches!(newest.right, Right::Array(_)), "{}", world.describe());
    world.step(1, Input::SetMediator(Some(support::MEDIATOR)));
    world.step(1, Input::MediatorUp { mediator: support::MEDIATOR });
    let swap = |statement: Statement| Ask::Swap { statement, consents: Vec::new(), preferred: None };
    let good = Statement {
        pod: support::POD,
        mediator: support::MEDIATOR,
        expect: None,
        id: RegisterId([0x55; 16]),
        epoch: newest.epoch,
        members: newest.members,
        config: newest.id,
    };
    assert_eq!(carried(&world, 1, swap(good)), [swap(good)]);
    let earlier = Statement { config: ConfigId([1; 16]), ..good };
    let others = Statement { members: Members::pair(IDS[0], ArrayId([9; 16])), ..good };
    for bad in [earlier, others] {
        assert_eq!(carried(&world, 1, swap(bad)), []);
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
