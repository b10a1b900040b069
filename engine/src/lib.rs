//! The engine people link.
