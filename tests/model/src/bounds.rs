//! Bounds: how much may go wrong, how many writes, how long. And where a search starts.

use std::fmt;

use metropod_protocol::{Settings, Span};

/// What the world is like when the search begins.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Start {
    /// Both serve, mirrored, the right at the mediator.
    Pair,
    /// As `Pair`, but neither has a session with the mediator, and the right is at array 0.
    Elected,
    /// Array 0 is alone, array 1 was refused and is off; the link is cut.
    Alone,
    /// Array 1 is alone, array 0 was refused and is off; it ordered a write that is durable only there. The link is cut.
    Tail,
    /// Neither has a session with the mediator, and array 0 has just appended its own election, which is neither durable nor heard of.
    Electing,
    /// Array 0 has the pod, array 1 an empty copy; they are about to meet.
    Stretching,
}

/// How much may happen in one history. What is not bounded here may happen at any time: delivery, syncs, reconnection, restarts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Bounds {
    /// Where it begins.
    pub start: Start,
    /// Host writes, at any array.
    pub writes: u8,
    /// Requests given up by their host.
    pub withdrawals: u8,
    /// Cuts of the link: both ways or one way.
    pub cuts: u8,
    /// Crashes; any prefix of what was not durable survives.
    pub crashes: u8,
    /// Sessions with the mediator lost, with the asks and replies under way.
    pub losses: u8,
    /// Messages of which a copy arrives later, at any time, in whatever session.
    pub strays: u8,
    /// A link that was lost stays lost.
    pub for_good: bool,
    /// Each message travels alone; otherwise those sent in one step travel together.
    pub single: bool,
    /// How long, in units of time ([`Bounds::settings`]).
    pub time: u8,
    /// Time passes only while at most this many messages are under way in each direction.
    pub in_flight: u8,
    /// How long neither array reaches the mediator before one is pre-elected, in units.
    pub pre_elect: u8,
    /// Of so many states one is checked for liveness; 0: none.
    pub live: u32,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            start: Start::Pair,
            writes: 0,
            withdrawals: 0,
            cuts: 0,
            crashes: 0,
            losses: 0,
            strays: 0,
            for_good: false,
            single: false,
            time: 0,
            in_flight: 0,
            pre_elect: 50,
            live: 0,
        }
    }
}

impl Bounds {
    /// Sets one bound from `name=value`.
    pub fn set(&mut self, text: &str) -> Result<(), Unknown> {
        let unknown = || Unknown(text.to_owned());
        let (name, value) = text.split_once('=').ok_or_else(unknown)?;
        let number: u32 = value.parse().unwrap_or(u32::MAX);
        let small = || u8::try_from(number).map_err(|_| unknown());
        match name {
            "start" => {
                self.start = match value {
                    "pair" => Start::Pair,
                    "elected" => Start::Elected,
                    "alone" => Start::Alone,
                    "tail" => Start::Tail,
                    "electing" => Start::Electing,
                    "stretching" => Start::Stretching,
                    _ => return Err(unknown()),
                }
            }
            "writes" => self.writes = small()?,
            "withdrawals" => self.withdrawals = small()?,
            "cuts" => self.cuts = small()?,
            "crashes" => self.crashes = small()?,
            "losses" => self.losses = small()?,
            "strays" => self.strays = small()?,
            "for_good" => self.for_good = small()? > 0,
            "single" => self.single = small()? > 0,
            "time" => self.time = small()?,
            "in_flight" => self.in_flight = small()?,
            "pre_elect" => self.pre_elect = small()?,
            "live" if number != u32::MAX => self.live = number,
            _ => return Err(unknown()),
        }
        Ok(())
    }

    /// The bounds in one line of `name=value`.
    pub fn parse(text: &str) -> Result<Bounds, Unknown> {
        let mut bounds = Bounds::default();
        text.split_whitespace().try_for_each(|part| bounds.set(part))?;
        Ok(bounds)
    }

    /// Timers as small multiples of one unit, which is a nanosecond. The arrays' clocks run alike, so a promise lasts exactly as long
    /// as the lease it is for: no margin hides a missing rule.
    pub fn settings(&self) -> Settings {
        Settings {
            heartbeat: Span(2),
            lease: Span(3),
            drift_ppm: 0,
            silence: Span(3),
            reconnect: Span(1),
            boot_grace: Span(1),
            hold: Span(1_000),
            unfit: Span(1_000),
            eject: Span(1_000),
            mediator_retry: Span(3),
            pre_elect: Span(u64::from(self.pre_elect)),
            hello: Span(2),
        }
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "start={}", format!("{:?}", self.start).to_lowercase())?;
        let numbers = [
            ("writes", self.writes),
            ("withdrawals", self.withdrawals),
            ("cuts", self.cuts),
            ("crashes", self.crashes),
            ("losses", self.losses),
            ("strays", self.strays),
            ("for_good", u8::from(self.for_good)),
            ("single", u8::from(self.single)),
        ];
        for (name, number) in numbers.into_iter().filter(|(_, number)| *number > 0) {
            write!(f, " {name}={number}")?;
        }
        write!(f, " time={} in_flight={}", self.time, self.in_flight)?;
        if self.pre_elect != Bounds::default().pre_elect {
            write!(f, " pre_elect={}", self.pre_elect)?;
        }
        if self.live > 0 {
            write!(f, " live={}", self.live)?;
        }
        Ok(())
    }
}

/// No such bound.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unknown(pub String);

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no bound", self.0)
    }
}
