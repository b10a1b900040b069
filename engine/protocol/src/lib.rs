//! The pod protocol.
