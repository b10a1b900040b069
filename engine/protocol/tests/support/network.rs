//! The link: connections, ordered delivery with delays, cuts of one or both directions, stalls; with `chaos` also loss, duplicates,
//! reordering and frames of earlier connections.

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Both,
    From(usize),
}

pub struct Network {
    /// Present connection of each array; 0 is none.
    pub connection: [u64; 2],
    pub next_connection: u64,
    /// Whether frames from this array get through.
    pub open: [bool; 2],
    last: [u64; 2],
    /// Frames of a stalled direction.
    stalled: [Vec<(u64, Message)>; 2],
    /// Extra delay on frames from this array.
    pub delay: [u64; 2],
}

impl Network {
    pub fn new() -> Network {
        Network {
            connection: [0; 2],
            next_connection: 0,
            open: [true; 2],
            last: [0; 2],
            stalled: [Vec::new(), Vec::new()],
            delay: [0; 2],
        }
    }
}

impl World {
    /// Both sides get a new connection.
    pub fn connect(&mut self) {
        self.net.next_connection += 1;
        let connection = self.net.next_connection;
        for array in 0..2 {
            let delay = self.random.below(ms(2)) + 1;
            self.after(delay, Event::Link { array, connection, up: true });
        }
        self.log(|| format!("connection {connection}"));
    }

    pub fn disconnect(&mut self) {
        let connection = self.net.next_connection;
        for array in 0..2 {
            let delay = self.random.below(ms(5));
            self.after(delay, Event::Link { array, connection, up: false });
        }
    }

    pub fn link_event(&mut self, array: usize, connection: u64, up: bool) {
        if self.arrays[array].machine.is_none() {
            return;
        }
        if up && connection >= self.net.connection[array] {
            self.net.connection[array] = connection;
            self.step(array, Input::LinkUp);
        } else if !up && self.net.connection[array] == connection {
            self.net.connection[array] = 0;
            self.step(array, Input::LinkDown);
        }
    }

    /// Frames in this direction stall.
    pub fn cut(&mut self, direction: Direction) {
        match direction {
            Direction::Both => self.net.open = [false; 2],
            Direction::From(array) => self.net.open[array] = false,
        }
        self.log(|| format!("cut {direction:?}"));
    }

    /// The link works again; both sides connect anew.
    pub fn mend(&mut self) {
        self.net.open = [true; 2];
        self.log(|| "mend".into());
        if self.chaos && self.random.chance(50) {
            for from in 0..2 {
                for (connection, message) in std::mem::take(&mut self.net.stalled[from]) {
                    let delay = self.random.below(ms(30));
                    self.after(delay, Event::Deliver { to: 1 - from, connection, message });
                }
            }
        }
        self.net.stalled = [Vec::new(), Vec::new()];
        self.connect();
    }

    pub fn send(&mut self, from: usize, message: Message) {
        // What travels is bytes.
        let (head, attachment) = message.encode();
        let message = Message::decode(head, attachment).expect("what is sent can be read");
        let connection = self.net.connection[from];
        if connection == 0 {
            return;
        }
        if !self.net.open[from] {
            self.net.stalled[from].push((connection, message));
            return;
        }
        let delay = ms(1) / 10 + self.random.below(ms(1)) + self.net.delay[from];
        let mut at = (self.now + delay).max(self.net.last[from]);
        if self.chaos && self.faults_until > self.now {
            match self.random.below(1000) {
                0 => return,
                1..3 => {
                    let copy = message.clone();
                    let later = self.random.below(ms(400));
                    self.after(later, Event::Deliver { to: 1 - from, connection, message: copy });
                }
                3 => at += self.random.below(ms(100)),
                _ => self.net.last[from] = at,
            }
        } else {
            self.net.last[from] = at;
        }
        self.schedule(at, Event::Deliver { to: 1 - from, connection, message });
    }

    /// Payload bytes of entries and forwards that an array has sent and that have not arrived.
    pub fn payload_under_way(&self, from: usize) -> usize {
        let payload = |event: &Event| match event {
            Event::Deliver { to, message: Message::Frame { body, .. }, .. } if *to == 1 - from => {
                match body {
                    Frame::Entry(entry) => entry.payload_bytes(),
                    Frame::Forward { descriptor, attachment, .. } => descriptor.len() + attachment.len(),
                    _ => 0,
                }
            }
            _ => 0,
        };
        self.queue.values().map(payload).sum()
    }

    pub fn deliver(&mut self, to: usize, connection: u64, message: Message) {
        let from = 1 - to;
        let stale = connection != self.net.connection[to];
        if stale && !(self.chaos && self.random.chance(30)) {
            return;
        }
        if !self.net.open[from] {
            self.net.stalled[from].push((connection, message));
            return;
        }
        self.log(|| format!("{to} <- {from} {}", summary(&message)));
        if self.recording {
            self.recorded.push((to, message.clone()));
        }
        if self.hostile {
            self.try_damaged(to, &message);
        }
        self.step(to, Input::Receive(message));
    }

    /// A peer that sends nonsense in an open session may be refused or believed, but never makes the machine panic.
    fn try_damaged(&mut self, to: usize, message: &Message) {
        let now = self.arrays[to].clock(self.now);
        for _ in 0..4 {
            let Some(mut machine) = self.arrays[to].machine.clone() else { return };
            let (head, attachment) = message.encode();
            let mut head = head.to_vec();
            // Version and kind stay; a frame's session and number stay, or it would be ignored.
            let first = if matches!(message, Message::Frame { .. }) { 26 } else { 2 };
            for _ in 0..1 + self.random.below(3) {
                if head.len() > first {
                    let at = first + self.random.below((head.len() - first) as u64) as usize;
                    head[at] = match self.random.below(4) {
                        0 => 0xff,
                        1 => head[at].wrapping_add(1),
                        2 => head[at].wrapping_sub(1),
                        _ => self.random.below(256) as u8,
                    };
                }
            }
            let Ok(damaged) = Message::decode(head.into(), attachment) else { continue };
            machine.step(now, Input::Receive(damaged));
            for later in [ms(1), ms(60), ms(400)] {
                let mut through = None;
                while let Some(effect) = machine.next_effect() {
                    if let Effect::Append { ticket, .. } | Effect::Record { ticket, .. } = effect {
                        through = Some(ticket);
                    }
                }
                if let Some(through) = through {
                    machine.step(now + Span(later), Input::Durable { through });
                }
                machine.step(now + Span(later), Input::Tick);
            }
        }
    }
}

fn summary(message: &Message) -> String {
    match message {
        Message::Hello(hello) => format!(
            "HELLO inc {} nonce {:x} echo {:?} end {:?} oos {} configs {}",
            hello.incarnation.0,
            hello.nonce.0 & 0xffff,
            hello.echo.map(|(inc, nonce)| (inc.0, format!("{:x}", nonce.0 & 0xffff))),
            hello.report.end.index,
            hello.report.out_of_sync.is_some(),
            hello.report.history.len()
        ),
        Message::Frame { number, body: Frame::Entry(entry), .. } => {
            format!("#{number} ENTRY {:?} {:?}", entry.index, entry.configuration())
        }
        Message::Frame { number, body, .. } => format!("#{number} {body:?}"),
        Message::Busy { .. } => "BUSY".into(),
    }
}
