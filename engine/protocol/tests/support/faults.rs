//! Random faults, and their end.

use super::*;

impl World {
    pub fn next_host(&mut self) {
        let array = self.random.below(2) as usize;
        let read = self.random.chance(40);
        let delay = self.random.below(ms(20));
        self.after(delay, Event::Host { array, read });
    }

    pub fn strike(&mut self) {
        if self.now >= self.faults_until {
            return;
        }
        let delay = self.random.below(ms(350));
        self.after(delay, Event::Strike);
        let array = self.random.below(2) as usize;
        let span = match self.random.below(3) {
            0 => self.random.below(ms(60)),
            1 => self.random.below(ms(400)),
            _ => self.random.below(ms(1_800)),
        };
        match self.random.below(12) {
            0 | 1 => {
                self.crash(array);
                self.after(span, Event::Restart { array });
            }
            2 | 3 => {
                self.cut(Direction::Both);
                if self.random.chance(50) {
                    self.disconnect();
                }
                self.after(span, Event::Heal { what: Fault::Link });
            }
            4 => {
                self.cut(Direction::From(array));
                self.after(span, Event::Heal { what: Fault::OneWay(array) });
            }
            5 => {
                self.disconnect();
                let soon = self.random.below(ms(200));
                self.after(soon, Event::Heal { what: Fault::Link });
            }
            6 | 7 => {
                self.mediator_path[array] = false;
                self.disconnect_mediator(array);
                self.after(span, Event::Heal { what: Fault::Mediator(array) });
            }
            8 => {
                self.stop_mediator();
                self.after(span, Event::Heal { what: Fault::MediatorDown });
            }
            9 => {
                self.arrays[array].frozen_until = self.now + span;
                self.log(|| format!("{array} freezes for {span}"));
            }
            10 => {
                self.arrays[array].stalled = true;
                self.log(|| format!("{array}'s disk stalls for {span}"));
                self.after(span, Event::Unstall { array });
            }
            _ => self.after(0, Event::Checkpoint { array }),
        }
    }

    pub fn heal(&mut self, what: Fault) {
        if self.now >= self.faults_until {
            // Everything was healed at once then.
            return;
        }
        match what {
            Fault::Link | Fault::OneWay(_) => self.mend(),
            Fault::Mediator(array) => {
                self.mediator_path[array] = true;
                if self.mediator_sessions[array].is_none() {
                    self.connect_mediator(array);
                }
            }
            Fault::MediatorDown => {
                if self.mediator.is_none() {
                    self.start_mediator(false);
                }
                for array in 0..2 {
                    self.disconnect_mediator(array);
                    self.connect_mediator(array);
                }
            }
        }
    }

    /// Every fault ends.
    pub fn end_faults(&mut self) {
        self.faults_until = self.now;
        self.log(|| "faults end".into());
        self.mediator_path = [true; 2];
        if self.mediator.is_none() {
            self.start_mediator(false);
        }
        for array in 0..2 {
            if self.arrays[array].stalled {
                self.arrays[array].stalled = false;
                self.sync(array);
            }
            if self.arrays[array].machine.is_none() {
                self.restart(array);
            }
            self.disconnect_mediator(array);
            self.connect_mediator(array);
        }
        self.mend();
    }
}
