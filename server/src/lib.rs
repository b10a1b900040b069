//! What the `metropod` binary is made of.

pub mod api;
pub mod bench;
pub mod cli;
pub mod client;
pub mod demo;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
pub mod inspect;
pub mod nbd;
pub mod serve;
