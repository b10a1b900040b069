//! One array as a deterministic machine.
