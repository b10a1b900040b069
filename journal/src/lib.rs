//! The array's log.
