//! `metropod serve` and `metropod mediator`: the long-running processes.
//!
//! - S1: one JSON line with the chosen addresses goes to stdout once everything is reachable, and nothing else ever.
//! - S2: SIGTERM, SIGINT (and a closed stdin, where a parent asked for it) end the process in order: clients first, the
//!   array last. Whatever was acknowledged is durable with or without that order.

mod array;
mod ending;
mod export;
mod mediator;

pub use array::run as array;
pub(crate) use ending::Ending;
pub use export::{ArrayExports, ExportedVolume};
pub use mediator::run as mediator;

use std::net::SocketAddr;

use serde::Serialize;

use crate::cli::Failure;

/// Where an array can be reached; the line that `serve` prints when it is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct ReadyLine {
    /// For other arrays (or, of a mediator, for arrays).
    pub listen: SocketAddr,
    /// The REST API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api: Option<SocketAddr>,
    /// NBD clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbd: Option<SocketAddr>,
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("metropod-front").build()?)
}

/// What an address that other machines can reach gives away.
#[derive(Debug, Clone, Copy)]
enum Exposure {
    /// Whoever connects is obeyed.
    NoCredentials,
    /// Whoever listens on the way can read along.
    InTheClear,
}

/// Says so when an address is reachable from other machines.
fn warn_if_reachable(what: &'static str, address: SocketAddr, exposure: Exposure) {
    if address.ip().is_loopback() {
        return;
    }
    match exposure {
        Exposure::NoCredentials => {
            tracing::warn!(%address, "{what} is reachable from other machines and asks for no credentials");
        }
        Exposure::InTheClear => {
            tracing::warn!(%address, "{what} is reachable from other machines and is not encrypted");
        }
    }
}
