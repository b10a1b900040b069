//! What must hold after every event, and what hosts may see.

use super::*;

#[derive(Default)]
pub struct Oracle {
    /// Chain of every entry that some array called committed.
    golden: Vec<Chain>,
    /// The newest entry that a host knows of, by an acknowledgement or a read.
    seen: Option<(Index, Chain)>,
    ops: BTreeMap<u64, (usize, Option<Outcome>)>,
    reads: Vec<(usize, u64, Index)>,
    pub acked: u64,
    pub reads_done: u64,
    pub alone_seen: [bool; 2],
    pub resynced: bool,
    /// The right went from the mediator to an array while neither reached it.
    pub pre_elected: bool,
}

impl Oracle {
    pub fn new() -> Oracle {
        Oracle::default()
    }

    pub fn submitted(&mut self, op: u64, array: usize) {
        self.ops.insert(op, (array, None));
    }

    pub fn lost(&mut self, op: u64) {
        self.ops.remove(&op);
    }

    pub fn open_ops(&self) -> usize {
        self.ops.values().filter(|(_, outcome)| outcome.is_none()).count()
    }

    pub fn outcome(&self, op: u64) -> Option<Outcome> {
        self.ops.get(&op).and_then(|(_, outcome)| *outcome)
    }

    /// The newest entry that a host knows of.
    pub fn seen(&self) -> Option<(Index, Chain)> {
        self.seen
    }
}

fn see(world: &mut World, array: usize, index: Index) {
    let chain = world.arrays[array].chains[index.0 as usize - 1];
    if world.oracle.seen.is_none_or(|(seen, _)| seen < index) {
        world.oracle.seen = Some((index, chain));
    }
}

/// Committed prefixes never contradict each other.
pub fn committed(world: &mut World, array: usize, through: Index) {
    let chains = &world.arrays[array].chains;
    let through = through.0 as usize;
    assert!(chains.len() >= through, "committed beyond the log: {}", world.describe());
    assert!(
        world.arrays[array].durable_entries as usize >= through,
        "committed beyond the own durable log: {}",
        world.describe()
    );
    let shared = through.min(world.oracle.golden.len());
    let same = shared == 0 || chains[shared - 1] == world.oracle.golden[shared - 1];
    assert!(same, "array {array}: committed history contradicted at {shared}: {}", world.describe());
    for at in world.oracle.golden.len()..through {
        let chain = world.arrays[array].chains[at];
        world.oracle.golden.push(chain);
    }
    finish_reads(world, array);
}

/// Nothing committed anywhere may be cut from a log that is not then replaced by the survivor's.
pub fn cut(world: &mut World, array: usize, keep: Index) {
    let committed = world.arrays[array].machine.as_ref().map_or(Index(0), Machine::committed);
    assert!(keep >= committed, "a known-committed entry is cut: {}", world.describe());
    world.oracle.resynced = true;
}

pub fn done(world: &mut World, array: usize, op: u64, outcome: Outcome) {
    let slot = world.oracle.ops.get_mut(&op).expect("a known operation");
    assert!(slot.1.is_none(), "an operation ends once");
    slot.1 = Some(outcome);
    let Outcome::Committed(index) = outcome else { return };
    world.oracle.acked += 1;
    let at = index.0 as usize - 1;
    let chain = world.arrays[array].chains[at];
    let history = world.machine(array).history();
    let in_force =
        history.iter().rev().find(|item| item.first <= index).expect("every entry has a configuration");
    let alone = [in_force, history.last().expect("as above")]
        .iter()
        .any(|item| item.configuration.members.is_only(IDS[array]));
    let holders: &[usize] = if alone { &[array] } else { &[0, 1] };
    for holder in holders.iter().copied() {
        let other = &world.arrays[holder];
        let holds = other.durable_entries > at as u64 && other.chains[at] == chain;
        assert!(holds, "op {op} acknowledged by {array} is not durable on {holder}: {}", world.describe());
    }
    see(world, array, index);
}

/// A host reads: the position is fixed now, the answer comes when everything up to it is committed.
pub fn read(world: &mut World, array: usize) {
    if !world.is_online(array) {
        return;
    }
    let end = world.machine(array).log_end();
    let boot = world.arrays[array].boot;
    world.oracle.reads.push((array, boot, end));
    finish_reads(world, array);
}

fn finish_reads(world: &mut World, array: usize) {
    let Some(machine) = &world.arrays[array].machine else { return };
    let committed = machine.committed();
    let boot = world.arrays[array].boot;
    let reads = std::mem::take(&mut world.oracle.reads);
    let (done, open): (Vec<_>, Vec<_>) = reads
        .into_iter()
        .filter(|(at, read_boot, _)| *at != array || *read_boot == boot)
        .partition(|(at, _, index)| *at == array && *index <= committed);
    world.oracle.reads = open;
    for (_, _, index) in done {
        world.oracle.reads_done += 1;
        see(world, array, index);
    }
}

/// After every event.
pub fn check(world: &mut World) {
    for array in 0..2 {
        if world.arrays[array].frozen_until > world.now || !world.is_online(array) {
            continue;
        }
        if let Some((index, chain)) = world.oracle.seen {
            let holds = world.arrays[array].chains.get(index.0 as usize - 1) == Some(&chain);
            assert!(
                holds,
                "array {array} serves without what hosts have seen ({index:?}): {}",
                world.describe()
            );
        }
        let away = world.mediator_sessions == [None; 2];
        if away && world.newest(array).is_some_and(|newest| newest.pre_elected().is_some()) {
            world.oracle.pre_elected = true;
        }
        if world.is_alone(array) {
            world.oracle.alone_seen[array] = true;
            let other = 1 - array;
            let other_serves = world.arrays[other].frozen_until <= world.now && world.is_online(other);
            assert!(!other_serves, "array {array} is alone while the other serves: {}", world.describe());
        }
    }
}
