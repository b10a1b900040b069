//! Messages between the two arrays of a pod.
//!
//! HELLOs open a session; everything else belongs to one. Frames are numbered from 0 inside a session and direction: a duplicate is dropped,
//! a gap ends the session, a frame of another session is ignored.

use bytes::Bytes;

use crate::api::MediatorStatus;
use crate::durable::{HistoryItem, Learned, OutOfSync};
use crate::entry::Entry;
use crate::ids::{ArrayId, Chain, ConfigId, Incarnation, Index, Nonce, PodId, Position};
use crate::mediator::{Answer, Ask, Record, Statement};

/// What goes over the link between two arrays.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a message is moved once, into the driver; a box would cost more"
)]
pub enum Message {
    /// Opens a session.
    Hello(Box<Hello>),
    /// "I hear you, my HELLO follows when my disk is done": keeps a racer waiting.
    Busy {
        /// The sender's incarnation.
        incarnation: Incarnation,
        /// The peer's nonce, which the sender has heard.
        echo: Nonce,
    },
    /// A frame of a session.
    Frame {
        /// Which session.
        session: SessionId,
        /// Place in the session and direction, from 0.
        number: u64,
        /// Content.
        body: Frame,
    },
}

/// Names a session: digest of both incarnations and nonces.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct SessionId(pub [u8; 16]);

/// Opens a session. Sent only when everything handed to the journal is durable, so that what it reports stays so.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Hello {
    /// Which pod.
    pub pod: PodId,
    /// Sender.
    pub from: ArrayId,
    /// Sender's incarnation.
    pub incarnation: Incarnation,
    /// Sender's nonce for this attempt.
    pub nonce: Nonce,
    /// The receiver's incarnation and nonce, if the sender heard them.
    pub echo: Option<(Incarnation, Nonce)>,
    /// The sender's state.
    pub report: Report,
}

/// A member's state as told in a HELLO.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Report {
    /// Configurations, oldest first; the newest ones if there are very many.
    pub history: Vec<HistoryItem>,
    /// Index of the newest configuration known committed.
    pub known_config: Index,
    /// Beginning of the log.
    pub base: Position,
    /// End of the durable log.
    pub end: Position,
    /// Commit index.
    pub committed: Index,
    /// Whether and since when this copy is behind.
    pub out_of_sync: Option<OutOfSync>,
    /// Highest epoch heard of.
    pub learned: Learned,
}

/// Content of a frame.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Frame {
    /// The sender has finished what the comparison demanded of it; its log now ends at `end` and is durable.
    Ready {
        /// Beginning of the sender's log.
        base: Position,
        /// End of the sender's log.
        end: Position,
    },
    /// An entry, whole.
    Entry(Entry),
    /// A request for the sequencer to order.
    Forward {
        /// The sender's request number.
        request: u64,
        /// Number of the newest heartbeat the sender had received.
        heartbeat: u64,
        /// See [`crate::entry::Body::Operation`].
        descriptor: Bytes,
        /// See [`crate::entry::Body::Operation`].
        attachment: Bytes,
    },
    /// The forward was too old; send it again if it is still wanted.
    Refused {
        /// The receiver's request number.
        request: u64,
    },
    /// The receiver's request has this place; the receiver has the payload.
    Order {
        /// Its place.
        index: Index,
        /// The receiver's request number.
        request: u64,
        /// Chain including the entry.
        chain: Chain,
        /// Commit index known when it was ordered.
        committed: Index,
    },
    /// The sender holds a gap-free durable log up to here.
    Durable {
        /// Last durable entry.
        through: Index,
        /// Sender's commit index.
        committed: Index,
        /// Newest configuration whose commitment the sender has recorded.
        known: Index,
    },
    /// Asks for a lease, says how the sender is.
    Heartbeat {
        /// Rising number within the session.
        number: u64,
        /// The sender serves reads.
        serving: bool,
        /// The sender's disk is fit.
        fit: bool,
        /// How the sender sees the mediator.
        mediator: MediatorStatus,
    },
    /// Grants the lease asked for by a heartbeat.
    Answer {
        /// That heartbeat.
        number: u64,
        /// Newest configuration in the sender's log.
        config: ConfigId,
    },
    /// Asks the receiver to consent to a change of the register.
    ConsentAsked(Statement),
    /// The sender's signature under the statement.
    Consent {
        /// The statement.
        statement: Statement,
        /// Opaque here; verified by the mediator.
        signature: Bytes,
    },
    /// The sender does not reach the mediator: ask this in its place (a READ, or a change to both members).
    Carry {
        /// The sender's number.
        request: u64,
        /// What to ask.
        ask: Ask,
    },
    /// What the mediator answered to a carried request.
    Carried {
        /// The receiver's number.
        request: u64,
        /// The answer.
        answer: Answer,
    },
    /// What the sender read in the register after this session opened, while `config` was its newest configuration.
    RegisterSeen {
        /// Newest configuration in the sender's log when it asked.
        config: ConfigId,
        /// What it read.
        record: Option<Record>,
    },
}
