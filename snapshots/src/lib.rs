//! Volume maps.
