//! What goes into the machine and what comes out of it.

use bytes::Bytes;

use crate::config::Epoch;
use crate::durable::{DurableRecord, DurableState};
use crate::entry::Entry;
use crate::ids::{ArrayId, ConfigId, Index, MediatorId, PodId, Position, RequestId, Ticket, Time};
use crate::mediator::{MediatorReply, MediatorRequest, Statement};
use crate::message::Message;
use crate::settings::Settings;

/// What a machine is started with.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Setup {
    /// This array.
    pub me: ArrayId,
    /// The pod.
    pub pod: PodId,
    /// The other array, if the pod is stretched or being stretched.
    pub peer: Option<ArrayId>,
    /// The mediator this pod is set up to use.
    pub mediator: Option<MediatorId>,
    /// Failover preference.
    pub preferred: Option<ArrayId>,
    /// Timers.
    pub settings: Settings,
    /// Fresh random bytes at every start: ids and nonces are drawn from them.
    pub seed: [u8; 32],
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Input {
    /// A host or management operation. Answered by [`Effect::Done`], perhaps much later.
    Submit {
        /// Unique in this incarnation, rising.
        request: RequestId,
        /// See [`crate::entry::Body::Operation`].
        descriptor: Bytes,
        /// See [`crate::entry::Body::Operation`].
        attachment: Bytes,
    },
    /// The requester is gone or aborts: [`Effect::Done`] follows once it is certain what became of the request.
    Withdraw {
        /// Which.
        request: RequestId,
    },
    /// Everything handed out with a ticket up to this is durable in the journal.
    Durable {
        /// The highest such ticket.
        through: Ticket,
    },
    /// The sync connection to the peer is up (a new one, if it was up before).
    LinkUp,
    /// It is closed.
    LinkDown,
    /// A message of the peer, authenticated, in the order of the connection.
    Receive(Message),
    /// An ordered session with a mediator is open; requests of an earlier one are lost.
    MediatorUp {
        /// Whose.
        mediator: MediatorId,
    },
    /// No session with a mediator.
    MediatorDown,
    /// A reply from the open mediator session.
    Mediator(MediatorReply),
    /// Answers [`Effect::Sign`].
    Signed {
        /// What was signed.
        statement: Statement,
        /// With this array's key.
        signature: Bytes,
    },
    /// The journal has failed: nothing will be durable here until the next start.
    DiskFailed,
    /// What failed is sound again.
    DiskMended,
    /// A deadline passed.
    Tick,
    /// The failover preference changed (it is in the log by then).
    SetPreference(Option<ArrayId>),
    /// The mediator to use, from now on, when the right is next handed back.
    SetMediator(Option<MediatorId>),
    /// Stretch: this array, alone, takes `peer` as joiner (INVITE is in the log by then).
    Invite {
        /// The joiner.
        peer: ArrayId,
    },
    /// Who is to hold the pod no more, this array or its peer (it is in the log by then; said again after a restart), or nobody.
    Leave(Option<ArrayId>),
    /// This array or its peer is to order from now on; said to the one that orders now. A wish that is lost with the session.
    Switch(ArrayId),
    /// This array is the sole member, and the peer that left is forgotten (it is in the log by then).
    ForgetPeer,
    /// At the survivor, after [`Effect::CatchUp`] and in the same session: rounds are short enough (or none was needed, because the
    /// entry after the joiner's end is still held): send the log after the joiner's position. To be said again after
    /// [`Effect::AnotherRound`] and in a new session. From here on, entries the joiner lacks are kept from trimming, within a bound.
    SuffixPossible {
        /// Where the round ended: nothing is sent before the joiner's own word that its log has got there, which comes by another
        /// connection than the core's news of the flip. 0 when there was no round.
        after: Index,
    },
    /// At the joiner: the image flipped to `state.base`, and `state` (from [`crate::Machine::state_after_flip`]) is durable in a manifest.
    Flipped(Box<DurableState>),
    /// A manifest with base `through` is durable: entries up to it are forgotten.
    Trim {
        /// As returned in the base of [`crate::Machine::durable_state`].
        through: Index,
    },
}

/// Something to do. Appends and records go to one journal in the order in which they come out.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Effect {
    /// Write an entry to the journal.
    Append {
        /// Reported by [`Input::Durable`].
        ticket: Ticket,
        /// The entry.
        entry: Entry,
    },
    /// Write a record to the journal. [`DurableRecord::Cut`]: also forget what was prepared for entries after `keep`.
    Record {
        /// Reported by [`Input::Durable`]; stored with the record.
        ticket: Ticket,
        /// The record.
        record: DurableRecord,
    },
    /// Send to the peer.
    Send(Message),
    /// Send to the mediator.
    Mediator(MediatorRequest),
    /// Sign this statement with the array's key; answered by [`Input::Signed`].
    Sign(Statement),
    /// Entries up to here are committed: may be applied, read, destaged, shipped. Rises only.
    Committed {
        /// The last committed entry.
        through: Index,
    },
    /// A request of this array has its place; it is not committed yet.
    Ordered {
        /// Which request.
        request: RequestId,
        /// Its place.
        index: Index,
    },
    /// The end of a request.
    Done {
        /// Which.
        request: RequestId,
        /// What became of it.
        outcome: Outcome,
    },
    /// This array is about to go on alone: freeze at the destaged index (which is at most `committed`) and write the freeze
    /// record to the journal before the record that follows. Idempotent per configuration.
    ForkFreeze {
        /// The configuration that makes it alone.
        config: ConfigId,
        /// Known committed before going alone.
        committed: Index,
    },
    /// At the survivor: the peer is behind and ready; start or resume rounds.
    CatchUp {
        /// The joiner.
        peer: ArrayId,
        /// Where its log begins.
        base: Position,
        /// Where its log ends, after any cut.
        end: Position,
    },
    /// At the survivor: the entry after the joiner's end is trimmed; another round is needed.
    AnotherRound {
        /// The joiner's end.
        end: Position,
    },
    /// At the survivor: catch-up stopped (session lost) or ended (JOIN known).
    CatchUpEnded,
    /// At the joiner: this copy is behind; what lies after `fork` in the map may not be what the survivor has.
    FellBehind {
        /// Last entry shared with the survivor.
        fork: Position,
    },
    /// Something in [`crate::Machine::status`] or [`crate::Machine::serving`] changed.
    StatusChanged,
    /// Somebody should look.
    Alarm(Alarm),
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Outcome {
    /// Committed at this index.
    Committed(Index),
    /// Not taken, or given up.
    Refused(Refused),
    /// Withdrawn for certain: it is not and will not be in the log.
    Withdrawn,
}

/// Why a request was not taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Refused {
    /// This array is offline or behind; a request that was already forwarded or ordered may still be in the survivor's log.
    Offline,
    /// Paused for longer than the hold time.
    Suspended,
    /// Longer than an entry may be.
    TooLong,
    /// Too many requests wait.
    Busy,
}

/// What needs a person's attention.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Alarm {
    /// Both arrays hold entries that the other lacks; both stop.
    Diverged,
    /// Both went on alone.
    SplitBrain,
    /// A comparison would cut entries known committed; nothing was cut.
    CommittedWouldBeCut,
    /// The peer lacks entries that this array no longer holds as log.
    PeerTooFarBehind,
    /// The peer broke the protocol.
    PeerBrokeProtocol,
    /// The mediator knows no register of this pod.
    MediatorHasNoRegister,
    /// A mediator other than the one that holds the right answered.
    WrongMediator,
    /// The peer's disk is stuck or slow; it is being ejected.
    PeerEjected,
}

/// Whether hosts are served.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Serving {
    /// Reads may fix their position now; writes are taken.
    Yes,
    /// Silence.
    Held,
    /// Silence was too long; paths fail, still in sync.
    Suspended,
    /// A definite error.
    Off,
}

/// How this array sees the mediator.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum MediatorStatus {
    /// None is set up.
    None,
    /// Session open.
    Reachable,
    /// No session.
    Unreachable,
    /// Another mediator than the one that should hold the register.
    Wrong,
}

/// One side's state, in users' words.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Side {
    /// Serves.
    Online,
    /// Held.
    Paused,
    /// Held past the hold time.
    Suspended,
    /// Off.
    Offline,
    /// Behind, catching up.
    Resyncing,
    /// Behind, was never in sync.
    Baselining,
    /// Out of session.
    Unknown,
}

/// A pod as users see it, from local state alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Status {
    /// This array.
    pub mine: Side,
    /// The other, if there is one.
    pub peer: Option<(ArrayId, Side)>,
    /// Who orders, by the newest configuration.
    pub sequencer: Option<ArrayId>,
    /// Who holds the right in a configuration of two.
    pub pre_elected: Option<ArrayId>,
    /// How this array sees the mediator.
    pub mediator: MediatorStatus,
    /// Newest configuration's epoch.
    pub epoch: Epoch,
    /// Newest configuration's id.
    pub config: ConfigId,
    /// A session with the peer is open.
    pub in_session: bool,
    /// Both are members and in sync, and each knows it.
    pub mirrored: bool,
    /// A race is in progress.
    pub racing: bool,
    /// Since when hosts are held.
    pub held_since: Option<Time>,
}
