//! Harness for tests with real processes: mediators and arrays are children of the test, hosts are real NBD clients or
//! the harness's own, and an oracle knows what was acknowledged.
//!
//! Everything here panics when something is not as a test needs it: a panic is the test's verdict.
//!
//! - H1: no child outlives the test: each is killed, by its own process id, when its handle is dropped.
//! - H2: only loopback addresses, on ports below the system's ephemeral range, so that a restarted process finds its
//!   own port free.
//! - H3: a test's files are in a directory of its own on a real disk, removed when the test passes.

mod array;
mod attached;
mod content;
mod files;
mod http;
mod load;
mod nbd;
mod oracle;
mod pair;
mod ports;
mod process;
mod proxy;
mod refusal;
mod root;
mod scratch;
mod small_disk;
mod stranger;
mod tools;
mod wait;
mod witness;

pub use array::{Array, ArrayOptions, CliRefusal, Mediator, metropod};
pub use attached::{Attached, FileSystem};
pub use content::{Dice, SECTOR_BYTES};
pub use files::Files;
pub use http::{HttpAnswer, http};
pub use load::{Completion, Load, LoadOptions, Target};
pub use nbd::{Command, NbdClient, NbdError};
pub use oracle::{Mismatch, Oracle};
pub use pair::{POD, Pair, PairOptions};
pub use ports::free_port;
pub use process::{Process, binary};
pub use proxy::{Proxy, Valve};
pub use refusal::{misused, refused, refused_saying};
pub use scratch::Scratch;
pub use small_disk::SmallDisk;
pub use stranger::Strangers;
pub use tools::{Tool, require_tools, run, run_ok, run_ok_within};
pub use wait::wait_until;
pub use witness::{WITNESS_BYTES, Witness};

/// Journal budget of arrays under test, in bytes: the smallest.
pub const JOURNAL_BYTES: u64 = 128 << 20;

/// A number from the environment, for longer runs on demand.
pub fn setting(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")),
        Err(_) => default,
    }
}
