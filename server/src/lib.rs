//! What the `metropod` binary is made of.

pub mod nbd;
