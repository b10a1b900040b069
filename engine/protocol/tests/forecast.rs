//! What is forecast happens: in every standing of a pod that lasts, each cut is made, and who goes on is compared.

mod support;

use metropod_protocol::*;
use support::{Direction, IDS, World, ms};

/// A standing of the pod in which nothing moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Mirrored; whether each array reaches the mediator.
    Mirrored([bool; 2]),
    /// The mediator was lost by both long ago.
    PreElected,
    /// Array 0 went on alone, the link is cut.
    Alone,
    /// Array 1 is being brought level.
    Resyncing,
    /// A race was not finished; array 1 does not reach the mediator since, so that the register is not healed.
    Held,
}

const STANDINGS: [Standing; 8] = [
    Standing::Mirrored([true, true]),
    Standing::Mirrored([true, false]),
    Standing::Mirrored([false, true]),
    Standing::Mirrored([false, false]),
    Standing::PreElected,
    Standing::Alone,
    Standing::Resyncing,
    Standing::Held,
];

fn lose_path(world: &mut World, array: usize) {
    world.mediator_path[array] = false;
    world.disconnect_mediator(array);
}

fn standing(seed: u64, standing: Standing, preferred: Option<usize>) -> World {
    let mut world = World::stretched_with(seed, |world| world.preferred = preferred.map(|array| IDS[array]));
    world.run_for(ms(400));
    match standing {
        Standing::Mirrored(reach) => {
            for array in (0..2).filter(|array| !reach[*array]) {
                lose_path(&mut world, array);
            }
            world.run_for(ms(300));
        }
        Standing::PreElected => {
            lose_path(&mut world, 0);
            lose_path(&mut world, 1);
            world.run_for(ms(2_000));
        }
        Standing::Alone | Standing::Resyncing => {
            world.crash(1);
            assert!(world.run_until(ms(2_000), |world| world.is_alone(0)), "{}", world.describe());
            world.submit(0);
            world.run_for(ms(50));
            world.cut(Direction::Both);
            world.restart(1);
            world.run_for(ms(3_000));
            if standing == Standing::Resyncing {
                world.hold_catch_up = true;
                world.mend();
                world.run_for(ms(1_000));
            }
        }
        Standing::Held => {
            lose_path(&mut world, 0);
            lose_path(&mut world, 1);
            world.cut(Direction::Both);
            world.run_for(ms(1_500));
        }
    }
    world
}

fn forecast(world: &World, array: usize) -> [Forecast; 5] {
    world.machine(array).forecast(world.arrays[array].clock(world.now))
}

fn make(world: &mut World, array: usize, cut: Cut) {
    match cut {
        Cut::Link => world.cut(Direction::Both),
        Cut::Peer => world.crash(1 - array),
        Cut::Own => world.crash(array),
        Cut::Mediator => world.stop_mediator(),
        Cut::LinkAndMediator => {
            world.stop_mediator();
            world.cut(Direction::Both);
        }
    }
    if matches!(cut, Cut::Mediator | Cut::LinkAndMediator) {
        world.disconnect_mediator(0);
        world.disconnect_mediator(1);
    }
}

fn check(world: &World, line: Forecast) {
    let online = [0, 1].map(|array| world.arrays[array].machine.is_some() && world.is_online(array));
    let holds = match line.stays {
        Stays::Both => online == [true, true],
        Stays::Only(array) => online == IDS.map(|id| id == array),
        Stays::One => online[0] != online[1],
        Stays::Nobody => online == [false, false],
        Stays::Unknown => true,
    };
    assert!(holds, "{line:?}, but online are {online:?}: {}", world.describe());
}

#[test]
fn what_is_forecast_happens() {
    let (mut lines, mut told) = (0, std::collections::BTreeMap::new());
    for at in STANDINGS {
        for preferred in [None, Some(0), Some(1)] {
            for seed in 0..3 {
                for array in 0..2 {
                    for number in 0..Cut::ALL.len() {
                        let mut world = standing(seed, at, preferred);
                        let line = forecast(&world, array)[number];
                        lines += 1;
                        *told.entry((line.stays, line.because)).or_insert(0) += 1;
                        make(&mut world, array, line.cut);
                        world.run_for(ms(3_000));
                        check(&world, line);
                    }
                }
            }
        }
    }
    println!("{lines} forecasts: {told:#?}");
    let reasons: std::collections::BTreeSet<Because> = told.keys().map(|(_, because)| *because).collect();
    assert!(reasons.len() >= 10, "{reasons:?}");
}

#[test]
fn arrays_that_are_mirrored_forecast_the_same() {
    for at in &STANDINGS[..5] {
        for preferred in [None, Some(0), Some(1)] {
            let world = standing(3, *at, preferred);
            let (mine, theirs) = (forecast(&world, 0), forecast(&world, 1));
            let of = |lines: &[Forecast; 5], cut: Cut| {
                lines.iter().find(|line| line.cut == cut).map(|line| (line.stays, line.because))
            };
            let mirrored = [(Cut::Peer, Cut::Own), (Cut::Own, Cut::Peer), (Cut::Link, Cut::Link)];
            let same = [(Cut::Mediator, Cut::Mediator), (Cut::LinkAndMediator, Cut::LinkAndMediator)];
            for (here, there) in mirrored.into_iter().chain(same) {
                assert_eq!(of(&mine, here), of(&theirs, there), "{at:?}, {preferred:?}, {here:?}");
            }
        }
    }
}

/// How a pod comes from one standing to another; the steps are its events.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// A race was not finished: the register names array 0, which never heard it. The link is back.
    Healing,
    /// Both have lost the mediator.
    PreElecting,
    /// Array 1 reaches it again.
    HandingBack,
    /// Array 1 is brought level.
    Joining,
}

fn change(seed: u64, change: Change) -> World {
    let preferred = Some((seed % 2) as usize);
    match change {
        Change::Healing => {
            let mut world = World::stretched_with(seed, |world| world.preferred = Some(IDS[0]));
            world.run_for(ms(400));
            let register = |world: &World| world.registers[&support::POD].record().map(|record| record.id);
            let before = register(&world);
            world.hold_grants = true;
            world.cut(Direction::Both);
            let granted = world.run_until(ms(2_000), |world| register(world) != before);
            assert!(granted);
            world.hold_grants = false;
            world.disconnect_mediator(0);
            world.mend();
            world.connect_mediator(0);
            world
        }
        Change::PreElecting => {
            let mut world = standing(seed, Standing::Mirrored([true, true]), preferred);
            lose_path(&mut world, 0);
            lose_path(&mut world, 1);
            world.run_for(ms(950));
            world
        }
        Change::HandingBack => {
            let mut world = standing(seed, Standing::PreElected, preferred);
            world.mediator_path[1] = true;
            world.connect_mediator(1);
            world
        }
        Change::Joining => {
            let mut world = standing(seed, Standing::Alone, preferred);
            world.mend();
            world
        }
    }
}

#[test]
fn what_is_forecast_while_something_changes_happens_too() {
    let (mut lines, mut unknown, mut doubtful) = (0, 0, 0);
    for kind in [Change::Healing, Change::PreElecting, Change::HandingBack, Change::Joining] {
        for seed in 0..4 {
            for step in 0..160 {
                let mut world = change(seed, kind);
                for _ in 0..step {
                    world.run_one();
                }
                let told = [forecast(&world, 0)[0], forecast(&world, 1)[0]];
                // An array cannot know of a configuration that is on its way to it.
                let under_way = world.newest(0) != world.newest(1);
                world.cut(Direction::Both);
                world.run_for(ms(3_000));
                let told = told.into_iter().enumerate();
                let can_know = |(array, line): &(usize, Forecast)| {
                    !under_way || *array == 0 || line.because == Because::RegisterInDoubt
                };
                for (_, line) in told.filter(can_know) {
                    lines += 1;
                    unknown += u32::from(line.stays == Stays::Unknown);
                    doubtful += u32::from(line.because == Because::RegisterInDoubt);
                    assert_eq!(line.cut, Cut::Link);
                    println!("{kind:?}, seed {seed}, step {step}");
                    check(&world, line);
                }
            }
        }
    }
    println!(
        "{lines} forecasts, {unknown} of them that it cannot be told, {doubtful} of a register in doubt"
    );
    assert!(doubtful > 0 && unknown < lines / 2);
}

fn why(world: &World, array: usize) -> Why {
    world.machine(array).explain(world.arrays[array].clock(world.now))
}

#[test]
fn each_standing_is_explained() {
    let mirrored = standing(1, Standing::Mirrored([true, true]), None);
    assert_eq!((why(&mirrored, 0), why(&mirrored, 1)), (Why::Mirrored, Why::Mirrored));
    let alone = standing(1, Standing::Alone, None);
    assert_eq!(why(&alone, 0), Why::WentOnAlone { peer_in_session: false });
    assert!(matches!(why(&alone, 1), Why::AnotherWentOn { .. } | Why::Refused), "{:?}", why(&alone, 1));
    let resyncing = standing(1, Standing::Resyncing, None);
    assert_eq!(why(&resyncing, 0), Why::WentOnAlone { peer_in_session: true });
    assert_eq!(why(&resyncing, 1), Why::Behind { peer_in_session: true, first_time: false });
    let mut filling = World::stretching_with(1, |world| world.hold_catch_up = true);
    filling.run_for(ms(1_000));
    assert_eq!(why(&filling, 0), Why::Filling { peer_in_session: true });
    assert_eq!(why(&filling, 1), Why::Behind { peer_in_session: true, first_time: true });
    let held = standing(1, Standing::Held, None);
    assert_eq!((why(&held, 0), why(&held, 1)), (Why::MediatorUnreachable, Why::MediatorUnreachable));
    let mut off = standing(1, Standing::PreElected, Some(0));
    off.cut(Direction::Both);
    off.run_for(ms(2_000));
    assert_eq!(why(&off, 0), Why::WentOnAlone { peer_in_session: false });
    assert_eq!(why(&off, 1), Why::PeerIsPreElected);
    let mut stuck = standing(1, Standing::Mirrored([true, true]), None);
    stuck.arrays[1].stalled = true;
    stuck.submit(1);
    stuck.disconnect_mediator(1);
    assert!(stuck.run_until(ms(5_000), |world| why(world, 1) == Why::DiskStuck), "{}", stuck.describe());
    stuck.connect_mediator(1);
    let told = |world: &World| matches!(why(world, 1), Why::AnotherWentOn { .. });
    assert!(stuck.run_until(ms(1_000), told), "{}", stuck.describe());
}

/// A pre-elected array with a stuck disk takes no writes, and its peer neither goes on nor leaves it: its hosts wait.
#[test]
fn a_pre_elected_array_whose_disk_is_stuck_is_not_said_to_go_on() {
    let mut world = standing(4, Standing::PreElected, Some(0));
    world.arrays[0].stalled = true;
    world.submit(1);
    world.run_for(ms(4_000));
    for array in 0..2 {
        let line = forecast(&world, array)[0];
        assert_eq!(
            (line.cut, line.stays, line.because),
            (Cut::Link, Stays::Nobody, Because::PreElectedIsUnfit)
        );
    }
    assert!(world.machine(1).is_in_session(), "{}", world.describe());
    world.arrays[0].stalled = false;
    world.sync(0);
    world.run_for(ms(200));
    assert_eq!(world.oracle.open_ops(), 0, "nobody heard an error");
    world.arrays[0].stalled = true;
    world.submit(0);
    world.cut(Direction::Both);
    world.run_for(ms(2_000));
    assert_eq!((why(&world, 0), why(&world, 1)), (Why::DiskStuck, Why::PeerIsPreElected));
}

#[test]
fn decisions_tell_the_pods_history() {
    let mut world = standing(2, Standing::PreElected, Some(0));
    world.cut(Direction::Both);
    assert!(world.run_until(ms(2_000), |world| world.is_alone(0)));
    let decided: Vec<Decided> = world.machine(0).decisions(16).iter().map(|one| one.decided).collect();
    let [a, b] = IDS;
    let story = [
        Decided::Founded(a),
        Decided::Joined { by: a, array: b },
        Decided::HandedBack,
        Decided::PreElected(a),
        Decided::WentOn(a),
    ];
    assert_eq!(decided, story);
    assert_eq!(world.machine(0).decisions(2).len(), 2);
    let epochs: Vec<Epoch> = world.machine(0).decisions(16).iter().map(|one| one.epoch).collect();
    assert!(epochs.is_sorted());
}
