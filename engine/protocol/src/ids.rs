//! Names and numbers of the protocol, one type each, so that an index is never taken for a count or a time.

use std::fmt;

macro_rules! id16 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}(", stringify!($name))?;
                for byte in &self.0[..4] {
                    write!(f, "{byte:02x}")?;
                }
                f.write_str(")")
            }
        }
    };
}

id16!(
    /// A pod, random.
    PodId
);
id16!(
    /// An array: the first 16 bytes of BLAKE3 of its public key.
    ArrayId
);
id16!(
    /// A mediator, named like an array.
    MediatorId
);
id16!(
    /// A configuration. Comparisons use it, never the number.
    ConfigId
);
id16!(
    /// A state of a pod's register at a mediator.
    RegisterId
);

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
        pub struct $name(pub u64);
    };
}

number!(
    /// Place in a pod's log. The first entry is 1; 0 means "before the first".
    Index
);
number!(
    /// A host or management request at this array; unique within one incarnation, rising.
    RequestId
);
number!(
    /// Raised at every start of an array, before its first message.
    Incarnation
);
number!(
    /// Nanoseconds on the array's own clock, one that counts suspend.
    Time
);
number!(
    /// A length of time in nanoseconds.
    Span
);
number!(
    /// Numbers what the machine hands to the journal, entries and records alike, in order.
    Ticket
);
number!(
    /// Makes a session name unique: the sender's attempt, rising within its incarnation, in the upper half, chance in the lower.
    Nonce
);

impl Nonce {
    /// Which attempt of its incarnation.
    pub const fn attempt(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl Index {
    /// The index after this one.
    pub const fn next(self) -> Index {
        Index(self.0.saturating_add(1))
    }

    /// The index before this one; zero stays zero.
    pub const fn previous(self) -> Index {
        Index(self.0.saturating_sub(1))
    }
}

impl Ticket {
    /// The ticket after this one.
    pub const fn next(self) -> Ticket {
        Ticket(self.0 + 1)
    }
}

impl Incarnation {
    /// The incarnation after this one.
    pub const fn next(self) -> Incarnation {
        Incarnation(self.0 + 1)
    }
}

impl Span {
    /// A span of whole milliseconds.
    pub const fn millis(count: u64) -> Span {
        Span(count * 1_000_000)
    }
}

impl std::ops::Add<Span> for Time {
    type Output = Time;
    fn add(self, span: Span) -> Time {
        Time(self.0.saturating_add(span.0))
    }
}

impl Time {
    /// How long after `earlier` this is; zero if it is not after.
    pub const fn since(self, earlier: Time) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

/// The check that binds an entry to everything before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Chain(pub [u8; 32]);

impl Chain {
    /// The chain of an empty log.
    pub const EMPTY: Chain = Chain([0; 32]);
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain({:02x}{:02x}{:02x}{:02x})", self.0[0], self.0[1], self.0[2], self.0[3])
    }
}

/// A place in a log, comparable across arrays.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Position {
    /// Configuration in force at the entry.
    pub config: ConfigId,
    /// The entry's index.
    pub index: Index,
    /// Chain up to and including the entry.
    pub chain: Chain,
}
