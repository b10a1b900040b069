//! Model checker of the pod protocol: the shipped [`metropod_protocol::Machine`] twice, the shipped mediator, and everything that can
//! happen to them within a bound, in every order.
//!
//! The rules are not repeated here. A state is both machines, their disks, the link, the mediator and the time; an action is one choice that
//! the world has: which frame arrives, what is durable, who crashes with how much of its unsynced tail, when time passes. The search is
//! stateright's. What must hold is in [`oracle`], bounds are in [`bounds`], what was found in docs/protocol.md, "What is model-checked".
//!
//! - M1: an action is a function of the state: the same history gives the same ids, so equal states have equal digests.
//! - M2: time passes only from deadline to deadline, and only up to the bound: times and counters in the machines stay finite.
//! - M3: a state in which something is wrong is an end; the search reports the actions that led there.

pub mod action;
pub mod array;
pub mod bounds;
pub mod calm;
pub mod check;
pub mod link;
pub mod mediator;
pub mod oracle;
pub mod sealed;
pub mod world;

pub use action::Action;
pub use bounds::{Bounds, Start};
pub use check::{Checked, Order, check};
pub use oracle::Wrong;
pub use world::World;
