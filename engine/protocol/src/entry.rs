//! Log entries and the chain that binds them.

use bytes::Bytes;

use crate::codec::entry::canonical;
use crate::config::Configuration;
use crate::ids::{ArrayId, Chain, ConfigId, Incarnation, Index, Position};

/// Longest entry: descriptor and attachment together.
pub const ENTRY_BYTES_MAX: usize = 1 << 20;

/// What an entry does.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Body {
    /// A host or management operation, opaque here.
    Operation {
        /// Chained: names the attachment's content by digest.
        descriptor: Bytes,
        /// Payload by value; outside the chain, may differ in form between arrays.
        attachment: Bytes,
    },
    /// Nothing: a point to name.
    Mark,
    /// A new configuration, in force from itself on.
    Configuration(Configuration),
}

/// One entry of a pod's log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Entry {
    /// Configuration in force at the entry (its own for a configuration entry).
    pub config: ConfigId,
    /// Place in the log.
    pub index: Index,
    /// Commit index that the sequencer knew when it ordered; not chained.
    pub committed: Index,
    /// The array whose request it is.
    pub origin: ArrayId,
    /// That array's incarnation when it took the request in.
    pub origin_incarnation: Incarnation,
    /// That array's request number; 0 for entries nobody asked for.
    pub origin_request: u64,
    /// Chain up to and including this entry.
    pub chain: Chain,
    /// What it does.
    pub body: Body,
}

impl Entry {
    /// The chain this entry must carry after `before`.
    pub fn chain_after(&self, before: Chain) -> Chain {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&before.0);
        hasher.update(&canonical(self));
        Chain(*hasher.finalize().as_bytes())
    }

    /// This entry's place.
    pub fn position(&self) -> Position {
        Position { config: self.config, index: self.index, chain: self.chain }
    }

    /// The configuration it writes, if it is a configuration entry.
    pub fn configuration(&self) -> Option<&Configuration> {
        match &self.body {
            Body::Configuration(configuration) => Some(configuration),
            _ => None,
        }
    }

    /// Bytes of descriptor and attachment.
    pub fn payload_bytes(&self) -> usize {
        match &self.body {
            Body::Operation { descriptor, attachment } => descriptor.len() + attachment.len(),
            _ => 0,
        }
    }
}
