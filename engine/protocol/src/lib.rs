//! The pod protocol as a step machine without I/O, and the mediator's register.
//!
//! One [`Machine`] per pod and array: inputs by [`Machine::step`], effects by [`Machine::next_effect`], the next wake-up by
//! [`Machine::next_deadline`]. Time, chance (a seed per start) and media are arguments. A message whose meaning depends on
//! durability stays inside until [`Input::Durable`] has come back, so a driver cannot send it too early.
//!
//! # The journal
//! [`Effect::Append`] and [`Effect::Record`] carry rising tickets and are written to one journal in the order in which they come out;
//! `Input::Durable { through }` says that everything up to a ticket is durable. At a start the core feeds the newest manifest's
//! [`DurableState`] and the pod's journal records, in journal order, to [`Replay`], and hands the result to [`Machine::restart`].
//! A checkpoint: `let state = machine.durable_state(applied, true)`, write it into the manifest, `Input::Trim { through: state.base.index }`.
//!
//! # Requests
//! `Submit` → (`Ordered`) → `Done(Committed)`; `Withdraw` → `Done(Withdrawn)` or, if it was ordered, `Done(Committed)`.
//! A read is allowed when [`Machine::serving`] is `Yes` at that instant; it then waits for overlapping entries that are in the log and
//! not yet committed ([`Machine::log_end`], [`Machine::committed`]).
//!
//! # One array's states
//! ```text
//!              session lost                granted / own right            peer behind, in session
//!   pair ───────────────────────► held ───────────────────────► alone ───────────────────────► alone + CatchUp
//!    ▲  ▲   session opens again    │                              ▲                               │ SuffixPossible,
//!    │  └──────────────────────────┘                              │ session lost                  │ joiner level: JOIN
//!    │                             │ refused, peer's word         └──────────────────┬────────────┘
//!    │ JOIN known on both          ▼                                                 ▼
//!    └───────── out of sync ◄──── off                              pair, right at the survivor ── hand back ──► pair
//! ```
//!
//! # Catch-up
//! ```text
//! survivor X                                   joiner Y
//!   HELLO, HELLO: Y is behind                    Record(OutOfSync), Record(Cut), FellBehind; READY when durable
//!   CatchUp{base, end}                           (cores: rounds of transfer over the bulk connection)
//!                                                core: manifest with state_after_flip(base) durable, Input::Flipped(state)
//!   Input::SuffixPossible                        READY{base, end} again after each flip
//!   entries after Y's end ─────────────────────► Append, DURABLE
//!   (AnotherRound{end} if they are trimmed)
//!   Y is level: Append(JOIN) ──────────────────► Append, DURABLE
//!   JOIN durable on both: pair, right at X       Record(KnownConfig, in sync): member
//!   hand back to the mediator when reachable
//! ```

pub mod api;
pub mod codec;
pub mod config;
pub mod durable;
pub mod entry;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
pub mod ids;
pub mod machine;
pub mod mediator;
pub mod message;
pub mod settings;

mod log;

pub use api::{Alarm, Effect, Input, MediatorStatus, Outcome, Refused, Serving, Setup, Side, Status};
pub use codec::DecodeError;
pub use config::{Configuration, Entitlement, Epoch, Ground, Members, Right};
pub use durable::{DurableRecord, DurableState, HistoryItem, Learned, OutOfSync, Replay, RestartError};
pub use entry::{Body, Entry};
pub use ids::{
    ArrayId, Chain, ConfigId, Incarnation, Index, MediatorId, Nonce, PodId, Position, RegisterId, RequestId,
    Span, Ticket, Time,
};
pub use machine::{Because, Cut, Decided, Decision, Forecast, Machine, Stays, Why};
pub use mediator::{Answer, Ask, Consent, MediatorReply, MediatorRequest, Record, Statement};
pub use message::{Frame, Hello, Message, Report, SessionId};
pub use settings::Settings;
