//! What may happen next.

use metropod_protocol::Side;

use crate::world::World;

/// One choice of the world. Numbers are arrays.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// The next message arrives.
    Deliver(usize),
    /// Everything written is durable.
    Sync(usize),
    /// The mediator decides the array's next ask.
    Decide(usize),
    /// The mediator's next reply arrives.
    Reply(usize),
    /// Time passes to the next deadline.
    Pass,
    /// A host writes.
    Submit(usize),
    /// A host gives its oldest open operation up.
    Withdraw(usize),
    /// Nothing gets through the link any more.
    Cut,
    /// Nothing gets through to this array any more.
    CutTowards(usize),
    /// This array notices that the connection is broken.
    Notice(usize),
    /// A new connection.
    Connect,
    /// Dies; so many of the items that were not durable survive.
    Crash(usize, usize),
    /// Starts from its disk.
    Restart(usize),
    /// The session with the mediator is lost.
    Lose(usize),
    /// And opened again.
    Regain(usize),
    /// A copy of the next message to this array stays on its way.
    Stray(usize),
    /// The stray arrives.
    Haunt,
}

/// Everything that may happen next, within the bounds.
pub fn possible(world: &World, actions: &mut Vec<Action>) {
    let (left, link) = (&world.left, &world.link);
    let mut may = |allowed: bool, action: Action| {
        if allowed {
            actions.push(action);
        }
    };
    for to in 0..2 {
        let array = &world.arrays[to];
        let up = array.machine().is_some();
        let waiting = !link.under_way[to].is_empty();
        may(up && waiting, Action::Deliver(to));
        may(up && array.unsynced() > 0, Action::Sync(to));
        may(!world.mediator.asks[to].is_empty(), Action::Decide(to));
        may(!world.mediator.replies[to].is_empty(), Action::Reply(to));
        may(up && left.writes > 0, Action::Submit(to));
        may(up && left.withdrawals > 0 && array.open() > 0, Action::Withdraw(to));
        may(left.cuts > 0 && link.is_whole(), Action::CutTowards(to));
        may(link.open[to] && link.is_broken(), Action::Notice(to));
        for survive in 0..=array.unsynced() {
            may(up && left.crashes > 0, Action::Crash(to, survive));
        }
        may(!up, Action::Restart(to));
        let connected = world.mediator.is_connected(to);
        may(left.losses > 0 && connected, Action::Lose(to));
        may(up && !connected, Action::Regain(to));
        may(left.strays > 0 && waiting && link.strays.is_empty(), Action::Stray(to));
    }
    may(left.cuts > 0 && link.is_whole(), Action::Cut);
    may(world.may_connect(), Action::Connect);
    may(!link.strays.is_empty(), Action::Haunt);
    let few = link.under_way.iter().all(|queue| queue.len() <= usize::from(world.in_flight));
    may(few && world.next_deadline().is_some_and(|at| at <= world.end), Action::Pass);
}

/// A situation that a search is meant to pass through.
pub type Situation = (&'static str, fn(&World) -> bool);

/// Situations, named.
pub const SITUATIONS: &[Situation] = &[
    ("both serve, mirrored", World::is_mirrored),
    ("array 0 is alone", |world| world.is_alone(0)),
    ("array 1 is alone", |world| world.is_alone(1)),
    ("an array is off after a refusal", |world| {
        (0..2).any(|array| {
            let machine = world.arrays[array].machine();
            machine.is_some_and(|machine| {
                machine.out_of_sync().is_none() && machine.status(world.now).mine == Side::Offline
            })
        })
    }),
    ("an array is out of sync", |world| {
        let behind = |array: usize| world.arrays[array].machine().and_then(|machine| machine.out_of_sync());
        (0..2).any(|array| behind(array).is_some())
    }),
    ("the right is at an array of a pair", |world| {
        let elected = |array: usize| {
            let machine = world.arrays[array].machine()?;
            machine.history().last()?.configuration.pre_elected()
        };
        (0..2).any(|array| elected(array).is_some())
    }),
    ("a grant that nobody heard", |world| {
        let Some(sole) = world.mediator.register().record().and_then(|record| record.members.sole()) else {
            return false;
        };
        let knows = |array: usize| {
            let machine = world.arrays[array].machine();
            machine.is_some_and(|machine| {
                machine.history().last().is_some_and(|item| item.configuration.members.is_only(sole))
            })
        };
        !knows(0) && !knows(1) && world.mediator.replies.iter().all(|replies| replies.is_empty())
    }),
    ("both log ends differ, in session", |world| {
        let [Some(one), Some(other)] = [0, 1].map(|array| world.arrays[array].machine()) else {
            return false;
        };
        one.is_in_session() && other.is_in_session() && one.end() != other.end()
    }),
];
