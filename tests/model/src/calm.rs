//! The faults are over: everything is repaired and everything arrives. Where does that lead?

use crate::world::World;

/// Deadlines that may pass until both arrays serve again, mirrored.
const DEADLINES_MAX: usize = 60;
/// Rounds of deliveries at one instant; more is a loop.
const ROUNDS_MAX: usize = 500;

impl World {
    /// Repairs everything and lets time pass until both arrays serve, mirrored, the right at the mediator.
    pub fn becomes_whole(&mut self) -> bool {
        self.link.strays.clear();
        for array in 0..2 {
            if self.arrays[array].machine().is_none() {
                self.restart(array);
            }
            if !self.mediator.is_connected(array) {
                self.regain(array);
            }
        }
        if !self.link.is_whole() {
            self.connect();
        }
        self.runs_until(World::is_whole)
    }

    /// Delivers everything and lets time pass until `reached`.
    pub(crate) fn runs_until(&mut self, reached: impl Fn(&World) -> bool) -> bool {
        for _ in 0..DEADLINES_MAX {
            if !self.calm_instant(true) || self.wrong.is_some() {
                return false;
            }
            if reached(self) {
                return true;
            }
            self.pass();
        }
        false
    }

    /// Everything that is under way arrives, and everything written is durable. `false` if that has no end.
    pub(crate) fn calm_instant(&mut self, deliver: bool) -> bool {
        use crate::action::Action::{Decide, Deliver, Reply, Sync};
        for _ in 0..ROUNDS_MAX {
            let mut busy = false;
            for array in 0..2 {
                let steps = [
                    (deliver && !self.link.under_way[array].is_empty(), Deliver(array)),
                    (self.arrays[array].unsynced() > 0, Sync(array)),
                    (!self.mediator.asks[array].is_empty(), Decide(array)),
                ];
                for (possible, action) in steps {
                    if possible {
                        busy = true;
                        self.apply(action);
                    }
                }
                if !self.mediator.replies[array].is_empty() {
                    busy = true;
                    self.apply(Reply(array));
                }
            }
            if !busy {
                return true;
            }
        }
        false
    }
}
