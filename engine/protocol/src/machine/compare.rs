//! Comparing two logs when a session opens: from both histories and ends, without moving entries.
//!
//! - K1: within one configuration, logs of members are prefixes of each other, so the last common entry is the shorter one's end of the
//!   last common configuration; whoever holds it checks its chain.
//! - K2: who went on without the other stays; the other is behind and drops what the survivor lacks, never anything known committed.

use crate::api::Alarm;
use crate::durable::{HistoryItem, OutOfSync};
use crate::ids::{Chain, ConfigId, Index, Position};
use crate::machine::Machine;
use crate::message::Report;

/// What a comparison demands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// One log is a prefix of the other: the longer side sends the rest.
    Level,
    /// The peer is behind.
    PeerBehind,
    /// This copy is behind.
    Behind {
        /// Last entry to keep.
        keep: Index,
        /// The mark to record, unless the present one says the same.
        mark: OutOfSync,
    },
}

/// Compares this log with the peer's as reported.
pub(super) fn compare(machine: &Machine, theirs: &Report) -> Result<Verdict, Alarm> {
    let (me, peer) = (machine.setup.me, machine.setup.peer.expect("a session has a peer"));
    let (mine, their_history) = align(machine.log.history(), &theirs.history);
    let shared = mine.iter().zip(their_history).take_while(|(mine, theirs)| mine == theirs).count();
    if shared == 0 && !machine.log.history().is_empty() && !theirs.history.is_empty() {
        return Err(Alarm::Diverged);
    }
    let (my_end, their_end) = (machine.log.end(), theirs.end);
    let my_segment_end = mine.get(shared).map_or(my_end.index, |item| item.first.previous());
    let their_segment_end = their_history.get(shared).map_or(their_end.index, |item| item.first.previous());
    let common = my_segment_end.min(their_segment_end);

    let my_chain = chain_at(machine, mine.get(shared), common);
    let their_chain = if their_segment_end == common {
        Some(their_history.get(shared).map_or(their_end.chain, |item| item.chain_before))
    } else if theirs.base.index == common {
        Some(theirs.base.chain)
    } else {
        None
    };
    if let (Some(mine), Some(theirs)) = (my_chain, their_chain)
        && mine != theirs
    {
        return Err(Alarm::Diverged);
    }

    let i_went_on = mine[shared..].iter().any(|item| !item.configuration.members.contains(peer));
    let peer_went_on = their_history[shared..].iter().any(|item| !item.configuration.members.contains(me));
    let (i_am_behind, peer_is_behind) = (machine.out_of_sync.is_some(), theirs.out_of_sync.is_some());
    if i_went_on && peer_went_on {
        return Err(Alarm::SplitBrain);
    }
    if i_am_behind && peer_is_behind {
        return Err(Alarm::Diverged);
    }
    if peer_went_on || i_am_behind {
        if i_went_on || peer_is_behind {
            return Err(Alarm::Diverged);
        }
        if common < machine.committed || common < machine.known_written || common < machine.log.base().index {
            return Err(Alarm::CommittedWouldBeCut);
        }
        // Only a lone survivor greets with writes on their way to the disk, and nobody goes on without it but by force or from
        // an old copy of a disk.
        if common < my_end.index && machine.durable < my_end.index {
            return Err(Alarm::Diverged);
        }
        return Ok(Verdict::Behind { keep: common, mark: mark(machine, theirs, common, my_chain) });
    }
    if i_went_on || peer_is_behind {
        return Ok(Verdict::PeerBehind);
    }
    if my_end.index > common && their_end.index > common {
        return Err(Alarm::Diverged);
    }
    let too_short = machine.log.base().index > common || theirs.base.index > common;
    if too_short { Err(Alarm::PeerTooFarBehind) } else { Ok(Verdict::Level) }
}

/// The same stretch of both histories: a long one is told without its oldest part.
fn align<'a>(mine: &'a [HistoryItem], theirs: &'a [HistoryItem]) -> (&'a [HistoryItem], &'a [HistoryItem]) {
    let (Some(my_first), Some(their_first)) = (mine.first(), theirs.first()) else { return (mine, theirs) };
    let start = my_first.first.max(their_first.first);
    let from = |items: &'a [HistoryItem]| &items[items.partition_point(|item| item.first < start)..];
    (from(mine), from(theirs))
}

fn chain_at(machine: &Machine, next: Option<&HistoryItem>, index: Index) -> Option<Chain> {
    match next {
        Some(item) if item.first.previous() == index => Some(item.chain_before),
        _ => machine.log.position(index).map(|position| position.chain),
    }
}

/// What this copy records about being behind.
fn mark(machine: &Machine, theirs: &Report, common: Index, chain: Option<Chain>) -> OutOfSync {
    let survivor =
        theirs.history.iter().rev().find(|item| !item.configuration.members.contains(machine.setup.me));
    let old = machine.out_of_sync;
    match (survivor, old) {
        (Some(survivor), old) if old.is_none_or(|old| old.survivor != survivor.configuration.id) => {
            OutOfSync {
                fork: Position {
                    config: machine
                        .log
                        .in_force(common)
                        .map_or(ConfigId::default(), |item| item.configuration.id),
                    index: common,
                    chain: chain.unwrap_or_default(),
                },
                survivor: survivor.configuration.id,
                after: survivor.first,
                first_time: old.is_some_and(|old| old.first_time),
            }
        }
        (_, Some(old)) => old,
        (_, None) => unreachable!("a copy is behind by its mark or by a configuration without it"),
    }
}
