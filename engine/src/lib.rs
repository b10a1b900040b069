//! The engine people link.

pub mod identity;
pub mod link;
pub mod mediator;
pub mod wire;
