//! The nemesis: draws faults from a seed, makes them, and undoes them.
//!
//! - M1: two faults at once never concern the same process or the same connection.
//! - M2: what was begun is ended, in any order, before anything is judged by.

use std::time::Duration;

use metropod_e2e::Dice;

use crate::Side;
use crate::host::Hosts;
use crate::network::{Impairment, Link};
use crate::stage::Stage;

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9` of an array; its end is the restart.
    Kill(Side),
    /// `kill -9` of the mediator.
    KillMediator,
    /// `kill -9` of both arrays, or of everything.
    PowerLoss {
        /// Whether the mediator dies too.
        mediator: bool,
    },
    /// SIGSTOP of an array, for much longer than the lease.
    Freeze(Side),
    /// SIGSTOP of an array for so many milliseconds: about the lease, and over at once.
    Blink(Side, u64),
    /// SIGSTOP of the mediator.
    FreezeMediator,
    /// Something is wrong with a connection.
    Impair(Link, Impairment),
    /// The connection between the arrays comes and goes.
    Flap {
        /// How often.
        times: u64,
        /// How long it is away each time, in milliseconds.
        away_ms: u64,
        /// How long it is there in between, in milliseconds.
        there_ms: u64,
    },
}

/// What a fault concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Array(Side),
    Mediator,
    Link(Link),
}

/// What the network can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Means {
    /// Connections can be cut in one direction, and narrowed.
    pub namespaces: bool,
    /// They can be delayed and made to lose packets at will.
    pub netem: bool,
}

impl Fault {
    /// One or two faults that can be at once.
    pub fn draw(dice: &mut Dice, means: Means) -> Vec<Fault> {
        let mut faults = vec![Fault::one(dice, means)];
        if dice.below(5) < 2 {
            let other = Fault::one(dice, means);
            let apart = other.parts().iter().all(|part| !faults[0].parts().contains(part));
            if apart {
                faults.push(other);
            }
        }
        faults
    }

    /// The kind, for counting.
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::Kill(_) => "array killed",
            Fault::KillMediator => "mediator killed",
            Fault::PowerLoss { mediator: false } => "both arrays killed",
            Fault::PowerLoss { mediator: true } => "everything killed",
            Fault::Freeze(_) => "array frozen, longer than its lease",
            Fault::Blink(..) => "array frozen, about its lease",
            Fault::FreezeMediator => "mediator frozen",
            Fault::Impair(Link::Mirror, Impairment::Cut) => "link cut",
            Fault::Impair(Link::Mirror, Impairment::CutFrom(_)) => "link cut in one direction",
            Fault::Impair(Link::Mirror, Impairment::Delay(_)) => "link delayed",
            Fault::Impair(Link::Mirror, Impairment::Loss(_)) => "link loses packets",
            Fault::Impair(Link::Mirror, Impairment::Narrow(_)) => "link narrow",
            Fault::Impair(Link::Mediator(_), _) => "array's way to the mediator cut",
            Fault::Flap { .. } => "link flaps",
        }
    }

    /// Makes it.
    pub fn begin(&self, stage: &mut Stage, hosts: &Hosts) -> Result<(), String> {
        match *self {
            Fault::Kill(side) => stage.array(side).kill9(),
            Fault::KillMediator => stage.mediator.kill9(),
            Fault::PowerLoss { mediator } => {
                Side::BOTH.into_iter().for_each(|side| stage.array(side).kill9());
                if mediator {
                    stage.mediator.kill9();
                }
            }
            Fault::Freeze(side) => stage.array(side).process().freeze(),
            Fault::Blink(side, ms) => {
                stage.array(side).process().freeze();
                std::thread::sleep(Duration::from_millis(ms));
                stage.array(side).process().thaw();
            }
            Fault::FreezeMediator => stage.mediator.process().freeze(),
            Fault::Impair(link, how) => {
                stage.network.impair(link, how)?;
                if self.parts_arrays() {
                    hosts.judge().cut();
                }
            }
            Fault::Flap { times, away_ms, there_ms } => {
                for _ in 0..times {
                    stage.network.impair(Link::Mirror, Impairment::Cut)?;
                    hosts.judge().cut();
                    std::thread::sleep(Duration::from_millis(away_ms));
                    hosts.judge().healed();
                    stage.network.heal(Link::Mirror)?;
                    std::thread::sleep(Duration::from_millis(there_ms));
                }
            }
        }
        Ok(())
    }

    /// Undoes it.
    pub fn end(&self, stage: &mut Stage, hosts: &Hosts) -> Result<(), String> {
        match *self {
            Fault::Kill(side) => stage.array(side).restart(),
            Fault::KillMediator => stage.mediator.restart(),
            Fault::PowerLoss { mediator } => {
                if mediator {
                    stage.mediator.restart();
                }
                Side::BOTH.into_iter().for_each(|side| stage.array(side).restart());
            }
            Fault::Freeze(side) => stage.array(side).process().thaw(),
            Fault::FreezeMediator => stage.mediator.process().thaw(),
            Fault::Impair(link, _) => {
                if self.parts_arrays() {
                    hosts.judge().healed();
                }
                stage.network.heal(link)?;
            }
            Fault::Blink(..) | Fault::Flap { .. } => {}
        }
        Ok(())
    }

    fn one(dice: &mut Dice, means: Means) -> Fault {
        let side = Side::BOTH[dice.below(2) as usize];
        let cut = Fault::Impair(Link::Mirror, Impairment::Cut);
        let drawn = match dice.below(17) {
            0 | 1 => Fault::Kill(side),
            2 => Fault::KillMediator,
            3 => Fault::PowerLoss { mediator: dice.below(2) == 0 },
            4 | 5 => Fault::Freeze(side),
            6 => Fault::Blink(side, 50 + dice.below(450)),
            7 => Fault::FreezeMediator,
            8 | 9 => cut,
            10 | 11 => Fault::Impair(Link::Mirror, Impairment::CutFrom(side)),
            12 => Fault::Impair(Link::Mediator(side), Impairment::Cut),
            13 => {
                let times = 3 + dice.below(6);
                Fault::Flap { times, away_ms: 50 + dice.below(400), there_ms: 50 + dice.below(400) }
            }
            14 if means.netem => Fault::Impair(Link::Mirror, Impairment::Delay(20 + dice.below(300))),
            15 if means.netem => Fault::Impair(Link::Mirror, Impairment::Loss(5 + dice.below(40))),
            _ => Fault::Impair(Link::Mirror, Impairment::Narrow(64 + dice.below(2000))),
        };
        match drawn {
            Fault::Impair(_, Impairment::CutFrom(_) | Impairment::Narrow(_)) if !means.namespaces => cut,
            drawn => drawn,
        }
    }

    /// Whether the arrays cannot mirror while it lasts.
    fn parts_arrays(&self) -> bool {
        matches!(self, Fault::Impair(Link::Mirror, Impairment::Cut | Impairment::CutFrom(_)))
    }

    fn parts(&self) -> Vec<Part> {
        match *self {
            Fault::Kill(side) | Fault::Freeze(side) | Fault::Blink(side, _) => vec![Part::Array(side)],
            Fault::KillMediator | Fault::FreezeMediator => vec![Part::Mediator],
            Fault::PowerLoss { .. } => vec![Part::Array(Side::A), Part::Array(Side::B), Part::Mediator],
            Fault::Impair(link, _) => vec![Part::Link(link)],
            Fault::Flap { .. } => vec![Part::Link(Link::Mirror)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_fault_is_drawn_and_two_at_once_concern_different_parts() {
        let mut dice = Dice::new(1);
        let mut kinds = std::collections::BTreeSet::new();
        let mut overlapping = 0;
        for _ in 0..2000 {
            let faults = Fault::draw(&mut dice, Means { namespaces: true, netem: true });
            kinds.extend(faults.iter().map(Fault::kind));
            if let [one, other] = faults.as_slice() {
                overlapping += 1;
                assert!(one.parts().iter().all(|part| !other.parts().contains(part)), "{faults:?}");
            }
        }
        assert_eq!(kinds.len(), 14, "{kinds:?}");
        assert!(overlapping > 200);
    }

    #[test]
    fn loopback_draws_only_what_a_proxy_can_do() {
        let mut dice = Dice::new(1);
        for _ in 0..2000 {
            for fault in Fault::draw(&mut dice, Means { namespaces: false, netem: false }) {
                let possible = match fault {
                    Fault::Impair(_, how) => how == Impairment::Cut,
                    _ => true,
                };
                assert!(possible, "{fault:?}");
            }
        }
    }
}
